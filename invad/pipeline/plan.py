"""`invad-pipe plan`: what `dvc repro` fetches, trains on and writes, counted before it starts.

Sizes are those of tensors and of published archives. What neither settings nor files tell is said to be unknown; nothing is guessed.
"""

import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from invad.config import (
    BenchmarkConfig,
    CocoAdSplitConfig,
    DownloadConfig,
    EncoderName,
    FeaturesConfig,
    Params,
    TrainConfig,
)
from invad.config.constants import STRIDES
from invad.data.coco_ad import CLASS_NAME, FULL_COUNTS, FULL_HELD_OUT
from invad.data.counts import MVTEC_COUNTS, VISA_COUNTS, Counts, count_images
from invad.data.download import store_folder
from invad.data.embedded import mvtec, visa
from invad.data.hold_out import held_out_images
from invad.data.official.http import partial_path
from invad.data.official.releases import official_archives
from invad.data.official.unpack import unpacked_sha256
from invad.data.source import read_source
from invad.data.split_table import FILE_NAME, read_split_table
from invad.disk import readable
from invad.errors import InputError
from invad.features.encoder import EncoderOutput
from invad.text import aligned
from invad.training.loop import steps_per_epoch
from invad.workspace import Workspace

_TABLE = "split table"
_COPIES = 2  # of a stage's output: in the workspace and in DVC's cache
_MAP_BYTES, _MASK_BYTES = 4, 1  # of a pixel in data/scores: float32, uint8
_NOT_COUNTED = (
    "not counted: the encoder's weights, generated images, COCO-AD's masks, models and checkpoints,",
    "what studies keep in .invad, reports, MLflow's records; `dvc status` says which stages will run",
)


@dataclass(frozen=True)
class Images:
    """Numbers of images to train on, held out from training, and to test on. `counted_in`: what says so."""

    train: int
    held_out: int
    test: int
    counted_in: str


@dataclass(frozen=True)
class DataPlan:
    """A data set, in bytes: still to be fetched, of its archives and their files on the disk, of these still to be written to `folder`.

    `unknown`: what is fetched and has no published size, so that the bytes are the least.
    """

    dataset: str
    source: str
    folder: Path
    fetch: int = 0
    disk: int = 0
    to_write: int = 0
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingPlan:
    """A benchmark, or an ablation of one (`ablate@<module>`), whose stage has neither features nor maps as outputs.

    `features`, `maps`: bytes of the outputs of `features` and `score`. `to_write`: bytes that are not there yet, with DVC's copies.
    None: not known. `problem`: why training will be refused.
    """

    name: str
    images: Images | None
    steps: int | None = None
    features: int | None = 0
    maps: int | None = 0
    to_write: int | None = 0
    problem: str = ""


@dataclass(frozen=True)
class Plan:
    """What the settings of a workspace ask for."""

    data: tuple[DataPlan, ...]
    trainings: tuple[TrainingPlan, ...]


def make_plan(params: Params, workspace: Workspace) -> Plan:
    """Return the plan of all settings; nothing is downloaded, generated or run.

    Raises:
        InputError: A setting that its stage would not accept: a class of MVTec AD that there is not, a variant that fits no model.
    """
    images = {name: count(each, params.dataset(each.dataset), workspace) for name, each in params.benchmarks.items()}
    missing = {
        params.benchmark(name).dataset for name, each in images.items() if each is None or each.counted_in != _TABLE
    }
    data = (
        _data(name, config, store_folder(name, config, workspace), has_tables=name not in missing)
        for name, config in params.download.items()
    )
    benchmarks = (_benchmark(each, images[name], workspace) for name, each in params.benchmarks.items())
    return Plan(tuple(data), (*benchmarks, *(_ablation(module, params, images) for module in params.ablations)))


def plan_text(params: Params, workspace: Workspace) -> str:
    """Return the plan as text: a table of data sets, one of trainings, and what is to be written beside what is free on the disk.

    Raises:
        InputError: As for `make_plan`.
    """
    plan = make_plan(params, workspace)
    notes = [
        f"note: {each.dataset}: no size is published of {', '.join(each.unknown)}" for each in plan.data if each.unknown
    ]
    if any(each.images is None for each in plan.trainings):
        notes.append("note: what is ? is counted in split tables, which `dvc repro download splits` writes")
    notes += [f"WARNING: {each.name}: {each.problem}" for each in plan.trainings if each.problem]
    tables = [*_data_table(plan.data), "", *_training_table(plan.trainings), ""]
    return "\n".join([*tables, *_disks(plan, workspace), *_NOT_COUNTED, *notes])


