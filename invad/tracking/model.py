"""The trained model as MLflow serves it: code of this package and the model folder, no pickle."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np

from invad.config import BenchmarkConfig

_REQUIREMENTS = ("invad", "mlflow", "numpy", "timm", "torch", "torchvision")


def save_pyfunc(folder: Path, benchmark: BenchmarkConfig, out: Path) -> None:
    """Write the model in `folder` as an MLflow model to the new folder `out`.

    It takes `images`, uint8 RGB (n, size, size, 3), and gives `scores`, float32 (n,), and `maps`, float32 (n, size, size), as the
    stage `score` does. Who loads it needs this package; encoder weights of a file come with it.
    """
    from mlflow import pyfunc  # takes a second to import
    from mlflow.models.signature import ModelSignature
    from mlflow.types import Schema, TensorSpec

    size = benchmark.features.image_size
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.uint8), (-1, size, size, 3), "images")]),
        Schema(
            [
                TensorSpec(np.dtype(np.float32), (-1,), "scores"),
                TensorSpec(np.dtype(np.float32), (-1, size, size), "maps"),
            ]
        ),
    )
    artifacts = {"model": str(folder)}
    if Path(benchmark.features.weights).is_file():
        artifacts["encoder"] = benchmark.features.weights
    with warnings.catch_warnings(), _quiet("mlflow"):
        warnings.simplefilter("ignore")  # hints for models of another kind
        pyfunc.save_model(
            out,
            python_model=str(Path(__file__).with_name("serving_model.py")),
            artifacts=artifacts,
            signature=signature,
            pip_requirements=[f"{name}=={version(name)}" for name in _REQUIREMENTS],
            model_config={"score": asdict(benchmark.score), "features": asdict(benchmark.features)},
            metadata={"benchmark": benchmark.name, "sigma": benchmark.score.sigma},
        )


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Show only errors of a logger meanwhile."""
    chatty = logging.getLogger(name)
    level = chatty.level
    chatty.setLevel(logging.ERROR)
    try:
        yield
    finally:
        chatty.setLevel(level)
