"""A trained model in MLflow, without pickle: its folder and a copy of this package, logged with the run."""

import tempfile
import warnings
from dataclasses import asdict
from importlib.metadata import requires
from pathlib import Path

import numpy as np
from mlflow import MlflowClient, pyfunc
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Run
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

import invad
from invad.config import BenchmarkConfig
from invad.tracking.origin import flatten_settings
from invad.training.model_folder import read_config


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
