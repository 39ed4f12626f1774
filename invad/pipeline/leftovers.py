"""What interrupted runs and studies have left in the workspace: what it is, whether a start may go on from it, and removing it."""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from invad.files import remove
from invad.training.owner import has_run_since, owner
from invad.workspace import Workspace

_RECENT_SECONDS = 300.0  # an extraction writes no process id down, but something every few minutes

# The names that `atomic_path` gives: of what, and by which process; a database that was being written has files of SQLite's beside it.
_TEMPORARY = re.compile(r"\.(.+)\.(\d+)\.tmp(?:-journal|-wal|-shm)?")

State = Literal["old", "useful", "running"]


@dataclass(frozen=True)
class Leftover:
    """A folder or file that is no output of a stage, `age` seconds since it changed; `useful` when a start may go on from it."""

    path: Path
    size: int
    age: float
    what: str
    state: State


def find_leftovers(workspace: Workspace) -> list[Leftover]:
    """Return all leftovers, by path; those of finished runs are removed by the runs themselves."""
    private = workspace.private
    useful = {
        **dict.fromkeys(private.glob("ray/*/"), "checkpoints of a training"),
        **dict.fromkeys(private.glob("studies/*/"), "trials of a study"),
        **dict.fromkeys(private.glob("features/*/"), "features of studies"),
        **dict.fromkeys(workspace.features("x").parent.glob(".*.partial"), "features of an extraction"),
    }
    old = dict.fromkeys(_temporaries(workspace, useful), "was being written")
    found = [_leftover(path, what, useful=path in useful) for path, what in (useful | old).items()]
    return sorted(filter(None, found), key=lambda leftover: leftover.path)


def remove_leftovers(leftovers: Iterable[Leftover], *, everything: bool) -> list[Leftover]:
    """Remove those that are old, with `everything` the useful ones too; return what was removed. What is running stays."""
    chosen = [each for each in leftovers if each.state == "old" or (everything and each.state == "useful")]
    removed = [each for each in chosen if not _is_running(each.path)]  # it may have been started since
    for each in removed:
        remove(each.path)
    return removed


def _temporaries(workspace: Workspace, others: Iterable[Path]) -> list[Path]:
    """Return what `atomic_path` left of processes that were killed; not that in other leftovers, with which it goes."""
    root, apart = workspace.root, set(others)
    folders = (root / "data", root / "models", root / "reports", workspace.private)
    paths = [*root.glob(".*.tmp*"), *(path for folder in folders for path in folder.rglob(".*.tmp*"))]
    found = {path for path in paths if _TEMPORARY.fullmatch(path.name)}
    return [path for path in found if not (found | apart).intersection(path.parents)]


def _leftover(path: Path, what: str, *, useful: bool) -> Leftover | None:
    """Return what lies at `path`; None where it is gone meanwhile."""
    try:
        itself, files = path.lstat(), [file.lstat() for file in path.rglob("*") if not file.is_dir()]
    except FileNotFoundError:
        return None
    age = max(0.0, time.time() - max(file.st_mtime for file in (itself, *files)))
    is_running = _is_running(path) or (path.suffix == ".partial" and age < _RECENT_SECONDS)
    state: State = "running" if is_running else "useful" if useful else "old"
    return Leftover(path, sum(file.st_size for file in files or [itself]), age, what, state)


def _is_running(path: Path) -> bool:
    """Return whether a process works there: a training and a study leave its id in their folders, a temporary has one as its name."""
    if match := _TEMPORARY.fullmatch(path.name):
        return path.exists() and has_run_since(int(match[2]), path.stat().st_mtime)
    process = owner(path)
    return process is not None and process.is_alive()
