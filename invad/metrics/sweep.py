"""One walk along a ranking, from the highest threshold down, that yields every metric of all thresholds."""

from dataclasses import dataclass

import numpy as np

from invad.metrics.ranking import Block, Totals

FALSE_POSITIVE_RATE_LIMIT = 0.3


@dataclass
class Sweep:
    """Sums over the thresholds seen so far: `step` for each block, in order, then `finish`.

    Attributes:
        wins: twice the number of pairs in which the anomalous item scores higher; ties count half.
        precision: the sum over anomalous items of the precision at their score.
        f1, iou: the highest so far.
        area: under the curve of region overlap over false positives, up to the limit, in false positives.
    """

    totals: Totals
    wins: int = 0
    precision: float = 0.0
    f1: float = 0.0
    iou: float = 0.0
    area: float = 0.0
    _false_positives: int = 0
    _overlap: float = 0.0

    def step(self, block: Block) -> None:
        """Take in the next thresholds."""
        n_normal, n_anomalous = self.totals.normal, self.totals.anomalous
        _, gained, tp, fp, fp_above, weight = block
        # below + half of the ties, doubled: (n - fp) + (n - fp_above)
        self.wins += int(np.sum(gained * (2 * n_normal - fp - fp_above)))
        self.precision += float(np.sum(gained * (tp / (tp + fp))))
        self.f1 = max(self.f1, float(np.max(2 * tp / (tp + fp + n_anomalous))))
        self.iou = max(self.iou, float(np.max(tp / (n_anomalous + fp))))
        overlap = np.concatenate(([self._overlap], weight / self.totals.weight))
        self.area += self._area(fp_above, fp, overlap)
        self._false_positives, self._overlap = int(fp[-1]), float(overlap[-1])

    def finish(self) -> None:
        """Add what follows the last anomalous item: normal ones only."""
        self.area += max(self._limit - self._false_positives, 0.0) * self._overlap

    @property
    def _limit(self) -> float:
        return FALSE_POSITIVE_RATE_LIMIT * self.totals.normal

    def _area(self, fp_above: np.ndarray, fp: np.ndarray, overlap: np.ndarray) -> float:
        """Under the overlap: flat between two thresholds, and a straight line where items are tied, cut at the limit."""
        limit = self._limit
        flat_from = np.minimum(np.concatenate(([self._false_positives], fp[:-1])), limit)
        flat_to, line_to = np.minimum(fp_above, limit), np.minimum(fp, limit)
        rise = (line_to - flat_to) / np.maximum(fp - fp_above, 1) * np.diff(overlap)
        flat = (flat_to - flat_from) * overlap[:-1]
        return float(np.sum(flat + (line_to - flat_to) * (overlap[:-1] + rise / 2)))
