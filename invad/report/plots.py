"""Plots of a result, and how figures become files: equal numbers, equal bytes."""

import math
import textwrap
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from invad.metrics.curves import mean_curve
from invad.metrics.measure import FALSE_POSITIVE_RATE_LIMIT
from invad.report.labels import HEADLINES
from invad.report.learning import EpochCurve, authors_curves, learning_cells, seed_curves
from invad.report.results import Curve, Result
from invad.report.tables import flat_heading

DPI = 120
INK, MUTED, GRID = "#1b1f24", "#57606a", "#d8dee4"
# From the Okabe-Ito palette, which colour-blind readers can tell apart; line styles do so in greyscale print as well.
NORMAL, ANOMALOUS = "#0072b2", "#d55e00"
COLUMNS, TITLE_WIDTH = 3, 36  # panels beside each other, and characters above one
TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)
ROC, PRECISION_RECALL = ("false positive rate", "true positive rate"), ("recall", "precision")
# The name of a curve, the metric that is the area under it, the title of the panel, and the labels of its axes.
PANELS = (
    ("image_roc", "image_auroc", "Image ROC: AU-ROC", ROC),
    ("pixel_roc", "pixel_auroc", "Pixel ROC: AU-ROC", ROC),
    ("region_pro", "region_aupro", "Region PRO: AU-PRO", ("false positive rate", "region overlap")),
    ("image_pr", "image_ap", "Image precision-recall: AP", PRECISION_RECALL),
    ("pixel_pr", "pixel_ap", "Pixel precision-recall: AP", PRECISION_RECALL),
)
AUTHORS_LINES = ("--", ":")  # of the shorter and of the longer of their runs
DECADE = 10  # epochs that span more than one stand on a logarithmic axis
# The look of all figures, as matplotlib's settings. Names may hold dollar signs, which are not formulas.
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans", "font.size": 10, "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": GRID, "grid.linewidth": 0.8, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.parse_math": False,
    "text.color": INK, "xtick.color": INK, "ytick.color": INK, "legend.frameon": False,
}  # fmt: skip


