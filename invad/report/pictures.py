"""Pictures of test images: panels of one image, and the sheet that sets them beside each other for chosen ones, drawn with Pillow."""

import textwrap
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from invad.report.results import SELECTION_RULE, Picture, Result, TestImages
from invad.scoring.overlay import Scale, coloured, draw_lines, heat, line_layer, overlay, palette

COLOUR_RULE = (
    "An overlay shows nothing below the calibrated pixel threshold of the class; above it colours run from the threshold to twice of it. "
    "Without a threshold they run from the smallest to the largest value of all test maps of the class."
)
LINE_RULE = "Lines stand around what lies above the threshold, unless the image is called normal."
MAP_RULE = (
    "Map colours run from dark (lowest) to bright (highest) between the smallest and the largest value of all test maps of the class, "
    "so that colours compare between images of a class, not between classes."
)
SYNTHETIC_RULE = (
    "Of each class the first training images that get an anomaly in the first epoch, as the training with this seed sees them. "
    "White in a mask is what was painted."
)
OUTLINE = (255, 214, 10)
LINE_HALF = 1.0  # pixels of a panel: half the width of its lines
PLAIN_TYPES = ("", "anomaly", "anomalous", "bad")  # defect types that say no more than the label
PANEL, TEXT_WIDTH, GAP, MARGIN = 160, 210, 8, 20  # pixels of a sheet
_ROUNDED = [min(255, (n + 2) // 4 * 4) for n in range(256)]  # 64 levels: not visible, and the file a third smaller


def image_kind(tests: TestImages, index: int) -> str:
    """What the data set says of the image: `normal`, or `anomalous` and the defect type where it says more than that."""
    if not tests.labels[index]:
        return "normal"
    defect = tests.defect_types[index]
    return "anomalous" if defect.lower() in PLAIN_TYPES else f"anomalous: {defect}"


def truth_words(tests: TestImages, index: int) -> str:
    """What the ground truth of an image shows, or why it shows nothing."""
    if tests.pictures[index].mask.any():
        return "anomalous region outlined"
    if not tests.has_mask[index]:
        return "no mask"
    return "no anomalous pixel" if tests.labels[index] else "no anomaly"  # an object may be lost by the resize


def image_panel(picture: Picture, size: int) -> Image.Image:
    """The image at another size."""
    return Image.fromarray(picture.image).resize((size, size), Image.Resampling.LANCZOS)


def truth_panel(picture: Picture, size: int) -> Image.Image:
    """The image with an outline around the anomalous region, or dark grey where the mask has no pixel."""
    panel = image_panel(picture, size)
    if picture.mask.any():
        draw_lines(panel, mask_values(picture.mask, size), 0.5, OUTLINE, half=LINE_HALF)
        return panel
    return panel.convert("L").point([value // 2 for value in range(256)]).convert("RGB")


def map_panel(tests: TestImages, index: int, size: int) -> Image.Image:
    """The map in its colours, from the smallest to the largest value of its class."""
    low, high = tests.value_ranges[tests.classes[index]]
    share = (map_values(tests, index, size) - low) / (high - low) if high > low else np.zeros((size, size))
    return coloured(np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8), begin=0)


def overlay_panel(result: Result, tests: TestImages, index: int, size: int) -> Image.Image:
    """The image in grey with what lies above the pixel threshold in colours, outlined where the image is called anomalous."""
    name, grey = tests.classes[index], image_panel(tests.pictures[index], size).convert("L")
    limit = result.thresholds().get(name)
    called = limit is None or float(tests.image_scores[index]) > limit
    values, threshold = map_values(tests, index, size), result.thresholds("pixel").get(name)
    return overlay(grey, values, map_scale(result, tests, name), threshold, outlined=called, half=LINE_HALF)


def heat_layer(result: Result, tests: TestImages, index: int) -> Image.Image:
    """The colours of an overlay alone, RGBA at the map's own size, to be scaled up where they are shown."""
    layer, opacity = heat(tests.maps[index].astype(np.float32), map_scale(result, tests, tests.classes[index]))
    layer.putalpha(opacity.point(lambda value: 255 if value else 0))
    return layer


def map_scale(result: Result, tests: TestImages, class_name: str) -> Scale:
    """The map values between which the colours of the overlays of a class run."""
    return Scale.of(result.thresholds("pixel").get(class_name), *tests.value_ranges[class_name])


def outline_layer(mask: NDArray[np.bool_], size: int) -> Image.Image:
    """The outline of a mask alone, RGBA: transparent elsewhere, to be laid over image or map."""
    return line_layer(mask_values(mask, size), 0.5, OUTLINE, half=size / 180)


def mask_values(mask: NDArray[np.bool_], size: int) -> NDArray[np.float32]:
    """The mask as a soft region in [0, 1], a little larger, so that a line at 0.5 lies around it."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255).resize((size, size), Image.Resampling.BILINEAR)
    # A quarter of a pixel is enough: a thin scratch shall not vanish.
    solid = picture.point(lambda value: 255 if value >= 64 else 0)
    soft = solid.filter(ImageFilter.MaxFilter(3)).filter(ImageFilter.GaussianBlur(1.5))
    return np.asarray(soft, dtype=np.float32) / np.float32(255)


def map_values(tests: TestImages, index: int, size: int) -> NDArray[np.float32]:
    """The map of an image at another size, float32 (size, size)."""
    small = Image.fromarray(tests.maps[index].astype(np.float32))
    # Bilinear: nothing gets larger than the map, which could cross the threshold.
    return np.asarray(small.resize((size, size), Image.Resampling.BILINEAR), dtype=np.float32)


def colour_stops(count: int = 9) -> list[str]:
    """Evenly spaced colours of the overlays as `#rrggbb`, lowest first."""
    colours = np.frombuffer(palette(), dtype=np.uint8).reshape(256, 3)
    return ["#" + bytes(colours[level]).hex() for level in np.linspace(0, 255, count).round().astype(int)]


def heatmap_sheet(result: Result, tests: TestImages, positions: Sequence[int], path: Path) -> None:
    """Write a PNG with one row per test image: score, kind and name, image, ground truth, map and overlay.

    positions: of images among `tests.pictures`; those of a class one after the other.
    """
    lefts = [MARGIN + TEXT_WIDTH + column * (PANEL + GAP) for column in range(4)]
    width, top = lefts[-1] + PANEL + MARGIN, MARGIN
    words: list[tuple[int, int, str, int]] = []
    panels: list[tuple[int, int, Image.Image]] = []
    title = f"{result.marked_title}: anomaly maps of {result.label}"
    for number, rule in enumerate((title, SELECTION_RULE, MAP_RULE, COLOUR_RULE, LINE_RULE)):
        for line in textwrap.wrap(rule, 120 if number else 76):
            size = 12 if number else 18
            words.append((MARGIN, top, line, size))
            top += size + 5
    for left, name in zip(lefts, ("Image", "Ground truth", "Anomaly map", "Overlay"), strict=True):
        words.append((left, top + 20, name, 14))
    top += 20
    for name, members in groupby(positions, key=lambda index: tests.classes[index]):
        low, high = tests.value_ranges[name]
        limits = [f", threshold {limit:.4g}" for key, limit in result.thresholds("pixel").items() if key == name]
        words.append((MARGIN, top + 24, f"{name}: maps from {low:.4g} to {high:.4g}{''.join(limits)}", 14))
        top += 50
        for index in members:
            lines = [f"score {tests.image_scores[index]:.4g}", image_kind(tests, index), truth_words(tests, index)]
            lines += textwrap.wrap(tests.names[index], 32)
            words += [(MARGIN, top + 17 * number, line, 12) for number, line in enumerate(lines)]
            row = [image_panel(tests.pictures[index], PANEL), truth_panel(tests.pictures[index], PANEL)]
            row += [map_panel(tests, index, PANEL), overlay_panel(result, tests, index, PANEL)]
            panels += [(left, top, panel) for left, panel in zip(lefts, row, strict=True)]
            top += PANEL + GAP
    _write_sheet((width, top + MARGIN), words, panels, path)


def _write_sheet(
    extent: tuple[int, int],
    words: Sequence[tuple[int, int, str, int]],
    panels: Sequence[tuple[int, int, Image.Image]],
    path: Path,
) -> None:
    """Write a PNG of lines (left, top, text, size of the letters) and panels (left, top, picture)."""
    sheet = Image.new("RGB", extent, "white")
    pen = ImageDraw.Draw(sheet)
    for left, upper, line, size in words:
        pen.text((left, upper), line, "black", font(size))
    for left, upper, panel in panels:
        sheet.paste(panel, (left, upper))
    sheet.point(_ROUNDED * 3).save(path, format="PNG")


def synthetic_sheet(result: Result, path: Path) -> None:
    """Write a PNG with one row per training image of `result.synthetic`: class and name, clean image, with the anomaly, its mask."""
    lefts = [MARGIN + TEXT_WIDTH + column * (PANEL + GAP) for column in range(3)]
    words, top = [(MARGIN, MARGIN, f"{result.marked_title}: synthetic anomalies", 18)], MARGIN + 28
    for line in textwrap.wrap(f"{result.label}. {SYNTHETIC_RULE}", 104):
        words.append((MARGIN, top, line, 12))
        top += 17
    words += [(left, top + 12, name, 14) for left, name in zip(lefts, ("Clean", "With anomaly", "Mask"), strict=True)]
    panels, top = [], top + 36
    for each in result.synthetic:
        lines = [each.class_name, *textwrap.wrap(each.name, 32), f"painted: {100 * each.mask.mean():.1f} %"]
        words += [(MARGIN, top + 17 * number, line, 12) for number, line in enumerate(lines)]
        mask = Image.fromarray(each.mask).convert("RGB").resize((PANEL, PANEL), Image.Resampling.NEAREST)
        row = [image_panel(Picture(pixels, each.mask), PANEL) for pixels in (each.clean, each.corrupted)]
        panels += [(left, top, panel) for left, panel in zip(lefts, [*row, mask], strict=True)]
        top += PANEL + GAP
    _write_sheet((lefts[-1] + PANEL + MARGIN, top + MARGIN), words, panels, path)


def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it, the headings of a sheet bold: the same letters on every machine."""
    name = "DejaVuSans-Bold.ttf" if size > 12 else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
