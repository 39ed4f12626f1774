"""Read what the stages left on disk, or what MLflow keeps of a run, into a `Result`, the input of the report.

What MLflow keeps beside settings and metrics is a folder of its own, the evidence: `result.json` (source, counts, cost, value ranges,
curves) and `test_images.npz` (the arrays of `TestImages`, maps small, and the pictures that are shown). What an older version wrote beside
them is left alone.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from invad.config import BenchmarkConfig
from invad.config.constants import PUBLISHED_DATASETS
from invad.config.loading import parse_benchmark
from invad.data.images import read_image
from invad.data.source import read_source
from invad.data.split_table import ANOMALOUS, Split, open_split
from invad.errors import InputError
from invad.files import atomic_path, read_json, write_text
from invad.report.labels import OWN, SOURCES, UNKNOWN
from invad.report.results import Counts, Picture, Result, TestImages, select_samples, shown_images
from invad.scoring.store import Scores, open_scores
from invad.training.cost import Cost, read_cost
from invad.workspace import CONFIG_FILE, EVIDENCE_FOLDER, Workspace

MAP_REDUCTION = 4  # along each side; the finest features are rarely finer
_METRICS_KEYS = ("per_class", "mean", "notes", "protocol_version")
RESULT_FILE, TEST_FILE = "result.json", "test_images.npz"
VERSION = 2
_ARRAYS = [item.name for item in fields(TestImages) if item.name not in ("value_ranges", "pictures")]
_TEXTS = ("names", "classes", "defect_types")
_SECTIONS = ("splits", "calibration", "features", "train", "score")


def collect_result(benchmark: BenchmarkConfig, workspace: Workspace) -> Result:
    """Return everything that the report shows of one benchmark; `InputError` when a part is missing or damaged."""
    name, is_own = benchmark.name, benchmark.dataset not in PUBLISHED_DATASETS
    metrics = _read_object(workspace.metrics(name), _METRICS_KEYS, "a metrics file; `dvc repro evaluate` writes it")
    split, scores = open_split(benchmark, workspace), open_scores(workspace.scores(name))
    trainings = _read_object(workspace.trainings(name), ("seeds", "learning"), "the further trainings of a benchmark")
    further = {int(seed): of_seed for seed, of_seed in trainings["seeds"].items()}
    result = Result(
        config=benchmark,
        source=OWN if is_own else read_source(workspace.raw(benchmark.dataset)).source,
        metrics_by_seed={benchmark.train.seed: metrics, **further},
        learning=trainings["learning"],
        cost=read_cost(workspace.cost(name)),
        counts=_counts(split, scores),
        curves=read_json(workspace.curves(name)),
    )
    return replace(result, tests=_test_images(benchmark, split, scores, result.thresholds()))


def _read_object(path: Path, keys: tuple[str, ...], what: str) -> dict[str, Any]:
    """Return a JSON object with all of these keys."""
    value = read_json(path)
    if lacking := [key for key in keys if not isinstance(value, dict) or key not in value]:
        raise InputError(f"{path}: {', '.join(lacking)} missing; expected {what}")
    return value


def _counts(split: Split, scores: Scores) -> Counts:
    images = Counter((row.phase, row.label) for row in split.rows)
    anomalous = sum(int(np.count_nonzero(masks)) for masks in scores.masks_nhw)
    has_masks = bool((scores.has_mask & (scores.labels == ANOMALOUS)).any())
    known = int(np.count_nonzero(scores.has_mask)) * int(np.prod(scores.masks_nhw[0].shape[1:]))
    return Counts(
        classes=len({row.class_name for row in split.rows}),
        train=images["train", 0],
        held_out=images["calibration", 0],
        test_normal=images["test", 0],
        test_anomalous=images["test", 1],
        without_mask=int(np.count_nonzero(~scores.has_mask)),
        labelled_normal=images["labelled", 0],
        labelled_anomalous=images["labelled", 1],
        anomalous_pixels=anomalous / known if has_masks else None,
    )


def _test_images(
    benchmark: BenchmarkConfig, split: Split, scores: Scores, thresholds: Mapping[str, float]
) -> TestImages:
    rows, size = split.phase("test"), benchmark.features.image_size
    chosen = {*select_samples(scores), *shown_images(scores, thresholds)}
    images = {index: read_image(split.image_path(rows[index]), size, split.reading) for index in sorted(chosen)}
    low = np.concatenate([maps.min(axis=(1, 2)) for maps in scores.maps_nhw])
    classes = np.array(scores.classes)
    ranges = {
        name: (float(low[classes == name].min()), float(scores.image_scores[classes == name].max()))
        for name in sorted(set(scores.classes))
    }
    same = ("classes", "defect_types", "labels", "has_mask", "image_scores")
    return TestImages(
        names=scores.images,
        **{name: getattr(scores, name) for name in same},
        maps=np.concatenate([_reduced(maps) for maps in scores.maps_nhw]),
        value_ranges=ranges,
        pictures={index: Picture(image, scores.map_and_mask(index)[1]) for index, image in images.items()},
    )


def _reduced(maps: np.ndarray) -> np.ndarray:
    """Return maps (n, H, W) as float16 (n, H // 4, W // 4): the mean of each whole block."""
    images, rows, columns = maps.shape[0], maps.shape[1] // MAP_REDUCTION, maps.shape[2] // MAP_REDUCTION
    whole = maps[:, : rows * MAP_REDUCTION, : columns * MAP_REDUCTION]
    blocks = whole.reshape(images, rows, MAP_REDUCTION, columns, MAP_REDUCTION)
    return blocks.mean(axis=(2, 4)).astype(np.float16)


def result_of_run(folder: Path, source: str | None) -> Result:
    """Return the result of a run of MLflow, whose artifacts lie in `folder`; `source`: of its data, used without evidence.

    `InputError`: the settings or the metrics are missing, or a file is damaged.
    """
    value = _read_object(folder / CONFIG_FILE, ("name", "dataset", *_SECTIONS), "the settings of a benchmark")
    sections = {key: value[key] for key in _SECTIONS}
    config = parse_benchmark(value["name"], value["dataset"], sections, f"{CONFIG_FILE}: ")
    path = folder / f"{config.name}.json"
    if not path.exists():
        raise InputError("no metrics of test images: not evaluated, or a trial of a study")
    metrics = _read_object(path, _METRICS_KEYS, "a metrics file")
    result = Result(config, source if source in SOURCES else UNKNOWN, {config.train.seed: metrics})
    evidence = folder / EVIDENCE_FOLDER
    return replace(result, **read_evidence(evidence)) if evidence.is_dir() else result


def write_evidence(result: Result, folder: Path) -> None:
    """Write the folder, whole or not at all; the same result gives the same bytes. `result.tests` has to be there."""
    tests = result.tests
    if tests is None:
        raise ValueError("a result without test images has no evidence")
    facts = {
        "version": VERSION,
        "source": result.source,
        "counts": result.counts and asdict(result.counts),
        "cost": result.cost and asdict(result.cost),
        "value_ranges": tests.value_ranges,
        "curves": result.curves,
        "learning": list(result.learning),
    }
    arrays: dict[str, Any] = {name: np.asarray(getattr(tests, name)) for name in _ARRAYS}
    arrays["shown"] = np.array(list(tests.pictures), np.int64)
    for name in ("image", "mask"):
        arrays[name] = np.stack([getattr(picture, name) for picture in tests.pictures.values()])
    with atomic_path(folder) as temporary:
        temporary.mkdir(parents=True)
        write_text(temporary / RESULT_FILE, json.dumps(facts, ensure_ascii=False, allow_nan=False) + "\n")
        np.savez_compressed(temporary / TEST_FILE, **arrays)


def read_evidence(folder: Path) -> dict[str, Any]:
    """Read the folder: attributes of `Result`; `InputError` names the file that is missing, damaged or of another version."""
    path = folder / RESULT_FILE
    facts = read_json(path)
    if not isinstance(facts, dict) or facts.get("version") != VERSION:
        raise InputError(f"{path}: not of version {VERSION}; written by another version of invad")
    try:
        with np.load(folder / TEST_FILE, allow_pickle=False) as file:
            arrays = {name: file[name] for name in (*_ARRAYS, "shown", "image", "mask")}
        known = {name: arrays[name].tolist() if name in _TEXTS else arrays[name] for name in _ARRAYS}
        ranges = {name: (float(low), float(high)) for name, (low, high) in facts["value_ranges"].items()}
        pairs = zip(arrays["image"], arrays["mask"], strict=True)
        pictures = dict(zip(arrays["shown"].tolist(), (Picture(*pair) for pair in pairs), strict=True))
        counts, cost = facts["counts"] and Counts(**facts["counts"]), facts["cost"] and Cost(**facts["cost"])
        tests = TestImages(**known, value_ranges=ranges, pictures=pictures)
        learning = facts.get("learning", [])  # which an earlier version had not
        return {
            **{name: facts[name] for name in ("source", "curves")},
            **{"counts": counts, "cost": cost, "tests": tests, "learning": learning},
        }
    except (OSError, BadZipFile, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder}: damaged ({type(error).__name__}: {error})") from None
