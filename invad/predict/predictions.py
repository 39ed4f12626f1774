"""What a model says of images: scores, decisions, maps, the regions above the pixel threshold, and overlays."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from invad.config import AS_STORED, ReadingConfig
from invad.errors import InputError
from invad.metrics.calibration import Thresholds
from invad.predict.inputs import ImageInput, rgb_image
from invad.scoring.overlay import Scale, overlay

MAX_PIXELS, MAX_SIDE = 1024 * 1024, 4096  # of a drawn image
MIN_SIDE = 512  # a smaller image is enlarged by a whole factor
_STRIP, _TEXT = (24, 24, 27), 15  # below it: the ground, and the size of the letters
_DECISIONS = {True: ("anomalous", (255, 138, 101)), False: ("normal", (129, 199, 132)), None: ("", (210, 210, 210))}


@dataclass(frozen=True)
class Region:
    """One 8-connected region of pixels strictly above the threshold."""

    box: tuple[int, int, int, int]  # left, top, width and height of the smallest rectangle around it, in pixels
    area: int  # in pixels
    score: float  # the highest value of the map in it


@dataclass(frozen=True)
class ImagePrediction:
    """What a model says of one image."""

    score: float  # of no fixed range, larger where more anomalous
    anomaly_map: NDArray[np.float32]  # (size, size), raw values, as large as the model's input
    width: int  # of the image in pixels
    height: int
    thresholds: Thresholds  # what score and map are compared with; each may be None
    source: ImageInput | None = field(default=None, compare=False)  # a reference to what was given, to be drawn on
    reading: ReadingConfig = AS_STORED  # how the model reads images, and so what it was given
    runtime: Literal["torch", "onnx"] = "torch"  # what computed it

    def __repr__(self) -> str:
        of, threshold = f" of {self.source}" if isinstance(self.source, str | Path) else "", self.thresholds.image
        word = "" if threshold is None else "anomalous, " if self.score > threshold else "normal, "
        at = "no threshold" if threshold is None else f"threshold {threshold:.4g}"
        return f"<prediction{of}: {word}score {self.score:.4g}, {at}; {self.width}x{self.height} pixels>"

    def check(self) -> None:
        """Raise `InputError` where the map has a value that is NaN or infinite, of which nothing can be said."""
        if not (math.isfinite(self.score) and np.isfinite(self.anomaly_map).all()):
            raise InputError(
                "the model gives it NaN or infinity as a score; the precision float32 helps where a lower one overflows"
            )

    @property
    def anomalous(self) -> bool | None:
        """Whether the score lies strictly above the image threshold; None without one. Raises `InputError` as `check`."""
        self.check()
        return None if self.thresholds.image is None else self.score > self.thresholds.image

    def regions(self) -> list[Region]:
        """Return `find_regions` of the map at the size of the image, none without a pixel threshold. Raises `InputError` as `check`."""
        self.check()
        threshold = self.thresholds.pixel
        if threshold is None or float(self.anomaly_map.max()) <= threshold:  # the score may be another
            return []
        return find_regions(map_at_size(self.anomaly_map, self.width, self.height), threshold)

    def mask(self) -> NDArray[np.bool_]:
        """Return bool (height, width): True where the map lies above the pixel threshold. Raises `InputError` as `check`."""
        self.check()
        threshold = np.inf if self.thresholds.pixel is None else self.thresholds.pixel
        return map_at_size(self.anomaly_map, self.width, self.height) > np.float64(threshold)

    def overlay(self, image: ImageInput | None = None) -> Image.Image:
        """Return the image in grey with what is anomalous in colours, RGB, the score below it; a notebook shows it.

        `image`: by default the one that was predicted, a file of which is read again; `InputError` where it is not kept, or gone.
        """
        drawn_on = self.source if image is None else image
        if drawn_on is None:
            raise InputError("overlay: the image is not kept here; give it: overlay(image)")
        return draw_overlay(rgb_image(drawn_on, self.reading), self)

    def _repr_png_(self) -> bytes | None:
        """Return the overlay for a notebook, which shows the text where there is no image to draw on."""
        return None if self.source is None else self.overlay()._repr_png_()


class Prediction(tuple[ImagePrediction, ...]):
    """What a model says of images, one `ImagePrediction` each, in their order."""

    __slots__ = ()

    def __repr__(self) -> str:
        anomalous = sum(image.anomalous is True for image in self)
        scores = f", scores {self.scores.min():.4g} to {self.scores.max():.4g}" if self else ""
        return f"<predictions of {len(self)} images: {anomalous} anomalous{scores}>"

    @property
    def scores(self) -> NDArray[np.float32]:
        """float32 (n,): the score of each image."""
        return np.array([image.score for image in self], np.float32)

    @property
    def maps(self) -> NDArray[np.float32]:
        """float32 (n, size, size): raw anomaly maps."""
        return np.stack([image.anomaly_map for image in self])

    @property
    def anomalous(self) -> list[bool | None]:
        """Whether each score lies above the image threshold; None without one."""
        return [image.anomalous for image in self]


def map_at_size(anomaly_map: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Return the map float32 (h, w) resized bilinearly to (height, width), with antialiasing where it becomes smaller."""
    if anomaly_map.shape == (height, width):
        return anomaly_map
    return np.asarray(Image.fromarray(anomaly_map).resize((width, height), Image.Resampling.BILINEAR))


