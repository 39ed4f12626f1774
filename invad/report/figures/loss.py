"""Loss curves of the trainings of a report."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from invad.report.figures.style import LIGHT, MARKED_TITLE, line_style, style


def loss_figure(curves: Mapping[str, Sequence[tuple[int, float]]]) -> Figure | None:
    """Training loss over optimiser steps, logarithmic where all of it is positive: thin as measured, thick the running mean.

    curves: label -> (step, loss) pairs in the order of the steps; an entry without any is left out. None when no entry has any.
    """
    curves = {label: points for label, points in curves.items() if points}
    if not curves:
        return None
    with matplotlib.rc_context(style(LIGHT)):
        columns = 1 if len(curves) == 1 else min(3, max(1, 100 // (8 + max(map(len, curves)))))
        rows = -(-len(curves) // columns)
        figure = Figure(figsize=(8.4, 3.8 + 0.2 * rows), layout="constrained")
        figure.suptitle("Training loss", **MARKED_TITLE)
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
        legend = figure.legend(loc="outside lower center", ncols=columns)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def running_mean(values: Sequence[float], window: int) -> NDArray[np.float64]:
    """Mean over a centred window (made odd), narrower at both ends so that no value from outside is needed."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    index = np.arange(len(values))
    reach = np.minimum(np.minimum(index, index[::-1]), window // 2)
    return (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1)
