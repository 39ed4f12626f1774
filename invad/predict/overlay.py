"""What a model says of an image as a picture: the image in grey, in colours what is anomalous, and lines around it."""

import math

from PIL import Image, ImageDraw, ImageFont

from invad.predict.predictions import ImagePrediction
from invad.predict.regions import map_at_size
from invad.scoring.overlay import Scale, overlay

MAX_PIXELS, MAX_SIDE = 1024 * 1024, 4096  # of a drawn image
MIN_SIDE = 512  # a smaller image is enlarged by a whole factor

_STRIP, _INK = (24, 24, 27), (210, 210, 210)
_DECISIONS = {True: ("anomalous", (255, 138, 101)), False: ("normal", (129, 199, 132)), None: ("", _INK)}


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
    scale = Scale.of(threshold, float(values.min()), float(values.max()))
    drawn = overlay(grey, values, scale, threshold, outlined=prediction.anomalous is not False)
    return _with_caption(drawn, prediction, scale.low, scale.high)


def _with_caption(drawn: Image.Image, prediction: ImagePrediction, low: float, high: float) -> Image.Image:
    """Add a strip below: decision, score, threshold and the ends of the colours; of these what there is room for."""
    size = 15 if drawn.width < 2 * MIN_SIDE + 400 else 24
    font, margin = ImageFont.load_default(size), size / 2
    whole = Image.new("RGB", (drawn.width, drawn.height + 2 * size), _STRIP)
    whole.paste(drawn)
    draw, left, threshold = ImageDraw.Draw(whole), margin, prediction.thresholds.image
    numbers = f"score {prediction.score:.3g}" + ("" if threshold is None else f", threshold {threshold:.3g}")
    word, colour = _DECISIONS[prediction.anomalous]
    for text, ink in ((word, colour), (numbers, _INK), (f"colours from {low:.3g} to {high:.3g}", _INK)):
        if text and left + font.getlength(text) + margin <= drawn.width:
            draw.text((left, drawn.height + size), text, ink, font, anchor="lm")
            left += font.getlength(text) + margin
    return whole
