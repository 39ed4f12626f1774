"""What is to be logged, on the disk first: one folder for each run, so that nothing is lost while MLflow is down.

`state.json` says what the run is and how far MLflow has it, `journal.jsonl` has one line for each operation, `files/` copies of the
artifacts. What MLflow has of a run that has ended is removed, but for the state: the run may go on.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from invad.files import atomic_path, read_json, remove, write_json
from invad.tracking.store import locked
from invad.workspace import Workspace

Entry = dict[str, Any]


class Journal:
    """The outbox of one run.

    State: `uri` (without a password), `experiment`, `name`, `start` (ms), `parent` (a local id or None), `tags`, `params`: enough to
    create the run. `mlflow_id`: None until MLflow has it. `sent`: bytes of the journal that MLflow has. `ended`: whether a sent
    entry ended the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name
        self.verified = False  # whether MLflow was seen to have the run, in this process

    @property
    def _path(self) -> Path:
        return self.folder / "journal.jsonl"

    @property
    def state(self) -> dict[str, Any]:
        """The state as it is on the disk."""
        return read_json(self.folder / "state.json")

    def update(self, **values: object) -> None:
        """Change the state; only who creates the run or holds `sending` does so."""
        write_json(self.folder / "state.json", {**self.state, **values})

    def sending(self) -> Any:  # noqa: ANN401  (a context manager)
        """Return the lock that is held while entries are sent, so that none is sent twice."""
        return locked(self.folder / "sending.lock")

    def append(self, entry: Entry) -> None:
        """Add an operation, in one write."""
        line = json.dumps(entry, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with locked(self.folder / "journal.lock"), self._path.open("a+b") as file:
            _cut_half_line(file.fileno())
            file.write(line)

    def add_file(self, path: Path) -> str:
        """Copy a file or folder, whole or not at all; return its place in the outbox."""
        place = f"files/{uuid.uuid4().hex[:12]}/{path.name}"
        with atomic_path(self.folder / place) as temporary:
            if path.is_dir():
                shutil.copytree(path, temporary)
            else:
                shutil.copyfile(path, temporary)
        return place

    def new_folder(self, name: str) -> str:
        """Return the place in the outbox of a folder that the caller makes."""
        place = f"files/{uuid.uuid4().hex[:12]}/{name}"
        (self.folder / place).parent.mkdir(parents=True)
        return place

    def unsent(self) -> Iterator[tuple[Entry, int]]:
        """Yield the entries that MLflow does not have, with the bytes up to their end. A half-written last line is none."""
        if not self._path.exists():
            return
        end = self.state["sent"]
        with self._path.open("rb") as file:
            file.seek(end)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                end += len(line)
                yield json.loads(line), end

    def is_pending(self) -> bool:
        """Return whether MLflow lacks the run or any of its entries."""
        return self.state["mlflow_id"] is None or next(self.unsent(), None) is not None

    def reject(self, entry: Entry) -> None:
        """Keep an entry that MLflow refuses, out of the way of those that follow."""
        with (self.folder / "refused.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def tidy(self) -> None:
        """Remove the entries of an ended run once MLflow has all of them."""
        with locked(self.folder / "journal.lock"):
            if self.state["sent"] and self.state["ended"] and not self.is_pending():
                # In this order: a process that is killed in between leaves entries that are sent again, none that are skipped.
                self.update(sent=0)
                remove(self._path)

    def drop_file(self, place: str) -> None:
        """Remove a copy that MLflow has."""
        remove((self.folder / place).parent)


def create_journal(workspace: Workspace, state: Mapping[str, Any]) -> Journal:
    """Make the outbox of a new run."""
    journal = Journal(_root(workspace) / uuid.uuid4().hex)
    write_json(journal.folder / "state.json", {"mlflow_id": None, "sent": 0, "ended": False, **state})
    return journal


def find_journal(workspace: Workspace, local_id: str) -> Journal | None:
    """Return the outbox of a run, or None when there is none of that id."""
    folder = _root(workspace) / local_id
    return Journal(folder) if local_id and (folder / "state.json").is_file() else None


def all_journals(workspace: Workspace) -> list[Journal]:
    """Return the outboxes of all runs, oldest first."""
    journals = [Journal(path.parent) for path in _root(workspace).glob("*/state.json")]
    return sorted(journals, key=lambda journal: (journal.state["start"], journal.id))


def _root(workspace: Workspace) -> Path:
    return workspace.private.absolute() / "mlflow"


def _cut_half_line(file: int) -> None:
    """Remove what a killed process left of a line, so that the next one stays readable."""
    end = position = os.fstat(file).st_size
    while position > 0 and os.pread(file, 1, position - 1) != b"\n":
        position -= 1
    if position != end:
        os.ftruncate(file, position)
