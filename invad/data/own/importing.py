"""`invad-pipe data import`: a user's images become a data set and a benchmark of their own."""

import math
import re
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from invad.config import AS_STORED, BenchmarkConfig, Params, TableSplitConfig, load_params, reading_of
from invad.config.constants import PUBLISHED_DATASETS
from invad.config.params_file import add_benchmark, remove_dataset, template, update_download
from invad.data.counts import describe
from invad.data.listing import named
from invad.data.own.folders import Discovery, Layout, discover
from invad.data.own.table import split_rows, with_phases, write_import_table
from invad.data.split_table import ANOMALOUS, SplitRow, hold_out
from invad.errors import InputError
from invad.files import atomic_path
from invad.text import aligned
from invad.workspace import Workspace

# Optimiser steps below which maps are not worth a threshold. The quick run's 20 epochs of 24 images are 60.
LEAST_STEPS = {"cpu": 600, "gpu": 3000}
GPU_SIDE = 256  # pixels of the published recipe
KEPT, MOST_KEPT = 30, 1 / 3  # images of a class to take thresholds from, and the share that they may be


def import_data(
    name: str,
    images: Path,
    table: Path | None,
    *,
    workspace: Workspace,
    like: str | None,
    params_path: Path,
    force: bool,
    config: TableSplitConfig,
    layout: Layout | None = None,
    gpu: bool = False,
) -> str:
    """Write the table of the images in the folder `images`, add data set and benchmark `name`, and return the text to print.

    Its settings are those of benchmark `like`; without one, of the first, with the `recipe` for these images. With `force`, the table of a
    data set that is there is replaced, and its benchmark's settings stay. `InputError`, and nothing is written: anything is wrong.
    """
    params = load_params(params_path)
    target = workspace.imported_table(name)
    _check_name(name, params, target, force=force)
    built = [each.splits for each in params.benchmarks.values() if each.dataset == name]
    config = next((splits for splits in built if isinstance(splits, TableSplitConfig)), config)
    discovery = discover(name, images.expanduser(), table.expanduser() if table else None, layout)
    rows = with_phases(discovery.rows, config)
    split = split_rows(discovery.root, rows, reading_of(config), name, str(table or images))
    of_params = Workspace().imported_table(name).as_posix()  # relative to the folder of params.yaml
    download = {"source": "path", "path": str(discovery.root.absolute()), "table": of_params}
    with atomic_path(target) as temporary:  # gets its name last: when the settings cannot be written, nothing is
        write_import_table(discovery.rows, temporary)
        if name in params.download:
            update_download(params_path, name, download)
            settings = f"data set {name} refreshed, the settings of its benchmark stay as they are"
        else:
            counts = Counter(row.class_name for row in split if row.phase == "train")
            splits = {
                key: value for key, value in asdict(config).items() if value not in (None, getattr(AS_STORED, key, ...))
            }
            base = template(params, like)
            own = {} if like else recipe(counts.total(), base, gpu=gpu, classes=len(counts))
            add_benchmark(params_path, name, download=download, splits=splits, like=base.name, recipe=own)
            settings = f"benchmark {name} added, its features, train and score copied from {base.name}"
            settings += "" if like else ", and fitted to these images"
    commands = [f"dvc repro splits@{name}", f"invad-pipe data check {name}", f"dvc repro evaluate@{name}"]
    if not workspace.root.joinpath("dvc.yaml").exists():
        commands = commands[1:2]
    elif name in params.download:
        commands = [f"dvc repro -f download@{name}", *commands]
    written = [
        f"{name}: {describe(split)}",
        f"{target}: written, {len(split)} images; keep it in git, and edit it where it is wrong",
        f"{params_path}: {settings}",
        *_training_notes(name, load_params(params_path), split),
    ]
    return "\n".join([understanding(discovery), "", *written, "", "next:", *(f"  {each}" for each in commands)])


def remove_data(name: str, *, workspace: Workspace, params_path: Path) -> str:
    """Take back what `import_data` did: the table, the data set and all its benchmarks; return the text to print.

    `InputError`, and nothing is removed: there is no such data set, it was not imported, or other settings need it.
    """
    params, table = load_params(params_path), workspace.imported_table(name)
    if (download := params.dataset(name)).table is None:
        own = sorted(each for each, config in params.download.items() if config.table is not None)
        raise InputError(f"{name}: was not imported; imported are {', '.join(own) or 'none'}")
    benchmarks = [benchmark.name for benchmark in params.benchmarks.values() if benchmark.dataset == name]
    remove_dataset(params_path, name, benchmarks)
    table.unlink(missing_ok=True)
    return (
        f"{params_path}: data set {name} removed, and what is built on it: {', '.join(benchmarks)}\n"
        f"{table}: removed\n{download.path}: the images stay as they are, and so do results"
    )


