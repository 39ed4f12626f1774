"""Methods side by side: published numbers and measured ones as dots, a panel for each average."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from invad.report.figures.style import LIGHT, MARKED_TITLE, style
from invad.report.labels import METRICS

PANELS = ("mad_image", "region_aupro", "mad_pixel", "mad_threshold")
RANK_KEY = "mad"
LABEL_WIDTH = 26  # characters
MIN_SPAN = 2.0  # percentage points: differences below the printed precision shall not look large


@dataclass(frozen=True)
class Series:
    """Where numbers come from, and how they are drawn. colour: index into `Theme.lines`. filled: a full marker or an empty one."""

    label: str
    marker: str
    colour: int
    filled: bool = True


SERIES = {
    "measured": Series("measured here", "D", 1),
    "paper": Series("published: paper", "o", 0),
    "rerun_100": Series("published: authors' re-run, 100 epochs", "^", 2, filled=False),
    "rerun_300": Series("published: authors' re-run, 300 epochs", "s", 3, filled=False),
}
"""In the order of the legend, and within a row from top to bottom. Shape and filling tell them apart in greyscale print as well."""


@dataclass(frozen=True)
class ComparisonRow:
    """The numbers of one method from one source.

    method: its name in the figure. series: key of `SERIES`. values: metric -> fraction, None or no entry where there is none; `PANELS`
    are drawn, `mad` sets the order. std: metric -> standard deviation over seeds, of those that have one.
    """

    method: str
    series: str
    values: Mapping[str, float | None]
    std: Mapping[str, float | None] = field(default_factory=dict)


def comparison_figure(title: str, rows: Sequence[ComparisonRow]) -> Figure | None:
    """A line for each method, a panel for each of `PANELS`, values in percent with their standard deviations.

    Methods are sorted by mAD, the highest on top: that of the paper, or for methods that it does not have, that of the re-runs, else the
    measured one. title: what the numbers are of, such as the benchmark. None when there is nothing to draw. Raises `ValueError` for an
    unknown series.
    """
    unknown = sorted({row.series for row in rows} - set(SERIES))
    if unknown:
        raise ValueError(f"unknown series {', '.join(unknown)}; known are {', '.join(SERIES)}")
    rows = [row for row in rows if any(row.values.get(key) is not None for key in PANELS)]
    if not rows:
        return None
    methods = _ranked(rows)
    series = [name for name in SERIES if any(row.series == name for row in rows)]
    labels = ["\n".join(textwrap.wrap(name, LABEL_WIDTH)) for name in methods]
    lines = sum(max(1.5, 1 + text.count("\n"), 0.65 * len(series)) for text in labels)
    titles = textwrap.wrap(title, 110)
    with matplotlib.rc_context(style(LIGHT)):
        figure = Figure(figsize=(10.4, 1.7 + 0.22 * lines + 0.2 * len(titles)), layout="constrained")
        figure.suptitle("\n".join(titles), **MARKED_TITLE)
        axes = figure.subplots(1, len(PANELS), sharey=True)
        for axis, key in zip(axes, PANELS, strict=True):
            _panel(axis, key, rows, methods, series)
        axes[0].set_yticks(range(len(methods)), labels, parse_math=False)
        axes[0].set_ylim(len(methods) - 0.5, -0.5)
        measured = {row.method for row in rows if row.series == "measured"}
        for text, method in zip(axes[0].get_yticklabels(), methods, strict=True):
            text.set_fontweight("bold" if method in measured else "normal")
        figure.legend(handles=_legend(rows, series), loc="outside lower center", ncols=2)
    return figure


def _ranked(rows: Sequence[ComparisonRow]) -> list[str]:
    """Methods by the mAD of the first of these sources that has one; without any they come last, by name."""
    preference = ("paper", "rerun_100", "rerun_300", "measured")
    best: dict[str, tuple[int, float]] = {}
    for row in rows:
        value = row.values.get(RANK_KEY)
        entry = (len(preference), math.inf) if value is None else (preference.index(row.series), -value)
        best[row.method] = min(best.get(row.method, entry), entry)
    return sorted(best, key=lambda method: (best[method][1], method))


def _panel(axis: Axes, key: str, rows: Sequence[ComparisonRow], methods: Sequence[str], series: Sequence[str]) -> None:
    ends = []
    step = min(0.24, 0.7 / max(len(series), 1))
    for row in rows:
        value = row.values.get(key)
        if value is None:
            continue
        spread = row.std.get(key)
        ends += [100 * (value - (spread or 0)), 100 * (value + (spread or 0))]
        place = methods.index(row.method) + step * (series.index(row.series) - (len(series) - 1) / 2)
        look = SERIES[row.series]
        colour = LIGHT.lines[look.colour]
        axis.errorbar(
            100 * value, place, xerr=None if spread is None else 100 * spread, marker=look.marker, linestyle="none", markersize=6,
            color=colour, markerfacecolor=colour if look.filled else "none", markeredgewidth=1.4, capsize=3, elinewidth=1.4,
        )  # fmt: skip
    metric = next(metric for metric in METRICS if metric.key == key)
    axis.set_title(metric.label)
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
    for position in range(1, len(methods), 2):  # which of the dots above each other belong to one method
        axis.axhspan(position - 0.5, position + 0.5, color=LIGHT.grid, alpha=0.35, linewidth=0, zorder=0)


def _legend(rows: Sequence[ComparisonRow], series: Sequence[str]) -> list[Line2D]:
    handles = []
    for name in series:
        look = SERIES[name]
        colour, label = LIGHT.lines[look.colour], look.label
        if any(value is not None for row in rows if row.series == name for value in row.std.values()):
            label += " (bar: standard deviation over seeds)"
        handles.append(
            Line2D([], [], linestyle="none", marker=look.marker, markersize=6, color=colour, label=label,
                   markerfacecolor=colour if look.filled else "none", markeredgewidth=1.4)
        )  # fmt: skip
    return handles
