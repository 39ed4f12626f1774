"""Heat-map panels and sheets: image, ground truth, anomaly map and overlay of chosen test images.

Drawn with Pillow at the size they are shown at, so that no panel is resampled twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from invad.files import atomic_path

PANEL_NAMES = ("Image", "Ground truth", "Anomaly map", "Overlay")
COLOUR_RULE = (
    "Map colours run from dark (lowest) to bright (highest) between the smallest and the largest value of all test maps of the class, "
    "so that colours compare between images of a class, not between classes."
)
COLOUR_MAP = "inferno"  # perceptually uniform, readable in greyscale and with colour-blind eyes
OUTLINE = (255, 214, 10)
DIMMED = 0.5

SHEET_PANEL = 160
SHEET_TEXT_WIDTH = 190
SHEET_GAP = 8
SHEET_MARGIN = 20
INK = (27, 31, 36)
MUTED = (87, 96, 106)
_ROUNDED = [
    min(255, (value + 2) // 4 * 4) for value in range(256)
]  # 64 levels: not visible, and the file a third smaller


@dataclass(frozen=True)
class Sample:
    """One test image with its result.

    image: uint8 (H, W, 3) RGB. mask: bool (H, W), True where anomalous. anomaly_map: float32 (H, W), higher is more anomalous.
    score: image score. label: 0 normal, 1 anomalous. image_name: path inside the data set. has_mask: whether the mask is known.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    anomaly_map: NDArray[np.float32]
    score: float
    label: int
    class_name: str
    defect_type: str
    image_name: str
    has_mask: bool = True


def scale_map(anomaly_map: NDArray[np.float32], value_range: tuple[float, float]) -> NDArray[np.float64]:
    """The map scaled to [0, 1] by the class's (minimum, maximum), clipped; all 0 when the range is empty."""
    low, high = value_range
    if not high > low:
        return np.zeros(anomaly_map.shape)
    return np.clip((anomaly_map.astype(np.float64) - low) / (high - low), 0.0, 1.0)


def panels(sample: Sample, value_range: tuple[float, float], size: int) -> list[Image.Image]:
    """The four panels of a sample in the order of `PANEL_NAMES`, each `size` pixels high with the image's aspect ratio."""
    height, width = sample.mask.shape
    shape = (round(size * width / height), size)
    image = np.asarray(Image.fromarray(sample.image).resize(shape, Image.Resampling.LANCZOS), dtype=np.float64)
    resized = Image.fromarray(sample.anomaly_map.astype(np.float32)).resize(shape, Image.Resampling.BILINEAR)
    heat = scale_map(np.asarray(resized), value_range)
    colours = matplotlib.colormaps[COLOUR_MAP](heat)[..., :3] * 255
    grey = np.repeat((image @ [0.299, 0.587, 0.114])[..., None], 3, axis=2)
    opacity = (0.15 + 0.65 * heat)[..., None]  # calm areas keep the picture, hot ones show the map
    overlay = (1 - opacity) * grey + opacity * colours
    return [_to_image(image), _ground_truth(image, grey, sample), _to_image(colours), _to_image(overlay)]


