"""A model folder as one network, and how it is loaded."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from invad.config import FeaturesConfig, ScoreConfig
from invad.devices import autocast, compiled, place
from invad.errors import InputError
from invad.features.batches import Batch, image_tensor
from invad.features.encoder import Encoder, normalize
from invad.methods import Method
from invad.methods.base import Prediction
from invad.scoring.score import finished, sharp
from invad.scoring.thresholds import Calibration, read_calibration
from invad.training.model_folder import ModelConfig, load_encoder, load_model
from invad.workspace import CALIBRATION_FILE


class Detector(nn.Module):
    """A model folder as one network: encoder, method, anomaly map, blur and the scores of the images, as the stage `score` has them.

    `features`, `score`: how the encoder runs and how maps are made.
    """

    def __init__(self, encoder: Encoder, method: Method, features: FeaturesConfig, score: ScoreConfig) -> None:
        super().__init__()
        self.features, self.score = features, score
        self.encoder, self.method = encoder, method.requires_grad_(False)
        self._levels = method.needs.tensors(method.output)
        # A copy of this module has a method of its own: what is not compiled is looked up when it is called.
        self._encode = compiled(encoder, features) if features.compile else None
        self._predict = compiled(method.predict, score) if score.compile else None

    def batch(self, images_bhwc: Tensor, views: int = 1) -> Batch:
        """Return what the method asks for of RGB images, uint8 (B, size, size, 3), so many of which in a row are views of one object."""
        images = image_tensor(images_bhwc) if self.method.needs.images else None
        if not self._levels:
            return Batch(images=images, views=views)
        with autocast(images_bhwc.device, self.features.precision):
            encode = self.encoder if self._encode is None else self._encode  # what is compiled has no truth value
            levels = encode(normalize(images_bhwc))
        # A store of halves rounds the features that the method was trained on.
        rounded = self.features.mode == "store" and self.features.dtype == "float16"
        levels = [level.half().float() if rounded else level.float() for level in levels]
        return Batch(tuple(levels[level] for level in self._levels), images, views=views)

    def sharp(self, images_bhwc: Tensor) -> Prediction:
        """Return maps before the blur, float32 (B, size, size), and the method's own scores of the images, if it has any."""
        return sharp(self.method, self._predict or self.method.predict, self.batch(images_bhwc), self.score)

    def forward(self, images_bhwc: Tensor, views: int = 1) -> tuple[Tensor, Tensor]:
        """Return raw maps, float32 (B, size, size), and scores, float32 (B,), of RGB images, uint8 (B, size, size, 3)."""
        return finished(self.method, self._predict or self.method.predict, self.batch(images_bhwc, views), self.score)


def check_single_images(config: ModelConfig, folder: Path) -> None:
    """Raise `InputError` for a model that takes no image by itself."""
    if config.train.VIEWS:
        how = f"invad.load({str(folder)!r}).predict(images, views=...)"
        raise InputError(f"{folder}: {config.train.model} needs all views of an object together; in Python: {how}")


def load_detector(folder: Path, score: ScoreConfig, device: torch.device, *, plain: bool = False) -> Detector:
    """Load encoder and method of a model folder in eval mode; `plain`: in float32 and not compiled, whatever the settings ask for.

    `InputError`: the folder is missing, damaged or of another format, or its encoder cannot be had.
    """
    method, config = load_model(folder)
    encoder, features = load_encoder(folder, config), config.features
    if plain:
        features = replace(features, precision="float32", compile=False)
        score = replace(score, precision="float32", compile=False)
    return Detector(place(encoder, device, features), place(method, device, score), features, score).eval()


def load_calibration(folder: Path) -> Calibration | None:
    """Return the thresholds of a model folder; None where it has none. `InputError` for a damaged file."""
    path = folder / CALIBRATION_FILE
    return read_calibration(path) if path.exists() else None
