"""The figure of an ablation study: one panel per headline metric, one line per variant, the paper's setting as reference."""

import textwrap
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from invad.report.ablation.summary import VariantSummary, full_label
from invad.report.figures.style import LIGHT, Theme, style
from invad.report.labels import METRICS

HEADLINE = ("image_auroc", "pixel_auroc", "pixel_ap", "region_aupro", "mad")
LABEL_WIDTH = 24  # characters
MIN_SPAN = 1.0  # percentage points: differences below the printed precision shall not look large
WORDS = {"failed": "failed", "stopped": "stopped early", "missing": "not run"}


def ablation_figure(summaries: Sequence[VariantSummary], title: str, theme: Theme = LIGHT) -> Figure:
    """Means in percent with their standard deviations, variants from top to bottom in the order given.

    Variants without a finished run keep their line, which says what became of them. title: what was compared on what data.
    """
    labels = ["\n".join(textwrap.wrap(_name(summary), LABEL_WIDTH)) for summary in summaries]
    lines = sum(max(1.4, 1 + text.count("\n")) for text in labels)
    titles = textwrap.wrap(f"{title}: higher is better", 130)
    metrics = {metric.key: metric for metric in METRICS}
    with matplotlib.rc_context(style(theme)):
        figure = Figure(figsize=(11.0, 1.5 + 0.22 * lines + 0.2 * len(titles)), layout="constrained")
        figure.suptitle("\n".join(titles), x=0.01, ha="left", fontweight="bold", fontsize=11, parse_math=False)
        axes = figure.subplots(1, len(HEADLINE), sharey=True)
        for axis, key in zip(axes, HEADLINE, strict=True):
            _panel(axis, summaries, key, theme)
            axis.set_title(full_label(metrics[key]))
        axes[0].set_yticks(range(len(summaries)), labels, parse_math=False)
        axes[0].set_ylim(len(summaries) - 0.5, -0.5)
        for text, summary in zip(axes[0].get_yticklabels(), summaries, strict=True):
            text.set_fontweight("bold" if summary.variant.is_paper else "normal")
        figure.legend(handles=_legend(summaries, theme), loc="outside lower center", ncols=4)
    return figure


def _name(summary: VariantSummary) -> str:
    return " ".join(summary.variant.name.split()) + (" (paper)" if summary.variant.is_paper else "")


def _panel(axis: Axes, summaries: Sequence[VariantSummary], key: str, theme: Theme) -> None:
    ends = []
    for position, summary in enumerate(summaries):
        value, paper = summary.values[key], summary.variant.is_paper
        if value.mean is None:
            _say(axis, position, "no value" if summary.seeds else WORDS[summary.status], theme)
            continue
        mean, spread = 100 * value.mean, None if value.std is None else 100 * value.std
        ends += [mean - (spread or 0), mean + (spread or 0)]
        if paper:
            axis.axvline(mean, color=theme.anomalous, linestyle="--", linewidth=1.2)
        axis.errorbar(
            mean, position, xerr=spread, fmt="D" if paper else "o", markersize=7, capsize=4, linewidth=1.6,
            color=theme.anomalous if paper else theme.normal,
        )  # fmt: skip
    if ends:
        missing = max(0, MIN_SPAN - (max(ends) - min(ends))) / 2
        margin = 0.12 * (max(ends) - min(ends) + 2 * missing)
        axis.set_xlim(min(ends) - missing - margin, max(ends) + missing + margin)
        axis.xaxis.set_major_locator(MaxNLocator(3, steps=(1, 2, 5, 10)))
        axis.set_xlabel("percent")
    else:
        axis.set_xticks([])
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)


def _say(axis: Axes, position: int, words: str, theme: Theme) -> None:
    """Words in the middle of a variant's line, on a patch of background so that the reference line does not strike them out."""
    patch = {"facecolor": theme.background, "edgecolor": "none", "pad": 1.5}
    place = axis.get_yaxis_transform()
    axis.text(0.5, position, words, transform=place, ha="center", va="center", style="italic", bbox=patch, zorder=5)


def _legend(summaries: Sequence[VariantSummary], theme: Theme) -> list[Line2D]:
    finished = [summary for summary in summaries if summary.seeds]
    values = [summary.values[key] for summary in finished for key in HEADLINE]
    several = any(value.std is not None for value in values)
    spread = ", bar: standard deviation over seeds" if several else ", one seed each"
    handles = []
    if any(summary.variant.is_paper for summary in finished):
        handles.append(
            Line2D(
                [], [], marker="D", color=theme.anomalous, label="the paper's setting", linestyle="none", markersize=7
            )
        )
        handles.append(Line2D([], [], color=theme.anomalous, linestyle="--", linewidth=1.2, label="its mean"))
    if finished:
        handles.append(
            Line2D([], [], marker="o", color=theme.normal, label=f"mean{spread}", linestyle="none", markersize=7)
        )
    return handles
