"""What MLflow runs when it loads a logged model: images in; scores, maps and decisions out, the numbers of `invad.load`."""

from pathlib import Path
from typing import Any

import mlflow.models
import mlflow.pyfunc
import numpy as np
from mlflow.exceptions import MlflowException

from invad.config import ScoreConfig
from invad.devices import best_device
from invad.predict.predictor import Predictor, load_calibration, load_detector
from invad.training.model_folder import read_config


class ServedModel(mlflow.pyfunc.PythonModel):
    """A model folder, on a GPU where there is one."""

    def load_context(self, context: Any) -> None:  # noqa: ANN401  (MLflow's)
        """Load the folder that is the artifact `model`. `InputError` when it is damaged or of another version."""
        folder = Path(context.artifacts["model"])
        detector = load_detector(folder, ScoreConfig(**context.model_config["score"]), best_device())
        self._predictor = Predictor(detector, read_config(folder), load_calibration(folder))

    # Without the types of arguments, of which MLflow would make a schema of its own.
    # pyrefly: ignore[bad-override, implicit-any-parameter]
    def predict(self, context, model_input, params=None) -> dict[str, np.ndarray]:  # noqa: ANN001
        """Return what a model says of `images`, RGB, uint8 (n, size, size, 3).

        `scores`: float32 (n,), larger where more anomalous. `maps`: float32 (n, size, size), raw. `anomalous`: bool (n,), whether the
        score lies above the threshold, where the model has one: that of the param `class_name`, by default of all classes together.
        """
        images, size, step = model_input["images"], self._predictor.image_size, self._predictor.batch_size
        threshold = self._threshold((params or {}).get("class_name", ""))
        parts = [(np.empty((0, size, size), np.float32), np.empty(0, np.float32))]
        parts += [self._predictor.maps(images[start : start + step]) for start in range(0, len(images), step)]
        joined, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
        if not (np.isfinite(joined).all() and np.isfinite(scores).all()):
            raise MlflowException("the model gives NaN or infinity as scores")
        decisions = {} if threshold is None else {"anomalous": scores > np.float64(threshold)}
        return {"scores": scores, **decisions, "maps": joined}

    def _threshold(self, class_name: str) -> float | None:
        calibration = self._predictor.calibration
        if calibration is None or not class_name:
            return None if calibration is None else calibration.all.thresholds.image
        held_out = calibration.per_class.get(class_name)
        if held_out is None or held_out.image_threshold is None:
            known = ", ".join(name for name, item in calibration.per_class.items() if item.image_threshold is not None)
            raise MlflowException.invalid_parameter_value(f"class_name {class_name!r}: thresholds are known of {known}")
        return held_out.image_threshold


mlflow.models.set_model(ServedModel())
