"""`invad-pipe plan`: what `dvc repro` fetches, trains on and writes, counted before it starts; nothing is guessed."""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from invad.config import BenchmarkConfig, CocoAdSplitConfig, DownloadConfig, FeaturesConfig, Params, RealIadSplitConfig
from invad.data.coco_ad import CLASS_NAME, FULL_COUNTS, FULL_HELD_OUT
from invad.data.counts import Counts, count_images
from invad.data.datasets import DATASETS
from invad.data.download import store_folder
from invad.data.embedded import generated_images
from invad.data.labelled import labelled_normal
from invad.data.official.store import is_address
from invad.data.official.unpack import unpacked_sha256
from invad.data.real_iad import JSONS, VIEWS
from invad.data.source import read_source
from invad.data.split_table import ANOMALOUS, FILE_NAME, SplitRow, held_out_images, read_split_table
from invad.disk import readable
from invad.errors import InputError
from invad.features.decoded import kept_bytes
from invad.features.encoder import hollow_encoder
from invad.methods import EncoderOutput
from invad.scoring.store import PIXEL_BYTES
from invad.text import aligned
from invad.training.cost import painted_training_multiply_adds
from invad.training.loop import training_steps
from invad.workspace import Workspace

_COPIES = 2  # of a stage's output: in the workspace and in DVC's cache
_NOT_COUNTED = "not counted: weights, generated images, COCO-AD's masks, models, checkpoints"
_PAINTED = (
    "note: multiply-adds are those of the whole training, backward passes included",
    "note: images in memory, that of each worker, are decoded once; the others whenever they are painted",
)


class Images(NamedTuple):
    """Numbers of images to train on, held out from training and with labels, and to test on."""

    train: int
    held_out: int
    test: int


@dataclass(frozen=True)
class DataPlan:
    """A data set's archives, in bytes: those still to be fetched, and all that is put into `folder`."""

    dataset: str
    source: str
    folder: Path
    fetch: int
    disk: int


@dataclass(frozen=True)
class TrainingPlan:
    """A benchmark; 0 where `images` are not known. `steps`: of all its trainings. `features`, `maps`: bytes of them.

    Of a method that trains on synthetic anomalies, `painted`: how many images its training paints; `multiply_adds`: of the training;
    `decoded`: the bytes of the images that it keeps in memory.
    """

    name: str
    images: Images | None
    steps: int = 0
    features: int = 0
    maps: int = 0
    painted: int = 0
    multiply_adds: int = 0
    decoded: int = 0


def make_plan(params: Params, workspace: Workspace) -> tuple[list[DataPlan], list[TrainingPlan]]:
    """Return the plan of all data sets and of all benchmarks; `InputError`: a batch is larger than the images to train on."""
    data = [_data(name, config, workspace) for name, config in params.download.items()]
    return data, [_training(each, params.dataset(each.dataset), workspace) for each in params.benchmarks.values()]


def plan_text(params: Params, workspace: Workspace) -> str:
    """Return `make_plan` as text: a table of data sets, one of benchmarks, and what is to be written beside what is free on the disk."""
    data, trainings = make_plan(params, workspace)
    sources = [("data set", "source", "to fetch", "archives and files")]
    sources += [(each.dataset, each.source, _size(each.fetch), _size(each.disk)) for each in data]
    rows: list[tuple[str, ...]] = [("benchmark", "images", "held out", "test", "steps", "features", "maps")]
    for each in trainings:
        numbers = [f"{number:,}" for number in (*each.images, each.steps)] if each.images else "????"
        sizes = (_size(each.features), _size(each.maps)) if each.images else "??"
        rows.append((each.name, *numbers, *sizes))
    painting = [("synthetic anomalies", "images painted", "multiply-adds", "in memory")]
    painting += [
        (each.name, f"{each.painted:,}", f"{each.multiply_adds:.1e}", _size(each.decoded))
        for each in trainings
        if each.painted
    ]
    notes = [_NOT_COUNTED]
    if painting[1:]:
        notes += _PAINTED
    if any(each.images is None for each in trainings):
        notes.append("note: what is ? is counted in split tables, which `dvc repro download splits` writes")
    return "\n".join(
        [
            *aligned(sources, left=(0, 1)),
            "",
            *aligned(rows),
            "",
            *_disks(data, trainings, workspace),
            *(["", *aligned(painting), ""] if painting[1:] else []),
            *notes,
        ]
    )


