"""New images through a trained SegAD: its detectors' maps, the statistics of their segments, the forest of the class."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from invad.errors import InputError
from invad.predict.inputs import ImageInput, prepared, rgb_image, single_images
from invad.predict.predictor import Predictor, load_predictor
from invad.supervised.model import SegADModel, read_model
from invad.supervised.segments import foreground, vad_parts
from invad.supervised.statistics import image_features
from invad.workspace import SEGAD_FILE


@dataclass(frozen=True)
class SupervisedScores:
    """Scores of images, float32 (N,): log-odds. `threshold`: that of their class, None without one."""

    scores: NDArray[np.float32]
    threshold: float | None

    @property
    def anomalous(self) -> NDArray[np.bool_]:
        """Whether each score lies above the threshold, (N,); `InputError` without one."""
        if self.threshold is None:
            raise InputError("the class has no threshold: no normal image was held out of training")
        return self.scores > self.threshold


class SupervisedPredictor:
    """A trained SegAD with its detectors, ready for images of a known class. It has no maps: those are its detectors'."""

    def __init__(self, model: SegADModel, detectors: Mapping[str, Predictor]) -> None:
        self.model, self.detectors, self.classes = model, detectors, tuple(model.classes)

    def predict(
        self, images: ImageInput | Iterable[ImageInput], class_name: str, *, label_map: NDArray[np.uint8] | None = None
    ) -> SupervisedScores:
        """Score images of one class. label_map: for `segments: folder`, that of all these images, (size, size) of the detectors' maps.

        `InputError`: an unknown class, an image that cannot be read, or no label map where one is needed.
        """
        forest = self.model.classes.get(class_name)
        if forest is None:
            raise InputError(f"class {class_name!r}: this model has {', '.join(self.classes)}")
        if (label_map is None) == (self.model.segments == "folder"):
            raise InputError("label_map: is needed where the segments came from a folder, and only there")
        given = list(single_images(images))
        maps = [[each.anomaly_map for each in detector.predict(given)] for detector in self.detectors.values()]
        features = []
        for image, *of_image in zip(given, *maps, strict=True):
            segments = self._segments(image) if label_map is None else label_map
            features.append(image_features(of_image, segments, forest.segments, maxima=self.model.maxima))
        return SupervisedScores(self.model.scores(class_name, np.array(features)), forest.threshold)

    def _segments(self, image: ImageInput) -> NDArray[np.uint8]:
        size = self.model.image_size
        if self.model.segments == "none":
            return np.zeros((size, size), np.uint8)
        if self.model.segments == "vad":
            return vad_parts(size)
        reading = next(iter(self.detectors.values())).config.reading
        return foreground(prepared(rgb_image(image, reading), size).pixels)


def load_supervised(folder: str | Path, *, device: str | None = None) -> SupervisedPredictor:
    """Load a SegAD that the stage `supervise` has trained, and the detectors beside it; `InputError`: one is missing or damaged."""
    folder = Path(folder)
    model = read_model(folder / SEGAD_FILE)
    return SupervisedPredictor(
        model, {name: load_predictor(folder.parent / name, device=device) for name in model.detectors}
    )
