"""What a model says of images: scores, decisions, maps, regions and overlays."""

import io
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from invad.config import AS_STORED, ReadingConfig
from invad.errors import InputError
from invad.metrics.calibration import Thresholds
from invad.predict.inputs import ImageInput, rgb_image
from invad.predict.regions import Region, find_regions, map_at_size


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

    def labelled_regions(self) -> tuple[NDArray[np.int32], list[Region]]:
        """Return the regions of the map above the pixel threshold, the highest score first, and labels int32 (height, width).

        Map and regions are at the size of the image. A label is `k + 1` in the region `k` and 0 elsewhere. Without a pixel threshold
        there are no regions. Raises `InputError` as `check`.
        """
        self.check()
        threshold = self.thresholds.pixel
        if threshold is None or float(self.anomaly_map.max()) <= threshold:  # the score may be another
            return np.zeros((self.height, self.width), np.int32), []
        return find_regions(map_at_size(self.anomaly_map, self.width, self.height), threshold)

    def regions(self) -> list[Region]:
        """Return the regions of the map above the pixel threshold, at the size of the image, the highest score first."""
        return self.labelled_regions()[1]

    def mask(self) -> NDArray[np.bool_]:
        """Return bool (height, width): True where the map lies above the pixel threshold."""
        return self.labelled_regions()[0] > 0

    def overlay(self, image: ImageInput | None = None) -> Image.Image:
        """Return the image in grey with what is anomalous in colours, RGB, the score below it; a notebook shows it.

        `image`: by default the one that was predicted, a file of which is read again.

        Raises:
            InputError: The image is not kept (as of `Predictor.stream` with images made elsewhere), or its file is gone.
        """
        from invad.predict.overlay import draw_overlay

        drawn_on = self.source if image is None else image
        if drawn_on is None:
            raise InputError("overlay: the image is not kept here; give it: overlay(image)")
        return draw_overlay(rgb_image(drawn_on, self.reading), self)

    def _repr_png_(self) -> bytes | None:
        """Return the overlay for a notebook; None, so that it shows the text, where there is no image to draw on."""
        try:
            picture = self.overlay()
        except InputError:
            return None
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        return buffer.getvalue()


class Prediction(tuple[ImagePrediction, ...]):
    """What a model says of images, one `ImagePrediction` each, in their order."""

    __slots__ = ()

    def __repr__(self) -> str:
        count = f"{len(self)} {'image' if len(self) == 1 else 'images'}"
        if not self:
            return f"<predictions of {count}>"
        decided = [anomalous for anomalous in self.anomalous if anomalous is not None]
        counted = f"{sum(decided)} anomalous, " if decided else ""
        return f"<predictions of {count}: {counted}scores {self.scores.min():.4g} to {self.scores.max():.4g}>"

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
