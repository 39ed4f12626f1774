"""Features that are not stored: the encoder runs whenever they are asked for."""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from invad.config import FeaturesConfig
from invad.data.images import read_image
from invad.data.split_table import Phase, Split
from invad.devices import autocast, compiled, place
from invad.features.encoder import Encoder, configured_encoder, normalize
from invad.features.source import FeatureKey, FeatureSource, read_ahead, split_sha256


class LiveFeatures(FeatureSource):
    """The features of one phase, computed from its images batch by batch.

    Attributes:
        key: What they depend on.
        images: The image of each row, as the split table names it.
    """

    def __init__(self, split: Split, phase: Phase, config: FeaturesConfig, encoder: Encoder | None = None) -> None:
        """Use `encoder`, or build the one of `config`."""
        encoder = encoder or configured_encoder(config)
        self._encoder = encoder
        self._config = config
        rows = split.phase(phase)
        self._paths = [split.image_path(row) for row in rows]
        self._reading = split.reading
        self.images: Sequence[str] = [row.image for row in rows]
        self.key = feature_key(split, phase, config, encoder)

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, batches: Iterable[Sequence[int] | np.ndarray], device: torch.device) -> Iterator[list[Tensor]]:
        """Yield the features of each batch of rows: see `FeatureSource`. `InputError` names an image that is missing or damaged."""
        encoder = compiled(place(self._encoder, device, self._config), self._config)
        with ThreadPoolExecutor(os.cpu_count()) as decoders:

            def read(rows: Sequence[int] | np.ndarray) -> np.ndarray:
                size = self._config.image_size
                return np.stack(list(decoders.map(lambda row: read_image(self._paths[row], size, self._reading), rows)))

            for images in read_ahead(read, batches, device):
                with torch.no_grad(), autocast(device, self._config.precision):
                    levels = encoder(normalize(torch.from_numpy(images).to(device)))
                yield [level.float() for level in levels]


def feature_key(split: Split, phase: Phase, config: FeaturesConfig, encoder: Encoder) -> FeatureKey:
    """Return what the features of `phase` depend on with these settings."""
    return FeatureKey(
        encoder=encoder.name,
        weights_sha256=encoder.weights_sha256,
        channels=encoder.channels,
        image_size=config.image_size,
        precision=config.precision,
        dtype=config.dtype if config.mode == "store" else "float32",
        phase=phase,
        split_sha256=split_sha256(split.phase(phase), split.reading),
        levels=config.levels,
        strides=encoder.strides,
        prefix_tokens=encoder.prefix_tokens,
    )
