"""Plots of a result: image scores, ROC, PRO and precision-recall curves, metrics over the threshold; losses, and variants of a study."""

import math
import textwrap
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Transform
from numpy.typing import NDArray

from invad.metrics.curves import mean_curve
from invad.metrics.measure import FALSE_POSITIVE_RATE_LIMIT, FAMILY, THRESHOLDS
from invad.report.labels import HEADLINE, METRICS, NOT_RUN
from invad.report.results import Curve, Result
from invad.report.style import LIGHT, line_style, plain_legend, style
from invad.report.tables import Row, Table, flat_heading

COLUMNS, TITLE_WIDTH = 3, 36  # panels beside each other, and characters above one
LABELLED_CLASSES = 6
ROC, PRECISION_RECALL = ("false positive rate", "true positive rate"), ("recall", "precision")
TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)
MEAN_LABEL = "mean over classes"
EXTRA_LABELS = ("guessing", f"area of AU-PRO, up to {FALSE_POSITIVE_RATE_LIMIT}")
OVER_THRESHOLD = "pixel_thresholds"
BAND = (THRESHOLDS[FAMILY[0]], THRESHOLDS[FAMILY[-1]])
LINES = (
    ("iou", "IoU", ("pixel_miou", "pixel_iou_max")),
    ("f1", "F1", ("pixel_mf1",)),
    ("recall", "recall (called accuracy in the paper)", ("pixel_macc",)),
    ("precision", "precision", ()),
)
"""Column of the curve, its name in the legend, and the metrics that stand there: the first is its mean over the band."""


@contextmanager
def _titled(title: str, size: tuple[float, float]) -> Generator[Figure]:
    """A figure of this size in inches to be filled, in the style of all. A title may hold dollar signs, which are not formulas."""
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11, parse_math=False)
        yield figure


def score_figure(result: Result) -> Figure | None:
    """One panel per class: the share of its normal and of its anomalous test images at each score, and the calibrated threshold.

    The title of a panel gives the overlap, the area that its two histograms share. None when the result has no test images.
    """
    tests = result.tests
    if tests is None or not len(tests):
        return None
    scores, labels = np.asarray(tests.image_scores, dtype=np.float64), np.asarray(tests.labels).astype(bool)
    groups, names = np.asarray(tests.classes), sorted(set(tests.classes))
    columns = min(len(names), COLUMNS)
    rows = math.ceil(len(names) / columns)
    size = (5.6 if columns == 1 else 8.4, 0.9 + (2.6 if rows == 1 else 2.0 * rows))
    with _titled(f"Image scores, {result.marked_title}\n{result.label}", size) as figure:
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for axis, name in zip(axes, names, strict=False):
            _histograms(axis, scores[groups == name], labels[groups == name], name)
            if (limit := result.thresholds.get(name)) is not None:
                axis.axvline(limit, color=LIGHT.ink, linestyle="--", linewidth=1.4, label="calibrated threshold")
        axes[0].set_ylim(bottom=0)  # shared by all panels, so only when all of them are drawn
        for axis in axes[len(names) :]:
            axis.set_visible(False)
        for axis in axes[: len(names)][-columns:]:
            axis.set_xlabel("image score")
        for axis in axes[::columns]:
            axis.set_ylabel("share of images, %")
        entries = _entries(axes[: len(names)])
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=len(entries))
    return figure


def _histograms(axis: Axes, scores: NDArray[np.float64], labels: NDArray[np.bool_], name: str) -> None:
    edges = np.histogram_bin_edges(scores, bins=int(np.clip(2 * math.sqrt(len(scores)), 20, 40)))
    kinds = (scores[~labels], scores[labels])
    shares = [np.histogram(values, bins=edges)[0] / max(len(values), 1) for values in kinds]
    # hatching tells the two apart in greyscale print as well
    looks = (("normal", LIGHT.normal, ""), ("anomalous", LIGHT.anomalous, "////"))
    for share, (kind, colour, hatch) in zip(shares, looks, strict=True):
        axis.stairs(100 * share, edges, fill=True, color=colour, alpha=0.25)
        axis.stairs(100 * share, edges, edgecolor=colour, linewidth=1.6, hatch=hatch, label=kind, fill=False)
    is_known = all(map(len, kinds))
    amount = f"overlap {100 * np.minimum(*shares).sum():.0f} %" if is_known else "overlap not available"
    axis.set_title("\n".join(textwrap.wrap(f"{name}: {amount}", TITLE_WIDTH)), parse_math=False)
    axis.grid(axis="x", visible=False)


