"""Read what the stages left on disk, or what MLflow keeps of a run, into a `Result`, the input of the report."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from invad.config import BenchmarkConfig
from invad.config.constants import PUBLISHED_DATASETS
from invad.config.loading import parse_benchmark
from invad.data.images import read_image
from invad.data.source import read_source
from invad.data.split_table import ANOMALOUS, Split, open_split
from invad.errors import InputError
from invad.files import read_json
from invad.metrics import KEYS, PROTOCOL_VERSION
from invad.report.evidence import read_evidence
from invad.report.labels import OWN, SOURCES, UNKNOWN
from invad.report.results import Counts, Picture, Result, TestImages
from invad.report.selection import select_samples, shown_images
from invad.scoring.store import Scores, open_scores
from invad.training.cost import Cost, read_cost
from invad.training.curve import read_curve
from invad.workspace import CONFIG_FILE, EVIDENCE_FOLDER, Workspace

MAP_REDUCTION = 4  # along each side; the finest features are rarely finer
_METRICS_KEYS = ("per_class", "mean", "notes", "protocol_version")
_SECTIONS = ("splits", "calibration", "features", "train", "score")


def collect_result(benchmark: BenchmarkConfig, workspace: Workspace) -> Result:
    """Return everything that the report shows of one benchmark; `InputError` when a part is missing or damaged."""
    name, is_own = benchmark.name, benchmark.dataset not in PUBLISHED_DATASETS
    metrics = read_metrics(workspace.metrics(name))
    split, scores = open_split(benchmark, workspace), open_scores(workspace.scores(name))
    result = Result(
        config=benchmark,
        source=OWN if is_own else read_source(workspace.raw(benchmark.dataset)).source,
        metrics_by_seed={benchmark.train.seed: metrics},
        cost=read_cost(workspace.cost(name)),
        counts=_counts(split, scores),
        curves=read_json(workspace.curves(name)),
        loss=read_loss(workspace.loss(name)),
    )
    return replace(result, tests=_test_images(benchmark, split, scores, result.thresholds))


def read_metrics(path: Path) -> dict[str, Any]:
    """Return the content of a metrics file; `InputError` when it is missing, half-written or something else."""
    metrics = read_json(path)
    if lacking := _lacking(metrics, _METRICS_KEYS):
        raise InputError(f"{path}: not a metrics file, {lacking} missing; `dvc repro evaluate` writes it")
    return metrics


def _lacking(value: object, keys: tuple[str, ...]) -> str:
    return ", ".join(key for key in keys if not isinstance(value, dict) or key not in value)


def read_loss(path: Path) -> list[tuple[int, float]]:
    """Return the (step, loss) pairs of a loss curve; none where there is no file, `InputError` when it is damaged."""
    try:
        return [(step.step, step.loss) for step in read_curve(path)]
    except ValueError as error:
        raise InputError(f"{path}: not a loss curve ({error})") from None


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
    rows, size = split.phase("test"), benchmark.features.image_size
    labels, image_scores = scores.labels.tolist(), scores.image_scores.tolist()
    chosen = {
        *select_samples(scores.classes, labels, image_scores, scores.defect_types),
        *shown_images(scores.classes, labels, image_scores, thresholds),
    }
    images = {index: read_image(split.image_path(rows[index]), size, split.reading) for index in sorted(chosen)}
    return TestImages(
        names=scores.images,
        classes=scores.classes,
        defect_types=scores.defect_types,
        labels=scores.labels,
        has_mask=scores.has_mask,
        image_scores=scores.image_scores,
        maps=np.concatenate([_reduced(maps) for maps in scores.maps_nhw]),
        value_ranges=_value_ranges(scores),
        pictures={index: Picture(image, scores.map_and_mask(index)[1]) for index, image in images.items()},
    )


def _reduced(maps: np.ndarray) -> np.ndarray:
    """Return maps (n, H, W) as float16 (n, H // 4, W // 4): the mean of each whole block."""
    images, rows, columns = maps.shape[0], maps.shape[1] // MAP_REDUCTION, maps.shape[2] // MAP_REDUCTION
    whole = maps[:, : rows * MAP_REDUCTION, : columns * MAP_REDUCTION]
    blocks = whole.reshape(images, rows, MAP_REDUCTION, columns, MAP_REDUCTION)
    return blocks.mean(axis=(2, 4)).astype(np.float16)


def _value_ranges(scores: Scores) -> dict[str, tuple[float, float]]:
    """Return the minimum and maximum of all maps of each class."""
    low = np.concatenate([maps.min(axis=(1, 2)) for maps in scores.maps_nhw])
    classes = np.array(scores.classes)
    return {
        name: (float(low[classes == name].min()), float(scores.image_scores[classes == name].max()))
        for name in sorted(set(scores.classes))
    }


def result_of_run(folder: Path, metrics: Mapping[str, float], source: str | None) -> Result:
    """Return the result of a run of MLflow.

    Args:
        folder: Its artifacts `config.json`, `<benchmark>.json` (metrics), `<benchmark>.csv` (loss) and `evidence/`; all but the first
            may be missing.
        metrics: What MLflow has by name; `paper/<key>` is used where the file of metrics is missing, as for a trial.
        source: Kind of data, key of `labels.SOURCES`; used where there is no evidence, and `unknown` where it is none of them.

    Raises:
        InputError: The settings or the metrics are missing, or a file is damaged.
    """
    config = _config(folder / CONFIG_FILE)
    path = folder / f"{config.name}.json"
    content = read_metrics(path) if path.exists() else _means(config.name, metrics)
    loss = read_loss(folder / f"{config.name}.csv")
    if not (folder / EVIDENCE_FOLDER).is_dir():
        known = source if source in SOURCES else UNKNOWN
        return Result(config, known, {config.train.seed: content}, cost=_counted(config), loss=loss)
    evidence = read_evidence(folder / EVIDENCE_FOLDER)
    parts = {name: getattr(evidence, name) for name in ("cost", "counts", "tests", "curves")}
    return Result(config, evidence.source, {config.train.seed: content}, **parts, loss=loss)


def _counted(config: BenchmarkConfig) -> Cost:
    """Return the cost of the model that these settings build."""
    from invad.training.cost import model_cost  # with torch

    return model_cost(config)


def _config(path: Path) -> BenchmarkConfig:
    value = read_json(path)
    if lacking := _lacking(value, ("name", "dataset", *_SECTIONS)):
        raise InputError(f"{path.name}: not the settings of a benchmark, {lacking} missing")
    return parse_benchmark(value["name"], value["dataset"], {key: value[key] for key in _SECTIONS}, f"{path.name}: ")


def _means(name: str, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Return what a file of metrics would hold of a run that has logged means alone."""
    paper = {key: metrics.get(f"paper/{key}") for key in KEYS}
    lacking = [key for key, value in paper.items() if value is None]
    if len(lacking) == len(KEYS):
        raise InputError("no metrics of test images: not evaluated, or a trial of `invad-pipe tune`")
    reason = "trials of a study are evaluated by the protocol paper alone"
    notes = [f"mean, protocol exact: {', '.join(KEYS)}: not available: {reason}"]
    if lacking:
        notes.append(f"mean, protocol paper: {', '.join(lacking)}: not available: the evaluation gave no value")
    means = {"paper": paper, "exact": dict.fromkeys(KEYS)}
    return {"benchmark": name, "per_class": {}, "mean": means, "notes": notes, "protocol_version": PROTOCOL_VERSION}
