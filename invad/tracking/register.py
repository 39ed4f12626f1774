"""From a run to MLflow's model registry: a version of a named model that is served without this package."""

import hashlib
import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from invad.config import ScoreConfig
from invad.errors import InputError
from invad.metrics.calibration import Thresholds
from invad.scoring.thresholds import read_calibration
from invad.tracking.model import save_pyfunc, upload_model
from invad.tracking.show import find_run
from invad.tracking.store import VARIABLE, answering, connect, reason, tracking_uri, without_password
from invad.training.model_folder import read_config
from invad.workspace import CALIBRATION_FILE, ENCODER_FILE, Workspace

_REGISTRATION = "invad.registration"  # the tag of a logged model that was made for the registry: run and thresholds
_CALIBRATION = "invad.calibration_sha256"  # the tag of a version
_VERSIONS = "mlflow.modelVersions"  # the tag of a logged model by which MLflow's page leads to its versions
_THRESHOLDS = ("threshold.image", "threshold.pixel")  # the tags of a version
_RUN_TAGS = ("invad.benchmark", "git.commit", "git.dirty", "git.remote", "dvc.split", "dvc.model")


@dataclass(frozen=True)
class RegisteredVersion:
    """`models:/<name>/<number>`. `is_new`: made now; `thresholds`: of all classes together, that it decides by, each may be None."""

    name: str
    number: int
    is_new: bool
    thresholds: Thresholds


def register_model(
    run_id: str, workspace: Workspace, *, name: str | None = None, alias: str | None = None
) -> RegisteredVersion:
    """Make the model of a run (MLflow's id, or a benchmark's name) a version of a registered model, by default `invad-<benchmark>`.

    The version holds the model, the thresholds that `evaluate` logged, and a copy of this package. The same model with the same thresholds
    becomes no second version. `alias`, such as `champion`, leads to the version from now on.

    Raises:
        InputError: There is no such run, it failed or has no model, MLflow or its registry do not answer, or refuse name or alias.
    """
    uri = tracking_uri(workspace)
    with tempfile.TemporaryDirectory() as temporary, answering(uri):
        client, folder = connect(uri, workspace), Path(temporary)
        run = find_run(run_id, client, workspace)
        logged = _logged_model(run, client)
        calibration = _fetched_calibration(run, client, folder)
        name = name or f"invad-{run.data.tags.get('invad.benchmark', logged.name)}"
        with _registry(uri):
            version = _known_version(name, run, calibration, client)
            is_new = version is None
            if is_new:
                version = _new_version(name, run, logged, calibration, folder, client)
            if alias is not None:
                client.set_registered_model_alias(name, alias, version.version)
    return RegisteredVersion(name, int(version.version), is_new, _thresholds(version))


def serve_commands(version: RegisteredVersion, workspace: Workspace) -> list[str]:
    """Return the shell commands that serve a version where its packages are installed."""
    model = shlex.quote(f"models:/{version.name}/{version.number}")
    # The port is not the one of `invad-pipe ui` and of a server.
    commands = [f"mlflow models serve -m {model} --env-manager local --port 5001"]
    if not os.environ.get(VARIABLE):
        commands.insert(0, f"export {VARIABLE}={shlex.quote(tracking_uri(workspace))}")
    return commands


def _logged_model(run: Run, client: MlflowClient) -> LoggedModel:
    """Return the model that a run's training logged, the last one; `InputError` when there is none."""
    run_id = run.info.run_id
    state = run.info.status if run.info.lifecycle_stage == "active" else "DELETED"
    if state in ("FAILED", "KILLED", "DELETED"):
        raise InputError(f"run {run_id}: {state.lower()}, so it is not registered")
    models = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    own = [model for model in models if model.status.value == "READY" and _REGISTRATION not in model.tags]
    if not own:
        raise InputError(
            f"run {run_id}: it has no model in MLflow; trials keep none, and of a benchmark `invad-pipe runs sync` logs it"
        )
    return max(own, key=lambda model: model.creation_timestamp)


