"""Which run is meant: a new one, that of the same training, or that of the present model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from invad.config import BenchmarkConfig
from invad.tracking.connection import connection
from invad.tracking.names import flatten_settings, run_name
from invad.tracking.provenance import run_tags, write_origin
from invad.tracking.record import BENCHMARK, Record, all_records, model_sha256, read_record, record_folder
from invad.tracking.run import KEY, LOGGED, Content, Run, now_ms
from invad.tracking.store import answering
from invad.workspace import Workspace

_MODEL = "invad.model_sha256"  # the tag of a run


def start_run(
    benchmark: BenchmarkConfig,
    workspace: Workspace,
    *,
    experiment: Literal["benchmark", "ablation", "tune"] = "benchmark",
    name: str | None = None,
    parent: Run | None = None,
    tags: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    training: str = "",
) -> Run:
    """Start a run that holds the benchmark's settings and where code and data came from, or go on with that of the same training.

    `name`: by default benchmark, method, encoder, epochs and seed. `parent`: the study that it is a trial of. `tags` and `params`: further
    ones, or others. `training`: names all that the training depends on; the run of one of this name that did not come to its end goes on.
    `InputError`: MLFLOW_TRACKING_URI is malformed. A server that does not answer is no error here.
    """
    connection(workspace)
    record = Record(
        Path(),
        experiment,
        name or run_name(benchmark),
        now_ms(),
        run_tags(benchmark, workspace) | dict(tags or {}),
        flatten_settings(benchmark) | dict(params or {}),
        parent=parent.record.key if parent else None,
        training=training,
    )
    record.folder = record_folder(benchmark.name if experiment == BENCHMARK else record.key, workspace)
    before = read_record(record.folder)
    if before is not None and training and before.training == training and not before.model_sha256:
        record = before
    else:
        if before is not None and before.status == "RUNNING":
            before.claim()
            Run(before, workspace).finish("KILLED")
        record.tags |= write_origin(benchmark, workspace, record.files)
    run = Run(record, workspace)
    run.go_on()
    return run


def open_run(key: str, workspace: Workspace) -> Run | None:
    """Return the run of a record, by its key or by its benchmark's name; None when there is none."""
    record = read_record(record_folder(key, workspace)) if key else None
    return None if record is None else Run(record, workspace)


def remember_model(run: Run, benchmark: BenchmarkConfig, workspace: Workspace) -> None:
    """Note which model the run has trained: the stages that follow, and other folders with this model, find the run by it."""
    run.record.model_sha256 = model_sha256(benchmark.name, workspace)
    run.log(Content({_MODEL: run.record.model_sha256}))


def known_run(benchmark: BenchmarkConfig, workspace: Workspace) -> Run | None:
    """Return the run that trained the present model, or None when that is not known here."""
    record = read_record(record_folder(benchmark.name, workspace))
    sha256 = model_sha256(benchmark.name, workspace)
    return Run(record, workspace) if record and sha256 and record.model_sha256 == sha256 else None


def continue_run(benchmark: BenchmarkConfig, workspace: Workspace) -> Run:
    """Return the run that trained the present model: known here, or found in MLflow by the model, or else a new one that says so."""
    run = known_run(benchmark, workspace) or _in_mlflow(benchmark, workspace)
    if run is None:
        run = start_run(benchmark, workspace, tags={"invad.model_from_cache": "true"})
        run.finish()
    if not run.record.model_sha256:
        remember_model(run, benchmark, workspace)
    return run


def sync_records(workspace: Workspace) -> list[str]:
    """Log what MLflow lacks of all runs that are known here, end those whose process is dead, and return a line for each.

    `InputError`: MLflow does not answer; what it has not is kept.
    """
    with answering(workspace) as client:
        client.search_experiments(max_results=1)
    runs = [Run(record, workspace) for record in all_records(workspace)]
    return [f"{run.record.name}: run {run.run_id}, {run.record.status.lower()}" for run in runs if run.sync()]


def _in_mlflow(benchmark: BenchmarkConfig, workspace: Workspace) -> Run | None:
    """Return the run that MLflow has of the present model, None where it has none."""

    def search(client: MlflowClient) -> list[MlflowRun]:
        experiment = client.get_experiment_by_name(BENCHMARK)
        query = f"tags.`{_MODEL}` = '{model_sha256(benchmark.name, workspace)}'"
        return list(client.search_runs([experiment.experiment_id], query, max_results=1)) if experiment else []

    found = connection(workspace).tell(search)
    if not found:
        return None
    info, data = found[0].info, found[0].data
    tags = {name: value for name, value in data.tags.items() if not name.startswith(("mlflow.", LOGGED, KEY))}
    folder = record_folder(benchmark.name, workspace)
    record = Record(folder, BENCHMARK, info.run_name, info.start_time, tags, dict(data.params), data.tags[KEY])
    record.run_id, record.status, record.end = info.run_id, info.status, info.end_time
    return Run(record, workspace)
