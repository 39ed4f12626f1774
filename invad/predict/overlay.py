"""What a model says of an image as a picture: the image in grey, in colours what is anomalous, and lines around it."""

import math
from functools import cache

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from invad.predict.predictions import ImagePrediction
from invad.predict.regions import map_at_size

COLOUR_MAP = "inferno"  # perceptually uniform, readable in greyscale and with colour-blind eyes
MAX_PIXELS, MAX_SIDE = 1024 * 1024, 4096  # of a drawn image
MIN_SIDE = 512  # a smaller image is enlarged by a whole factor

_LINE, _RIM = (255, 255, 255), (0, 0, 0)
_STRIP, _INK = (24, 24, 27), (210, 210, 210)
_DECISIONS = {True: ("anomalous", (255, 138, 101)), False: ("normal", (129, 199, 132)), None: ("", _INK)}
_FAINT, _STRONGEST = 0.3, 0.8  # opacity of the colours: just above the threshold, and at their end
_DARKEST = 0.45  # where the colours begin in the map
_BAR = 10  # the colour scale's width by the letters' size


def overlay_size(width: int, height: int) -> tuple[int, int]:
    """Return the width and height at which an image is drawn: within `MAX_PIXELS` and `MAX_SIDE`, one side at least `MIN_SIDE`."""
    longest = max(width, height)
    scale = min(1.0, MAX_SIDE / longest, math.sqrt(MAX_PIXELS / (width * height)))
    if longest < MIN_SIDE:
        scale = math.ceil(MIN_SIDE / longest)
    return max(1, int(width * scale)), max(1, int(height * scale))  # rounded down: drawn again at the same size


def overlay_picture(picture: Image.Image) -> Image.Image:
    """Return all that an overlay needs of an image: grey, mode L, at the size at which it is drawn."""
    grey, size = picture.convert("L"), overlay_size(*picture.size)
    return grey if grey.size == size else grey.resize(size, Image.Resampling.BICUBIC)


def draw_overlay(picture: Image.Image, prediction: ImagePrediction) -> Image.Image:
    """Return an image in grey with what lies above the pixel threshold in colours; RGB, words below it.

    Colours run from the pixel threshold, below which the picture stays as it is, to twice of it, so that they compare between all
    images of a model. Lines stand around them, unless the image is normal. Without such a threshold colours run from the
    lowest to the highest value of the map.

    Args:
        picture: The image, or the `overlay_picture` of it.
        prediction: Of the same image.

    Raises:
        InputError: As `prediction.check`.
    """
    prediction.check()
    grey = overlay_picture(picture)
    values = map_at_size(prediction.anomaly_map, *grey.size)
    threshold = prediction.thresholds.pixel
    absolute = threshold is not None and threshold > 0
    low, high = (threshold, 2 * threshold) if absolute else (float(values.min()), float(values.max()))
    drawn = _with_heat(grey, values, low, high, faintest=_FAINT if absolute else 0.0)
    if threshold is not None and prediction.anomalous is not False:
        _draw_lines(drawn, values, threshold)
    return _with_caption(drawn, prediction, low, high)


@cache
def _palette() -> bytes:
    """256 colours, RGB, without the dark end of the map, which would look like the picture."""
    colours = matplotlib.colormaps[COLOUR_MAP](np.linspace(_DARKEST, 1, 256))
    return (colours[:, :3] * 255).round().astype(np.uint8).tobytes()


def _with_heat(grey: Image.Image, values: NDArray[np.float32], low: float, high: float, faintest: float) -> Image.Image:
    scale = np.float32(255 / (high - low) if high > low else 0.0)
    # Level 0 is what lies at `low` or below, and nothing else.
    levels = Image.fromarray(np.clip(np.ceil((values - np.float32(low)) * scale), 0, 255).astype(np.uint8))
    opacity = levels.point(
        [0, *(round(255 * (faintest + (_STRONGEST - faintest) * level / 255)) for level in range(1, 256))]
    )
    levels.putpalette(_palette())
    return Image.composite(levels.convert("RGB"), grey.convert("RGB"), opacity)


def _draw_lines(drawn: Image.Image, values: NDArray[np.float32], threshold: float) -> None:
    """Draw a line with a dark rim around what lies above the threshold, equally wide everywhere, also along the border of the image."""
    above = values > np.float64(threshold)
    if not above.any():
        return
    slope = np.full_like(values, 1e-30)  # flat ground is far from any line
    for axis, length in enumerate(values.shape):
        if length > 1:
            slope = np.hypot(slope, np.gradient(values, axis=axis))
    distance = np.abs(values - np.float32(threshold)) / slope  # in pixels, where the line is near
    rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]).astype(np.float32) for n in values.shape)
    np.minimum(distance, np.minimum(rows[:, None], columns), out=distance, where=above)
    half = 0.5 + min(values.shape) / 2048
    for colour, reach in ((_RIM, half + 1.5), (_LINE, half + 0.5)):
        share = np.clip(reach - distance, 0, 1) * np.float32(255)
        drawn.paste(colour, mask=Image.fromarray(share.astype(np.uint8)))


def _with_caption(drawn: Image.Image, prediction: ImagePrediction, low: float, high: float) -> Image.Image:
    """Add a strip below: decision, score and threshold at the left, the colour scale at the right; of these what there is room for."""
    size = 15 if drawn.width < 2 * MIN_SIDE + 400 else 24
    font, margin, height = ImageFont.load_default(size), size / 2, 2 * size
    whole = Image.new("RGB", (drawn.width, drawn.height + height), _STRIP)
    whole.paste(drawn)
    draw, middle, left = ImageDraw.Draw(whole), drawn.height + size, margin
    threshold = prediction.thresholds.image
    numbers = f"score {prediction.score:.3g}" + ("" if threshold is None else f", threshold {threshold:.3g}")
    word, colour = _DECISIONS[prediction.anomalous]
    for text, ink in ((word, colour), (numbers, _INK)):
        if text and left + font.getlength(text) + margin <= drawn.width:
            draw.text((left, middle), text, ink, font, anchor="lm")
            left += font.getlength(text) + margin
    scale, texts = _BAR * size, [f"{value:.3g}" for value in (low, high)]
    right = drawn.width - margin
    start = round(right - font.getlength(texts[1]) - margin - scale)
    if start - margin - font.getlength(texts[0]) < left + margin:
        return whole
    draw.text((right, middle), texts[1], _INK, font, anchor="rm")
    draw.text((start - margin, middle), texts[0], _INK, font, anchor="rm")
    bar = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (2, 1))).resize((scale, size // 2))
    bar.putpalette(_palette())
    whole.paste(bar.convert("RGB"), (start, middle - size // 4))
    return whole
