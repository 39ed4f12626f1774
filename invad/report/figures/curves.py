"""Curves of a result: ROC, precision-recall and PRO curves here, those over the threshold in `invad.report.figures.thresholds`."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from invad.metrics.mean_curves import mean_curve
from invad.metrics.sweep import FALSE_POSITIVE_RATE_LIMIT
from invad.report.figures.style import LIGHT, MARKED_TITLE, line_style, say_inside, style
from invad.report.figures.thresholds import threshold_comparison, threshold_figure
from invad.report.results import Curve, Result

__all__ = ["rates_figure", "threshold_comparison", "threshold_figure"]

LABELLED_CLASSES = 6
TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)
MEAN_LABEL = "mean over classes"
EXTRA_LABELS = ("guessing", f"area of AU-PRO, up to {FALSE_POSITIVE_RATE_LIMIT}")


@dataclass(frozen=True)
class _Panel:
    """metric: what the area under the curve is called in the metrics. name: of that area."""

    curve: str
    metric: str
    name: str
    title: str
    x: str
    y: str


PANELS = (
    _Panel("image_roc", "image_auroc", "AU-ROC", "Image ROC", "false positive rate", "true positive rate"),
    _Panel("pixel_roc", "pixel_auroc", "AU-ROC", "Pixel ROC", "false positive rate", "true positive rate"),
    _Panel("region_pro", "region_aupro", "AU-PRO", "Region PRO", "false positive rate", "region overlap"),
    _Panel("image_pr", "image_ap", "AP", "Image precision-recall", "recall", "precision"),
    _Panel("pixel_pr", "pixel_ap", "AP", "Pixel precision-recall", "recall", "precision"),
)


def rates_figure(result: Result) -> Figure | None:
    """ROC and precision-recall curves of images and pixels and the PRO curve: the mean over classes bold, classes thin.

    The title of a panel gives the area under it, the mean over classes of the `exact` protocol in percent; that of the PRO curve is
    shaded, up to a false positive rate of 0.3. Classes have lines of their own up to six of them, beyond that one look. None when the
    result has no curves.
    """
    if not any(panel.curve in curves for curves in result.curves.values() for panel in PANELS):
        return None
    with matplotlib.rc_context(style(LIGHT)):
        figure = Figure(figsize=(9.6, 6.6), layout="constrained")
        figure.suptitle(f"ROC, PRO and precision-recall curves, {result.marked_title}\n{result.label}", **MARKED_TITLE)
        axes = figure.subplots(2, 3).ravel()
        for axis, panel in zip(axes, PANELS, strict=False):
            _draw(axis, result, panel)
        axes[-1].set_axis_off()
        _legend(axes, len(result.curves))
    return figure


def _legend(axes: Sequence[Axes], classes: int) -> None:
    """In the place of the last panel, the mean first."""
    entries: dict[str, Artist] = {}
    for axis in axes[:-1]:
        handles, texts = axis.get_legend_handles_labels()
        entries |= {text: handle for text, handle in zip(texts, handles, strict=True) if text not in entries}
    names = sorted(entries, key=lambda text: (text != MEAN_LABEL, text in EXTRA_LABELS))
    legend = axes[-1].legend(
        [entries[name] for name in names], names, loc="upper left", alignment="left", borderaxespad=0,
        title="exact protocol" + (f", {classes} classes" if classes > 1 else ""),
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def _draw(axis: Axes, result: Result, panel: _Panel) -> None:
    area = result.metrics["mean"]["exact"].get(panel.metric)
    axis.set_title(f"{panel.title}: {panel.name} " + ("not available" if area is None else f"{100 * area:.1f}"))
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=TICKS, yticks=TICKS, xlabel=panel.x, ylabel=panel.y)
    mean = mean_curve(result.curves, panel.curve)
    if not mean:
        say_inside(axis, "no curve")
        return
    if panel.curve.endswith("_roc"):
        axis.plot([0, 1], [0, 1], color=LIGHT.muted, linewidth=0.9, linestyle=":", label=EXTRA_LABELS[0])
    members = {name: curves[panel.curve] for name, curves in result.curves.items() if panel.curve in curves}
    several = len(result.curves) > 1
    if several:
        _draw_classes(axis, result, members)
    x, y = _points(mean)
    label = MEAN_LABEL if several else next(iter(result.curves))
    axis.plot(x, y, color=LIGHT.ink, linewidth=2.6, label=label)
    if panel.curve == "region_pro":
        reach = np.linspace(0, FALSE_POSITIVE_RATE_LIMIT, 301)
        axis.fill_between(
            reach, np.interp(reach, x, y), color=LIGHT.normal, alpha=0.16, linewidth=0, label=EXTRA_LABELS[1]
        )
        axis.axvline(FALSE_POSITIVE_RATE_LIMIT, color=LIGHT.muted, linewidth=0.9, linestyle="--")


def _draw_classes(axis: Axes, result: Result, members: dict[str, Curve]) -> None:
    names = sorted(result.curves)
    for index, name in enumerate(names):
        if name not in members:
            continue
        if len(names) <= LABELLED_CLASSES:
            axis.plot(*_points(members[name]), linewidth=1.1, label=name, **line_style(index))
        else:
            axis.plot(*_points(members[name]), linewidth=0.8, label="each class", color=LIGHT.normal, alpha=0.45)


def _points(curve: Curve) -> tuple[list[float], list[float]]:
    """x and y; a precision is drawn back to a recall of 0, as it is counted in the area."""
    x, y, *_ = curve.values()
    return ([0.0, *x], [y[0], *y]) if "recall" in curve else (list(x), list(y))
