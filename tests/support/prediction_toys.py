"""A model folder with random weights, for the tests of prediction, export and service."""

from dataclasses import replace
from pathlib import Path

import torch

from invad.config import FeaturesConfig, InvADConfig, ScoreConfig
from invad.features.encoder import build_encoder
from invad.methods import EncoderOutput, build_method
from invad.scoring.thresholds import Calibration, HeldOut, write_calibration
from invad.training.model_folder import ModelConfig, save_model
from invad.workspace import CALIBRATION_FILE

ENCODER = "mobilenetv2_100"


def toy_model_folder(
    folder: Path, *, calibrated: bool = True, image_size: int = 64, thresholds: tuple[float, float] = (1.07, 1.05)
) -> Path:
    """Write a whole model folder, always with the same random weights. `thresholds`: of image and pixel, amid those of noise; `cable` has
    twice as high ones.
    """
    features = FeaturesConfig(ENCODER, "none", image_size=image_size)
    train = InvADConfig(blocks=1, style_channels=8, latent_channels=4)
    encoder = build_encoder(ENCODER, "none")
    torch.manual_seed(0)
    method = build_method(EncoderOutput(ENCODER, encoder.channels, image_size), train)
    config = ModelConfig("toys", ("bottle", "cable"), encoder.channels, encoder.weights_sha256, features, train)
    save_model(method, config, folder, encoder)
    if calibrated:
        image, pixel = thresholds
        held_out = HeldOut(image, pixel, 10)
        per_class = {
            "bottle": held_out,
            "cable": replace(held_out, image_threshold=2 * image, pixel_threshold=2 * pixel),
        }
        calibration = Calibration(
            0.01, 20, per_class, replace(held_out, images=20), [], ScoreConfig(sigma=4.0, batch_size=4)
        )
        write_calibration(calibration, folder / CALIBRATION_FILE)
    return folder
