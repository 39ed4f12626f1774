"""All scores of one class in order, exact, range by range from the highest scores down.

True positives change only at a distinct anomalous score, so these few are the only thresholds to look at: between two of them only
false positives are added, which improves neither F1 nor IoU and draws a straight line in the curves. Normal scores are therefore counted
and not sorted, wherever many share their 16 high bits; on several threads.

PRO at a threshold is the mean over all connected regions of the fraction of the region that is positive. Each region weighs the same, so
a pixel weighs 1 / area of its region, and PRO is one cumulative sum along the ranking. Weights are whole multiples of 2 ** -bits, so
that their sums are exact and the order in which images come cannot change a single bit.
"""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

PAGES = 1 << 16
"""So many there are: from minus half of that on."""
RANGE_ITEMS = 1 << 18
"""Of a range of several pages, about."""
PAGE_ITEMS = 1 << 14
"""A page of more is a range of its own: its items are counted, no matter how many."""
BLOCK = 1 << 16
"""So many thresholds are looked at together; the last block may have fewer."""
MAX_WORKERS = 4
"""More would wait for the one thread that takes in what they return."""

Unit = Literal["image", "pixel", "sample"]
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield `function` of each item, in order, by threads on all cores; few results are in memory at a time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(cores, MAX_WORKERS)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def region_areas(masks_nhw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The area in pixels of each anomalous pixel's 8-connected region, int32 in the order of `masks_nhw[masks_nhw]`, and of each region.

    masks_nhw: bool (N, H, W); regions of different images never connect. Runs of pixels in a row are joined to those that they touch in the
    row below: there are far fewer of them than pixels.
    """
    images, height, width = masks_nhw.shape
    below = width + 1  # a column of False ends all runs of a row, a row of False each image
    padded = np.zeros((images, height + 1, below), bool)
    padded[:, :-1, :-1] = masks_nhw
    edges = np.flatnonzero(np.diff(padded.ravel(), prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    first, stop = np.searchsorted(ends, starts + below), np.searchsorted(starts, ends + below, side="right")
    touched = np.maximum(stop - first, 0)  # so many consecutive runs, corners included
    upper = np.repeat(np.arange(starts.size), touched)
    lower = np.arange(upper.size) + np.repeat(first - np.cumsum(touched) + touched, touched)
    pairs = coo_array((np.ones(upper.size, bool), (upper, lower)), shape=(starts.size, starts.size))
    count, region = connected_components(pairs, directed=False)
    lengths = ends - starts
    areas = np.bincount(region, lengths, count).astype(np.int32)
    return np.repeat(areas[region], lengths), areas


def score_keys(scores: np.ndarray) -> np.ndarray:
    """Integers of the scores' size and order, float32 (n,) -> int32 (n,) and float64 (n,) -> int64 (n,)."""
    integers = np.int32 if scores.itemsize == 4 else np.int64
    if scores.min(initial=1) > 0:
        return scores.view(integers)
    return _flipped((scores + scores.dtype.type(0)).view(integers))  # -0.0 + 0.0 is 0.0


def key_scores(keys: np.ndarray) -> np.ndarray:
    """The scores of int32 or int64 keys, as float64 (n,)."""
    return _flipped(keys).view(np.float32 if keys.itemsize == 4 else np.float64).astype(np.float64)


def _flipped(bits: np.ndarray) -> np.ndarray:
    """All bits but the sign's of negative numbers are flipped: floats are sign and magnitude, integers are not."""
    flips = bits >> (8 * bits.itemsize - 1)
    flips &= np.iinfo(bits.dtype).max
    flips ^= bits
    return flips


@dataclass(frozen=True)
class Keys:
    """The keys of scores, page by page: those that share their 16 high bits, which are kept once.

    pages: int64 (p,), the high bits, ascending. starts: int64 (p + 1,), where the keys of each begin, and the end.
    low: uint16 (n,), the other bits of int32 keys; int64 (n,), the keys themselves, of others. In any order within a page.
    """

    pages: np.ndarray
    starts: np.ndarray
    low: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, areas: np.ndarray | None = None) -> tuple["Keys", np.ndarray]:
        """Those of float32 or float64 scores (n,) in any order, and the `areas` of the items in the order of the keys, (n,)."""
        keys = score_keys(scores)
        pages = (keys >> (8 * keys.itemsize - 16)).astype(np.int32, copy=False)
        pages += PAGES // 2
        low = keys.astype(np.uint16) if keys.itemsize == 4 else keys
        columns, width = (pages, PAGES) if areas is None else (areas, int(areas.max(initial=0)) + 1)
        # Entries of a sparse matrix are brought into the order of their rows by counting, much faster than by sorting.
        matrix = coo_array((low, (pages, columns)), shape=(PAGES, width))
        matrix.has_canonical_format = True  # none is added to another
        rows = matrix.tocsr()
        there = np.flatnonzero(np.diff(rows.indptr))
        starts = np.append(rows.indptr[there], low.size)
        return cls(there - PAGES // 2, starts, rows.data), rows.indices

    def read(self, where: slice) -> np.ndarray:
        """Some of the keys, those of whole pages: int32 or int64."""
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
        """From finite scores (n,), (m,), both float32 or both float64, in any order."""
        keys, areas = Keys.of(anomalous, areas)
        lowest = float(min(scores.min(initial=np.inf) for scores in (normal, anomalous)))
        highest = float(max(scores.max(initial=-np.inf) for scores in (normal, anomalous)))
        narrow = np.min_scalar_type(int(areas.max(initial=0)))
        return cls(Keys.of(normal)[0], keys, areas.astype(narrow), regions, lowest, highest)

    @property
    def size(self) -> int:
        """The number of items."""
        return self.normal.low.size + self.anomalous.low.size

    def as_doubles(self) -> "Run":
        """The same with keys of float64 scores."""
        normal, anomalous = (key_scores(keys.read(slice(0, keys.low.size))) for keys in (self.normal, self.anomalous))
        return Run.of(normal, anomalous, self.areas, self.regions)


class Block(NamedTuple):
    """Counts at consecutive thresholds, the distinct anomalous scores from the highest down; int64 (k,) but for the float64 scores.

    gained: anomalous items that have exactly that score. true_positives, false_positives, weight (of regions): of the items with a score
    >= threshold; false_positives_above: > threshold, without ties.
    """

    scores: np.ndarray
    gained: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray
    false_positives_above: np.ndarray
    weight: np.ndarray


class Ranking:
    """All items of a class in order: pixels or images, at least one.

    normal, anomalous: how many items there are of either label. weight: the region weight of all. lowest, highest: the extreme scores.
    """

    def __init__(self, runs: Sequence[Run], unit: Unit) -> None:
        if len({run.normal.low.dtype for run in runs}) > 1:
            runs = [run.as_doubles() if run.normal.low.dtype == np.uint16 else run for run in runs]
        self._areas = [run.areas for run in runs]
        self._sides = [[run.normal for run in runs], [run.anomalous for run in runs]]
        self._is_narrow = runs[0].normal.low.dtype == np.uint16
        regions = np.concatenate([run.regions for run in runs])
        bits = 62 - regions.size.bit_length()  # the sum of all regions' weights does not overflow
        areas = np.arange(1, regions.max(initial=0) + 1, dtype=np.int64)
        self._weights = np.append(0, ((1 << bits) + areas // 2) // areas)  # by area, rounded
        self.weight = int((self._weights[regions] * regions).sum())
        self.unit: Unit = unit
        self.normal, self.anomalous = (sum(keys.low.size for keys in side) for side in self._sides)
        self.lowest, self.highest = min(run.lowest for run in runs), max(run.highest for run in runs)

    def walk(self, thresholds: Sequence[float], step: Callable[[Block], None]) -> np.ndarray:
        """Call `step` with the counts at all anomalous scores from the highest down, `BLOCK` by `BLOCK`, whatever their ranges are.

        Return int64 (3, n): the anomalous items, the normal items and the region weight strictly above each of the fixed `thresholds`,
        which are in [0, 1] on the scale of `scaled`.
        """
        first, lowest_above = self._first_pages(), self._lowest_keys_above(np.array(thresholds))
        # of each side, of each run: where the keys of each range begin
        cuts = np.array([[keys.starts[np.searchsorted(keys.pages, first)] for keys in side] for side in self._sides])
        passed, above = np.zeros(3, np.int64), np.zeros((3, len(thresholds)), np.int64)

        def merged(i: int) -> tuple[np.ndarray, ...]:
            return self._merged(first[i], first[i + 1], cuts[:, :, i : i + 2].tolist(), lowest_above)

        ranges = range(len(first) - 2, -1, -1)
        parts = map(merged, ranges) if len(ranges) == 1 else in_order(merged, ranges)  # threads cost time too
        waiting, size = [], 0
        for scores, counts, at, above_here in parts:
            above[:, at] = above_here[:, :-1] + passed[:, None]
            counts[1:] += passed[[0, 1, 1, 2], None]
            waiting.append(Block(scores, *counts))
            passed += above_here[:, -1]
            size += scores.size
            if size >= BLOCK:
                columns = map(np.concatenate, zip(*waiting, strict=True))
                *full, rest = map(Block, *(np.split(column, range(BLOCK, size + 1, BLOCK)) for column in columns))
                for block in full:
                    step(block)
                waiting, size = [rest], rest.scores.size
        if size:
            step(Block(*map(np.concatenate, zip(*waiting, strict=True))))
        return above

    def _first_pages(self) -> list[int]:
        """The first page of each range, ascending and with an end."""
        counts, middle = np.zeros(PAGES, np.int64), PAGES // 2
        for keys in chain(*self._sides):
            counts[keys.pages + middle] += np.diff(keys.starts)
        parts, alone = (np.cumsum(counts) - counts) // RANGE_ITEMS, counts > PAGE_ITEMS
        begins = (np.diff(parts, prepend=-1) > 0) | alone | np.append(False, alone[:-1])
        return [*(np.flatnonzero(begins) - middle).tolist(), middle]

    def _lowest_keys_above(self, thresholds: np.ndarray) -> np.ndarray:
        """The lowest key, from that of the lowest score to the one after the highest, whose score is above each threshold: int64."""
        floats, integers = (np.float32, np.int32) if self._is_narrow else (np.float64, np.int64)
        lowest, highest = self.lowest, self.highest
        low, high = (np.full(thresholds.size, key) for key in score_keys(np.array([lowest, highest], floats)).tolist())
        high += 1
        while (open_ := low < high).any():
            middle = (low >> 1) + (high >> 1) + (low & high & 1)  # the sum may overflow
            is_above = scaled(key_scores(middle.astype(integers)), lowest, highest) > thresholds
            high = np.where(open_ & is_above, middle, high)
            low = np.where(open_ & ~is_above, middle + 1, low)
        return low

    def _merged(self, first: int, end: int, cuts: list[Any], lowest_above: np.ndarray) -> tuple[np.ndarray, ...]:
        """Count the items of the pages from `first` to before `end`, which lie at `cuts` of each side and run.

        Return the columns of a `Block`, of these items alone: the scores, and int64 (5, k), the others; which of the fixed thresholds lie
        there, (t,); and int64 (3, t + 1), the anomalous and normal items above each of them and the weight of the former, and all of these.
        """
        one_page = self._is_narrow and end - first == 1
        read = (lambda keys, where: keys.low[where]) if one_page else Keys.read
        slices = [[slice(*ends) for ends in of_side] for of_side in cuts]
        normal, anomalous = (np.concatenate([*map(read, *side)]) for side in zip(self._sides, slices, strict=True))
        areas = np.concatenate([*map(np.ndarray.__getitem__, self._areas, slices[1])])
        if one_page:
            # All its keys are counted, faster than they are sorted. bincount makes wide integers: of some at a time.
            some = np.array_split(normal, normal.size // RANGE_ITEMS + 1)
            counts = np.append(0, np.cumsum(sum(np.bincount(low, minlength=PAGES) for low in some)))
            keys, cells = np.arange(PAGES) + (first << 16), anomalous.astype(np.intp)
        else:
            normal.sort()
            keys, cells = np.unique(anomalous, return_inverse=True)

        def reached(some: np.ndarray) -> np.ndarray:
            """The number of normal items at or above each of some keys."""
            at = some - (first << 16)
            return normal.size - (counts[at] if one_page else normal.searchsorted(some.astype(normal.dtype)))

        gained, weights = np.zeros((2, keys.size), np.int64)
        np.add.at(gained, cells, 1)
        np.add.at(weights, cells, self._weights[areas])
        there = np.flatnonzero(gained > 0)[::-1]
        keys, gained = keys[there].astype(np.int64), gained[there]
        true_positives, weight = (np.append(0, np.cumsum(column)) for column in (gained, weights[there]))
        columns = gained, true_positives[1:], reached(keys), reached(keys + 1), weight[1:]
        page = lowest_above >> (16 if self._is_narrow else 48)
        at = np.flatnonzero((first <= page) & (page < end))
        passed = np.append(keys.size - keys[::-1].searchsorted(lowest_above[at]), -1)
        above = np.stack((true_positives[passed], np.append(reached(lowest_above[at]), normal.size), weight[passed]))
        return key_scores(keys.astype(np.int32 if self._is_narrow else np.int64)), np.stack(columns), at, above


def scaled(scores: np.ndarray, lowest: float, highest: float) -> np.ndarray:
    """Scores (n,) on the scale from `lowest`, 0, to `highest`, 1, in double precision; all 0 where these are equal."""
    factor = 1.0 if math.isfinite(highest - lowest) else 0.5  # the difference of two huge scores may overflow
    span = highest * factor - lowest * factor
    return (scores * factor - lowest * factor) / span if span else np.zeros(scores.shape)
