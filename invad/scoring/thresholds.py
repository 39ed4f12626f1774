"""Thresholds of image scores and pixels from held-out normal images, for each class and for all: `calibration.json` of a model."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from invad.config import STRICT, BenchmarkConfig, ScoreConfig, parse
from invad.errors import InputError
from invad.files import read_json, write_json
from invad.metrics.calibration import RunningThreshold, Thresholds, scores_above

MOST_BYTES = 10_000_000  # of the file; a class has about 150
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
_ALL = None  # stands beside the names of the classes


@dataclass(frozen=True, config=STRICT)
class HeldOut:
    """Thresholds, and how many held-out normal images they come from; None where there are none."""

    image_threshold: float | None
    pixel_threshold: float | None
    images: Count

    @property
    def thresholds(self) -> Thresholds:
        """The two of them."""
        return Thresholds(self.image_threshold, self.pixel_threshold)


@dataclass(frozen=True, config=STRICT)
class Calibration:
    """What `calibration.json` holds. `all`: of all classes together; `score`: how the maps were made that they are for."""

    false_positive_rate: Annotated[float, Field(gt=0, lt=1)]
    images: Count
    per_class: dict[str, HeldOut]
    all: HeldOut
    notes: list[str]
    score: ScoreConfig


def why_none(settings: str) -> str:
    """Return the reason of a benchmark without thresholds; `settings`: the name of its settings."""
    return f"no normal image is held out; set calibration.{settings}.share above 0"


def calibrate(
    scored: Iterable[tuple[np.ndarray, np.ndarray]],
    classes: Sequence[str],
    names: Iterable[str],
    benchmark: BenchmarkConfig,
) -> Calibration:
    """Return thresholds from batches of (maps, scores) of held-out images of `classes`; `names`: all classes of the benchmark."""
    rate = benchmark.calibration.false_positive_rate
    counts: Counter[str | None] = Counter(classes)
    counts[_ALL] = len(classes)
    pixels = benchmark.features.image_size**2
    image = {name: RunningThreshold(count, rate) for name, count in counts.items()}
    pixel = {name: RunningThreshold(count * pixels, rate) for name, count in counts.items()}
    single = (pair for maps, scores in scored for pair in zip(maps, scores[:, None], strict=True))
    for name, (anomaly_map, score) in zip(classes, single, strict=True):
        for key in (name, _ALL):
            image[key].add(score)
            pixel[key].add(anomaly_map)

    def held_out(name: str | None) -> HeldOut:
        return HeldOut(image[name].value, pixel[name].value, counts[name]) if counts[name] else HeldOut(None, None, 0)

    per_class = {name: held_out(name) for name in sorted(names)}
    notes = [f"splits: {why_none(benchmark.settings)}"] if not classes else _notes(per_class, rate)
    return Calibration(rate, len(classes), per_class, held_out(_ALL), notes, benchmark.score)


def _notes(per_class: dict[str, HeldOut], rate: float) -> list[str]:
    """Say where there are too few images, classes of the same number of them together."""
    classes: dict[int, list[str]] = {}
    for name, held_out in per_class.items():
        if not scores_above(held_out.images, rate):
            classes.setdefault(held_out.images, []).append(f"class {name!r}")
    return [
        f"{', '.join(names)}: too few held-out normal images ({images}) to resolve a false-positive rate of {100 * rate:g} % of "
        "images: the image threshold is their highest score"
        if images
        else f"{', '.join(names)}: no normal image is held out, there is but one"
        for images, names in sorted(classes.items())
    ]


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Write the file that `read_calibration` reads."""
    write_json(path, asdict(calibration))


def read_calibration(path: Path) -> Calibration:
    """Read the thresholds of a model; `InputError` when the file is missing or damaged, or a value has the wrong type or range."""
    value = read_json(path, MOST_BYTES)
    try:
        return parse(Calibration, value, "calibration: ")
    except InputError as error:
        reason = str(error).removeprefix("calibration: ")[:200]
        raise InputError(
            f"{path}: damaged calibration, or one of another version ({reason}); run `dvc repro -f evaluate`"
        ) from None
