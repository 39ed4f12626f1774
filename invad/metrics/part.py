"""The pixels, or images, of one class from some images."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from invad.metrics.keys import DROPPED_BITS, PagedKeys, paged_keys
from invad.metrics.regions import fixed_point_weights

WEIGHT_BITS = 38
"""Of the region weights of a histogram."""


@dataclass(frozen=True)
class Part:
    """Scores of one class from some images, in any order.

    Attributes:
        normal, anomalous: (n,), (m,) the scores of normal and of anomalous items, real and finite.
        areas: int32 (m,), of the region that each anomalous item belongs to; 1 for images.
        regions: their number.
    """

    normal: np.ndarray
    anomalous: np.ndarray
    areas: np.ndarray
    regions: int

    @property
    def size(self) -> int:
        """The number of items."""
        return self.normal.size + self.anomalous.size

    def between(self, low: float, high: float) -> "Part":
        """The items with a score of at least `low` and less than `high`."""
        low, high = np.float64(low), np.float64(high)  # as Python floats they would be rounded to the scores' type
        inside = (self.normal >= low) & (self.normal < high)
        anomalous = (self.anomalous >= low) & (self.anomalous < high)
        return Part(self.normal[inside], self.anomalous[anomalous], self.areas[anomalous], self.regions)

    @cached_property
    def ordered(self) -> "Ordered":
        """The items in order, as a histogram counts them: most of the work, which any thread can do beforehand."""
        return self.order(DROPPED_BITS)

    def order(self, dropped_bits: int) -> "Ordered":
        """The same with other keys."""
        order = np.argsort(self.anomalous)
        return Ordered(
            paged_keys(np.sort(self.normal), dropped_bits),
            paged_keys(self.anomalous[order], dropped_bits),
            fixed_point_weights(self.areas[order], WEIGHT_BITS),
        )


@dataclass(frozen=True)
class Ordered:
    """The keys of a part's normal and of its anomalous items, ascending, and the region weight of the latter."""

    normal: PagedKeys | None
    anomalous: PagedKeys | None
    weights: np.ndarray
