"""All metrics of one level (image or pixel) of one class, from its ranking."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from invad.metrics.curves import Curve, CurvePoints, threshold_curve
from invad.metrics.protocol import Missing, Value
from invad.metrics.ranking import Block, Counts, Ranking, Totals, in_blocks
from invad.metrics.sweep import FALSE_POSITIVE_RATE_LIMIT, Sweep
from invad.metrics.thresholds import THRESHOLDS, ThresholdMetrics, aupro_paper


@dataclass(frozen=True)
class Measured:
    """What one walk along a ranking yields.

    Attributes:
        sweep: What all thresholds give, once it is finished.
        above: What lies above each of `THRESHOLDS`; of pixels only.
        curves: By name; empty unless they were asked for.
    """

    totals: Totals
    sweep: Sweep
    above: Counts
    curves: dict[str, Curve]

    def lacking(self, *, normal: bool) -> Missing | None:
        """Why a metric that needs anomalous items (with `normal`, also normal ones) is not defined; None when it is."""
        if not self.totals.anomalous:
            return Missing(f"no anomalous {self.totals.unit}")
        if normal and not self.totals.normal:
            return Missing(f"no normal {self.totals.unit}")
        return None


def measure(ranking: Ranking, *, curves: bool = False) -> Measured:
    """Walk along a ranking."""
    totals = ranking.totals
    sweep, points = Sweep(totals), CurvePoints(totals) if curves else None
    thresholds = THRESHOLDS if totals.unit == "pixel" else ()
    above = np.zeros((3, len(thresholds)), np.int64)

    def pieces() -> Iterator[Block]:
        passed = np.zeros(3, np.int64)
        for part in ranking.ranges(thresholds):
            above[:, part.at] = part.above + passed[:, None]
            yield part.block.after(*passed.tolist())
            passed += part.items

    if totals.anomalous:
        for block in in_blocks(pieces()):
            sweep.step(block)
            if points is not None:
                points.step(block)
    sweep.finish()
    found = {} if points is None else points.curves()
    if found and totals.unit == "pixel":
        found["pixel_thresholds"] = threshold_curve(ThresholdMetrics.of(Counts(*above), totals))
    return Measured(totals, sweep, Counts(*above), found)


def rank_values(measured: Measured) -> dict[str, Value]:
    """AU-ROC, AP, and the highest F1 over all thresholds, as `<unit>_auroc`, `<unit>_ap`, `<unit>_f1_max`.

    AU-ROC is the probability that an anomalous item scores above a normal one, ties counting half: an exact count and one division. AP is
    a sum of steps, precision times the gain in recall at each threshold, as in scikit-learn.
    """
    sweep, totals = measured.sweep, measured.totals
    without, without_normal = measured.lacking(normal=False), measured.lacking(normal=True)
    return {
        f"{totals.unit}_auroc": without_normal or sweep.wins / (2 * totals.normal * totals.anomalous),
        f"{totals.unit}_ap": without or min(sweep.precision / totals.anomalous, 1.0),
        f"{totals.unit}_f1_max": without or sweep.f1,
    }


def region_and_threshold_values(measured: Measured, *, exact: bool) -> dict[str, Value]:
    """AU-PRO, the threshold family and the maxima of F1 and IoU of the pixels, by the exact or the paper protocol."""
    sweep, totals = measured.sweep, measured.totals
    keys = ("region_aupro", "pixel_mf1", "pixel_macc", "pixel_miou", "pixel_f1_max", "pixel_iou_max")
    if missing := measured.lacking(normal=False):
        return dict.fromkeys(keys, missing)
    at_thresholds = ThresholdMetrics.of(measured.above, totals)
    f1, iou = (sweep.f1, sweep.iou) if exact else at_thresholds.maxima()
    aupro = measured.lacking(normal=True) or (
        # rounding alone could pass 1
        min(sweep.area / (FALSE_POSITIVE_RATE_LIMIT * totals.normal), 1.0)
        if exact
        else aupro_paper(measured.above, totals)
    )
    return {"region_aupro": aupro, **at_thresholds.family(), "pixel_f1_max": f1, "pixel_iou_max": iou}
