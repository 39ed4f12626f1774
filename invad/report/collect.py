"""Read what the stages left on disk into a `Result`, the input of the report."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from invad.config import BenchmarkConfig
from invad.config.constants import PUBLISHED_DATASETS, STRIDES
from invad.data.images import read_image
from invad.data.source import read_source
from invad.data.split_table import ANOMALOUS, Split, open_split
from invad.errors import InputError
from invad.files import read_json
from invad.report.labels import OWN
from invad.report.results import Counts, Picture, Result, TestImages
from invad.report.selection import select_samples, shown_images
from invad.scoring.store import Scores, open_scores
from invad.training.cost import read_cost
from invad.training.curve import read_curve
from invad.workspace import Workspace

MAP_REDUCTION = STRIDES[0]  # the finest features have one value where the map has so many along each side
_METRICS_KEYS = ("per_class", "mean", "notes", "protocol_version")


def collect_result(benchmark: BenchmarkConfig, workspace: Workspace) -> Result:
    """Return everything that the report shows of one benchmark; `InputError` when a part is missing or damaged."""
    metrics = read_metrics(workspace.metrics(benchmark.name))
    split = open_split(benchmark, workspace)
    scores = open_scores(workspace.scores(benchmark.name))
    result = Result(
        config=benchmark,
        source=_source(benchmark, workspace),
        metrics_by_seed={benchmark.train.seed: metrics},
        cost=read_cost(workspace.cost(benchmark.name)),
        counts=_counts(split, scores),
        curves=read_json(workspace.curves(benchmark.name)),
        loss=read_loss(workspace.loss(benchmark.name)),
    )
    return replace(result, tests=_test_images(benchmark, split, scores, result.thresholds))


def read_metrics(path: Path) -> dict[str, Any]:
    """Return the content of a metrics file; `InputError` when it is missing, half-written or something else."""
    metrics = read_json(path)
    lacking = [key for key in _METRICS_KEYS if not isinstance(metrics, dict) or key not in metrics]
    if lacking:
        raise InputError(f"{path}: not a metrics file, {', '.join(lacking)} missing; `dvc repro evaluate` writes it")
    return metrics


def read_loss(path: Path) -> list[tuple[int, float]]:
    """Return the (step, loss) pairs of a loss curve; none where there is no file, `InputError` when it is damaged."""
    try:
        return [(step.step, step.loss) for step in read_curve(path)]
    except ValueError as error:
        raise InputError(f"{path}: not a loss curve ({error})") from None


def _source(benchmark: BenchmarkConfig, workspace: Workspace) -> str:
    return read_source(workspace.raw(benchmark.dataset)).source if benchmark.dataset in PUBLISHED_DATASETS else OWN


def _counts(split: Split, scores: Scores) -> Counts:
    images = Counter((row.phase, row.label) for row in split.rows)
    unknown = sum(row.phase == "test" and row.label == ANOMALOUS and row.mask is None for row in split.rows)
    anomalous = sum(int(np.count_nonzero(masks)) for masks in scores.masks_nhw)
    known = int(np.count_nonzero(scores.has_mask)) * int(np.prod(scores.masks_nhw[0].shape[1:]))
    return Counts(
        classes=len({row.class_name for row in split.rows}),
        train=images["train", 0],
        held_out=images["calibration", 0],
        test_normal=images["test", 0],
        test_anomalous=images["test", 1],
        without_mask=unknown,
        anomalous_pixels=anomalous / known if known else None,
    )


def _test_images(
    benchmark: BenchmarkConfig, split: Split, scores: Scores, thresholds: Mapping[str, float]
) -> TestImages:
    rows = split.phase("test")
    labels, image_scores = scores.labels.tolist(), scores.image_scores.tolist()
    chosen = {
        *select_samples(scores.classes, labels, image_scores, scores.defect_types),
        *shown_images(scores.classes, labels, image_scores, thresholds),
    }
    pictures = {
        index: Picture(
            read_image(split.image_path(rows[index]), benchmark.features.image_size, split.reading),
            scores.map_and_mask(index)[1],
        )
        for index in sorted(chosen)
    }
    return TestImages(
        names=scores.images,
        classes=scores.classes,
        defect_types=scores.defect_types,
        labels=scores.labels,
        has_mask=scores.has_mask,
        image_scores=scores.image_scores,
        maps=np.concatenate([_reduced(maps) for maps in scores.maps_nhw]),
        value_ranges=_value_ranges(scores),
        pictures=pictures,
    )


def _reduced(maps: np.ndarray) -> np.ndarray:
    """Return maps (n, H, W) as float16 (n, H / 4, W / 4): the mean of each block."""
    images, height, width = maps.shape
    blocks = maps.reshape(images, height // MAP_REDUCTION, MAP_REDUCTION, width // MAP_REDUCTION, MAP_REDUCTION)
    return blocks.mean(axis=(2, 4)).astype(np.float16)


def _value_ranges(scores: Scores) -> dict[str, tuple[float, float]]:
    """Return the minimum and maximum of all maps of each class."""
    low = np.concatenate([maps.min(axis=(1, 2)) for maps in scores.maps_nhw])
    classes = np.array(scores.classes)
    return {
        name: (float(low[classes == name].min()), float(scores.image_scores[classes == name].max()))
        for name in sorted(set(scores.classes))
    }
