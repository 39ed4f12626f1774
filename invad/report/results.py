"""What the report knows of each result: plain values and arrays, read by `collect`; and several results in one report."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invad.config import BenchmarkConfig, CocoAdSplitConfig
from invad.report.labels import (
    BENCHMARKS,
    FOLD_MEAN,
    FOLDS,
    HELD_OUT,
    METHODS,
    METRICS,
    OWN,
    PROTOCOLS,
    benchmark_title,
    method_label,
    published_method,
    source_label,
)
from invad.report.tables import DASH, Cell, over_seeds, value_cells
from invad.scoring.store import Scores
from invad.training.cost import Cost

OUTCOMES = ("true positive", "false positive", "false negative", "true negative", "undecided")

SELECTION_RULE = (
    "Images are chosen by rule, not by hand. Of each class: the anomalous images at evenly spaced ranks from the highest to the lowest "
    "image score (with three of them, the highest, the median and the lowest), then the normal image with the highest score, "
    "which is the most likely false alarm. Images with equal scores rank by defect type, then in the order of the test set."
)

GALLERY_LIMIT = 120
GALLERY_SIDE = 224  # pixels, the height of a picture; smaller ones keep theirs
GALLERY_RULE = (
    f"All test images of a benchmark that has at most {GALLERY_LIMIT}. Of a larger one about that many, the same number of each class and "
    "outcome where it has so many, at evenly spaced ranks from the highest to the lowest image score, and those of the heat-map sheet."
)

Curve = Mapping[str, Sequence[float]]  # columns of equal length


@dataclass(frozen=True)
class Picture:
    """A test image as the encoder sees it. image: uint8 (H, W, 3) RGB; mask: bool (H, W), True where anomalous."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class SyntheticAnomaly:
    """A training image as the method sees it in an epoch. clean, corrupted: uint8 (H, W, 3) RGB; mask: bool (H, W), True where painted."""

    class_name: str
    name: str
    clean: NDArray[np.uint8]
    corrupted: NDArray[np.uint8]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class TestImages:
    """The test images of a result, in the order of the split table.

    Attributes:
        names: Paths inside the data set; N of them, as of all that follows.
        classes, defect_types: Of each image.
        labels: int8 (N,), the data set's own: 0 normal, 1 anomalous.
        has_mask: bool (N,), False for an anomalous image whose mask is not known.
        image_scores: float32 (N,), higher is more anomalous; the maximum of the full-size map.
        maps: float16 (N, h, w), the raw maps at the resolution of the finest features, a quarter of the input's. For pictures only.
        value_ranges: Class -> (minimum, maximum) over all its full-size test maps.
        pictures: Position -> picture, of the images that may be shown: `shown_images` says which.
    """

    __test__ = False  # no test class of pytest

    names: Sequence[str]
    classes: Sequence[str]
    defect_types: Sequence[str]
    labels: NDArray[np.int8]
    has_mask: NDArray[np.bool_]
    image_scores: NDArray[np.float32]
    maps: NDArray[np.float16]
    value_ranges: Mapping[str, tuple[float, float]]
    pictures: Mapping[int, Picture]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Counts:
    """Numbers of images of a split. without_mask: of the anomalous test images; anomalous_pixels: share in [0, 1] of all test pixels.

    labelled_normal, labelled_anomalous: those that only a supervised method may see.
    """

    classes: int
    train: int
    held_out: int
    test_normal: int
    test_anomalous: int
    without_mask: int = 0
    anomalous_pixels: float | None = None
    labelled_normal: int = 0
    labelled_anomalous: int = 0


