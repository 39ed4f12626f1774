"""What interrupted runs and studies have left in the workspace: what it is, whether it is of use, and removing it."""

import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from invad.config import Params
from invad.data.split_table import open_split
from invad.errors import InputError
from invad.features import open_features
from invad.files import remove
from invad.training.checkpoints import newest_step
from invad.training.job import storage_name
from invad.training.owner import has_run_since, owner
from invad.workspace import Workspace

_RECENT_SECONDS = 300.0  # an extraction writes no process id down, but something every few minutes

# The names that `atomic_path` gives: of what, and by which process; a database that was being written has files of SQLite's beside it.
_TEMPORARY = re.compile(r"\.(.+)\.(\d+)\.tmp(?:-journal|-wal|-shm)?")
_RWLOCK = "rwlock"

State = Literal["old", "useful", "running"]


@dataclass(frozen=True)
class Leftover:
    """A folder or file that is no output of a stage.

    `age`: seconds since something in it changed. `what`: it is, in words. `state`: `useful` when a start may go on from it, `running`
    when a process works in it now.
    """

    path: Path
    size: int
    age: float
    what: str
    state: State


def find_leftovers(params: Params, workspace: Workspace) -> list[Leftover]:
    """Return all leftovers, by path; those of finished runs are removed by the runs themselves."""
    present = _present_storages(params, workspace)

    def training(path: Path) -> tuple[str, bool]:
        step = newest_step(path)
        return f"training, {f'checkpoint of step {step}' if step else 'no checkpoint'}", path.name in present

    def study(path: Path) -> tuple[str, bool]:
        trials = sum(1 for _ in path.glob("trials/*"))
        return f"study, {trials} trials begun", True  # its settings may be of the command line

    def extraction(path: Path) -> tuple[str, bool]:
        benchmark = path.name.removeprefix(".").rsplit(".", 2)[0]
        is_stored = benchmark in params.benchmarks and params.benchmark(benchmark).features.mode == "store"
        return f"extraction, {sum(1 for _ in path.glob('*.arrow'))} shards", is_stored

    private = workspace.private
    found = [
        *_describe(_folders(private / "ray"), training),
        *_describe(_folders(private / "studies"), study),
        *_describe(_folders(private / "features"), lambda _path: ("features of studies", True)),
        *_describe(workspace.features("x").parent.glob(".*.partial"), extraction, by_age=True),
        *_describe(_temporaries(workspace), lambda path: (f"{_named(path)} that was being written", False)),
        *_describe(_broken_locks(workspace), lambda _path: ("DVC's list of what is in use, cut off by a kill", False)),
    ]
    return sorted(found, key=lambda leftover: leftover.path)


def remove_leftovers(leftovers: Iterable[Leftover], *, everything: bool) -> list[Leftover]:
    """Remove those that are old, with `everything` the useful ones too; return what was removed. What is running stays."""
    chosen = [each for each in leftovers if each.state == "old" or (everything and each.state == "useful")]
    removed = []
    for leftover in chosen:
        if not _is_running(leftover.path):  # it may have been started since
            remove(leftover.path)
            removed.append(leftover)
    return removed


def _present_storages(params: Params, workspace: Workspace) -> set[str]:
    """Return the names of the storages that trainings with the present settings would go on from."""
    names = set()
    if not (workspace.private / "ray").is_dir():
        return names
    for name, benchmark in params.benchmarks.items():
        try:
            split = open_split(benchmark, workspace)
            key = open_features(workspace.features(name), "train", split, benchmark.features).key
        except InputError:  # without features, or with others, the training would be another one
            continue
        names.add(storage_name(name, key, benchmark.train, params.training))
    return names


def _folders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []


def _temporaries(workspace: Workspace) -> Iterator[Path]:
    """Yield what `atomic_path` left of processes that were killed; not that in the other leftovers, with which it goes."""
    private = workspace.private
    apart = {private / "ray", private / "studies", private / "features"}
    root = workspace.root
    yield from (path for path in root.glob(".*.tmp*") if _TEMPORARY.fullmatch(path.name))
    for start in (root / "data", root / "models", root / "reports", private):
        for folder, folders, files in os.walk(start):
            here = Path(folder)
            yield from (here / name for name in (*folders, *files) if _TEMPORARY.fullmatch(name))
            folders[:] = [
                name for name in folders if not name.endswith((".partial", ".tmp")) and here / name not in apart
            ]


def _named(path: Path) -> str:
    match = _TEMPORARY.fullmatch(path.name)
    return match[1] if match else path.name


def _broken_locks(workspace: Workspace) -> list[Path]:
    """Return DVC's `rwlock` where it is no JSON: it is written in place, and with one that was cut off every `dvc` refuses to start."""
    path = workspace.root / ".dvc" / "tmp" / _RWLOCK
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except ValueError:
        return [path]
    return []


def _describe(
    paths: Iterable[Path], describe: Callable[[Path], tuple[str, bool]], *, by_age: bool = False
) -> list[Leftover]:
    leftovers = []
    for path in paths:
        try:
            itself, files = path.lstat(), [file.lstat() for file in path.rglob("*") if not file.is_dir()]
        except FileNotFoundError:  # finished, or removed, meanwhile
            continue
        age = max(0.0, time.time() - max(file.st_mtime for file in (itself, *files)))
        what, is_useful = describe(path)
        is_running = _is_running(path) or (by_age and age < _RECENT_SECONDS)
        state: State = "running" if is_running else "useful" if is_useful else "old"
        leftovers.append(Leftover(path, sum(file.st_size for file in files or [itself]), age, what, state))
    return leftovers


def _is_running(path: Path) -> bool:
    """Return whether a process works there: a training leaves its id in its folder, a study holds a lock, a temporary has an id as name."""
    if match := _TEMPORARY.fullmatch(path.name):
        return path.exists() and has_run_since(int(match[2]), path.stat().st_mtime)
    process = owner(path)
    if process is not None and process.is_alive():
        return True
    lock = path.with_name(f"{_RWLOCK}.lock") if path.name == _RWLOCK else path / "lock"
    if not lock.is_file():
        return False
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
