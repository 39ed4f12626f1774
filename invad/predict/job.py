"""Prediction of any number of image files: decoded ahead of the network and drawn behind it by threads, in the order of the inputs."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from invad.errors import InputError
from invad.features.ahead import ahead
from invad.files import atomic_path
from invad.predict.inputs import PreparedImage, prepared, rgb_image
from invad.predict.predictions import ImagePrediction, draw_overlay, overlay_picture
from invad.predict.predictor import Predictor
from invad.predict.records import FIELDS, Record, RecordFormat, record_writer
from invad.predict.sources import FoundImage, Sources

_PNG_LEVEL = 2  # four times as fast as the default, files 10 to 20 % larger


@dataclass
class Summary:
    """What came of a job: numbers of images, and what went wrong with those that failed."""

    images: int = 0
    anomalous: int = 0
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Read:
    """An image that has been read, or the reason why it has not; `picture`: what its overlay needs."""

    found: FoundImage
    error: str | None = None
    image: PreparedImage | None = None
    picture: Image.Image | None = None


@dataclass(frozen=True)
class Job:
    """Images, and what is written of them. Its steps `read` and `finish` are called by threads."""

    predictor: Predictor
    sources: Sources
    out: Path | None  # the folder that is written to; None for stdout, where there are no overlays
    format: RecordFormat = "jsonl"
    overlays: bool = True

    def run(self, batch_size: int | None = None, workers: int | None = None) -> Summary:
        """Predict all images, and write overlays and records.

        An image that cannot be read is recorded and counted, and the job goes on. At most about two batches and three images for each
        worker are in memory at a time, and of each of them the resized input and a picture of a megapixel. `batch_size`: by default as
        when the model was scored. `workers`: threads that decode and draw, which change nothing that is written. `InputError`: a batch
        does not fit in the memory of the GPU.
        """
        size = batch_size or self.predictor.batch_size
        workers = workers or min(4, len(os.sched_getaffinity(0)))
        summary = Summary()
        with (
            record_writer(self.out, self.format) as write,
            ThreadPoolExecutor(workers) as pool,
            tqdm(desc="predict", unit="image", total=len(self.sources.images), mininterval=1) as progress,
        ):
            read = ahead(pool, self._read, self.sources.images, size + workers)
            for record in ahead(pool, self._finish, self._predict(read, size), 2 * workers):
                write(record)
                summary.images += 1
                summary.anomalous += record["anomalous"] is True
                if record["error"] is not None:
                    summary.errors.append(f"{record['image']}: {record['error']}")
                progress.update()
        return summary

    def _read(self, found: FoundImage) -> _Read:
        if found.problem or found.name != str(found.path):
            return _Read(found, found.problem or "the name is not UTF-8; rename it")
        try:
            picture = rgb_image(found.path, self.predictor.config.reading)
        except InputError as error:
            return _Read(found, str(error).removeprefix(f"{found.path}: "))
        drawn = overlay_picture(picture) if self.overlays and self.out else None
        return _Read(found, None, prepared(picture, self.predictor.image_size), drawn)

    def _predict(self, images: Iterable[_Read], size: int) -> Iterator[tuple[_Read, ImagePrediction | None]]:
        remaining = iter(images)
        while batch := list(islice(remaining, size)):
            given = [read.image for read in batch if read.image is not None]
            try:
                predictions = iter(list(self.predictor.stream(given, size)))
            except torch.OutOfMemoryError:
                of = f"{len(given)} images do not fit in the memory of {self.predictor.device}"
                raise InputError(f"--batch-size: {of}; choose fewer") from None
            yield from ((read, None if read.image is None else next(predictions)) for read in batch)

    def _finish(self, predicted: tuple[_Read, ImagePrediction | None]) -> Record:
        read, prediction = predicted
        thresholds = self.predictor.thresholds
        record: Record = dict.fromkeys(FIELDS) | {"image": read.found.name, "class": self.predictor.class_name}
        record |= {"image_threshold": thresholds.image, "pixel_threshold": thresholds.pixel, "error": read.error}
        if prediction is None:
            return record
        record |= {"width": prediction.width, "height": prediction.height, "runtime": prediction.runtime}
        try:
            regions = prediction.regions()
        except InputError as error:
            return record | {"error": str(error)}
        record |= {"score": prediction.score, "anomalous": prediction.anomalous}
        if thresholds.pixel is not None:
            record["regions"] = [asdict(region) for region in regions]
        if read.picture is None or self.out is None:
            return record
        name = self.sources.overlay_name(read.found)
        try:
            with atomic_path(self.out / name) as temporary:
                draw_overlay(read.picture, prediction).save(temporary, "PNG", compress_level=_PNG_LEVEL)
        except OSError as error:
            return record | {"error": f"its overlay cannot be written ({error.strerror})"}
        return record | {"overlay": name}
