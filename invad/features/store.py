"""The feature store: what the frozen encoder says of every image of a benchmark, as memory-mapped Arrow shards.

One shard is an Arrow IPC file of record batches of `ROWS` images (the last one of a shard may be smaller); column `level_l` holds the
features (C_l, H_l, W_l) of level l, fine to coarse, in the order of the split table. The schema's metadata say which encoder,
weights, input size and split the features belong to.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from tqdm import tqdm

from invad.config import FeaturesConfig
from invad.datasets.images import read_image
from invad.datasets.split_table import Phase, Split, SplitRow
from invad.devices import best_device, place
from invad.encoders import Encoder, build_encoder, normalize
from invad.errors import InputError
from invad.files import atomic_path

ROWS = 16
SHARD_BYTES = 256 * 1024**2
_METADATA = b"invad.features"


@dataclass(frozen=True)
class FeatureKey:
    """What features depend on; stored with every shard and compared when it is opened."""

    encoder: str
    weights_sha256: str
    image_size: int
    dtype: str
    phase: str
    split_sha256: str


def split_sha256(rows: Sequence[SplitRow]) -> str:
    """Return the SHA-256 that identifies the images of `rows` and their order."""
    return hashlib.sha256("\n".join(row.image for row in rows).encode()).hexdigest()


def extract_features(split: Split, config: FeaturesConfig, folder: Path, label: str = "features") -> Encoder:
    """Write the features of both phases to `folder`, whole or not at all, and return the encoder.

    Raises:
        InputError: An image is missing or damaged (named), or the encoder cannot be built.
    """
    encoder = build_encoder(config.encoder, config.weights)
    place(encoder, best_device())
    with atomic_path(folder) as temporary:
        temporary.mkdir(parents=True)
        for phase in ("train", "test"):
            rows = split.phase(phase)
            key = FeatureKey(
                encoder.name, encoder.weights_sha256, config.image_size, config.dtype, phase, split_sha256(rows)
            )
            batches = encode(split, rows, encoder, config.image_size, config.batch_size)
            with tqdm(total=len(rows), desc=f"{label} {phase}", unit="image", mininterval=1) as progress:
                write_shards(batches, temporary, key, progress)
    return encoder


def encode(
    split: Split, rows: Sequence[SplitRow], encoder: Encoder, image_size: int, batch_size: int
) -> Iterator[list[Tensor]]:
    """Yield the features of `rows` in order, batch by batch: for each level float32 (b, C_l, H_l, W_l) on the CPU."""
    device = next(encoder.parameters()).device
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        images = np.stack([read_image(split.image_path(row), image_size) for row in batch])
        yield [level.cpu() for level in encoder(normalize(images).to(device))]


def write_shards(batches: Iterable[list[Tensor]], folder: Path, key: FeatureKey, progress: tqdm) -> None:
    """Write batches of features as shards `<phase>-00000.arrow`, ... of at most about `SHARD_BYTES` each."""
    metadata = {_METADATA: json.dumps(asdict(key), sort_keys=True).encode()}
    writer, written, shard = None, 0, 0
    try:
        for levels in batches:
            arrays = [_tensor_array(level.numpy().astype(key.dtype)) for level in levels]
            batch = pa.record_batch(arrays, names=[f"level_{index}" for index in range(len(arrays))])
            if writer is None or written + batch.nbytes > SHARD_BYTES:
                if writer is not None:
                    writer.close()
                path = folder / f"{key.phase}-{shard:05d}.arrow"
                writer, written, shard = pa.ipc.new_file(path, batch.schema.with_metadata(metadata)), 0, shard + 1
            for start in range(0, batch.num_rows, ROWS):
                writer.write_batch(batch.slice(start, ROWS).replace_schema_metadata(metadata))
            written += batch.nbytes
            progress.update(batch.num_rows)
    finally:
        if writer is not None:
            writer.close()


class FeatureStore:
    """Random access to the features of one phase, memory-mapped: opening it reads nothing but the shards' footers.

    Attributes:
        key: What the features depend on.
        shapes: (C_l, H_l, W_l) of each level, fine to coarse.
    """

    def __init__(self, folder: Path, phase: Phase) -> None:
        paths = sorted(folder.glob(f"{phase}-*.arrow"))
        if not paths:
            raise InputError(f"{folder}: no {phase} features; `dvc repro features` writes them")
        tables = [_open_shard(path) for path in paths]
        keys = {table.schema.metadata.get(_METADATA) for table in tables}
        if len(keys) != 1 or None in keys:
            raise InputError(f"{folder}: the {phase} shards do not belong together; run `dvc repro -f features`")
        self.key = FeatureKey(**json.loads(keys.pop()))
        self._levels: list[list[np.ndarray]] = [
            [chunk.to_numpy_ndarray() for table in tables for chunk in table.column(name).chunks]
            for name in tables[0].column_names
        ]
        self._starts = np.cumsum([0, *(len(chunk) for chunk in self._levels[0])])
        self.shapes: list[tuple[int, ...]] = [arrays[0].shape[1:] for arrays in self._levels]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def batch(self, indices: Sequence[int] | np.ndarray) -> list[Tensor]:
        """Return the features of some images: for each level float32 (len(indices), C_l, H_l, W_l), fine to coarse."""
        chunks = np.searchsorted(self._starts, indices, side="right") - 1
        rows = np.asarray(indices) - self._starts[chunks]
        return [
            torch.from_numpy(np.stack([level[chunk][row] for chunk, row in zip(chunks, rows, strict=True)])).float()
            for level in self._levels
        ]


def open_features(folder: Path, phase: Phase, split: Split, config: FeaturesConfig) -> FeatureStore:
    """Open the store of `phase` and check that it was made from this split with these settings.

    Raises:
        InputError: It is missing, damaged, or belongs to other settings; the difference is named.
    """
    store = FeatureStore(folder, phase)
    rows = split.phase(phase)
    expected = {
        "encoder": config.encoder,
        "image_size": config.image_size,
        "dtype": config.dtype,
        "split_sha256": split_sha256(rows),
    }
    for name, value in expected.items():
        if getattr(store.key, name) != value:
            raise InputError(
                f"{folder}: {phase} features have {name} {getattr(store.key, name)}, expected {value}; run `dvc repro features`"
            )
    if len(store) != len(rows):
        raise InputError(f"{folder}: {len(store)} {phase} features for {len(rows)} images; run `dvc repro -f features`")
    return store


def _tensor_array(values: np.ndarray) -> pa.FixedShapeTensorArray:
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))


def _open_shard(path: Path) -> pa.Table:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: damaged feature shard ({error}); run `dvc repro -f features`") from None
