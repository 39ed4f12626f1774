"""The run of one training: a record in the workspace, and MLflow's view of it, which every call brings up to it.

The record lies in a folder of `.invad/runs`: `run.json`, and `files/` with settings, packages and the changes of the code at its start. A
`Content` describes what a run holds; of it MLflow is sent what it lacks, by stages, trials and `runs sync` alike.
"""

import hashlib
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun

from invad.config import BenchmarkConfig
from invad.errors import InputError
from invad.files import read_json, remove, write_json
from invad.tracking.origin import flatten_settings, run_name, run_tags, write_origin
from invad.tracking.store import connection, existing_run, experiment_id, tracking_uri
from invad.workspace import CONFIG_FILE, Workspace

BENCHMARK = "benchmark"  # the experiment whose runs are logged of the workspace's files
RECORD_FILE, FILES = "run.json", "files"
KEY = "invad.run"  # the tag by which a run is found again
LOGGED = "invad.logged."  # with the name of a group of files: the tag of the digest of those that it has
_MODEL = "invad.model_sha256"  # the tag of a run


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
    """What is logged of a run; of what is empty, nothing.

    `metrics`: final values, None for one that is not available. `curves`: (step, value) pairs. `data`: returns what `data_sets` does.
    `files`: by the name of their group. `model`: the folder of the trained model, and its benchmark.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    data: Callable[[], Sequence[dict[str, str]]] | None = None
    files: Mapping[str, Files] = field(default_factory=dict)
    model: tuple[Path, BenchmarkConfig] | None = None


@dataclass
class Run:
    """A run: what is known of it, which is kept in `folder`. What is logged goes to MLflow at once, or later of files and record.

    `key`: the tag by which MLflow's run is found again. `start` and `end`: milliseconds. `run_id`: that MLflow gave it, None as long as it
    has not got the run. `parent`: the key of the study. `model_sha256`: of the model that came out. `content`: what a study or trial holds
    as long as MLflow has it not; of a benchmark that is in files.
    """

    workspace: Workspace
    folder: Path
    experiment: str
    name: str
    start: int
    tags: dict[str, str]
    params: dict[str, str]
    key: str
    run_id: str | None = None
    status: str = "RUNNING"
    end: int | None = None
    parent: str | None = None
    model_sha256: str = ""
    content: dict[str, Any] = field(default_factory=dict)

    def save(self) -> None:
        """Write the record."""
        known = {name: value for name, value in asdict(self).items() if name not in ("workspace", "folder")}
        write_json(self.folder / RECORD_FILE, known)

    def log(self, content: Content = Content()) -> bool | None:
        """Log what MLflow lacks; return whether that were more than settings and tags, None where MLflow does not answer."""
        self.tags |= content.tags
        self.save()
        return connection(self.workspace).tell(lambda client: self._send(content, client))

    def finish(self, status: str, content: Content = Content(), files: Sequence[Path] = ()) -> None:
        """End the run of a study or trial, FINISHED or FAILED; what it holds is kept in the record until MLflow has it."""
        for path in files:
            shutil.copyfile(path, self.folder / FILES / path.name)
        self.status, self.end = status, now_ms()
        data = list(content.data()) if content.data else []
        self.content = {"metrics": dict(content.metrics), "curves": dict(content.curves), "data": data}
        self.sync()

    def sync(self) -> bool:
        """Log what MLflow lacks of the record of a run that has ended; return whether there was anything."""
        if self.status == "RUNNING" or (self.run_id is not None and not self.content):
            return False
        value: dict[str, Any] = {"metrics": {}, "curves": {}, "data": []} | self.content
        if self.log(Content({}, value["metrics"], value["curves"], lambda: value["data"])) is not None:
            self.content = {}
            self.save()
            is_further_seed = self.experiment == BENCHMARK and self.folder.name == self.key
            if self.parent is not None or is_further_seed:  # MLflow has all of it, and nothing goes on with it
                remove(self.folder)
        return True

    def _send(self, content: Content, client: MlflowClient) -> bool:
        """Send what MLflow lacks; return whether metrics, data, files or the model were among it, those of the start aside."""
        run = self._find(client) or self._create(client)
        if self.status == "RUNNING" != run.info.status:
            client.update_run(run.info.run_id, self.status)
        elif self.status != run.info.status:
            client.set_terminated(run.info.run_id, self.status, self.end)
        if self.run_id != run.info.run_id:
            self.run_id = run.info.run_id
            self.save()
        points = self._send_values(content, run, client)
        return self._send_files(content, run, client) or points

    def _send_values(self, content: Content, run: MlflowRun, client: MlflowClient) -> bool:
        run_id, data = run.info.run_id, run.data
        metrics = {name: value for name, value in content.metrics.items() if value is not None}
        points = [(name, value, 0) for name, value in metrics.items() if data.metrics.get(name) != value]
        for name, curve in content.curves.items():
            known = {point.step for point in client.get_metric_history(run_id, name)} if name in data.metrics else set()
            points += [(name, value, step) for step, value in curve if step not in known]
        for start in range(0, len(points), 1000):  # so many does MLflow take in one call
            batch = [Metric(name, value, now_ms(), step) for name, value, step in points[start : start + 1000]]
            client.log_batch(run_id, metrics=batch)
        params = [Param(name, value) for name, value in self.params.items() if name not in data.params]
        tags = [RunTag(name, value) for name, value in self.tags.items() if data.tags.get(name) != value]
        if params or tags:
            client.log_batch(run_id, params=params, tags=tags)
        return bool(points)

    def _send_files(self, content: Content, run: MlflowRun, client: MlflowClient) -> bool:
        run_id, tags, sent = run.info.run_id, run.data.tags, False
        if content.data is not None and not (run.inputs and run.inputs.dataset_inputs) and (data := content.data()):
            phases = [InputTag("mlflow.data.context", one["name"].rpartition("/")[2]) for one in data]
            client.log_inputs(
                run_id, [DatasetInput(Dataset(**one), [tag]) for one, tag in zip(data, phases, strict=True)]
            )
            sent = True
        paths = sorted((self.folder / FILES).glob("*"))
        for name, files in {**({"origin": Files.of(paths)} if paths else {}), **content.files}.items():
            if tags.get(f"{LOGGED}{name}") == files.digest:
                continue
            with tempfile.TemporaryDirectory() as temporary:
                files.write(Path(temporary))
                client.log_artifacts(run_id, temporary)
            client.set_tag(run_id, f"{LOGGED}{name}", files.digest)
            sent |= name != "origin"
        if content.model is not None and not (run.outputs and run.outputs.model_outputs):
            from invad.tracking.models import log_model  # with torch

            log_model(*content.model, run, client)
            sent = True
        return sent

    def _find(self, client: MlflowClient) -> MlflowRun | None:
        run = existing_run(client, self.run_id) if self.run_id is not None else None
        if run is not None and run.info.lifecycle_stage == "active":
            return run
        # Made by a call whose answer came too late, or before another MLflow was used.
        return _search(client, self.experiment, KEY, self.key)

    def _create(self, client: MlflowClient) -> MlflowRun:
        tags = {KEY: self.key}
        if self.parent and (study := read_run(self.parent, self.workspace)) and study.run_id:
            tags["mlflow.parentRunId"] = study.run_id
        experiment = experiment_id(client, self.experiment, self.workspace)
        return client.create_run(experiment, self.start, tags, self.name)


def read_run(name: str, workspace: Workspace) -> Run | None:
    """Return the run of a benchmark by its name, any other by its key; None where there is no record that can be read."""
    folder = workspace.private / "runs" / name
    try:
        return Run(workspace, folder, **read_json(folder / RECORD_FILE))
    except (InputError, TypeError):
        return None


def start_run(
    benchmark: BenchmarkConfig,
    workspace: Workspace,
    *,
    experiment: Literal["benchmark", "ablation", "tune", "supervised"] = "benchmark",
    name: str | None = None,
    key: str = "",
    parent: Run | None = None,
    tags: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
) -> Run:
    """Note what a run starts with, for MLflow later; `key`: of a study or trial, whose run goes on; `InputError`: a malformed address."""
    tracking_uri(workspace)
    key = key or ("" if experiment == BENCHMARK else uuid.uuid4().hex)
    folder = workspace.private / "runs" / (key or benchmark.name)
    before = read_run(folder.name, workspace)
    if not key:  # a training that was killed has the same run when it is started again
        key = before.key if before and (before.status == "RUNNING" or not before.run_id) else uuid.uuid4().hex
    tags = {**run_tags(benchmark, workspace), **(tags or {})}
    params = {**flatten_settings(benchmark), **(params or {})}
    run = Run(workspace, folder, experiment, name or run_name(benchmark), now_ms(), tags, params, key)
    run.parent = parent.key if parent else None
    write_origin(benchmark, workspace, run.folder / FILES)
    run.save()
    return run


def known_run(benchmark: BenchmarkConfig, workspace: Workspace) -> Run | None:
    """Return the run that trained the present model, or None when that is not known here."""
    run, sha256 = read_run(benchmark.name, workspace), model_sha256(benchmark.name, workspace)
    return run if run and sha256 and run.model_sha256 == sha256 else None


def continue_run(benchmark: BenchmarkConfig, workspace: Workspace) -> Run:
    """Return the run that trained the present model: known here, or found in MLflow by the model, or else a new one that says so."""
    run = known_run(benchmark, workspace) or _in_mlflow(benchmark, workspace)
    if run is None:
        run = start_run(benchmark, workspace, tags={"invad.model_from_cache": "true"})
    if not run.model_sha256:
        end_training(run, benchmark, workspace)
    return run


def end_training(run: Run, benchmark: BenchmarkConfig, workspace: Workspace) -> None:
    """Note which model the run has trained: the stages that follow, and other folders with this model, find the run by it."""
    run.status, run.end = "FINISHED", run.end or now_ms()
    run.model_sha256 = model_sha256(benchmark.name, workspace)
    run.log(Content({_MODEL: run.model_sha256}))


def _in_mlflow(benchmark: BenchmarkConfig, workspace: Workspace) -> Run | None:
    """Return the run that MLflow has of the present model, None where it has none."""
    sha256 = model_sha256(benchmark.name, workspace)
    found = connection(workspace).tell(lambda client: _search(client, BENCHMARK, _MODEL, sha256))
    if found is None:
        return None
    info, data = found.info, found.data
    tags = {name: value for name, value in data.tags.items() if not name.startswith(("mlflow.", LOGGED, KEY))}
    known = (BENCHMARK, info.run_name, info.start_time, tags, dict(data.params), data.tags[KEY], info.run_id)
    return Run(workspace, workspace.private / "runs" / benchmark.name, *known, end=info.end_time)


def has_tag(key: str, tag: str, value: str, workspace: Workspace) -> bool:
    """Return whether MLflow has the ended run of a key in the experiment of benchmarks, with this value of a tag."""
    found = connection(workspace).tell(lambda client: _search(client, BENCHMARK, KEY, key))
    return found is not None and found.info.status == "FINISHED" and found.data.tags.get(tag) == value


def _search(client: MlflowClient, experiment: str, tag: str, value: str) -> MlflowRun | None:
    """Return the newest run of an experiment whose tag has a value, None where there is none."""
    known = client.get_experiment_by_name(experiment)
    found = client.search_runs([known.experiment_id], f"tags.`{tag}` = '{value}'", max_results=1) if known else []
    return found[0] if found else None


def model_sha256(benchmark: str, workspace: Workspace) -> str:
    """Return the hash of a benchmark's settings, among them that of its weights; "" without a model."""
    path = workspace.model(benchmark) / CONFIG_FILE
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def now_ms() -> int:
    """Return the time as MLflow counts it."""
    return int(time.time() * 1000)
