"""A class's scores as a histogram over their bits: any number of them in bounded memory.

A score is a double whose 35 leading bits (sign, exponent, 23 bits of mantissa) are its key; a float32 loses nothing by that. Keys are
counted in pages of 2 ** 16 that share their leading bits, and only pages that occur are held. When there are more than `MAX_BINS` bins,
two neighbours everywhere become one: the histogram's `level` rises. The level needed depends on nothing but which pages occur, so the
same scores give the same histogram in any order, and in any parts that are merged.

Bound of the error: scores in one bin count as tied. `invad.metrics.sweep` derives from the counts how much that can have changed each
metric. It is nothing while no bin holds two different scores: float32 scores, or integers below 2 ** 24, that lie in at most 1,024 pages
of 1/128 octave (a range of 1 to 256 is no more). The region weights are kept for four bins together and with 38 binary places, which
changes AU-PRO by less than 1e-6 for maps of up to 512 x 512 pixels.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from invad.metrics.keys import DROPPED_BITS, PAGE_BITS, PagedKeys, key_scores, score_keys, whole_scores
from invad.metrics.part import Part
from invad.metrics.ranking import Block, Counts, Totals
from invad.metrics.scale import scaler

MAX_BINS = 1 << 26
"""Of all pages together, a power of two; 10 bytes each where they are used, so at most 0.67 GB."""
_WEIGHT_GROUP = 2  # bits: the weights of four bins are kept together
_MAX_COUNT = np.iinfo(np.uint32).max


class ScoreHistogram:
    """Counts of normal and anomalous pixels by score, see `invad.metrics.ranking.Ranked`.

    Args:
        dropped_bits: of a double's 64.
    """

    def __init__(self, dropped_bits: int = DROPPED_BITS) -> None:
        self._max_bins, self._dropped_bits = MAX_BINS, dropped_bits
        self._rows: dict[int, int] = {}  # of each page's number
        self.level = 0
        # One row for each page. The operating system gives memory to what is used of it, not to all that is asked for here.
        self._counts = _empty(MAX_BINS, np.uint32)
        self.normal = self.anomalous = self.weight = 0
        self.lowest, self.highest = np.inf, -np.inf
        self._inexact = False

    @property
    def rounded(self) -> bool:
        """Whether scores that differ may have been counted as tied."""
        return self._inexact or self.level > 0

    def totals(self) -> Totals:
        """What all scores are together."""
        return Totals("pixel", self.normal, self.anomalous, self.weight, self.lowest, self.highest)

    def add(self, part: Part) -> None:
        """Count the items of a part."""
        ordered = part.ordered if self._dropped_bits == DROPPED_BITS else part.order(self._dropped_bits)
        self._make_room(part.size)
        self.normal += part.normal.size
        self.anomalous += part.anomalous.size
        self.weight += int(ordered.weights.sum())
        normal, anomalous, weight = self._counts
        if ordered.normal is not None:
            bins = self._bins(ordered.normal)
            np.add.at(normal, bins, normal.dtype.type(1))  # a 1 of another type would make it ten times slower
        if ordered.anomalous is not None:
            bins = self._bins(ordered.anomalous)
            np.add.at(anomalous, bins, anomalous.dtype.type(1))
            np.add.at(weight, bins >> _WEIGHT_GROUP, ordered.weights)

    def _make_room(self, count: int) -> None:
        """Take wider integers before a count could overflow."""
        if self._counts[0].dtype == np.uint32 and self.normal + self.anomalous + count > _MAX_COUNT:
            self._counts = _triple(counts.astype(np.int64) for counts in self._counts)

    def _bins(self, keys: PagedKeys) -> np.ndarray:
        """The bin of each key: int64 (n,)."""
        self.lowest, self.highest = min(self.lowest, keys.lowest), max(self.highest, keys.highest)
        self._inexact |= keys.inexact
        self._make_rows(keys.pages)
        rows = np.array([self._rows[number] for number in keys.pages], dtype=np.int64)
        bins = np.repeat((rows - keys.bases) << self._page_bits, np.diff(keys.starts, append=keys.values.size))
        bins += keys.values >> self.level if self.level else keys.values
        return bins

    @property
    def _page_bits(self) -> int:
        return PAGE_BITS - self.level

    def _make_rows(self, numbers: list[int]) -> None:
        """Have a row for each page, if need be by wider bins."""
        new = [number for number in numbers if number not in self._rows]
        while (len(self._rows) + len(new)) << self._page_bits > self._max_bins:
            self._coarsen()
        self._rows |= {number: row for row, number in enumerate(new, len(self._rows))}

    def _coarsen(self) -> None:
        """Make one bin of two neighbours, in place: both forms at once would be too much memory."""
        for counts in self._counts:
            width = counts.size * (1 << self._page_bits) // self._max_bins
            for row in range(len(self._rows)):
                page = counts[row * width : (row + 1) * width]
                counts[row * width // 2 : (row + 1) * width // 2] = page[0::2] + page[1::2]
            counts[len(self._rows) * width // 2 : len(self._rows) * width] = 0
        self.level += 1

    def merge(self, other: "ScoreHistogram") -> None:
        """Count what `other` has counted; that is not changed."""
        self._make_room(other.normal + other.anomalous)
        while self.level < other.level:
            self._coarsen()
        self._make_rows(list(other._rows))
        for number in other._rows:
            for mine, theirs in zip(self._page(number), other._page(number), strict=True):
                mine += theirs.reshape(mine.size, -1).sum(axis=1, dtype=mine.dtype)
        self.normal += other.normal
        self.anomalous += other.anomalous
        self.weight += other.weight
        self.lowest, self.highest = min(self.lowest, other.lowest), max(self.highest, other.highest)
        self._inexact |= other._inexact

    def _page(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Normal and anomalous items of a page's bins, and the weight of its groups of bins, ascending; views."""
        row = self._rows[number]
        widths = (counts.size * (1 << self._page_bits) // self._max_bins for counts in self._counts)
        return _triple(c[row * w : (row + 1) * w] for c, w in zip(self._counts, widths, strict=True))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the rows that are not used."""
        used = len(self._rows) << self._page_bits
        used_counts = [counts[: counts.size * used // self._max_bins] for counts in self._counts]
        return self.__dict__ | {"_counts": used_counts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        used_counts = state["_counts"]
        self._counts = _empty(self._max_bins, used_counts[0].dtype)
        for counts, used in zip(self._counts, used_counts, strict=True):
            counts[: used.size] = used

    def blocks(self) -> Iterator[Block]:
        """Yield all thresholds, the bins with anomalous items, from the highest down: one block for each page."""
        above = np.zeros(3, dtype=np.int64)  # anomalous items, normal items and weight of the pages before
        for number in sorted(self._rows, reverse=True):
            normal, anomalous, _ = page = self._page(number)
            found = np.flatnonzero(anomalous)[::-1]
            sums = _sums_from(page, np.concatenate(([0], found)))
            if found.size:
                true_positives, false_positives, weight = (sums[1:] + above).T
                yield Block(
                    scores=self._scores(number)[found],
                    gained=anomalous[found].astype(np.int64),
                    true_positives=true_positives,
                    false_positives=false_positives,
                    false_positives_above=false_positives - normal[found],
                    weight=weight,
                )
            above += sums[0]

    def above(self, thresholds: tuple[float, ...], totals: Totals) -> tuple[Counts, Counts]:
        """Count the bins whose lowest score lies strictly above each threshold on the scale of `totals`; and the bin below it, whose
        scores may lie on either side."""
        width = 1 << self.level
        first = [-(-key // width) * width for key in self._first_keys(thresholds, totals)]
        sums = self._sums_from([*first, *(key - width for key in first)])
        above, with_bin_below = sums[: len(first)], sums[len(first) :]
        unsure = (with_bin_below - above) * int(self.rounded)
        return Counts(*above.T), Counts(*unsure.T)

    def _first_keys(self, thresholds: tuple[float, ...], totals: Totals) -> list[int]:
        """The lowest key, between those of the lowest and the highest score, whose score is above each threshold."""
        scaled = scaler(totals.lowest, totals.highest)
        (low, high), _ = score_keys(np.array([totals.lowest, totals.highest]), self._dropped_bits)
        return [self._first_key(int(low), int(high) + 1, threshold, scaled) for threshold in thresholds]

    def _first_key(self, low: int, high: int, threshold: float, scaled: Callable[[float], float]) -> int:
        """The lowest of the keys from `low` on whose score is above the threshold; `high` if there is none below that."""
        while low < high:  # `bisect` takes no more than 2 ** 63 keys
            middle = (low + high) // 2
            if scaled(self._of_keys(np.array([middle]))[0]) > threshold:
                high = middle
            else:
                low = middle + 1
        return low

    def _sums_from(self, keys: list[int]) -> np.ndarray:
        """Anomalous items, normal items and weight of the bins that begin at each key or above it: int64 (n, 3)."""
        numbers = sorted(self._rows)
        pages = np.array([_page_sums(self._page(number)) for number in numbers])
        below = np.concatenate((np.zeros((1, 3), dtype=np.int64), np.cumsum(pages, axis=0)))
        sums = below[-1] - below[[bisect_right(numbers, key >> PAGE_BITS) for key in keys]]  # pages above the key's own
        for i, key in enumerate(keys):
            if key >> PAGE_BITS in self._rows:
                first = (key & ((1 << PAGE_BITS) - 1)) >> self.level
                sums[i] += _sums_from(self._page(key >> PAGE_BITS), np.array([first]))[0]
        return sums

    def _scores(self, number: int) -> np.ndarray:
        """The score that stands for each bin of a page."""
        keys = (number << PAGE_BITS) + np.arange(0, 1 << PAGE_BITS, 1 << self.level, dtype=np.int64)
        return self._of_keys(keys)

    def _of_keys(self, keys: np.ndarray) -> np.ndarray:
        """The lowest score that can have occurred with each key."""
        return (key_scores if self._inexact else whole_scores)(keys, self._dropped_bits)

    def ranges(self, at_most: int) -> Iterator[tuple[float, float, int]]:
        """Cut all scores, from the highest down, into ranges [low, high) of at most so many items, or of a single bin.

        Yields (low, high, items in it); the first `high` is infinity and the last `low` minus infinity.
        """
        high, count = np.inf, 0
        for number in sorted(self._rows, reverse=True):
            normal, anomalous, _ = self._page(number)
            bins = normal.size
            items = np.concatenate(([0], np.cumsum(normal[::-1].astype(np.int64) + anomalous[::-1])))
            start = 0  # of the bins counted from the top of the page
            while (stop := int(np.searchsorted(items, items[start] + at_most - count, side="right")) - 1) < bins:
                if stop == start and not count:
                    stop += 1
                count += int(items[stop] - items[start])
                key = (number << PAGE_BITS) + ((bins - stop) << self.level)
                low = float(key_scores(np.array([key]), self._dropped_bits)[0])
                yield low, high, count
                high, count, start = low, 0, stop
            count += int(items[bins] - items[start])
        yield -np.inf, high, count


def _triple(arrays: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    normal, anomalous, weight = arrays
    return normal, anomalous, weight


def _empty(bins: int, dtype: DTypeLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """No normal items, no anomalous items, no weight."""
    return np.zeros(bins, dtype), np.zeros(bins, dtype), np.zeros(bins >> _WEIGHT_GROUP, np.int64)


def _page_sums(page: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[int, int, int]:
    """Anomalous items, normal items and weight of a page."""
    normal, anomalous, weight = (int(values.sum(dtype=np.int64)) for values in page)
    return anomalous, normal, weight


def _sums_from(page: tuple[np.ndarray, np.ndarray, np.ndarray], bins: np.ndarray) -> np.ndarray:
    """Anomalous items, normal items and weight of a page in each of `bins` and above: int64 (n, 3).

    Of a group of bins that keeps one weight, all anomalous items weigh the same.
    """
    normal, anomalous, weight = (_from(values) for values in page)
    group = bins >> _WEIGHT_GROUP
    starts = anomalous[:: 1 << _WEIGHT_GROUP]
    inside = starts[group] - starts[group + 1]
    share = (anomalous[bins] - starts[group + 1]) / np.maximum(inside, 1)
    weights = weight[group + 1] + np.rint(share * page[2][group]).astype(np.int64)
    return np.stack((anomalous[bins], normal[bins], weights), axis=1)


def _from(values: np.ndarray) -> np.ndarray:
    """The sum of each element and all after it, and a 0 at the end: int64 (n + 1,)."""
    sums = np.zeros(values.size + 1, dtype=np.int64)
    np.cumsum(values[::-1], out=sums[1:])
    return sums[::-1]
