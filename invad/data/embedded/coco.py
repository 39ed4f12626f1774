"""A generated data set laid out like COCO 2017: themed scenes with objects of the real 80 categories."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import contourpy
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from invad.data.embedded.coco_looks import SCENES, THINGS, draw_place, draw_thing
from invad.data.embedded.drawing import Canvas, Pen, Rng, image_rng, oval
from invad.files import write_text

Mask = NDArray[np.bool_]

MIN_VISIBLE_PIXELS = 24  # a smaller visible remainder of an object is not annotated
EMPTY_EVERY, EMPTY_OFFSET = 20, 3  # image 3, 23, 43, ... holds no object, so that some have no annotations
CROWD_PROBABILITY = 0.3
OBJECTS = (0.3, 0.35, 0.22, 0.13)  # shares of scenes of one, two, three and four objects
LARGE_PROBABILITY = 0.3  # of a scene of one or two things

_UNUSED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}  # of the numbers 1 to 90 of COCO 2017's categories
_LAST = {  # number of each supercategory
    **{
        "person": 1,
        "vehicle": 9,
        "outdoor": 15,
        "animal": 25,
        "accessory": 33,
        "sports": 43,
        "kitchen": 51,
        "food": 61,
    },
    **{"furniture": 70, "electronic": 77, "appliance": 82, "indoor": 90},
}
CATEGORIES: tuple[dict[str, Any], ...] = tuple(
    {"supercategory": next(one for one, last in _LAST.items() if number <= last), "id": number, "name": name}
    for number, name in zip((each for each in range(1, 91) if each not in _UNUSED), THINGS, strict=True)
)
_CATEGORY_IDS = {category["name"]: category["id"] for category in CATEGORIES}


@dataclass
class Instance:
    """One annotated object, or a crowd of one category: its visible pixels, (height, width) bool."""

    category: str
    mask: Mask
    crowd: bool = False


def generate_coco(root: Path, *, seed: int, train_images: int, test_images: int, image_size: int) -> None:
    """Write a COCO 2017 root below `root`, with images of train2017 and val2017 whose longer edge has `image_size` pixels (4:3 or 3:4).

    Some images hold no object; some annotations are crowds with uncompressed run lengths. Outlines are those of the visible part of an
    object. The same seed gives the same bytes, and more images leave the earlier ones alone.
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
    number = 139 + 60 * index + int(image_rng(seed, "coco", "id", phase, index).integers(0, 60))
    return 2 * number + (phase == "train")


