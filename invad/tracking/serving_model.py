"""What MLflow runs when it loads a logged model: images in, scores and maps out, the numbers of `invad.load`."""

from pathlib import Path
from typing import Any

import mlflow.models
import mlflow.pyfunc
import numpy as np
from mlflow.exceptions import MlflowException

from invad.config import ScoreConfig
from invad.devices import best_device
from invad.predict.detector import load_detector
from invad.predict.predictor import Predictor
from invad.training.model_folder import read_config


class ServedModel(mlflow.pyfunc.PythonModel):
    """A model folder, on a GPU where there is one."""

    def load_context(self, context: Any) -> None:  # noqa: ANN401  (MLflow's)
        """Load the folder that is the artifact `model`. `InputError` when it is damaged or of another version."""
        folder = Path(context.artifacts["model"])
        detector = load_detector(folder, ScoreConfig(**context.model_config["score"]), best_device())
        self._predictor = Predictor(detector, read_config(folder), None)

    # Without the types of arguments, of which MLflow would make a schema of its own.
    # pyrefly: ignore[bad-override, implicit-any-parameter]
    def predict(self, context, model_input, params=None) -> dict[str, np.ndarray]:  # noqa: ANN001
        """Return `scores`, float32 (n,), and raw `maps`, float32 (n, size, size), of `images`, RGB, uint8 (n, size, size, 3)."""
        images, size, step = model_input["images"], self._predictor.image_size, self._predictor.batch_size
        parts = [(np.empty((0, size, size), np.float32), np.empty(0, np.float32))]
        parts += [self._predictor.maps(images[start : start + step]) for start in range(0, len(images), step)]
        maps, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
        if not (np.isfinite(maps).all() and np.isfinite(scores).all()):
            raise MlflowException("the model gives NaN or infinity as scores")
        return {"scores": scores, "maps": maps}


mlflow.models.set_model(ServedModel())
