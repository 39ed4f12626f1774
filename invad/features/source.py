"""What training and scoring ask of features, wherever they come from."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from invad.config import AS_STORED, Precision, ReadingConfig
from invad.config.constants import STRIDES
from invad.config.types import Levels
from invad.data.split_table import Phase, SplitRow
from invad.features.encoder import EncoderOutput

Item = TypeVar("Item")
Result = TypeVar("Result")


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
    """The features of one phase of a benchmark.

    Attributes:
        key: What they depend on.
        images: The image of each row, as the split table names it.
    """

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
    return images_sha256([row.image for row in rows], reading)


def images_sha256(images: Sequence[str], reading: ReadingConfig) -> str:
    """Return the same of images by their names."""
    how = [] if reading == AS_STORED else [repr(reading)]
    return hashlib.sha256("\n".join([*images, *how]).encode()).hexdigest()


def read_ahead(read: Callable[[Item], Result], items: Iterable[Item], device: torch.device) -> Iterator[Result]:
    """Yield `read(item)` of each item, in order; a thread reads the next one while a GPU computes.

    A CPU that computes has no core to spare: a third thread on two cores makes the other two wait for each other.
    """
    if device.type == "cpu":
        yield from map(read, items)
        return
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = None
        for item in items:
            following = pool.submit(read, item)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()
