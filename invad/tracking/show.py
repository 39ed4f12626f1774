"""What MLflow has of runs: as text, as commands that build one again, and as the files that a report is made of."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from invad.errors import InputError
from invad.text import aligned
from invad.tracking.record import read_record, record_folder
from invad.tracking.store import answering, existing_run, without_password
from invad.workspace import CONFIG_FILE, EVIDENCE_FOLDER, Workspace

# What is shown of a run, and the columns of a list with the params and metrics that are in them.
_TAGS = ("git.commit", "git.dirty", "dvc.split", "dvc.features", "dvc.model")
_PARAMS = (
    "dataset", "features.encoder", "features.weights", "features.image_size", "train.model", "train.epochs", "train.batch_size",
    "train.learning_rate", "train.seed", "score.sigma",
)  # fmt: skip
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
    metrics: Mapping[str, float]
    source: str | None
    folder: Path


def show_run(run_id: str, workspace: Workspace) -> str:
    """Return what a run (MLflow's id, or a benchmark's name) was and the commands that build it again; `InputError` as for `find_run`."""
    with answering(workspace) as client:
        run = find_run(run_id, client, workspace)
        experiment = client.get_experiment(run.info.experiment_id).name
        artifacts = {item.path for item in client.list_artifacts(run.info.run_id)}
    info, data = run.info, run.data
    facts = {
        "run": info.run_id,
        "name": info.run_name,
        "experiment": experiment,
        "status": info.status,
        "start": _start(run),
    }
    facts |= {name: data.tags[name] for name in _TAGS if name in data.tags}
    facts |= {name: data.params[name] for name in _PARAMS if name in data.params}
    means = {name: value for name, value in data.metrics.items() if re.fullmatch("(?!train/)[^/]+/[^/]+", name)}
    facts |= {name: f"{value:.4f}" for name, value in sorted(means.items())}
    lines = aligned(list(facts.items()), left=range(2))
    return "\n".join([*lines, "", "To build it again:", *_rebuild_commands(run, artifacts, client.tracking_uri)])


def _rebuild_commands(run: Run, artifacts: set[str], uri: str) -> list[str]:
    tags = run.data.tags
    fetch = f"mlflow artifacts download --run-id {run.info.run_id} --dst-path . --artifact-path"
    unknown = "# its commit is not known: the run was started outside of a git repository"
    commands = [
        f"git clone {shlex.quote(tags.get('git.remote', 'REPOSITORY'))} rebuilt && cd rebuilt",
        f"git checkout {tags['git.commit']}" if "git.commit" in tags else unknown,
        "make setup && . .venv/bin/activate",
        f"export MLFLOW_TRACKING_URI={shlex.quote(without_password(uri))}",
    ]
    if "code.patch" in artifacts:
        commands.append(f"{fetch} code.patch && git apply code.patch")
    elif "git.patch" in tags:
        commands.append(f"# its code had changes that were not committed ({tags['git.patch']})")
    if "params.yaml" in artifacts:
        commands.append(f"{fetch} params.yaml")
    return [*commands, tags.get("invad.command", "dvc repro")]


def list_runs(workspace: Workspace, experiment: str | None = None) -> list[str]:
    """Return a table of the runs, the newest first, of one experiment or of all; `InputError` when there is no such experiment."""
    with answering(workspace) as client:
        experiments = {item.experiment_id: item.name for item in client.search_experiments()}
        if experiment is not None and experiment not in experiments.values():
            raise InputError(f"experiment {experiment!r}: not in MLflow, which has {', '.join(experiments.values())}")
        runs = client.search_runs([key for key, name in experiments.items() if experiment in (None, name)])
        rows = [_COLUMNS, *(_row(run, experiments[run.info.experiment_id]) for run in runs)]
    return aligned(rows, left=range(len(_COLUMNS)))


def _row(run: Run, experiment: str) -> tuple[str, ...]:
    data, info = run.data, run.info
    settings = [data.params.get(name, "-") for name in _SETTINGS.values()]
    scores = [f"{100 * data.metrics[name]:.1f}" if name in data.metrics else "-" for name in _METRICS.values()]
    return (info.run_id, info.run_name, *settings, experiment, info.status, _start(run), *scores)


def fetch_run(run_id: str, workspace: Workspace, folder: Path) -> FetchedRun:
    """Download the artifacts of a report into the new folder `folder`; those that the run does not have are not there.

    run_id: MLflow's, or a benchmark's name. `InputError`: there is no such run, or an artifact cannot be read.
    """
    folder.mkdir(parents=True)
    with answering(workspace) as client:
        run = find_run(run_id, client, workspace)
        info, data = run.info, run.data
        benchmark = data.tags.get("invad.benchmark", "")
        wanted = {CONFIG_FILE, EVIDENCE_FOLDER, f"{benchmark}.json", f"{benchmark}.csv"}
        for path in sorted(wanted & {item.path for item in client.list_artifacts(info.run_id)}):
            try:
                client.download_artifacts(info.run_id, path, str(folder))
            except OSError as error:
                raise InputError(f"run {info.run_id}: its artifact {path} cannot be read ({error})") from None
    sources = [item.dataset.source_type for item in run.inputs.dataset_inputs] if run.inputs is not None else []
    title = f"run {info.run_id} ({info.run_name})"
    return FetchedRun(info.run_id, title, info.status, data.tags, data.metrics, next(iter(sources), None), folder)


def find_run(run_id: str, client: MlflowClient, workspace: Workspace) -> Run:
    """Return a run by its id, or by the name of a benchmark of which there is a record; `InputError` when there is none."""
    record = None if "/" in run_id else read_record(record_folder(run_id, workspace))
    if (run := existing_run(client, (record and record.run_id) or run_id)) is not None:
        return run
    logs = "`invad-pipe runs sync` logs what is here" if record else "`invad-pipe runs list` shows all"
    raise InputError(f"run {run_id}: MLflow has none of this id; {logs}")


def _start(run: Run) -> str:
    return datetime.fromtimestamp(run.info.start_time / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