def _entries(axes: Iterable[Axes]) -> dict[str, Artist]:
    """What the legend of several panels shows, each once."""
    entries: dict[str, Artist] = {}
    for axis in axes:
        handles, texts = axis.get_legend_handles_labels()
        entries |= {text: handle for text, handle in zip(texts, handles, strict=True) if text not in entries}
    return entries


PANELS = (
    ("image_roc", "image_auroc", "Image ROC: AU-ROC", ROC),
    ("pixel_roc", "pixel_auroc", "Pixel ROC: AU-ROC", ROC),
    ("region_pro", "region_aupro", "Region PRO: AU-PRO", ("false positive rate", "region overlap")),
    ("image_pr", "image_ap", "Image precision-recall: AP", PRECISION_RECALL),
    ("pixel_pr", "pixel_ap", "Pixel precision-recall: AP", PRECISION_RECALL),
)
"""The name of a curve, the metric that is the area under it, the title of the panel, and the labels of its axes."""


def rates_figure(result: Result) -> Figure | None:
    """ROC and precision-recall curves of images and pixels and the PRO curve: the mean over classes bold, classes thin.

    The title of a panel gives the area under it, the mean over classes of the `exact` protocol in percent; that of the PRO curve is
    shaded, up to a false positive rate of 0.3. Classes have lines of their own up to six of them, beyond that one look. None when the
    result has no curves.
    """
    if not any(curve in curves for curves in result.curves.values() for curve, *_ in PANELS):
        return None
    title = f"ROC, PRO and precision-recall curves, {result.marked_title}\n{result.label}"
    with _titled(title, (9.6, 6.6)) as figure:
        axes = figure.subplots(2, 3).ravel()
        for axis, panel in zip(axes, PANELS, strict=False):
            _rates(axis, result, *panel)
        axes[-1].set_axis_off()
        entries, classes = _entries(axes[:-1]), len(result.curves)
        names = sorted(entries, key=lambda text: (text != MEAN_LABEL, text in EXTRA_LABELS))
        title = "exact protocol" + (f", {classes} classes" if classes > 1 else "")
        handles = [entries[name] for name in names]
        legend = axes[-1].legend(handles, names, loc="upper left", alignment="left", borderaxespad=0, title=title)
        plain_legend(legend)
    return figure


def _rates(axis: Axes, result: Result, curve: str, metric: str, title: str, labels: tuple[str, str]) -> None:
    axis.set_title(f"{title} {_percent(result.metrics['mean']['exact'].get(metric))}")
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=TICKS, yticks=TICKS, xlabel=labels[0], ylabel=labels[1])
    mean = mean_curve(result.curves, curve)
    if not mean:
        _say(axis, "no curve", 0.5, axis.transAxes)
        return
    if curve.endswith("_roc"):
        axis.plot([0, 1], [0, 1], color=LIGHT.muted, linewidth=0.9, linestyle=":", label=EXTRA_LABELS[0])
    names = sorted(result.curves)
    for index, name in enumerate(names if len(names) > 1 else ()):
        if (own := result.curves[name].get(curve)) is None:
            continue
        if len(names) <= LABELLED_CLASSES:
            axis.plot(*_points(own), linewidth=1.1, label=name, **line_style(index))
        else:
            axis.plot(*_points(own), linewidth=0.8, label="each class", color=LIGHT.normal, alpha=0.45)
    x, y = _points(mean)
    axis.plot(x, y, color=LIGHT.ink, linewidth=2.6, label=MEAN_LABEL if len(names) > 1 else names[0])
    if curve == "region_pro":
        reach = np.linspace(0, FALSE_POSITIVE_RATE_LIMIT, 301)
        shade = np.interp(reach, x, y)
        axis.fill_between(reach, shade, color=LIGHT.normal, alpha=0.16, linewidth=0, label=EXTRA_LABELS[1])
        axis.axvline(FALSE_POSITIVE_RATE_LIMIT, color=LIGHT.muted, linewidth=0.9, linestyle="--")


