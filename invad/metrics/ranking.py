"""All scores of one class in order, exact and in little memory: sorted runs, merged range by range from the highest scores down.

True positives change only at a distinct anomalous score, so these few are the only thresholds to look at: between two of them only
false positives are added, which improves neither F1 nor IoU and draws a straight line in the curves. Ranges of whole pages are cut out of
all runs and sorted together, on several threads; only the counts at the thresholds leave a range.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from invad.metrics.parallel import in_order
from invad.metrics.regions import fixed_point_weights, weight_bits
from invad.metrics.runs import PAGES, Run, key_scores, score_keys, sorted_together

RANGE_ITEMS = 1 << 20
"""Of a range of several pages at most."""
COUNTED_ITEMS = 1 << 16
"""A page of more is a range of its own, whose keys are counted: faster than to sort them, and no matter how many."""
BLOCK = 1 << 16
"""So many thresholds are looked at together; the last block may have fewer."""

Unit = Literal["image", "pixel"]
Merged = tuple[np.ndarray, np.ndarray, np.ndarray, int, Callable[[np.ndarray], np.ndarray]]


@dataclass(frozen=True)
class Totals:
    """All of a class's items (pixels or images): how many of either label, the region weight of all, the extreme scores."""

    unit: Unit
    normal: int
    anomalous: int
    weight: int
    lowest: float
    highest: float


class Block(NamedTuple):
    """Counts at consecutive thresholds, the distinct anomalous scores from the highest down; int64 (k,) but for the scores.

    Attributes:
        scores: float64 (k,) the thresholds.
        gained: anomalous items that have exactly that score.
        true_positives, false_positives: items with a score >= threshold.
        false_positives_above: normal items with a score > threshold: ties with the threshold left out.
        weight: the region weight of the anomalous items with a score >= threshold.
    """

    scores: np.ndarray
    gained: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray
    false_positives_above: np.ndarray
    weight: np.ndarray

    def after(self, anomalous: int, normal: int, weight: int) -> "Block":
        """The same thresholds where so much has a higher score than all that is counted here."""
        scores, gained, tp, fp, fp_above, own_weight = self
        return Block(scores, gained, tp + anomalous, fp + normal, fp_above + normal, own_weight + weight)


class Counts(NamedTuple):
    """Anomalous items, normal items and region weight above each of some thresholds: int64 (n,)."""

    true_positives: np.ndarray
    false_positives: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class Range:
    """What one range of scores counts, from its highest score down.

    items: int64 (3,), the anomalous and normal items in it, and the weight of the former.
    at: (t,) which of some fixed thresholds lie in it. above: int64 (3, t), what of `items` lies above each of them.
    """

    block: Block
    items: np.ndarray
    at: np.ndarray
    above: np.ndarray


