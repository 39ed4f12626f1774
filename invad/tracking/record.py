"""What is known of a run in the workspace, in a folder of `.invad/runs`: enough to make MLflow's run of it, now or later.

`run.json` is the record; `files/` has settings, packages and the changes of the code at its start, `pid` the process that works on it.
"""

import hashlib
import uuid
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from invad.errors import InputError
from invad.files import read_json, write_json
from invad.workspace import CONFIG_FILE, WEIGHTS_FILE, Workspace

BENCHMARK = "benchmark"  # the experiment whose runs are logged of the workspace's files
RECORD_FILE = "run.json"


@dataclass
class Record:
    """A run. `folder`: where the record lies.

    `key`: the tag by which MLflow's run is found again. `start` and `end`: milliseconds. `parent`: the key of the study's record.
    `training`: what a start has to have in common with this one to go on with it. `model_sha256`: of the model that came out.
    `content`: what a study or trial has logged and MLflow has not; of a benchmark that is in files.
    """

    folder: Path
    experiment: str
    name: str
    start: int
    tags: dict[str, str]
    params: dict[str, str]
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    run_id: str | None = None
    status: str = "RUNNING"
    end: int | None = None
    parent: str | None = None
    training: str = ""
    model_sha256: str = ""
    content: list[dict[str, Any]] = field(default_factory=list)

    @property
    def files(self) -> Path:
        """The folder of what the run had at its start."""
        return self.folder / "files"

    def save(self) -> None:
        """Write the record."""
        value = asdict(self)
        del value["folder"]
        write_json(self.folder / RECORD_FILE, value)

    def claim(self) -> None:
        """Say that this process works on the run; `InputError` when another one does."""
        from invad.training.owner import claim

        claim(self.folder)

    def is_dead(self) -> bool:
        """Return whether the run has not ended and no process works on it."""
        from invad.training.owner import owner

        process = owner(self.folder)
        return self.status == "RUNNING" and (process is None or not process.is_alive())


def record_folder(name: str, workspace: Workspace) -> Path:
    """Return the folder of a benchmark's record by its name, of any other by its key."""
    return workspace.private / "runs" / name


def read_record(folder: Path) -> Record | None:
    """Return the record in a folder; None where there is none that can be read."""
    try:
        value = read_json(folder / RECORD_FILE)
        return Record(folder, **{name: item for name, item in value.items() if name not in ("uri", "abandoned")})
    except (InputError, TypeError, AttributeError):
        return None


def all_records(workspace: Workspace) -> list[Record]:
    """Return all records, studies before their trials."""
    paths = (workspace.private / "runs").glob(f"*/{RECORD_FILE}")
    records = [record for path in paths if (record := read_record(path.parent)) is not None]
    return sorted(records, key=lambda record: (record.parent is not None, record.start, record.key))


def model_sha256(benchmark: str, workspace: Workspace) -> str:
    """Return the hash of a benchmark's settings and weights: not of its thresholds, which change without a training; "" without a model."""
    folder = workspace.model(benchmark)
    stats = [(path, path.stat()) for path in (folder / CONFIG_FILE, folder / WEIGHTS_FILE) if path.exists()]
    return _sha256(tuple((path, stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in stats)) if stats else ""


@cache  # a stage asks more than once of a large file
def _sha256(files: tuple[tuple[Path, int, int, int], ...]) -> str:
    """Return the hash of the files, one after the other; of each with it what changes when it is another: place, size and time."""
    digest = hashlib.sha256()
    for path, *_ in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
