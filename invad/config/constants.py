"""What settings and code share, and nobody sets: code imports it from here, so that a stage depends on it (`invad.config.closure`)."""

# Any other name is a data set of one's own, described by a table.
PUBLISHED_DATASETS = ("coco", "mvtec", "visa", "btad", "vad", "realiad")
VIEWED_DATASETS = ("realiad",)  # of these, those whose objects are seen in several views
NO_ENCODER = "none"
# Where an empty mask of an anomalous image says nothing: the pixel and region metrics of the exact protocol leave the image out.
EMPTY_MASK_UNKNOWN = ("btad",)
PACKAGED_ENCODERS = ("mobilenetv2_100", "tf_efficientnet_lite0")  # whose ImageNet weights installed packages carry
COCO_CATEGORIES = 80
STRIDES = (4, 8, 16)  # of the encoder's levels where settings name none, fine to coarse (paper, section 3)
