"""The published numbers that ship with the package, where they come from, and which results may stand beside them."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from functools import cache
from importlib.resources import files

from invad.config import InvADConfig
from invad.report.labels import METRICS, OWN
from invad.report.results import Counts, Result


@dataclass(frozen=True)
class PublishedSource:
    """Where numbers were published. label: as rows name it; citation: as a caption cites it; where: its tables or logs."""

    label: str
    citation: str
    where: str


RERUN = (
    "the authors' re-run of all methods on one hardware: J. Zhang et al., ADer: A Comprehensive Benchmark for Multi-class Visual "
    "Anomaly Detection, arXiv:2406.03262"
)
SOURCES = {
    "paper": PublishedSource(
        "paper",
        "the paper: J. Zhang et al., Learning Feature Inversion for Multi-class Anomaly Detection under General-purpose "
        "COCO-AD Benchmark, International Journal of Computer Vision 134(5), 2026, arXiv:2404.10760",
        "Tables 5 and A2",
    ),
    "rerun": PublishedSource("re-run", RERUN, "benchmark logs of 100 and 300 epochs, last epoch, 2024-05"),
    "page": PublishedSource("re-run, rounded", RERUN, "the benchmark's page, 2025-01; averages recomputed"),
    "vitad": PublishedSource(
        "ViTAD's paper",
        "J. Zhang et al., Exploring Plain ViT Reconstruction for Multi-class Unsupervised Anomaly Detection, arXiv:2312.07495",
        "COCO-AD, mean of the folds",
    ),
    "dinomaly": PublishedSource("Dinomaly's paper", "J. Guo et al., Dinomaly, CVPR 2025, arXiv:2405.14325", "ViT-B/14"),
    "inp-former": PublishedSource(
        "INP-Former's paper",
        "W. Luo et al., Exploring Intrinsic Normal Prototypes within a Single Image, CVPR 2025, arXiv:2503.02424",
        "mAD",
    ),
    "mvad": PublishedSource("MVAD's log", "Learning Multi-view Anomaly Detection, arXiv:2407.11935", "log of epoch 99, 2024-11"),
    "tocoad": PublishedSource(
        "ToCoAD's paper",
        "ToCoAD, IEEE Transactions on Instrumentation and Measurement 74, 2025, arXiv:2407.01312",
        "AU-ROC of abstract and results",
    ),
    "segad": PublishedSource(
        "SegAD's paper",
        "A. Baitieva et al., Supervised Anomaly Detection for Complex Industrial Images, CVPR 2024, arXiv:2405.04953",
        "image AU-ROC, mean of 5 seeds on VAD and of 10 on VisA; forests learn from synthetic or labelled anomalies",
    ),
}  # fmt: skip
PUBLISHED_SIZE = 256  # pixels: side of the input of the published numbers that a result may stand beside
SETTING = f"{PUBLISHED_SIZE} px"  # and so the setting of every row that names no other
_EPOCHS = {"mvtec": 300, "visa": 100}  # of InvAD in the paper; every fold of COCO-AD has 100
_WEIGHTS = {"invad": "wide_resnet50_2.racm_in1k", "invad-lite": "resnet34.bt_in1k"}
_SIGMA = 4.0  # of the maps' blur, in pixels of the input


def published_words(source: str) -> str:
    """How rows of a source are marked, such as `published: re-run`."""
    return f"published: {SOURCES[source].label}"


@dataclass(frozen=True)
class PublishedResult:
    """The metrics of one method on one benchmark.

    benchmark: a key of `labels.BENCHMARKS`, or one of two that only the paper has. method: of `labels.METHODS`. source: of `SOURCES`.
    epochs: None where the source does not say. values: keys of `labels.METRICS` -> fraction in [0, 1], of those that were published.
    notes: key -> what a reader has to know about that value; "" -> about the whole row. setting: size of the input, and what else sets a
    row apart from one model of all classes that learns from normal images alone.
    """

    benchmark: str
    method: str
    source: str
    epochs: int | None
    values: Mapping[str, float]
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    setting: str = SETTING


@cache
def published_results() -> tuple[PublishedResult, ...]:
    """All published results of whole benchmarks: the paper's, those of the authors' re-run, then of other papers."""
    return tuple(map(_result, published_rows("results")))


@cache
def published_counts() -> Mapping[str, Counts]:
    """Benchmark -> published numbers of images; nothing is held out."""
    found = {}
    for row in published_rows("datasets"):
        numbers = {key: int(row[key]) for key in ("classes", "train", "test_normal", "test_anomalous", "without_mask")}
        share = fraction(row["anomalous_pixels"]) if row["anomalous_pixels"] else None
        found[row["benchmark"]] = Counts(**numbers, held_out=0, anomalous_pixels=share)
    return found


def fraction(percent: str) -> float:
    """A printed percentage as a fraction."""
    return float(Decimal(percent) / 100)  # 40.7 is 0.407 and not 0.40700000000000003


@cache
def published_rows(name: str) -> list[dict[str, str]]:
    """The rows of one of the package's files of published numbers, as text."""
    text = files("invad.report").joinpath("published_csv", f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _result(row: Mapping[str, str]) -> PublishedResult:
    notes: dict[str, tuple[str, ...]] = {}
    for note in published_rows("notes"):
        # An empty field of a note stands for anything, and no columns for the row as a whole.
        if all(note[key] in ("", row[key]) for key in ("benchmark", "method", "source", "epochs")):
            for column in note["columns"].split() or [""]:
                notes[column] = (*notes.get(column, ()), note["note"])
    values = {metric.key: fraction(row[metric.key]) for metric in METRICS if row[metric.key]}
    epochs, names = int(row["epochs"]) if row["epochs"] else None, (row["benchmark"], row["method"], row["source"])
    return PublishedResult(*names, epochs, values, notes, row["setting"] or SETTING)


def incomparable(result: Result) -> str:
    """Why a result may not stand beside published numbers, in a few words; "" when it may."""
    features, published = result.config.features, published_counts().get(result.published_name or "")
    reasons: list[str] = []
    if result.source == "embedded":
        reasons.append("generated data")
    elif result.source == OWN or published is None:
        reasons.append("none of the published data sets")
    elif result.counts is None:
        reasons.append("its numbers of images are not known")
    else:
        whole = replace(result.counts, train=result.counts.train + result.counts.held_out, held_out=0)
        # The share of anomalous pixels is not published of all, and differs by the resize.
        names = [item.name for item in fields(Counts) if item.name != "anomalous_pixels"]
        pairs = [(name.replace("_", " "), getattr(whole, name), getattr(published, name)) for name in names]
        if other := [f"{name} {own:,} instead of {theirs:,}" for name, own, theirs in pairs if own != theirs]:
            reasons.append(f"other numbers of images ({', '.join(other)})")
    if features.image_size != PUBLISHED_SIZE:
        reasons.append(f"input of {features.image_size} pixels instead of {PUBLISHED_SIZE}")
    if features.weights == "none":
        reasons.append("an encoder without pretrained weights")
    return "; ".join(reasons)


def recipe_note(result: Result) -> str:
    """How the training of a published method differs from the published recipe; "" where it does not, and for any other method."""
    train, features, score = result.config.train, result.config.features, result.config.score
    if result.method is None:
        return ""
    published = type(train)()  # the defaults of a method's section are its published recipe
    epochs = _EPOCHS.get(result.published_name or "", 100)
    pairs = (
        ("", train.length, f"{epochs} epochs" if isinstance(train, InvADConfig) else published.length),
        ("batch size ", train.batch_size, published.batch_size),
        ("learning rate ", train.learning_rate, published.learning_rate),
        ("blur ", score.sigma, "method" if result.method == "uniad" else _SIGMA),
        ("levels of the map: ", score.map_levels, "method"),
        ("distance of the map: ", score.map_distance, "method"),
        ("encoder weights ", features.weights, _WEIGHTS.get(result.method, features.weights)),
        ("held-out training images: ", result.counts.held_out if result.counts else 0, 0),
    )
    differences = [f"{what}{own} instead of {theirs}" for what, own, theirs in pairs if own != theirs]
    return f"Not the paper's recipe: {'; '.join(differences)}." if differences else ""
