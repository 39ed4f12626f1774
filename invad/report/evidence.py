"""A result's test images and curves as files, for MLflow: what tables need is logged beside them as settings and metrics.

The folder has `result.json` (source, counts, cost, value ranges), `curves.json` and `test_images.parquet` (a row per test image, with the
small map, and with picture and mask where they are shown). What an older version wrote beside them is left alone.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from invad.errors import InputError
from invad.files import atomic_path, read_json, write_json, write_text
from invad.report.results import Cost, Counts, Curve, Picture, Result, TestImages

RESULT_FILE, CURVES_FILE = "result.json", "curves.json"
TEST_FILE = "test_images.parquet"
VERSION = 1
# Columns of the table of test images, the attributes of `TestImages` that they hold, and their types.
_COLUMNS = (
    ("image", "names", pa.string()),
    ("class", "classes", pa.string()),
    ("defect_type", "defect_types", pa.string()),
    ("label", "labels", pa.int8()),
    ("has_mask", "has_mask", pa.bool_()),
    ("image_score", "image_scores", pa.float32()),
)
MAX_SIDE = 1024  # pixels of a picture: no input is larger (`FeaturesConfig.image_size`)


@dataclass(frozen=True)
class Evidence:
    """What the folder holds; the attributes are those of `Result`."""

    source: str
    counts: Counts | None
    cost: Cost | None
    tests: TestImages
    curves: Mapping[str, Mapping[str, Curve]]


def write_evidence(result: Result, folder: Path) -> None:
    """Write the folder, whole or not at all; the same result gives the same bytes. `result.tests` has to be there."""
    tests = result.tests
    if tests is None:
        raise ValueError("a result without test images has no evidence")
    facts = {
        "version": VERSION,
        "source": result.source,
        "counts": result.counts and asdict(result.counts),
        "cost": result.cost and asdict(result.cost),
        "map_shape": list(tests.maps.shape[1:]),
        "value_ranges": {name: list(span) for name, span in tests.value_ranges.items()},
    }
    with atomic_path(folder) as temporary:
        temporary.mkdir(parents=True)
        write_json(temporary / RESULT_FILE, facts)
        write_text(temporary / CURVES_FILE, json.dumps(result.curves, ensure_ascii=False, allow_nan=False) + "\n")
        pq.write_table(_test_table(tests), temporary / TEST_FILE, compression="zstd")


def read_evidence(folder: Path) -> Evidence:
    """Read the folder; `InputError` names the file that is missing, damaged or of another version."""
    path = folder / RESULT_FILE
    facts = read_json(path)
    if not isinstance(facts, dict) or facts.get("version") != VERSION:
        raise InputError(f"{path}: not of version {VERSION}; written by another version of invad")
    try:
        shape = tuple(int(side) for side in facts["map_shape"])
        ranges = {name: (float(low), float(high)) for name, (low, high) in facts["value_ranges"].items()}
        tests = _test_images(folder / TEST_FILE, shape, ranges)
        return Evidence(
            source=facts["source"],
            counts=facts["counts"] and Counts(**facts["counts"]),
            cost=facts["cost"] and Cost(**facts["cost"]),
            tests=tests,
            curves=read_json(folder / CURVES_FILE),
        )
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder}: damaged ({type(error).__name__}: {error})") from None


def _test_table(tests: TestImages) -> pa.Table:
    maps = np.ascontiguousarray(tests.maps, dtype="<f2")
    pictures = [tests.pictures.get(index) for index in range(len(tests))]
    content = {
        "map": [anomaly_map.tobytes() for anomaly_map in maps],
        "picture": [item and _png(item.image) for item in pictures],
        "mask": [item and _png(item.mask) for item in pictures],
    }
    columns = {name: pa.array(getattr(tests, attribute), kind) for name, attribute, kind in _COLUMNS}
    return pa.table(columns | {name: pa.array(values, pa.binary()) for name, values in content.items()})


def _test_images(path: Path, shape: tuple[int, ...], ranges: Mapping[str, tuple[float, float]]) -> TestImages:
    table = pq.read_table(path)
    columns: dict[str, list[Any]] = table.to_pydict()
    if set(columns["class"]) - set(ranges):
        raise ValueError("a class has no value range")
    maps = np.frombuffer(b"".join(columns["map"]), dtype="<f2").astype(np.float16).reshape(table.num_rows, *shape)
    pictures = {
        index: Picture(_pixels(image, "RGB"), _pixels(mask, "1"))
        for index, (image, mask) in enumerate(zip(columns["picture"], columns["mask"], strict=True))
        if image is not None
    }
    known: dict[str, Any] = {
        attribute: columns[name] if kind == pa.string() else np.array(columns[name], dtype=kind.to_pandas_dtype())
        for name, attribute, kind in _COLUMNS
    }
    return TestImages(**known, maps=maps, value_ranges=dict(ranges), pictures=pictures)


def _png(pixels: NDArray[Any]) -> bytes:
    """An image uint8 (H, W, 3) or a mask bool (H, W) as PNG: nothing is lost, so that a report of MLflow's runs has the same pictures."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _pixels(content: bytes, mode: str) -> NDArray[Any]:
    """The pixels of a PNG of this mode; `ValueError` for anything else, and for one that is too large."""
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        if image.mode != mode or max(image.size) > MAX_SIDE:
            raise ValueError(f"a picture of mode {image.mode} and {image.width} x {image.height} pixels")
        return np.asarray(image)
