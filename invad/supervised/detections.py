"""What several detectors say of the same images: their stored maps, checked to belong together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invad.config import BenchmarkConfig
from invad.data.split_table import ANOMALOUS, FILE_NAME, NORMAL, Phase, Split, SplitRow, open_split
from invad.errors import InputError
from invad.scoring.store import PHASE_FOLDERS, Scores, open_scores
from invad.workspace import Workspace

PHASES: tuple[Phase, ...] = ("labelled", "calibration", "test")  # in the order of the rows


@dataclass(frozen=True)
class Detections:
    """Maps and image scores of detectors for the same images: the labelled ones, those of the calibration, and the test images.

    `rows`: N of them, in this order. `scores`: of each detector, by the phases that there are, in the same order. `size`: the side of the
    maps.
    """

    names: tuple[str, ...]
    split: Split
    rows: list[SplitRow]
    scores: list[list[Scores]]
    size: int

    def maps(self) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield of each image the maps of all detectors, float32 (H, W)."""
        return zip(*(_single_maps(each) for each in self.scores), strict=True)

    def image_scores(self, detector: int) -> np.ndarray:
        """Return a detector's own scores of the images, float32 (N,)."""
        return np.concatenate([phase.image_scores for phase in self.scores[detector]])


def _single_maps(phases: Sequence[Scores]) -> Iterator[np.ndarray]:
    return (one for phase in phases for batch in phase.maps_nhw for one in batch)


def read_detections(benchmarks: Sequence[BenchmarkConfig], workspace: Workspace) -> Detections:
    """Open the maps of trained benchmarks, which share their data.

    `InputError`: they differ in rows or in the size of their maps, maps are missing or of other images, or a class lacks a labelled image
    of either kind.
    """
    splits = [open_split(benchmark, workspace) for benchmark in benchmarks]
    first, split = benchmarks[0], splits[0]
    for benchmark, other in zip(benchmarks, splits, strict=True):
        if _identities(other) != _identities(split):
            raise InputError(
                f"{workspace.split(benchmark.name) / FILE_NAME}: differs from that of {first.name}; detectors below the same trees share "
                "all images and their phases: give both the same `splits` and `calibration`"
            )
    _check_labels(split, workspace.split(first.name) / FILE_NAME, first.settings)
    phases = [phase for phase in PHASES if split.phase(phase)]
    rows = [row for phase in phases for row in split.phase(phase)]
    scores = [[_scores(workspace.scores(each.name), phase, split) for phase in phases] for each in benchmarks]
    shapes = {batch.shape[1:] for of_phase in scores for each in of_phase for batch in each.maps_nhw}
    if len(shapes) > 1:
        found = " and ".join(f"{height}x{width}" for height, width in sorted(shapes))
        raise InputError(
            f"{workspace.scores(first.name)}: the detectors' maps have {found} pixels; they must be the same"
        )
    return Detections(tuple(each.name for each in benchmarks), split, rows, scores, next(iter(shapes))[0])


def _identities(split: Split) -> list[tuple[str, ...]]:
    return [(row.image, row.class_name, row.phase, str(row.label)) for row in split.rows]


def _check_labels(split: Split, path: Path, settings: str) -> None:
    labelled = {(row.class_name, row.label) for row in split.phase("labelled")}
    if not labelled:
        raise InputError(
            f"{path}: no image is labelled; set splits.{settings}.labelled, such as {{anomalous: 10, normal_share: 0.1}}"
        )
    for class_name in sorted({row.class_name for row in split.rows}):
        for label, word, key in ((ANOMALOUS, "anomalous", "anomalous"), (NORMAL, "normal", "normal_share")):
            if (class_name, label) not in labelled:
                raise InputError(
                    f"{path}: class {class_name!r} has no labelled {word} image, and its trees need one; "
                    f"set splits.{settings}.labelled.{key}"
                )


def _scores(folder: Path, phase: Phase, split: Split) -> Scores:
    folder = folder / PHASE_FOLDERS[phase]
    scores = open_scores(folder)
    if scores.images != [row.image for row in split.phase(phase)]:
        raise InputError(f"{folder}: has maps of other images than the split table; run `dvc repro score`")
    return scores
