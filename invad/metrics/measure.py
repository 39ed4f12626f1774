"""All metrics of one level (image or pixel) of one class, from one walk along its ranking, the highest threshold first."""

import math

import numpy as np

from invad.metrics.curves import Curve, CurvePoints
from invad.metrics.protocol import Missing, Value
from invad.metrics.ranking import Block, Ranking

FALSE_POSITIVE_RATE_LIMIT = 0.3
THRESHOLDS = tuple(k / 100 for k in range(101))
"""0, 0.01 ... 1: the fixed thresholds, on scores scaled to [0, 1] by the class's own minimum and maximum over all its pixels."""
FAMILY = range(20, 81, 10)
"""0.2, 0.3 ... 0.8: mF1, mAcc and mIoU are means over these of `THRESHOLDS`."""
MAXIMA = range(0, 101, 5)
"""0, 0.05 ... 1: the paper protocol's F1-max and IoU-max are the best of these."""
AUPRO = range(100)
"""0, 0.01 ... 0.99: equally spaced from the lowest score up to but not including the highest, for the paper protocol's AU-PRO."""
EPSILON = 1e-8
"""Added to each denominator, as in the paper's implementation."""


class Measured:
    """All sums along a ranking, the highest threshold first.

    wins: twice the number of pairs in which the anomalous item scores higher; ties count half. precision: the sum over anomalous items of
    the precision at their score. f1, iou: the highest. area: under the curve of region overlap over false positives, up to the limit, in
    false positives. above: int64 (3, 101), what `Ranking.walk` counts above each of `THRESHOLDS`; of pixels only. curves: by name; empty
    unless they are asked for.
    """

    def __init__(self, ranking: Ranking, *, curves: bool = False) -> None:
        self.ranking = ranking
        self.wins = 0
        self.precision = self.f1 = self.iou = self.area = 0.0
        self._false_positives, self._overlap = 0, 0.0  # at the threshold before
        is_pixel = ranking.unit == "pixel"
        points = CurvePoints(ranking) if curves else None

        def step(block: Block) -> None:
            self._add(block)
            if points is not None:
                points.step(block)

        self.above = ranking.walk(THRESHOLDS if is_pixel else (), step)
        # Normal items alone follow the last anomalous one.
        self.area += max(self._limit - self._false_positives, 0.0) * self._overlap
        self.curves: dict[str, Curve] = points.curves() if points is not None else {}
        if self.curves and is_pixel:
            values = {name: column.tolist() for name, column in at_thresholds(self).items()}
            self.curves["pixel_thresholds"] = {"threshold": list(THRESHOLDS), **values}

    @property
    def _limit(self) -> float:
        return FALSE_POSITIVE_RATE_LIMIT * self.ranking.normal

    def _add(self, block: Block) -> None:
        n_normal, n_anomalous = self.ranking.normal, self.ranking.anomalous
        _, gained, tp, fp, fp_above, weight = block
        # below + half of the ties, doubled: (n - fp) + (n - fp_above)
        self.wins += int(np.sum(gained * (2 * n_normal - fp - fp_above)))
        self.precision += float(np.sum(gained * (tp / (tp + fp))))
        self.f1 = max(self.f1, float(np.max(2 * tp / (tp + fp + n_anomalous))))
        self.iou = max(self.iou, float(np.max(tp / (n_anomalous + fp))))
        overlap = np.concatenate(([self._overlap], weight / self.ranking.weight))
        self.area += self._area(fp_above, fp, overlap)
        self._false_positives, self._overlap = int(fp[-1]), float(overlap[-1])

    def _area(self, fp_above: np.ndarray, fp: np.ndarray, overlap: np.ndarray) -> float:
        """Under the overlap: flat between two thresholds, and a straight line where items are tied, cut at the limit."""
        limit = self._limit
        flat_from = np.minimum(np.concatenate(([self._false_positives], fp[:-1])), limit)
        flat_to, line_to = np.minimum(fp_above, limit), np.minimum(fp, limit)
        rise = (line_to - flat_to) / np.maximum(fp - fp_above, 1) * np.diff(overlap)
        flat = (flat_to - flat_from) * overlap[:-1]
        return float(np.sum(flat + (line_to - flat_to) * (overlap[:-1] + rise / 2)))

    def lacking(self, *, normal: bool) -> Missing | None:
        """Why a metric that needs anomalous items (with `normal`, also normal ones) is not defined; None when it is."""
        if not self.ranking.anomalous:
            return Missing(f"no anomalous {self.ranking.unit}")
        return Missing(f"no normal {self.ranking.unit}") if normal and not self.ranking.normal else None


