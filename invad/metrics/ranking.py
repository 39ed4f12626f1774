"""One class's scores in order, from the highest threshold down, and all metrics that one walk along them yields.

True positives change only at a distinct anomalous score, so these few are the only thresholds to look at: between two of them only
false positives are added, which improves neither F1 nor IoU and draws a straight line in the curves.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np

Unit = Literal["image", "pixel"]


@dataclass(frozen=True)
class Totals:
    """All of a class's items (pixels or images): how many of either label, the region weight of all, the extreme scores."""

    unit: Unit
    normal: int
    anomalous: int
    weight: int
    lowest: float
    highest: float


@dataclass(frozen=True)
class Block:
    """Counts at consecutive thresholds, the distinct anomalous scores from the highest down.

    Attributes:
        scores: (k,) the thresholds.
        gained: (k,) int64, anomalous items that have exactly that score.
        true_positives, false_positives: (k,) int64, items with a score >= threshold.
        false_positives_above: (k,) int64, normal items with a score > threshold: ties with the threshold left out.
        weight: (k,) int64, the region weight of the anomalous items with a score >= threshold.
    """

    scores: np.ndarray
    gained: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray
    false_positives_above: np.ndarray
    weight: np.ndarray

    def after(self, true_positives: int, false_positives: int, weight: int) -> "Block":
        """The same thresholds where so much has a higher score than all that is counted here."""
        return replace(
            self,
            true_positives=self.true_positives + true_positives,
            false_positives=self.false_positives + false_positives,
            false_positives_above=self.false_positives_above + false_positives,
            weight=self.weight + weight,
        )


@dataclass(frozen=True)
class Counts:
    """Anomalous items, normal items and region weight above each of some thresholds: int64 (n,)."""

    true_positives: np.ndarray
    false_positives: np.ndarray
    weight: np.ndarray

    @classmethod
    def zeros(cls, thresholds: int) -> "Counts":
        """Nothing above any of so many thresholds."""
        return cls(*(np.zeros(thresholds, dtype=np.int64) for _ in range(3)))

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.weight + other.weight,
        )


class Ranked(Protocol):
    """Scores in order: all of a class, or those between two scores."""

    normal: int
    anomalous: int
    weight: int

    def blocks(self) -> Iterator[Block]:
        """Yield all thresholds from the highest down, counted from the highest of these scores; how they are cut into blocks
        depends on nothing but the scores."""

    @property
    def rounded(self) -> bool:
        """Whether scores that differ may have been counted as tied."""

    def above(self, thresholds: tuple[float, ...], totals: Totals) -> tuple[Counts, Counts]:
        """Count what has a score strictly above each threshold, which is one on the scale from the lowest (0) to the highest (1) score of
        `totals`; and what may have one beside that, because scores were rounded."""
