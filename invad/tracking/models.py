"""The trained model in MLflow: logged with its run, and as a version of a registered model that is served without this package.

It is the model folder and code of this package, no pickle.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import tempfile
import warnings
from dataclasses import asdict, dataclass
from importlib.metadata import requires, version
from pathlib import Path

import mlflow.artifacts
import numpy as np
from mlflow import MlflowClient, pyfunc
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

import invad
from invad.config import BenchmarkConfig, ScoreConfig
from invad.errors import InputError
from invad.metrics.calibration import NOT_CALIBRATED, Thresholds
from invad.scoring.thresholds import Calibration, read_calibration
from invad.tracking.names import flatten_settings
from invad.tracking.show import find_run
from invad.tracking.store import VARIABLE, answering, reason, tracking_uri, without_password
from invad.training.model_folder import read_config
from invad.workspace import CALIBRATION_FILE, ENCODER_FILE, Workspace

# Tags of a logged model: of which run it is, or for which run and thresholds it was made for the registry; and MLflow's, by which its page
# leads to the versions.
_TRAINED, _REGISTRATION, _VERSIONS = "invad.trained", "invad.registration", "mlflow.modelVersions"
_CALIBRATION = "invad.calibration_sha256"  # the tag of a version
_RUN_TAGS = ("invad.benchmark", "git.commit", "git.dirty", "git.remote", "dvc.split", "dvc.model")


def log_model(folder: Path, benchmark: BenchmarkConfig, run: Run, client: MlflowClient) -> None:
    """Log the model folder as the model of a run; it may have been begun before."""
    params = {name: value for name, value in flatten_settings(benchmark).items() if name.startswith("train.")}
    run_id = run.info.run_id
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / benchmark.name
        save_pyfunc(folder, benchmark.score, out)
        model = upload_model(out, run, client, name=benchmark.name, params=params, tag=(_TRAINED, run_id))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])


def upload_model(
    folder: Path, run: Run, client: MlflowClient, *, name: str, params: dict[str, str], tag: tuple[str, str]
) -> LoggedModel:
    """Return the logged model of a run that has the tag, which is made of the MLflow model in `folder` unless it is there already."""
    key, value = tag
    experiment = run.info.experiment_id
    found = client.search_logged_models([experiment], f"tags.`{key}` = '{value}'", max_results=1)
    model = next(iter(found), None) or client.create_logged_model(
        experiment, name, run.info.run_id, {key: value}, params, "anomaly-detection"
    )
    if model.status != LoggedModelStatus.READY:
        client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return model


def save_pyfunc(folder: Path, score: ScoreConfig, out: Path, *, code: bool = False) -> None:
    """Write the model in `folder` as an MLflow model to the new folder `out`; `InputError` where it is damaged or of another version.

    It takes `images`, uint8 RGB (n, size, size, 3), and gives `scores`, float32 (n,), and `maps`, float32 (n, size, size), as the
    stage `score` does. With a calibration in `folder` it also gives `anomalous`, bool (n,), and takes the param `class_name`.

    score: How maps are made, where no calibration says it. code: Put a copy of this package in, so that who loads the model needs no other.
    """
    config = read_config(folder)
    path = folder / CALIBRATION_FILE
    calibration = read_calibration(path) if path.exists() else None
    score = score if calibration is None else calibration.score
    with warnings.catch_warnings(record=True):  # hints for models of another kind; a filter would not hold them
        pyfunc.save_model(
            out,
            python_model=str(Path(__file__).with_name("serving_model.py")),
            artifacts={"model": str(folder)},
            code_paths=[str(Path(invad.__file__).parent)] if code else None,
            signature=_signature(config.features.image_size, calibration),
            pip_requirements=_requirements("mlflow", *(() if code else ("invad",))),
            model_config={"score": asdict(score)},
            metadata={"benchmark": config.benchmark, "classes": list(config.classes), "invad": invad.__version__},
        )


def _signature(size: int, calibration: Calibration | None) -> ModelSignature:
    images = TensorSpec(np.dtype(np.uint8), (-1, size, size, 3), "images")
    scores = TensorSpec(np.dtype(np.float32), (-1,), "scores")
    anomalous = TensorSpec(np.dtype(np.bool_), (-1,), "anomalous")
    maps = TensorSpec(np.dtype(np.float32), (-1, size, size), "maps")
    if calibration is None or calibration.all.image_threshold is None:
        return ModelSignature(Schema([images]), Schema([scores, maps]))
    params = ParamSchema([ParamSpec("class_name", "string", "")])
    return ModelSignature(Schema([images]), Schema([scores, anomalous, maps]), params)


def _requirements(*others: str) -> list[str]:
    """Return what this package needs without its extras, and `others`, each as it is installed."""
    own = {re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in requires("invad") or () if "extra ==" not in text}
    # Without what stands behind a +, which no index has.
    return [f"{name}=={version(name).partition('+')[0]}" for name in sorted({*own, *others}, key=str.lower)]


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

    `InputError`: there is no such run, it failed or has no model, MLflow or its registry do not answer, or refuse name or alias.
    """
    with tempfile.TemporaryDirectory() as temporary, answering(workspace) as client:
        folder = Path(temporary)
        run = find_run(run_id, client, workspace)
        logged = _logged_model(run, client)
        tags = _thresholds_of(run, client, folder)
        name = name or f"invad-{run.data.tags.get('invad.benchmark', logged.name)}"
        try:
            known = client.search_model_versions(f"run_id = '{run.info.run_id}'")
            same = [int(item.version) for item in known if item.name == name and tags.items() <= item.tags.items()]
            number = max(same, default=0) or _new_version(name, run, logged, tags, folder, client)
            if alias is not None:
                client.set_registered_model_alias(name, alias, str(number))
        except MlflowException as error:
            registry = without_password(os.environ.get("MLFLOW_REGISTRY_URI", client.tracking_uri))
            raise InputError(f"model registry of MLflow at {registry}: {reason(error)}") from None
        path = folder / CALIBRATION_FILE
        thresholds = read_calibration(path).all.thresholds if path.exists() else NOT_CALIBRATED
    return RegisteredVersion(name, number, not same, thresholds)


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
        lacks = "it has no model in MLflow; trials keep none, and of a benchmark `invad-pipe runs sync` logs it"
        raise InputError(f"run {run_id}: {lacks}")
    return max(own, key=lambda model: model.creation_timestamp)