def _to_image(values: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _ground_truth(image: NDArray[np.float64], grey: NDArray[np.float64], sample: Sample) -> Image.Image:
    """The anomalous region in its colours with an outline around it, the rest grey and darker. image, grey: (h, w, 3)."""
    height, width = image.shape[:2]
    # drawn at twice the size for smooth lines; a quarter of a pixel covered is enough, so that a thin scratch does not vanish
    doubled = Image.fromarray(sample.mask.astype(np.uint8) * 255).resize(
        (2 * width, 2 * height), Image.Resampling.BILINEAR
    )
    region = np.asarray(doubled) >= 64
    line = _dilate(region, 4) & ~region
    rim = _dilate(line, 2) & ~region & ~line  # a dark rim keeps the line visible on bright ground
    share = _halve(region)
    pixels = share * image + (1 - share) * DIMMED * grey
    pixels = (1 - _halve(line | rim)) * pixels + _halve(line) * np.array(OUTLINE)
    panel = _to_image(pixels)
    if not sample.mask.any():
        text = _why_empty(sample)
        ImageDraw.Draw(panel).text((width / 2, height / 2), text, fill="white", font=_font(13), anchor="mm")
    return panel


def _why_empty(sample: Sample) -> str:
    if not sample.has_mask:
        return "no mask"
    return "no anomalous pixel" if sample.label else "no anomaly"  # an object may be lost by the resize


def _halve(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The covered share of each 2 x 2 block: (2 h, 2 w) to (h, w, 1)."""
    height, width = mask.shape
    return mask.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))[..., None]


def _dilate(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """The mask grown by `steps` pixels to all sides, nearly round: four and eight neighbours by turns."""
    height, width = mask.shape
    for step in range(steps):
        padded = np.pad(mask, 1)
        shifts = [(y, x) for y in range(3) for x in range(3) if step % 2 or 1 in (y, x)]
        mask = np.logical_or.reduce([padded[y : y + height, x : x + width] for y, x in shifts])
    return mask


def colour_stops(count: int = 9) -> list[str]:
    """Evenly spaced colours of the map scale as `#rrggbb`, lowest first."""
    colours = matplotlib.colormaps[COLOUR_MAP](np.linspace(0, 1, count))[:, :3]
    return ["#" + "".join(f"{round(255 * channel):02x}" for channel in colour) for colour in colours]


def heatmap_sheet(
    samples: Sequence[Sample], path: Path, value_ranges: Mapping[str, tuple[float, float]], title: str = ""
) -> None:
    """Write a PNG with one row per sample: caption, image, ground truth, anomaly map, overlay; samples of a class stand together.

    value_ranges: class -> (minimum, maximum) over all test maps of the class; sets the map colours.
    """
    if not samples:
        raise ValueError("a heat-map sheet needs at least one sample")
    groups = [(name, list(members)) for name, members in groupby(samples, key=lambda sample: sample.class_name)]
    strips = [[panels(sample, value_ranges[name], SHEET_PANEL) for sample in members] for name, members in groups]
    panel_width = max(strip[0].width for group in strips for strip in group)
    left = SHEET_MARGIN + SHEET_TEXT_WIDTH
    width = left + 4 * panel_width + 3 * SHEET_GAP + SHEET_MARGIN
    rules = _wrap(COLOUR_RULE, _font(12), width - 2 * SHEET_MARGIN)
    head = SHEET_MARGIN + (30 if title else 0) + 17 * len(rules) + 34
    class_head, row = 34, SHEET_PANEL + SHEET_GAP
    height = head + sum(class_head + row * len(members) for _, members in groups) + SHEET_MARGIN

    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    top = SHEET_MARGIN
    if title:
        draw.text((SHEET_MARGIN, top), title, fill=INK, font=_font(18, bold=True))
        top += 30
    for line in rules:
        draw.text((SHEET_MARGIN, top), line, fill=MUTED, font=_font(12))
        top += 17
    for column, name in enumerate(PANEL_NAMES):
        draw.text((left + column * (panel_width + SHEET_GAP), top + 16), name, fill=INK, font=_font(13, bold=True))
    top += 34
    for (name, members), strips_of_class in zip(groups, strips, strict=True):
        low, high = value_ranges[name]
        draw.line((SHEET_MARGIN, top + 6, width - SHEET_MARGIN, top + 6), fill=(208, 215, 222))
        draw.text((SHEET_MARGIN, top + 12), name, fill=INK, font=_font(14, bold=True))
        draw.text((left, top + 13), f"map values {low:.4g} to {high:.4g}", fill=MUTED, font=_font(12))
        top += class_head
        for sample, strip in zip(members, strips_of_class, strict=True):
            _draw_caption(draw, sample, top)
            for column, panel in enumerate(strip):
                sheet.paste(panel.point(_ROUNDED * 3), (left + column * (panel_width + SHEET_GAP), top))
            top += row
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")


def sample_kind(sample: Sample) -> str:
    """What the data set says of the image: `normal`, or `anomalous` and the defect type where it says more than that."""
    if not sample.label:
        return "normal"
    return "anomalous" if sample.defect_type in ("", "anomaly", "anomalous") else f"anomalous: {sample.defect_type}"


def _draw_caption(draw: ImageDraw.ImageDraw, sample: Sample, top: int) -> None:
    inner = SHEET_TEXT_WIDTH - 14
    for text, size, bold, colour in (
        (f"score {sample.score:.4g}", 14, True, INK),
        (sample_kind(sample), 13, False, INK),
        (sample.image_name, 11, False, MUTED),
    ):
        font = _font(size, bold)
        for line in _wrap(text, font, inner):
            draw.text((SHEET_MARGIN, top), line, fill=colour, font=font)
            top += size + 5


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Lines no wider than `width` pixels, broken after spaces, slashes, hyphens and underscores where there are any."""
    lines = [""]
    for character in text:
        if font.getlength((lines[-1] + character).rstrip()) > width:
            at = max(lines[-1].rfind(mark) for mark in " /-_") + 1
            head, tail = (lines[-1][:at], lines[-1][at:]) if at else (lines[-1], "")
            lines[-1:] = [head, tail]
        lines[-1] += character
    return [line.strip() for line in lines]


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it: the same letters on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
