"""Metrics at fixed thresholds on scores scaled to [0, 1] by the class's own minimum and maximum over all its pixels.

All of them read their counts off the sorted scores by bisection, so a threshold costs next to nothing.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np

from invad.metrics.ranking import Ranking
from invad.metrics.values import Value

FAMILY_THRESHOLDS = tuple(k / 10 for k in range(2, 9))
"""0.2, 0.3 ... 0.8: mF1, mAcc and mIoU are means over these."""
MAXIMA_THRESHOLDS = tuple(k / 20 for k in range(21))
"""0, 0.05 ... 1: the paper protocol's F1-max and IoU-max are the best of these."""
EPSILON = 1e-8
"""Added to each denominator, as in the paper's implementation."""


def scaler(lowest: float, highest: float) -> Callable[[float], float]:
    """The map from a score to [0, 1] in double precision; every score becomes 0 when lowest and highest are equal."""
    lowest, highest = float(lowest), float(highest)
    # the difference of two huge scores may overflow
    factor = 1.0 if math.isfinite(highest - lowest) else 0.5
    span = highest * factor - lowest * factor
    if span == 0:
        return lambda score: 0.0
    return lambda score: (float(score) * factor - lowest * factor) / span


def counts_above(ranking: Ranking, thresholds: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """How many anomalous and how many normal items have a scaled score strictly above each threshold (int64)."""
    parts = [scores for scores in (ranking.normal, ranking.anomalous) if scores.size]
    scaled = scaler(min(scores[0] for scores in parts), max(scores[-1] for scores in parts))

    def above(ascending: np.ndarray) -> np.ndarray:
        return np.array([ascending.size - bisect_right(ascending, t, key=scaled) for t in thresholds], dtype=np.int64)

    return above(ranking.anomalous), above(ranking.normal)


def threshold_family(ranking: Ranking) -> dict[str, Value]:
    """The means over `FAMILY_THRESHOLDS` of F1, "accuracy" and IoU, as `pixel_mf1`, `pixel_macc`, `pixel_miou`.

    What the paper (arXiv:2404.10760) calls accuracy is the recall TP / (TP + FN); IoU is of the anomalous pixels only.
    """
    keys = ("pixel_mf1", "pixel_macc", "pixel_miou")
    if missing := ranking.lacking(normal=False):
        return dict.fromkeys(keys, missing)
    per_threshold = _f1_recall_iou(ranking, FAMILY_THRESHOLDS)
    return {key: math.fsum(values) / len(values) for key, values in zip(keys, per_threshold, strict=True)}


def sampled_maxima(ranking: Ranking) -> tuple[Value, Value]:
    """The highest F1 and the highest IoU among `MAXIMA_THRESHOLDS`, as published; at most the true optimum."""
    if missing := ranking.lacking(normal=False):
        return missing, missing
    f1, _, iou = _f1_recall_iou(ranking, MAXIMA_THRESHOLDS)
    return float(f1.max()), float(iou.max())


def _f1_recall_iou(ranking: Ranking, thresholds: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tp, fp = counts_above(ranking, thresholds)
    n_anomalous = ranking.anomalous.size
    precision = tp / (tp + fp + EPSILON)
    recall = tp / (n_anomalous + EPSILON)
    return 2 * precision * recall / (precision + recall + EPSILON), recall, tp / (n_anomalous + fp + EPSILON)