@dataclass(frozen=True)
class Result:
    """One model on one benchmark, or several that differ in the seed alone, or the mean of COCO-AD's folds.

    Attributes:
        config: What was asked for; of several seeds, that of the model.
        source: Key of `labels.SOURCES`: what kind of data.
        metrics_by_seed: Seed -> content of `reports/metrics/<benchmark>.json`.
        learning: Means over the classes on the way of the trainings, of the final ones too: dicts of `seed`, `step`, `epoch` and `mean`, as
            `reports/trainings` has them; empty where nothing was asked for.
        cost, counts: None where they are not known.
        tests, curves: Of the model's seed; empty where they are not known.
            curves: class -> curve -> columns, as `invad.metrics.evaluate` returns them.
        synthetic: Some of what a method that trains on synthetic anomalies has seen; empty for any other.
        label: The method as tables name it; longer where two results of a report would have the same.
        key: Names the files of this result; differs from all others of a report.
        folds: Of a mean over the folds, their results.
    """

    config: BenchmarkConfig
    source: str
    metrics_by_seed: Mapping[int, Mapping[str, Any]]
    cost: Cost | None = None
    counts: Counts | None = None
    tests: TestImages | None = None
    curves: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)
    synthetic: Sequence[SyntheticAnomaly] = ()
    learning: Sequence[Mapping[str, Any]] = ()
    label: str = ""
    key: str = ""
    folds: tuple["Result", ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or method_label(self.config))
        object.__setattr__(self, "key", self.key or self.config.name)

    @property
    def published_name(self) -> str | None:
        """The benchmark of the published tables that this one is built like, key of `labels.BENCHMARKS`; None for any other."""
        splits, dataset = self.config.splits, self.config.dataset
        if isinstance(splits, CocoAdSplitConfig):
            fold = f"coco_ad_{splits.fold}" if splits.held_out == HELD_OUT else None
            return FOLD_MEAN if self.folds else fold
        return dataset if dataset in BENCHMARKS and self.source != OWN else None

    @property
    def published_or_own(self) -> str:
        """The benchmark's name in the published tables, or its own."""
        return self.published_name or self.config.name

    @property
    def method(self) -> str | None:
        """The method in the published tables, as `published_method`."""
        return published_method(self.config)

    @property
    def title(self) -> str:
        """The benchmark's name as people write it."""
        return benchmark_title(self.published_or_own, self.source)

    @property
    def marked_title(self) -> str:
        """The title with the mark of its data, for figures that travel alone."""
        return f"{self.title} ({source_label(self.source)} data)"

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The metrics of the model's seed."""
        return self.metrics_by_seed[self.config.train.seed]

    @property
    def words(self) -> dict[str, str]:
        """What the tables call it, by heading."""
        epochs = self.config.train.length.removesuffix(" epochs") or DASH  # some methods count steps
        seeds = ", ".join(map(str, self.metrics_by_seed))
        data = source_label(self.source)
        return {"Benchmark": self.title, "Method": self.label, "Data": data, "Epochs": epochs, "Seeds": seeds}

    def cells(self, protocol: str, class_name: str | None = None) -> dict[str, Cell]:
        """The values of a class, or the means over the classes, by metric."""
        by_seed = []
        for metrics in self.metrics_by_seed.values():
            classes = {name: values[protocol] for name, values in metrics["per_class"].items()}
            values = metrics["mean"][protocol] if class_name is None else classes[class_name]
            by_seed.append(value_cells(values, classes if class_name is None else None))
        return over_seeds(by_seed)

    def thresholds(self, kind: str = "image") -> dict[str, float]:
        """The calibrated threshold of each class that has one, of the model's seed; kind: on the `image` score or the `pixel` of a map."""
        per_class = (self.metrics.get("operating_point") or {}).get("per_class", {})
        values = {name: of_class[f"calibrated_{kind}_threshold"] for name, of_class in per_class.items()}
        return {name: value for name, value in values.items() if value is not None}


def grouped(results: Iterable[Result]) -> list[Result]:
    """Return the results in the order of the report, those that differ in the seed alone as one, with labels and keys of their own.

    Pictures and curves of several seeds are those of the lowest. Two results of equal settings and seed stay two.
    """
    groups: dict[tuple[str, int], list[Result]] = {}
    times: Counter[tuple[str, tuple[int, ...]]] = Counter()
    for result in sorted(results, key=lambda result: min(result.metrics_by_seed)):
        same = repr((_seedless(result), result.source, result.counts))
        seeds = tuple(result.metrics_by_seed)
        times[same, seeds] += 1
        groups.setdefault((same, times[same, seeds]), []).append(result)
    return sorted(_distinct([_one(groups[key]) for key in sorted(groups)]), key=_place)


def _seedless(result: Result) -> BenchmarkConfig:
    return result.config.of_seed(0)


def _one(group: Sequence[Result]) -> Result:
    """Return the results of several seeds as one: that of the lowest, with the metrics of all."""
    metrics = {seed: metrics for result in group for seed, metrics in result.metrics_by_seed.items()}
    learning = [point for result in group for point in result.learning]
    return replace(group[0], metrics_by_seed=dict(sorted(metrics.items())), learning=learning)


def _place(result: Result) -> tuple[int, str, str, str, int, str]:
    """The order of the report: COCO-AD's folds, MVTec AD, VisA, any other by name; then kind of data, method and label."""
    benchmarks, methods, name = list(BENCHMARKS), list(METHODS), result.published_or_own
    benchmark = benchmarks.index(name) if name in BENCHMARKS else len(benchmarks)
    method = methods.index(result.method) if result.method in methods else len(methods)
    return benchmark, name, result.source, result.config.name, method, result.label


def _distinct(results: Sequence[Result]) -> list[Result]:
    """Return the results with labels that tell them apart, and with keys of benchmark and label where a benchmark has several."""
    names = [(result.published_or_own, _label(result, results)) for result in results]
    several, distinct = Counter(result.config.name for result in results), []
    for index, (result, name) in enumerate(zip(results, names, strict=True)):
        run = f", run {names[: index + 1].count(name)}" if names.count(name) > 1 else ""
        label = f"{name[1]}{run}"
        slug = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
        key = f"{result.config.name}_{slug}" if several[result.config.name] > 1 else result.key
        distinct.append(replace(result, label=label, key=key))
    return distinct


