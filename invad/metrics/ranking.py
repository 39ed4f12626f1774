"""All scores of one class in order, exact: sorted runs, merged range by range from the highest scores down.

True positives change only at a distinct anomalous score, so these few are the only thresholds to look at: between two of them only
false positives are added, which improves neither F1 nor IoU and draws a straight line in the curves. Ranges of scores are cut out of all
runs and sorted together, on several threads; only the counts at the thresholds leave a range.

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
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

PAGES = 1 << 16
"""So many there are: from minus half of that on."""
RANGE_ITEMS = 1 << 18
"""Of a range of several pages, about."""
PAGE_ITEMS = 1 << 14
"""A page of more is a range of its own: faster to sort, and no matter how many."""
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
    keys = (scores + scores.dtype.type(0)).view(np.int32 if scores.itemsize == 4 else np.int64)  # -0.0 + 0.0 is 0.0
    return keys ^ _flipped_bits(keys)


def key_scores(keys: np.ndarray) -> np.ndarray:
    """The scores of int32 or int64 keys, as float64 (n,)."""
    return (keys ^ _flipped_bits(keys)).view(np.float32 if keys.itemsize == 4 else np.float64).astype(np.float64)


def _flipped_bits(bits: np.ndarray) -> np.ndarray:
    """The bits of negative floats that have to be flipped: floats are sign and magnitude, integers are not."""
    return (bits >> (8 * bits.itemsize - 1)) & np.iinfo(bits.dtype).max


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
    def of(cls, scores: np.ndarray) -> tuple["Keys", np.ndarray]:
        """Those of float32 or float64 scores (n,) in any order, and the order that they are brought into, (n,)."""
        keys = score_keys(scores)
        pages = (keys >> (8 * keys.itemsize - 16)).astype(np.int16)
        order = np.argsort(pages, kind="stable")  # which is much faster of 16 bits
        pages = pages[order]
        starts = np.flatnonzero(np.append(True, pages[1:] != pages[:-1])[: pages.size])
        low = keys.astype(np.uint16) if keys.itemsize == 4 else keys
        return cls(pages[starts].astype(np.int64), np.append(starts, pages.size), low[order]), order

    def read(self, where: slice, *, whole: bool = True) -> np.ndarray:
        """Some of the keys, those of whole pages: int32 or int64; unless `whole`, their low bits alone."""
        low = self.low[where]
        if low.dtype != np.uint16 or not whole:
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
        keys, order = Keys.of(anomalous)
        lowest = float(min(scores.min(initial=np.inf) for scores in (normal, anomalous)))
        highest = float(max(scores.max(initial=-np.inf) for scores in (normal, anomalous)))
        narrow = np.min_scalar_type(int(areas.max(initial=0)))
        return cls(Keys.of(normal)[0], keys, areas.astype(narrow)[order], regions, lowest, highest)

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
        self._runs = runs
        self._is_narrow = runs[0].normal.low.dtype == np.uint16
        regions = np.concatenate([run.regions for run in runs])
        bits = 62 - regions.size.bit_length()  # the sum of all regions' weights does not overflow
        areas = np.arange(1, regions.max(initial=0) + 1, dtype=np.int64)
        self._weights = np.append(0, ((1 << bits) + areas // 2) // areas)  # by area, rounded
        self.weight = int((self._weights[regions] * regions).sum())
        self.unit: Unit = unit
        self.normal = sum(run.normal.low.size for run in runs)
        self.anomalous = sum(run.anomalous.low.size for run in runs)
        self.lowest, self.highest = min(run.lowest for run in runs), max(run.highest for run in runs)

    def walk(self, thresholds: Sequence[float], step: Callable[[Block], None]) -> np.ndarray:
        """Call `step` with the counts at all anomalous scores from the highest down, `BLOCK` by `BLOCK`, whatever their ranges are.

        Return int64 (3, n): the anomalous items, the normal items and the region weight strictly above each of the fixed `thresholds`,
        which are in [0, 1] on the scale of `scaled`.
        """
        first, lowest_above = self._first_pages(), self._lowest_keys_above(np.array(thresholds))
        cuts = [
            [keys.starts[np.searchsorted(keys.pages, first)].tolist() for keys in (run.normal, run.anomalous)]
            for run in self._runs
        ]

        def merged(i: int) -> tuple[Block, np.ndarray, np.ndarray, np.ndarray]:
            slices = [[slice(*ends[i : i + 2]) for ends in of_run] for of_run in cuts]
            return self._merged(first[i], first[i + 1], slices, lowest_above)

        ranges = range(len(first) - 2, -1, -1)
        passed, above = np.zeros(3, np.int64), np.zeros((3, len(thresholds)), np.int64)
        rest = Block(np.empty(0), *np.zeros((5, 0), np.int64))
        parts = map(merged, ranges) if len(ranges) == 1 else in_order(merged, ranges)  # threads cost time too
        for (scores, gained, tp, fp, fp_above, weight), items, at, above_here in parts:
            above[:, at] = above_here + passed[:, None]
            block = Block(scores, gained, tp + passed[0], fp + passed[1], fp_above + passed[1], weight + passed[2])
            rest = Block(*map(np.concatenate, zip(rest, block, strict=True)))
            passed += items
            while rest.scores.size >= BLOCK:
                step(Block(*(column[:BLOCK] for column in rest)))
                rest = Block(*(column[BLOCK:] for column in rest))
        if rest.scores.size:
            step(rest)
        return above

    def _first_pages(self) -> list[int]:
        """The first page of each range, ascending and with an end."""
        counts, middle = np.zeros(PAGES, np.int64), PAGES // 2
        for run in self._runs:
            for keys in (run.normal, run.anomalous):
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

    def _merged(
        self, first: int, end: int, slices: Sequence[Sequence[slice]], lowest_above: np.ndarray
    ) -> tuple[Block, np.ndarray, np.ndarray, np.ndarray]:
        """Sort the pages from `first` to before `end`; of each run there are slices of its normal and its anomalous keys.

        Return what these alone count at their thresholds; int64 (3,), the anomalous and normal items among them, and the weight of the
        former; which of the fixed thresholds lie there, (t,); and int64 (3, t), what of those items lies above each of them.
        """
        one_page = self._is_narrow and end - first == 1
        parts = list(zip(self._runs, *zip(*slices, strict=True), strict=True))
        kind, base = ("stable", first << 16) if one_page else (None, 0)  # much faster of 16 bits
        normal = np.concatenate([run.normal.read(where, whole=not one_page) for run, where, _ in parts])
        normal.sort(kind=kind)
        anomalous = np.concatenate([run.anomalous.read(where, whole=not one_page) for run, _, where in parts])
        order = np.argsort(anomalous, kind=kind)
        anomalous, areas = anomalous[order], np.concatenate([run.areas[where] for run, _, where in parts])[order]

        weights = np.append(0, np.cumsum(self._weights[areas[::-1]]))  # of so many, from the highest down
        starts = np.flatnonzero(np.append(True, anomalous[1:] != anomalous[:-1])[: anomalous.size])  # of equal keys
        keys, true_positives = anomalous[starts], anomalous.size - starts
        columns = (
            key_scores((keys.astype(np.int64) + base).astype(np.int32 if self._is_narrow else np.int64)),
            np.diff(starts, append=anomalous.size),
            true_positives,
            normal.size - normal.searchsorted(keys),
            normal.size - normal.searchsorted(keys, side="right"),
            weights[true_positives],
        )
        page = lowest_above >> (16 if self._is_narrow else 48)
        at = np.flatnonzero((first <= page) & (page < end))
        inside = (lowest_above[at] - base).astype(normal.dtype)
        above = anomalous.size - anomalous.searchsorted(inside)
        counts = np.stack((above, normal.size - normal.searchsorted(inside), weights[above]))
        items = np.array([anomalous.size, normal.size, weights[-1]])
        return Block(*(column[::-1] for column in columns)), items, at, counts


def scaled(scores: np.ndarray, lowest: float, highest: float) -> np.ndarray:
    """Scores (n,) on the scale from `lowest`, 0, to `highest`, 1, in double precision; all 0 where these are equal."""
    factor = 1.0 if math.isfinite(highest - lowest) else 0.5  # the difference of two huge scores may overflow
    span = highest * factor - lowest * factor
    return (scores * factor - lowest * factor) / span if span else np.zeros(scores.shape)
