"""One run for each benchmark, from its training to its report, over several processes."""

import hashlib
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path

from invad.config import BenchmarkConfig
from invad.files import read_json, write_json
from invad.tracking.outbox import find_journal
from invad.tracking.run import Run, start_run
from invad.tracking.store import tracking_uri, without_password
from invad.workspace import CONFIG_FILE, WEIGHTS_FILE, Workspace

logger = logging.getLogger(__name__)


def remember_run(run: Run, benchmark: BenchmarkConfig, workspace: Workspace) -> None:
    """Keep the id of the run that trained the present model, for the stages that follow."""
    uri = without_password(tracking_uri(workspace))
    value = {"run_id": run.run_id, "uri": uri, "model_sha256": _model_sha256(benchmark, workspace)}
    write_json(_run_file(benchmark, workspace), value)


def continue_run(
    benchmark: BenchmarkConfig, workspace: Workspace, describe: Callable[[Run], None] = lambda run: None
) -> Run:
    """Return the run that trained the present model, or a new one when that is not known here.

    `describe` tells a new run what the training would have: its data and its model.
    """
    known = _remembered(benchmark, workspace)
    if known is not None:
        run = _opened(known, workspace)
        if run is not None and not run.is_lost():
            run.send()
            return run
        logger.warning("MLflow no longer has run %s of %s; a new one is started", known, benchmark.name)
    run = start_run(benchmark, workspace, tags={"invad.model_from_cache": "true"})
    describe(run)
    run.finish()
    remember_run(run, benchmark, workspace)
    return run


def known_tags(benchmark: BenchmarkConfig, workspace: Workspace) -> dict[str, str]:
    """Return the tags of the run that trained the present model; none when that is not known here."""
    known = _remembered(benchmark, workspace)
    run = None if known is None else _opened(known, workspace)
    return {} if run is None else run.known_tags()


def _remembered(benchmark: BenchmarkConfig, workspace: Workspace) -> str | None:
    """Return the id of the run that trained the present model for the present MLflow, or None."""
    path = _run_file(benchmark, workspace)
    known = read_json(path) if path.exists() else {}
    expected = (without_password(tracking_uri(workspace)), _model_sha256(benchmark, workspace))
    return known["run_id"] if (known.get("uri"), known.get("model_sha256")) == expected else None


def _opened(run_id: str, workspace: Workspace) -> Run | None:
    journal = find_journal(workspace, run_id)
    return None if journal is None else Run(journal, workspace)


def _model_sha256(benchmark: BenchmarkConfig, workspace: Workspace) -> str:
    folder = workspace.model(benchmark.name)
    files = (folder / CONFIG_FILE, folder / WEIGHTS_FILE)  # not the calibration, which changes without a training
    return _sha256(tuple((path, _state(path)) for path in files if path.exists()))


def _state(path: Path) -> tuple[int, int, int]:
    """Return what changes when a file is another: its place on the disk, size and time."""
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


@cache  # a stage asks more than once of a large file
def _sha256(files: tuple[tuple[Path, tuple[int, int, int]], ...]) -> str:
    """Return the hash of the files, one after the other. files: each with its state, without which one that changed would stay known."""
    digest = hashlib.sha256()
    for path, _ in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _run_file(benchmark: BenchmarkConfig, workspace: Workspace) -> Path:
    return workspace.private / "runs" / f"{benchmark.name}.json"
