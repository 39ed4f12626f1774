"""Masks of regions in COCO's run-length encoding."""

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask


class RunLengths(TypedDict):
    """A mask as COCO has it: `size` [height, width], and `counts`, compressed."""

    size: list[int]
    counts: str


def encode_regions(labels: NDArray[np.int32], count: int) -> list[RunLengths]:
    """Return the mask of each region 0 ... count - 1 of the labels (H, W), in which `k + 1` stands for the region `k` and 0 for none.

    They come from the runs of the labels: no region has a mask of its own in memory.
    """
    if not count:
        return []
    height, width = labels.shape
    columns = np.flatnonzero(labels.any(axis=0))
    first = int(columns[0])
    column_major = labels[:, first : columns[-1] + 1].ravel(order="F")
    edges = np.flatnonzero(np.diff(column_major, prepend=0, append=0))
    values = column_major[edges[:-1]]  # of the runs from each edge to the next
    inside = np.flatnonzero(values)
    inside = inside[np.argsort(values[inside], kind="stable")]
    ends = (edges[inside[:, None] + [0, 1]] + first * height).ravel()
    regions = np.split(ends, 2 * np.cumsum(np.bincount(values[inside])[1:-1]))
    runs = [{"size": [height, width], "counts": _counts(each, height * width)} for each in regions]
    encoded = coco_mask.frPyObjects(runs, height, width)
    return [{"size": each["size"], "counts": each["counts"].decode("ascii")} for each in encoded]


def _counts(ends: NDArray[np.int64], pixels: int) -> NDArray[np.int64]:
    """Return the lengths of runs, outside and inside by turns and outside first, of their beginnings and ends."""
    return np.diff(ends, prepend=0, append=pixels if ends[-1] < pixels else [])
