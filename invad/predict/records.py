"""What is written of each image: a line of JSON, a row of CSV, or COCO's results."""

import csv
import json
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TextIO

from invad.files import atomic_path

RecordFormat = Literal["jsonl", "csv", "coco"]
COCO_IMAGES = "images.json"  # beside predictions.json
COCO_CATEGORY = {"id": 1, "name": "anomaly"}
FIELDS = (
    *("image", "width", "height", "class", "score", "image_threshold", "anomalous", "pixel_threshold"),
    *("regions", "overlay", "error"),
)
"""Of a record, in the order of JSON Lines; None stands for what is not known. A region has `box`, `area` and `score`; for COCO also
its mask, as `segmentation`.
"""

_OF_REGIONS = ("area", "largest_x", "largest_y", "largest_width", "largest_height", "largest_area")

Record = dict[str, Any]
Write = Callable[[Record], object]


def records_file(out: Path, format_: RecordFormat) -> Path:
    """Return the file of the records in the folder `out`."""
    return out / f"predictions.{'json' if format_ == 'coco' else format_}"


@contextmanager
def record_writer(out: Path | None, format_: RecordFormat) -> Generator[Write]:
    """Yield the function that writes a record, to files in the folder `out` that are there at the end, whole or not at all.

    `out`: None is stdout, which gets each record at once; not for `coco`, which is two files.
    """
    if out is None:
        yield _writer(sys.stdout, format_)
        return
    with _text(records_file(out, format_)) as stream:
        if format_ != "coco":
            yield _writer(stream, format_)
            return
        records = list[Record]()
        with _text(out / COCO_IMAGES) as images:
            yield records.append
            _write_coco(records, stream, images)


@contextmanager
def _text(path: Path) -> Generator[TextIO]:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        yield stream


def _writer(stream: TextIO, format_: RecordFormat) -> Write:
    if format_ == "jsonl":
        return lambda record: print(_json(record), file=stream, flush=True)
    table = csv.DictWriter(stream, (*FIELDS[:9], *_OF_REGIONS, *FIELDS[9:]), lineterminator="\n")
    table.writeheader()

    def write(record: Record) -> None:
        row, regions = dict(record), record["regions"]
        if regions is not None:
            row |= {"regions": len(regions), "area": sum(region["area"] for region in regions)}
        if regions:
            largest = max(regions, key=lambda region: region["area"])
            row |= dict(zip(_OF_REGIONS[1:], (*largest["box"], largest["area"]), strict=True))
        if record["anomalous"] is not None:
            row["anomalous"] = str(record["anomalous"]).lower()
        table.writerow(row)
        stream.flush()

    return write


def _write_coco(records: Iterable[Record], results: TextIO, images: TextIO) -> None:
    """Write the list of regions, and the images and the category that it refers to; images that failed stand by themselves."""
    regions, described, failed = list[Record](), list[Record](), list[Record]()
    for record in records:
        if record["score"] is None:
            failed.append({"file_name": record["image"], "error": record["error"]})
            continue
        ids = {"image_id": len(described) + 1, "category_id": COCO_CATEGORY["id"]}
        rest = {key: value for key, value in record.items() if key not in ("image", "regions")}
        described.append({"id": ids["image_id"], "file_name": record["image"], **rest})
        for region in record["regions"] or ():
            rest = {key: value for key, value in region.items() if key != "box"}
            regions.append(ids | {"bbox": region["box"]} | rest)
    print(_json(regions), file=results)
    whole = {"images": described, "categories": [COCO_CATEGORY], "annotations": [], "failed": failed}
    print(_json(whole), file=images)


def _json(value: Any) -> str:  # noqa: ANN401  (anything that JSON can hold)
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
