"""Thresholds and all metrics of the maps in a folder."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invad import metrics
from invad.config import BenchmarkConfig
from invad.data.split_table import Split
from invad.metrics.calibration import operating_point
from invad.scoring.store import CALIBRATION_FOLDER, Scores, open_scores
from invad.scoring.thresholds import Calibration, calibrate, why_none


@dataclass(frozen=True)
class Evaluated:
    """What maps give. `metrics`: content of a file in `reports/metrics`; `curves`: of each class, by name."""

    calibration: Calibration
    metrics: dict[str, Any]
    curves: dict[str, Any]

    @property
    def notes(self) -> list[str]:
        """Everything that has to be said of the metrics and the thresholds."""
        point = self.metrics["operating_point"]["notes"]
        return [*self.metrics["notes"], *(point if self.calibration.images else self.calibration.notes)]


def evaluate_maps(benchmark: BenchmarkConfig, split: Split, folder: Path, *, in_full: bool = False) -> Evaluated:
    """Return thresholds and metrics of the maps that `invad.scoring.store` has in `folder`; `in_full`: with curves and intervals."""
    scores = open_scores(folder)
    calibration = _calibrated(benchmark, split, folder)
    empty = scores.empty_masks(split)
    images = (scores.maps_nhw, scores.masks_nhw, scores.classes, scores.labels, scores.image_scores)
    known = {"has_mask": scores.has_mask, "groups": scores.groups}
    evaluation = metrics.evaluate(*images, **known, curves=in_full, empty_in_paper=empty)
    evaluation["notes"] += [
        f"class {name!r}: {count} mask(s) of anomalous images are empty: that is what they count as in the paper protocol, "
        "and as not known in the exact one"
        for name, count in Counter(name for name, one in zip(scores.classes, empty, strict=True) if one).items()
    ]
    intervals = {"intervals": metrics.bootstrap(*images, **known, evaluation=evaluation)} if in_full else {}
    result: dict[str, Any] = {"benchmark": benchmark.name, **evaluation, **intervals}
    curves = result.pop("curves", {})
    result["operating_point"] = _operating_point(scores, calibration, benchmark.settings)
    return Evaluated(calibration, result, curves)


def _calibrated(benchmark: BenchmarkConfig, split: Split, folder: Path) -> Calibration:
    """Return the thresholds that the maps of a benchmark's held-out normal images give."""
    scored, classes = iter(()), []
    if split.phase("calibration"):
        held_out = open_scores(folder / CALIBRATION_FOLDER)
        scored, classes = held_out.scored(), held_out.classes
    return calibrate(scored, classes, {row.class_name for row in split.rows}, benchmark)


def _operating_point(scores: Scores, calibration: Calibration, settings: str) -> dict[str, Any]:
    """Return what the calibrated thresholds give on the test images, with the rate and the number of images behind them."""
    images = (scores.maps_nhw, scores.masks_nhw, scores.classes, scores.labels, scores.image_scores, scores.has_mask)
    thresholds = {name: held_out.thresholds for name, held_out in calibration.per_class.items()}
    point = operating_point(*images, thresholds, without=why_none(settings))
    return {
        "false_positive_rate": calibration.false_positive_rate,
        "held_out_images": {name: held_out.images for name, held_out in calibration.per_class.items()},
        **point,
        "notes": [*calibration.notes, *point["notes"]],
    }
