"""What is written of each image: a line of JSON, a row of CSV, or COCO's results."""

import csv
import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from invad.errors import InputError
from invad.files import atomic_path
from invad.metrics.calibration import Thresholds
from invad.predict.regions import Region, RunLengths

RecordFormat = Literal["jsonl", "csv", "coco"]
COCO_IMAGES = "images.json"  # beside predictions.json
COCO_CATEGORY = {"id": 1, "name": "anomaly"}
CSV_COLUMNS = (
    *("image", "width", "height", "class", "score", "image_threshold", "anomalous", "pixel_threshold"),
    *("regions", "area", "largest_x", "largest_y", "largest_width", "largest_height", "largest_area"),
    *("overlay", "seconds_read", "seconds_predict", "seconds_write", "error"),
)


@dataclass(frozen=True)
class Seconds:
    """How long an image took: reading, decoding and resizing it; its share of the network's batch; regions, overlay and masks."""

    read: float
    predict: float
    write: float


@dataclass(frozen=True)
class Record:
    """An image and what the model says of it; None stands for what is not known.

    Attributes:
        image: Its path, as given or found.
        width, height: In pixels.
        class_name: Whose thresholds were used; None for those of all classes together.
        score: The maximum of its map.
        thresholds: What score and map were compared with.
        anomalous: Whether the score lies above the threshold.
        regions: Above the pixel threshold, the highest score first; None without one.
        masks: Of the regions, where they were asked for.
        overlay: The file, relative to the folder of the records, with `/`.
        seconds: How long it took.
        error: Why something is missing.
    """

    image: str
    class_name: str | None
    thresholds: Thresholds
    width: int | None = None
    height: int | None = None
    score: float | None = None
    anomalous: bool | None = None
    regions: list[Region] | None = None
    masks: list[RunLengths] | None = None
    overlay: str | None = None
    seconds: Seconds | None = None
    error: str | None = None


Write = Callable[[Record], None]


def records_file(out: Path, format_: RecordFormat) -> Path:
    """Return the file of the records in the folder `out`."""
    return out / f"predictions.{'json' if format_ == 'coco' else format_}"


@contextmanager
def record_writer(out: Path | None, format_: RecordFormat) -> Generator[Write]:
    """Yield the function that writes a record, to files in the folder `out` that are there at the end, whole or not at all.

    `out`: None is stdout, which gets each record at once; not for `coco`, which is two files.

    Raises:
        InputError: A file cannot be written.
    """
    if out is None:
        yield _WRITERS[format_](sys.stdout)
        return
    try:
        with _text(records_file(out, format_)) as stream:
            if format_ != "coco":
                yield _WRITERS[format_](stream)
                return
            with _text(out / COCO_IMAGES) as images, _coco(stream, images) as write:
                yield write
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror})") from None


@contextmanager
def _text(path: Path) -> Generator[TextIO]:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        yield stream


def _jsonl(stream: TextIO) -> Write:
    return lambda record: print(_json(_fields(record)), file=stream, flush=True)


def _csv(stream: TextIO) -> Write:
    table = csv.DictWriter(stream, CSV_COLUMNS, lineterminator="\n")
    table.writeheader()

    def write(record: Record) -> None:
        fields = _fields(record)
        regions, seconds = fields.pop("regions"), fields.pop("seconds")
        row: dict[str, Any] = {"seconds_" + name: value for name, value in (seconds or {}).items()}
        if regions is not None:
            row |= {"regions": len(regions), "area": sum(region["area"] for region in regions)}
        if regions:
            largest = max(regions, key=lambda region: region["area"])
            names = ("largest_x", "largest_y", "largest_width", "largest_height")
            row |= dict(zip(names, largest["box"], strict=True)) | {"largest_area": largest["area"]}
        if record.anomalous is not None:
            row["anomalous"] = str(record.anomalous).lower()
        table.writerow({**fields, **row})
        stream.flush()

    return write


_WRITERS = {"jsonl": _jsonl, "csv": _csv}


@contextmanager
def _coco(results: TextIO, images: TextIO) -> Generator[Write]:
    """Write the list of regions, and the images and the category that it refers to; images that failed stand by themselves."""
    failed: list[dict[str, str]] = []
    results_separator, images_separator, image_id = "\n", "\n", 0

    def write(record: Record) -> None:
        nonlocal results_separator, images_separator, image_id
        fields = _fields(record)
        del fields["regions"]
        if record.score is None:
            failed.append({"file_name": record.image, "error": fields["error"]})
            return
        image_id += 1
        images.write(images_separator + _json({"id": image_id, "file_name": fields.pop("image"), **fields}))
        images_separator = ",\n"
        for region, mask in zip(record.regions or (), record.masks or (), strict=True):
            ids = {"image_id": image_id, "category_id": COCO_CATEGORY["id"]}
            result = {**ids, "bbox": region.box, "area": region.area, "score": region.score, "segmentation": mask}
            results.write(results_separator + _json(result))
            results_separator = ",\n"

    results.write("[")
    images.write('{"images": [')
    yield write
    results.write("\n]\n")
    rest = {"categories": [COCO_CATEGORY], "annotations": [], "failed": failed}
    images.write("\n],\n" + _json(rest).removeprefix("{") + "\n")


def _fields(record: Record) -> dict[str, Any]:
    """Return what JSON Lines hold of an image, in this order; everything else is made of it."""
    regions = record.regions
    return {
        "image": record.image,
        "width": record.width,
        "height": record.height,
        "class": record.class_name,
        "score": record.score,
        "image_threshold": record.thresholds.image,
        "anomalous": record.anomalous,
        "pixel_threshold": record.thresholds.pixel,
        "regions": None if regions is None else [asdict(region) for region in regions],
        "overlay": record.overlay,
        "seconds": None if record.seconds is None else asdict(record.seconds),
        "error": record.error,
    }


def _json(value: Any) -> str:  # noqa: ANN401  (anything that JSON can hold)
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