def recipe(images: int, like: BenchmarkConfig, *, gpu: bool, classes: int = 1) -> dict[str, dict[str, Any]]:
    """Return what is set otherwise than in the benchmark `like`, as sections of plain values.

    `images`: normal ones of all `classes` to train on, those that calibration will keep included. What `like` has more of stays.
    """
    share = round(min(MOST_KEPT, max(like.calibration.share or 0.1, KEPT * classes / images)), 2)
    left = max(1, images - max(classes, round(share * images)))
    batch_size = min(like.train.batch_size, left)
    epochs = max(like.train.epochs, math.ceil(LEAST_STEPS["gpu" if gpu else "cpu"] / (left // batch_size)))
    sections: dict[str, dict[str, Any]] = {"calibration": {"share": share}, "train": {"epochs": epochs}}
    if batch_size < like.train.batch_size:
        rate = like.train.learning_rate * batch_size / like.train.batch_size
        sections["train"] |= {"batch_size": batch_size, "learning_rate": rate}
    if gpu and like.features.image_size < GPU_SIDE:
        sections |= {"features": {"image_size": GPU_SIDE}, "score": {"sigma": "method"}}
    return sections


def understanding(discovery: Discovery) -> str:
    """Return what was understood as text to print: layout, counts of each class, masks without an image, notes."""
    more = ["labelled"] * any(row.phase == "labelled" for row in discovery.rows)
    more += ["objects"] * any(row.group for row in discovery.rows)
    table = [["class", "train normal", "test normal", "normal without phase", "anomalous", "masks missing", *more]]
    for name in sorted({row.class_name for row in discovery.rows}):
        of_class = [row for row in discovery.rows if row.class_name == name]
        rows = [row for row in of_class if row.phase != "labelled"]
        normal = Counter(row.phase for row in rows if row.label != ANOMALOUS)
        missing = sum(row.label == ANOMALOUS and row.mask is None for row in rows)
        numbers = [normal["train"], normal["test"], normal[""], len(rows) - normal.total(), missing]
        others = {"labelled": len(of_class) - len(rows), "objects": len({row.unit for row in of_class})}
        table.append([name, *map(str, [*numbers, *(others[each] for each in more)])])
    notes, masks = discovery.notes, discovery.unmatched_masks
    if masks:
        notes = [f"masks without an image, left out ({len(masks)}): {named(masks)}", *notes]
    return "\n".join([f"layout: {discovery.layout}", "", *aligned(table), *(f"note: {note}" for note in notes)])


def _training_notes(name: str, params: Params, split: list[SplitRow]) -> list[str]:
    """Say how the benchmarks of data set `name` are trained and what comes of it."""
    notes = []
    for benchmark in (one for one in params.benchmarks.values() if one.dataset == name):
        phases = Counter(row.phase for row in hold_out(split, benchmark.calibration))
        images, kept, train = phases["train"], phases["calibration"], benchmark.train
        notes.append(
            f"recipe for {images} images: {train.epochs} epochs of {train.model} at {benchmark.features.image_size} pixels, "
            f"{train.epochs * (images // train.batch_size)} steps; --like takes another benchmark's"
        )
        if kept:
            notes.append(
                f"params.yaml: calibration.{benchmark.settings}.share: keeps {kept} images for thresholds; about 1 in {kept + 1} normal "
                "images will lie above them, fewer with more images"
            )
    return notes


def _check_name(name: str, params: Params, table: Path, *, force: bool) -> None:
    if not re.fullmatch("[A-Za-z0-9_-]+", name):
        raise InputError(f"{name!r}: the name must be of letters, digits, _ and - only")
    if name in PUBLISHED_DATASETS:
        raise InputError(f"{name}: is the name of a published data set; choose another one")
    taken = name in params.download or name in params.benchmarks or table.exists()
    if taken and not force:
        raise InputError(f"{name}: there is a data set or benchmark of this name already; --force imports it again")
