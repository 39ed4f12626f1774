"""The run of one training: a record in the workspace, and MLflow's view of it, which every call brings up to it.

A `Content` describes what a run holds; of it MLflow is sent what it lacks, by stages, trials and `runs sync` alike.
"""

import hashlib
import logging
import math
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun

from invad.config import BenchmarkConfig
from invad.files import remove
from invad.tracking.connection import connection
from invad.tracking.record import BENCHMARK, Record, read_record, record_folder
from invad.tracking.store import existing_run, experiment_id
from invad.workspace import Workspace

KEY = "invad.run"  # the tag by which a run is found again
LOGGED = "invad.logged."  # with the name of a group of files: the tag of the digest of those that it has
_METRIC_NAME = re.compile(r"[/\w.\- :]{1,250}")  # what MLflow takes
_LIVE_SECONDS = 10.0  # between two pieces of a curve
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Files:
    """Files that a run has together or not at all. `digest`: of what they are made of; `write`: puts them into the folder that it gets."""

    digest: str
    write: Callable[[Path], object]

    @classmethod
    def of(cls, paths: Sequence[Path], folder: str = "") -> "Files":
        """Return files as they are now, for the artifact folder `folder`."""

        def write(temporary: Path) -> None:
            (temporary / folder).mkdir(exist_ok=True)
            for path in paths:
                shutil.copyfile(path, temporary / folder / path.name)

        digests = [hashlib.sha256(path.read_bytes()).digest() for path in paths]
        return cls(hashlib.sha256(b"".join(digests)).hexdigest(), write)


