"""The split table: one row for each image of a benchmark, stored as Parquet.

Paths in the table are relative, so the same data give the same bytes on every machine; `Split` knows the folders they start from.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from invad.config import AS_STORED, BenchmarkConfig, CalibrationConfig, ReadingConfig, dataset_kind
from invad.data.source import read_source
from invad.errors import InputError
from invad.files import atomic_path
from invad.workspace import Workspace

# Training sees neither the images of `calibration`, normal ones that thresholds are taken from, nor those of `labelled`, normal and
# anomalous ones that a supervised method may see.
Phase = Literal["train", "calibration", "labelled", "test"]
NORMAL, ANOMALOUS = 0, 1
FILE_NAME = "split.parquet"

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("image", "class", "phase")),
        ("label", pa.int8()),
        *((name, pa.string()) for name in ("defect_type", "mask")),
        *((name, pa.int32()) for name in ("width", "height")),
        ("dataset", pa.string()),
    ]
)
OF_VIEWS = ("group", "view")  # columns that a table has where an object is seen in several images


@dataclass(frozen=True)
class SplitRow:
    """One image of a benchmark.

    `image` is relative to the data set's root, `mask` to the folder that `Split.mask_path` knows; it is None for a normal image and where
    it is not known. `label` is the data set's own: 0 normal, 1 anomalous. `width` and `height` are those of the image file, in pixels.
    `group`: the object, of which the images of one class and `group` are views, named by `view`; both are empty where each image is alone.
    """

    image: str
    class_name: str
    phase: Phase
    label: int
    defect_type: str
    mask: str | None
    width: int
    height: int
    dataset: str
    group: str = ""
    view: str = ""

    @property
    def unit(self) -> str:
        """What is never divided: the object that the image is a view of, or the image where it is alone."""
        return self.group or self.image


@dataclass(frozen=True)
class Split:
    """A benchmark's rows in the table's order, the folders that its paths start from, and how its images are read."""

    rows: tuple[SplitRow, ...]
    image_root: Path
    mask_root: Path
    reading: ReadingConfig = AS_STORED

    def phase(self, phase: Phase) -> list[SplitRow]:
        """Return the rows of one phase, in the table's order."""
        return [row for row in self.rows if row.phase == phase]

    def absolute(self) -> "Split":
        """Return the same with absolute folders, for who works in another one."""
        return replace(self, image_root=self.image_root.absolute(), mask_root=self.mask_root.absolute())

    def image_path(self, row: SplitRow) -> Path:
        """Return where the image of `row` lies."""
        return self.image_root / row.image

    def mask_path(self, row: SplitRow) -> Path | None:
        """Return where the mask of `row` lies, or None for a normal image and for one whose mask is not known."""
        return None if row.mask is None else self.mask_root / row.mask


def write_split_table(rows: Iterable[SplitRow], path: Path, metadata: Mapping[str, str]) -> None:
    """Write the table, the views of an object side by side; `metadata` (benchmark, data set, digest of its files) is in its schema."""
    columns = [asdict(row) | {"class": row.class_name} for row in views_together(rows)]
    schema = SCHEMA
    if any(row["group"] for row in columns):
        schema = pa.schema([*SCHEMA, *((name, pa.string()) for name in OF_VIEWS)])
    table = pa.Table.from_pylist(columns, schema=schema.with_metadata(dict(metadata)))
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_split_table(path: Path) -> tuple[list[SplitRow], dict[str, str]]:
    """Read the rows and the metadata; `InputError` where the file is missing or not a split table."""
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such split table; `dvc repro splits` builds it") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: not a Parquet file ({error})") from None
    missing = [name for name in SCHEMA.names if name not in table.column_names]
    if missing:
        raise InputError(f"{path}: not a split table, the columns {', '.join(missing)} are missing")
    of_views = [name for name in OF_VIEWS if name in table.column_names]
    columns = table.select([*SCHEMA.names, *of_views]).rename_columns({"class": "class_name"})
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    return [SplitRow(**row) for row in columns.to_pylist()], metadata


