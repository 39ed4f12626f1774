"""The MLflow run of one training: a record in the workspace, and MLflow's view of it, which every call brings up to it."""

import json
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from invad.config import BenchmarkConfig
from invad.files import remove
from invad.tracking.connection import connection
from invad.tracking.data import as_input, data_sets
from invad.tracking.record import Record, read_record, record_folder
from invad.tracking.store import experiment_id, is_gone, kept_uri, tracking_uri
from invad.workspace import Workspace

if TYPE_CHECKING:
    from invad.data.split_table import Split

BENCHMARK = "benchmark"  # the experiment whose runs are logged of files
KEY = "invad.run"  # the tag by which a run is found again
LOGGED = "invad.logged."  # with the name of a group of files: the tag of the digest of those that it has
_METRIC_NAME = re.compile(r"[/\w.\- :]{1,250}")  # what MLflow takes
_BATCH, _PARAMS = 1000, 100  # metrics, and params or tags, that it takes in one call
_LIVE_SECONDS = 10.0  # between two pieces of a curve
Answer = TypeVar("Answer")
logger = logging.getLogger(__name__)


class Run:
    """A run. What is logged goes to MLflow at once; where that fails it is one warning, and files and record have it for later.

    strict: A failure is an `InputError` instead.
    """

    def __init__(self, record: Record, workspace: Workspace, *, strict: bool = False) -> None:
        self.record = record
        self._workspace = workspace
        self._strict = strict
        self._connection = connection(tracking_uri(workspace), workspace)
        self._known: MlflowRun | None = None  # as MLflow had it when it was first asked
        self._curves: dict[str, dict[int, float]] = {}  # all points
        self._told: dict[str, set[int]] = {}  # the steps that MLflow has
        self._last_piece = 0.0
        self._content: dict[str, Any] = {"metrics": {}, "data": [], "files": []}
        self._is_whole = True  # whether MLflow has all that was logged
        if record.uri != kept_uri(workspace):  # of another MLflow
            record.uri, record.run_id = kept_uri(workspace), None

    @property
    def run_id(self) -> str | None:
        """The id that MLflow gave it, or None as long as MLflow does not have it."""
        return self.record.run_id

    def tell(self, action: Callable[[MlflowClient, MlflowRun], Answer], *, upload: bool = False) -> Answer | None:
        """Do something with MLflow's run, which is made if need be; return the answer, None where that failed."""

        def told(client: MlflowClient) -> Answer:
            return action(client, self._present(client))

        answer = self._connection.ask(told) if self._strict else self._connection.tell(told, upload=upload)
        self._is_whole = self._is_whole and answer is not None
        return answer

    def open(self) -> None:
        """Make MLflow's run, or bring it up to the record."""
        self.tell(lambda _client, _run: True)

    def _present(self, client: MlflowClient) -> MlflowRun:
        if self._known is None:
            known = self._find(client) or self._create(client)
            self.record.run_id = known.info.run_id
            self.record.save()
            self._bring_up(client, known)
            self._known = known
        return self._known

    def _find(self, client: MlflowClient) -> MlflowRun | None:
        record = self.record
        if record.run_id is not None:
            if (known := _active(client, record.run_id)) is not None:
                return known
            logger.warning("MLflow no longer has run %s of %s; a new one is started", record.run_id, record.name)
        if (experiment := client.get_experiment_by_name(record.experiment)) is None:
            return None
        # Made by a call whose answer came too late.
        found = client.search_runs([experiment.experiment_id], f"tags.`{KEY}` = '{record.key}'", max_results=1)
        return found[0] if found else None

    def _create(self, client: MlflowClient) -> MlflowRun:
        record = self.record
        tags = {KEY: record.key}
        parent = read_record(record_folder(record.parent, self._workspace)) if record.parent else None
        if parent is not None and parent.run_id is not None:
            tags["mlflow.parentRunId"] = parent.run_id
        experiment = experiment_id(client, record.experiment, self._connection.uri, self._workspace)
        return client.create_run(experiment, record.start, tags, record.name)

    def _bring_up(self, client: MlflowClient, known: MlflowRun) -> None:
        """Log what MLflow lacks of the record."""
        record, run_id = self.record, known.info.run_id
        params = [Param(name, value) for name, value in record.params.items() if name not in known.data.params]
        tags = [RunTag(name, value) for name, value in record.tags.items() if known.data.tags.get(name) != value]
        for start in range(0, max(len(params), len(tags)), _PARAMS):
            piece = slice(start, start + _PARAMS)
            client.log_batch(run_id, params=params[piece], tags=tags[piece])
        if f"{LOGGED}origin" not in known.data.tags and record.files.is_dir():
            client.log_artifacts(run_id, str(record.files))
            client.set_tag(run_id, f"{LOGGED}origin", record.key)
        if known.info.status != record.status:
            self._set_status(client, run_id)
        for other in record.abandoned:
            if (run := _active(client, other)) is not None and run.info.status == "RUNNING":
                client.set_terminated(other, "KILLED")
        if record.abandoned:
            record.abandoned = []
            record.save()

    def _set_status(self, client: MlflowClient, run_id: str) -> bool:
        if self.record.status == "RUNNING":
            client.update_run(run_id, "RUNNING")
        else:
            client.set_terminated(run_id, self.record.status, self.record.end)
        return True

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        self.record.tags |= values
        self.record.save()
        tags = [RunTag(name, value) for name, value in values.items()]
        self.tell(lambda client, run: client.log_batch(run.info.run_id, tags=tags) or True)

    def log_metrics(self, metrics: Mapping[str, float | None]) -> bool:
        """Log final values; one that is not available (None) is left out. Return whether MLflow had others.

        A value that is not finite is a `ValueError`.
        """
        values = {name: float(value) for name, value in metrics.items() if value is not None}
        _check(values.items())
        self._content["metrics"] |= values

        def log(client: MlflowClient, run: MlflowRun) -> bool:
            known = run.data.metrics
            changed = {name: value for name, value in values.items() if known.get(name) != value}
            _log_points(client, run, [(name, value, 0) for name, value in changed.items()])
            known.update(changed)
            return bool(changed)

        return bool(self.tell(log))

    def log_curve(self, name: str, points: Iterable[tuple[int, float]], *, live: bool = False) -> bool:
        """Log those of the (step, value) pairs of metric `name` that MLflow lacks. Return whether there were any.

        live: More will follow, so that a piece every ten seconds is enough. A value that is not finite is a `ValueError`.
        """
        pairs = dict(points)
        _check((name, value) for value in pairs.values())
        self._curves.setdefault(name, {}).update(pairs)
        if live and time.monotonic() - self._last_piece < _LIVE_SECONDS:
            return False
        return self._send_curves()

    def _send_curves(self) -> bool:
        def log(client: MlflowClient, run: MlflowRun) -> bool:
            lacking = []
            for name, points in self._curves.items():
                if name not in self._told:
                    begun = name in run.data.metrics
                    history = client.get_metric_history(run.info.run_id, name) if begun else []
                    self._told[name] = {point.step for point in history}
                lacking += [(name, value, step) for step, value in points.items() if step not in self._told[name]]
            _log_points(client, run, lacking)
            for name, _, step in lacking:
                self._told[name].add(step)
            return bool(lacking)

        sent = self.tell(log)
        self._last_piece = time.monotonic()
        return bool(sent)

    def has(self, group: str, digest: str) -> bool:
        """Return whether MLflow has the files of a group with this digest; True where it does not answer, since there is nothing to do."""
        return self.tell(lambda _client, run: run.data.tags.get(f"{LOGGED}{group}") == digest) is not False

    def log_files(self, group: str, digest: str, paths: Sequence[Path], folder: str | None = None) -> bool:
        """Log files and folders, unless MLflow has those of the group with this digest; return whether they were logged."""

        def log(client: MlflowClient, run: MlflowRun) -> bool:
            for path in paths:
                client.log_artifact(run.info.run_id, str(path), folder)
            client.set_tag(run.info.run_id, f"{LOGGED}{group}", digest)
            run.data.tags[f"{LOGGED}{group}"] = digest
            return True

        return not self.has(group, digest) and bool(self.tell(log, upload=True))

    def log_table(self, rows: Sequence[Mapping[str, Any]], name: str) -> None:
        """Log rows of the same columns as the artifact `name`.json, the run's one table, which MLflow's page shows as such."""
        table = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
        text = json.dumps(table, ensure_ascii=False, allow_nan=False)
        shown = json.dumps([{"path": f"{name}.json", "type": "table"}])

        def log(client: MlflowClient, run: MlflowRun) -> bool:
            client.log_text(run.info.run_id, text, f"{name}.json")
            client.set_tag(run.info.run_id, "mlflow.loggedArtifacts", shown)
            return True

        self.tell(log, upload=True)

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Log a file, or a folder with all in it, as an artifact, as it is now."""
        self._content["files"].append(os.path.relpath(path, self._workspace.root))
        self.tell(lambda client, run: client.log_artifact(run.info.run_id, str(path), folder) or True, upload=True)

    def log_split(self, split: "Split", benchmark: BenchmarkConfig, source: str) -> bool:
        """Log the images of each phase as a data set, unless there are any: digest, origin, and counts of images and classes.

        source: `embedded`, `path` or `official`. Returns whether they were logged.
        """
        return self.log_data(lambda: data_sets(split, benchmark, source))

    def log_data(self, describe: Callable[[], Sequence[Mapping[str, Any]]]) -> bool:
        """Log what `describe` returns, in the form of `data_sets`, unless the run has data sets; return whether it was logged."""

        def log(client: MlflowClient, run: MlflowRun) -> bool:
            if run.inputs is not None and run.inputs.dataset_inputs:
                return False
            client.log_inputs(run.info.run_id, [as_input(value) for value in describe()])
            return True

        logged = self.tell(log)
        if logged is None and self.record.experiment != BENCHMARK:
            self._content["data"] = list(describe())
        return bool(logged)

    def log_model(self, folder: Path, benchmark: BenchmarkConfig) -> bool:
        """Log the model folder as a model with signature that `mlflow.pyfunc.load_model` loads: images in, scores and maps out.

        Returns whether it was logged: once.
        """

        def log(client: MlflowClient, run: MlflowRun) -> bool:
            if run.outputs is not None and run.outputs.model_outputs:
                return False
            from invad.tracking.model import log_model  # with torch

            log_model(folder, benchmark, run, client)
            return True

        return bool(self.tell(log, upload=True))

    def go_on(self) -> None:
        """Start the run, or say that one that had ended or was killed has another process that works on it."""
        self.record.status, self.record.end = "RUNNING", None
        self.record.save()
        self.record.claim()
        self.open()

    def finish(self, *, failed: bool = False) -> None:
        """Mark the run as ended. The record of a study or trial has what MLflow has not."""
        self._end("FAILED" if failed else "FINISHED")
        record = self.record
        if record.experiment == BENCHMARK:
            return
        if not self._is_whole:
            curves = {name: list(points.items()) for name, points in self._curves.items()}
            record.content = {**self._content, "curves": curves}
            record.save()
        elif record.parent is not None:
            remove(record.folder)

    def _end(self, status: str) -> None:
        if self._curves:
            self._send_curves()
        self.record.status, self.record.end = status, now_ms()
        self.record.save()
        self.tell(lambda client, run: self._set_status(client, run.info.run_id))

    def sync(self) -> bool:
        """Log what MLflow lacks of the record, and end a run whose process is dead; return whether there was anything."""
        record = self.record
        is_dead = record.is_dead()
        if not (is_dead or record.run_id is None or record.abandoned or record.content):
            return False
        if is_dead:
            self._end("FINISHED" if record.model_sha256 else "KILLED")
        self.open()
        if content := record.content:
            self.log_metrics(content["metrics"])
            for name, points in content["curves"].items():
                self.log_curve(name, [(step, value) for step, value in points])
            self.log_data(lambda: content["data"])
            for name in content["files"]:
                if (path := self._workspace.root / name).exists():
                    self.log_file(path)
        record.content = {}
        record.save()
        if record.parent is not None and record.status != "RUNNING":
            remove(record.folder)
        return True


def now_ms() -> int:
    """Return the time as MLflow counts it."""
    return int(time.time() * 1000)


def _active(client: MlflowClient, run_id: str) -> MlflowRun | None:
    """Return the run, or None where MLflow has it no longer or in its bin."""
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if is_gone(error):
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def _log_points(client: MlflowClient, run: MlflowRun, points: Sequence[tuple[str, float, int]]) -> None:
    now = now_ms()
    metrics = [Metric(name, value, now, step) for name, value, step in points]
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run.info.run_id, metrics=metrics[start : start + _BATCH])


def _check(metrics: Iterable[tuple[str, float]]) -> None:
    for name, value in metrics:
        if not _METRIC_NAME.fullmatch(name):
            raise ValueError(f"metric {name!r}: a name has letters, digits, spaces and any of / _ - . : only")
        if not math.isfinite(value):
            raise ValueError(f"metric {name}: {value} is no value; give None for one that is not available")
