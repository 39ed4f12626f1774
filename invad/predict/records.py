"""What is written of each image: a line of JSON, or a row of CSV."""

import csv
import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TextIO

from invad.files import atomic_path

RecordFormat = Literal["jsonl", "csv"]
FIELDS = (
    *("image", "width", "height", "class", "score", "image_threshold", "anomalous", "pixel_threshold"),
    *("regions", "overlay", "runtime", "error"),
)
"""Of a record, in the order of JSON Lines; None stands for what is not known. A region has `box`, `area` and `score`."""

_OF_REGIONS = ("area", "largest_x", "largest_y", "largest_width", "largest_height", "largest_area")

Record = dict[str, Any]
Write = Callable[[Record], object]


def records_file(out: Path, format_: RecordFormat) -> Path:
    """Return the file of the records in the folder `out`."""
    return out / f"predictions.{format_}"


@contextmanager
def record_writer(out: Path | None, format_: RecordFormat) -> Generator[Write]:
    """Yield the function that writes a record, to a file in the folder `out` that is there at the end, whole or not at all.

    `out`: None is stdout, which gets each record at once.
    """
    if out is None:
        yield _writer(sys.stdout, format_)
        return
    with (
        atomic_path(records_file(out, format_)) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as stream,
    ):
        yield _writer(stream, format_)


def _writer(stream: TextIO, format_: RecordFormat) -> Write:
    if format_ == "jsonl":
        return lambda record: print(json.dumps(record, ensure_ascii=False, allow_nan=False), file=stream, flush=True)
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
