"""Heat-map sheets: image, ground truth, anomaly map and overlay of chosen test images, of one method or two side by side.

Drawn with Pillow at the size they are shown at, so that no panel is resampled twice. The pictures are made in `panels` and offered
here as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from PIL import Image

from invad.report.figures.canvas import MUTED, PDF_SCALE, Canvas, font, pages_of, save_pdf, save_png, wrap
from invad.report.figures.panels import (
    COLOUR_MAP,
    COLOUR_RULE,
    OUTLINE,
    PANEL_NAMES,
    colour_stops,
    empty_reason,
    heat_panel,
    image_kind,
    image_panel,
    map_picture,
    outline_picture,
    overlay_panel,
    panel_pictures,
    panel_size,
    scale_map,
    scaled_map,
    truth_panel,
)
from invad.report.results import Result, TestImages
from invad.report.selection import SELECTION_RULE

__all__ = [
    "COLOUR_MAP",
    "COLOUR_RULE",
    "OUTLINE",
    "PANEL_NAMES",
    "colour_stops",
    "heatmap_sheet",
    "image_kind",
    "map_picture",
    "outline_picture",
    "panel_pictures",
    "scale_map",
]

PANEL = 160
TEXT_WIDTH = 190
GAP = 8
MARGIN = 20
CLASS_HEAD = 40
COLUMN_HEAD = 58


def heatmap_sheet(
    result: Result,
    positions: Sequence[int],
    path_png: Path,
    path_pdf: Path | None = None,
    other: Result | None = None,
    rule: str = SELECTION_RULE,
) -> None:
    """Write a sheet with one row per test image: score, kind and name, image, ground truth, map and overlay.

    Images of a class stand together, in the order given. The PDF has the same rows, class by class on as many pages as they need, drawn
    twice as fine.

    Args:
        result: With the images to show among `tests.pictures`.
        positions: Of the images, at least one; those of a class one after the other.
        path_png, path_pdf: Written, whole or not at all; no PDF when None.
        other: Another method on the same data, whose map and overlay stand beside; an image that it does not have (by its name) is left
            empty with a note. Its maps are scaled by its own value ranges.
        rule: Words that say how the images were chosen; empty for none.
    """
    if result.tests is None or not len(positions):
        raise ValueError("a heat-map sheet needs at least one test image")
    tests = result.tests
    methods = [_Method.of(result.label, tests)]
    if other is not None and other.tests is not None:
        methods.append(_Method.of(other.label, other.tests))
    sheet = _Sheet(result.marked_title, tests, methods, rule)
    groups = [list(group) for _, group in groupby(positions, key=lambda index: tests.classes[index])]
    save_png(sheet.draw(groups, 1), path_png)
    if path_pdf is not None:
        pages = pages_of([sheet.group_height(group) for group in groups], sheet.head, sheet.width)
        save_pdf([sheet.draw(groups[page], PDF_SCALE) for page in pages], path_pdf, sheet.title)


@dataclass(frozen=True)
class _Method:
    """One method's columns. positions: image name -> index into `tests`."""

    label: str
    tests: TestImages
    positions: dict[str, int]

    @classmethod
    def of(cls, label: str, tests: TestImages) -> "_Method":
        return cls(label, tests, {name: index for index, name in enumerate(tests.names)})


