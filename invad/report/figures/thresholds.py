"""Precision, recall, F1 and IoU over the threshold on scaled maps: what the paper's threshold metrics are the means of."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from invad.metrics.mean_curves import mean_curve
from invad.metrics.thresholds import FAMILY, MAXIMA, THRESHOLDS
from invad.report.figures.style import LIGHT, MARKED_TITLE, line_style, style
from invad.report.labels import METRICS
from invad.report.results import Result

CURVE = "pixel_thresholds"
BAND = (THRESHOLDS[FAMILY[0]], THRESHOLDS[FAMILY[-1]])
X_LABEL = "threshold on maps scaled to 0..1 by the class's smallest and largest value"
LINES = (
    ("iou", "IoU", "pixel_miou"),
    ("f1", "F1", "pixel_mf1"),
    ("recall", "recall (called accuracy in the paper)", "pixel_macc"),
    ("precision", "precision", None),
)
"""Column of the curve, its name in the legend, and the metric that is its mean over the band."""
LABEL_STEP = 0.062  # of the panel's height, so that two values beside it do not overlap


@dataclass(frozen=True)
class _Value:
    """A number written beside the panel. value: a fraction, and its height. colour: of the line to it."""

    text: str
    value: float
    colour: str


def threshold_figure(result: Result) -> Figure | None:
    """Mean over classes of pixel precision, recall, F1 and IoU over the threshold, and the metrics of the `paper` protocol in percent.

    The band is that of thresholds 0.2 to 0.8, whose means are mF1, mAcc and mIoU, drawn as horizontal lines; triangles are the best
    IoU of each class, whose mean is IoUmax. Pixel AU-ROC, one number without a threshold, is the dashed line on top: it stays high
    where no threshold gives a good segmentation. None when the result has no such curve.
    """
    curve = mean_curve(result.curves, CURVE)
    if not curve:
        return None
    metrics = result.metrics["mean"]["paper"]
    with matplotlib.rc_context(style(LIGHT)):
        figure = Figure(figsize=(8.4, 4.9), layout="constrained")
        figure.suptitle(f"Pixel metrics over the threshold, {result.marked_title}\n{result.label}", **MARKED_TITLE)
        axis = figure.subplots()
        _frame(axis)
        values = []
        for index, (column, label, metric) in enumerate(LINES):
            look = line_style(index)
            # nothing lies above the highest threshold: there is no precision
            end = -1 if column == "precision" else None
            axis.plot(curve["threshold"][:end], curve[column][:end], linewidth=2, label=label, **look)
            if metric is not None and (mean := metrics.get(metric)) is not None:
                axis.plot(BAND, (mean, mean), color=look["color"], linewidth=1.1)
                values.append(_Value(f"{_name(metric)} {100 * mean:.1f}", mean, look["color"]))
        values += _maxima(axis, result, line_style(0)["color"])
        auroc = metrics.get("pixel_auroc")
        if auroc is not None:
            axis.axhline(auroc, color=LIGHT.ink, linestyle=(0, (6, 3)), linewidth=1.4)
            values.append(_Value(f"AU-ROC {100 * auroc:.1f}", auroc, LIGHT.ink))
        axis.set_ylabel("mean over classes" if len(result.curves) > 1 else "value")
        _write_beside(axis, values)
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def threshold_comparison(results: Sequence[Result]) -> Figure | None:
    """IoU over the threshold of several methods on one benchmark, the mean over classes; None when fewer than two have that curve.

    results: all of one benchmark. The legend gives pixel AU-ROC, mIoU and IoUmax of each in percent (protocol `paper`).
    """
    curves = [(result, curve) for result in results if (curve := mean_curve(result.curves, CURVE))]
    if len(curves) < 2:
        return None
    with matplotlib.rc_context(style(LIGHT)):
        figure = Figure(figsize=(8.4, 4.2 + 0.22 * len(curves)), layout="constrained")
        figure.suptitle(f"Pixel IoU over the threshold, {curves[0][0].marked_title}", **MARKED_TITLE)
        axis = figure.subplots()
        _frame(axis)
        for index, (result, curve) in enumerate(curves):
            look = line_style(index)
            axis.plot(curve["threshold"], curve["iou"], linewidth=2, label=_summary(result), **look)
        top = max(max(curve["iou"]) for _, curve in curves)
        axis.set_ylim(0, min(1.02, 1.15 * top + 0.02))
        axis.set_ylabel("IoU, mean over classes")
        legend = figure.legend(loc="outside lower center", ncols=1)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def _frame(axis: Axes) -> None:
    axis.axvspan(*BAND, color=LIGHT.normal, alpha=0.08, linewidth=0, label=f"thresholds {BAND[0]} to {BAND[1]}")
    axis.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=X_LABEL)
    axis.set_xticks(np.arange(0, 1.01, 0.1))


def _maxima(axis: Axes, result: Result, colour: str) -> list[_Value]:
    """Mark the best IoU of each class among the thresholds that the paper protocol looks at."""
    label = "best IoU of each class" if len(result.curves) > 1 else "best IoU"
    for _, curves in sorted(result.curves.items()):
        if CURVE in curves:
            iou = curves[CURVE]["iou"]
            best = max(MAXIMA, key=lambda k: iou[k])
            axis.plot(
                THRESHOLDS[best], iou[best], "^", color=colour, markersize=6, label=label, clip_on=False, zorder=3
            )
            label = ""
    mean = result.metrics["mean"]["paper"].get("pixel_iou_max")
    return [] if mean is None else [_Value(f"{_name('pixel_iou_max')} {100 * mean:.1f}", mean, colour)]


def _write_beside(axis: Axes, values: Sequence[_Value]) -> None:
    """Numbers to the right of the panel, at their height or as near to it as they fit, with a line from there."""
    heights = spread([value.value for value in values], LABEL_STEP)
    for value, height in zip(values, heights, strict=True):
        axis.annotate(
            value.text, (1, value.value), (1.045, height), xycoords=axis.transData, va="center",
            fontweight="bold", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": value.colour, "linewidth": 0.9, "shrinkA": 1, "shrinkB": 0},
        )  # fmt: skip


def spread(places: Sequence[float], step: float) -> list[float]:
    """Places at least `step` apart, in the same order and as near as that allows; none below 0 while all of them fit above."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = [0.0] * len(places)
    groups: list[list[float]] = []  # sum of places (each less its own shift within the group) and their number
    for rank, index in enumerate(order):
        groups.append([places[index] - rank * step, 1])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            total, count = groups.pop()
            groups[-1][0] += total
            groups[-1][1] += count
    starts = [max(total / count, step / 2) for total, count in groups for _ in range(int(count))]
    for rank, index in enumerate(order):
        moved[index] = starts[rank] + rank * step
    return moved


def _summary(result: Result) -> str:
    metrics = result.metrics["mean"]["paper"]
    parts = (f"{_name(key)} {_percent(metrics.get(key))}" for key in ("pixel_auroc", "pixel_miou", "pixel_iou_max"))
    return f"{result.label}: {', '.join(parts)}"


def _percent(value: float | None) -> str:
    return "not available" if value is None else f"{100 * value:.1f}"


def _name(key: str) -> str:
    return next(metric.label for metric in METRICS if metric.key == key)
