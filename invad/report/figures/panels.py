"""Pictures of one test image: the image, its ground truth, its anomaly map and both laid over each other."""

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from invad.report.figures.canvas import font
from invad.report.results import Picture, TestImages

PANEL_NAMES = ("Image", "Ground truth", "Anomaly map", "Overlay")
COLOUR_RULE = (
    "Map colours run from dark (lowest) to bright (highest) between the smallest and the largest value of all test maps of the class, "
    "so that colours compare between images of a class, not between classes."
)
COLOUR_MAP = "inferno"  # perceptually uniform, readable in greyscale and with colour-blind eyes
OUTLINE = (255, 214, 10)
DIMMED = 0.5
PLAIN_TYPES = ("", "anomaly", "anomalous", "bad")  # defect types that say no more than the label


def image_kind(tests: TestImages, index: int) -> str:
    """What the data set says of the image: `normal`, or `anomalous` and the defect type where it says more than that."""
    if not tests.labels[index]:
        return "normal"
    defect = tests.defect_types[index]
    return "anomalous" if defect.lower() in PLAIN_TYPES else f"anomalous: {defect}"


def panel_pictures(tests: TestImages, index: int, size: int) -> list[Image.Image]:
    """The four panels of a test image in the order of `PANEL_NAMES`, each `size` pixels high with the image's aspect ratio.

    Raises `KeyError` when there is no picture of that image.
    """
    picture = tests.pictures[index]
    heat = scaled_map(tests, index, panel_size(picture, size))
    return [
        image_panel(picture, size),
        truth_panel(picture, size, empty_reason(tests, index)),
        heat_panel(heat),
        overlay_panel(picture, heat),
    ]


def map_picture(tests: TestImages, index: int) -> Image.Image:
    """The map in its colours at its own size (h, w), to be scaled up where it is shown."""
    return heat_panel(scale_map(tests.maps[index], tests.value_ranges[tests.classes[index]]))


def scale_map(anomaly_map: NDArray[np.floating], value_range: tuple[float, float]) -> NDArray[np.float64]:
    """The map scaled to [0, 1] by the class's (minimum, maximum), clipped; all 0 when the range is empty."""
    low, high = value_range
    if not high > low:
        return np.zeros(anomaly_map.shape)
    return np.clip((anomaly_map.astype(np.float64) - low) / (high - low), 0.0, 1.0)


def scaled_map(tests: TestImages, index: int, shape: tuple[int, int]) -> NDArray[np.float64]:
    """The map at another size, scaled to [0, 1] by the range of its class. shape: (width, height); result (height, width)."""
    small = Image.fromarray(tests.maps[index].astype(np.float32))
    resized = np.asarray(small.resize(shape, Image.Resampling.BICUBIC))
    return scale_map(resized, tests.value_ranges[tests.classes[index]])


def panel_size(picture: Picture, size: int) -> tuple[int, int]:
    """(width, height) of a panel that is `size` pixels high."""
    height, width = picture.mask.shape
    return round(size * width / height), size


def image_panel(picture: Picture, size: int) -> Image.Image:
    """The image, `size` pixels high."""
    return Image.fromarray(picture.image).resize(panel_size(picture, size), Image.Resampling.LANCZOS)


def heat_panel(heat: NDArray[np.float64]) -> Image.Image:
    """A map scaled to [0, 1], in its colours."""
    return _to_image(_colours(heat))


def overlay_panel(picture: Picture, heat: NDArray[np.float64]) -> Image.Image:
    """A map scaled to [0, 1] laid over the image in grey. heat: (h, w), the size of the panel."""
    opacity = (0.15 + 0.65 * heat)[..., None]  # calm areas keep the picture, hot ones show the map
    grey = _grey(np.asarray(image_panel(picture, len(heat)), dtype=np.float64))
    return _to_image((1 - opacity) * grey + opacity * _colours(heat))


def truth_panel(picture: Picture, size: int, empty: str) -> Image.Image:
    """The anomalous region in its colours with an outline around it, the rest grey and darker.

    empty: the words for a mask without a pixel.
    """
    image = np.asarray(image_panel(picture, size), dtype=np.float64)
    region, line, rim = _outline(picture.mask, panel_size(picture, size))
    share = _halve(region)
    pixels = _with_outline(share * image + (1 - share) * DIMMED * _grey(image), line, rim)
    panel = _to_image(pixels)
    if not picture.mask.any():
        width = font(max(13, size // 12)).getlength(empty)
        letters = font(int(max(13, size // 12) * min(1, 0.94 * panel.width / width)))
        middle = (panel.width / 2, panel.height / 2)
        ImageDraw.Draw(panel).text(middle, empty, fill="white", font=letters, anchor="mm")
    return panel


def outlined_panel(picture: Picture, size: int) -> Image.Image:
    """The image with an outline around the anomalous region."""
    _, line, rim = _outline(picture.mask, panel_size(picture, size))
    return _to_image(_with_outline(np.asarray(image_panel(picture, size), dtype=np.float64), line, rim))


def empty_reason(tests: TestImages, index: int) -> str:
    """Why a mask has no anomalous pixel."""
    if not tests.has_mask[index]:
        return "no mask"
    return "no anomalous pixel" if tests.labels[index] else "no anomaly"  # an object may be lost by the resize


def outline_picture(mask: NDArray[np.bool_], size: int) -> Image.Image:
    """The outline alone, transparent elsewhere: RGBA, `size` pixels high, to be laid over image or map."""
    height, width = mask.shape
    _, line, rim = _outline(mask, (round(size * width / height), size))
    opacity = _halve(line | rim)
    colour = np.divide(_halve(line), opacity, out=np.zeros_like(opacity), where=opacity > 0) * np.array(OUTLINE)
    return _to_image(np.concatenate([colour, 255 * opacity], axis=2))


def colour_stops(count: int = 9) -> list[str]:
    """Evenly spaced colours of the map scale as `#rrggbb`, lowest first."""
    colours = matplotlib.colormaps[COLOUR_MAP](np.linspace(0, 1, count))[:, :3]
    return ["#" + "".join(f"{round(255 * channel):02x}" for channel in colour) for colour in colours]


def _colours(heat: NDArray[np.float64]) -> NDArray[np.float64]:
    return matplotlib.colormaps[COLOUR_MAP](heat)[..., :3] * 255


def _grey(image: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.repeat((image @ [0.299, 0.587, 0.114])[..., None], 3, axis=2)


def _to_image(values: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _outline(mask: NDArray[np.bool_], shape: tuple[int, int]) -> tuple[NDArray[np.bool_], ...]:
    """The region, a line around it and a dark rim around that, at twice the size of the panel for smooth lines; (width, height) of it."""
    width, height = shape
    doubled = Image.fromarray(mask.astype(np.uint8) * 255).resize((2 * width, 2 * height), Image.Resampling.BILINEAR)
    region = np.asarray(doubled) >= 64  # a quarter of a pixel covered is enough, so that a thin scratch does not vanish
    line = _dilate(region, max(2, height // 40)) & ~region
    rim = _dilate(line, 2) & ~region & ~line  # keeps the line visible on bright ground
    return region, line, rim


def _with_outline(pixels: NDArray[np.float64], line: NDArray[np.bool_], rim: NDArray[np.bool_]) -> NDArray[np.float64]:
    return (1 - _halve(line | rim)) * pixels + _halve(line) * np.array(OUTLINE)


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