@contextmanager
def _titled(title: str, size: tuple[float, float]) -> Generator[Figure]:
    """A figure of this size in inches to be filled, in the style of all."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
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
            if (limit := result.thresholds().get(name)) is not None:
                axis.axvline(limit, color=INK, linestyle="--", linewidth=1.4, label="calibrated threshold")
        axes[0].set_ylim(bottom=0)  # shared by all panels, so only when all of them are drawn
        for axis in axes[len(names) :]:
            axis.set_visible(False)
        for axis in axes[: len(names)][-columns:]:
            axis.set_xlabel("image score")
        figure.supylabel("share of images, %", fontsize=10)
        entries = _entries(axes)
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=len(entries))
    return figure


def _histograms(axis: Axes, scores: NDArray[np.float64], labels: NDArray[np.bool_], name: str) -> None:
    edges = np.histogram_bin_edges(scores, bins=int(np.clip(2 * math.sqrt(len(scores)), 20, 40)))
    kinds = (scores[~labels], scores[labels])
    shares = [np.histogram(values, bins=edges)[0] / max(len(values), 1) for values in kinds]
    # hatching tells the two apart in greyscale print as well
    looks = (("normal", NORMAL, ""), ("anomalous", ANOMALOUS, "////"))
    for share, (kind, colour, hatch) in zip(shares, looks, strict=True):
        axis.stairs(100 * share, edges, fill=True, color=colour, alpha=0.25)
        axis.stairs(100 * share, edges, edgecolor=colour, linewidth=1.6, hatch=hatch, label=kind, fill=False)
    is_known = all(map(len, kinds))
    amount = f"overlap {100 * np.minimum(*shares).sum():.0f} %" if is_known else "overlap not available"
    axis.set_title("\n".join(textwrap.wrap(f"{name}: {amount}", TITLE_WIDTH)))
    axis.grid(axis="x", visible=False)


def _entries(axes: Iterable[Axes]) -> dict[str, Artist]:
    """What the legend of several panels shows, each once."""
    entries: dict[str, Artist] = {}
    for axis in axes:
        handles, texts = axis.get_legend_handles_labels()
        entries |= {text: handle for text, handle in zip(texts, handles, strict=True) if text not in entries}
    return entries


def curves_figure(result: Result) -> Figure | None:
    """ROC, precision-recall and PRO curves, thick the mean over classes and thin the classes; None when the result has no curves.

    The title of a panel gives the area under it, the mean over classes of the `exact` protocol in percent.
    """
    if not any(result.curves.values()):
        return None
    with _titled(f"Curves, {result.marked_title}\n{result.label}", (9.6, 6.8)) as figure:
        *axes, last = figure.subplots(2, 3).ravel()
        for axis, (curve, metric, title, labels) in zip(axes, PANELS, strict=True):
            area = result.metrics["mean"]["exact"].get(metric)
            axis.set_title(f"{title} {'not available' if area is None else f'{100 * area:.1f}'}")
            axis.set(xlabel=labels[0], ylabel=labels[1])
            _rates(axis, result.curves, curve)
        for axis in axes:
            axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=TICKS, yticks=TICKS)
            if not axis.lines:
                axis.text(0.5, 0.5, "no curve", ha="center")
        entries = _entries(axes)
        last.axis("off")
        last.legend(entries.values(), entries.keys(), loc="center")
    return figure


def _rates(axis: Axes, curves: Mapping[str, Mapping[str, Curve]], name: str) -> None:
    known = [of_class[name] for _, of_class in sorted(curves.items()) if name in of_class]
    for curve in known if len(curves) > 1 else ():
        axis.plot(*_points(curve), linewidth=0.8, label="each class", color=NORMAL, alpha=0.45)
    if known:
        label = "mean over classes" if len(curves) > 1 else next(iter(curves))
        axis.plot(*_points(mean_curve(curves, name)), color=INK, linewidth=2.4, label=label)
    if name.endswith("_roc") and known:
        axis.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=":", label="guessing")
    if name == "region_pro":
        limit = FALSE_POSITIVE_RATE_LIMIT
        axis.axvspan(0, limit, color=NORMAL, alpha=0.1, linewidth=0, label=f"area of AU-PRO, up to {limit}")


def learning_figure(result: Result) -> Figure:
    """Test metrics of protocol `paper` over the epochs: thick the mean of the seeds, thin each, grey the authors' runs where comparable.

    result: one that has `learning`.
    """
    measured, authors = learning_cells(result), authors_curves(result)
    known = [epoch for epoch, _ in (*measured, *(point for curve in authors.values() for point in curve))]
    with _titled(f"Learning curves, {result.marked_title}\n{result.label}", (6.8, 7.6)) as figure:
        *axes, last = figure.subplots(3, 2).ravel()  # two columns, which a phone can show
        for axis, metric in zip(axes, HEADLINES, strict=True):
            _authors_lines(axis, authors, metric.key)
            _measured_lines(axis, result, metric.key)
            axis.set(title=flat_heading(metric), xlabel="epoch")
            if max(known) > DECADE * min(known):
                axis.set_xscale("log")
                axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.xaxis.set_minor_locator(NullLocator())
                axis.xaxis.set_major_formatter("{x:g}")
            if not axis.lines:
                axis.text(0.5, 0.5, "no value", ha="center", transform=axis.transAxes)
        entries = _entries(axes)
        last.axis("off")
        last.legend(entries.values(), entries.keys(), loc="center")
        for axis in axes[::2]:
            axis.set_ylabel("percent")
    return figure


def _authors_lines(axis: Axes, authors: Mapping[int, EpochCurve], key: str) -> None:
    for (epochs, curve), line in zip(authors.items(), AUTHORS_LINES, strict=False):
        values = [100 * values[key] for _, values in curve]
        label = f"authors' re-run, {epochs} epochs"
        axis.plot([epoch for epoch, _ in curve], values, line, color=MUTED, linewidth=1.4, marker=".", label=label)


def _measured_lines(axis: Axes, result: Result, key: str) -> None:
    seeds = seed_curves(result, key)
    for epochs, values in seeds.values() if len(seeds) > 1 else ():
        axis.plot(epochs, 100 * np.array(values), color=NORMAL, linewidth=0.9, alpha=0.55, label="each seed")
    means = [(epoch, 100 * value) for epoch, cells in learning_cells(result) if (value := cells[key].value) is not None]
    if means:
        name = f"mean of {len(seeds)} seeds" if len(seeds) > 1 else f"seed {next(iter(seeds))}"
        label = ", ".join(filter(None, (name, result.config.train.length)))
        axis.plot(*zip(*means, strict=True), color=NORMAL, linewidth=2.4, marker="o", markersize=4, label=label)


def _points(curve: Curve) -> tuple[list[float], list[float]]:
    """x and y; a precision is drawn back to a recall of 0, as it is counted in the area."""
    x, y, *_ = curve.values()
    return ([0.0, *x], [y[0], *y]) if "recall" in curve else (list(x), list(y))


def save_plot(figure: Figure, folder: Path, name: str) -> None:
    """Write the figure to `folder` as `name`.png and `name`.svg, without date or program name and, in the SVG, without fonts.

    The layout is worked out once, for the PNG: its letters are a little wider than those of the SVG, and would be cut off.
    """
    figure.savefig(folder / f"{name}.png", dpi=DPI, metadata={"Software": None})
    figure.set_layout_engine("none")
    with matplotlib.rc_context({"svg.hashsalt": "invad", "svg.fonttype": "path"}):
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
