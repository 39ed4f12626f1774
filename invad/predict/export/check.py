"""What is said of an export: how far it is from its model, before a file is written, and what a runtime has to know beside the graph."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from invad import __version__
from invad.features.encoder import IMAGENET_MEAN, IMAGENET_STD
from invad.metrics.calibration import NOT_CALIBRATED, Thresholds
from invad.predict.export.graph import LoadedGraph
from invad.workspace import WEIGHTS_FILE

TOLERANCE = 1e-4  # of scores and maps; times the largest value of the maps where that is above 1
RANDOM_BATCHES = (1, 3)  # images in each
Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]  # scores (B,) and maps (B, S, S)
Runtime = Callable[[NDArray[np.uint8]], Outputs]  # of images (B, S, S, 3)

# `invad.data.images.resized`, in the words of Pillow and for those who have another library.
RESIZE = {"interpolation": "bilinear", "antialias": True, "keep_aspect_ratio": False} | {
    "pillow": "Image.Resampling.BILINEAR"
}


@dataclass(frozen=True)
class Difference:
    """How far an export is from its model."""

    images: int  # that it was compared on
    maps: float  # the largest absolute difference of the maps' pixels
    mean: float  # of the same
    scores: float  # the largest absolute difference
    most: float  # of maps and scores for rounding: `TOLERANCE` times the largest value of the model's maps, or 1 if larger
    decisions: int | None  # that are others; None without an image threshold

    @property
    def is_rounding(self) -> bool:
        """Whether scores and maps differ by no more than rounding; never where one of them is no number."""
        return self.maps <= self.most and self.scores <= self.most


def compare(
    model: Runtime, export: Runtime, batches: Iterable[NDArray[np.uint8]], threshold: float | None = None
) -> Difference:
    """Run a model and its export on batches of images, uint8 (B, S, S, 3); `threshold` is that of the image score."""
    pairs = [(*model(batch), *export(batch)) for batch in batches]
    scores, maps, other_scores, other_maps = (
        np.concatenate(parts).astype(np.float64) for parts in zip(*pairs, strict=True)
    )
    of_maps, of_scores = np.abs(maps - other_maps), np.abs(scores - other_scores)
    changed = None if threshold is None else int(((scores > threshold) != (other_scores > threshold)).sum())
    most = TOLERANCE * max(1.0, float(maps.max()))
    return Difference(len(scores), float(of_maps.max()), float(of_maps.mean()), float(of_scores.max()), most, changed)


def random_batches(size: int) -> list[NDArray[np.uint8]]:
    """Return batches of noise, uint8 (B, size, size, 3), always the same, of more than one length."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (length, size, size, 3), np.uint8) for length in RANDOM_BATCHES]


def torch_runtime(module: nn.Module) -> Runtime:
    """Return a module that PyTorch runs on the CPU."""

    @torch.inference_mode()
    def run(images_bhwc: NDArray[np.uint8]) -> Outputs:
        scores, maps = module(torch.from_numpy(images_bhwc))
        return scores.numpy(), maps.numpy()

    return run


def metadata(loaded: LoadedGraph, folder: Path, precision: str) -> dict[str, str]:
    """Return keys and values of an exported model, each value as JSON; `folder` and `precision` are those of model and file."""
    config, calibration = loaded.config, loaded.calibration
    encoded = not config.train.SEES_IMAGES  # others have no encoder, and normalise nothing
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
        "mean": IMAGENET_MEAN if encoded else None,
        "std": IMAGENET_STD if encoded else None,
        "map_levels": loaded.score.map_levels,
        "map_distance": loaded.score.map_distance,
        "sigma": loaded.graph.sigma,
        **_pair(NOT_CALIBRATED if calibration is None else calibration.all.thresholds),
        "class_thresholds": {
            name: _pair(held_out.thresholds)
            for name, held_out in (calibration.per_class if calibration else {}).items()
        },
        "false_positive_rate": None if calibration is None else calibration.false_positive_rate,
        "calibration_notes": [] if calibration is None else calibration.notes,
    }
    return {key: json.dumps(value, ensure_ascii=False, allow_nan=False) for key, value in values.items()}


def _pair(thresholds: Thresholds) -> dict[str, Any]:
    return {"image_threshold": thresholds.image, "pixel_threshold": thresholds.pixel}
