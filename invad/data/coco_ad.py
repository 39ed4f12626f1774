"""COCO-AD: COCO 2017 as an anomaly-detection benchmark of four folds, built from the annotation files alone.

Fold k holds out the categories 20k .. 20k+19 (sorted by id) as anomalous. Train: images of train2017 that have an annotation but
no held-out one. Test: all annotated images of val2017, anomalous where any held-out category occurs (crowd regions count), and the
mask is the union of the held-out instances (paper, section 4).
"""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from invad.config import CocoAdSplitConfig
from invad.data.coco_annotations import (
    Annotation,
    AnnotationFile,
    CocoImage,
    Instance,
    Kind,
    read_annotations,
    union_mask,
)
from invad.data.counts import PublishedDataset
from invad.data.official.store import Archive, Release
from invad.data.parallel import parallel_map
from invad.data.split_table import ANOMALOUS, NORMAL, Phase, SplitRow
from invad.errors import InputError

CLASS_NAME = "coco"
MASKS = "masks"
FOLDERS: Mapping[Phase, str] = {"train": "train2017", "test": "val2017"}

COCO_IMAGES: Mapping[Phase, int] = {"train": 118_287, "test": 5_000}
"""Images of the official annotation files."""

FULL_HELD_OUT = 20
FULL_COUNTS: Mapping[int, tuple[int, int, int]] = {
    0: (30_438, 1_291, 3_661),
    1: (65_133, 2_785, 2_167),
    2: (79_083, 3_328, 1_624),
    3: (77_580, 3_253, 1_699),
}
"""Of each fold of the official files with 20 held-out categories: normal training, normal test and anomalous test images."""


def build_coco_ad(root: Path, config: CocoAdSplitConfig, out: Path) -> list[SplitRow]:
    """Return the rows of one fold and draw the masks of its anomalous test images to `out/masks/<image>.png` (1 bit, image size).

    `mask` paths are relative to `out`. An image whose held-out segmentations have no pixel is anomalous all the same. `InputError`:
    annotations are damaged or contradict each other, or files with as many images as the official ones do not give the known counts.
    """
    train, test = read_both(root)
    rows = fold_rows(train, test, config)
    counts = Counter((row.phase, row.label) for row in rows)
    found = (counts["train", NORMAL], counts["test", NORMAL], counts["test", ANOMALOUS])
    is_whole = {"train": len(train.images), "test": len(test.images)} == COCO_IMAGES  # and no slice
    if is_whole and config.held_out == FULL_HELD_OUT and found != FULL_COUNTS[config.fold]:
        raise InputError(
            f"{train.path.parent}: fold {config.fold} has {found} images (normal to train on, normal and anomalous to test on), "
            f"COCO 2017 gives {FULL_COUNTS[config.fold]}: these are not the official annotation files"
        )
    draw_masks(test, config, out)
    return rows


def read_both(root: Path) -> tuple[AnnotationFile[Annotation], AnnotationFile[Instance]]:
    """Read the annotation files of train2017 (without segmentations) and val2017 below `root`; `InputError` as `build_coco_ad`."""
    train = read_annotations(root / "annotations" / "instances_train2017.json", Annotation)
    test = read_annotations(root / "annotations" / "instances_val2017.json", Instance)
    if train.categories != test.categories:
        raise InputError(f"{test.path}: its categories are not those of {train.path}")
    return train, test


def held_out_categories(categories: Mapping[int, str], config: CocoAdSplitConfig) -> frozenset[int]:
    """Return the category ids that a fold holds out as anomalous."""
    ids = sorted(categories)
    return frozenset(ids[config.held_out * config.fold : config.held_out * (config.fold + 1)])


def fold_rows(
    train: AnnotationFile[Annotation], test: AnnotationFile[Instance], config: CocoAdSplitConfig
) -> list[SplitRow]:
    """Return the rows of one fold: training images by id, then test images; `InputError` when there is no normal training image."""
    held_out = held_out_categories(test.categories, config)
    rows = [_row("train", image, []) for image, annotations in train.annotated() if not _held(annotations, held_out)]
    if not rows:
        raise InputError(
            f"{train.path}: every annotated image has a category that fold {config.fold} holds out: nothing to train on"
        )
    for image, annotations in test.annotated():
        names = {test.categories[annotation.category_id] for annotation in _held(annotations, held_out)}
        rows.append(_row("test", image, sorted(names)))
    return rows


def draw_masks(
    test: AnnotationFile[Instance], config: CocoAdSplitConfig, out: Path, *, workers: int | None = None
) -> None:
    """Draw the mask of each anomalous test image below `out`, the same bytes with any number of processes; `InputError` as `union_mask`."""
    held_out = held_out_categories(test.categories, config)
    anomalous = [(image, held) for image, annotations in test.annotated() if (held := _held(annotations, held_out))]
    (out / MASKS).mkdir(parents=True, exist_ok=True)
    for _ in parallel_map(partial(_draw_mask, test.path, out), anomalous, "masks", unit="mask", workers=workers):
        pass


def _held(annotations: Sequence[Kind], held_out: frozenset[int]) -> list[Kind]:
    return [annotation for annotation in annotations if annotation.category_id in held_out]


def _row(phase: Phase, image: CocoImage, defects: list[str]) -> SplitRow:
    return SplitRow(
        image=f"{FOLDERS[phase]}/{image.file_name}",
        class_name=CLASS_NAME,
        phase=phase,
        label=ANOMALOUS if defects else NORMAL,
        defect_type="+".join(defects) or "good",
        mask=f"{MASKS}/{image.stem}.png" if defects else None,
        width=image.width,
        height=image.height,
        dataset="coco",
    )


def _draw_mask(annotation_file: Path, out: Path, item: tuple[CocoImage, list[Instance]]) -> None:
    image, instances = item
    mask = union_mask(instances, image.height, image.width, annotation_file)
    # Run-length matching is twice as fast as the default, and smaller on masks.
    Image.fromarray(mask).save(out / MASKS / f"{image.stem}.png", compress_type=zlib.Z_RLE)


_ADDRESS = "http://images.cocodataset.org"
COCO = PublishedDataset(
    build=build_coco_ad,
    release=Release(
        archives=(
            Archive(
                "annotations_trainval2017.zip",
                f"{_ADDRESS}/annotations/annotations_trainval2017.zip",
                252_907_541,
                "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
                unpacked_size=490_000_000,
                wanted=lambda name: name.startswith("annotations/instances_"),
            ),
            Archive(
                "val2017.zip",
                f"{_ADDRESS}/zips/val2017.zip",
                815_585_330,
                "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
            ),
            Archive(
                "train2017.zip",
                f"{_ADDRESS}/zips/train2017.zip",
                19_336_861_798,
                "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
            ),
        ),
        licence="CC BY 4.0 for the annotations, images under their Flickr licences",
        terms="https://cocodataset.org/#termsofuse",
    ),
    needs=("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
)
