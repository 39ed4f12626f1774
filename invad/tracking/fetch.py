"""What MLflow keeps of a run, brought here: settings, metrics and the artifacts that a report is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from invad.errors import InputError
from invad.tracking.show import find_run
from invad.tracking.store import answering, connect, tracking_uri
from invad.workspace import CONFIG_FILE, EVIDENCE_FOLDER, Workspace


@dataclass(frozen=True)
class FetchedRun:
    """A run of MLflow. metrics: the last value of each; source: what kind of data, or None; folder: of the artifacts that were fetched."""

    id: str
    name: str
    status: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    source: str | None
    folder: Path

    @property
    def title(self) -> str:
        """How messages name the run."""
        return f"run {self.id} ({self.name})"


def fetch_run(run_id: str, workspace: Workspace, folder: Path) -> FetchedRun:
    """Download the artifacts of a report into the new folder `folder`; those that the run does not have are not there.

    run_id: MLflow's, or a benchmark's name.

    Raises:
        InputError: There is no such run, MLflow does not answer, or an artifact cannot be read.
    """
    uri = tracking_uri(workspace)
    folder.mkdir(parents=True)
    with answering(uri):
        client = connect(uri, workspace)
        run = find_run(run_id, client, workspace)
        benchmark = run.data.tags.get("invad.benchmark", "")
        wanted = {CONFIG_FILE, EVIDENCE_FOLDER, f"{benchmark}.json", f"{benchmark}.csv"}
        for item in client.list_artifacts(run.info.run_id):
            if item.path in wanted:
                _download(item.path, run, client, folder)
    datasets = run.inputs.dataset_inputs if run.inputs is not None else []
    return FetchedRun(
        id=run.info.run_id,
        name=run.info.run_name,
        status=run.info.status,
        tags=dict(run.data.tags),
        metrics=dict(run.data.metrics),
        source=next((item.dataset.source_type for item in datasets), None),
        folder=folder,
    )


def _download(path: str, run: Run, client: MlflowClient, folder: Path) -> None:
    try:
        client.download_artifacts(run.info.run_id, path, str(folder))
    except OSError as error:
        raise InputError(f"run {run.info.run_id}: its artifact {path} cannot be read ({error})") from None