def find_regions(anomaly_map: NDArray[np.float32], threshold: float) -> list[Region]:
    """Return the regions of a map (H, W) above the threshold, the highest score first."""
    above = anomaly_map > np.float64(threshold)
    labels, count = ndimage.label(above, structure=np.ones((3, 3)))
    inside = labels[above]
    areas = np.bincount(inside, minlength=count + 1)
    scores = np.full(count + 1, -np.inf, anomaly_map.dtype)
    np.maximum.at(scores, inside, anomaly_map[above])  # ndimage.maximum sorts all pixels of the image
    found = [
        Region(
            (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start), int(area), float(score)
        )
        for (rows, columns), area, score in zip(ndimage.find_objects(labels), areas[1:], scores[1:], strict=True)
    ]
    return sorted(found, key=lambda region: -region.score)


def overlay_picture(picture: Image.Image) -> Image.Image:
    """Return all that an overlay needs of an image: grey, mode L, within `MAX_PIXELS` and `MAX_SIDE`, and one side at least `MIN_SIDE`."""
    width, height = picture.size
    longest = max(width, height)
    scale = min(1.0, MAX_SIDE / longest, math.sqrt(MAX_PIXELS / (width * height)))
    if longest < MIN_SIDE:
        scale = math.ceil(MIN_SIDE / longest)
    size = max(1, int(width * scale)), max(1, int(height * scale))  # rounded down: drawn again at the same size
    return picture.convert("L").resize(size, Image.Resampling.BICUBIC)


def draw_overlay(picture: Image.Image, prediction: ImagePrediction, *, words: bool = True) -> Image.Image:
    """Return an image, or its `overlay_picture`, in grey with what lies above the pixel threshold in colours, RGB.

    Colours run from the pixel threshold to twice of it or, without one, over the values of the map. Lines stand around them, unless the
    image is normal. With `words` decision, score, threshold and the ends of the colours stand below it. `InputError` as `check`.
    """
    decision, ink = _DECISIONS[prediction.anomalous]
    grey = overlay_picture(picture)
    values = map_at_size(prediction.anomaly_map, *grey.size)
    threshold = prediction.thresholds.pixel
    scale = Scale.of(threshold, float(values.min()), float(values.max()))
    drawn = overlay(grey, values, scale, threshold, outlined=prediction.anomalous is not False)
    if not words:
        return drawn
    whole = Image.new("RGB", (drawn.width, drawn.height + 2 * _TEXT), _STRIP)
    whole.paste(drawn)
    image_threshold = prediction.thresholds.image
    at = "" if image_threshold is None else f", threshold {image_threshold:.3g}"
    text = f"{decision}   score {prediction.score:.3g}{at}   colours from {scale.low:.3g} to {scale.high:.3g}"
    place, font = (_TEXT // 2, drawn.height + _TEXT), ImageFont.load_default(_TEXT)
    ImageDraw.Draw(whole).text(place, text.strip(), ink, font, anchor="lm")
    return whole
