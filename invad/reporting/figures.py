"""Plots of the report in one plain style: score distributions and loss curves, the same bytes from the same numbers.

Heat-map sheets are drawn in `invad.reporting.heatmaps` and offered here as well.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from invad.files import atomic_path
from invad.reporting.heatmaps import Sample, heatmap_sheet

__all__ = [
    "Sample",
    "heatmap_sheet",
    "score_histogram",
    "loss_curves",
    "score_figure",
    "loss_figure",
    "histogram_overlap",
    "svg_text",
]

DPI = 120
THRESHOLD_LABEL = "calibrated threshold"


@dataclass(frozen=True)
class Theme:
    """Colours of a plot. Data colours are from the Okabe-Ito palette, which colour-blind readers can tell apart."""

    background: str
    ink: str
    grid: str
    normal: str
    anomalous: str
    lines: tuple[str, ...]


LIGHT = Theme("white", "#1b1f24", "#d8dee4", "#0072b2", "#d55e00",
              ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#1b1f24"))  # fmt: skip
DARK = Theme("none", "#e6edf3", "#3a424c", "#56b4e9", "#e69f00",
             ("#56b4e9", "#e69f00", "#2fc79a", "#e39fc4", "#3d8fd1", "#f0e442", "#e6edf3"))  # fmt: skip
STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))


def style(theme: Theme) -> dict[str, object]:
    """The one plain look of all figures, as matplotlib's settings."""
    return {
        "font.family": "DejaVu Sans", "font.size": 10, "axes.titlesize": 10, "axes.titleweight": "bold",
        "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
        "grid.color": theme.grid, "grid.linewidth": 0.8, "axes.edgecolor": theme.ink, "axes.labelcolor": theme.ink,
        "text.color": theme.ink, "xtick.color": theme.ink, "ytick.color": theme.ink,
        "legend.frameon": False, "axes.facecolor": "none", "figure.facecolor": theme.background,
        "svg.hashsalt": "invad", "svg.fonttype": "path",
    }  # fmt: skip


def histogram_overlap(normal: ArrayLike, anomalous: ArrayLike, edges: ArrayLike) -> float | None:
    """How much two histograms over the same bins share, in [0, 1]: 0 no bin in common, 1 the same shape. `None` when one has no values."""
    shares = [np.histogram(values, bins=edges)[0] / max(np.size(values), 1) for values in (normal, anomalous)]
    if not (np.size(normal) and np.size(anomalous)):
        return None
    return float(np.minimum(*shares).sum())


def score_figure(
    scores: ArrayLike,
    labels: ArrayLike,
    title: str,
    classes: ArrayLike | None = None,
    theme: Theme = LIGHT,
    thresholds: Mapping[str, float] | None = None,
) -> Figure:
    """Distribution of the image scores of normal and anomalous test images, one panel per class.

    scores: float (N,). labels: (N,), 0 normal, 1 anomalous. classes: names (N,); `None` puts all images in one panel.
    thresholds: class -> calibrated threshold, drawn as a vertical line; of the classes that have one.
    """
    thresholds = thresholds or {}
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels).astype(bool)
    groups = np.asarray([""] * len(scores) if classes is None else classes)
    names = sorted({str(name) for name in groups})
    columns = min(len(names), 3)
    rows = math.ceil(len(names) / columns)
    with matplotlib.rc_context(style(theme)):
        figure = Figure(
            figsize=(5.2 if columns == 1 else 8.4, 0.9 + (2.6 if rows == 1 else 2.2 * rows)), layout="constrained"
        )
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for axis, name in zip(axes, names, strict=False):
            _score_panel(axis, scores[groups == name], labels[groups == name], name, theme)
            if name in thresholds:
                axis.axvline(thresholds[name], color=theme.ink, linestyle="--", linewidth=1.4, label=THRESHOLD_LABEL)
        axes[0].set_ylim(bottom=0)  # shared by all panels, so only when all of them are drawn
        for axis in axes[len(names) :]:
            axis.set_visible(False)
        for axis in axes[: len(names)][-columns:]:
            axis.set_xlabel("image score")
        for axis in axes[::columns]:
            axis.set_ylabel("share of images, %")
        legend = {}
        for axis in axes[: len(names)]:  # not every panel has a threshold
            handles, texts = axis.get_legend_handles_labels()
            legend |= dict(zip(texts, handles, strict=True))
        figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=len(legend))
    return figure


