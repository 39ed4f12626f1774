"""`invad-pipe data import`: a user's images become a data set and a benchmark of their own."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from invad.config import AS_STORED, Params, TableSplitConfig, load_params, reading_of
from invad.config.constants import PUBLISHED_DATASETS
from invad.config.params_file import add_benchmark, remove_dataset, template, update_download
from invad.data.counts import describe
from invad.data.hold_out import hold_out
from invad.data.listing import NAMED
from invad.data.own.folders import FolderNames
from invad.data.own.layouts import Discovery, discover
from invad.data.own.recipe import recipe, recipe_notes
from invad.data.own.rows import ImportRow
from invad.data.own.table import split_rows, with_phases, write_import_table
from invad.data.split_table import ANOMALOUS, SplitRow
from invad.errors import InputError
from invad.files import atomic_path
from invad.text import aligned
from invad.workspace import Workspace

_COLUMNS = (
    "class",
    "train normal",
    "test normal",
    "normal without phase",
    "anomalous",
    "masks matched",
    "masks missing",
)


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
    names: FolderNames | None = None,
    gpu: bool = False,
) -> str:
    """Write the table of the images in the folder `images`, add data set and benchmark `name`, and return the text to print.

    The benchmark's settings are those of benchmark `like`; without one, of the first, with the `recipe` for these images and, with
    `gpu`, for a machine that has one. With `force`, the table of a data set that is there is replaced, and its
    benchmark's settings stay. `names` are those of folders that are not called good, bad and masks. Nothing is written where anything
    is wrong.

    Raises:
        InputError: The name cannot be one or is taken; or as for `discover`, `split_rows`, `load_params` and `add_benchmark`.
    """
    params = load_params(params_path)
    target = workspace.imported_table(name)
    _check_name(name, params, target, force=force)
    config = _splits_of(name, params) or config
    discovery = discover(name, images.expanduser(), table.expanduser() if table else None, names)
    rows = with_phases(discovery.rows, config)
    split = split_rows(discovery.root, rows, reading_of(config), name, str(table or images))
    download = {
        "source": "path",
        "path": str(discovery.root.absolute()),
        "table": Workspace().imported_table(name).as_posix(),  # relative to the folder of params.yaml
    }
    with atomic_path(target) as temporary:  # gets its name last: when the settings cannot be written, nothing is
        write_import_table(discovery.rows, temporary)
        if name in params.download:
            update_download(params_path, name, download)
            settings = f"data set {name} refreshed, the settings of its benchmark stay as they are"
        else:
            splits = {"seed": config.seed, "test_share": config.test_share, **_reading_settings(config)}
            counts = Counter(row.class_name for row in split if row.phase == "train")
            base = template(params, like)
            own = {} if like else recipe(counts.total(), base, gpu=gpu, classes=len(counts))
            add_benchmark(params_path, name, download=download, splits=splits, like=base.name, recipe=own)
            settings = f"benchmark {name} added, its features, train and score copied from {base.name}"
            settings += "" if like else ", and fitted to these images"
    return "\n".join(
        [
            understanding(discovery),
            "",
            f"{name}: {describe(split)}",
            f"{target}: written, {len(split)} images; keep it in git, and edit it where it is wrong",
            f"{params_path}: {settings}",
            *_reading_notes(config),
            *_training_notes(name, load_params(params_path), split, gpu=gpu),
            "",
            "next:",
            *(f"  {command}" for command in _next_commands(name, workspace, refreshed=name in params.download)),
        ]
    )


def _reading_settings(config: TableSplitConfig) -> dict[str, Any]:
    """Return what of the settings says that images are not read as they are stored."""
    reading, default = asdict(reading_of(config)), asdict(AS_STORED)
    return {key: value for key, value in reading.items() if value != default[key]}


def _reading_notes(config: TableSplitConfig) -> list[str]:
    notes = []
    if config.exif_rotation:
        notes.append("images are turned as EXIF says")
    if config.grey16_white is not None:
        white = config.grey16_white
        notes.append(f"16-bit grey is scaled: 0 to {white} become 0 to 255, and what lies above is white")
    return notes


def remove_data(name: str, *, workspace: Workspace, params_path: Path) -> str:
    """Take back what `import_data` did: the table, the data set and all its benchmarks; return the text to print.

    The images stay, and so do results, of which DVC's cache and MLflow have more than a folder.

    Raises:
        InputError: There is no such data set, or it was not imported; or as for `remove_dataset`. Nothing is removed then.
    """
    params = load_params(params_path)
    table = workspace.imported_table(name)
    download = params.dataset(name)
    if name in PUBLISHED_DATASETS or download.table is None:
        own = sorted(each for each, config in params.download.items() if config.table is not None)
        raise InputError(f"{name}: was not imported; imported are {', '.join(own) or 'none'}")
    benchmarks = [benchmark.name for benchmark in params.benchmarks.values() if benchmark.dataset == name]
    remove_dataset(params_path, name, benchmarks)
    lines = [f"{params_path}: data set {name} removed, and what is built on it: {', '.join(benchmarks)}"]
    if download.table == Workspace().imported_table(name).as_posix() and table.exists():
        table.unlink()
        lines.append(f"{table}: removed")
    left = [path for path in _results(workspace, name, benchmarks) if path.exists()]
    lines.append(f"{download.path}: the images stay as they are")
    if left:
        lines += ["", "results that are there still, of no use now:", *(f"  {path}" for path in left)]
    return "\n".join(lines)


def _results(workspace: Workspace, dataset: str, benchmarks: Iterable[str]) -> list[Path]:
    of_each = (workspace.split, workspace.features, workspace.model, workspace.scores, workspace.metrics)
    return [workspace.raw(dataset), *(folder(name) for name in benchmarks for folder in of_each)]


def _next_commands(name: str, workspace: Workspace, *, refreshed: bool) -> list[str]:
    """Return what to do next; outside of the repository, where there are no stages, the check builds the split itself."""
    check = f"invad-pipe data check {name}"
    if not workspace.root.joinpath("dvc.yaml").exists():
        return [check]
    fetch = [f"dvc repro -f download@{name}"] if refreshed else []
    return [*fetch, f"dvc repro splits@{name}", check, f"dvc repro evaluate@{name}"]


def _training_notes(name: str, params: Params, split: list[SplitRow], *, gpu: bool) -> list[str]:
    """Say how the benchmarks of data set `name` are trained, or that they cannot be."""
    lines = []
    for benchmark in (one for one in params.benchmarks.values() if one.dataset == name):
        phases = Counter(row.phase for row in hold_out(split, benchmark.calibration))
        lines += recipe_notes(benchmark, phases["train"], phases["calibration"], gpu=gpu)
    return lines


def understanding(discovery: Discovery) -> str:
    """Return what was understood as text to print: layout, counts of each class, masks without an image, notes."""
    lines = [f"layout: {discovery.layout}", "", *_class_lines(discovery.rows)]
    masks = discovery.unmatched_masks
    if masks:
        lines += ["", f"masks without an image, left out: {len(masks)}", *(f"  {name}" for name in masks[:NAMED])]
    if len(masks) > NAMED:
        lines.append(f"  and {len(masks) - NAMED} more")
    if discovery.notes:
        lines += ["", *(f"note: {note}" for note in discovery.notes)]
    return "\n".join(lines)


def _class_lines(rows: list[ImportRow]) -> list[str]:
    counts = Counter((row.class_name, _column(row)) for row in rows)
    counts.update((row.class_name, "anomalous") for row in rows if row.label == ANOMALOUS)
    classes = sorted({row.class_name for row in rows})
    return aligned([_COLUMNS, *((name, *(str(counts[name, column]) for column in _COLUMNS[1:])) for name in classes)])


def _column(row: ImportRow) -> str:
    """Return the column that counts `row`; anomalous images stand in one more."""
    if row.label == ANOMALOUS:
        return "masks missing" if row.mask is None else "masks matched"
    return f"{row.phase} normal" if row.phase else "normal without phase"


def _check_name(name: str, params: Params, table: Path, *, force: bool) -> None:
    if not re.fullmatch("[A-Za-z0-9_-]+", name):
        raise InputError(f"{name!r}: the name must be of letters, digits, _ and - only")
    if name in PUBLISHED_DATASETS:
        raise InputError(f"{name}: is the name of a published data set; choose another one")
    taken = name in params.download or name in params.benchmarks or table.exists()
    if taken and not force:
        raise InputError(f"{name}: there is a data set or benchmark of this name already; --force imports it again")


def _splits_of(name: str, params: Params) -> TableSplitConfig | None:
    """Return the splits section of a benchmark that is already built from data set `name`: the one of its name, or the first."""
    built = [benchmark for benchmark in params.benchmarks.values() if benchmark.dataset == name]
    built.sort(key=lambda benchmark: benchmark.name != name)
    return next((benchmark.splits for benchmark in built if isinstance(benchmark.splits, TableSplitConfig)), None)