def count(benchmark: BenchmarkConfig, config: DownloadConfig, workspace: Workspace) -> Images | None:
    """Return the images of a benchmark, from its split table, the settings or the published numbers; None where none of them tells.

    A split table counts when it was made of the data that are in place, and these are of the source that the settings name.
    """
    counted_in, classes = _TABLE, _of_table(benchmark, config, workspace)
    if not classes and config.source == "embedded":
        # Of COCO it shows only when the scenes are drawn which of them are normal.
        names = {"mvtec": list(mvtec.DEFECTS), "visa": list(visa.DEFECTS)}.get(benchmark.dataset, [])
        counted_in, classes = "settings", {name: Counts(config.train_images, config.test_images, 0) for name in names}
    elif not classes and config.source == "official":
        counted_in, classes = "published", _published(benchmark, config)
    if not classes:
        return None
    held_out = sum(held_out_images(counts.train, benchmark.calibration.share) for counts in classes.values())
    train, normal, anomalous = (sum(column) for column in zip(*classes.values(), strict=True))
    return Images(train - held_out, held_out, normal + anomalous, counted_in)


def _of_table(benchmark: BenchmarkConfig, config: DownloadConfig, workspace: Workspace) -> Mapping[str, Counts]:
    try:
        source = read_source(workspace.raw(benchmark.dataset))
        rows, metadata = read_split_table(workspace.split(benchmark.name) / FILE_NAME)
    except InputError:  # not there yet, or no longer
        return {}
    is_of_these = source.source == config.source and metadata.get("data_sha256") == source.sha256
    return count_images(rows) if is_of_these else {}


def _published(benchmark: BenchmarkConfig, config: DownloadConfig) -> Mapping[str, Counts]:
    split = benchmark.splits
    if isinstance(split, CocoAdSplitConfig):
        return {CLASS_NAME: Counts(*FULL_COUNTS[split.fold])} if split.held_out == FULL_HELD_OUT else {}
    counts = VISA_COUNTS if benchmark.dataset == "visa" else MVTEC_COUNTS
    return {name: counts[name] for name in config.classes or counts if name in counts}


@cache
def _channels(encoder: EncoderName) -> tuple[int, ...]:
    """Return the channels of an encoder's levels, fine to coarse, from a network of shapes without weights."""
    import timm

    with torch.device("meta"):
        network: Any = timm.create_model(encoder, features_only=True)
    channels = dict(zip(network.feature_info.reduction(), network.feature_info.channels(), strict=True))
    return tuple(channels[stride] for stride in STRIDES)


def feature_bytes(images: int, config: FeaturesConfig) -> int:
    """Return the bytes of the tensors that the feature store of so many images holds; 0 where features are not stored."""
    if config.mode == "live":
        return 0
    shapes = EncoderOutput(config.encoder, _channels(config.encoder), config.image_size).shapes
    return images * sum(map(math.prod, shapes)) * np.dtype(config.dtype).itemsize


def map_bytes(images: Images, image_size: int) -> int:
    """Return the bytes of the maps and masks of test and held-out images that `score` writes."""
    return image_size**2 * (_MAP_BYTES + _MASK_BYTES) * (images.test + images.held_out)


def _steps(images: Images, trainings: Iterable[TrainConfig]) -> tuple[int, str]:
    """Return the steps of all trainings, and why they will be refused."""
    try:
        return sum(steps_per_epoch(images.train, config) * config.epochs for config in trainings), ""
    except InputError as error:
        return 0, str(error)


def _benchmark(benchmark: BenchmarkConfig, images: Images | None, workspace: Workspace) -> TrainingPlan:
    name, config = benchmark.name, benchmark.features
    if images is None:
        return TrainingPlan(name, None, features=0 if config.mode == "live" else None, maps=None, to_write=None)
    features = feature_bytes(images.train + images.held_out + images.test, config)
    maps = map_bytes(images, config.image_size)
    missing = _missing(features, workspace.features(name)) + _missing(maps, workspace.scores(name))
    steps, problem = _steps(images, [benchmark.train])
    return TrainingPlan(name, images, steps, features, maps, _COPIES * missing, problem)


def _missing(size: int, folder: Path) -> int:
    return max(0, size - sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))


