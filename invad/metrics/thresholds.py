"""Metrics at fixed thresholds on scores scaled to [0, 1] by the class's own minimum and maximum over all its pixels."""

import math
from dataclasses import dataclass

import numpy as np

from invad.metrics.protocol import Missing, Value
from invad.metrics.ranking import Counts, Totals
from invad.metrics.sweep import FALSE_POSITIVE_RATE_LIMIT

THRESHOLDS = tuple(k / 100 for k in range(101))
"""0, 0.01 ... 1: all thresholds that any metric looks at."""
FAMILY = range(20, 81, 10)
"""0.2, 0.3 ... 0.8: mF1, mAcc and mIoU are means over these of `THRESHOLDS`."""
MAXIMA = range(0, 101, 5)
"""0, 0.05 ... 1: the paper protocol's F1-max and IoU-max are the best of these."""
AUPRO = range(100)
"""0, 0.01 ... 0.99: equally spaced from the lowest score up to but not including the highest, for the paper protocol's AU-PRO."""
EPSILON = 1e-8
"""Added to each denominator, as in the paper's implementation."""


@dataclass(frozen=True)
class ThresholdMetrics:
    """Precision, recall, F1 and IoU at each of `THRESHOLDS`: float64 (101,).

    What the paper (arXiv:2404.10760) calls accuracy is the recall TP / (TP + FN); IoU is of the anomalous pixels only.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    iou: np.ndarray

    @classmethod
    def of(cls, counts: Counts, totals: Totals) -> "ThresholdMetrics":
        """From what lies strictly above each threshold; there is at least one anomalous pixel."""
        tp, fp = counts.true_positives, counts.false_positives
        precision, recall = tp / (tp + fp + EPSILON), tp / (totals.anomalous + EPSILON)
        f1 = 2 * precision * recall / (precision + recall + EPSILON)
        return cls(precision, recall, f1, tp / (totals.anomalous + fp + EPSILON))

    def family(self) -> dict[str, Value]:
        """The means over `FAMILY`."""
        values = {"pixel_mf1": self.f1, "pixel_macc": self.recall, "pixel_miou": self.iou}
        return {key: math.fsum(value[k] for k in FAMILY) / len(FAMILY) for key, value in values.items()}

    def maxima(self) -> tuple[float, float]:
        """The highest F1 and the highest IoU among `MAXIMA`, as published; at most the true optimum."""
        return max(float(self.f1[k]) for k in MAXIMA), max(float(self.iou[k]) for k in MAXIMA)


def aupro_paper(counts: Counts, totals: Totals) -> Value:
    """AU-PRO of the published numbers: thresholds `AUPRO`, positive strictly above, points with a rate below the limit.

    Their rates are rescaled to [0, 1] by their own minimum and maximum, then the trapezoid rule. Where the kept points all have one rate
    (a constant map, or a map without a single false positive) that rescaling is 0 / 0 and the value is missing.
    """
    rate, overlap = counts.false_positives[AUPRO] / totals.normal, counts.weight[AUPRO] / totals.weight
    kept = rate < FALSE_POSITIVE_RATE_LIMIT
    rate, overlap = rate[kept][::-1], overlap[kept][::-1]
    if not rate.size or rate[0] == rate[-1]:
        return Missing("fewer than two false positive rates below the limit, so they cannot be rescaled")
    return min(float(np.trapezoid(overlap, (rate - rate[0]) / (rate[-1] - rate[0]))), 1.0)
