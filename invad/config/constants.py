"""What settings and code share, and nobody sets: code imports it from here, so that a stage depends on it (`invad.config.closure`)."""

PUBLISHED_DATASETS = ("coco", "mvtec", "visa")  # any other name is a data set of one's own, described by a table
NO_ENCODER = "none"
PACKAGED_ENCODER = "mobilenetv2_100"
COCO_CATEGORIES = 80
STRIDES = (4, 8, 16)  # of the encoder's levels where settings name none, fine to coarse (paper, section 3)
