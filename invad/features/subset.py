"""Features of some of a phase's images."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from invad.config import AS_STORED, ReadingConfig
from invad.features.source import FeatureSource, images_sha256


class SubsetFeatures(FeatureSource):
    """Some rows of another feature source, in the order given.

    Attributes:
        key: That of the source, but for the digest, which is of these images.
        images: The image of each row, as the split table names it.
    """

    def __init__(self, source: FeatureSource, rows: Sequence[int], reading: ReadingConfig = AS_STORED) -> None:
        """Use the rows `rows` of `source`, each in [0, len(source)), whose images are read so."""
        self._source = source
        self._rows = np.asarray(rows, np.int64)
        self.images: Sequence[str] = [source.images[row] for row in rows]
        self.key = replace(source.key, split_sha256=images_sha256(self.images, reading))

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, batches: Iterable[Sequence[int] | np.ndarray], device: torch.device) -> Iterator[list[Tensor]]:
        """Yield the features of each batch of rows: see `FeatureSource`."""
        yield from self._source.batches((self._rows[np.asarray(batch)] for batch in batches), device)
