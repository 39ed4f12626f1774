"""A generated data set laid out like COCO 2017: themed scenes with objects of the real 80 categories."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import contourpy
import numpy as np
from numpy.typing import NDArray

from invad.data.embedded.coco_scenes import Instance, Mask, draw_image
from invad.data.embedded.drawing import image_rng
from invad.files import write_text

# The categories of COCO 2017, with their numbers.
_CATEGORIES = """
person: 1 person
vehicle: 2 bicycle, 3 car, 4 motorcycle, 5 airplane, 6 bus, 7 train, 8 truck, 9 boat
outdoor: 10 traffic light, 11 fire hydrant, 13 stop sign, 14 parking meter, 15 bench
animal: 16 bird, 17 cat, 18 dog, 19 horse, 20 sheep, 21 cow, 22 elephant, 23 bear, 24 zebra, 25 giraffe
accessory: 27 backpack, 28 umbrella, 31 handbag, 32 tie, 33 suitcase
sports: 34 frisbee, 35 skis, 36 snowboard, 37 sports ball, 38 kite, 39 baseball bat, 40 baseball glove, 41 skateboard, \
42 surfboard, 43 tennis racket
kitchen: 44 bottle, 46 wine glass, 47 cup, 48 fork, 49 knife, 50 spoon, 51 bowl
food: 52 banana, 53 apple, 54 sandwich, 55 orange, 56 broccoli, 57 carrot, 58 hot dog, 59 pizza, 60 donut, 61 cake
furniture: 62 chair, 63 couch, 64 potted plant, 65 bed, 67 dining table, 70 toilet
electronic: 72 tv, 73 laptop, 74 mouse, 75 remote, 76 keyboard, 77 cell phone
appliance: 78 microwave, 79 oven, 80 toaster, 81 sink, 82 refrigerator
indoor: 84 book, 85 clock, 86 vase, 87 scissors, 88 teddy bear, 89 hair drier, 90 toothbrush
"""
CATEGORIES: tuple[dict[str, Any], ...] = tuple(
    {"supercategory": supercategory, "id": int(number), "name": name}
    for supercategory, members in (line.split(": ") for line in _CATEGORIES.strip().splitlines())
    for number, name in (member.split(" ", 1) for member in members.split(", "))
)
_CATEGORY_IDS = {category["name"]: category["id"] for category in CATEGORIES}


def generate_coco(root: Path, *, seed: int, train_images: int, test_images: int, image_size: int) -> None:
    """Write a COCO 2017 root below `root`: `annotations/instances_{train,val}2017.json`, `train2017/`, `val2017/`.

    `train_images` and `test_images` count the images of train2017 and val2017; `image_size` is the longer edge in pixels
    (4:3, landscape or portrait). Some images hold no object; some annotations are crowds with uncompressed run lengths.
    Outlines are those of the visible part of an object. The same seed gives the same bytes, and more images leave the
    earlier ones alone.
    """
    for phase, subset, count in (("train", "train2017", train_images), ("val", "val2017", test_images)):
        (root / subset).mkdir(parents=True, exist_ok=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(count):
            picture, instances = draw_image(seed, phase, index, image_size)
            image_id = _image_id(seed, phase, index)
            file_name = f"{image_id:012d}.jpg"
            picture.save(root / subset / file_name, format="JPEG", quality=92)
            size = {"height": picture.height, "width": picture.width}
            images.append({"license": 1, "file_name": file_name, **size, "date_captured": "", "id": image_id})
            annotations += list(_annotations(image_id, instances))
        content = {
            "info": {"description": "Generated scenes in the layout of COCO 2017", "version": "1.0", "year": 2017},
            "licenses": [{"url": "https://www.apache.org/licenses/LICENSE-2.0", "id": 1, "name": "Apache-2.0"}],
            "images": images,
            "annotations": annotations,
            "categories": list(CATEGORIES),
        }
        write_text(root / "annotations" / f"instances_{subset}.json", json.dumps(content))


def _image_id(seed: int, phase: str, index: int) -> int:
    """Ids with gaps, increasing with the index, odd in train and even in val, so that the two never share one."""
    return 2 * (139 + 60 * index + int(image_rng(seed, "coco", "id", phase, index).integers(0, 60))) + (
        phase == "train"
    )


def _annotations(image_id: int, instances: list[Instance]) -> Iterator[dict[str, Any]]:
    """COCO annotations; a crowd's id follows COCO's own scheme, 900100000000 + image id."""
    for number, instance in enumerate(instances):
        fixed = {"image_id": image_id, "category_id": _CATEGORY_IDS[instance.category], "iscrowd": int(instance.crowd)}
        if instance.crowd:
            rows, columns = (np.flatnonzero(instance.mask.any(axis)) for axis in (1, 0))
            bbox = [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
            segmentation = {"counts": run_lengths(instance.mask), "size": list(instance.mask.shape)}
            area = int(instance.mask.sum())
            yield {"segmentation": segmentation, "area": area, "bbox": bbox, **fixed, "id": 900_100_000_000 + image_id}
            continue
        polygons = outlines(instance.mask)
        points = np.concatenate(polygons)
        low, high = points.min(0), points.max(0)
        yield {
            "segmentation": [polygon.ravel().tolist() for polygon in polygons],
            "area": sum(signed_area(polygon) for polygon in polygons),
            "bbox": [*low.tolist(), *(high - low).tolist()],
            **fixed,
            "id": image_id * 100 + number,
        }


def run_lengths(mask: Mask) -> list[int]:
    """COCO's uncompressed run lengths of a (height, width) mask: column by column, zeros first."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *counts] if flat[0] else counts


def signed_area(polygon: NDArray[np.float64]) -> float:
    """Area of a polygon (n, 2), positive when clockwise on the screen (y down)."""
    x, y = polygon[:, 0], polygon[:, 1]
    return float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) / 2)


def outlines(mask: Mask) -> list[NDArray[np.float64]]:
    """Outer outlines (n, 2) of a mask's parts as x, y in pixels, largest first; holes and specks are left out.

    They run half-way between inside and outside pixels, which takes the edge off the pixel stairs. A mask of thin lines only has no such
    part: its bounding box then stands for it.
    """
    lines: Any = contourpy.contour_generator(z=np.pad(mask, 1).astype(np.float64)).lines(
        0.5
    )  # closed; holes run backwards
    polygons = [polygon for line in lines if signed_area(polygon := _corners(line[:-1] - 0.5)) >= 4]
    if not polygons:
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        x0, x1, y0, y1 = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
        polygons.append(np.asarray([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float64))
    return sorted(polygons, key=signed_area, reverse=True)


def _corners(polygon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the points of a polygon where it bends."""
    arriving, leaving = polygon - np.roll(polygon, 1, axis=0), np.roll(polygon, -1, axis=0) - polygon
    return polygon[arriving[:, 0] * leaving[:, 1] != arriving[:, 1] * leaving[:, 0]]
