"""The Python interface: `invad.load(folder).predict(images)`."""

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from invad.config import ScoreConfig
from invad.devices import named_device
from invad.errors import InputError
from invad.files import atomic_path
from invad.metrics.calibration import NOT_CALIBRATED, Thresholds
from invad.predict.detector import Detector, load_calibration, load_detector
from invad.predict.export import RuntimeName
from invad.predict.inputs import ImageInput, PreparedImage, prepared, rgb_image, single_images
from invad.predict.predictions import ImagePrediction, Prediction
from invad.predict.runtimes import Outputs, Runtime, compare, kept_runtime
from invad.scoring.thresholds import Calibration, write_calibration
from invad.training.model_folder import ModelConfig, read_config, save_model
from invad.workspace import CALIBRATION_FILE, CONFIG_FILE

COMPARED = 8  # images, the first ones of a predictor that ONNX Runtime runs
_LOG = logging.getLogger(__name__)


class Predictor:
    """A trained model, ready for images.

    Attributes:
        config: What the model was trained on and how.
        calibration: Thresholds of all classes; None where the folder has none.
        class_name: Whose `thresholds` predictions are compared with; None for those of all classes together.
        classes: Those that have thresholds of their own.
        image_size: The side in pixels of the square that images are resized to, and of the maps.
        batch_size: How many images go through the network at a time.
        why_torch: Why ONNX Runtime does not run the model, where it might have.
    """

    why_torch = ""

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
        self.classes = config.classes if calibration is None else tuple(calibration.per_class)
        self.thresholds, self.device = self.thresholds_of(class_name), detector.method.device
        self.image_size, self.batch_size = config.features.image_size, detector.score.batch_size
        self._onnx: Runtime | None = None
        self._must, self._to_compare = False, COMPARED

    def __repr__(self) -> str:
        config, classes = self.config, self.config.classes
        names = ", ".join(classes[:5]) + (f" and {len(classes) - 5} more" if len(classes) > 5 else "")
        of = f"{config.train.model} on {config.features.encoder} at {self.image_size} pixels, {self.device}"
        values = (self.thresholds.image, self.thresholds.pixel)
        image, pixel = ("none" if value is None else f"{value:.4g}" for value in values)
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

    def predict(self, images: ImageInput | Iterable[ImageInput], *, views: int = 1) -> Prediction:
        """Predict one image or many, which may differ in size: an iterable of them, an array (N, H, W, 3), or a tensor (N, C, H, W).

        `views`: so many images in a row are of one object, in any order; for a method that sees several views at a time, such as MVAD,
        two or more. `InputError`: an image cannot be read, or is of another shape, type or range; the model gives it no finite score; or
        `views` does not fit to the method or to the number of images.
        """
        prediction = Prediction(self.stream(single_images(images), views=views))
        for number, image in enumerate(prediction):
            try:
                image.check()
            except InputError as error:
                raise InputError(f"image {number}: {error}") from None
        return prediction

    def stream(
        self, images: Iterable[ImageInput | PreparedImage], batch_size: int | None = None, views: int = 1
    ) -> Iterator[ImagePrediction]:
        """Yield the predictions of any number of images, batch by batch; nothing of earlier batches is kept.

        What has a score that is no finite number is yielded as well, and refuses to be decided: see `ImagePrediction.check`. All other
        `InputError` are as of `predict`.
        """
        model = self.config.train.model
        if (views > 1) != self.config.train.VIEWS:
            sees = "objects in several views" if self.config.train.VIEWS else "each image by itself"
            raise InputError(f"views: {model} sees {sees}; {views} is no such number of views")
        size = max((batch_size or self.batch_size) // views, 1) * views
        remaining = map(self._prepared, images)
        while batch := list(islice(remaining, size)):
            if len(batch) % views:
                raise InputError(f"images: the last object has {len(batch) % views} images, not {views} views")
            maps, scores = self.maps(np.stack([image.pixels for image in batch]), views)
            for image, anomaly_map, score in zip(batch, maps, scores, strict=True):
                of = image.width, image.height, self.thresholds, image.source, self.config.reading, self.runtime
                yield ImagePrediction(float(score), anomaly_map, *of)

    def _prepared(self, image: ImageInput | PreparedImage) -> PreparedImage:
        if isinstance(image, PreparedImage):
            return image
        return prepared(rgb_image(image, self.config.reading), self.image_size, image)

    def maps(self, images_bhwc: NDArray[np.uint8], views: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return raw maps, float32 (B, size, size), and scores, float32 (B,), of RGB images, uint8 (B, size, size, 3), in one batch."""
        if self._onnx is not None and self._to_compare > 0:
            self._compare(self._onnx, images_bhwc)
        scores, maps = self.by_torch(images_bhwc, views) if self._onnx is None else self._onnx(images_bhwc)
        return maps, scores

    @torch.inference_mode()
    def by_torch(self, images_bhwc: NDArray[np.uint8], views: int = 1) -> Outputs:
        """Return scores and maps, as `maps` does, by PyTorch."""
        images = torch.from_numpy(np.ascontiguousarray(images_bhwc)).to(self.device)
        maps, scores = self.detector(images, views)
        return scores.cpu().numpy(), maps.cpu().numpy()

    @property
    def runtime(self) -> Literal["torch", "onnx"]:
        """What computes the next batch."""
        return "torch" if self._onnx is None else "onnx"

    def use_onnx(self, folder: Path, *, must: bool) -> None:
        """Let ONNX Runtime compute, in a graph of the model folder that this is, where it gives the same within 1e-4 of the largest score.

        Otherwise PyTorch goes on, and `why_torch` says why; with `must` that is an `InputError`, or a `ModuleNotFoundError`.
        """
        from invad.predict.export.model import kept_graph, too_much_memory

        detector, self._must = self.detector, must
        settings = (detector.features, detector.score)
        if self.device.type != "cpu":
            self.why_torch = f"ONNX Runtime is for the CPU, and the device is {self.device}"
        elif self.config.train.VIEWS:
            self.why_torch = f"{self.config.train.model} sees objects in several views"
        elif any(each.precision != "float32" or each.compile for each in settings):
            self.why_torch = "the model's settings have another precision than float32, or `compile`"
        else:
            self.why_torch = too_much_memory(detector, self.config) or ""
        try:
            if self.why_torch:
                raise InputError(self.why_torch)
            self._onnx = kept_runtime(folder, self.config, detector.score, lambda: kept_graph(detector, self.by_torch))
        except (InputError, ModuleNotFoundError) as error:
            if must:
                raise error if isinstance(error, ModuleNotFoundError) else _not_onnx(str(error)) from None
            missing = isinstance(error, ModuleNotFoundError)
            self.why_torch = f"{error.name} is not installed" if missing else str(error)

    def _compare(self, onnx: Runtime, images_bhwc: NDArray[np.uint8]) -> None:
        """Compare the first images, which are no noise as those that the graph was compared on when it was made."""
        self._to_compare -= len(images_bhwc)
        difference = compare(self.by_torch, onnx, [images_bhwc], least=self.thresholds.pixel or 0.0)
        if difference.is_rounding:
            return
        if self._must:
            raise _not_onnx(f"on the first images {difference}")
        self._onnx, self.why_torch = None, f"on the first images of ONNX Runtime {difference}"
        _LOG.warning("runtime torch from here on: %s", self.why_torch)

    def save(self, folder: str | Path) -> None:
        """Write the model folder that `invad.load` reads, whole or not at all: as the stages `train` and `evaluate` do, byte for byte.

        It has the thresholds of all classes. A model folder that is there is replaced; `InputError` where there is something else.
        """
        folder = Path(folder)
        if folder.exists() and not (folder / CONFIG_FILE).is_file():
            raise InputError(f"{folder}: is there and no model folder; choose another name")
        with atomic_path(folder) as temporary:
            save_model(self.detector.method, self.config, temporary, self.detector.encoder)
            if self.calibration is not None:
                write_calibration(self.calibration, temporary / CALIBRATION_FILE)


def load_predictor(
    folder: str | Path,
    *,
    class_name: str | None = None,
    device: str | None = None,
    thresholds: Thresholds = NOT_CALIBRATED,
    runtime: RuntimeName = "torch",
) -> Predictor:
    """Load a model folder for prediction: see `invad.load`. `thresholds` take the place of the calibrated ones where they are not None.

    `runtime`: `onnx` is ONNX Runtime, on a CPU, whose graph is made the first time and kept; `auto` takes it where it can be had and
    computes the same. `InputError`: `onnx` cannot be.
    """
    folder = Path(folder)
    config, calibration = read_config(folder), load_calibration(folder)
    score = ScoreConfig() if calibration is None else calibration.score
    predictor = Predictor(
        load_detector(folder, score, named_device(device)), config, calibration, thresholds, class_name
    )
    if runtime != "torch":
        predictor.use_onnx(folder, must=runtime == "onnx")
    return predictor


def _not_onnx(reason: str) -> InputError:
    return InputError(f"runtime onnx: {reason}; runtime torch computes every model")
