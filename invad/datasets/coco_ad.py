"""COCO-AD: COCO 2017 as an anomaly-detection benchmark of four folds, built from the annotation files alone.

Fold k holds out the categories 20k .. 20k+19 (sorted by id) as anomalous. Train: images of train2017 that have an annotation but
no held-out one. Test: all annotated images of val2017, anomalous where any held-out category occurs (crowd regions count), and the
mask is the union of the held-out instances (paper, section 4).
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from invad.config import COCO_CATEGORIES, CocoAdSplitConfig
from invad.datasets.split_table import ANOMALOUS, NORMAL, Phase, SplitRow
from invad.errors import InputError
from invad.files import read_json

CLASS_NAME = "coco"
MASKS = "masks"


@dataclass(frozen=True)
class Annotations:
    """One `instances_*.json`: its images by id, the annotations of each image, and the category names by id."""

    path: Path
    images: Mapping[int, dict[str, Any]]
    of_image: Mapping[int, list[dict[str, Any]]]
    categories: Mapping[int, str]


def build_coco_ad(root: Path, config: CocoAdSplitConfig, out: Path) -> list[SplitRow]:
    """Return the rows of one fold and draw the masks of its anomalous test images to `out/masks/<image>.png` (1 bit, image size).

    `mask` paths are relative to `out`.

    Raises:
        InputError: An annotation file is damaged, or refers to an image or category that it does not define; or the fold has no
            normal training image.
    """
    train = _read_annotations(root / "annotations" / "instances_train2017.json")
    test = _read_annotations(root / "annotations" / "instances_val2017.json")
    held_out = held_out_categories(test.categories, config)

    def row(image: dict[str, Any], phase: Phase, defects: list[str]) -> SplitRow:
        return SplitRow(
            image=f"{phase_folder[phase]}/{image['file_name']}",
            class_name=CLASS_NAME,
            phase=phase,
            label=ANOMALOUS if defects else NORMAL,
            defect_type="+".join(defects) or "good",
            mask=f"{MASKS}/{Path(image['file_name']).stem}.png" if defects else None,
            width=image["width"],
            height=image["height"],
            dataset="coco",
        )

    phase_folder: dict[Phase, str] = {"train": "train2017", "test": "val2017"}
    rows = [
        row(image, "train", [])
        for image_id, image in sorted(train.images.items())
        if (found := train.of_image.get(image_id)) and not any(a["category_id"] in held_out for a in found)
    ]
    if not rows:
        raise InputError(
            f"{train.path}: every annotated image has a category that fold {config.fold} holds out: nothing to train on"
        )
    (out / MASKS).mkdir(parents=True, exist_ok=True)
    for image_id, image in sorted(test.images.items()):
        annotations = test.of_image.get(image_id)
        if not annotations:
            continue
        held = [a for a in annotations if a["category_id"] in held_out]
        rows.append(row(image, "test", sorted({test.categories[a["category_id"]] for a in held})))
        if rows[-1].mask is not None:
            _write_mask(union_mask(held, image["height"], image["width"], test.path), out / rows[-1].mask)
    return rows


def held_out_categories(categories: Mapping[int, str], config: CocoAdSplitConfig) -> frozenset[int]:
    """Return the category ids that a fold holds out as anomalous."""
    ids = sorted(categories)
    return frozenset(ids[config.held_out * config.fold : config.held_out * (config.fold + 1)])


def union_mask(annotations: list[dict[str, Any]], height: int, width: int, path: Path) -> np.ndarray:
    """Return the union of the instances as bool (height, width), by pycocotools' own rasteriser.

    Raises:
        InputError: A segmentation is malformed or an RLE has another size than the image; names `path` and the annotation.
    """
    union = np.zeros((height, width), dtype=bool)
    for annotation in annotations:
        segmentation = annotation["segmentation"]
        where = f"{path}: annotation {annotation.get('id')}"
        try:
            encoded = coco_mask.frPyObjects(segmentation, height, width)
        except Exception as error:  # pycocotools raises bare Exception for a wrong type
            raise InputError(f"{where}: unreadable segmentation ({error})") from None
        for rle in encoded if isinstance(encoded, list) else [encoded]:
            if tuple(rle["size"]) != (height, width):
                raise InputError(f"{where}: RLE of size {rle['size']}, but the image has {[height, width]}")
            union |= coco_mask.decode(rle).astype(bool)
    return union


def _write_mask(mask: np.ndarray, path: Path) -> None:
    Image.fromarray(mask).save(path, optimize=False)


def _read_annotations(path: Path) -> Annotations:
    value = read_json(path)
    try:
        images = {image["id"]: image for image in value["images"]}
        categories = {category["id"]: category["name"] for category in value["categories"]}
        of_image = defaultdict(list)
        for annotation in value["annotations"]:
            of_image[annotation["image_id"]].append(annotation)
            if annotation["image_id"] not in images:
                raise InputError(
                    f"{path}: annotation {annotation.get('id')} refers to the unknown image {annotation['image_id']}"
                )
            if annotation["category_id"] not in categories:
                raise InputError(
                    f"{path}: annotation {annotation.get('id')} refers to the unknown category {annotation['category_id']}"
                )
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not a COCO instance annotation file ({error!r})") from None
    if len(categories) != COCO_CATEGORIES:
        raise InputError(f"{path}: has {len(categories)} categories, COCO 2017 has {COCO_CATEGORIES}")
    return Annotations(path, images, of_image, categories)