def _points(curve: Curve) -> tuple[list[float], list[float]]:
    """x and y; a precision is drawn back to a recall of 0, as it is counted in the area."""
    x, y, *_ = curve.values()
    return ([0.0, *x], [y[0], *y]) if "recall" in curve else (list(x), list(y))


def threshold_figure(result: Result) -> Figure | None:
    """Mean over classes of pixel precision, recall, F1 and IoU over the threshold, and the metrics of the `paper` protocol in percent.

    The band is that of thresholds 0.2 to 0.8, whose means are mF1, mAcc and mIoU, drawn as horizontal lines. Pixel AU-ROC, one number
    without a threshold, is the dashed line: it may stay high where no threshold gives a good segmentation. None when the result has no
    such curve.
    """
    curve = mean_curve(result.curves, OVER_THRESHOLD)
    if not curve:
        return None
    metrics = result.metrics["mean"]["paper"]
    with _titled(f"Pixel metrics over the threshold, {result.marked_title}\n{result.label}", (8.4, 4.9)) as figure:
        axis = figure.subplots()
        axis.axvspan(*BAND, color=LIGHT.normal, alpha=0.08, linewidth=0, label=f"thresholds {BAND[0]} to {BAND[1]}")
        axis.set(xlim=(0, 1), ylim=(0, 1.02), xticks=np.arange(0, 1.01, 0.1))
        axis.set_xlabel("threshold on maps scaled to 0..1 by the class's smallest and largest value")
        axis.set_ylabel("mean over classes" if len(result.curves) > 1 else "value")
        for index, (column, label, keys) in enumerate(LINES):
            look = line_style(index)
            end = -1 if column == "precision" else None  # nothing lies above the highest threshold
            numbers = ", ".join(f"{_name(key)} {_percent(metrics.get(key))}" for key in keys)
            text = f"{label}: {numbers}" if numbers else label
            axis.plot(curve["threshold"][:end], curve[column][:end], linewidth=2, label=text, **look)
            if keys and (mean := metrics.get(keys[0])) is not None:
                axis.plot(BAND, (mean, mean), color=look["color"], linewidth=1.1)
        if (auroc := metrics.get("pixel_auroc")) is not None:
            label = f"pixel AU-ROC {_percent(auroc)}, of no threshold"
            axis.axhline(auroc, color=LIGHT.ink, linestyle=(0, (6, 3)), linewidth=1.4, label=label)
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def _percent(value: float | None) -> str:
    return "not available" if value is None else f"{100 * value:.1f}"


def _name(key: str) -> str:
    return next(metric.label for metric in METRICS if metric.key == key)


