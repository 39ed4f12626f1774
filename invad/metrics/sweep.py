"""One walk along a ranking, from the highest threshold down, that yields every metric of all thresholds, and how far off it may be."""

from dataclasses import dataclass, field

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
        errors: of the area under the ROC curve, average precision, F1, IoU and AU-PRO, as `auroc`, `ap`, `f1`, `iou`, `aupro`: how far
            off each can be when items that were counted as tied are not.
    """

    totals: Totals
    wins: int = 0
    precision: float = 0.0
    f1: float = 0.0
    iou: float = 0.0
    area: float = 0.0
    errors: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("auroc", "ap", "f1", "iou", "aupro"), 0.0))
    _false_positives: int = 0
    _overlap: float = 0.0
    _best_f1: float = 0.0
    _best_iou: float = 0.0
    _largest_gain: float = 0.0

    def step(self, block: Block, *, rounded: bool) -> None:
        """Take in the next thresholds; `rounded`: whether items counted as tied there may have different scores."""
        n_normal, n_anomalous = self.totals.normal, self.totals.anomalous
        tp, fp, fp_above = block.true_positives, block.false_positives, block.false_positives_above
        gained = block.gained
        # below + half of the ties, doubled: (n - fp) + (n - fp_above)
        self.wins += int(np.sum(gained * (2 * n_normal - fp - fp_above)))
        self.precision += float(np.sum(gained * (tp / (tp + fp))))
        self.f1 = max(self.f1, float(np.max(2 * tp / (tp + fp + n_anomalous))))
        self.iou = max(self.iou, float(np.max(tp / (n_anomalous + fp))))
        overlap = np.concatenate(([self._overlap], block.weight / self.totals.weight))
        self.area += self._area(fp_above, fp, overlap)
        if rounded:
            self._bound(block, np.diff(overlap))
        self._false_positives, self._overlap = int(fp[-1]), float(overlap[-1])

    def finish(self) -> None:
        """Add what follows the last anomalous item: normal ones only."""
        limit = FALSE_POSITIVE_RATE_LIMIT * self.totals.normal
        self.area += max(limit - self._false_positives, 0.0) * self._overlap
        # where nothing was rounded the best order is the one that was counted
        self.errors["f1"] = max(self._best_f1 - self.f1, 0.0)
        self.errors["iou"] = max(self._best_iou - self.iou, 0.0)
        # the weights of four neighbouring bins are kept together, so the overlap may be off by theirs at any threshold
        self.errors["aupro"] += 4 * self._largest_gain

    def _area(self, fp_above: np.ndarray, fp: np.ndarray, overlap: np.ndarray) -> float:
        """Under the overlap: flat between two thresholds, and a straight line where items are tied, cut at the limit."""
        limit = FALSE_POSITIVE_RATE_LIMIT * self.totals.normal
        flat_from = np.minimum(np.concatenate(([self._false_positives], fp[:-1])), limit)
        flat_to, line_to = np.minimum(fp_above, limit), np.minimum(fp, limit)
        rise = (line_to - flat_to) / np.maximum(fp - fp_above, 1) * np.diff(overlap)
        flat = (flat_to - flat_from) * overlap[:-1]
        return float(np.sum(flat + (line_to - flat_to) * (overlap[:-1] + rise / 2)))

    def _bound(self, block: Block, gained_overlap: np.ndarray) -> None:
        """Let the tied items come in the best and in the worst order."""
        n_normal, n_anomalous = self.totals.normal, self.totals.anomalous
        tp, fp, fp_above = block.true_positives, block.false_positives, block.false_positives_above
        gained = block.gained
        tied = fp - fp_above
        first = tp - gained + 1
        best = tp / (tp + fp_above)
        self.errors["auroc"] += float(np.sum(gained * tied)) / max(2 * n_normal * n_anomalous, 1)
        self.errors["ap"] += float(np.sum(gained * (best - first / (first + fp)))) / n_anomalous
        self._best_f1 = max(self._best_f1, float(np.max(2 * tp / (tp + fp_above + n_anomalous))))
        self._best_iou = max(self._best_iou, float(np.max(tp / (n_anomalous + fp_above))))
        inside = fp_above < FALSE_POSITIVE_RATE_LIMIT * n_normal
        shift = float(np.sum((tied * gained_overlap)[inside])) / max(2 * FALSE_POSITIVE_RATE_LIMIT * n_normal, 1e-9)
        self.errors["aupro"] += shift
        self._largest_gain = max(self._largest_gain, float(gained_overlap.max()))
