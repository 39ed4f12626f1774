"""Peak main memory of each stage's process, without the pages of memory-mapped files.

The constants were measured on Linux with the locked packages, on a CPU: what a stage has after its imports and first steps, and how it
grows with the size of the images, the batch and the network. `tests/pipeline/test_pipeline.py` compares the result with a real run.
"""

from invad.config import STRIDES, FeaturesConfig
from invad.metrics.class_scores import EXACT_PIXELS
from invad.planning.encoders import ENCODERS, feature_values
from invad.planning.network import NetworkSize

_MB = 1_000_000
DOWNLOAD, GENERATE, SPLITS, REPORT = 135 * _MB, 130 * _MB, 151 * _MB, 450 * _MB
NOT_CALIBRATED = 161 * _MB
FEATURES, TRAIN, SCORE = 880 * _MB, 1010 * _MB, 700 * _MB
LIVE_SCORE = 170 * _MB  # timm and torchvision
EVALUATE, EVALUATE_TRACKING = 185 * _MB, 270 * _MB

_DRAWING_BYTES = {"coco": 190, "mvtec": 320, "visa": 215}  # a pixel of the square of the longer edge
_FLOAT = 4


def generate_memory(dataset: str, images: int, image_size: int) -> int:
    """Return the memory of drawing an embedded data set; COCO's annotations are held until all images are drawn."""
    canvas = 108 * _MB + _DRAWING_BYTES[dataset] * image_size**2
    return max(GENERATE, canvas) + (10 * _MB + 20_000 * images if dataset == "coco" else 0)


def splits_memory(annotation_bytes: int) -> int:
    """Return the memory of building a split table; COCO's annotation files are held as a whole while they are read."""
    return SPLITS + round(1.25 * annotation_bytes)


def features_memory(config: FeaturesConfig) -> int:
    """Return the memory of the extraction; there is hardly any with `mode: live`."""
    return FEATURES + _encoder_memory(config, 0 if config.mode == "live" else config.batch_size)


def _encoder_memory(config: FeaturesConfig, batch_size: int) -> int:
    encoder = ENCODERS[config.encoder]
    return encoder.weight_bytes + encoder.pixel_bytes * batch_size * config.image_size**2


def _live_memory(config: FeaturesConfig, batch_size: int) -> int:
    """Return what running the encoder adds to training and scoring."""
    return _encoder_memory(config, batch_size) if config.mode == "live" else 0


def train_memory(features: FeaturesConfig, batch_size: int, network: NetworkSize) -> int:
    """Return the memory of one training process: what the backward pass needs, and the weights, their gradients and Adam's moments."""
    own = TRAIN + round(1.25 * network.kept_bytes + 4 * network.weight_bytes)
    return own + _live_memory(features, batch_size)


def score_memory(features: FeaturesConfig, batch_size: int, network: NetworkSize) -> int:
    """Return the memory of scoring a batch: features, reconstructions, and the widest level enlarged to the finest level's grid."""
    widest = max(ENCODERS[features.encoder].channels) * (features.image_size // STRIDES[0]) ** 2
    working = _FLOAT * batch_size * (2 * feature_values(features) + 3 * widest)
    live = LIVE_SCORE if features.mode == "live" else 0
    return SCORE + live + round(1.3 * working + 0.9 * network.weight_bytes) + _live_memory(features, batch_size)


def threshold_memory(pixels: int, rate: float) -> int:
    """Return the memory of the scores that lie above the pixel threshold: of each class, of all together, and of what is being added."""
    return round(3 * _FLOAT * rate * pixels)


def evaluate_memory(class_pixels: int, anomalous_share: float) -> int:
    """Return the memory of the metrics when the largest class has `class_pixels`, of which a share is anomalous."""
    if class_pixels > EXACT_PIXELS:  # a histogram of any number of them, and the pixels that were kept before
        return EVALUATE + 850 * _MB
    return max(EVALUATE_TRACKING, EVALUATE + round((8 + 53 * anomalous_share) * class_pixels))


def report_memory(images: int, shown: int, image_size: int) -> int:
    """Return the memory of a benchmark in the report: the small maps of all test images, pictures and masks of those shown."""
    return 2 * images * (image_size // STRIDES[0]) ** 2 + _FLOAT * shown * image_size**2
