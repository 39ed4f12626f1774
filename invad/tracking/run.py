"""The MLflow run of one training: what is logged goes to its outbox first, and from there to MLflow."""

import json
import math
import re
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from invad.config import BenchmarkConfig
from invad.errors import InputError
from invad.tracking.data import data_sets
from invad.tracking.names import flatten_settings
from invad.tracking.outbox import Journal, create_journal, find_journal
from invad.tracking.provenance import PATCH_BYTES, all_packages, model_tags, patch, run_tags
from invad.tracking.send import run_exists
from invad.tracking.sender import sender_for
from invad.tracking.store import answering, connect, tracking_uri, with_password, without_password
from invad.workspace import CONFIG_FILE, Workspace

if TYPE_CHECKING:
    from invad.data.split_table import Split

_METRIC_NAME = re.compile(r"[/\w.\- :]{1,250}")  # what MLflow takes
ExperimentName = Literal["benchmark", "ablation", "tune"]


class Run:
    """A run. It is told everything at once, and tells MLflow as soon as that listens."""

    def __init__(self, journal: Journal, workspace: Workspace) -> None:
        self._journal = journal
        self._workspace = workspace
        self._uri = with_password(journal.state["uri"], workspace)
        self._sender = sender_for(self._uri, workspace)

    @property
    def run_id(self) -> str:
        """The id that the run has in this workspace, and as the tag `invad.run` in MLflow."""
        return self._journal.id

    @property
    def mlflow_id(self) -> str | None:
        """The id that MLflow gave it, or None as long as MLflow does not have it."""
        return self._journal.state["mlflow_id"]

    def log_curve(self, name: str, values: Iterable[tuple[int, float]]) -> None:
        """Log (step, value) pairs as the metric `name`. A value that is not finite is a `ValueError`."""
        self._log_metrics([(name, value, step) for step, value in values])

    def log_metrics(self, metrics: Mapping[str, float | None]) -> None:
        """Log final values; one that is not available (None) is left out. One that is not finite is a `ValueError`."""
        self._log_metrics([(name, value, 0) for name, value in metrics.items() if value is not None])

    def _log_metrics(self, metrics: list[tuple[str, float, int]]) -> None:
        for name, value, _ in metrics:
            if not _METRIC_NAME.fullmatch(name):
                raise ValueError(f"metric {name!r}: a name has letters, digits, spaces and any of / _ - . : only")
            if not math.isfinite(value):
                raise ValueError(f"metric {name}: {value} is no value; give None for one that is not available")
        now = now_ms()
        if metrics:
            self._append(
                {"op": "metrics", "metrics": [[name, float(value), now, step] for name, value, step in metrics]}
            )

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log settings that are known only now. MLflow refuses another value for a name that it has."""
        self._append({"op": "params", "params": {name: str(value) for name, value in params.items()}})

    def tag(self, name: str, value: str) -> None:
        """Set a tag."""
        self.tags({name: value})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        if values:
            self._append({"op": "tags", "tags": dict(values)})

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Log a file, or a folder with all in it, as an artifact, as it is now."""
        self._log_file(path, folder)

    def log_text(self, text: str, name: str) -> None:
        """Log `text` as the artifact `name`."""
        self.log_bytes(text.encode(), name)

    def log_table(self, columns: Mapping[str, list[Any]], name: str) -> None:
        """Log a table (equal-length columns) as the artifact `name`.json, which MLflow's UI shows as a table."""
        table = {"columns": list(columns), "data": [list(row) for row in zip(*columns.values(), strict=True)]}
        self.log_bytes(json.dumps(table, ensure_ascii=False, allow_nan=False).encode(), f"{name}.json", table=True)

    def log_bytes(self, content: bytes, name: str, *, table: bool = False) -> None:
        """Log `content` as the artifact `name`, which is a table in MLflow's form or not."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            self._log_file(path, None, table=table)

    def _log_file(self, path: Path, folder: str | None, *, table: bool = False) -> None:
        self._append({"op": "file", "file": self._journal.add_file(path), "folder": folder, "table": table})

    def log_split(self, split: "Split", benchmark: BenchmarkConfig, source: str) -> None:
        """Log the images of each phase as a data set: its digest, where it comes from, and counts of images and classes.

        source: `embedded`, `path` or `official`.
        """
        self._append({"op": "data", "data": data_sets(split, benchmark, source)})

    def log_model(self, folder: Path, benchmark: BenchmarkConfig) -> None:
        """Log the model folder as a model with signature that `mlflow.pyfunc.load_model` loads: images in, scores and maps out."""
        from invad.tracking.model import save_pyfunc

        place = self._journal.new_folder(benchmark.name)
        save_pyfunc(folder, benchmark.score, self._journal.folder / place)
        params = {name: value for name, value in flatten_settings(benchmark).items() if name.startswith("train.")}
        # The place is this entry's own: by it a model that was sent already is known.
        self._append(
            {"op": "model", "id": place.split("/")[1], "file": place, "name": benchmark.name, "params": params}
        )

    def has_metrics(self) -> bool:
        """Return whether any metric of a protocol is there (a loss curve is none)."""
        waiting = (metric[0] for entry, _ in self._journal.unsent() for metric in entry.get("metrics", ()))
        known = (name for name in self._ask(lambda client, run_id: client.get_run(run_id).data.metrics, {}))
        return any(not name.startswith("train/") for names in (waiting, known) for name in names)

    def has_files(self, folder: str) -> bool:
        """Return whether the artifact folder holds anything."""
        waiting = any(
            entry.get("folder") == folder or entry.get("file", "").endswith(f"/{folder}")
            for entry, _ in self._journal.unsent()
        )
        return waiting or bool(self._ask(lambda client, run_id: client.list_artifacts(run_id, folder), []))

    def known_tags(self) -> dict[str, str]:
        """Return the run's tags: where it came from, and what stages added; those of MLflow only if it answers."""
        run_id = self.mlflow_id
        logged: dict[str, str] = {}
        if run_id is not None:
            logged = self._sender.ask(lambda client: dict(client.get_run(run_id).data.tags), otherwise={})
        waiting = {name: value for entry, _ in self._journal.unsent() for name, value in entry.get("tags", {}).items()}
        return {**self._journal.state["tags"], **logged, **waiting}

    def _ask(self, question: Any, otherwise: Any) -> Any:  # noqa: ANN401  (whatever MLflow answers)
        run_id = self.mlflow_id
        if run_id is None:
            return otherwise
        with answering(self._uri):
            return question(connect(self._uri, self._workspace), run_id)

    def finish(self, *, failed: bool = False) -> None:
        """Mark the run as ended, and wait a little for a server to hear of all."""
        self._append({"op": "status", "status": "FAILED" if failed else "FINISHED", "time": now_ms()})
        self._sender.wait()

    def is_lost(self) -> bool:
        """Return whether MLflow had the run and has it no longer. One that does not answer is taken to have it."""
        run_id = self.mlflow_id
        return run_id is not None and not self._sender.ask(lambda client: run_exists(client, run_id), otherwise=True)

    def send(self) -> None:
        """Send what is not sent: at once to a database, soon to a server."""
        self._sender.submit(self._journal)

    def _append(self, entry: dict[str, Any]) -> None:
        self._journal.append(entry)
        self.send()


