"""Runs of MLflow: as text, as commands that build them again, as versions of models, as files of a report, and as a page."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from invad.errors import InputError
from invad.text import aligned
from invad.tracking.run import BENCHMARK, read_run
from invad.tracking.store import VARIABLE, answering, existing_run, experiment_id, without_password
from invad.workspace import CONFIG_FILE, EVIDENCE_FOLDER, Workspace

# The columns of a list, and the params and metrics that are in them.
_SETTINGS = {
    "model": "train.model", "encoder": "features.encoder", "px": "features.image_size", "epochs": "train.epochs", "seed": "train.seed",
}  # fmt: skip
_METRICS = {"image AU-ROC": "paper/image_auroc", "pixel AU-ROC": "paper/pixel_auroc"}
_COLUMNS = ("id", "name", *_SETTINGS, "experiment", "status", "start", *_METRICS)


@dataclass(frozen=True)
class FetchedRun:
    """A run of MLflow. title: of messages; source: what kind of data, or None; folder: of the artifacts that were fetched."""

    id: str
    title: str
    status: str
    tags: Mapping[str, str]
    source: str | None
    folder: Path


def show_run(run_id: str, workspace: Workspace) -> str:
    """Return a run (MLflow's id, or a benchmark's name) as in a list, and the commands that build it again; errors as for `find_run`."""
    with answering(workspace) as client:
        run = find_run(run_id, client, workspace)
        row = _row(run, client.get_experiment(run.info.experiment_id).name)
        artifacts = {item.path for item in client.list_artifacts(run.info.run_id)}
    lines = aligned(list(zip(_COLUMNS, row, strict=True)), left=range(2))
    return "\n".join([*lines, "", "To build it again:", *_rebuild_commands(run, artifacts, client.tracking_uri)])


def _rebuild_commands(run: Run, artifacts: set[str], uri: str) -> list[str]:
    tags = run.data.tags
    fetch = f"mlflow artifacts download --run-id {run.info.run_id} --dst-path . --artifact-path"
    commands = [
        f"git clone {shlex.quote(tags.get('git.remote', 'REPOSITORY'))} rebuilt && cd rebuilt",
        f"git checkout {tags.get('git.commit', 'COMMIT')}",
        "make setup && . .venv/bin/activate",
        f"export {VARIABLE}={shlex.quote(without_password(uri))}",
    ]
    if "code.patch" in artifacts:
        commands.append(f"{fetch} code.patch && git apply code.patch")
    elif tags.get("git.dirty") == "true":
        commands.append("# its code had changes that were not committed and are not kept")
    if "params.yaml" in artifacts:
        commands.append(f"{fetch} params.yaml")
    return [*commands, tags.get("invad.command", "dvc repro")]


def list_runs(workspace: Workspace) -> list[str]:
    """Return a table of all runs, the newest first."""
    with answering(workspace) as client:
        experiments = {item.experiment_id: item.name for item in client.search_experiments()}
        runs = client.search_runs(list(experiments))
        rows = [_COLUMNS, *(_row(run, experiments[run.info.experiment_id]) for run in runs)]
    return aligned(rows, left=range(len(_COLUMNS)))


def _row(run: Run, experiment: str) -> tuple[str, ...]:
    data, info = run.data, run.info
    settings = [data.params.get(name, "-") for name in _SETTINGS.values()]
    start = datetime.fromtimestamp(info.start_time / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    scores = [f"{100 * data.metrics[name]:.1f}" if name in data.metrics else "-" for name in _METRICS.values()]
    return (info.run_id, info.run_name, *settings, experiment, info.status, start, *scores)


def fetch_run(run_id: str, workspace: Workspace, folder: Path) -> FetchedRun:
    """Download what a report needs of a run (MLflow's id, or a benchmark's name) into `folder`; `InputError`: there is no such run."""
    folder.mkdir(parents=True)
    with answering(workspace) as client:
        run = find_run(run_id, client, workspace)
        info, data = run.info, run.data
        benchmark = data.tags.get("invad.benchmark", "")
        wanted = {CONFIG_FILE, EVIDENCE_FOLDER, f"{benchmark}.json"}
        for path in sorted(wanted & {item.path for item in client.list_artifacts(info.run_id)}):
            client.download_artifacts(info.run_id, path, str(folder))
    sources = [item.dataset.source_type for item in run.inputs.dataset_inputs] if run.inputs is not None else []
    title = f"run {info.run_id} ({info.run_name})"
    return FetchedRun(info.run_id, title, info.status, data.tags, next(iter(sources), None), folder)


def find_run(run_id: str, client: MlflowClient, workspace: Workspace) -> Run:
    """Return a run by its id, or by the name of a benchmark of which there is a record; `InputError` when there is none."""
    known = None if "/" in run_id else read_run(run_id, workspace)
    if (run := existing_run(client, (known and known.run_id) or run_id)) is not None:
        return run
    raise InputError(
        f"run {run_id}: MLflow has none of this id; `invad-pipe runs sync` logs what is here, `runs list` shows all"
    )


def register_model(run_id: str, workspace: Workspace, *, name: str | None = None, alias: str | None = None) -> str:
    """Make the model of a run a version of a registered model, once, led to by `alias`, and return `models:/<name>/<number>`.

    `run_id`: MLflow's, or a benchmark's name. `InputError`: there is no such run, it has no model, or MLflow refuses name or alias.
    """
    with answering(workspace) as client:
        run = find_run(run_id, client, workspace)
        if not (run.outputs and run.outputs.model_outputs):
            lacks = "it has no model in MLflow; trials keep none, and of a benchmark `invad-pipe runs sync` logs it"
            raise InputError(f"run {run.info.run_id}: {lacks}")
        model = client.get_logged_model(run.outputs.model_outputs[-1].model_id)
        name = name or f"invad-{model.name}"
        known = client.search_model_versions(f"run_id = '{run.info.run_id}'")
        number = max((int(one.version) for one in known if one.name == name), default=0)
        if not number:
            try:
                client.create_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            number = client.create_model_version(
                name, model.artifact_location, run.info.run_id, await_creation_for=0, model_id=model.model_id
            ).version
        if alias is not None:
            client.set_registered_model_alias(name, alias, str(number))
    return f"models:/{name}/{number}"


def serve_page(port: int, workspace: Workspace) -> int:
    """Serve MLflow's page on 127.0.0.1 until it is interrupted; return its exit code; `InputError`: the database cannot be used."""
    with answering(workspace) as client:
        uri = client.tracking_uri
        runs = f"#/experiments/{experiment_id(client, BENCHMARK, workspace)}/runs?workflowType=machine_learning"
    if uri.startswith("http"):
        print(f"The runs are on {without_password(uri).rstrip('/')}/{runs}", file=sys.stderr)
        return 0
    # MLflow would start a process for each core, and six more for jobs that nothing here asks for.
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--backend-store-uri", uri]
    sparing = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *options], env=sparing, start_new_session=True
    )
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # to the group, since MLflow does not pass it on
        signal.signal(name, lambda *_: os.killpg(process.pid, signal.SIGTERM))
    print(f"The runs are on http://127.0.0.1:{port}/{runs} in some seconds (end with Ctrl-C)", file=sys.stderr)
    return max(process.wait(), 0)
