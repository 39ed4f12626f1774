"""Draw `pipeline.png`, the picture of the pipeline and the method in README.md: `python docs/images/draw_pipeline.py`."""

from pathlib import Path

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

STAGES = {
    "check": "settings,\ncode digests",
    "download": "data/raw",
    "splits": "data/splits:\nwho trains,\nwho tests",
    "features": "data/features\nof the frozen\nencoder",
    "train": "models/:\nsafetensors,\nJSON",
    "score": "data/scores:\nanomaly maps",
    "evaluate": "metrics, curves,\nthresholds",
    "report": "tables, figures,\none page",
}
INK, GREY, BLUE, ORANGE = "#24292f", "#57606a", "#ddf4ff", "#fff1e5"
Place = tuple[float, float]


def box(axes: Axes, centre: Place, text: str, colour: str, width: float = 1.5, height: float = 0.62) -> None:
    """Draw a box with text."""
    x, y = centre
    corner = (x - width / 2, y - height / 2)
    axes.add_patch(
        FancyBboxPatch(corner, width, height, "round,pad=0.04", facecolor=colour, edgecolor=INK, linewidth=1)
    )
    axes.text(x, y, text, ha="center", va="center", color=INK, fontsize=8.6, linespacing=1.2)


def arrow(axes: Axes, start: Place, end: Place, bend: float = 0.0) -> None:
    """Draw an arrow between two places."""
    style = f"arc3,rad={bend}"
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=GREY, connectionstyle=style))


def draw_stages(axes: Axes, y: float) -> None:
    """Draw the stages in a row, and below each what it writes."""
    for number, (name, writes) in enumerate(STAGES.items()):
        x = 1 + 1.95 * number
        box(axes, (x, y), name, BLUE, width=1.3)
        axes.text(x, y - 0.46, writes, ha="center", va="top", color=GREY, fontsize=8.5, linespacing=1.25)
        if number:
            arrow(axes, (x - 1.24, y), (x - 0.7, y))


def draw_method(axes: Axes, y: float) -> None:
    """Draw InvAD: what it computes of an image."""
    upper, lower = y + 0.55, y - 0.55
    box(axes, (1.1, upper), "image", "white", width=1.2)
    box(axes, (3.3, upper), "frozen encoder", ORANGE, width=1.8)
    box(axes, (5.9, upper), "features\nof strides 4, 8, 16", "white", width=2.1)
    box(axes, (5.9, lower), "style codes, squeezed\nto the coarsest grid", ORANGE, width=2.5)
    box(axes, (2.6, lower), "learned constant", "white", width=2.0)
    box(axes, (9.2, lower), "generator, steered by\nSpace-aware Style Modulation", ORANGE, width=3.1)
    box(axes, (12.1, lower), "the features\nonce more", "white", width=1.6)
    box(axes, (12.1, upper), "distance", ORANGE, width=1.3)
    box(axes, (14.6, upper), "anomaly map,\nscore", "white", width=1.5)
    arrow(axes, (1.75, upper), (2.35, upper))
    arrow(axes, (4.25, upper), (4.8, upper))
    arrow(axes, (5.9, upper - 0.37), (5.9, lower + 0.37))
    arrow(axes, (7.2, lower), (7.6, lower))
    arrow(axes, (2.6, lower - 0.37), (9.0, lower - 0.33), bend=0.12)
    arrow(axes, (10.8, lower), (11.25, lower))
    arrow(axes, (12.1, lower + 0.37), (12.1, upper - 0.37))
    arrow(axes, (7.0, upper), (11.4, upper))
    arrow(axes, (12.8, upper), (13.8, upper))


def main() -> None:
    """Write the picture beside this file."""
    figure, axes = pyplot.subplots(figsize=(12.4, 4.5))
    axes.set(xlim=(0, 15.8), ylim=(-0.45, 5.25), aspect="equal")
    axes.axis("off")
    title = {"color": INK, "fontsize": 11.5, "fontweight": "bold"}
    axes.text(0.3, 4.95, "dvc repro: a stage reruns when its data, settings or code have changed", **title)
    draw_stages(axes, 4.2)
    axes.text(0.3, 2.3, "InvAD: trained on normal images, it cannot make the features of a defect", **title)
    draw_method(axes, 1.05)
    figure.savefig(Path(__file__).with_name("pipeline.png"), dpi=110, bbox_inches="tight", facecolor="white")


if __name__ == "__main__":
    main()
