"""Each image's pixels counted at or above some hundred scores of its class, so that images can be drawn again without their pixels.

These scores, the edges of bins, are quantiles of the class's own pixels, of the normal and of the anomalous ones, and lie closer together
towards the highest, where a few normal pixels decide. Within a bin curves are taken as straight lines. A score that many pixels share has a
bin to itself, from the score up to the next number, and so has every score where there are few: then nothing is lost.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from invad.metrics.measure import FAMILY, THRESHOLDS
from invad.metrics.ranking import key_scores, region_areas, scaled, score_keys

EDGES = 256
"""About so many are taken from the normal pixels of a class, and from its anomalous ones."""
SAMPLE = 2048
"""About so many pixels of an image, and of anomalous ones, are looked at for the edges."""
CELLS = 1 << 15
"""Equal parts of the range of scores; in most of them is no edge."""
UNIT = 2.0**-30
"""Overlaps are whole multiples of it, so that sums of them are exact and do not depend on their order."""


class Counts(NamedTuple):
    """Of images (n,) at edges (e,) from the first one, which is above all scores, to the lowest score: float64 (n, e).

    normal, anomalous: pixels with a score at or above the edge. overlap: the sum over the image's regions of the share of their pixels.
    """

    normal: np.ndarray
    anomalous: np.ndarray
    overlap: np.ndarray


@dataclass(frozen=True)
class Bins:
    """The bins of a class, by descending edges.

    edges: (e,) of the scores' type, from one above all scores to the lowest score. family: int (7,), which of them lie just above the
    thresholds of mF1, mAcc and mIoU. single: bool (e - 1,), whether a bin, from an edge up to the one before it, is of one score.
    """

    edges: np.ndarray
    family: np.ndarray
    single: np.ndarray

    def counts(self, maps_nhw: np.ndarray, masks_nhw: np.ndarray) -> Counts:
        """Of images with bool masks, both (n, H, W), none of whose scores lies outside of the edges."""
        images, size = len(maps_nhw), self.edges.size
        bins = self._bins(maps_nhw) + size * np.arange(images, dtype=np.int32)[:, None, None]
        marked = bins[masks_nhw]
        areas, _ = region_areas(masks_nhw)

        def above(bins: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
            return np.bincount(bins, weights, images * size).reshape(images, size).cumsum(axis=1)

        anomalous = above(marked).astype(float)
        return Counts(above(bins.ravel()) - anomalous, anomalous, np.rint(above(marked, 1 / areas) / UNIT) * UNIT)

    def _bins(self, scores: np.ndarray) -> np.ndarray:
        """The number of edges above each score, int32: looked up by the cell that it falls in, and searched where there is an edge too."""
        ascending, lowest = self.edges[::-1], self.edges[-1]
        with np.errstate(over="ignore", divide="ignore"):
            factor = CELLS / (self.edges[0] - lowest)
        if not 0 < factor < np.inf:
            return np.int32(self.edges.size) - ascending.searchsorted(scores, side="right").astype(np.int32)
        of_edges = ((ascending - lowest) * factor).astype(np.int32)
        cells = ((scores - lowest) * factor).astype(np.int32)  # rounded, but in the order of the scores
        numbers = np.arange(CELLS + 2)
        bins = (self.edges.size - of_edges.searchsorted(numbers, side="right")).astype(np.int32)[cells]
        has_edge = np.zeros(numbers.size, bool)
        has_edge[of_edges] = True
        at = np.nonzero(has_edge[cells])
        bins[at] = self.edges.size - ascending.searchsorted(scores[at], side="right")
        return bins


def sample(flat: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Some normal and some anomalous scores, (m,) and (k,), of images: scores and bool masks (n, pixels)."""
    step = flat.shape[1] // SAMPLE | 1  # odd, so as not to stay in the same columns
    anomalous = flat[masks]
    return flat[:, ::step][~masks[:, ::step]], anomalous[:: anomalous.size // (SAMPLE * len(flat) + 1) + 1]


def bins_of(normal: np.ndarray, anomalous: np.ndarray, lowest: float, highest: float) -> Bins:
    """The bins of a class, from `sample` of its images and the extreme scores of all its pixels."""
    dtype, infinity = normal.dtype, normal.dtype.type(np.inf)
    with np.errstate(over="ignore"):  # infinity may be the next number
        ends = np.array([lowest, highest, np.nextafter(dtype.type(highest), infinity)], dtype)
        family = _family_edges(lowest, highest, dtype)
        edges = np.unique(np.concatenate((ends, family, _chosen(normal), _chosen(anomalous))))
        single = np.nextafter(edges[:-1], infinity) >= edges[1:]
    return Bins(edges[::-1], edges.size - 1 - edges.searchsorted(family), single[::-1])


def _chosen(scores: np.ndarray) -> np.ndarray:
    """Edges from scores (m,) in any order: half of them equally frequent, half closer and closer to the highest."""
    ordered, last = np.sort(scores), scores.size - 1
    distinct = ordered[np.append(True, ordered[1:] != ordered[:-1])[: scores.size]]
    shared = distinct
    if distinct.size > EDGES:
        ranks = np.concatenate((np.linspace(0, last, EDGES // 2), last + 1 - np.geomspace(1, last + 1, EDGES // 2)))
        distinct, times = np.unique(ordered[np.unique(ranks.astype(np.int64))], return_counts=True)
        shared = distinct[times > 1]
    return np.concatenate((distinct, np.nextafter(shared, scores.dtype.type(np.inf))))


def _family_edges(lowest: float, highest: float, dtype: np.dtype) -> np.ndarray:
    """The lowest score of `dtype`, or the first number above `highest`, that lies above each threshold of mF1, mAcc and mIoU, (7,)."""
    thresholds = np.array(THRESHOLDS)[FAMILY]
    integers = np.dtype(f"int{8 * dtype.itemsize}")
    ends = score_keys(np.array([lowest, highest], dtype)).tolist()
    low, high = (np.full(thresholds.size, key) for key in (ends[0], ends[1] + 1))
    while (low < high).any():
        middle = (low >> 1) + (high >> 1) + (low & high & 1)  # the sum may overflow
        is_above = scaled(key_scores(middle.astype(integers)), lowest, highest) > thresholds
        low, high = np.where(is_above | (low == high), low, middle + 1), np.where(is_above, middle, high)
    return key_scores(low.astype(integers)).astype(dtype)
