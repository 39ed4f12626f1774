"""What the report knows of each result: plain values and arrays, read by `collect`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invad.config import BenchmarkConfig
from invad.report.labels import benchmark_title, method_label, published_benchmark, published_method, source_label
from invad.training.cost import Cost

__all__ = ["Cost", "Counts", "Curve", "Picture", "Result", "TestImages"]

Curve = Mapping[str, Sequence[float]]
"""Columns of equal length."""


@dataclass(frozen=True)
class Picture:
    """A test image as the encoder sees it. image: uint8 (H, W, 3) RGB; mask: bool (H, W), True where anomalous."""

    image: NDArray[np.uint8]
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
    """Numbers of images of a split. without_mask: of the anomalous test images; anomalous_pixels: share in [0, 1] of all test pixels."""

    classes: int
    train: int
    held_out: int
    test_normal: int
    test_anomalous: int
    without_mask: int = 0
    anomalous_pixels: float | None = None


@dataclass(frozen=True)
class Result:
    """One model on one benchmark, or several that differ in the seed alone.

    Attributes:
        config: What was asked for; of several seeds, that of the first.
        source: Key of `labels.SOURCES`: what kind of data.
        metrics_by_seed: Seed -> content of `reports/metrics/<benchmark>.json`.
        cost, counts: None where they are not known.
        tests, curves, loss: Of the first seed; empty where they are not known.
            curves: class -> curve -> columns, as `invad.metrics.evaluate` returns them. loss: (step, loss) pairs.
        label: The method as tables name it; longer where two results of a report would have the same.
        key: Names the files of this result; differs from all others of a report.
    """

    config: BenchmarkConfig
    source: str
    metrics_by_seed: Mapping[int, Mapping[str, Any]]
    cost: Cost | None = None
    counts: Counts | None = None
    tests: TestImages | None = None
    curves: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)
    loss: Sequence[tuple[int, float]] = ()
    label: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or method_label(self.config))
        object.__setattr__(self, "key", self.key or self.config.name)

    @property
    def benchmark(self) -> str:
        """The benchmark's name in the settings."""
        return self.config.name

    @property
    def published_name(self) -> str | None:
        """As `published_benchmark`."""
        return published_benchmark(self.config)

    @property
    def published_or_own(self) -> str:
        """The benchmark's name in the published tables, or its own."""
        return self.published_name or self.benchmark

    @property
    def method(self) -> str | None:
        """As `published_method`."""
        return published_method(self.config)

    @property
    def title(self) -> str:
        """The benchmark's name as people write it."""
        return benchmark_title(self.published_name or self.benchmark, self.source)

    @property
    def marked_title(self) -> str:
        """The title with the mark of its data, for figures that travel alone."""
        return f"{self.title} ({source_label(self.source)} data)"

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in ascending order."""
        return tuple(sorted(self.metrics_by_seed))

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The metrics of the first seed."""
        return self.metrics_by_seed[self.seeds[0]]

    @property
    def thresholds(self) -> dict[str, float]:
        """The calibrated threshold on the image score of each class that has one (first seed)."""
        return self._thresholds("calibrated_image_threshold")

    @property
    def pixel_thresholds(self) -> dict[str, float]:
        """The calibrated threshold on the map of each class that has one (first seed)."""
        return self._thresholds("calibrated_pixel_threshold")

    def _thresholds(self, key: str) -> dict[str, float]:
        per_class = (self.metrics.get("operating_point") or {}).get("per_class", {})
        return {name: values[key] for name, values in per_class.items() if values[key] is not None}