def _score_panel(axis: Axes, scores: NDArray[np.float64], labels: NDArray[np.bool_], name: str, theme: Theme) -> None:
    edges = np.histogram_bin_edges(scores, bins=int(np.clip(2 * math.sqrt(len(scores)), 20, 40)))
    normal, anomalous = scores[~labels], scores[labels]
    overlap = histogram_overlap(normal, anomalous, edges)
    # hatching tells the two apart in greyscale print as well
    for values, kind, colour, hatch in (
        (normal, "normal", theme.normal, ""),
        (anomalous, "anomalous", theme.anomalous, "////"),
    ):
        share = 100 * np.histogram(values, bins=edges)[0] / max(len(values), 1)
        axis.stairs(share, edges, fill=True, color=colour, alpha=0.25)
        axis.stairs(share, edges, edgecolor=colour, linewidth=1.6, hatch=hatch, label=kind, fill=False)
    amount = "overlap not available" if overlap is None else f"overlap {100 * overlap:.0f} %"
    # a class name may hold dollar signs
    axis.set_title(": ".join(part for part in (name, amount) if part), parse_math=False)
    axis.grid(axis="x", visible=False)


def score_histogram(
    scores: ArrayLike,
    labels: ArrayLike,
    path: Path,
    title: str,
    classes: ArrayLike | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> None:
    """Write `score_figure` to `path`; its suffix (.png or .svg) is the format."""
    _save(score_figure(scores, labels, title, classes, thresholds=thresholds), path)


def loss_figure(curves: Mapping[str, Sequence[tuple[int, float]]], theme: Theme = LIGHT) -> Figure:
    """Training loss over optimiser steps, logarithmic, one line per entry of `curves` (label -> (step, loss) pairs)."""
    with matplotlib.rc_context(style(theme)):
        figure = Figure(figsize=(8.4, 4.0), layout="constrained")
        axis = figure.subplots()
        for index, (label, points) in enumerate(curves.items()):
            steps, losses = zip(*points, strict=True) if points else ((), ())
            colour = theme.lines[index % len(theme.lines)]
            smooth = _running_mean(losses, max(1, len(losses) // 15))
            axis.plot(steps, losses, linewidth=0.7, color=colour, alpha=0.35)
            axis.plot(steps, smooth, label=label, linewidth=1.8, color=colour, linestyle=STYLES[index % len(STYLES)],
                      marker="o" if len(points) == 1 else None)  # fmt: skip
        axis.set_title("Training loss")
        axis.set_xlabel("optimiser step")
        axis.set_ylabel("loss (thick: running mean)")
        if all(loss > 0 for points in curves.values() for _, loss in points):
            axis.set_yscale("log")
            low, high = axis.get_ylim()
            axis.yaxis.set_major_locator(
                LogLocator(subs=(1, 2, 5)) if high > 5 * low else MaxNLocator(6, steps=(1, 2, 5, 10))
            )
            axis.yaxis.set_major_formatter(_plain_number)
            axis.minorticks_off()
        figure.legend(loc="outside right center")
    return figure


def _running_mean(values: Sequence[float], window: int) -> NDArray[np.float64]:
    """Mean over a centred window (made odd), narrower at both ends so that no value from outside is needed."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    index = np.arange(len(values))
    reach = np.minimum(np.minimum(index, index[::-1]), window // 2)
    return (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1)


def _plain_number(value: float, _position: int) -> str:
    return f"{value:g}"


def loss_curves(curves: Mapping[str, Sequence[tuple[int, float]]], path: Path) -> None:
    """Write `loss_figure` to `path`; its suffix (.png or .svg) is the format."""
    _save(loss_figure(curves), path)


def svg_text(figure: Figure) -> bytes:
    """The figure as SVG without date or program name, letters drawn as paths so that no font is needed."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "invad", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG without date or program name."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(svg_text(figure) if path.suffix == ".svg" else png_bytes(figure))
