"""A class's scores as they are: for as many as fit in memory, every metric is exact."""

from bisect import bisect_right
from collections.abc import Callable, Iterator

import numpy as np

from invad.metrics.part import Part
from invad.metrics.ranking import Block, Counts, Totals, Unit
from invad.metrics.regions import fixed_point_weights
from invad.metrics.scale import scaler

_BLOCK = 1 << 16  # thresholds


def weight_bits(regions: int) -> int:
    """As many bits as the weight of one region can have without an overflow of all regions' sum."""
    return 62 - regions.bit_length()


class SortedScores:
    """Scores in order, see `invad.metrics.ranking.Ranked`.

    Args:
        parts: of one class; they are not changed.
        bits: of the region weights, by default as many as the parts' regions leave room for.
    """

    def __init__(self, parts: list[Part], bits: int | None = None) -> None:
        self._normal = np.concatenate([part.normal for part in parts])
        self._normal.sort()
        anomalous = np.concatenate([part.anomalous for part in parts])
        areas = np.concatenate([part.areas for part in parts])
        order = np.argsort(anomalous)  # ties in any order: their weights are added as integers
        anomalous, areas = anomalous[order], areas[order]
        starts = np.flatnonzero(np.concatenate(([True], anomalous[1:] != anomalous[:-1]))[: anomalous.size])
        bits = weight_bits(sum(part.regions for part in parts)) if bits is None else bits
        weight_below = np.concatenate(([0], np.cumsum(fixed_point_weights(areas, bits))))
        # the distinct anomalous scores, and what lies below each of them and, at the end, below infinity
        self._scores = anomalous[starts]
        self._anomalous_below = np.append(starts, anomalous.size)
        self._weight_below = weight_below[self._anomalous_below]
        self.normal, self.anomalous, self.weight = self._normal.size, anomalous.size, int(weight_below[-1])

    @property
    def rounded(self) -> bool:
        """Never."""
        return False

    def totals(self, unit: Unit) -> Totals:
        """What they are together; needs at least one score."""
        ends = [scores for scores in (self._normal, self._scores) if scores.size]
        lowest, highest = min(float(scores[0]) for scores in ends), max(float(scores[-1]) for scores in ends)
        return Totals(unit, self.normal, self.anomalous, self.weight, lowest, highest)

    def blocks(self) -> Iterator[Block]:
        """Yield all thresholds from the highest down."""
        for stop in range(self._scores.size, 0, -_BLOCK):
            start = max(stop - _BLOCK, 0)
            scores = self._scores[start:stop][::-1]
            below = self._anomalous_below[start : stop + 1]
            normal_below, normal_not_above = self._normal_ranks(scores)
            yield Block(
                scores=scores,
                gained=np.diff(below)[::-1],
                true_positives=self.anomalous - below[:-1][::-1],
                false_positives=self.normal - normal_below,
                false_positives_above=self.normal - normal_not_above,
                weight=self.weight - self._weight_below[start:stop][::-1],
            )

    def _normal_ranks(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many normal scores lie below each of `scores`, and how many do not lie above it: int64 (k,)."""
        below = np.searchsorted(self._normal, scores, side="left")
        not_above = below.copy()
        if self.normal:  # few are tied with a normal score, so that a second search for all would be wasted
            tied = self._normal[np.minimum(below, self.normal - 1)] == scores
            not_above[tied] = np.searchsorted(self._normal, scores[tied], side="right")
        return below, not_above

    def above(self, thresholds: tuple[float, ...], totals: Totals) -> tuple[Counts, Counts]:
        """Count what lies strictly above each threshold on the scale of `totals`; nothing is unsure."""
        scaled = scaler(totals.lowest, totals.highest)
        anomalous, normal = (_first_above(scores, thresholds, scaled) for scores in (self._scores, self._normal))
        above = Counts(
            self.anomalous - self._anomalous_below[anomalous],
            self.normal - normal,
            self.weight - self._weight_below[anomalous],
        )
        return above, Counts.zeros(len(thresholds))


def _first_above(ascending: np.ndarray, thresholds: tuple[float, ...], scaled: Callable[[float], float]) -> np.ndarray:
    return np.array([bisect_right(ascending, threshold, key=scaled) for threshold in thresholds], dtype=np.int64)
