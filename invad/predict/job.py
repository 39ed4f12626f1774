"""Prediction of any number of image files: decoded ahead of the network and drawn behind it by threads, in the order of the inputs."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image
from tqdm import tqdm

from invad.errors import InputError
from invad.files import atomic_path
from invad.predict.inputs import PreparedImage, prepared, rgb_image
from invad.predict.overlay import draw_overlay, overlay_picture
from invad.predict.predictions import ImagePrediction
from invad.predict.predictor import Predictor
from invad.predict.records import FIELDS, Masks, Record, RecordFormat, record_writer
from invad.predict.regions import region_mask
from invad.predict.sources import OVERLAY_FOLDER, FoundImage, ImageSources

ERRORS_KEPT = 20
_PNG_LEVEL = 2  # four times as fast as the default, files 10 to 20 % larger
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Output:
    """What becomes of predictions."""

    out: Path | None  # the folder that is written to; None for stdout, where there are no overlays
    format: RecordFormat = "jsonl"
    overlays: bool = True


@dataclass
class Summary:
    """What came of a job: numbers of images, seconds, and what went wrong with the first `ERRORS_KEPT` that failed."""

    images: int = 0
    anomalous: int = 0
    failed: int = 0
    seconds: float = 0.0
    errors: list[str] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Count an image."""
        self.images += 1
        self.anomalous += record["anomalous"] is True
        if record["error"] is not None:
            self.failed += 1
            if len(self.errors) < ERRORS_KEPT:
                self.errors.append(f"{record['image']}: {record['error']}")


@dataclass(frozen=True)
class _Read:
    """An image that has been read, or the reason why it has not; `picture`: what its overlay needs."""

    found: FoundImage
    error: str | None = None
    image: PreparedImage | None = None
    picture: Image.Image | None = None


def predict_files(
    predictor: Predictor,
    sources: ImageSources,
    output: Output,
    *,
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
        batch_size: Images that go through the network at a time; by default as when the model was scored.
        workers: Threads that decode and draw; by default one for each core, 4 at most. They change nothing that is written.

    Raises:
        InputError: The output cannot be written, or a batch does not fit in the memory of the GPU.
    """
    job = _Job(predictor, sources, output)
    size = batch_size or predictor.batch_size
    workers = workers or min(4, len(os.sched_getaffinity(0)))
    summary, started = Summary(), time.perf_counter()
    with (
        record_writer(output.out, output.format) as write,
        ThreadPoolExecutor(workers) as pool,
        tqdm(desc="predict", unit="image", total=len(sources), mininterval=1) as progress,
    ):
        read = ahead(pool, job.read, sources, size + workers)
        for record, masks in ahead(pool, job.finish, job.predict(read, size), 2 * workers):
            write(record, masks)
            summary.add(record)
            progress.update()
    summary.seconds = time.perf_counter() - started
    return summary


class _Job:
    """The three steps of an image. `read` and `finish` are called by threads."""

    def __init__(self, predictor: Predictor, sources: ImageSources, output: Output) -> None:
        self._predictor, self._sources, self._output = predictor, sources, output

    def read(self, found: FoundImage) -> _Read:
        if found.problem:
            return _Read(found, found.problem)
        try:
            picture = rgb_image(found.path, self._predictor.config.reading)
        except InputError as error:
            return _Read(found, str(error).removeprefix(f"{found.path}: "))
        drawn = overlay_picture(picture) if self._output.overlays and self._output.out else None
        return _Read(found, None, prepared(picture, self._predictor.image_size), drawn)

    def predict(self, images: Iterable[_Read], batch_size: int) -> Iterator[tuple[_Read, ImagePrediction | None]]:
        remaining = iter(images)
        while batch := list(islice(remaining, batch_size)):
            given = [read.image for read in batch if read.image is not None]
            try:
                predictions = iter(list(self._predictor.stream(given, batch_size)))
            except torch.OutOfMemoryError:
                of = f"{len(given)} images do not fit in the memory of {self._predictor.device}"
                raise InputError(f"--batch-size: {of}; choose fewer") from None
            yield from ((read, None if read.image is None else next(predictions)) for read in batch)

    def finish(self, predicted: tuple[_Read, ImagePrediction | None]) -> tuple[Record, Masks]:
        read, prediction = predicted
        name, thresholds = read.found.name, self._predictor.thresholds
        record: Record = dict.fromkeys(FIELDS) | {"image": name, "class": self._predictor.class_name}
        record |= {"image_threshold": thresholds.image, "pixel_threshold": thresholds.pixel}
        if prediction is None:
            return record | {"error": read.error}, []
        record |= {"width": prediction.width, "height": prediction.height}
        try:
            labels, regions = prediction.labelled_regions()
        except InputError as error:
            return record | {"error": str(error)}, []
        record |= {"score": prediction.score, "anomalous": prediction.anomalous}
        if thresholds.pixel is not None:
            record["regions"] = [asdict(region) for region in regions]
        coco = self._output.format == "coco"
        masks = [region_mask(labels, number, region) for number, region in enumerate(regions) if coco]
        return record | self._overlay(read, prediction), masks

    def _overlay(self, read: _Read, prediction: ImagePrediction) -> Record:
        """Write the overlay; return its name, relative to the output folder, or why there is none."""
        if read.picture is None or self._output.out is None:
            return {}
        name = f"{OVERLAY_FOLDER}/{self._sources.overlay_name(read.found)}"
        try:
            with atomic_path(self._output.out / name) as temporary:
                draw_overlay(read.picture, prediction).save(temporary, "PNG", compress_level=_PNG_LEVEL)
        except OSError as error:
            return {"error": f"its overlay cannot be written ({error.strerror})"}
        return {"overlay": name}


def ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], most: int
) -> Iterator[Result]:
    """Yield `function(item)` of each item, in order; the pool works on at most `most` items beyond the one that is waited for."""
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        while pending and (len(pending) > most or pending[0].done()):
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
