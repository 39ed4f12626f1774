"""A model folder as one network: images in, anomaly maps out, the numbers of the stage `score`."""

from pathlib import Path

import torch
from torch import Tensor, nn

from invad.config import FeaturesConfig, ScoreConfig
from invad.devices import autocast, place
from invad.features.encoder import Encoder, normalize
from invad.methods import Method
from invad.scoring.score import feature_maps
from invad.training.model_folder import load_encoder, load_model


class Detector(nn.Module):
    """Encoder, method, anomaly map and blur.

    Attributes:
        features, score: How the encoder runs and how maps are made.
    """

    def __init__(self, encoder: Encoder, method: Method, features: FeaturesConfig, score: ScoreConfig) -> None:
        super().__init__()
        self.features, self.score = features, score
        self.encoder, self.method = encoder, method.requires_grad_(False)
        for network, config in ((encoder, features), (method, score)):
            if config.compile:
                network.compile()

    def forward(self, images_bhwc: Tensor) -> Tensor:
        """Return raw maps, float32 (B, size, size), of RGB images, uint8 (B, size, size, 3)."""
        with autocast(images_bhwc.device, self.features.precision):
            levels = self.encoder(normalize(images_bhwc))
        # A store of halves rounds the features that the method was trained on.
        rounded = self.features.mode == "store" and self.features.dtype == "float16"
        levels = [level.half().float() if rounded else level.float() for level in levels]
        return feature_maps(self.method, self.method, levels, self.features.image_size, self.score)


def load_detector(folder: Path, score: ScoreConfig, device: torch.device) -> Detector:
    """Load encoder and method of a model folder in eval mode.

    Raises:
        InputError: The folder is missing, damaged or of another format, or its encoder cannot be had.
    """
    method, config = load_model(folder)
    encoder = load_encoder(folder, config)
    detector = Detector(place(encoder, device, config.features), place(method, device, score), config.features, score)
    return detector.eval()