@dataclass(frozen=True)
class Content:
    """What is logged of a run; of what is empty, nothing. `ValueError`: a metric is not finite, or its name is none for MLflow.

    `metrics`: final values; one that is not available is None. `curves`: the (step, value) pairs of a metric. `data`: returns what
    `data_sets` does, and is asked where the run has none. `files`: by the name of their group. `model`: the folder of the trained model,
    and its benchmark.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    data: Callable[[], Sequence[Mapping[str, Any]]] | None = None
    files: Mapping[str, Files] = field(default_factory=dict)
    model: tuple[Path, BenchmarkConfig] | None = None

    def __post_init__(self) -> None:
        curves = [(name, value) for name, points in self.curves.items() for _, value in points]
        for name, value in (*self.metrics.items(), *curves):
            if not _METRIC_NAME.fullmatch(name):
                raise ValueError(f"metric {name!r}: a name has letters, digits, spaces and any of / _ - . : only")
            if value is not None and not math.isfinite(value):
                raise ValueError(f"metric {name}: {value} is no value; give None for one that is not available")

    def as_json(self) -> dict[str, Any]:
        """Return metrics, curves and data for `from_json`; tags and files are in the record of a run."""
        data = list(self.data()) if self.data else []
        return {"metrics": dict(self.metrics), "curves": dict(self.curves), "data": data}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Content":
        """Return the content again."""
        return cls(
            metrics=value["metrics"], curves=value["curves"], data=(lambda: value["data"]) if value["data"] else None
        )


NOTHING = Content()


class Run:
    """A run. What is logged goes to MLflow at once; where that fails it is one warning, and files and record have it for later."""

    def __init__(self, record: Record, workspace: Workspace) -> None:
        self.record = record
        self._workspace = workspace
        self._connection = connection(workspace)
        self._known: MlflowRun | None = None  # as MLflow had it when it was first asked; its data is kept up to date
        self._status = ""  # that MLflow has
        self._steps: dict[str, set[int]] = {}  # of the curves that MLflow has
        self._curves: dict[str, list[tuple[int, float]]] = {}  # what no piece has yet
        self._last_piece = 0.0

    @property
    def run_id(self) -> str | None:
        """The id that MLflow gave it, or None as long as MLflow does not have it."""
        return self.record.run_id

    def go_on(self) -> None:
        """Start the run, or say that one that had ended or was killed has another process that works on it."""
        self.record.claim()
        self._set("RUNNING", None)

    def log(self, content: Content = NOTHING) -> bool:
        """Log what MLflow lacks of a content and of the record; return whether that were more than settings and tags."""
        record = self.record
        record.tags |= content.tags
        record.save()
        values = self._connection.tell(lambda client: self._send_values(content, client))
        files = self._connection.tell(lambda client: self._send_files(content, client), upload=True)
        if None in (values, files) and record.experiment != BENCHMARK:
            record.content.append(content.as_json())
            record.save()
        return bool(values or files)

    def log_live(self, curves: Mapping[str, Sequence[tuple[int, float]]]) -> None:
        """Log (step, value) pairs of metrics of which more will follow: a piece every ten seconds, the rest when the run ends."""
        for name, points in curves.items():
            self._curves.setdefault(name, []).extend(points)
        if time.monotonic() - self._last_piece >= _LIVE_SECONDS:
            self._log_piece()
            self._last_piece = time.monotonic()

    def keep_files(self, paths: Sequence[Path]) -> None:
        """Log files, and copy them into the record first, so that they are there as long as MLflow has not got them."""
        for path in paths:
            shutil.copyfile(path, self.record.files / path.name)
        self.log()

    def finish(self, status: str = "FINISHED") -> None:
        """Mark the run as ended: FINISHED, FAILED or KILLED."""
        self._log_piece()
        self._set(status, now_ms())
        self._remove_trial()

    def sync(self) -> bool:
        """Log what MLflow lacks of the record, and end a run whose process is dead; return whether there was anything."""
        record = self.record
        is_dead = record.is_dead()
        if not (is_dead or record.run_id is None or record.content):
            return False
        contents, record.content = record.content, []
        for content in contents or [NOTHING.as_json()]:
            self.log(Content.from_json(content))
        if is_dead:
            self.finish("FINISHED" if record.model_sha256 else "KILLED")
        self._remove_trial()
        return True

    def _set(self, status: str, end: int | None) -> None:
        self.record.status, self.record.end = status, end
        self.log()

    def _log_piece(self) -> None:
        curves, self._curves = self._curves, {}
        if curves:
            self.log(Content(curves=curves))

    def _remove_trial(self) -> None:
        """Remove the record of a trial of which MLflow has everything."""
        if self.record.parent is not None and self.record.status != "RUNNING" and not self.record.content:
            remove(self.record.folder)

    def _send_values(self, content: Content, client: MlflowClient) -> bool:
        """Send metrics, curves, status, settings and tags; return whether metrics or points of curves were lacking."""
        record, run = self.record, self._run(client)
        run_id, data, now = run.info.run_id, run.data, now_ms()
        metrics = {name: value for name, value in content.metrics.items() if value is not None}
        points = [(name, value, 0) for name, value in metrics.items() if data.metrics.get(name) != value]
        for name, curve in content.curves.items():
            if name not in self._steps:
                history = client.get_metric_history(run_id, name) if name in data.metrics else []
                self._steps[name] = {point.step for point in history}
            points += [(name, value, step) for step, value in dict(curve).items() if step not in self._steps[name]]
        for start in range(0, len(points), 1000):  # so many does MLflow take in one call, and of the others 100
            batch = [Metric(name, value, now, step) for name, value, step in points[start : start + 1000]]
            client.log_batch(run_id, metrics=batch)
        data.metrics.update(metrics)
        for name, curve in content.curves.items():
            self._steps[name] |= dict(curve).keys()
        if self._status != record.status:
            if record.status == "RUNNING":
                client.update_run(run_id, record.status)
            else:
                client.set_terminated(run_id, record.status, record.end)
            self._status = record.status
        params = [Param(name, value) for name, value in record.params.items() if name not in data.params]
        tags = [RunTag(name, value) for name, value in record.tags.items() if data.tags.get(name) != value]
        for start in range(0, max(len(params), len(tags)), 100):
            piece = slice(start, start + 100)
            client.log_batch(run_id, params=params[piece], tags=tags[piece])
        data.params.update(record.params)
        data.tags.update(record.tags)
        return bool(points)

    def _send_files(self, content: Content, client: MlflowClient) -> bool:
        """Send data sets, files and model; return whether any was lacking, those of the start aside."""
        run = self._run(client)
        run_id, tags, sent = run.info.run_id, run.data.tags, False
        if content.data is not None and not (run.inputs and run.inputs.dataset_inputs):
            client.log_inputs(run_id, [_input(value) for value in content.data()])
            sent = True
        paths = sorted(self.record.files.iterdir()) if self.record.files.is_dir() else []
        for name, files in {**({"origin": Files.of(paths)} if paths else {}), **content.files}.items():
            if tags.get(f"{LOGGED}{name}") == files.digest:
                continue
            with tempfile.TemporaryDirectory() as temporary:
                files.write(Path(temporary))
                client.log_artifacts(run_id, temporary)
            client.set_tag(run_id, f"{LOGGED}{name}", files.digest)
            tags[f"{LOGGED}{name}"] = files.digest
            sent |= name != "origin"
        if content.model is not None and not (run.outputs and run.outputs.model_outputs):
            from invad.tracking.models import log_model  # with torch

            log_model(*content.model, run, client)
            sent = True
        return sent

    def _run(self, client: MlflowClient) -> MlflowRun:
        """Return MLflow's run, which is made if need be."""
        if self._known is None:
            self._known = self._find(client) or self._create(client)
            self._status, self.record.run_id = self._known.info.status, self._known.info.run_id
            self.record.save()
        return self._known

    def _find(self, client: MlflowClient) -> MlflowRun | None:
        record = self.record
        if record.run_id is not None:
            run = existing_run(client, record.run_id)
            if run is not None and run.info.lifecycle_stage == "active":
                return run
            logger.warning("MLflow no longer has run %s of %s; a new one is started", record.run_id, record.name)
        if (experiment := client.get_experiment_by_name(record.experiment)) is None:
            return None
        # Made by a call whose answer came too late, or before another MLflow was used.
        found = client.search_runs([experiment.experiment_id], f"tags.`{KEY}` = '{record.key}'", max_results=1)
        return found[0] if found else None

    def _create(self, client: MlflowClient) -> MlflowRun:
        record = self.record
        tags = {KEY: record.key}
        parent = read_record(record_folder(record.parent, self._workspace)) if record.parent else None
        if parent is not None and parent.run_id is not None:
            tags["mlflow.parentRunId"] = parent.run_id
        experiment = experiment_id(client, record.experiment, self._workspace)
        return client.create_run(experiment, record.start, tags, record.name)


def now_ms() -> int:
    """Return the time as MLflow counts it."""
    return int(time.time() * 1000)


def _input(value: Mapping[str, Any]) -> DatasetInput:
    plain = {name: item for name, item in value.items() if name != "context"}
    return DatasetInput(Dataset(**plain), [InputTag("mlflow.data.context", value["context"])])