class _Sheet:
    def __init__(self, title: str, tests: TestImages, methods: Sequence[_Method], rule: str) -> None:
        self.tests, self.methods = tests, methods
        self.title = f"{title}: anomaly maps of {' and '.join(method.label for method in self.methods)}"
        self.panel_width = max(panel_size(picture, PANEL)[0] for picture in self.tests.pictures.values())
        self.left = MARGIN + TEXT_WIDTH
        self.width = self._column(1 + 2 * len(self.methods)) + self.panel_width + MARGIN
        self.texts = [text for text in (rule, COLOUR_RULE) if text]
        lines = sum(len(wrap(text, font(12), self.width - 2 * MARGIN)) for text in self.texts)
        title_lines = wrap(self.title, font(18, bold=True), self.width - 2 * MARGIN)
        self.head = MARGIN + 23 * len(title_lines) + 7 + 17 * lines + COLUMN_HEAD

    def _column(self, number: int) -> int:
        """The left end of a column; the methods stand a little apart."""
        return self.left + number * (self.panel_width + GAP) + GAP * max(0, number // 2 - 1)

    @staticmethod
    def group_height(group: Sequence[int]) -> int:
        return CLASS_HEAD + (PANEL + GAP) * len(group)

    def draw(self, groups: Sequence[Sequence[int]], scale: int) -> Canvas:
        height = self.head + sum(self.group_height(group) for group in groups) + MARGIN
        canvas = Canvas(self.width, height, scale)
        self._draw_head(canvas)
        top = self.head
        for group in groups:
            name = self.tests.classes[group[0]]
            canvas.rule(MARGIN, self.width - MARGIN, top + 6)
            canvas.text(MARGIN, top + 12, name, 14, bold=True)
            for number, method in enumerate(self.methods):
                low, high = method.tests.value_ranges.get(name, (0.0, 0.0))
                words = f"map values {low:.4g} to {high:.4g}"
                if high > low:
                    canvas.text(self._column(2 + 2 * number), top + 13, words, 12, colour=MUTED)
            for row, index in enumerate(group):
                self._draw_row(canvas, index, top + CLASS_HEAD + row * (PANEL + GAP))
            top += self.group_height(group)
        return canvas

    def _draw_head(self, canvas: Canvas) -> None:
        top = canvas.lines(MARGIN, MARGIN, self.title, self.width - 2 * MARGIN, 18, bold=True) + 7
        for text in self.texts:
            top = canvas.lines(MARGIN, top, text, self.width - 2 * MARGIN, 12, colour=MUTED)
        names = (*PANEL_NAMES[:2], *PANEL_NAMES[2:] * len(self.methods))
        for column, name in enumerate(names):
            canvas.text(self._column(column), top + 36, name, 13, bold=True)
        for number, method in enumerate(self.methods):
            left = self._column(2 + 2 * number)
            right = left + 2 * self.panel_width + GAP
            canvas.text(left, top + 12, wrap(method.label, font(13, bold=True), right - left)[0], 13, bold=True)
            canvas.rule(left, right, top + 31, MUTED)

    def _draw_row(self, canvas: Canvas, index: int, top: int) -> None:
        self._draw_caption(canvas, index, top)
        picture, size = self.tests.pictures[index], PANEL * canvas.scale
        truth = truth_panel(picture, size, empty_reason(self.tests, index))
        for column, panel in enumerate((image_panel(picture, size), truth)):
            canvas.paste(panel, self._column(column), top)
        for number, method in enumerate(self.methods):
            left = self._column(2 + 2 * number)
            for place, panel in enumerate(self._maps(method, index, size)):
                canvas.paste(panel, left + place * (self.panel_width + GAP), top)
            if self.tests.names[index] not in method.positions:
                canvas.box(left, top, 2 * self.panel_width + GAP, PANEL, f"{method.label}: no map of this image")

    def _maps(self, method: _Method, index: int, size: int) -> list[Image.Image]:
        """Map and overlay of a method, or nothing where it does not have the image."""
        own = method.positions.get(self.tests.names[index])
        if own is None:
            return []
        picture = self.tests.pictures[index]
        heat = scaled_map(method.tests, own, panel_size(picture, size))
        return [heat_panel(heat), overlay_panel(picture, heat)]

    def _draw_caption(self, canvas: Canvas, index: int, top: float) -> None:
        name, inner = self.tests.names[index], TEXT_WIDTH - 14
        for method in self.methods:
            own = method.positions.get(name)
            score = "unknown" if own is None else f"{method.tests.image_scores[own]:.4g}"
            if len(self.methods) > 1:
                top = canvas.lines(MARGIN, top, method.label, inner, 11, colour=MUTED)
            top = canvas.lines(MARGIN, top, f"score {score}", inner, 14, bold=True)
        top = canvas.lines(MARGIN, top, image_kind(self.tests, index), inner, 13)
        canvas.lines(MARGIN, top, name, inner, 11, colour=MUTED)
