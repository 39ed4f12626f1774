"""Tensors in Arrow IPC files, written in order and memory-mapped later."""

from pathlib import Path

import numpy as np
import pyarrow as pa


def tensor_column(values: np.ndarray) -> pa.FixedShapeTensorArray:
    """Return an array (N, ...) as a column of N tensors."""
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))


def map_file(path: Path) -> pa.Table:
    """Memory-map an IPC file: nothing but its footer is read. Raises OSError or `pa.ArrowInvalid`."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def tensor_chunks(table: pa.Table, name: str) -> list[np.ndarray]:
    """Return the record batches of a column of tensors as read-only views of the mapped file."""
    return [chunk.to_numpy_ndarray() for chunk in table.column(name).chunks]
