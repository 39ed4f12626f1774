"""What MLflow knows of runs, as text; and how a run is built again."""

import re
import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from invad.errors import InputError
from invad.text import aligned
from invad.tracking.record import read_record, record_folder
from invad.tracking.store import answering, connect, is_gone, tracking_uri, without_password
from invad.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SETTINGS = (
    "dataset", "features.encoder", "features.weights", "features.image_size", "train.model", "train.epochs", "train.batch_size",
    "train.learning_rate", "train.seed", "score.sigma",
)  # fmt: skip
_ORIGIN = ("git.commit", "git.dirty", "dvc.split", "dvc.features", "dvc.model")
# The columns of a list, and the params or metrics in them; without the others, which a run has itself.
_SETTINGS = {
    "model": "train.model", "encoder": "features.encoder", "px": "features.image_size", "epochs": "train.epochs", "seed": "train.seed",
}  # fmt: skip
_METRICS = {"image AU-ROC": "paper/image_auroc", "pixel AU-ROC": "paper/pixel_auroc"}
_COLUMNS = ("id", "name", *_SETTINGS, "experiment", "status", "start", *_METRICS)


def show_run(run_id: str, workspace: Workspace) -> str:
    """Return what a run was and the commands that build it again.

    run_id: MLflow's, or a benchmark's name for the run of its present record.

    Raises:
        InputError: There is no such run, or MLflow does not answer.
    """
    uri = tracking_uri(workspace)
    with answering(uri):
        client = connect(uri, workspace)
        run = find_run(run_id, client, workspace)
        experiment = client.get_experiment(run.info.experiment_id).name
        artifacts = {item.path for item in client.list_artifacts(run.info.run_id)}
    data = run.data
    facts = {
        "run": run.info.run_id,
        "name": run.info.run_name,
        "experiment": experiment,
        "status": run.info.status,
        "start": _time(run.info.start_time),
        **{name: data.tags[name] for name in _ORIGIN if name in data.tags},
        **{name: data.params[name] for name in SETTINGS if name in data.params},
    }
    metrics = sorted(data.metrics.items())
    means = {name: value for name, value in metrics if re.fullmatch("(?!train/)[^/]+/[^/]+", name)}
    width = max(len(name) for name in (*facts, *means))
    lines = [f"{name:<{width}}  {value}" for name, value in facts.items()]
    lines += [f"{name:<{width}}  {value:.4f}" for name, value in means.items()]
    return "\n".join([*lines, "", "To build it again:", *rebuild_commands(run, artifacts, uri)])


def rebuild_commands(run: "Run", artifacts: set[str], uri: str) -> list[str]:
    """Return the shell commands that build a run again, from its tags and artifacts."""
    tags = run.data.tags
    fetch = f"mlflow artifacts download --run-id {run.info.run_id} --dst-path . --artifact-path"
    commands = [f"git clone {shlex.quote(tags.get('git.remote', 'REPOSITORY'))} rebuilt && cd rebuilt"]
    if "git.commit" in tags:
        commands.append(f"git checkout {tags['git.commit']}")
    else:
        commands.append("# its commit is not known: the run was started outside of a git repository")
    commands += [
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
    """Return a table of the runs, the newest first, of one experiment or of all; its head alone where there are none.

    Raises:
        InputError: There is no such experiment, or MLflow does not answer.
    """
    uri = tracking_uri(workspace)
    with answering(uri):
        client = connect(uri, workspace)
        experiments = {item.experiment_id: item.name for item in client.search_experiments()}
        if experiment is not None and experiment not in experiments.values():
            raise InputError(f"experiment {experiment!r}: not in MLflow, which has {', '.join(experiments.values())}")
        ids = [key for key, name in experiments.items() if experiment in (None, name)]
        runs = client.search_runs(ids)
        rows = [_COLUMNS, *(_row(run, experiments[run.info.experiment_id]) for run in runs)]
    return aligned(rows, left=range(len(_COLUMNS)))


def _row(run: "Run", experiment: str) -> tuple[str, ...]:
    data, info = run.data, run.info
    settings = [data.params.get(name, "-") for name in _SETTINGS.values()]
    scores = [f"{100 * data.metrics[name]:.1f}" if name in data.metrics else "-" for name in _METRICS.values()]
    return (info.run_id, info.run_name, *settings, experiment, info.status, _time(info.start_time), *scores)


def find_run(run_id: str, client: "MlflowClient", workspace: Workspace) -> "Run":
    """Return a run by its id, or by the name of a benchmark of which there is a record; `InputError` when there is none."""
    record = None if "/" in run_id else read_record(record_folder(run_id, workspace))
    try:
        return client.get_run((record and record.run_id) or run_id)
    except Exception as error:
        if not is_gone(error) and "INVALID_PARAMETER_VALUE" not in str(getattr(error, "error_code", "")):
            raise
    logs = "`invad-pipe runs sync` logs what is here" if record else "`invad-pipe runs list` shows all"
    raise InputError(f"run {run_id}: MLflow has none of this id; {logs}")


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
