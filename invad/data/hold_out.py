"""Which images are kept from training: the one choice by hash, and what it gives for thresholds."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from invad.config import CalibrationConfig
from invad.data.split_table import NORMAL, SplitRow


def chosen(names: Iterable[str], count: int, key: str) -> set[str]:
    """Return `count` of different `names`: those with the lowest SHA-256 of `key` and name.

    Their order does not matter, and one more name changes at most one of the others.
    """
    return set(sorted(names, key=lambda name: hashlib.sha256(f"{key}{name}".encode()).digest())[:count])


def held_out_images(images: int, share: float) -> int:
    """Return how many of a class's normal training images are held out: at least one where `share` asks for any, never all of them."""
    return min(max(1, round(share * images)), images - 1) if share and images else 0


def hold_out(rows: Iterable[SplitRow], config: CalibrationConfig) -> list[SplitRow]:
    """Return `rows` in their order, the phase of the images that are held out changed from `train` to `calibration`."""
    rows = list(rows)
    of_class = defaultdict(set)
    for row in rows:
        if row.phase == "train" and row.label == NORMAL:
            of_class[row.class_name].add(row.image)
    held_out = {
        ("train", NORMAL, class_name, image)
        for class_name, images in of_class.items()
        for image in chosen(images, held_out_images(len(images), config.share), f"{config.seed}:")
    }
    return [
        replace(row, phase="calibration") if (row.phase, row.label, row.class_name, row.image) in held_out else row
        for row in rows
    ]
