"""The ranking of a class's scores, made once, and the metrics that depend on nothing but that order.

Scores of normal and of anomalous items (pixels or images) are sorted apart. True positives change only at a distinct
anomalous score, so these few are the only thresholds to look at: between two of them only false positives are added,
which improves neither F1 nor IoU and draws a straight line in the curves.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from invad.metrics.values import Missing, Value


@dataclass(frozen=True)
class Ranking:
    """Sorted scores by label; counts at each distinct anomalous score, the thresholds, from the highest down."""

    unit: Literal["image", "pixel"]
    normal: np.ndarray
    """(n_normal,) scores, ascending."""
    anomalous: np.ndarray
    """(n_anomalous,) scores, ascending."""
    true_positives: np.ndarray
    """(k,) int64, anomalous scores >= threshold."""
    false_positives: np.ndarray
    """(k,) int64, normal scores >= threshold."""
    false_positives_above: np.ndarray
    """(k,) int64, normal scores > threshold: ties with the threshold left out."""
    share: np.ndarray
    """(n_anomalous + 1,) float64 from 0 to exactly 1: element i is the part of all weight on the i highest scores."""

    def lacking(self, *, normal: bool) -> Missing | None:
        """Why a metric that needs anomalous items (with `normal`, also normal ones) is not defined; None when it is."""
        if not self.anomalous.size:
            return Missing(f"no anomalous {self.unit}")
        if normal and not self.normal.size:
            return Missing(f"no normal {self.unit}")
        return None


def rank(
    scores: np.ndarray, anomalous: np.ndarray, unit: Literal["image", "pixel"], weights: np.ndarray | None = None
) -> Ranking:
    """Sort `scores` (any shape, real, finite) split by `anomalous` (bool, same shape).

    `weights` (n_anomalous,), positive, in the order of `scores[anomalous]`; equal weights by default.
    """
    normal_scores = np.sort(scores[~anomalous])
    anomalous_scores = scores[anomalous]
    if weights is None:
        anomalous_scores.sort()
        weights = np.ones(anomalous_scores.size)
    else:
        # weights break ties, so that the order in which images come cannot change a single bit of a sum
        order = np.lexsort((weights, anomalous_scores))
        anomalous_scores, weights = anomalous_scores[order], weights[order]
    share = np.concatenate(([0.0], np.cumsum(weights[::-1])))
    if anomalous_scores.size:
        share /= share[-1]

    first_of_ties = np.concatenate(([True], anomalous_scores[1:] != anomalous_scores[:-1]))[: anomalous_scores.size]
    starts = np.flatnonzero(first_of_ties)
    thresholds = anomalous_scores[starts]
    below = np.searchsorted(normal_scores, thresholds, side="left")
    not_above = np.searchsorted(normal_scores, thresholds, side="right")
    return Ranking(
        unit=unit,
        normal=normal_scores,
        anomalous=anomalous_scores,
        true_positives=(anomalous_scores.size - starts)[::-1],
        false_positives=(normal_scores.size - below)[::-1],
        false_positives_above=(normal_scores.size - not_above)[::-1],
        share=share,
    )


def auroc(ranking: Ranking) -> Value:
    """Area under the ROC curve: the probability that an anomalous item scores above a normal one, ties counting half.

    The count is exact in 64-bit integers up to four thousand million items; one division ends it.
    """
    if missing := ranking.lacking(normal=True):
        return missing
    n_normal = ranking.normal.size
    tied = np.diff(ranking.true_positives, prepend=0)
    # below + half of the ties, doubled: (n - fp) + (n - fp_above)
    doubled_wins = int(np.sum(tied * (2 * n_normal - ranking.false_positives - ranking.false_positives_above)))
    return doubled_wins / (2 * n_normal * ranking.anomalous.size)


def average_precision(ranking: Ranking) -> Value:
    """Average precision as a sum of steps, precision times the gain in recall at each threshold, as in scikit-learn."""
    if missing := ranking.lacking(normal=False):
        return missing
    steps = np.diff(ranking.true_positives, prepend=0)
    precision = ranking.true_positives / (ranking.true_positives + ranking.false_positives)
    return min(float(np.sum(steps * precision)) / ranking.anomalous.size, 1.0)


def f1_max(ranking: Ranking) -> Value:
    """The highest F1 = 2 TP / (2 TP + FP + FN) over all thresholds."""
    if missing := ranking.lacking(normal=False):
        return missing
    tp, fp = ranking.true_positives, ranking.false_positives
    return float(np.max(2 * tp / (tp + fp + ranking.anomalous.size)))


def iou_max(ranking: Ranking) -> Value:
    """The highest intersection over union TP / (TP + FP + FN) of the anomalous items over all thresholds."""
    if missing := ranking.lacking(normal=False):
        return missing
    return float(np.max(ranking.true_positives / (ranking.anomalous.size + ranking.false_positives)))
