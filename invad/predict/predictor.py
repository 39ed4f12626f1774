"""The Python interface: `invad.load(folder).predict(images)`."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from invad.config import ScoreConfig
from invad.devices import named_device
from invad.errors import InputError
from invad.files import atomic_path
from invad.metrics.calibration import NOT_CALIBRATED, Thresholds
from invad.predict.detector import Detector, load_calibration, load_detector
from invad.predict.inputs import ImageInput, PreparedImage, prepare, single_images
from invad.predict.predictions import ImagePrediction, Prediction
from invad.scoring.thresholds import Calibration, write_calibration
from invad.training.model_folder import ModelConfig, read_config, save_model
from invad.workspace import CALIBRATION_FILE, CONFIG_FILE


class Predictor:
    """A trained model, ready for images.

    Attributes:
        detector: The network: uint8 (B, size, size, 3) to raw maps, float32 (B, size, size).
        config: What the model was trained on and how.
        calibration: Thresholds of all classes; None where the folder has none.
        class_name: Whose thresholds are used; None for those of all classes together.
        thresholds: Those that predictions are compared with.
        device: Where the network is.
    """

    def __init__(
        self,
        detector: Detector,
        config: ModelConfig,
        calibration: Calibration | None,
        fixed: Thresholds = NOT_CALIBRATED,
        class_name: str | None = None,
    ) -> None:
        """Put things together; `fixed` thresholds take the place of the calibrated ones. `InputError` for an unknown class."""
        self.detector, self.config, self.calibration = detector, config, calibration
        self.class_name, self._fixed = class_name, fixed
        self.thresholds, self.device = self.thresholds_of(class_name), detector.method.device

    def __repr__(self) -> str:
        config, classes = self.config, self.config.classes
        names = ", ".join(classes[:5]) + (f" and {len(classes) - 5} more" if len(classes) > 5 else "")
        of = f"{config.train.model} on {config.features.encoder} at {self.image_size} pixels, {self.device}"
        image, pixel = (_number(value) for value in (self.thresholds.image, self.thresholds.pixel))
        return f"<predictor: {of}; classes {names or 'unknown'}; thresholds: image {image}, pixel {pixel}>"

    def thresholds_of(self, class_name: str | None) -> Thresholds:
        """Return the thresholds of a class, or of all classes together; `InputError` for one that the model does not know."""
        if class_name is not None and class_name not in self.classes:
            has = f"has the classes {', '.join(self.classes)}" if self.classes else "knows no classes"
            raise InputError(f"class: the model {has}, not {class_name[:100]!r}")
        if self.calibration is None:
            return self._fixed
        held_out = self.calibration.all if class_name is None else self.calibration.per_class[class_name]
        return self._fixed.over(held_out.thresholds)

    @property
    def classes(self) -> tuple[str, ...]:
        """Those that have thresholds of their own."""
        return self.config.classes if self.calibration is None else tuple(self.calibration.per_class)

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
        prepared = (prepare(image, self.image_size, self.config.reading) for image in single_images(images))
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
            maps, scores = self.maps(np.stack([image.pixels for image in batch]))
            for image, anomaly_map, score in zip(batch, maps, scores, strict=True):
                of = image.width, image.height, self.thresholds, image.source, self.config.reading
                yield ImagePrediction(float(score), anomaly_map, *of)

    @torch.inference_mode()
    def maps(self, images_bhwc: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return raw maps, float32 (B, size, size), and scores, float32 (B,), of RGB images, uint8 (B, size, size, 3), in one batch."""
        images = torch.from_numpy(np.ascontiguousarray(images_bhwc)).to(self.device)
        maps, scores = self.detector(images)
        return maps.cpu().numpy(), scores.cpu().numpy()

    def save(self, folder: str | Path) -> None:
        """Write the model folder that `invad.load` reads, whole or not at all: as the stages `train` and `evaluate` do, byte for byte.

        It has the thresholds of all classes. A model folder that is there is replaced.

        Raises:
            InputError: There is something else, or it cannot be written.
        """
        folder = Path(folder)
        if folder.exists() and not (folder / CONFIG_FILE).is_file():
            raise InputError(f"{folder}: is there and no model folder; choose another name")
        try:
            with atomic_path(folder) as temporary:
                save_model(self.detector.method, self.config, temporary, self.detector.encoder)
                if self.calibration is not None:
                    write_calibration(self.calibration, temporary / CALIBRATION_FILE)
        except OSError as error:
            raise InputError(f"{folder}: cannot be written ({error.strerror})") from None


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
    config, calibration = read_config(folder), load_calibration(folder)
    score = ScoreConfig() if calibration is None else calibration.score
    return Predictor(load_detector(folder, score, named_device(device)), config, calibration, thresholds, class_name)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
