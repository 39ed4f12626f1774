"""Anomaly maps and image scores of a benchmark's test images, as Arrow files that are memory-mapped.

The folders `calibration` and `labelled` in that of the test images hold the same of the normal images held out for thresholds, and of the
images that a supervised method may see, where there are any.

`scores.parquet` has one row for each image (split table's columns, `has_mask` and `image_score`, and `group` where objects are seen in
several images); `maps-00000.arrow` and those that follow it hold, in the same order, `map` (H, W) float32, raw and unscaled, and `mask`
(H, W) uint8, 1 where anomalous at the maps' size. Which images a file holds depends on the sizes of maps and batches alone: any number
of workers writes the same files.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from invad.data.arrow import map_file, tensor_chunks, tensor_column
from invad.data.split_table import Phase, Split
from invad.errors import InputError
from invad.files import atomic_path

TABLE_FILE = "scores.parquet"
FILE_BYTES = 256 * 1024**2  # of a file of maps, or one batch where that is larger
PIXEL_BYTES = 4 + 1  # a map of float32, a mask of uint8
CALIBRATION_FOLDER = "calibration"
PHASE_FOLDERS: dict[Phase, str] = {"test": "", "calibration": CALIBRATION_FOLDER, "labelled": "labelled"}
GROUP = "group"  # a column where objects are seen in several images
COLUMNS = ("image", "class", "label", "defect_type", "has_mask", "image_score")
MapBatch = tuple[np.ndarray, np.ndarray, np.ndarray]  # maps and masks (n, H, W), image scores (n,)


@dataclass(frozen=True)
class Scores:
    """The scores of a phase of a benchmark, in the order of the split table's rows.

    `labels`: the data set's own, int8 (N,), 1 anomalous. `has_mask`: bool (N,), False for an anomalous image whose mask is not known; that
    of a normal one is known to be empty. `image_scores`: float32 (N,). `maps_nhw`, `masks_nhw`: memory-mapped batches, float32 and uint8
    (n, H, W), whose lengths add up to N; an unknown mask is all 0. `groups`: the object that each image shows, None where all stand alone.
    """

    images: list[str]
    classes: list[str]
    defect_types: list[str]
    labels: np.ndarray
    has_mask: np.ndarray
    image_scores: np.ndarray
    maps_nhw: list[np.ndarray]
    masks_nhw: list[np.ndarray]
    groups: list[str] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def scored(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (maps, scores of the images) batch by batch, in order."""
        ends = np.cumsum([len(maps) for maps in self.maps_nhw])
        yield from zip(self.maps_nhw, np.split(self.image_scores, ends[:-1]), strict=True)

    def empty_masks(self, split: Split) -> np.ndarray:
        """Return of each test image of `split`, bool (N,), whether it has a mask that counts as not known because it is empty."""
        given = {row.image for row in split.phase("test") if row.mask is not None}
        return np.array([image in given for image in self.images], dtype=bool) & ~self.has_mask

    def map_and_mask(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the map (H, W) float32 and mask (H, W) bool of one image."""
        for maps, masks in zip(self.maps_nhw, self.masks_nhw, strict=True):
            if index < len(maps):
                return maps[index], masks[index].astype(bool)
            index -= len(maps)
        raise IndexError(index)


def write_scores(table: pa.Table, batches: Iterable[MapBatch], folder: Path) -> None:
    """Write scores as `folder`: a table row for each image, and in their order (maps, masks, image scores), whole or not at all."""
    with atomic_path(folder) as temporary:
        temporary.mkdir(parents=True)
        write_table(table, write_maps(batches, temporary), temporary)


def write_maps(batches: Iterable[MapBatch], folder: Path, first: int = 0) -> np.ndarray:
    """Write maps and masks into `folder`, in files whose numbers begin with `first`; return the scores of the images, float32 (N,)."""
    image_scores: list[np.ndarray] = []
    number = file_numbers(first)
    for file, in_file in groupby(batches, key=lambda batch: number(len(batch[0]), batch[0][0].size)):
        with atomic_path(folder / f"maps-{file:05d}.arrow") as temporary:
            writer = None
            for maps, masks, scores in in_file:
                batch = pa.record_batch({"map": tensor_column(maps), "mask": tensor_column(masks.astype(np.uint8))})
                writer = writer or pa.ipc.new_file(temporary, batch.schema)
                writer.write_batch(batch)
                image_scores.append(scores)
            if writer is not None:
                writer.close()
    return np.concatenate(image_scores)


def write_table(table: pa.Table, image_scores: np.ndarray, folder: Path) -> None:
    """Write the table of scores into `folder`; `image_scores`: float32 (N,), in the order of its rows."""
    table = table.append_column("image_score", pa.array(image_scores))
    pq.write_table(table.select(_present(table)), folder / TABLE_FILE, compression="zstd")


def file_numbers(first: int = 0) -> Callable[[int, int], int]:
    """Return what says of each batch, in their order, by its number of images and their pixels, in which file it stands."""
    number, room = first - 1, 0

    def of_batch(images: int, pixels: int) -> int:
        nonlocal number, room
        if images > room:
            number, room = number + 1, FILE_BYTES // (pixels * PIXEL_BYTES)
        room -= images
        return number

    return of_batch


def _present(table: pa.Table) -> list[str]:
    return [*COLUMNS, *({GROUP} & set(table.column_names))]


def open_scores(folder: Path) -> Scores:
    """Open a benchmark's scores; `InputError` when they are missing or damaged."""
    try:
        table = pq.read_table(folder / TABLE_FILE)
        table = table.select(_present(table))
        shards = [map_file(path) for path in sorted(folder.glob("maps-*.arrow"))]
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise InputError(f"{folder}: missing or damaged scores ({error}); run `dvc repro score`") from None
    maps, masks = ([chunk for shard in shards for chunk in tensor_chunks(shard, name)] for name in ("map", "mask"))
    if sum(len(batch) for batch in maps) != table.num_rows:
        raise InputError(f"{folder}: the maps and {TABLE_FILE} differ in length; run `dvc repro -f score`")
    columns = table.to_pydict()
    return Scores(
        images=columns["image"],
        classes=columns["class"],
        defect_types=columns["defect_type"],
        labels=np.array(columns["label"], dtype=np.int8),
        has_mask=np.array(columns["has_mask"], dtype=bool),
        image_scores=table.column("image_score").to_numpy(),
        maps_nhw=maps,
        masks_nhw=masks,
        groups=columns.get(GROUP),
    )
