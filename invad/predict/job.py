"""Prediction of any number of image files: decoded ahead of the network and drawn behind it by threads, in the order of the inputs."""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from invad.data.images import resized
from invad.errors import InputError
from invad.files import atomic_path
from invad.predict.inputs import PreparedImage, rgb_image
from invad.predict.overlay import draw_overlay, overlay_picture
from invad.predict.predictions import ImagePrediction
from invad.predict.predictor import Predictor
from invad.predict.records import Record, RecordFormat, Seconds, record_writer
from invad.predict.regions import encode_regions
from invad.predict.sources import OVERLAY_FOLDER, FoundImage, ImageSources
from invad.predict.threads import ahead, threads

ERRORS_KEPT = 20
_COUNTED = 100_000  # more images are not counted beforehand
_PNG_LEVEL = 2  # four times as fast as the default, files 10 to 20 % larger


@dataclass(frozen=True)
class Output:
    """What becomes of predictions.

    Attributes:
        out: The folder that is written to; None for stdout, where there are no overlays.
        format: Of the records.
        overlays: Whether pictures are drawn.
    """

    out: Path | None
    format: RecordFormat = "jsonl"
    overlays: bool = True

    @property
    def drawn(self) -> bool:
        """Whether overlays are written."""
        return self.overlays and self.out is not None


@dataclass
class Summary:
    """What came of a job: numbers of images, seconds, and what went wrong with the first `ERRORS_KEPT` that failed."""

    images: int = 0
    anomalous: int = 0
    failed: int = 0
    seconds: float = 0.0
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Read:
    """An image that has been read, or the reason why it has not; `picture`: what its overlay needs."""

    found: FoundImage
    image: PreparedImage | None = None
    picture: Image.Image | None = None
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class _Predicted:
    read: _Read
    prediction: ImagePrediction | None
    seconds: float


def predict_files(
    predictor: Predictor,
    sources: ImageSources,
    output: Output,
    *,
    class_name: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
) -> Summary:
    """Predict all images of `sources`, and write overlays and records.

    An image that cannot be read is recorded and counted, and the job goes on. At most about two batches and three images for each
    worker are in memory at a time, and of each of them the resized input and a picture of a megapixel.

    Args:
        predictor: The model.
        sources: The images.
        output: What is written.
        class_name: Whose thresholds the predictor has; only recorded.
        batch_size: Images that go through the network at a time; by default as when the model was scored.
        workers: Threads that decode and draw; by default one for each core, 4 at most. They change nothing that is written.

    Raises:
        InputError: The output cannot be written, or a batch does not fit in the memory of the GPU.
    """
    job = _Job(predictor, sources, output, class_name)
    size = batch_size or predictor.batch_size
    workers = workers or min(4, len(os.sched_getaffinity(0)))
    summary, started = Summary(), time.perf_counter()
    with (
        record_writer(output.out, output.format) as write,
        threads(workers) as pool,
        tqdm(desc="predict", unit="image", total=sources.count(_COUNTED), mininterval=1) as progress,
    ):
        read = ahead(pool, job.read, sources, size + workers)
        for record in ahead(pool, job.finish, job.predict(read, size), 2 * workers):
            write(record)
            _add(summary, record)
            progress.update()
    summary.seconds = time.perf_counter() - started
    return summary


class _Job:
    """The three steps of an image. `read` and `finish` are called by threads."""

    def __init__(self, predictor: Predictor, sources: ImageSources, output: Output, class_name: str | None) -> None:
        self._predictor, self._sources, self._output = predictor, sources, output
        self._empty = Record("", class_name, predictor.thresholds)

    def read(self, found: FoundImage) -> _Read:
        started = time.perf_counter()
        if found.problem:
            return _Read(found, error=found.problem)
        try:
            str(found.path).encode()
            picture = rgb_image(found.path, self._predictor.config.reading)
        except UnicodeEncodeError:
            return _Read(found, error="the name is not UTF-8; rename it")
        except InputError as error:
            return _Read(found, error=str(error).removeprefix(f"{found.path}: "))
        pixels = np.asarray(resized(picture, self._predictor.image_size))
        drawn = overlay_picture(picture) if self._output.drawn else None
        image = PreparedImage(pixels, picture.width, picture.height)
        return _Read(found, image, drawn, time.perf_counter() - started)

    def predict(self, images: Iterable[_Read], batch_size: int) -> Iterator[_Predicted]:
        remaining = iter(images)
        while batch := list(islice(remaining, batch_size)):
            started = time.perf_counter()
            prepared = [read.image for read in batch if read.image is not None]
            predictions = iter(self._batch(prepared))
            seconds = (time.perf_counter() - started) / max(1, len(prepared))
            for read in batch:
                yield _Predicted(read, None if read.image is None else next(predictions), seconds)

    def _batch(self, images: list[PreparedImage]) -> list[ImagePrediction]:
        try:
            return list(self._predictor.stream(images, len(images))) if images else []
        except torch.OutOfMemoryError:
            device = self._predictor.device
            raise InputError(
                f"--batch-size: {len(images)} images do not fit in the memory of {device}; choose fewer"
            ) from None

    def finish(self, predicted: _Predicted) -> Record:
        started = time.perf_counter()
        read, prediction = predicted.read, predicted.prediction
        record = replace(self._empty, image=str(read.found.path).encode(errors="backslashreplace").decode())
        if prediction is None:
            return replace(record, error=read.error)
        record = replace(record, width=prediction.width, height=prediction.height)
        try:
            prediction.check()
        except InputError as error:
            return replace(record, error=str(error))
        labels, regions = prediction.labelled_regions()
        overlay, error = self._write_overlay(read, prediction)
        return replace(
            record,
            score=prediction.score,
            anomalous=prediction.anomalous,
            regions=None if prediction.thresholds.pixel is None else regions,
            masks=encode_regions(labels, len(regions)) if self._output.format == "coco" else None,
            overlay=overlay,
            seconds=Seconds(
                *(round(each, 4) for each in (read.seconds, predicted.seconds, time.perf_counter() - started))
            ),
            error=error,
        )

    def _write_overlay(self, read: _Read, prediction: ImagePrediction) -> tuple[str | None, str | None]:
        """Return the name of the overlay, relative to the output folder, or why there is none; neither where none is wanted."""
        if read.picture is None or self._output.out is None:
            return None, None
        name = f"{OVERLAY_FOLDER}/{self._sources.overlay_name(read.found)}"
        try:
            with atomic_path(self._output.out / name) as temporary:
                draw_overlay(read.picture, prediction).save(temporary, "PNG", compress_level=_PNG_LEVEL)
        except OSError as error:
            return None, f"its overlay cannot be written ({error.strerror})"
        return name, None


def _add(summary: Summary, record: Record) -> None:
    summary.images += 1
    summary.anomalous += record.anomalous is True
    if record.error is not None:
        summary.failed += 1
        if len(summary.errors) < ERRORS_KEPT:
            summary.errors.append(f"{record.image}: {record.error}")
