"""The connected regions of an anomaly map above a threshold, and their masks as COCO has them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Region:
    """One 8-connected region of pixels strictly above the threshold."""

    box: tuple[
        int, int, int, int
    ]  # left, top, width and height of the smallest rectangle around it, in pixels of the image
    area: int  # in pixels
    score: float  # the highest value of the map in it


def map_at_size(anomaly_map: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Return the map float32 (h, w) resized bilinearly to (height, width), with antialiasing where it becomes smaller."""
    if anomaly_map.shape == (height, width):
        return anomaly_map
    return np.asarray(Image.fromarray(anomaly_map).resize((width, height), Image.Resampling.BILINEAR))


def find_regions(anomaly_map: NDArray[np.float32], threshold: float) -> tuple[NDArray[np.int32], list[Region]]:
    """Return the regions of a map (H, W), those of the highest score first, and labels.

    Labels are int32 (H, W): `k + 1` in the pixels of the region `k`, 0 elsewhere.
    """
    above = anomaly_map > np.float64(threshold)
    labels, count = ndimage.label(above, structure=EIGHT_CONNECTED)
    if not count:
        return labels, []
    inside = labels[above]
    areas = np.bincount(inside)[1:]
    scores = np.full(count + 1, -np.inf, anomaly_map.dtype)
    np.maximum.at(scores, inside, anomaly_map[above])  # ndimage.maximum sorts all pixels of the image
    order = np.argsort(-scores[1:], kind="stable")
    ranks = np.zeros(count + 1, labels.dtype)
    ranks[order + 1] = np.arange(1, count + 1)
    boxes = ndimage.find_objects(labels)
    labels[above] = ranks[inside]
    return labels, [Region(_box(boxes[k]), int(areas[k]), float(scores[k + 1])) for k in order]


def _box(rectangle: tuple[slice, slice]) -> tuple[int, int, int, int]:
    rows, columns = rectangle
    return columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start


def region_mask(labels: NDArray[np.int32], number: int, region: Region) -> dict[str, Any]:
    """Return the mask of the region `number` of the labels (H, W) as COCO has it: `size` [height, width], and `counts`, compressed.

    It comes from where the label begins and ends in the columns of the region's box: no mask of the whole image is in memory.
    """
    height, width = labels.shape
    left, _, columns, _ = region.box
    inside = (labels[:, left : left + columns] == number + 1).ravel(order="F")
    edges = np.flatnonzero(np.diff(inside, prepend=False, append=False)) + left * height
    counts = np.diff(edges, prepend=0, append=height * width if edges[-1] < height * width else [])
    mask = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": mask["size"], "counts": mask["counts"].decode("ascii")}
