"""Distribution of the image scores of normal and anomalous test images: how well a method keeps them apart."""

import math
import textwrap

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from invad.report.figures.style import LIGHT, MARKED_TITLE, style
from invad.report.results import Result

THRESHOLD_LABEL = "calibrated threshold"
COLUMNS = 3
TITLE_WIDTH = 36  # characters above a panel
OVERLAP_RULE = (
    "The overlap is the area that a panel's two histograms share: "
    "0 % when no bin holds both kinds of images, 100 % when all bins hold the same shares of them."
)


def histogram_overlap(normal: ArrayLike, anomalous: ArrayLike, edges: ArrayLike) -> float | None:
    """How much two histograms over the same bins share, in [0, 1]: 0 no bin in common, 1 the same shape. `None` when one has no values."""
    if not (np.size(normal) and np.size(anomalous)):
        return None
    shares = [np.histogram(values, bins=edges)[0] / np.size(values) for values in (normal, anomalous)]
    return float(np.minimum(*shares).sum())


def score_figure(result: Result) -> Figure | None:
    """One panel per class: the share of its normal and of its anomalous test images at each score, and the calibrated threshold.

    The title of a panel gives the overlap, see `OVERLAP_RULE`. None when the result has no test images.
    """
    tests = result.tests
    if tests is None or not len(tests):
        return None
    scores, labels = np.asarray(tests.image_scores, dtype=np.float64), np.asarray(tests.labels).astype(bool)
    groups = np.asarray(tests.classes)
    names = sorted(set(tests.classes))
    columns = min(len(names), COLUMNS)
    rows = math.ceil(len(names) / columns)
    with matplotlib.rc_context(style(LIGHT)):
        size = (5.6 if columns == 1 else 8.4, 0.9 + (2.6 if rows == 1 else 2.0 * rows))
        figure = Figure(figsize=size, layout="constrained")
        # two lines: the names of method and data set may be long
        figure.suptitle(f"Image scores, {result.marked_title}\n{result.label}", **MARKED_TITLE)
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for axis, name in zip(axes, names, strict=False):
            _panel(axis, scores[groups == name], labels[groups == name], name)
            if name in result.thresholds:
                axis.axvline(
                    result.thresholds[name], color=LIGHT.ink, linestyle="--", linewidth=1.4, label=THRESHOLD_LABEL
                )
        axes[0].set_ylim(bottom=0)  # shared by all panels, so only when all of them are drawn
        for axis in axes[len(names) :]:
            axis.set_visible(False)
        for axis in axes[: len(names)][-columns:]:
            axis.set_xlabel("image score")
        for axis in axes[::columns]:
            axis.set_ylabel("share of images, %")
        _legend(figure, axes[: len(names)])
    return figure


def _legend(figure: Figure, axes: NDArray[np.object_]) -> None:
    entries = {}
    for axis in axes:  # not every panel has a threshold
        handles, texts = axis.get_legend_handles_labels()
        entries |= dict(zip(texts, handles, strict=True))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=len(entries))


def _panel(axis: Axes, scores: NDArray[np.float64], labels: NDArray[np.bool_], name: str) -> None:
    edges = np.histogram_bin_edges(scores, bins=int(np.clip(2 * math.sqrt(len(scores)), 20, 40)))
    normal, anomalous = scores[~labels], scores[labels]
    overlap = histogram_overlap(normal, anomalous, edges)
    # hatching tells the two apart in greyscale print as well
    for values, kind, colour, hatch in (
        (normal, "normal", LIGHT.normal, ""),
        (anomalous, "anomalous", LIGHT.anomalous, "////"),
    ):
        share = 100 * np.histogram(values, bins=edges)[0] / max(len(values), 1)
        axis.stairs(share, edges, fill=True, color=colour, alpha=0.25)
        axis.stairs(share, edges, edgecolor=colour, linewidth=1.6, hatch=hatch, label=kind, fill=False)
    amount = "overlap not available" if overlap is None else f"overlap {100 * overlap:.0f} %"
    title = textwrap.wrap(f"{name}: {amount}", TITLE_WIDTH)
    axis.set_title("\n".join(title), parse_math=False)  # a class name may hold dollar signs
    axis.grid(axis="x", visible=False)
