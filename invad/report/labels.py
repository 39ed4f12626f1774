"""The words of the report: what metrics, protocols, benchmarks, methods and data sources are called in tables and on the page."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Literal

from invad.config import BenchmarkConfig, GradientConfig, InvADConfig, UniADConfig
from invad.config.constants import NO_ENCODER

Form = Literal["percent", "points", "rate", "score", "count", "millions", "giga", "seconds"]


@dataclass(frozen=True)
class Metric:
    """One column of a results table.

    key: the name in `reports/metrics/<benchmark>.json`. group: the level it is computed on. label: short heading below the group.
    meaning: one sentence for a reader who is new to the field. form: how its numbers are printed.
    best: which number is marked as the best of a block; None where none is.
    """

    key: str
    group: str
    label: str
    meaning: str
    form: Form = "percent"
    best: Literal["highest", "lowest"] | None = "highest"


METRICS = (
    Metric("image_auroc", "Image", "AU-ROC", "Chance that an anomalous image scores higher than a normal one; 50 is guessing."),
    Metric("image_ap", "Image", "AP", "Average precision: area under the precision-recall curve of the image scores."),
    Metric("image_f1_max", "Image", "F1max", "Best F1 score of any threshold on the image score."),
    Metric("region_aupro", "Region", "AU-PRO", "Mean share of each anomalous region that is found, over false positive rates up to 0.3."),
    Metric("pixel_auroc", "Pixel", "AU-ROC", "As for images, pixel by pixel; close to 100 when most pixels are easy."),
    Metric("pixel_ap", "Pixel", "AP", "Average precision, pixel by pixel."),
    Metric("pixel_f1_max", "Pixel", "F1max", "Best F1 score of any threshold on the anomaly map."),
    Metric("pixel_mf1", "Pixel, new in the paper", "mF1", "F1 score, mean over the thresholds 0.2 to 0.8 on maps scaled to 0..1."),
    Metric("pixel_macc", "Pixel, new in the paper", "mAcc", "Share of anomalous pixels found, mean over the thresholds 0.2 to 0.8."),
    Metric("pixel_miou", "Pixel, new in the paper", "mIoU", "Intersection over union, mean over the thresholds 0.2 to 0.8."),
    Metric("pixel_iou_max", "Pixel, new in the paper", "IoUmax", "Best intersection over union of any threshold."),
    Metric("mad_image", "Averages", "mAD I", "Mean of the three image metrics."),
    Metric("mad_pixel", "Averages", "mAD P", "Mean of pixel AU-ROC, AP and F1max."),
    Metric("mad_threshold", "Averages", "mAD .2-.8", "Mean of mF1, mAcc and mIoU."),
    Metric("mad", "Averages", "mAD", "Mean of seven: three image metrics, AU-PRO, pixel AU-ROC, AP and F1max."),
)  # fmt: skip
# Those that stand for all where there is room for five.
HEADLINES = tuple(
    metric for metric in METRICS if metric.key in ("image_auroc", "pixel_auroc", "pixel_ap", "region_aupro", "mad")
)

SAMPLE_METRICS = (
    Metric("sample_auroc", "Sample", "AU-ROC", "As for images, object by object: its score is the highest of the images of its views."),
    Metric("sample_ap", "Sample", "AP", "Average precision, object by object."),
    Metric("sample_f1_max", "Sample", "F1max", "Best F1 score of any threshold on the scores of objects."),
)  # fmt: skip


def columns_of(keys: Iterable[str]) -> tuple[Metric, ...]:
    """The columns of a table: `METRICS` and, where there are such values among `keys`, those of objects seen in several views."""
    return METRICS + SAMPLE_METRICS if {metric.key for metric in SAMPLE_METRICS} & set(keys) else METRICS


PROTOCOLS = {
    "paper": "the procedure of the published numbers: coarse thresholds, images labelled by their resized mask",
    "exact": "all thresholds, images labelled by the data set itself",
}

FOLDS = ("coco_ad_0", "coco_ad_1", "coco_ad_2", "coco_ad_3")
FOLD_MEAN = "coco_ad_mean"
BENCHMARKS = {name: f"COCO-AD fold {name[-1]}" for name in FOLDS} | {
    FOLD_MEAN: "COCO-AD (mean of 4 folds)", "mvtec": "MVTec AD", "visa": "VisA",
    "btad": "BTAD", "vad": "VAD (Valeo)", "realiad": "Real-IAD",
}  # fmt: skip

OWN = "own"  # whatever the folder or table: none of the published data sets
UNKNOWN = "unknown"
# How rows of each kind of data are marked, and a sentence on what the mark means.
SOURCES = {
    "embedded": (
        "generated",
        'Data "generated": small generated data, not the real data sets; '
        "they show that the pipeline works and are not comparable with published numbers.",
    ),
    "path": (
        "own copy",
        'Data "own copy": a copy of the data set given by its path; '
        "comparable with published numbers only if that copy is complete.",
    ),
    "official": ("official", 'Data "official": the official download of the data set.'),
    OWN: ("own", 'Data "own": the user\'s own data, for which there are no published numbers.'),
    UNKNOWN: ("not known", 'Data "not known": data of a kind that was not recorded with them.'),
}

METHODS = {
    "invad": "InvAD", "invad-lite": "InvAD-lite", "rd": "RD", "uniad": "UniAD", "simplenet": "SimpleNet", "vitad": "ViTAD",
    "destseg": "DeSTSeg", "draem": "DRAEM", "diad": "DiAD", "rd++": "RD++", "mambaad": "MambaAD", "cflow": "CFLOW-AD", "cfa": "CFA",
    "patchcore": "PatchCore", "pyramidflow": "PyramidFlow", "realnet": "RealNet",
    "dinomaly": "Dinomaly", "inp-former": "INP-Former", "mvad": "MVAD", "tocoad": "ToCoAD", "efficientad": "EfficientAD",
    "segad-rd": "RD, SegAD", "segad-efficientad": "EfficientAD, SegAD", "segad-both": "EfficientAD and RD, SegAD",
    "segad-all": "four detectors, SegAD", "wrn": "supervised Wide ResNet-50",
    "segad-efficientad-wrn": "EfficientAD and Wide ResNet-50, SegAD", "segad-all-wrn": "four detectors and Wide ResNet-50, SegAD",
}  # fmt: skip
# Encoder, blocks per level and weight of the loss (method.md: encoder, sizes, recipe); everything else is the default of InvADConfig.
_PAPER_INVAD = {"invad": ("wide_resnet50_2", 2, 1.0), "invad-lite": ("resnet34", 4, 5.0)}
HELD_OUT = 20  # categories of a COCO-AD fold


def published_method(config: BenchmarkConfig) -> str | None:
    """The method's key in the published tables (`invad`, `invad-lite`, `rd`, `uniad`), or None where encoder or architecture are others."""
    train, features = config.train, config.features
    if features.weights in ("none", "packaged"):
        return None
    if train.model == "rd":
        return "rd" if features.encoder == "wide_resnet50_2" else None
    if isinstance(train, UniADConfig):  # as in the published comparison
        same = all(getattr(train, name) == getattr(UniADConfig(), name) for name in _own_settings(UniADConfig))
        return "uniad" if features.encoder == "tf_efficientnet_b4" and same else None
    if not isinstance(train, InvADConfig):
        return None
    own = _own_settings(InvADConfig)
    for method, (encoder, blocks, loss_weight) in _PAPER_INVAD.items():
        paper = InvADConfig(blocks=blocks, loss_weight=loss_weight)
        if features.encoder == encoder and all(getattr(train, name) == getattr(paper, name) for name in own):
            return method
    return None


def _own_settings(kind: type[GradientConfig]) -> set[str]:
    """The names of the settings of a method that not every method has."""
    return {item.name for item in fields(kind)} - {item.name for item in fields(GradientConfig)}


def method_label(config: BenchmarkConfig) -> str:
    """The method as tables name it: `InvAD-lite` where encoder and architecture are the paper's, else with the encoder."""
    method = published_method(config)
    if method is not None:
        return METHODS[method]
    name = METHODS.get(config.train.model, config.train.model)
    return name if config.features.encoder == NO_ENCODER else f"{name} ({config.features.encoder})"


def benchmark_title(name: str, source: str) -> str:
    """The name of a benchmark as people write it; one not known here keeps its own name, and so does one of the user's own data."""
    return name if source == OWN else BENCHMARKS.get(name, name)


def source_label(source: str) -> str:
    """The mark of a data source in tables."""
    return SOURCES[source][0]


def source_sentences(sources: Iterable[str]) -> str:
    """What the marks used in a table mean, each once, in a fixed order."""
    used = set(sources)
    return " ".join(meaning for name, (_, meaning) in SOURCES.items() if name in used)