def rank_values(measured: Measured) -> dict[str, Value]:
    """AU-ROC, AP, and the highest F1 over all thresholds, as `<unit>_auroc`, `<unit>_ap`, `<unit>_f1_max`.

    AU-ROC is the probability that an anomalous item scores above a normal one, ties counting half: an exact count and one division. AP is
    a sum of steps, precision times the gain in recall at each threshold, as in scikit-learn.
    """
    ranking = measured.ranking
    without, without_normal = measured.lacking(normal=False), measured.lacking(normal=True)
    return {
        f"{ranking.unit}_auroc": without_normal or measured.wins / (2 * ranking.normal * ranking.anomalous),
        f"{ranking.unit}_ap": without or min(measured.precision / ranking.anomalous, 1.0),
        f"{ranking.unit}_f1_max": without or measured.f1,
    }


def region_and_threshold_values(measured: Measured, *, exact: bool) -> dict[str, Value]:
    """AU-PRO, the threshold family and the maxima of F1 and IoU of the pixels, by the exact or the paper protocol."""
    if missing := measured.lacking(normal=False):
        keys = ("region_aupro", "pixel_mf1", "pixel_macc", "pixel_miou", "pixel_f1_max", "pixel_iou_max")
        return dict.fromkeys(keys, missing)
    values = at_thresholds(measured)
    family = {"pixel_mf1": "f1", "pixel_macc": "recall", "pixel_miou": "iou"}
    best = (max(float(values[name][k]) for k in MAXIMA) for name in ("f1", "iou"))  # at most the true optimum
    f1, iou = (measured.f1, measured.iou) if exact else best
    return {
        "region_aupro": measured.lacking(normal=True) or (_aupro_exact if exact else _aupro_paper)(measured),
        **{key: math.fsum(values[name][k] for k in FAMILY) / len(FAMILY) for key, name in family.items()},
        "pixel_f1_max": f1,
        "pixel_iou_max": iou,
    }


def at_thresholds(measured: Measured) -> dict[str, np.ndarray]:
    """Precision, recall, F1 and IoU at each of `THRESHOLDS`, positive strictly above: float64 (101,); there is an anomalous pixel.

    What the paper (arXiv:2404.10760) calls accuracy is the recall TP / (TP + FN); IoU is of the anomalous pixels only.
    """
    (tp, fp, _), anomalous = measured.above, measured.ranking.anomalous
    precision, recall = tp / (tp + fp + EPSILON), tp / (anomalous + EPSILON)
    f1 = 2 * precision * recall / (precision + recall + EPSILON)
    return {"precision": precision, "recall": recall, "f1": f1, "iou": tp / (anomalous + fp + EPSILON)}


def _aupro_exact(measured: Measured) -> Value:
    return min(
        measured.area / (FALSE_POSITIVE_RATE_LIMIT * measured.ranking.normal), 1.0
    )  # rounding alone could pass 1


def _aupro_paper(measured: Measured) -> Value:
    """AU-PRO of the published numbers: thresholds `AUPRO`, positive strictly above, points with a rate below the limit.

    Their rates are rescaled to [0, 1] by their own minimum and maximum, then the trapezoid rule. Where the kept points all have one rate
    (a constant map, or a map without a single false positive) that rescaling is 0 / 0 and the value is missing.
    """
    (_, false_positives, weight), ranking = measured.above, measured.ranking
    rate, overlap = false_positives[AUPRO] / ranking.normal, weight[AUPRO] / ranking.weight
    kept = rate < FALSE_POSITIVE_RATE_LIMIT
    rate, overlap = rate[kept][::-1], overlap[kept][::-1]
    if not rate.size or rate[0] == rate[-1]:
        return Missing("fewer than two false positive rates below the limit, so they cannot be rescaled")
    return min(float(np.trapezoid(overlap, (rate - rate[0]) / (rate[-1] - rate[0]))), 1.0)
