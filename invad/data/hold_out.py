"""Which of the normal training images are kept from training, so that thresholds can be taken from them."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from invad.config import CalibrationConfig
from invad.data.split_table import NORMAL, SplitRow


def held_out_images(images: int, share: float) -> int:
    """Return how many of a class's normal training images are held out: at least one where `share` asks for any, never all of them."""
    return min(max(1, round(share * images)), images - 1) if share and images else 0


def hold_out(rows: Iterable[SplitRow], config: CalibrationConfig) -> list[SplitRow]:
    """Return `rows` in their order, the phase of the images that are held out changed from `train` to `calibration`.

    Of each class those with the lowest hashes of seed and name are taken: the order of the rows does not matter, and one more image
    in a class changes at most one of the others.
    """
    rows = list(rows)
    of_class = defaultdict(set)
    for row in rows:
        if _is_normal_training(row):
            of_class[row.class_name].add(row.image)
    held_out = set()
    for class_name, images in of_class.items():
        ranked = sorted(images, key=lambda image: hashlib.sha256(f"{config.seed}:{image}".encode()).digest())
        held_out |= {(class_name, image) for image in ranked[: held_out_images(len(ranked), config.share)]}
    return [
        replace(row, phase="calibration")
        if _is_normal_training(row) and (row.class_name, row.image) in held_out
        else row
        for row in rows
    ]


def _is_normal_training(row: SplitRow) -> bool:
    return row.phase == "train" and row.label == NORMAL
