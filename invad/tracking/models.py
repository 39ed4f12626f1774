"""A trained model in MLflow, without pickle: its folder and a copy of this package, logged with the run, and versions of it."""

import tempfile
import warnings
from dataclasses import asdict
from importlib.metadata import requires
from pathlib import Path

import numpy as np
from mlflow import MlflowClient, pyfunc
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Run
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

import invad
from invad.config import BenchmarkConfig
from invad.errors import InputError
from invad.tracking.origin import flatten_settings
from invad.tracking.show import find_run
from invad.tracking.store import answering
from invad.training.model_folder import read_config
from invad.workspace import Workspace


def log_model(folder: Path, benchmark: BenchmarkConfig, run: Run, client: MlflowClient) -> None:
    """Log a model folder as the run's model: `images` as `Predictor.maps` takes them, `scores` and `maps` out; `InputError`: damaged."""
    config = read_config(folder)
    size, run_id = config.features.image_size, run.info.run_id
    images = TensorSpec(np.dtype(np.uint8), (-1, size, size, 3), "images")
    scores = TensorSpec(np.dtype(np.float32), (-1,), "scores")
    maps = TensorSpec(np.dtype(np.float32), (-1, size, size), "maps")
    params = {name: value for name, value in flatten_settings(benchmark).items() if name.startswith("train.")}
    with tempfile.TemporaryDirectory() as temporary:
        with warnings.catch_warnings(record=True):  # hints for models of another kind; a filter would not hold them
            pyfunc.save_model(
                temporary,
                python_model=str(Path(__file__).with_name("serving_model.py")),
                artifacts={"model": str(folder)},
                code_paths=[str(Path(invad.__file__).parent)],
                signature=ModelSignature(Schema([images]), Schema([scores, maps])),
                pip_requirements=["mlflow", *(text for text in requires("invad") or () if "extra ==" not in text)],
                model_config={"score": asdict(benchmark.score)},
                metadata={"benchmark": config.benchmark, "classes": list(config.classes), "invad": invad.__version__},
            )
        kind = "anomaly-detection"
        model = client.create_logged_model(run.info.experiment_id, benchmark.name, run_id, {}, params, kind)
        client.log_model_artifacts(model.model_id, temporary)
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])


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
