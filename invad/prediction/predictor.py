"""The Python interface: `invad.load(folder).predict(images)`."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray

from invad.calibration import Calibration, read_calibration
from invad.config import ScoreConfig
from invad.devices import named_device
from invad.errors import InputError
from invad.metrics.calibration import Thresholds
from invad.model_folder import ModelConfig, read_config
from invad.prediction.detector import Detector, load_detector
from invad.prediction.inputs import ImageInput, PreparedImage, prepare, single_images
from invad.prediction.regions import Region, find_regions, map_at_size
from invad.workspace import CALIBRATION_FILE

NOT_CALIBRATED = Thresholds(None, None)


@dataclass(frozen=True)
class ImagePrediction:
    """What a model says of one image.

    Attributes:
        score: The maximum of the map: of no fixed range, larger where more anomalous.
        anomaly_map: float32 (size, size), raw values, as large as the model's input.
        width, height: Of the image in pixels.
        thresholds: What score and map are compared with; each may be None.
    """

    score: float
    anomaly_map: NDArray[np.float32]
    width: int
    height: int
    thresholds: Thresholds

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
        if threshold is None or self.score <= threshold:
            return np.zeros((self.height, self.width), np.int32), []
        return find_regions(map_at_size(self.anomaly_map, self.width, self.height), threshold)

    def regions(self) -> list[Region]:
        """Return the regions of the map above the pixel threshold, at the size of the image, the highest score first."""
        return self.labelled_regions()[1]

    def mask(self) -> NDArray[np.bool_]:
        """Return bool (height, width): True where the map lies above the pixel threshold."""
        return self.labelled_regions()[0] > 0


@dataclass(frozen=True)
class Prediction(Sequence[ImagePrediction]):
    """What a model says of images, one `ImagePrediction` each, in their order."""

    images: tuple[ImagePrediction, ...]

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> ImagePrediction: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[ImagePrediction, ...]: ...

    def __getitem__(self, index: int | slice) -> ImagePrediction | tuple[ImagePrediction, ...]:
        return self.images[index]

    @property
    def scores(self) -> NDArray[np.float32]:
        """float32 (n,): the maximum of each map."""
        return np.array([image.score for image in self.images], np.float32)

    @property
    def maps(self) -> NDArray[np.float32]:
        """float32 (n, size, size): raw anomaly maps."""
        return np.stack([image.anomaly_map for image in self.images])

    @property
    def anomalous(self) -> list[bool | None]:
        """Whether each score lies above the image threshold; None without one."""
        return [image.anomalous for image in self.images]


class Predictor:
    """A trained model, ready for images.

    Attributes:
        detector: The network: uint8 (B, size, size, 3) to raw maps, float32 (B, size, size).
        config: What the model was trained on and how.
        calibration: Thresholds of all classes; None where the folder has none.
        thresholds: Those that predictions are compared with.
        device: Where the network is.
    """

    def __init__(
        self, detector: Detector, config: ModelConfig, calibration: Calibration | None, thresholds: Thresholds
    ) -> None:
        self.detector, self.config, self.calibration, self.thresholds = detector, config, calibration, thresholds
        self.device = next(detector.method.parameters()).device

    @property
    def image_size(self) -> int:
        """The side in pixels of the square that images are resized to, and of the maps."""
        return self.config.features.image_size

    @property
    def batch_size(self) -> int:
        """How many images go through the network at a time."""
        return self.detector.score.batch_size

    def predict(self, images: ImageInput | Iterable[ImageInput]) -> Prediction:
        """Predict one image or many.

        Args:
            images: One, or a sequence or iterator, of paths, PIL images, arrays uint8 (H, W, 3) in RGB and tensors (3, H, W), uint8 or
                floating in [0, 1]; they may differ in size. Or an array (N, H, W, 3), or a tensor (N, 3, H, W).

        Raises:
            InputError: An image cannot be read, or is of another shape, type or range; or the model gives it no finite score.
        """
        prepared = (prepare(image, self.image_size) for image in single_images(images))
        prediction = Prediction(tuple(self.stream(prepared)))
        for number, image in enumerate(prediction):
            try:
                image.check()
            except InputError as error:
                raise InputError(f"image {number}: {error}") from None
        return prediction

    def stream(self, images: Iterable[PreparedImage], batch_size: int | None = None) -> Iterator[ImagePrediction]:
        """Yield the predictions of any number of prepared images, batch by batch; nothing of earlier batches is kept.

        What has a score that is no finite number is yielded as well, and refuses to be decided: see `ImagePrediction.check`.
        """
        remaining = iter(images)
        while batch := list(islice(remaining, batch_size or self.batch_size)):
            maps = self.maps(np.stack([image.pixels for image in batch]))
            for image, anomaly_map in zip(batch, maps, strict=True):
                score = float(anomaly_map.max())
                yield ImagePrediction(score, anomaly_map, image.width, image.height, self.thresholds)

    @torch.inference_mode()
    def maps(self, images_bhwc: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return raw maps, float32 (B, size, size), of RGB images that have the model's size, uint8 (B, size, size, 3), in one batch."""
        return self.detector(torch.from_numpy(np.ascontiguousarray(images_bhwc)).to(self.device)).cpu().numpy()


def load_predictor(
    folder: str | Path,
    *,
    class_name: str | None = None,
    device: str | None = None,
    thresholds: Thresholds = NOT_CALIBRATED,
) -> Predictor:
    """Load a model folder for prediction. No pickle is read.

    Args:
        folder: With `model.safetensors`, `config.json`, and as a rule `encoder.safetensors` and `calibration.json`.
        class_name: Whose thresholds are used; by default those of all classes together.
        device: `cpu`, `cuda`, `cuda:1`; by default a GPU where there is one.
        thresholds: Take the place of the calibrated ones where they are not None.

    Raises:
        InputError: The folder is missing, damaged or of another format, its encoder cannot be had, or class or device are unknown.
    """
    folder = Path(folder)
    config = read_config(folder)
    path = folder / CALIBRATION_FILE
    calibration = read_calibration(path) if path.exists() else None
    chosen = _calibrated(calibration, config, class_name, folder)
    chosen = Thresholds(
        chosen.image if thresholds.image is None else thresholds.image,
        chosen.pixel if thresholds.pixel is None else thresholds.pixel,
    )
    score = ScoreConfig() if calibration is None else calibration.score
    return Predictor(load_detector(folder, score, named_device(device)), config, calibration, chosen)


def _calibrated(
    calibration: Calibration | None, config: ModelConfig, class_name: str | None, folder: Path
) -> Thresholds:
    known = config.classes if calibration is None else tuple(calibration.per_class)
    if class_name is not None and class_name not in known:
        has = f"has the classes {', '.join(known)}" if known else "knows no classes"
        raise InputError(f"{folder}: {has}, not {class_name!r}")
    if calibration is None:
        return NOT_CALIBRATED
    return (calibration.all if class_name is None else calibration.per_class[class_name]).thresholds
