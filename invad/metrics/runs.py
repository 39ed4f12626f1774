"""The scores of some images of one class in order, in little memory.

A score is an integer of the same order, its key. Keys of float32 scores that share their 16 high bits, a page, are neighbours in a sorted
run, which keeps the 16 low bits of each and the high ones once: half of what the scores take.
"""

from dataclasses import dataclass

import numpy as np

PAGES = 1 << 16
"""So many there are: from minus half of that on."""


def working_type(dtype: np.dtype) -> type[np.float32] | type[np.float64]:
    """The type that scores are kept in: float32 where it holds all scores of `dtype`, else float64."""
    return np.float32 if np.can_cast(dtype, np.float32) else np.float64


def score_keys(scores: np.ndarray) -> np.ndarray:
    """Integers of the scores' size and order, float32 (n,) -> int32 (n,) and float64 (n,) -> int64 (n,)."""
    keys = (scores + scores.dtype.type(0)).view(np.int32 if scores.itemsize == 4 else np.int64)  # -0.0 + 0.0 is 0.0
    keys ^= _flipped_bits(keys)
    return keys


def key_scores(keys: np.ndarray) -> np.ndarray:
    """The scores of int32 or int64 keys, as float64 (n,)."""
    return (keys ^ _flipped_bits(keys)).view(np.float32 if keys.itemsize == 4 else np.float64).astype(np.float64)


def _flipped_bits(bits: np.ndarray) -> np.ndarray:
    """The bits of negative floats that have to be flipped: floats are sign and magnitude, integers are not."""
    flipped = bits >> (8 * bits.itemsize - 1)
    flipped &= np.iinfo(bits.dtype).max
    return flipped


def _sorted_keys(scores: np.ndarray) -> np.ndarray:
    """The keys of scores, ascending; they take the place of the scores."""
    scores += 0
    scores.sort()
    keys = scores.view(np.int32 if scores.itemsize == 4 else np.int64)
    negative = np.searchsorted(scores, scores.dtype.type(0))  # a 0 of another type would have all scores converted
    keys[:negative] ^= np.iinfo(keys.dtype).max
    return keys


def sorted_together(keys: np.ndarray, areas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys in ascending order and their areas (int32)."""
    if keys.itemsize == 4:  # sorting integers is much faster than finding their order
        both = (keys.astype(np.int64) << 32) | areas
        both.sort()
        return (both >> 32).astype(np.int32), both.astype(np.int32)
    order = np.argsort(keys)
    return keys[order], areas[order]


@dataclass(frozen=True)
class Keys:
    """Keys in ascending order.

    pages: int64 (p,), the 16 high bits of the keys, each once. starts: int64 (p + 1,), where the keys of each begin, and the end.
    low: uint16 (n,), the other bits of int32 keys; int64 (n,), the keys themselves, of others.
    """

    pages: np.ndarray
    starts: np.ndarray
    low: np.ndarray

    @classmethod
    def of(cls, ascending: np.ndarray) -> "Keys":
        """From int32 or int64 (n,)."""
        size, shift = ascending.size, 8 * ascending.itemsize - 16
        few = size < PAGES  # of many only a search in pages that may occur leaves the keys untouched
        pages = np.unique(ascending >> shift) if few else np.arange(ascending[0] >> shift, (ascending[-1] >> shift) + 1)
        starts = np.searchsorted(ascending, pages.astype(ascending.dtype) << shift)
        used = np.diff(starts, append=size) > 0
        low = ascending.astype(np.uint16) if ascending.itemsize == 4 else ascending
        return cls(pages[used].astype(np.int64), np.append(starts[used], size), low)

    def __len__(self) -> int:
        return len(self.low)

    def whole(self, where: slice) -> np.ndarray:
        """Some of the keys themselves, those of whole pages: int32 or int64."""
        low = self.low[where]
        if low.dtype != np.uint16:
            return low
        first, end = np.searchsorted(self.starts, (where.start, where.stop))
        pages = (self.pages[first:end] << 16).astype(np.int32)
        return np.repeat(pages, np.diff(self.starts[first : end + 1])) | low


@dataclass(frozen=True)
class Run:
    """The items, pixels or images, of some images of one class.

    areas: (m,) of the region of each anomalous item, in the order of its key. regions: int32 (r,), the areas of all regions.
    lowest, highest: of all scores; infinite where there is none.
    """

    normal: Keys
    anomalous: Keys
    areas: np.ndarray
    regions: np.ndarray
    lowest: float
    highest: float

    @classmethod
    def of(cls, normal: np.ndarray, anomalous: np.ndarray, areas: np.ndarray, regions: np.ndarray) -> "Run":
        """From scores (n,), (m,) of a `working_type`, finite and in any order; `normal` is sorted in place."""
        keys = _sorted_keys(normal)
        anomalous_keys, areas = sorted_together(score_keys(anomalous), areas)
        ends = key_scores(np.concatenate([some[k:][:1] for some in (keys, anomalous_keys) for k in (0, some.size - 1)]))
        narrow = np.min_scalar_type(int(areas.max(initial=0)))
        lowest, highest = float(ends.min(initial=np.inf)), float(ends.max(initial=-np.inf))
        return cls(Keys.of(keys), Keys.of(anomalous_keys), areas.astype(narrow), regions, lowest, highest)

    @property
    def size(self) -> int:
        """The number of items."""
        return len(self.normal) + len(self.anomalous)

    def as_doubles(self) -> "Run":
        """The same with keys of float64 scores."""
        normal, anomalous = (
            Keys.of(score_keys(key_scores(keys.whole(slice(0, len(keys)))))) for keys in (self.normal, self.anomalous)
        )
        return Run(normal, anomalous, self.areas, self.regions, self.lowest, self.highest)
