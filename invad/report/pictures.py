"""Pictures of test images: panels of one image, and the sheet that sets them beside each other for chosen ones, drawn with Pillow."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from invad.files import atomic_path
from invad.report.results import Picture, Result, TestImages
from invad.report.selection import SELECTION_RULE
from invad.scoring.overlay import Scale, coloured, draw_lines, heat, line_layer, overlay, palette

PANEL_NAMES = ("Image", "Ground truth", "Anomaly map", "Overlay")
COLOUR_RULE = (
    "An overlay shows nothing below the calibrated pixel threshold of the class; above it colours run from the threshold to twice of it. "
    "Without a threshold they run from the smallest to the largest value of all test maps of the class."
)
LINE_RULE = "Lines stand around what lies above the threshold, unless the image is called normal."
MAP_RULE = (
    "Map colours run from dark (lowest) to bright (highest) between the smallest and the largest value of all test maps of the class, "
    "so that colours compare between images of a class, not between classes."
)
OUTLINE = (255, 214, 10)
LINE_HALF = 1.0  # pixels of a panel: half the width of its lines
PLAIN_TYPES = ("", "anomaly", "anomalous", "bad")  # defect types that say no more than the label
INK, MUTED, RULE, EMPTY = (27, 31, 36), (87, 96, 106), (208, 215, 222), (234, 238, 242)
PANEL, TEXT_WIDTH, GAP, MARGIN, CLASS_HEAD, COLUMN_HEAD = 160, 190, 8, 20, 40, 58  # pixels of a sheet
_ROUNDED = [min(255, (n + 2) // 4 * 4) for n in range(256)]  # 64 levels: not visible, and the file a third smaller


def image_kind(tests: TestImages, index: int) -> str:
    """What the data set says of the image: `normal`, or `anomalous` and the defect type where it says more than that."""
    if not tests.labels[index]:
        return "normal"
    defect = tests.defect_types[index]
    return "anomalous" if defect.lower() in PLAIN_TYPES else f"anomalous: {defect}"


def empty_reason(tests: TestImages, index: int) -> str:
    """Why a mask has no anomalous pixel."""
    if not tests.has_mask[index]:
        return "no mask"
    return "no anomalous pixel" if tests.labels[index] else "no anomaly"  # an object may be lost by the resize


def panel_size(picture: Picture, size: int) -> tuple[int, int]:
    """(width, height) of a panel that is `size` pixels high."""
    height, width = picture.mask.shape
    return round(size * width / height), size


def image_panel(picture: Picture, size: int) -> Image.Image:
    """The image, `size` pixels high."""
    return Image.fromarray(picture.image).resize(panel_size(picture, size), Image.Resampling.LANCZOS)


def truth_panel(picture: Picture, size: int, empty: str) -> Image.Image:
    """The image with an outline around the anomalous region, or grey with the words `empty` where the mask has no pixel."""
    panel = image_panel(picture, size)
    if picture.mask.any():
        draw_lines(panel, mask_values(picture.mask, panel.size), 0.5, OUTLINE, half=LINE_HALF)
        return panel
    panel = panel.convert("L").point([value // 2 for value in range(256)]).convert("RGB")
    letters = font(max(13, size // 12))
    letters = letters.font_variant(size=letters.size * min(1, 0.94 * panel.width / letters.getlength(empty)))
    ImageDraw.Draw(panel).text((panel.width / 2, panel.height / 2), empty, "white", letters, anchor="mm")
    return panel


def map_panel(tests: TestImages, index: int, size: tuple[int, int]) -> Image.Image:
    """The map in its colours, from the smallest to the largest value of its class. size: (width, height)."""
    low, high = tests.value_ranges[tests.classes[index]]
    share = (map_values(tests, index, size) - low) / (high - low) if high > low else np.zeros(size[::-1])
    return coloured(np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8), begin=0)


def overlay_panel(result: Result, tests: TestImages, index: int, picture: Picture, size: int) -> Image.Image:
    """The image in grey with what lies above the pixel threshold in colours, outlined where the image is called anomalous."""
    name, grey = tests.classes[index], image_panel(picture, size).convert("L")
    values, limit = map_values(tests, index, grey.size), result.thresholds.get(name)
    called = limit is None or float(tests.image_scores[index]) > limit
    threshold = result.pixel_thresholds.get(name)
    return overlay(grey, values, map_scale(result, tests, index), threshold, outlined=called, half=LINE_HALF)


def heat_layer(result: Result, tests: TestImages, index: int) -> Image.Image:
    """The colours of an overlay alone, RGBA at the map's own size, to be scaled up where they are shown."""
    layer, opacity = heat(tests.maps[index].astype(np.float32), map_scale(result, tests, index))
    layer.putalpha(opacity.point(lambda value: 255 if value else 0))
    return layer