def loss_figure(curves: Mapping[str, Sequence[tuple[int, float]]]) -> Figure | None:
    """Training loss over optimiser steps, logarithmic where all of it is positive: thin as measured, thick the running mean.

    curves: label -> (step, loss) pairs in the order of the steps; an entry without any is left out. None when no entry has any.
    """
    curves = {label: points for label, points in curves.items() if points}
    if not curves:
        return None
    columns = 1 if len(curves) == 1 else min(3, max(1, 100 // (8 + max(map(len, curves)))))
    with _titled("Training loss", (8.4, 3.8 + 0.2 * math.ceil(len(curves) / columns))) as figure:
        axis = figure.subplots()
        for index, (label, points) in enumerate(curves.items()):
            steps, losses = zip(*points, strict=True)
            look = line_style(index)
            axis.plot(steps, losses, linewidth=0.7, color=look["color"], alpha=0.35)
            smooth = running_mean(losses, max(1, len(losses) // 15))
            axis.plot(steps, smooth, label=label, linewidth=1.8, marker="o" if len(points) == 1 else None, **look)
        axis.set_xlabel("optimiser step")
        axis.set_ylabel("loss (thick: running mean)")
        if all(loss > 0 for points in curves.values() for _, loss in points):
            axis.set_yscale("log")
            low, high = axis.get_ylim()
            few = MaxNLocator(6, steps=(1, 2, 5, 10))
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 5 * low else few)
            axis.yaxis.set_major_formatter(lambda value, _position: f"{value:g}")
            axis.yaxis.set_minor_formatter(NullFormatter())
            axis.minorticks_off()
        plain_legend(figure.legend(loc="outside lower center", ncols=columns))
    return figure


def running_mean(values: Sequence[float], window: int) -> NDArray[np.float64]:
    """Mean over a centred window (made odd), narrower at both ends so that no value from outside is needed."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    index = np.arange(len(values))
    reach = np.minimum(np.minimum(index, index[::-1]), window // 2)
    return (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1)


NAME_WIDTH = 26  # characters of a variant's name in a line
MIN_SPAN = 2.0  # percentage points: differences below the printed precision shall not look large


def ablation_figure(table: Table, title: str) -> Figure:
    """The variants of a study as dots, a panel for each metric of `HEADLINE`; one without a finished run says what became of it."""
    rows = [row for row in table.rows if row.kind != "difference"]
    names = ["\n".join(textwrap.wrap(row.words[0], NAME_WIDTH)) for row in rows]
    titles = textwrap.wrap(f"{title}: higher is better", 110)
    height = 1.7 + 0.2 * len(titles) + 0.22 * sum(max(1.5, 1 + name.count("\n")) for name in names)
    with _titled("\n".join(titles), (10.4, height)) as figure:
        axes = figure.subplots(1, len(HEADLINE), sharey=True)
        for axis, key in zip(axes, HEADLINE, strict=True):
            _dots(axis, key, rows)
            axis.set_title(next(flat_heading(metric) for metric in METRICS if metric.key == key))
        axes[0].set_yticks(range(len(names)), names, parse_math=False)
        axes[0].set_ylim(len(names) - 0.5, -0.5)
        for text, row in zip(axes[0].get_yticklabels(), rows, strict=True):
            text.set_fontweight("bold" if _is_paper(row) else "normal")
        kinds = [kind for kind in (False, True) if any(_is_paper(row) == kind for row in rows)]
        figure.legend(handles=[_legend_entry(kind, rows) for kind in kinds], loc="outside lower center", ncols=2)
    return figure


def _is_paper(row: Row) -> bool:
    return row.keys["is_paper"] == "true"


def _look(is_paper: bool) -> dict[str, Any]:
    return {"color": LIGHT.lines[is_paper], "marker": "D" if is_paper else "o", "linestyle": "none", "markersize": 6}


def _legend_entry(is_paper: bool, rows: Sequence[Row]) -> Line2D:
    has_bars = any(row.cells[key].std is not None for row in rows if _is_paper(row) == is_paper for key in HEADLINE)
    bars = " (bar: standard deviation over seeds)" if has_bars else ""
    return Line2D([], [], label=("the paper's setting" if is_paper else "variant") + bars, **_look(is_paper))


def _dots(axis: Axes, key: str, rows: Sequence[Row]) -> None:
    ends = []
    for line, row in enumerate(rows):
        cell, look = row.cells[key], _look(_is_paper(row))
        if cell.value is None:
            status = "not run" if row.keys["status"] == NOT_RUN else row.keys["status"]
            words = status if row.keys["seeds"] == "0" else "no value"
            _say(axis, words, line, axis.get_yaxis_transform())
            continue
        value, spread = 100 * cell.value, 100 * (cell.std or 0)
        ends += [value - spread, value + spread]
        if _is_paper(row):
            axis.axvline(value, color=look["color"], linestyle="--", linewidth=1.2)
        axis.errorbar(value, line, xerr=spread or None, capsize=3, elinewidth=1.4, markeredgewidth=1.4, **look)
    if ends:
        missing = max(0.0, MIN_SPAN - (max(ends) - min(ends))) / 2
        margin = 0.08 * (max(ends) - min(ends) + 2 * missing)
        axis.set_xlim(min(ends) - missing - margin, max(ends) + missing + margin)
        axis.xaxis.set_major_locator(MaxNLocator(4, steps=(1, 2, 2.5, 5, 10)))
        axis.set_xlabel("percent")
    else:
        axis.set_xticks([])
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)
    for position in range(1, len(rows), 2):
        axis.axhspan(position - 0.5, position + 0.5, color=LIGHT.grid, alpha=0.35, linewidth=0, zorder=0)


def _say(axis: Axes, words: str, y: float, transform: Transform) -> None:
    """Words in the middle of a panel, on a patch of background so that no line strikes them out."""
    patch = {"facecolor": LIGHT.background, "edgecolor": "none", "pad": 1.5}
    axis.text(0.5, y, words, transform=transform, ha="center", va="center", style="italic", bbox=patch, zorder=5)
