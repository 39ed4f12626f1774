"""The trained model as MLflow serves it: code of this package and the model folder, no pickle."""

import re
import tempfile
import warnings
from dataclasses import asdict
from importlib.metadata import requires, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Run

import invad
from invad.config import BenchmarkConfig, ScoreConfig
from invad.scoring.thresholds import Calibration, read_calibration
from invad.tracking.names import flatten_settings
from invad.training.model_folder import read_config
from invad.workspace import CALIBRATION_FILE

if TYPE_CHECKING:
    from mlflow.models.signature import ModelSignature


_TRAINED = "invad.trained"  # the tag of a logged model: of which run


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
    model = (
        found[0]
        if found
        else client.create_logged_model(experiment, name, run.info.run_id, {key: value}, params, "anomaly-detection")
    )
    if model.status != LoggedModelStatus.READY:
        client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return model


def save_pyfunc(folder: Path, score: ScoreConfig, out: Path, *, code: bool = False) -> None:
    """Write the model in `folder` as an MLflow model to the new folder `out`.

    It takes `images`, uint8 RGB (n, size, size, 3), and gives `scores`, float32 (n,), and `maps`, float32 (n, size, size), as the
    stage `score` does. With a calibration in `folder` it also gives `anomalous`, bool (n,), and takes the param `class_name`.

    Args:
        folder: The model folder, with its encoder.
        score: How maps are made, where the folder has no calibration that says it.
        out: Holds everything that serves the model, but for packages.
        code: Put a copy of this package in, so that who loads the model needs no other.

    Raises:
        InputError: The folder is damaged or of another version.
    """
    from mlflow import pyfunc  # takes a second to import

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
            pip_requirements=_requirements(("mlflow",) if code else ("mlflow", "invad")),
            model_config={"score": asdict(score)},
            metadata={"benchmark": config.benchmark, "classes": list(config.classes), "invad": invad.__version__},
        )


def _signature(size: int, calibration: Calibration | None) -> "ModelSignature":
    from mlflow.models.signature import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

    decides = calibration is not None and calibration.all.image_threshold is not None
    outputs: list[ColSpec | TensorSpec] = [
        TensorSpec(np.dtype(np.float32), (-1,), "scores"),
        TensorSpec(np.dtype(np.float32), (-1, size, size), "maps"),
    ]
    if decides:
        outputs.insert(1, TensorSpec(np.dtype(np.bool_), (-1,), "anomalous"))
    inputs = Schema([TensorSpec(np.dtype(np.uint8), (-1, size, size, 3), "images")])
    if not decides:
        return ModelSignature(inputs, Schema(outputs))
    return ModelSignature(inputs, Schema(outputs), ParamSchema([ParamSpec("class_name", "string", "")]))


def _requirements(others: tuple[str, ...]) -> list[str]:
    """Return what this package needs without its extras, and `others`, each as it is installed."""
    names = [re.match(r"[\w.-]+", text) for text in requires("invad") or () if "extra ==" not in text]
    own = [name[0] for name in names if name is not None]
    # Without what stands behind a +, which no index has.
    return [f"{name}=={version(name).partition('+')[0]}" for name in sorted({*own, *others}, key=str.lower)]
