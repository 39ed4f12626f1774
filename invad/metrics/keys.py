"""Scores as integers in the same order: the leading bits of doubles, cut into pages."""

from dataclasses import dataclass

import numpy as np

PAGE_BITS = 16
"""Keys that share all but so many bits are in one page."""
DROPPED_BITS = 29
"""Of a double's 64: 35 are left (sign, exponent, 23 of the mantissa), by which a float32 loses nothing."""
# A float32's exponent is counted from 127, a double's from 1023; 7 bits of the mantissa belong to the page's number.
_FLOAT32_PAGES = (1023 - 127) << 7


@dataclass(frozen=True)
class PagedKeys:
    """The keys of some scores, ascending.

    Attributes:
        pages, starts: of each page that occurs, its number, and where its keys begin.
        values: int32 or int64 (n,), the keys but for a multiple of 2 ** 16 that all keys of a page lack.
        bases: int64, of each page that occurs, what the number of its values' page is (`values >> 16`).
        inexact: whether different scores may share a key.
        lowest, highest: of the scores.
    """

    pages: list[int]
    starts: list[int]
    values: np.ndarray
    bases: np.ndarray
    inexact: bool
    lowest: float
    highest: float


def paged_keys(ascending: np.ndarray, dropped_bits: int = DROPPED_BITS) -> PagedKeys | None:
    """The keys of ascending scores (n,), real and finite; None when there are none."""
    if not ascending.size:
        return None
    short = ascending.dtype == np.float32 and dropped_bits == DROPPED_BITS and _all_normal(ascending)
    values, inexact = (_float32_keys(ascending), False) if short else score_keys(ascending, dropped_bits)
    numbers = values >> PAGE_BITS
    starts = np.flatnonzero(np.concatenate(([True], numbers[1:] != numbers[:-1])))
    bases = numbers[starts].astype(np.int64)
    pages = bases + np.where(bases < 0, -_FLOAT32_PAGES, _FLOAT32_PAGES) if short else bases
    lowest, highest = float(ascending[0]), float(ascending[-1])
    return PagedKeys(pages.tolist(), starts.tolist(), values, bases, inexact, lowest, highest)


def _all_normal(ascending: np.ndarray) -> bool:
    """Whether no float32 among them is 0 or has the exponent of 0 (those are normal numbers as doubles)."""
    tiny = np.finfo(np.float32).tiny
    return bool(np.searchsorted(ascending, -tiny, side="right") == np.searchsorted(ascending, tiny, side="left"))


def _float32_keys(ascending: np.ndarray) -> np.ndarray:
    """What `score_keys` gives, but for the number of the page, by half the work."""
    bits = ascending.view(np.int32)
    return bits if ascending[0] > 0 else bits ^ ((bits >> 31) & np.int32(2**31 - 1))


def score_keys(scores: np.ndarray, dropped_bits: int = DROPPED_BITS) -> tuple[np.ndarray, bool]:
    """Integers in the order of the scores (int64 (n,)), and whether different scores may share one."""
    doubles = scores.astype(np.float64) + 0.0  # -0.0 becomes 0.0
    bits = doubles.view(np.int64)
    inexact = bool((bits & ((1 << dropped_bits) - 1)).any())
    if scores.dtype.kind in "iu" and scores.dtype.itemsize == 8:
        inexact |= bool(np.abs(doubles).max(initial=0) >= 2**53)
    return _flip_negative(bits) >> dropped_bits, inexact


def key_scores(keys: np.ndarray, dropped_bits: int = DROPPED_BITS) -> np.ndarray:
    """The lowest score (float64) of each key."""
    return _flip_negative(keys << dropped_bits).view(np.float64)


def whole_scores(keys: np.ndarray, dropped_bits: int = DROPPED_BITS) -> np.ndarray:
    """The one score (float64) of each key that has no bits to drop: the lowest of a positive key, the highest of a negative one."""
    return (key_scores(keys, dropped_bits).view(np.int64) & -(1 << dropped_bits)).view(np.float64)


def _flip_negative(bits: np.ndarray) -> np.ndarray:
    """Bring the bits of doubles, as int64, into the order of the numbers, and back: they are sign and magnitude."""
    return bits ^ ((bits >> 63) & np.int64(2**63 - 1))
