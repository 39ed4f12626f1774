"""Reproducible multi-class visual anomaly detection: InvAD, COCO-AD and the metrics of arXiv:2404.10760, as one pipeline.

`invad.load(folder)` is a trained model, ready for images; `invad.metrics.evaluate` has all metrics for anybody's anomaly maps.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing this package imports neither torch nor anything else that is slow
    from pathlib import Path

    from invad.prediction.predictor import Predictor

__version__ = "0.1.0"


def load(folder: "str | Path", *, class_name: str | None = None, device: str | None = None) -> "Predictor":
    """Load a model folder, such as `models/mvtec`: `load(folder).predict(images)` gives scores, decisions, maps and regions.

    Args:
        folder: What the stages `train` and `evaluate` have written. No pickle is read.
        class_name: Whose thresholds decide; by default those of all classes together.
        device: `cpu`, `cuda`, `cuda:1`; by default a GPU where there is one.

    Raises:
        InputError: The folder is missing, damaged or made by a version that this one cannot read; or class or device are unknown.
    """
    from invad.prediction.predictor import load_predictor

    return load_predictor(folder, class_name=class_name, device=device)