def _count(benchmark: BenchmarkConfig, config: DownloadConfig, workspace: Workspace) -> Images | None:
    """Return the images of a benchmark, from its split table, the settings or the published numbers; None where none of them tells."""
    try:
        source = read_source(workspace.raw(benchmark.dataset))
        rows, metadata = read_split_table(workspace.split(benchmark.name) / FILE_NAME)
        is_of_these = source.source == config.source and metadata.get("data_sha256") == source.sha256
    except InputError:  # not there yet, or no longer
        rows, is_of_these = [], False
    if not (classes := count_images(rows) if is_of_these else _of_settings(benchmark, config)):
        return None
    views = _views(benchmark, rows if is_of_these else [])
    kept = sum(views * _kept_objects(counts.train // views, benchmark) for counts in classes.values())
    labelled = sum(row.phase == "labelled" and row.label == ANOMALOUS for row in rows) if is_of_these else 0
    train, normal, anomalous = (sum(column) for column in zip(*classes.values(), strict=True))
    noise = sum(row.phase == "train" and row.label == ANOMALOUS for row in rows) if is_of_these else 0
    return Images(train - kept + noise, kept + labelled, normal + anomalous)


def _kept_objects(images: int, benchmark: BenchmarkConfig) -> int:
    """Return how many of a class's normal training images, or of its objects seen in several, are held out from training."""
    held_out = held_out_images(images, benchmark.calibration.share)
    labelled = getattr(benchmark.splits, "labelled", None)
    return held_out + (labelled_normal(images - held_out, labelled) if labelled else 0)


def _of_settings(benchmark: BenchmarkConfig, config: DownloadConfig) -> Mapping[str, Counts]:
    split = benchmark.splits
    if config.source == "embedded":  # of COCO it shows only when the scenes are drawn which of them are normal
        if isinstance(split, RealIadSplitConfig) and split.variant != JSONS:
            return {}
        of_class = generated_images(benchmark.dataset, config.train_images, config.test_images)
        return {name: Counts(train, test, 0) for name, (train, test) in of_class.items()}
    if config.source != "official":
        return {}
    if isinstance(split, CocoAdSplitConfig):
        return {CLASS_NAME: Counts(*FULL_COUNTS[split.fold])} if split.held_out == FULL_HELD_OUT else {}
    return DATASETS[benchmark.dataset].counts


def _views(benchmark: BenchmarkConfig, rows: Sequence[SplitRow]) -> int:
    """Return of how many images an object is seen in, all of which are held out or none."""
    if rows:
        return max(1, len(rows) // len({(row.class_name, row.unit) for row in rows}))
    return len(VIEWS) if isinstance(benchmark.splits, RealIadSplitConfig) else 1


@cache
def _output(config: FeaturesConfig) -> EncoderOutput:
    return hollow_encoder(config).output(config.image_size)


def feature_bytes(images: int, config: FeaturesConfig) -> int:
    """Return the bytes of the tensors that the feature store of so many images holds; 0 where features are not stored."""
    if config.mode == "live":
        return 0
    return images * sum(map(math.prod, _output(config).shapes)) * np.dtype(config.dtype).itemsize


def map_bytes(images: Images, image_size: int) -> int:
    """Return the bytes of the maps and masks of test and held-out images that `score` writes."""
    return image_size**2 * PIXEL_BYTES * (images.test + images.held_out)


def _training(benchmark: BenchmarkConfig, data: DownloadConfig, workspace: Workspace) -> TrainingPlan:
    images, config = _count(benchmark, data, workspace), benchmark.features
    if images is None:
        return TrainingPlan(benchmark.name, None)
    try:
        steps = training_steps(images.train, _output(config), benchmark.train)
    except InputError as error:
        raise InputError(f"params.yaml: train.{benchmark.settings}.{error}") from None
    features = feature_bytes(sum(images), config)
    steps *= len(benchmark.seeds)
    plan = TrainingPlan(benchmark.name, images, steps, features, map_bytes(images, config.image_size))
    if not benchmark.train.SYNTHETIC_ANOMALIES:
        return plan
    return replace(
        plan,
        painted=steps * benchmark.train.batch_size,
        multiply_adds=len(benchmark.seeds)
        * painted_training_multiply_adds(_output(config), benchmark.train, images.train),
        decoded=kept_bytes(images.train, config.image_size),
    )


def _data(dataset: str, config: DownloadConfig, workspace: Workspace) -> DataPlan:
    """Return the bytes of a data set's official archives; of other sources nothing is fetched, and nor is a local archive."""
    folder, fetch, disk = store_folder(dataset, config, workspace), 0, 0
    for archive in DATASETS[dataset].release.archives if config.source == "official" else ():
        size = archive.size if is_address(config.files.get(archive.name, archive.url)) else 0
        disk += archive.unpacked_size + (size if config.keep_archives else 0)
        if unpacked_sha256(archive.name, folder / "files") is None:
            fetch += max(0, size - _bytes_in(folder / "archives", f"{archive.name}*"))  # also in part
    return DataPlan(dataset, config.source, folder, fetch, disk)


def _disks(data: list[DataPlan], trainings: list[TrainingPlan], workspace: Workspace) -> list[str]:
    """Return a line for each disk that is written to, and a warning where it has too little room."""
    writes = [(each.folder, max(0, each.disk - _bytes_in(each.folder))) for each in data]
    for each in trainings:
        outputs = ((each.features, workspace.features(each.name)), (each.maps, workspace.scores(each.name)))
        writes += [(workspace.root, _COPIES * max(0, size - _bytes_in(folder))) for size, folder in outputs]
    needed: dict[int, tuple[Path, int]] = {}
    for folder, size in writes:
        place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        first, before = needed.get(place.stat().st_dev, (place, 0))
        needed[place.stat().st_dev] = (first, before + size)
    lines = []
    for place, size in needed.values():
        free = shutil.disk_usage(place).free
        lines.append(f"disk of {place}: {readable(size)} to be written, DVC's copies included; {readable(free)} free")
        if size > free:
            lines.append(f"WARNING: {readable(size - free)} are lacking on that disk; make room or use another one")
    return lines


def _bytes_in(folder: Path, pattern: str = "*") -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())


def _size(size: int) -> str:
    return readable(size) if size else "-"