def open_split(benchmark: BenchmarkConfig, workspace: Workspace) -> Split:
    """Open a benchmark's split table; `InputError` when it or the raw data are missing."""
    folder = workspace.split(benchmark.name)
    rows, metadata = read_split_table(folder / FILE_NAME)
    image_root = read_source(workspace.raw(benchmark.dataset)).root
    draws_masks = dataset_kind(benchmark.dataset) == "coco"
    return Split(tuple(rows), image_root, folder if draws_masks else image_root, _reading(metadata))


def reading_metadata(reading: ReadingConfig) -> dict[str, str]:
    """Return what a table's metadata say of how its images are read: nothing where that is as they are stored."""
    return {} if reading == AS_STORED else {"reading": json.dumps(asdict(reading))}


def _reading(metadata: Mapping[str, str]) -> ReadingConfig:
    return ReadingConfig(**json.loads(metadata.get("reading", "{}")))


def chosen(names: Iterable[str], count: int, key: str) -> set[str]:
    """Return `count` of different `names`: those with the lowest SHA-256 of `key` and name.

    Their order does not matter, and one more name changes at most one of the others.
    """
    return set(sorted(names, key=lambda name: hashlib.sha256(f"{key}{name}".encode()).digest())[:count])


def views_together(rows: Iterable[SplitRow]) -> list[SplitRow]:
    """Return rows with the views of each object side by side, in their order, where its first row stands; others as they are."""
    objects: dict[tuple[str, str, int], list[SplitRow]] = {}
    for number, row in enumerate(rows):
        objects.setdefault((row.class_name, row.group, -1 if row.group else number), []).append(row)
    return [row for views in objects.values() for row in sorted(views, key=lambda row: row.view)]


def view_count(rows: Iterable[SplitRow]) -> int:
    """Return in how many views, two or more, each object of `rows` is seen; 1 for no rows.

    `InputError`: an image stands alone, objects have different numbers of views, or these do not stand side by side.
    """
    objects = [(row.class_name, row.group) for row in rows]
    counts = Counter(objects)
    of_class, alone = next((one for one in counts if not one[1] or counts[one] == 1), ("", ""))
    if of_class:
        what = f"object {alone!r}, which has a single view" if alone else "images that stand alone"
        raise InputError(f"class {of_class!r}: has {what}; the method takes objects that are seen in several views")
    first = next(iter(counts), ("", ""))
    if other := next((one for one in counts if counts[one] != counts[first]), None):
        (name, one), (other_name, another) = first, other
        raise InputError(
            f"class {other_name!r}: object {another!r} has {counts[other]} views, but {one!r} of class {name!r} has {counts[first]}; "
            "the method takes objects that all have the same number of views"
        )
    if len(counts) != sum(1 for _ in groupby(objects)):
        raise InputError("split: the views of an object must stand side by side")
    return counts.get(first, 1)


def held_out_images(images: int, share: float) -> int:
    """Return how many of a class's normal training images, or objects, are held out: one or more where `share` asks for any, never all."""
    return min(max(1, round(share * images)), images - 1) if share and images else 0


def hold_out(rows: Iterable[SplitRow], config: CalibrationConfig) -> list[SplitRow]:
    """Return `rows` in their order, the phase of the images that are held out changed from `train` to `calibration`.

    Of objects seen in several views so many are held out, with all of their views, as of images otherwise; none that has an anomalous one.
    """
    rows = list(rows)
    normal, anomalous = defaultdict(set), defaultdict(set)
    for row in rows:
        if row.phase == "train":
            (normal if row.label == NORMAL else anomalous)[row.class_name].add(row.unit)
    held_out = {
        ("train", name, unit)
        for name, units in normal.items()
        for unit in chosen(units - anomalous[name], held_out_images(len(units), config.share), f"{config.seed}:")
    }
    return [
        replace(row, phase="calibration") if (row.phase, row.class_name, row.unit) in held_out else row for row in rows
    ]
