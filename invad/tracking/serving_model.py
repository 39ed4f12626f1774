"""What MLflow runs when it loads a logged model: images in, scores and maps out, as the stage `score` computes them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow.models
import mlflow.pyfunc
import numpy as np
import torch
from torch import Tensor

from invad.config import FeaturesConfig, ScoreConfig
from invad.devices import autocast, best_device, compiled, place
from invad.encoders import Encoder, build_encoder, normalize
from invad.errors import InputError
from invad.model_folder import load_model
from invad.scoring import source_maps


class ServedModel(mlflow.pyfunc.PythonModel):
    """Encoder and method, as they were trained and scored."""

    def load_context(self, context: Any) -> None:  # noqa: ANN401  (MLflow's)
        """Build the encoder and load the model from the artifacts. `InputError` when the encoder is not the one of the training."""
        folder = Path(context.artifacts["model"])
        self._method, config = load_model(folder)
        features = FeaturesConfig(**context.model_config["features"])
        self._features = replace(features, weights=context.artifacts.get("encoder", features.weights))
        self._score = ScoreConfig(**context.model_config["score"])
        self._encoder = build_encoder(self._features.encoder, self._features.weights)
        if self._encoder.weights_sha256 != config.encoder_sha256:
            raise InputError(f"{folder}: trained with an encoder whose weights are not those of {features.weights}")
        self._method = place(self._method, best_device(), self._score)

    def predict(self, context, model_input, params=None) -> dict[str, np.ndarray]:  # noqa: ANN001  (MLflow's)
        """Return `scores` (n,) and `maps` (n, size, size), float32, of `images`, uint8 (n, size, size, 3)."""
        images = model_input["images"] if isinstance(model_input, Mapping) else np.asarray(model_input)
        size = self._features.image_size
        source = _ArrayFeatures(images, self._encoder, self._features)
        maps = [np.empty((0, size, size), np.float32)]
        maps += source_maps(self._method, source, size, self._score)
        joined = np.concatenate(maps)
        return {"scores": joined.max(axis=(1, 2)), "maps": joined}


class _ArrayFeatures:
    """The features of images in memory: what the stage `features` gives for them."""

    def __init__(self, images: np.ndarray, encoder: Encoder, config: FeaturesConfig) -> None:
        self._images = images
        self._encoder = encoder
        self._config = config

    def __len__(self) -> int:
        return len(self._images)

    @torch.no_grad()
    def batches(self, batches: Iterable[Sequence[int]], device: torch.device) -> Iterator[list[Tensor]]:
        encoder = compiled(place(self._encoder, device, self._config), self._config)
        for rows in batches:
            images = torch.from_numpy(np.ascontiguousarray(self._images[list(rows)])).to(device)
            with autocast(device, self._config.precision):
                levels = encoder(normalize(images))
            # A store of halves rounds them.
            rounded = self._config.mode == "store" and self._config.dtype == "float16"
            yield [level.half().float() if rounded else level.float() for level in levels]


mlflow.models.set_model(ServedModel())
