"""The few images that only a supervised method may see: normal ones to train on, and anomalous ones that are no test images then."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from invad.config import LabelledConfig
from invad.data.split_table import ANOMALOUS, NORMAL, SplitRow, chosen, held_out_images
from invad.errors import InputError

# What SegAD's authors hold out of VisA's normal training images does not change with the seed (spec of SegAD, protocols).
SEGAD_NORMAL_SEED = 333


def set_apart(rows: Iterable[SplitRow], config: LabelledConfig, key: str) -> list[SplitRow]:
    """Return `rows` in their order, the phase of the images that `config` chooses changed to `labelled`.

    `key`: what messages call the settings. `InputError`: a class has too few anomalous test images to keep one for the test.
    """
    rows = list(rows)
    normal, anomalous = defaultdict(set), defaultdict(set)
    for row in rows:
        if (row.phase, row.label) == ("train", NORMAL):
            normal[row.class_name].add(row.image)
        elif (row.phase, row.label) == ("test", ANOMALOUS):
            anomalous[row.class_name].add(row.image)
    moved = set()
    for class_name in sorted({row.class_name for row in rows}):
        names = sorted(anomalous[class_name])
        if config.anomalous and len(names) <= config.anomalous:
            raise InputError(
                f"{key}.anomalous: is {config.anomalous}, but class {class_name!r} has {len(names)} anomalous test images, "
                "of which one at least is kept for the test"
            )
        moved |= {("test", class_name, name) for name in chosen_anomalous(names, config)}
        moved |= {("train", class_name, name) for name in _chosen_normal(sorted(normal[class_name]), config)}
    return [replace(row, phase="labelled") if (row.phase, row.class_name, row.image) in moved else row for row in rows]


def labelled_normal(images: int, config: LabelledConfig) -> int:
    """Return how many of a class's normal images to train on get a label; one at least is left to train on."""
    if config.rule == "segad":
        return max(0, min(math.ceil(Fraction(str(config.normal_share)) * images), images - 1))
    return held_out_images(images, config.normal_share)


def chosen_anomalous(names: Sequence[str], config: LabelledConfig) -> set[str]:
    """Return the `config.anomalous` of a class's anomalous images that are chosen by the seed; `names`: all of them, sorted."""
    if config.rule == "segad":
        order = np.random.RandomState(config.seed).permutation(len(names))
        return {names[index] for index in order[len(names) - config.anomalous :]}
    return chosen(names, config.anomalous, f"{config.seed}:labelled:")


def _chosen_normal(names: Sequence[str], config: LabelledConfig) -> set[str]:
    count = labelled_normal(len(names), config)
    if config.rule == "segad":
        order = np.random.RandomState(SEGAD_NORMAL_SEED).permutation(len(names))
        return {names[index] for index in order[:count]}
    return chosen(names, count, f"{config.seed}:labelled:")
