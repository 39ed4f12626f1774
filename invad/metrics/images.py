"""Metrics of image scores alone, for methods that have no maps of their own."""

import numpy as np

from invad.metrics.evaluation import image_ranking
from invad.metrics.measure import Measured, rank_values
from invad.metrics.protocol import Missing, Value

MISSED = 0.05  # of the anomalous images
IMAGE_KEYS = ("image_auroc", "image_ap", "image_f1_max", "image_fpr95")


def image_values(scores: np.ndarray, labels: np.ndarray) -> dict[str, Value]:
    """Return the metrics of one class by `IMAGE_KEYS`: fractions in [0, 1], or why there is none. scores, labels: (n,), 1 anomalous.

    `image_fpr95`, lower is better: the share of normal images whose score is at least the 5 % quantile (linear between order statistics) of
    the anomalous ones' (spec of SegAD, protocols). The others are those of `invad.metrics.evaluate`.
    """
    scores, anomalous = np.asarray(scores), np.asarray(labels).astype(bool)
    values = rank_values(Measured(image_ranking(scores, anomalous)))
    if anomalous.all() or not anomalous.any():
        return values | {"image_fpr95": Missing(f"no {'normal' if anomalous.any() else 'anomalous'} image")}
    threshold = np.quantile(scores[anomalous], MISSED)
    return values | {"image_fpr95": float(np.mean(scores[~anomalous] >= threshold))}