class Ranking:
    """All items of a class in order.

    Args:
        runs: at least one, and at least one item.
        unit: what an item is.
    """

    def __init__(self, runs: Sequence[Run], unit: Unit) -> None:
        if len({run.normal.low.dtype for run in runs}) > 1:
            runs = [run.as_doubles() if run.normal.low.dtype == np.uint16 else run for run in runs]
        self._runs = runs
        self._narrow = runs[0].normal.low.dtype == np.uint16
        regions = np.concatenate([run.regions for run in runs])
        areas = np.arange(1, regions.max(initial=0) + 1)
        self._weights = np.append(0, fixed_point_weights(areas, weight_bits(regions.size)))  # by area
        self._first, self._counted = self._pages()
        self._cuts = [
            [keys.starts[np.searchsorted(keys.pages, self._first)].tolist() for keys in (run.normal, run.anomalous)]
            for run in runs
        ]
        self.totals = Totals(
            unit,
            normal=sum(len(run.normal) for run in runs),
            anomalous=sum(len(run.anomalous) for run in runs),
            weight=int((self._weights[regions] * regions).sum()),
            lowest=min(run.lowest for run in runs),
            highest=max(run.highest for run in runs),
        )

    def ranges(self, thresholds: Sequence[float]) -> Iterator[Range]:
        """Yield the ranges from the highest down; `thresholds`: fixed ones, on the scale of `scaled`."""
        keys, ranges = self._first_keys_above(np.array(thresholds)), range(len(self._counted) - 1, -1, -1)
        merged = map if len(ranges) == 1 else in_order  # threads would only cost time
        yield from merged(lambda i: self._range(i, keys), ranges)

    def _pages(self) -> tuple[list[int], list[bool]]:
        """The first page of each range, ascending and with an end, and whether the range is one page of many items."""
        counts, middle = np.zeros(PAGES, np.int64), PAGES // 2
        for run in self._runs:
            for keys in (run.normal, run.anomalous):
                counts[keys.pages + middle] += np.diff(keys.starts)
        first, counted, held = [], [], RANGE_ITEMS
        for page in np.flatnonzero(counts).tolist():
            many = self._narrow and counts[page] > COUNTED_ITEMS
            items = RANGE_ITEMS if many else int(counts[page])
            if held + items > RANGE_ITEMS:
                first.append(page - middle)
                counted.append(many)
                held = 0
            held += items
        return [*first, middle], counted

    def _first_keys_above(self, thresholds: np.ndarray) -> np.ndarray:
        """The lowest key, from that of the lowest score to the one after the highest, whose score is above each threshold: int64."""
        floats, integers = (np.float32, np.int32) if self._narrow else (np.float64, np.int64)
        lowest, highest = self.totals.lowest, self.totals.highest
        low, high = (np.full(thresholds.size, key) for key in score_keys(np.array([lowest, highest], floats)).tolist())
        high += 1
        while (open_ := low < high).any():
            middle = (low >> 1) + (high >> 1) + (low & high & 1)  # the sum may overflow
            above = scaled(key_scores(middle.astype(integers)), lowest, highest) > thresholds
            high = np.where(open_ & above, middle, high)
            low = np.where(open_ & ~above, middle + 1, low)
        return low

    def _range(self, i: int, thresholds: np.ndarray) -> Range:
        keys, gained, weights, normal, below = self._count(i) if self._counted[i] else self._sort(i)
        ranks, ranks_after = below(np.stack((keys, keys + 1), axis=1).ravel()).reshape(-1, 2).T
        sums = np.zeros((3, keys.size + 1), np.int64)  # above each of the keys, and above all
        np.cumsum(gained[::-1], out=sums[0, 1:])
        sums[1, 1:] = normal - ranks[::-1]
        np.cumsum(weights[::-1], out=sums[2, 1:])
        scores = key_scores(keys[::-1])
        block = Block(scores, gained[::-1], sums[0, 1:], sums[1, 1:], normal - ranks_after[::-1], sums[2, 1:])
        page = thresholds >> (16 if self._narrow else 48)
        at = np.flatnonzero((self._first[i] <= page) & (page < self._first[i + 1]))
        inside = thresholds[at].astype(keys.dtype)
        above = sums[:, keys.size - np.searchsorted(keys, inside)]
        above[1] = normal - below(inside)
        return Range(block, np.array([sums[0, -1], normal, sums[2, -1]]), at, above)

    def _slices(self, i: int) -> Iterator[tuple[Run, slice, slice]]:
        """Each run, and where in it the normal and the anomalous keys of a range are."""
        for run, (normal, anomalous) in zip(self._runs, self._cuts, strict=True):
            yield run, slice(normal[i], normal[i + 1]), slice(anomalous[i], anomalous[i + 1])

    def _sort(self, i: int) -> Merged:
        """The distinct anomalous keys of a range, ascending, how many items have each and their weight, the number of normal items, and a
        function: how many of these lie below keys."""
        slices = list(self._slices(i))
        normal = np.concatenate([run.normal.whole(where) for run, where, _ in slices])
        normal.sort()
        anomalous, areas = sorted_together(
            np.concatenate([run.anomalous.whole(where) for run, _, where in slices]),
            np.concatenate([run.areas[where] for run, _, where in slices]),
        )
        starts = np.flatnonzero(np.concatenate(([True], anomalous[1:] != anomalous[:-1]))[: anomalous.size])
        weights = np.append(0, np.cumsum(self._weights[areas]))
        ends = np.append(starts, anomalous.size)
        return anomalous[starts], np.diff(ends), np.diff(weights[ends]), normal.size, partial(np.searchsorted, normal)

    def _count(self, i: int) -> Merged:
        """The same of a range of one page."""
        normal, gained, weights = np.zeros((3, PAGES), np.int64)
        slices, one = list(self._slices(i)), np.int64(1)  # an int would be slower
        for some in (slices[start : start + 16] for start in range(0, len(slices), 16)):
            np.add.at(normal, np.concatenate([run.normal.low[where] for run, where, _ in some]), one)
            low = np.concatenate([run.anomalous.low[where] for run, _, where in some])
            areas = np.concatenate([run.areas[where] for run, _, where in some])
            np.add.at(gained, low, one)
            np.add.at(weights, low, self._weights[areas])
        found = np.flatnonzero(gained)
        below = np.append(0, np.cumsum(normal))
        base = self._first[i] << 16
        keys = (found + base).astype(np.int32)
        return keys, gained[found], weights[found], int(below[-1]), lambda keys: below[np.minimum(keys - base, PAGES)]


def scaled(scores: np.ndarray, lowest: float, highest: float) -> np.ndarray:
    """Scores (n,) on the scale from `lowest`, 0, to `highest`, 1, in double precision; all 0 where these are equal."""
    factor = 1.0 if math.isfinite(highest - lowest) else 0.5  # the difference of two huge scores may overflow
    span = highest * factor - lowest * factor
    return (scores * factor - lowest * factor) / span if span else np.zeros(scores.shape)


def in_blocks(pieces: Iterator[Block]) -> Iterator[Block]:
    """Yield the thresholds of all pieces `BLOCK` by `BLOCK`: how they are added up depends on nothing but the scores."""
    rest = Block(np.empty(0), *np.zeros((5, 0), np.int64))
    for piece in pieces:
        rest = Block(*map(np.concatenate, zip(rest, piece, strict=True)))
        while rest.scores.size >= BLOCK:
            yield Block(*(column[:BLOCK] for column in rest))
            rest = Block(*(column[BLOCK:] for column in rest))
    if rest.scores.size:
        yield rest
