"""All metrics of one level (image or pixel) of one class, from its ranking, with bounds of their errors."""

from collections.abc import Iterable
from dataclasses import dataclass

from invad.metrics.curves import Curve, CurvePoints, threshold_curve
from invad.metrics.ranking import Counts, Ranked, Totals
from invad.metrics.sweep import FALSE_POSITIVE_RATE_LIMIT, Sweep
from invad.metrics.thresholds import THRESHOLDS, ThresholdMetrics, aupro_paper, aupro_paper_error, largest_error
from invad.metrics.values import Missing, Value


@dataclass(frozen=True)
class Measured:
    """What one walk along a ranking yields.

    Attributes:
        sweep: What all thresholds give, once it is finished.
        above, straddling: What lies above each of `THRESHOLDS`, and what may lie on either side because scores were rounded.
        curves: By name; empty unless they were asked for.
    """

    totals: Totals
    sweep: Sweep
    above: Counts
    straddling: Counts
    curves: dict[str, Curve]

    def lacking(self, *, normal: bool) -> Missing | None:
        """Why a metric that needs anomalous items (with `normal`, also normal ones) is not defined; None when it is."""
        if not self.totals.anomalous:
            return Missing(f"no anomalous {self.totals.unit}")
        if normal and not self.totals.normal:
            return Missing(f"no normal {self.totals.unit}")
        return None


def measure(parts: Iterable[Ranked], totals: Totals, *, curves: bool = False) -> Measured:
    """Walk along `parts`, which follow each other from the highest score down and together are what `totals` counts."""
    sweep, points = Sweep(totals), CurvePoints(totals) if curves else None
    above, straddling = Counts.zeros(len(THRESHOLDS)), Counts.zeros(len(THRESHOLDS))
    passed = (0, 0, 0)
    for part in parts:
        for block in part.blocks():
            block = block.after(*passed)
            sweep.step(block, rounded=part.rounded)
            if points is not None:
                points.step(block)
        counts, unsure = part.above(THRESHOLDS, totals)
        above, straddling = above + counts, straddling + unsure
        passed = (passed[0] + part.anomalous, passed[1] + part.normal, passed[2] + part.weight)
    sweep.finish()
    found = {} if points is None else points.curves()
    if found and totals.unit == "pixel":
        found["pixel_thresholds"] = threshold_curve(ThresholdMetrics.of(above, totals))
    return Measured(totals, sweep, above, straddling, found)


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


def errors(measured: Measured, *, exact: bool) -> dict[str, float]:
    """How far off each pixel and region metric of a protocol can be because scores were rounded; 0 where they were not."""
    sweep, totals = measured.sweep, measured.totals
    if measured.lacking(normal=False):
        return {}
    at_thresholds = largest_error(measured.above, measured.straddling, totals)
    found = {"pixel_auroc": sweep.errors["auroc"], "pixel_ap": sweep.errors["ap"]}
    found |= dict.fromkeys(("pixel_mf1", "pixel_macc", "pixel_miou"), at_thresholds)
    if exact:
        return found | {
            "pixel_f1_max": sweep.errors["f1"],
            "pixel_iou_max": sweep.errors["iou"],
            "region_aupro": sweep.errors["aupro"],
        }
    aupro = aupro_paper_error(measured.above, measured.straddling, totals) if totals.normal else 0.0
    return found | {"pixel_f1_max": at_thresholds, "pixel_iou_max": at_thresholds, "region_aupro": aupro}