def map_scale(result: Result, tests: TestImages, index: int) -> Scale:
    """The map values between which the colours of an image's overlay run."""
    name = tests.classes[index]
    return Scale.of(result.pixel_thresholds.get(name), *tests.value_ranges[name])


def outline_layer(mask: NDArray[np.bool_], size: int) -> Image.Image:
    """The outline of a mask alone, RGBA and `size` pixels high: transparent elsewhere, to be laid over image or map."""
    height, width = mask.shape
    return line_layer(mask_values(mask, (round(size * width / height), size)), 0.5, OUTLINE, half=size / 180)


def mask_values(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.float32]:
    """The mask as a soft region in [0, 1], a little larger, so that a line at 0.5 lies around it. size: (width, height)."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    solid = picture.point(
        lambda value: 255 if value >= 64 else 0
    )  # a quarter is enough: a thin scratch shall not vanish
    soft = solid.filter(ImageFilter.MaxFilter(3)).filter(ImageFilter.GaussianBlur(1.5))
    return np.asarray(soft, dtype=np.float32) / np.float32(255)


def map_values(tests: TestImages, index: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """The map of an image at another size, (width, height); float32 (height, width)."""
    small = Image.fromarray(tests.maps[index].astype(np.float32))
    # Bilinear: nothing gets larger than the map, which could cross the threshold.
    return np.asarray(small.resize(size, Image.Resampling.BILINEAR), dtype=np.float32)


def colour_stops(count: int = 9) -> list[str]:
    """Evenly spaced colours of the overlays as `#rrggbb`, lowest first."""
    colours = np.frombuffer(palette(), dtype=np.uint8).reshape(256, 3)
    return ["#" + bytes(colours[level]).hex() for level in np.linspace(0, 255, count).round().astype(int)]


def heatmap_sheet(results: Sequence[Result], positions: Sequence[int], path: Path) -> None:
    """Write a PNG with one row per test image: score, kind and name, image, ground truth, map and overlay; whole or not at all.

    results: the first has the images to show among `tests.pictures`; others on the same data have their map and overlay beside it, found
    by the image's name, each scaled by its own values. positions: of the images; those of a class one after the other.
    """
    sheet = _Sheet([(result, result.tests) for result in results if result.tests is not None])
    with atomic_path(path) as temporary:
        sheet.draw(positions).point(_ROUNDED * 3).save(temporary, format="PNG")


class _Sheet:
    def __init__(self, methods: Sequence[tuple[Result, TestImages]]) -> None:
        self.methods, self.tests = methods, methods[0][1]
        self.panel_width = max(panel_size(picture, PANEL)[0] for picture in self.tests.pictures.values())
        self.width = self._left(1 + 2 * len(methods)) + self.panel_width + MARGIN
        names = " and ".join(result.label for result, _ in methods)
        texts = (SELECTION_RULE, MAP_RULE, f"{COLOUR_RULE} {LINE_RULE}")
        words = [(f"{methods[0][0].marked_title}: anomaly maps of {names}", 18, True), *((t, 12, False) for t in texts)]
        room = self.width - 2 * MARGIN
        self.lines = [(line, size, bold) for text, size, bold in words for line in wrap(text, font(size, bold), room)]

    def _left(self, column: int) -> int:
        """The left end of a column; the methods stand a little apart."""
        return MARGIN + TEXT_WIDTH + column * (self.panel_width + GAP) + GAP * max(0, column // 2 - 1)

    def draw(self, positions: Sequence[int]) -> Image.Image:
        groups = [list(group) for _, group in groupby(positions, key=lambda index: self.tests.classes[index])]
        head = MARGIN + 7 + sum(size + 5 for _, size, _ in self.lines) + COLUMN_HEAD
        height = head + len(groups) * CLASS_HEAD + len(positions) * (PANEL + GAP) + MARGIN
        self.image = Image.new("RGB", (self.width, height), "white")
        self.pen = ImageDraw.Draw(self.image)
        top = MARGIN
        for line, size, bold in self.lines:
            self._text(MARGIN, top, line, size, bold=bold, ink=INK if bold else MUTED)
            top += size + 5
        self._column_heads(head - COLUMN_HEAD)
        top = head
        for group in groups:
            self._class_head(self.tests.classes[group[0]], top)
            for row, index in enumerate(group):
                self._row(index, top + CLASS_HEAD + row * (PANEL + GAP))
            top += CLASS_HEAD + len(group) * (PANEL + GAP)
        return self.image

    def _text(
        self, x: float, y: float, words: str, size: int, *, bold: bool = False, ink: tuple[int, ...] = INK
    ) -> None:
        self.pen.text((x, y), words, ink, font(size, bold))

    def _column_heads(self, top: int) -> None:
        for column, name in enumerate((*PANEL_NAMES[:2], *PANEL_NAMES[2:] * len(self.methods))):
            self._text(self._left(column), top + 36, name, 13, bold=True)
        for number, (result, _) in enumerate(self.methods):
            left, right = self._left(2 + 2 * number), self._left(3 + 2 * number) + self.panel_width
            self._text(left, top + 12, wrap(result.label, font(13, bold=True), right - left)[0], 13, bold=True)
            self.pen.line((left, top + 31, right, top + 31), MUTED)

    def _class_head(self, name: str, top: int) -> None:
        self.pen.line((MARGIN, top + 6, self.width - MARGIN, top + 6), RULE)
        self._text(MARGIN, top + 12, name, 14, bold=True)
        for number, (result, tests) in enumerate(self.methods):
            low, high = tests.value_ranges.get(name, (0.0, 0.0))
            threshold = result.pixel_thresholds.get(name)
            words = f"map {low:.4g} to {high:.4g}" + ("" if threshold is None else f", threshold {threshold:.4g}")
            if high > low:
                self._text(self._left(2 + 2 * number), top + 13, words, 12, ink=MUTED)

    def _row(self, index: int, top: int) -> None:
        picture, name = self.tests.pictures[index], self.tests.names[index]
        panels = [image_panel(picture, PANEL), truth_panel(picture, PANEL, empty_reason(self.tests, index))]
        words: list[tuple[str, int, bool, tuple[int, ...]]] = []
        for result, tests in self.methods:
            words += [(result.label, 11, False, MUTED)] if len(self.methods) > 1 else []
            if name in tests.names:
                own = tests.names.index(name)
                panels.append(map_panel(tests, own, panel_size(picture, PANEL)))
                panels.append(overlay_panel(result, tests, own, picture, PANEL))
                words.append((f"score {tests.image_scores[own]:.4g}", 14, True, INK))
            else:
                panels += [self._empty(f"{result.label}: no map of this image")] * 2
                words.append(("score unknown", 14, True, INK))
        for column, panel in enumerate(panels):
            self.image.paste(panel, (self._left(column), top))
        words += [(image_kind(self.tests, index), 13, False, INK), (name, 11, False, MUTED)]
        for text, size, bold, ink in words:
            for line in wrap(text, font(size, bold), TEXT_WIDTH - 14):
                self._text(MARGIN, top, line, size, bold=bold, ink=ink)
                top += size + 5

    def _empty(self, words: str) -> Image.Image:
        panel = Image.new("RGB", (self.panel_width, PANEL), EMPTY)
        text, middle = "\n".join(wrap(words, font(12), self.panel_width - 16)), (self.panel_width / 2, PANEL / 2)
        ImageDraw.Draw(panel).multiline_text(middle, text, MUTED, font(12), anchor="mm", align="center")
        return panel


def wrap(text: str, letters: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Lines no wider than `width` pixels, broken after spaces, slashes, hyphens and underscores where there are any."""
    lines = [""]
    for character in text:
        if letters.getlength((lines[-1] + character).rstrip()) > width:
            at = max(lines[-1].rfind(mark) for mark in " /-_") + 1
            head, tail = (lines[-1][:at], lines[-1][at:]) if at else (lines[-1], "")
            lines[-1:] = [head, tail]
        lines[-1] += character
    return [line.strip() for line in lines]


def font(size: float, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it: the same letters on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
