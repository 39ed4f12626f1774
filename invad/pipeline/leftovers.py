"""What interrupted runs and studies have left in the workspace: what it is, whether it is of use, and removing it."""

import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
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
    """A folder or file that is no output of a stage, `age` seconds since it changed; `useful` when a start may go on from it."""

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

    def extraction(path: Path) -> tuple[str, bool]:
        benchmark = path.name.removeprefix(".").rsplit(".", 2)[0]
        is_stored = benchmark in params.benchmarks and params.benchmark(benchmark).features.mode == "store"
        return f"extraction, {len(list(path.glob('*.arrow')))} shards", is_stored

    def study(path: Path) -> tuple[str, bool]:
        return (
            f"study, {len(list(path.glob('trials/*')))} trials begun",
            True,
        )  # its settings may be of the command line

    private = workspace.private
    kinds: list[tuple[Iterable[Path], Callable[[Path], tuple[str, bool]]]] = [
        (private.glob("ray/*/"), training),
        (private.glob("studies/*/"), study),
        (private.glob("features/*/"), lambda _: ("features of studies", True)),
        (workspace.features("x").parent.glob(".*.partial"), extraction),
        (_temporaries(workspace), lambda path: (f"{path.name[1:].rsplit('.', 2)[0]} that was being written", False)),
        (_broken_locks(workspace), lambda _: ("DVC's list of what is in use, cut off by a kill", False)),
    ]
    found = (_described(path, describe) for paths, describe in kinds for path in list(paths))
    return sorted(filter(None, found), key=lambda leftover: leftover.path)


def remove_leftovers(leftovers: Iterable[Leftover], *, everything: bool) -> list[Leftover]:
    """Remove those that are old, with `everything` the useful ones too; return what was removed. What is running stays."""
    chosen = [each for each in leftovers if each.state == "old" or (everything and each.state == "useful")]
    removed = [each for each in chosen if not _is_running(each.path)]  # it may have been started since
    for each in removed:
        remove(each.path)
    return removed


def _present_storages(params: Params, workspace: Workspace) -> set[str]:
    """Return the names of the storages that trainings with the present settings would go on from."""
    names = set()
    if not (workspace.private / "ray").is_dir():
        return names
    for name, benchmark in params.benchmarks.items():
        with suppress(InputError):  # without features, or with others, the training would be another one
            split = open_split(benchmark, workspace)
            key = open_features(workspace.features(name), "train", split, benchmark.features).key
            names.add(storage_name(name, key, benchmark.train, params.training))
    return names


def _temporaries(workspace: Workspace) -> Iterator[Path]:
    """Yield what `atomic_path` left of processes that were killed; not that in the other leftovers, with which it goes."""
    private, root = workspace.private, workspace.root
    apart = {private / "ray", private / "studies", private / "features"}
    yield from (path for path in root.glob(".*.tmp*") if _TEMPORARY.fullmatch(path.name))
    for start in (root / "data", root / "models", root / "reports", private):
        for folder, folders, files in os.walk(start):
            here = Path(folder)
            yield from (here / name for name in (*folders, *files) if _TEMPORARY.fullmatch(name))
            folders[:] = [
                name for name in folders if not name.endswith((".partial", ".tmp")) and here / name not in apart
            ]


def _broken_locks(workspace: Workspace) -> list[Path]:
    """Return DVC's `rwlock` where it is no JSON: it is written in place, and with one that was cut off every `dvc` refuses to start."""
    path = workspace.root / ".dvc" / "tmp" / _RWLOCK
    try:
        json.loads(path.read_text(encoding="utf-8") if path.exists() else "{}")
    except ValueError:
        return [path]
    return []


def _described(path: Path, describe: Callable[[Path], tuple[str, bool]]) -> Leftover | None:
    """Return the leftover with what `describe` says: what it is, and whether it is of use; None where it is gone meanwhile."""
    try:
        itself, files = path.lstat(), [file.lstat() for file in path.rglob("*") if not file.is_dir()]
    except FileNotFoundError:
        return None
    age = max(0.0, time.time() - max(file.st_mtime for file in (itself, *files)))
    what, is_useful = describe(path)
    is_running = _is_running(path) or (path.suffix == ".partial" and age < _RECENT_SECONDS)
    state: State = "running" if is_running else "useful" if is_useful else "old"
    return Leftover(path, sum(file.st_size for file in files or [itself]), age, what, state)


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
