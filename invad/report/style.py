"""The one plain look of all figures, which the page darkens on dark screens, and how figures become files: equal numbers, equal bytes."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.legend import Legend

DPI = 120


@dataclass(frozen=True)
class Theme:
    """Colours of a plot. Data colours are from the Okabe-Ito palette, which colour-blind readers can tell apart."""

    background: str
    ink: str
    muted: str
    grid: str
    normal: str
    anomalous: str
    lines: tuple[str, ...]


LIGHT = Theme("white", "#1b1f24", "#57606a", "#d8dee4", "#0072b2", "#d55e00",
              ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#1b1f24"))  # fmt: skip
DARK = Theme("none", "#e6edf3", "#9da7b3", "#3a424c", "#56b4e9", "#e69f00",
             ("#56b4e9", "#e69f00", "#2fc79a", "#e39fc4", "#3d8fd1", "#f0e442", "#e6edf3"))  # fmt: skip
STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
"""Line styles in the order of `Theme.lines`: they tell lines apart in greyscale print as well."""


def style() -> dict[str, object]:
    """The one plain look of all figures, as matplotlib's settings; that of `LIGHT`."""
    theme = LIGHT
    return {
        "font.family": "DejaVu Sans", "font.size": 10, "axes.titlesize": 10, "axes.titleweight": "bold",
        "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
        "grid.color": theme.grid, "grid.linewidth": 0.8, "axes.edgecolor": theme.ink, "axes.labelcolor": theme.ink,
        "text.color": theme.ink, "xtick.color": theme.ink, "ytick.color": theme.ink,
        "legend.frameon": False, "axes.facecolor": "none", "figure.facecolor": theme.background,
        "svg.hashsalt": "invad", "svg.fonttype": "path",
    }  # fmt: skip


def line_style(index: int) -> dict[str, Any]:
    """Colour and line style, as matplotlib's keywords, of the `index`-th line of a plot; they repeat after seven."""
    return {"color": LIGHT.lines[index % len(LIGHT.lines)], "linestyle": STYLES[index % len(STYLES)]}


def plain_legend(legend: Legend) -> None:
    """Names may hold dollar signs, which are not formulas."""
    for text in legend.get_texts():
        text.set_parse_math(False)


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


def save_plot(figure: Figure, folder: Path, name: str) -> None:
    """Write the figure to `folder` as `name`.png and `name`.svg; the layout is worked out once, which takes a third of the time."""
    (folder / f"{name}.png").write_bytes(png_bytes(figure))
    # The axes stay where they are. In this order: letters on pixels are a little wider than those of the SVG, and would be cut off.
    figure.set_layout_engine("none")
    (folder / f"{name}.svg").write_bytes(svg_text(figure))