def _annotations(image_id: int, instances: list[Instance]) -> Iterator[dict[str, Any]]:
    """COCO annotations; a crowd's id follows COCO's own scheme, 900100000000 + image id."""
    for number, instance in enumerate(instances):
        fixed = {"image_id": image_id, "category_id": _CATEGORY_IDS[instance.category], "iscrowd": int(instance.crowd)}
        if instance.crowd:
            rows, columns = (np.flatnonzero(instance.mask.any(axis)) for axis in (1, 0))
            bbox = [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
            segmentation = {"counts": run_lengths(instance.mask), "size": list(instance.mask.shape)}
            size = {"area": int(instance.mask.sum()), "bbox": bbox}
            yield {"segmentation": segmentation, **size, **fixed, "id": 900_100_000_000 + image_id}
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

    They run half-way between inside and outside pixels, which takes the edge off the pixel stairs. Of a mask of specks the largest is left.
    """
    lines: Any = contourpy.contour_generator(z=np.pad(mask, 1).astype(np.float64)).lines(0.5)
    polygons = []
    for polygon in (line[:-1] - 0.5 for line in lines):  # closed; holes run backwards
        arriving, leaving = polygon - np.roll(polygon, 1, axis=0), np.roll(polygon, -1, axis=0) - polygon
        polygons.append(polygon[arriving[:, 0] * leaving[:, 1] != arriving[:, 1] * leaving[:, 0]])  # where it bends
    polygons.sort(key=signed_area, reverse=True)
    return [polygon for polygon in polygons if signed_area(polygon) >= 4] or polygons[:1]


def draw_image(seed: int, phase: str, index: int, image_size: int) -> tuple[Image.Image, list[Instance]]:
    """One scene and its instances, farthest first."""
    rng = image_rng(seed, "coco", "scene", phase, index)
    edges = (image_size, round(image_size * 0.75))
    width, height = edges if rng.uniform() < 0.65 else edges[::-1]
    canvas = Canvas(rng, width, height, light_angle=rng.uniform(-2.6, -0.55))
    weights = np.asarray([float(scene[0]) for scene in SCENES])
    _, place, members, guests, probability, crowd = SCENES[rng.choice(len(SCENES), p=weights / weights.sum())]
    ground = draw_place(canvas, place)
    instances: list[Instance] = []
    if index % EMPTY_EVERY != EMPTY_OFFSET:
        if crowd and rng.uniform() < CROWD_PROBABILITY:
            _draw_crowd(canvas, crowd, ground)
            _record(instances, Instance(crowd, canvas.covered(), crowd=True))
        names = [str(name) for name in rng.choice(members.split(", "), rng.choice(4, p=OBJECTS) + 1)]
        if rng.uniform() < float(probability):
            names[-1] = str(rng.choice(guests.split(", ")))
        for category, x, baseline, scale in _arrange(rng, names, ground):
            canvas.start_coverage()
            _draw_thing(canvas, category, x, baseline, scale)
            _record(instances, Instance(category, canvas.covered()))
    picture = canvas.photograph(noise_level=0.014, exposure=1 + rng.normal(0, 0.06), vignette=0.25)
    return picture, [instance for instance in instances if instance.mask.sum() >= MIN_VISIBLE_PIXELS]


def _record(instances: list[Instance], new: Instance) -> None:
    """Add an instance that has just been drawn: it hides what lies under it."""
    for earlier in instances:
        earlier.mask = earlier.mask & ~new.mask
    instances.append(new)


def _arrange(rng: Rng, names: list[str], ground: float) -> list[tuple[str, float, float, float]]:
    """Category, x, baseline (in image sizes) and scale of the objects, farthest first."""
    count = len(names)
    places = 0.12 + 0.76 * (rng.permutation(count) + 0.5 + rng.uniform(-0.25, 0.25, count)) / count
    baselines = np.sort(rng.uniform(ground + 0.1, 0.97, count))
    scales = (0.8 + 0.5 * (baselines - ground) / (1 - ground)) * rng.uniform(0.85, 1.15, count)
    if count <= 2 and rng.uniform() < LARGE_PROBABILITY:
        scales[-1], baselines[-1] = scales[-1] * 1.4, min(0.98, baselines[-1] + 0.1)
    return list(zip(names, places.tolist(), baselines.tolist(), scales.tolist(), strict=True))


def _draw_thing(canvas: Canvas, category: str, x: float, baseline: float, scale: float) -> None:
    rng, (usual_width, usual_height, *manner) = canvas.rng, THINGS[category][0].split()
    unit = min(canvas.width, canvas.height) * scale
    width, height = (unit * float(side) * rng.uniform(0.92, 1.08) for side in (usual_width, usual_height))
    width, height = np.asarray([width, height]) * min(1.0, 1.05 * baseline * canvas.height / height)  # no heads cut off
    lying = "lying" in manner
    angle = rng.uniform(-0.5, 0.5) if lying else rng.normal(0, 0.02)
    if "wall" in manner:
        baseline = rng.uniform(0.3, 0.42)
    elif "flying" in manner:
        baseline, angle = baseline - rng.uniform(0.1, 0.35), rng.normal(0, 0.15)
    base_x, base_y = x * canvas.width, baseline * canvas.height
    if not {"wall", "flying"}.intersection(manner):
        reach = height * 0.5 if lying else max(0.03 * canvas.height, 0.07 * width)
        centre_y = base_y - height * 0.4 if lying else base_y - 0.01 * height
        shift = -canvas.light[0] * 0.05 * width
        canvas.shadow(oval(base_x + shift, centre_y + 0.05 * height, 0.52 * width, reach), 0.25 * reach, 0.5)
    pen = Pen(canvas, (base_x, base_y - height / 2), (width, height), angle=angle, flip=bool(rng.integers(0, 2)))
    draw_thing(pen, category)


def _draw_crowd(canvas: Canvas, category: str, ground: float) -> None:
    """Several small ones next to each other."""
    rng = canvas.rng
    canvas.start_coverage()
    left, count, scale = rng.uniform(0.08, 0.45), int(rng.integers(5, 9)), rng.uniform(0.4, 0.55)
    spacing = 0.8 * scale * float(THINGS[category][0].split()[0]) * min(canvas.width, canvas.height) / canvas.width
    for depth, number in zip(np.sort(rng.uniform(0.04, 0.10, count)).tolist(), rng.permutation(count), strict=True):
        _draw_thing(canvas, category, left + spacing * float(number), ground + depth, scale)