def _label(result: Result, results: Sequence[Result]) -> str:
    """The label, and the settings but for the seed in which the result differs from any of the same label, such as `epochs 5`."""
    name = result.published_or_own, result.label
    rivals = [_settings(other.config) for other in results if (other.published_or_own, other.label) == name]
    own = _settings(result.config)
    differing = [key for key in own if any(rival.get(key) != own[key] for rival in rivals)]
    return ", ".join([result.label, *(f"{key[1]} {own[key]}" for key in differing)])


def _settings(config: BenchmarkConfig) -> dict[tuple[str, str], Any]:
    """The settings but for the seed, (section, key) -> value."""
    sections = {
        name: value for name, value in asdict(config).items() if isinstance(value, dict) and name != "trainings"
    }
    settings = {(name, key): value for name, section in sections.items() for key, value in section.items()}
    return {key: value for key, value in settings.items() if key != ("train", "seed")}


def fold_means(results: Iterable[Result]) -> list[Result]:
    """The mean of COCO-AD's four folds of each method, settings, kind of data and seeds that have all of them."""
    groups: dict[str, dict[str, Result]] = {}
    for result in results:
        if result.published_name in FOLDS:
            config, seeds = _seedless(result), sorted(result.metrics_by_seed)
            same = repr((result.label, result.source, seeds, config.features, config.train, config.score))
            groups.setdefault(same, {})[result.published_name] = result
    return [_mean_of([group[name] for name in FOLDS]) for group in groups.values() if len(group) == len(FOLDS)]


def _mean_of(folds: Sequence[Result]) -> Result:
    first, metrics = folds[0], {}
    for seed in first.metrics_by_seed:
        means = means_of_folds([fold.metrics_by_seed[seed]["mean"] for fold in folds])
        metrics[seed] = {**first.metrics, "mean": means, "per_class": {}, "notes": [], "intervals": None}
    key = first.key.replace(first.config.name, FOLD_MEAN, 1)
    return Result(first.config, first.source, metrics, label=first.label, key=key, folds=tuple(folds))


def means_of_folds(folds: Sequence[Mapping[str, Mapping[str, float | None]]]) -> dict[str, dict[str, float | None]]:
    """The means over the folds of what each has by protocol and metric; None where a fold has no value."""
    return {name: {m.key: _mean([fold[name][m.key] for fold in folds]) for m in METRICS} for name in PROTOCOLS}


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, which every fold has to have a value for."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None


def select_samples(tests: TestImages | Scores, per_class: int = 3) -> list[int]:
    """Positions of the images to show, by `SELECTION_RULE`: class by class in alphabetical order, the normal one last.

    per_class: anomalous images, all of them when a class has fewer.
    """
    ranking = sorted(range(len(tests)), key=lambda i: (-tests.image_scores[i], tests.defect_types[i], i))
    chosen = []
    for name in sorted(set(tests.classes)):
        members = [index for index in ranking if tests.classes[index] == name]
        anomalous, normal = ([index for index in members if tests.labels[index] == label] for label in (1, 0))
        chosen += [anomalous[rank] for rank in evenly_spaced(len(anomalous), per_class)] + normal[:1]
    return chosen


def outcomes(tests: TestImages | Scores, thresholds: Mapping[str, float]) -> list[str]:
    """Which of `OUTCOMES` each image is; strictly above the threshold is positive.

    thresholds: class -> calibrated threshold on the image score; the images of a class without one are undecided.
    """
    decided = []
    for label, score, name in zip(tests.labels.tolist(), tests.image_scores.tolist(), tests.classes, strict=True):
        positive = score > thresholds.get(name, 0.0)
        words = f"{'true' if positive == bool(label) else 'false'} {'positive' if positive else 'negative'}"
        decided.append(words if name in thresholds else "undecided")
    return decided


def shown_images(tests: TestImages | Scores, thresholds: Mapping[str, float], limit: int = GALLERY_LIMIT) -> list[int]:
    """Ascending positions of the images of the gallery, by `GALLERY_RULE` (those of the heat-map sheet are not added)."""
    if len(tests) <= limit:
        return list(range(len(tests)))
    cells: dict[tuple[str, str], list[int]] = {}
    decided = outcomes(tests, thresholds)
    for index in sorted(range(len(tests)), key=lambda index: (-tests.image_scores[index], index)):
        cells.setdefault((tests.classes[index], decided[index]), []).append(index)
    share = max(1, limit // len(cells))
    return sorted(members[rank] for members in cells.values() for rank in evenly_spaced(len(members), share))


def evenly_spaced(total: int, count: int) -> list[int]:
    """`count` positions evenly spaced over 0 .. total - 1, ends included; the lower of two middle ranks; no rank twice."""
    if count >= total:
        return list(range(total))
    return [int(rank) for rank in np.floor(np.linspace(0, total - 1, count))]
