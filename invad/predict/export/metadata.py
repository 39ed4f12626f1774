"""What a runtime has to know beside the graph: how images get their size, thresholds, and which model it is."""

import hashlib
import json
from pathlib import Path
from typing import Any

from invad import __version__
from invad.features.encoder import IMAGENET_MEAN, IMAGENET_STD
from invad.metrics.calibration import NOT_CALIBRATED, Thresholds
from invad.predict.export.graph import LoadedGraph
from invad.scoring.thresholds import Calibration
from invad.workspace import WEIGHTS_FILE

# `invad.data.images.resized`, in the words of Pillow and for those who have another library.
RESIZE = {
    "interpolation": "bilinear",
    "antialias": True,
    "keep_aspect_ratio": False,
    "pillow": "Image.Resampling.BILINEAR",
}


def metadata(loaded: LoadedGraph, folder: Path, precision: str) -> dict[str, str]:
    """Return keys and values of an exported model; each value is JSON.

    Args:
        loaded: The model.
        folder: Its folder.
        precision: Of the exported graph.
    """
    config = loaded.config
    values = {
        "invad_version": __version__,
        "model": config.train.model,
        "encoder": config.features.encoder,
        "benchmark": config.benchmark,
        "classes": config.classes,
        "model_sha256": hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest(),
        "encoder_sha256": config.encoder_sha256,
        "precision": precision,
        "image_size": loaded.graph.image_size,
        "resize": RESIZE,
        "colour_order": "RGB",
        "normalisation_inside": True,
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "map_levels": loaded.score.map_levels,
        "map_distance": loaded.score.map_distance,
        "sigma": loaded.graph.sigma,
        **_thresholds(loaded.calibration),
    }
    return {key: json.dumps(value, ensure_ascii=False, allow_nan=False) for key, value in values.items()}


def _thresholds(calibration: Calibration | None) -> dict[str, Any]:
    """Those of all classes and of each; null without a calibration."""
    per_class = {} if calibration is None else calibration.per_class
    return {
        **_pair(NOT_CALIBRATED if calibration is None else calibration.all.thresholds),
        "class_thresholds": {name: _pair(held_out.thresholds) for name, held_out in per_class.items()},
        "false_positive_rate": None if calibration is None else calibration.false_positive_rate,
        "calibration_notes": [] if calibration is None else calibration.notes,
    }


def _pair(thresholds: Thresholds) -> dict[str, float | None]:
    return {"image_threshold": thresholds.image, "pixel_threshold": thresholds.pixel}