def start_run(
    benchmark: BenchmarkConfig,
    workspace: Workspace,
    *,
    experiment: ExperimentName = "benchmark",
    name: str | None = None,
    parent: Run | None = None,
    tags: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
) -> Run:
    """Start a run that holds the benchmark's settings and where code and data came from.

    Args:
        benchmark: Its settings become the run's params and its artifact `config.json`.
        workspace: Holds the run's outbox.
        experiment: The kind of the run.
        name: Shown in MLflow, by default the benchmark's.
        parent: The study that it is a trial of.
        tags: Further ones, or others: `invad.command` is the command that builds the run again.
        params: Further ones.

    Raises:
        InputError: MLFLOW_TRACKING_URI is malformed. A server that does not answer is no error here.
    """
    state = {
        "uri": without_password(tracking_uri(workspace)),
        "experiment": experiment,
        "name": name or benchmark.name,
        "start": now_ms(),
        "parent": parent.run_id if parent else None,
        "tags": run_tags(benchmark, workspace) | dict(tags or {}),
        "params": flatten_settings(benchmark) | dict(params or {}),
    }
    run = Run(create_journal(workspace, state), workspace)
    run.log_text(json.dumps(asdict(benchmark), indent=2, ensure_ascii=False), CONFIG_FILE)
    run.log_text(all_packages(), "packages.txt")
    if (file := workspace.root / "params.yaml").exists():
        run.log_file(file)
    changes = patch(workspace)
    if len(changes) > PATCH_BYTES:
        run.tag("git.patch", f"not kept, {len(changes)} bytes")
    elif changes:
        run.log_bytes(changes, "code.patch")
    return run


def open_run(local_id: str, workspace: Workspace) -> Run:
    """Return the run of that id in this workspace; `InputError` when there is none."""
    journal = find_journal(workspace, local_id)
    if journal is None:
        raise InputError(f"run {local_id}: not known in {workspace.private / 'mlflow'}")
    return Run(journal, workspace)


def tag_outputs(run: Run, benchmark: BenchmarkConfig, workspace: Workspace) -> None:
    """Tag the run with DVC's hash of its model, for who logs after the training has ended."""
    run.tags(model_tags(benchmark, workspace))


def now_ms() -> int:
    """Return the time as MLflow counts it."""
    return int(time.time() * 1000)
