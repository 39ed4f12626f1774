"""The few images that only a supervised method may see: normal ones to train on, and anomalous ones that are no test images then."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from invad.config import LabelledConfig
from invad.data.split_table import ANOMALOUS, NORMAL, Phase, SplitRow, chosen, held_out_images
from invad.errors import InputError

# What SegAD's authors hold out of VisA's normal training images does not change with the seed (spec of SegAD, protocols).
SEGAD_NORMAL_SEED = 333


def set_apart(rows: Iterable[SplitRow], config: LabelledConfig, key: str) -> list[SplitRow]:
    """Return `rows` in their order, the phase of the images that `config` chooses changed to `labelled`.

    Of objects seen in several views so many are chosen, with all of their views, as of images otherwise. `key`: what messages call the
    settings. `InputError`: a class has too few anomalous test images to keep one for the test.
    """
    rows = list(rows)
    units: dict[tuple[Phase, int], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        units[row.phase, row.label][row.class_name].add(row.unit)
    moved = set()
    for class_name in sorted({row.class_name for row in rows}):
        anomalous = sorted(units["test", ANOMALOUS][class_name])
        if config.anomalous and len(anomalous) <= config.anomalous:
            raise InputError(
                f"{key}.anomalous: is {config.anomalous}, but class {class_name!r} has {len(anomalous)} anomalous test images, "
                "of which one at least is kept for the test"
            )
        normal = sorted(units["train", NORMAL][class_name] - units["train", ANOMALOUS][class_name])
        moved |= {("test", class_name, unit) for unit in chosen_anomalous(anomalous, config)}
        moved |= {("train", class_name, unit) for unit in _chosen_normal(normal, config)}
    return [replace(row, phase="labelled") if (row.phase, row.class_name, row.unit) in moved else row for row in rows]


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