def _fetched_calibration(run: Run, client: MlflowClient, folder: Path) -> Path | None:
    """Return the file of the thresholds that the run logged, or None."""
    if CALIBRATION_FILE not in {item.path for item in client.list_artifacts(run.info.run_id)}:
        return None
    return Path(client.download_artifacts(run.info.run_id, CALIBRATION_FILE, str(folder)))


def _built(logged: LoggedModel, calibration: Path | None, folder: Path, uri: str) -> Path:
    """Return the folder of an MLflow model that has all that the logged one has, the thresholds and this package."""
    place = str(folder / "logged")
    source = Path(mlflow.artifacts.download_artifacts(logged.artifact_location, dst_path=place, tracking_uri=uri))
    model = _model_folder(source)
    if not (model / ENCODER_FILE).is_file():
        raise InputError(
            f"run {logged.source_run_id}: an older version logged its model, without the encoder; train it again"
        )
    if calibration is not None:
        shutil.copyfile(calibration, model / CALIBRATION_FILE)
    settings = Model.load(str(source)).flavors["python_function"]["config"]
    save_pyfunc(model, ScoreConfig(**settings["score"]), folder / "served", code=True)
    return folder / "served"


def _model_folder(saved: Path) -> Path:
    """Return the model folder inside an MLflow model."""
    return saved / Model.load(str(saved)).flavors["python_function"]["artifacts"]["model"]["path"]


def _known_version(name: str, run: Run, calibration: Path | None, client: MlflowClient) -> ModelVersion | None:
    """Return the last version that has the run's model, with these thresholds where there are any."""
    versions = client.search_model_versions(f"run_id = '{run.info.run_id}'")
    same = [
        version
        for version in versions
        if version.name == name and (calibration is None or version.tags.get(_CALIBRATION) == _sha256(calibration))
    ]
    return max(same, key=lambda version: int(version.version), default=None)


def _version_tags(run: Run, built: Path) -> dict[str, str]:
    """Return where a version comes from, and how good it is as far as the run knows."""
    tags = {key: run.data.tags[key] for key in _RUN_TAGS if key in run.data.tags}
    tags |= {key: f"{value:.4f}" for key, value in run.data.metrics.items() if re.fullmatch("paper/[^/]+", key)}
    tags["invad.classes"] = ", ".join(read_config(_model_folder(built)).classes)
    calibration = _model_folder(built) / CALIBRATION_FILE
    if calibration.exists():
        known = read_calibration(calibration).all
        pairs = zip(_THRESHOLDS, (known.image_threshold, known.pixel_threshold), strict=True)
        tags |= {_CALIBRATION: _sha256(calibration), **{key: repr(value) for key, value in pairs if value is not None}}
    return tags


def _new_version(
    name: str, run: Run, logged: LoggedModel, calibration: Path | None, folder: Path, client: MlflowClient
) -> ModelVersion:
    """Make a version, and let MLflow's page lead from its model to it."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    built = _built(logged, calibration, folder, client.tracking_uri)
    tag = (_REGISTRATION, f"{run.info.run_id}/{_sha256(calibration) or 'none'}")
    served = upload_model(built, run, client, name=logged.name, params=logged.params, tag=tag)
    source, model_id, tags = served.artifact_location, served.model_id, _version_tags(run, built)
    version = client.create_model_version(name, source, run.info.run_id, tags, await_creation_for=0, model_id=model_id)
    links = [*json.loads(served.tags.get(_VERSIONS, "[]")), {"name": name, "version": version.version}]
    client.set_logged_model_tags(model_id, {_VERSIONS: json.dumps(links)})
    return version


def _thresholds(version: ModelVersion) -> Thresholds:
    image, pixel = (version.tags.get(key) for key in _THRESHOLDS)
    return Thresholds(None if image is None else float(image), None if pixel is None else float(pixel))


def _sha256(path: Path | None) -> str:
    return "" if path is None else hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def _registry(uri: str) -> Generator[None]:
    """Turn what the model registry refuses into an `InputError` that says so."""
    try:
        yield
    except MlflowException as error:
        uri = without_password(os.environ.get("MLFLOW_REGISTRY_URI", uri))
        raise InputError(f"model registry of MLflow at {uri}: {reason(error)}") from None
