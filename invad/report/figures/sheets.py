"""The sheet of a data set: what its images look like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invad.report.figures.canvas import MUTED, PDF_SCALE, Canvas, font, pages_of, save_pdf, save_png, wrap
from invad.report.figures.panels import PLAIN_TYPES, image_panel, outlined_panel
from invad.report.results import Counts, Picture, Result, TestImages
from invad.report.selection import evenly_spaced

SHEET_RULE = (
    "Images are chosen by rule, not by hand: of each class and kind, evenly spaced in the order of the split table, among those that the "
    "report has pictures of. The yellow line is the outline of the mask."
)
KINDS = ("Training, normal", "Test, normal", "Test, anomalous")
COMPACT_FROM = 3  # classes: from there on a class has one line, below it a line for each kind
COMPACT = (3, 1, 3)  # pictures of each kind on a line
PER_LINE = 7
TILE = 120
GAP = 6
KIND_GAP = 14
TEXT_WIDTH = 150
MARGIN = 20
CAPTION = 18


@dataclass(frozen=True)
class _Tile:
    picture: Picture
    caption: str = ""


@dataclass(frozen=True)
class _Line:
    """heading: of the line, bold. tiles: for each group of columns."""

    heading: str
    subheading: str
    groups: tuple[tuple[_Tile, ...], ...]


def dataset_sheet(result: Result, path_png: Path, path_pdf: Path | None = None) -> None:
    """Write a sheet of normal training images and normal and anomalous test images, these with the outline of their masks.

    With three classes or more each has one line of 3 + 1 + 3 pictures; with fewer, a line of up to seven for each kind. Raises
    `ValueError` when the result has no picture at all. No PDF when `path_pdf` is None.
    """
    tiles = _tiles(result)
    if not any(group for groups in tiles.values() for group in groups):
        raise ValueError("a sheet of a data set needs at least one picture")
    compact = len(tiles) >= COMPACT_FROM
    lines = _compact_lines(tiles) if compact else _long_lines(tiles)
    sheet = _Sheet(f"{result.marked_title}: what the data set looks like", counts_text(result.counts), compact)
    save_png(sheet.draw(lines, 1), path_png)
    if path_pdf is not None:
        pages = pages_of([sheet.line_height] * len(lines), sheet.head, sheet.width)
        save_pdf([sheet.draw(lines[page], PDF_SCALE) for page in pages], path_pdf, sheet.title)


def counts_text(counts: Counts | None) -> str:
    """How many images the data set has, as one sentence; empty where that is not known."""
    if counts is None:
        return ""
    parts = [
        f"{counts.classes:,} {'class' if counts.classes == 1 else 'classes'}",
        f"{counts.train:,} normal training images"
        + (f" and {counts.held_out:,} held out for thresholds" if counts.held_out else ""),
        f"{counts.test_normal:,} normal and {counts.test_anomalous:,} anomalous test images"
        + (f" ({counts.without_mask:,} without a mask)" if counts.without_mask else ""),
    ]
    if counts.anomalous_pixels is not None:
        parts.append(f"{100 * counts.anomalous_pixels:.2g} % of the test images' pixels are anomalous")
    return "; ".join(parts) + "."


def _tiles(result: Result) -> dict[str, tuple[list[_Tile], ...]]:
    """Class -> the pictures there are of each of `KINDS`, in the order of the split table."""
    tests = result.tests
    names = {item.class_name for item in result.training} | set(tests.classes if tests is not None else ())
    tiles: dict[str, tuple[list[_Tile], ...]] = {name: ([], [], []) for name in sorted(names)}
    for item in result.training:
        empty = np.zeros(item.image.shape[:2], dtype=bool)
        tiles[item.class_name][0].append(_Tile(Picture(item.image, empty)))
    if tests is not None:
        for index in sorted(tests.pictures):
            label = int(tests.labels[index])
            tiles[tests.classes[index]][1 + label].append(_Tile(tests.pictures[index], _caption(tests, index)))
    return tiles


def _caption(tests: TestImages, index: int) -> str:
    if not tests.labels[index]:
        return ""
    defect = tests.defect_types[index]
    parts = ["" if defect.lower() in PLAIN_TYPES else defect, "" if tests.has_mask[index] else "no mask"]
    return ", ".join(part for part in parts if part)


def _spaced(tiles: Sequence[_Tile], count: int) -> tuple[_Tile, ...]:
    return tuple(tiles[position] for position in evenly_spaced(len(tiles), count))


def _compact_lines(tiles: Mapping[str, Sequence[Sequence[_Tile]]]) -> list[_Line]:
    return [
        _Line(name, "", tuple(_spaced(group, count) for group, count in zip(groups, COMPACT, strict=True)))
        for name, groups in tiles.items()
    ]


def _long_lines(tiles: Mapping[str, Sequence[Sequence[_Tile]]]) -> list[_Line]:
    return [
        _Line(name, kind, (_spaced(group, PER_LINE),))
        for name, groups in tiles.items()
        for kind, group in zip(KINDS, groups, strict=True)
        if group
    ]


class _Sheet:
    def __init__(self, title: str, counts: str, compact: bool) -> None:
        self.title, self.texts, self.compact = title, [text for text in (counts, SHEET_RULE) if text], compact
        self.left = MARGIN + TEXT_WIDTH
        self.width = self.left + PER_LINE * (TILE + GAP) - GAP + (2 * KIND_GAP if compact else 0) + MARGIN
        room = self.width - 2 * MARGIN
        lines = sum(len(wrap(text, font(12), room)) for text in self.texts)
        self.head = MARGIN + 23 * len(wrap(title, font(18, bold=True), room)) + 7 + 17 * lines + (44 if compact else 16)
        self.line_height = TILE + CAPTION + GAP

    def draw(self, lines: Sequence[_Line], scale: int) -> Canvas:
        canvas = Canvas(self.width, self.head + self.line_height * len(lines) + MARGIN, scale)
        top = canvas.lines(MARGIN, MARGIN, self.title, self.width - 2 * MARGIN, 18, bold=True) + 7
        for text in self.texts:
            top = canvas.lines(MARGIN, top, text, self.width - 2 * MARGIN, 12, colour=MUTED)
        if self.compact:
            for left, count, kind in zip(self._lefts(), COMPACT, KINDS, strict=True):
                room = count * (TILE + GAP) - GAP
                canvas.text(left, top + 14, kind, 13, bold=True)
                canvas.rule(left, left + room, top + 33, MUTED)
        for number, line in enumerate(lines):
            self._draw_line(canvas, line, self.head + number * self.line_height)
        return canvas

    def _lefts(self) -> list[int]:
        """Where the columns of each kind begin."""
        before = np.cumsum([0, *COMPACT[:-1]])
        return [self.left + int(count) * (TILE + GAP) + KIND_GAP * number for number, count in enumerate(before)]

    def _draw_line(self, canvas: Canvas, line: _Line, top: int) -> None:
        below = canvas.lines(MARGIN, top, line.heading, TEXT_WIDTH - 14, 14, bold=True)
        if line.subheading:
            canvas.lines(MARGIN, below, line.subheading, TEXT_WIDTH - 14, 13)
        for left, tiles in zip(self._lefts(), line.groups, strict=False):
            for number, tile in enumerate(tiles):
                place = left + number * (TILE + GAP)
                self._draw_tile(canvas, tile, place, top)

    def _draw_tile(self, canvas: Canvas, tile: _Tile, left: int, top: int) -> None:
        height, width = tile.picture.mask.shape
        size = round(TILE * canvas.scale * min(1, height / width))
        panel = outlined_panel(tile.picture, size) if tile.picture.mask.any() else image_panel(tile.picture, size)
        canvas.paste(panel, left, top)
        if tile.caption:
            words = wrap(tile.caption, font(11), TILE)
            canvas.text(left, top + TILE + 3, words[0] + (" ..." if len(words) > 1 else ""), 11, colour=MUTED)