def _ablation(module: str, params: Params, of_benchmark: Mapping[str, Images | None]) -> TrainingPlan:
    from invad.studies.ablation import ablation_of_params, plan_ablation

    study = plan_ablation(module, ablation_of_params(module, params), params)
    images, name = of_benchmark[study.base.name], f"ablate@{module}"
    if images is None:
        return TrainingPlan(name, None)
    # Trials that differ in their maps alone share a training.
    trainings = {
        (each.seed, "" if study.shares_training else each.variant): each.benchmark.train for each in study.trials()
    }
    steps, problem = _steps(images, trainings.values())
    return TrainingPlan(name, images, steps, problem=problem)


def _data(dataset: str, config: DownloadConfig, folder: Path, *, has_tables: bool) -> DataPlan:
    """Return the bytes of a data set's official archives; of other sources nothing is fetched, and nor is a local archive."""
    if config.source != "official":
        return DataPlan(dataset, config.source, folder)
    fetch, disk, to_write, unknown = 0, 0, 0, []
    for archive in official_archives(dataset, config):
        remote = archive.remote
        is_local = not config.files.get(remote.name, remote.url).startswith(("http://", "https://"))
        size = 0 if is_local else remote.size or 0
        disk += archive.unpacked_size + (size if config.keep_archives else 0)
        if unpacked_sha256(remote.name, folder / "files") is None:
            path = folder / "archives" / remote.name
            files = [file for file in (path, partial_path(path)) if file.is_file()]
            missing = max(0, size - sum(file.stat().st_size for file in files))
            fetch, to_write = fetch + missing, to_write + missing + archive.unpacked_size
            if remote.size is None and not is_local:
                unknown.append(remote.name)
    if dataset == "coco" and config.images == "needed" and not has_tables:
        unknown.append("the single images that `splits` fetches")
    return DataPlan(dataset, config.source, folder, fetch, disk, to_write, tuple(unknown))


def _data_table(data: Sequence[DataPlan]) -> list[str]:
    rows: list[tuple[str, ...]] = [("data set", "source", "to fetch", "archives and files")]
    for each in data:
        least = "> " if each.unknown else ""
        rows.append((each.dataset, each.source, *(f"{least}{_size(size)}" for size in (each.fetch, each.disk))))
    return aligned(rows, left=(0, 1))


def _training_table(trainings: Sequence[TrainingPlan]) -> list[str]:
    rows: list[tuple[str, ...]] = [
        ("training", "images", "held out", "test", "counted in", "steps", "features", "maps")
    ]
    for each in trainings:
        images = each.images
        counts = (f"{images.train:,}", f"{images.held_out:,}", f"{images.test:,}") if images else ("?", "?", "?")
        rows.append((each.name, *counts, images.counted_in if images else "-", *_numbers([each])))
    return aligned([*rows, ("total", "", "", "", "", *_numbers(trainings))], left=(0, 4))


def _numbers(trainings: Sequence[TrainingPlan]) -> tuple[str, str, str]:
    """Return steps and bytes of all `trainings` together."""
    return (
        _sum([each.steps for each in trainings], "{:,}".format),
        _sum([each.features for each in trainings], _size),
        _sum([each.maps for each in trainings], _size),
    )


def _sum(numbers: Sequence[int | None], text: Callable[[int], str]) -> str:
    known = [number for number in numbers if number is not None]
    return f"{'> ' if len(known) < len(numbers) else ''}{text(sum(known))}" if known else "?"


def _size(size: int) -> str:
    return readable(size) if size else "-"


def _disks(plan: Plan, workspace: Workspace) -> list[str]:
    """Return a line for each disk that is written to, and a warning where it has too little room."""
    writes = [(each.folder, each.to_write) for each in plan.data]
    writes += [(workspace.root, each.to_write or 0) for each in plan.trainings]
    is_least = any(each.unknown for each in plan.data) or any(each.to_write is None for each in plan.trainings)
    needed: dict[int, int] = {}
    folders: dict[int, Path] = {}
    for folder, size in writes:
        place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        disk = place.stat().st_dev
        needed[disk] = needed.get(disk, 0) + size
        folders.setdefault(disk, place)
    lines = []
    for disk, size in needed.items():
        free, amount = shutil.disk_usage(folders[disk]).free, f"{'more than ' if is_least else ''}{readable(size)}"
        lines.append(f"disk of {folders[disk]}: {amount} to be written, DVC's copies included; {readable(free)} free")
        if size > free:
            lines.append(f"WARNING: {readable(size - free)} are lacking on that disk; make room or use another one")
    return lines
