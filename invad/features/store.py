"""The feature store: features of every image of a benchmark as memory-mapped Arrow shards.

A shard is an Arrow IPC file of record batches of `ROWS` images (the last one may be smaller). Column `image` names the image as the split
table does, column `level_l` holds the features (C_l, H_l, W_l) of level l, fine to coarse, and behind the levels of a ViT come their prefix
tokens, (C_l, P, 1); rows are in the order of the split table. The
schema's metadata say what the features depend on, see `FeatureKey`.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from invad.data.arrow import map_file, tensor_chunks, tensor_column
from invad.data.split_table import Phase
from invad.errors import InputError
from invad.features.ahead import read_ahead
from invad.features.source import FeatureKey, FeatureSource
from invad.files import atomic_path

ROWS = 16
SHARD_BYTES = 256 * 1024**2
_METADATA = b"invad.features"


def shard_name(phase: Phase, number: int) -> str:
    """Return the file name of shard `number` of a phase."""
    return f"{phase}-{number:05d}.arrow"


def images_per_shard(key: FeatureKey) -> int:
    """Return how many images a shard of at most about `SHARD_BYTES` holds; it depends on the features' size alone."""
    values = sum(int(np.prod(shape)) for shape in key.output.shapes)
    return max(ROWS, SHARD_BYTES // (values * np.dtype(key.dtype).itemsize) // ROWS * ROWS)


def write_shard(path: Path, key: FeatureKey, images: Sequence[str], batches: Iterable[Sequence[Tensor]]) -> None:
    """Write the features of the images of these names, whole or not at all, in the dtype of `key`.

    `batches`: for each level (b, C_l, H_l, W_l) on the CPU, fine to coarse; the lengths add up to that of `images`.
    """
    dtype = getattr(torch, key.dtype)
    metadata = {_METADATA: json.dumps(key.as_plain(), sort_keys=True).encode()}
    with atomic_path(path) as temporary:
        writer, done = None, 0
        try:
            for levels in _in_rows(batches):
                columns = {f"level_{index}": level.to(dtype).numpy() for index, level in enumerate(levels)}
                names = pa.array(images[done : done + len(levels[0])], pa.string())
                batch = pa.record_batch(
                    {"image": names} | {name: tensor_column(values) for name, values in columns.items()}
                ).replace_schema_metadata(metadata)
                writer = writer or pa.ipc.new_file(temporary, batch.schema)
                writer.write_batch(batch)
                done += batch.num_rows
        finally:
            if writer is not None:
                writer.close()


def _in_rows(batches: Iterable[Sequence[Tensor]]) -> Iterator[Sequence[Tensor]]:
    """Regroup batches to `ROWS` images (the last one may have fewer): the bytes of a shard do not depend on how it was computed."""
    rest: Sequence[Tensor] = ()
    for levels in batches:
        rest = [torch.cat(parts) for parts in zip(rest, levels, strict=True)] if rest else levels
        while len(rest[0]) >= ROWS:
            yield [level[:ROWS] for level in rest]
            rest = [level[ROWS:] for level in rest]
    if rest and len(rest[0]):
        yield rest


def is_whole_shard(path: Path, key: FeatureKey, images: Sequence[str]) -> bool:
    """Return whether `path` is a shard of these images with this key."""
    try:
        table = map_file(path)
        return _key(table) == key and table.column("image").to_pylist() == list(images)
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return False


class FeatureStore(FeatureSource):
    """Random access to the features of one phase, memory-mapped: of the shards only the rows that are asked for are read."""

    def __init__(self, folder: Path, phase: Phase) -> None:
        """Open the shards of `phase` in `folder`; `InputError` when they are missing, damaged or of several stores."""
        paths = sorted(folder.glob(f"{phase}-*.arrow"))
        if not paths:
            raise InputError(f"{folder}: no {phase} features; `dvc repro features` writes them")
        tables = [_open_shard(path) for path in paths]
        try:
            keys = {_key(table) for table in tables}
        except (TypeError, ValueError):  # no shard, or one of another version
            keys = set()
        if len(keys) != 1:
            raise InputError(f"{folder}: the {phase} shards do not belong together; run `dvc repro -f features`")
        self.key = keys.pop()
        self.images: Sequence[str] = [name for table in tables for name in table.column("image").to_pylist()]
        self._levels = [
            [chunk for table in tables for chunk in tensor_chunks(table, f"level_{level}")]
            for level in range(len(self.key.output.shapes))
        ]
        self._starts = np.cumsum([0, *(len(chunk) for chunk in self._levels[0])])

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, rows: Sequence[int] | np.ndarray) -> list[Tensor]:
        """Return the features of some rows as they are stored: for each level (len(rows), C_l, H_l, W_l), fine to coarse."""
        chunks = np.searchsorted(self._starts, rows, side="right") - 1
        within = np.asarray(rows) - self._starts[chunks]
        return [
            torch.from_numpy(np.stack([level[chunk][row] for chunk, row in zip(chunks, within, strict=True)]))
            for level in self._levels
        ]

    def batches(self, batches: Iterable[Sequence[int] | np.ndarray], device: torch.device) -> Iterator[list[Tensor]]:
        """Yield the features of each batch of rows: see `FeatureSource`."""

        def read(rows: Sequence[int] | np.ndarray) -> list[Tensor]:
            levels = self.batch(rows)
            return [level.pin_memory() if device.type == "cuda" else level.float() for level in levels]

        with read_ahead(read, batches, device) as stored:
            for levels in stored:
                yield [level.to(device, non_blocking=True).float() for level in levels]


def _open_shard(path: Path) -> pa.Table:
    try:
        return map_file(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: damaged feature shard ({error}); run `dvc repro -f features`") from None


def _key(table: pa.Table) -> FeatureKey:
    """Read what the features of a shard depend on; TypeError or ValueError when it is none of this version."""
    return FeatureKey.of_plain(json.loads((table.schema.metadata or {}).get(_METADATA, b"{}")))
