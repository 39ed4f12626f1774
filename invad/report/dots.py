"""Numbers side by side as dots, a panel for each metric: methods with their published and measured numbers, or variants of a study."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from invad.report.ablations import HEADLINE, NOT_RUN
from invad.report.grouping import by_benchmark
from invad.report.labels import METRICS
from invad.report.results import Result
from invad.report.style import LIGHT, MARKED_TITLE, style
from invad.report.table_set import TableSet
from invad.report.tables import Row, Table, flat_heading

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
    "variant": Series("variant", "o", 0),
    "reference": Series("the paper's setting", "D", 1),
}
"""In the order of the legend, and within a row from top to bottom. Shape and filling tell them apart in greyscale print as well."""
_RANKED = ("paper", "rerun_100", "rerun_300", "measured")


@dataclass(frozen=True)
class DotRow:
    """The numbers of one method, or variant, from one source.

    name: its name in the figure. series: key of `SERIES`. values: metric -> fraction, None or no entry where there is none. std: metric
    -> standard deviation over seeds, of those that have one. words: instead of numbers, why there are none.
    """

    name: str
    series: str
    values: Mapping[str, float | None]
    std: Mapping[str, float | None] = field(default_factory=dict)
    words: str = ""


def comparison_figures(results: Sequence[Result], tables: TableSet) -> dict[str, Figure | None]:
    """A figure of each benchmark of which several rows stand side by side: measured ones, and published ones beside a measured one."""
    figures = {}
    for table in tables.published:
        rows = [_row(row) for row in table.rows if row.kind in ("plain", "published")]
        if any(row.series == "measured" for row in rows):
            title = table.title.replace("Published numbers, ", "") + ": published numbers and measured ones"
            figures[f"comparison_{table.rows[0].keys['benchmark']}"] = comparison_figure(title, rows)
    for name, members in by_benchmark(results).items():
        if len(members) > 1 and f"comparison_{name}" not in figures:
            names = {result.benchmark for result in members}
            rows = [row for row in tables.measured[0].rows if row.kind == "plain" and row.keys["benchmark"] in names]
            title = f"{members[0].marked_title}: measured"
            figures[f"comparison_{name}"] = comparison_figure(title, list(map(_row, rows)))
    return figures


def _row(row: Row) -> DotRow:
    series = "measured"
    if row.kind == "published":
        series = f"{row.keys['source']}_{row.keys['epochs']}" if row.keys["source"] == "rerun" else row.keys["source"]
    values = {key: cell.value for key, cell in row.cells.items()}
    std = {key: cell.std for key, cell in row.cells.items() if cell.std is not None}
    return DotRow(row.keys["label"], series, values, std)


def comparison_figure(title: str, rows: Sequence[DotRow]) -> Figure | None:
    """A line for each method, sorted by mAD, the highest on top; None when there is nothing to draw.

    The order is that of the paper, or for methods that it does not have, that of the re-runs, else the measured one. title: what the
    numbers are of, such as the benchmark. Raises `ValueError` for an unknown series.
    """
    unknown = sorted({row.series for row in rows} - set(SERIES))
    if unknown:
        raise ValueError(f"unknown series {', '.join(unknown)}; known are {', '.join(SERIES)}")
    rows = [row for row in rows if any(row.values.get(key) is not None for key in PANELS)]
    bold = {row.name for row in rows if row.series == "measured"}
    return _figure(title, rows, _ranked(rows), PANELS, bold) if rows else None


def ablation_figure(table: Table, title: str) -> Figure:
    """A line for each variant of a study in its order, which says what became of it where it has no finished run."""
    rows = []
    for row in (row for row in table.rows if row.kind != "difference"):
        status = {"stopped": "stopped early", NOT_RUN: "not run"}.get(row.keys["status"], row.keys["status"])
        values = {key: row.cells[key].value for key in HEADLINE}
        series = "reference" if row.keys["is_paper"] == "true" else "variant"
        std = {key: row.cells[key].std for key in HEADLINE if row.cells[key].std is not None}
        rows.append(DotRow(row.words[0], series, values, std, status if row.keys["seeds"] == "0" else "no value"))
    bold = {row.name for row in rows if row.series == "reference"}
    return _figure(f"{title}: higher is better", rows, [row.name for row in rows], HEADLINE, bold)


def _ranked(rows: Sequence[DotRow]) -> list[str]:
    """Methods by the mAD of the first source of `_RANKED` that has one; without any they come last, by name."""
    best: dict[str, tuple[int, float]] = {}
    for row in rows:
        value = row.values.get(RANK_KEY)
        entry = (len(_RANKED), math.inf) if value is None else (_RANKED.index(row.series), -value)
        best[row.name] = min(best.get(row.name, entry), entry)
    return sorted(best, key=lambda name: (best[name][1], name))


def _figure(title: str, rows: Sequence[DotRow], names: Sequence[str], keys: Sequence[str], bold: set[str]) -> Figure:
    columns = [metric for key in keys for metric in METRICS if metric.key == key]
    series = [name for name in SERIES if any(row.series == name for row in rows)]
    beside = (
        1 if set(series) <= {"variant", "reference"} else len(series)
    )  # dots of one line that must not lie on each other
    labels = ["\n".join(textwrap.wrap(name, LABEL_WIDTH)) for name in names]
    lines = sum(max(1.5, 1 + text.count("\n"), 0.65 * beside) for text in labels)
    titles = textwrap.wrap(title, 110)
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(10.4, 1.7 + 0.22 * lines + 0.2 * len(titles)), layout="constrained")
        figure.suptitle("\n".join(titles), **MARKED_TITLE)
        axes = figure.subplots(1, len(keys), sharey=True)
        step = min(0.24, 0.7 / beside)
        places = {name: step * (number - (beside - 1) / 2) if beside > 1 else 0.0 for number, name in enumerate(series)}
        for axis, metric in zip(axes, columns, strict=True):
            _panel(axis, metric.key, rows, names, places)
            axis.set_title(flat_heading(metric))
        axes[0].set_yticks(range(len(names)), labels, parse_math=False)
        axes[0].set_ylim(len(names) - 0.5, -0.5)
        for text, name in zip(axes[0].get_yticklabels(), names, strict=True):
            text.set_fontweight("bold" if name in bold else "normal")
        figure.legend(handles=_legend(rows, series), loc="outside lower center", ncols=2)
    return figure


def _panel(axis: Axes, key: str, rows: Sequence[DotRow], names: Sequence[str], places: Mapping[str, float]) -> None:
    ends = []
    for row in rows:
        value, line = row.values.get(key), names.index(row.name)
        if value is None:
            if row.words:
                _say(axis, line, row.words)
            continue
        spread, look = row.std.get(key) or 0.0, SERIES[row.series]
        ends += [100 * (value - spread), 100 * (value + spread)]
        colour = LIGHT.lines[look.colour]
        if row.series == "reference":
            axis.axvline(100 * value, color=colour, linestyle="--", linewidth=1.2)
        axis.errorbar(
            100 * value, line + places[row.series], xerr=100 * spread or None, marker=look.marker, linestyle="none", markersize=6,
            color=colour, markerfacecolor=colour if look.filled else "none", markeredgewidth=1.4, capsize=3, elinewidth=1.4,
        )  # fmt: skip
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
    for position in range(1, len(names), 2):  # which of the dots above each other belong to one line
        axis.axhspan(position - 0.5, position + 0.5, color=LIGHT.grid, alpha=0.35, linewidth=0, zorder=0)


def _say(axis: Axes, position: int, words: str) -> None:
    """Words in the middle of a line, on a patch of background so that the line of the reference does not strike them out."""
    patch = {"facecolor": LIGHT.background, "edgecolor": "none", "pad": 1.5}
    place = axis.get_yaxis_transform()
    axis.text(0.5, position, words, transform=place, ha="center", va="center", style="italic", bbox=patch, zorder=5)


def _legend(rows: Sequence[DotRow], series: Sequence[str]) -> list[Line2D]:
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
