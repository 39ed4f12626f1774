"""What training and scoring ask of features, wherever they come from, and those that come from the encoder whenever they are asked for."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from invad.config import AS_STORED, FeaturesConfig, Precision, ReadingConfig
from invad.config.constants import STRIDES
from invad.config.types import Levels
from invad.data.images import read_image
from invad.data.split_table import Phase, Split, SplitRow
from invad.devices import autocast, compiled, place
from invad.features.ahead import cores, read_ahead
from invad.features.encoder import Encoder, EncoderOutput, configured_encoder, normalize


@dataclass(frozen=True)
class FeatureKey:
    """What features depend on; stored with them and compared when they are opened.

    `channels`: of the levels, fine to coarse. `dtype`: that of the store, float32 where there is none. `precision`: the encoder's.
    `levels`: as the settings have them. `strides`, `prefix_tokens`: of each level.
    """

    encoder: str
    weights_sha256: str
    channels: tuple[int, ...]
    image_size: int
    precision: Precision
    dtype: str
    phase: Phase
    split_sha256: str
    levels: Levels = STRIDES
    strides: tuple[int, ...] = STRIDES
    prefix_tokens: int = 0

    @classmethod
    def of_plain(cls, value: dict[str, Any]) -> "FeatureKey":
        """Return the key that was written as plain values; TypeError where it is none."""
        if not isinstance(value, dict):
            raise TypeError(f"no key: {value!r}")
        return cls(**{name: _as_tuple(item) for name, item in value.items()})

    def as_plain(self) -> dict[str, Any]:
        """Return it as JSON can hold it, without what is as it was before there was a choice."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != field.default}

    @property
    def output(self) -> EncoderOutput:
        """What a method has to be built for."""
        return EncoderOutput(self.encoder, self.channels, self.image_size, self.strides, self.prefix_tokens)


def _as_tuple(value: Any) -> Any:  # noqa: ANN401  (what JSON holds)
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


class FeatureSource(Protocol):
    """The features of one phase of a benchmark. `key`: what they depend on. `images`: that of each row, as the split table names it."""

    key: FeatureKey
    images: Sequence[str]

    def __len__(self) -> int:
        """Return the number of images."""

    def batches(self, batches: Iterable[Sequence[int] | np.ndarray], device: torch.device) -> Iterator[list[Tensor]]:
        """Yield for each batch of rows, in order, its features on `device`: float32 (b, *shape) for each of `key.output.shapes`.

        Their memory format is that of the source; `invad.devices.formatted` brings them into another one.
        """


def split_sha256(rows: Sequence[SplitRow], reading: ReadingConfig = AS_STORED) -> str:
    """Return the SHA-256 that identifies the images of `rows`, their order, and how they are read."""
    how = [] if reading == AS_STORED else [repr(reading)]
    return hashlib.sha256("\n".join([*(row.image for row in rows), *how]).encode()).hexdigest()


class LiveFeatures(FeatureSource):
    """The features of one phase, which are not stored: computed from its images batch by batch."""

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
        with ThreadPoolExecutor(cores()) as decoders:

            def read(rows: Sequence[int] | np.ndarray) -> np.ndarray:
                size = self._config.image_size
                return np.stack(list(decoders.map(lambda row: read_image(self._paths[row], size, self._reading), rows)))

            with read_ahead(read, batches, device) as decoded:
                for images in decoded:
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
