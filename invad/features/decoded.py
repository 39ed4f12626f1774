"""Decoded images of a bounded memory, so that a training decodes no image twice."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from invad.config import AS_STORED, ReadingConfig
from invad.data.images import read_image

MOST_BYTES = 2 * 2**30  # 10,922 images of 256 pixels


def kept_bytes(images: int, size: int, most_bytes: int = MOST_BYTES) -> int:
    """Return the memory of those of so many images, `size` pixels wide, that are kept."""
    each = 3 * size**2
    return min(images, most_bytes // each) * each


class DecodedImages(Sequence[np.ndarray]):
    """Images, uint8 (size, size, 3), each decoded when it is first asked for and kept.

    Where all of them take more than `most_bytes`, evenly spaced ones are kept, whose positions are `kept`; the others are decoded each
    time.
    """

    def __init__(
        self, paths: Sequence[Path], size: int, reading: ReadingConfig = AS_STORED, most_bytes: int = MOST_BYTES
    ) -> None:
        self._paths, self._size, self._reading = paths, size, reading
        room = kept_bytes(len(paths), size, most_bytes) // (3 * size**2)
        self.kept = np.linspace(0, len(paths) - 1, room).astype(np.int64)
        self._places = {row: place for place, row in enumerate(self.kept.tolist())}
        self._pixels = np.empty((room, size, size, 3), np.uint8)  # takes memory only as it is written
        self._decoded = np.zeros(room, bool)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: int) -> np.ndarray:  # pyrefly: ignore[bad-override]
        """Return an image; `InputError` names one that is missing or damaged."""
        place = self._places.get(row)
        if place is None:
            return read_image(self._paths[row], self._size, self._reading)
        if not self._decoded[place]:
            self._pixels[place] = read_image(self._paths[row], self._size, self._reading)
            self._decoded[place] = True
        return self._pixels[place]
