"""Some of the synthetic anomalies that a training has seen, drawn again from its seed."""

from collections.abc import Iterator
from itertools import groupby, islice

import numpy as np

from invad.data.split_table import Split
from invad.features.decoded import DecodedImages
from invad.features.synthesis import Corruption, Textures, corrupted
from invad.report.results import SyntheticAnomaly

IMAGES, CLASSES = 2, 5  # so many of each class, and of so many classes
_TRIES = 20  # training images of a class, half of which may stay clean


def synthetic_anomalies(split: Split, recipe: Corruption, size: int, seed: int) -> list[SyntheticAnomaly]:
    """Return the first images of some classes that get an anomaly in the first epoch of a training with `seed`, `size` pixels wide.

    Classes are evenly spaced among all. `InputError`: an image is missing or damaged, or the recipe's folder has no textures.
    """
    rows = split.phase("train")
    images = DecodedImages([split.image_path(row) for row in rows], size, split.reading)
    textures = Textures.of(recipe, images, [row.class_name for row in rows], size)

    def drawn(members: list[int]) -> Iterator[SyntheticAnomaly]:
        for row in members[:_TRIES]:
            clean, dirty, mask = corrupted(images[row], textures, row, recipe, np.random.default_rng((seed, 0, row)))
            if mask.any():
                yield SyntheticAnomaly(
                    rows[row].class_name, rows[row].image, clean, np.rint(dirty).astype(np.uint8), mask
                )

    order = sorted(range(len(rows)), key=lambda row: rows[row].class_name)
    classes = [list(members) for _, members in groupby(order, key=lambda row: rows[row].class_name)]
    chosen = dict.fromkeys(np.linspace(0, len(classes) - 1, CLASSES).round().astype(int).tolist())
    return [each for number in chosen for each in islice(drawn(classes[number]), IMAGES)]