def _thresholds_of(run: Run, client: MlflowClient, folder: Path) -> dict[str, str]:
    """Fetch the thresholds that the run logged into `folder`, and return the tags of a version with them; none without any."""
    if CALIBRATION_FILE not in {item.path for item in client.list_artifacts(run.info.run_id)}:
        return {}
    path = Path(client.download_artifacts(run.info.run_id, CALIBRATION_FILE, str(folder)))
    known = read_calibration(path).all
    pairs = {"threshold.image": known.image_threshold, "threshold.pixel": known.pixel_threshold}
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return {_CALIBRATION: sha256, **{key: repr(value) for key, value in pairs.items() if value is not None}}


def _new_version(
    name: str, run: Run, logged: LoggedModel, tags: dict[str, str], folder: Path, client: MlflowClient
) -> int:
    """Make a version of the logged model and the thresholds in `folder`, let MLflow's page lead to it, and return its number."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    model = _save_served(logged, folder, client.tracking_uri)
    known = run.data
    tags |= {key: known.tags[key] for key in _RUN_TAGS if key in known.tags}
    tags |= {key: f"{value:.4f}" for key, value in known.metrics.items() if re.fullmatch("paper/[^/]+", key)}
    tags["invad.classes"] = ", ".join(read_config(model).classes)
    made_for = (_REGISTRATION, f"{run.info.run_id}/{tags.get(_CALIBRATION, 'none')}")
    served = upload_model(folder / "served", run, client, name=logged.name, params=logged.params, tag=made_for)
    source, model_id = served.artifact_location, served.model_id
    version = client.create_model_version(name, source, run.info.run_id, tags, await_creation_for=0, model_id=model_id)
    links = [*json.loads(served.tags.get(_VERSIONS, "[]")), {"name": name, "version": version.version}]
    client.set_logged_model_tags(model_id, {_VERSIONS: json.dumps(links)})
    return int(version.version)


def _save_served(logged: LoggedModel, folder: Path, uri: str) -> Path:
    """Write `served`, an MLflow model of the logged one, the thresholds in `folder` and this package; return the model folder in it."""
    place = str(folder / "logged")
    source = Path(mlflow.artifacts.download_artifacts(logged.artifact_location, dst_path=place, tracking_uri=uri))
    settings = Model.load(str(source)).flavors["python_function"]
    model = source / settings["artifacts"]["model"]["path"]
    if not (model / ENCODER_FILE).is_file():
        old = "an older version logged its model, without the encoder; train it again"
        raise InputError(f"run {logged.source_run_id}: {old}")
    if (folder / CALIBRATION_FILE).exists():
        shutil.copyfile(folder / CALIBRATION_FILE, model / CALIBRATION_FILE)
    save_pyfunc(model, ScoreConfig(**settings["config"]["score"]), folder / "served", code=True)
    return model
