"""Bytes that the outputs of the stages take, apart from those that `embedded` and `archives` know.

Features, maps and weights are counted; the rest is small beside them, and its constants were measured.
"""

from invad.config import FeaturesConfig
from invad.planning.encoders import EncoderFacts, feature_bytes
from invad.planning.network import NetworkSize

PIXEL_BYTES = {"map": 4, "mask": 1}
LIVE_BYTES = 400  # for each phase
ABLATION_BYTES = 100_000  # the tables and the figure of a study
COCO_EDGE = 640  # pixels of the longer edge of nearly all of COCO's images


def split_bytes(rows: int, masks: int, edge: int) -> int:
    """Return the size of a split table of `rows` images, and of `masks` that it draws for images whose longer edge is `edge`."""
    return round(3_600 + 4 * rows + masks * (100 + 1.65 * edge))


def features_bytes(images: int, config: FeaturesConfig, phases: int = 2) -> int:
    """Return the size of the feature shards of `images`, or of the file that stands for those of so many phases."""
    return LIVE_BYTES * phases if config.mode == "live" else images * feature_bytes(config)


def model_bytes(network: NetworkSize, encoder: EncoderFacts, steps: int) -> int:
    """Return the size of a model folder, with its encoder, and its loss curve."""
    return network.file_bytes + round(1.01 * encoder.weight_bytes) + 700 + 27 * steps


def calibration_bytes(classes: int) -> int:
    """Return the size of the thresholds of so many classes and of all together, with the settings of maps and a note of few images."""
    return 416 + 130 * (classes + 1)


def scores_bytes(images: int, image_size: int) -> int:
    """Return the size of the anomaly maps, masks and scores of `images`."""
    return 4_500 + images * (30 + image_size**2 * sum(PIXEL_BYTES.values()))


def metrics_bytes(classes: int) -> int:
    """Return the size of the metrics and curves of a benchmark, which has at most a thousand points of each curve."""
    return 25_000 + 155_000 * classes


def report_bytes(benchmarks: int, classes: int, gallery_pixels: int) -> int:
    """Return the size of tables, figures and page for so many benchmarks, classes of all of them, and pixels of galleries, roughly."""
    return 700_000 + 2_000_000 * benchmarks + 740_000 * classes + round(0.25 * gallery_pixels)
