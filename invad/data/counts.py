"""How many images the published data sets have, class by class, and the comparison with what lies on disk."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from invad.data.split_table import ANOMALOUS, SplitRow
from invad.errors import InputError

logger = logging.getLogger(__name__)


class Counts(NamedTuple):
    """Images of a class: normal ones to train on, those held out for calibration included, normal and anomalous ones to test on."""

    train: int
    test_normal: int
    test_anomalous: int


def _counts(text: str) -> dict[str, Counts]:
    """Return the counts of a text of `class train test_normal test_anomalous`, separated by commas."""
    rows = (row.split() for row in text.split(","))
    return {name: Counts(int(train), int(normal), int(anomalous)) for name, train, normal, anomalous in rows}


# The data sets' own pages; the sums are 3,629 + 467 + 1,258.
MVTEC_COUNTS = _counts("""
bottle 209 20 63, cable 224 58 92, capsule 219 23 109, carpet 280 28 89, grid 264 21 57, hazelnut 391 40 70, leather 245 32 92,
metal_nut 220 22 93, pill 267 26 141, screw 320 41 119, tile 230 33 84, toothbrush 60 12 30, transistor 213 60 40,
wood 247 19 60, zipper 240 32 119
""")
# `split_csv/1cls.csv`; the sums are 8,659 + 962 + 1,200.
VISA_COUNTS = _counts("""
candle 900 100 100, capsules 542 60 100, cashew 450 50 100, chewinggum 453 50 100, fryum 450 50 100, macaroni1 900 100 100,
macaroni2 900 100 100, pcb1 904 100 100, pcb2 901 100 100, pcb3 905 101 100, pcb4 904 101 100, pipe_fryum 450 50 100
""")


def count_images(rows: Iterable[SplitRow]) -> dict[str, Counts]:
    """Return the counts of each class, sorted by name."""
    counts = Counter((row.class_name, row.phase == "test", row.label) for row in rows)
    return {
        name: Counts(counts[name, False, 0], counts[name, True, 0], counts[name, True, 1])
        for name in sorted({name for name, _, _ in counts})
    }


def describe(rows: Iterable[SplitRow]) -> str:
    """Return one line of counts: classes, images to train on and held out from it, normal and anomalous test images."""
    rows = list(rows)
    counts = Counter((row.phase, row.label) for row in rows)
    classes = len({row.class_name for row in rows})
    held_out = f"{counts['calibration', 0]} to calibrate on, " if counts["calibration", 0] else ""
    without = sum(row.label == ANOMALOUS and row.mask is None for row in rows)
    return (
        f"{classes} {'class' if classes == 1 else 'classes'}, {counts['train', 0]} normal images to train on, {held_out}"
        f"{counts['test', 0]} normal and {counts['test', 1]} anomalous to test on"
        + (f" ({without} without a mask count in the image metrics only)" if without else "")
    )


def check_counts(rows: Iterable[SplitRow], published: Mapping[str, Counts], root: Path, *, strict: bool) -> None:
    """Compare the classes that are among the `published` ones with them; other classes are the user's own business.

    Raises:
        InputError: With `strict`, when a class has other counts; without, they are logged as a warning.
    """
    deviations = [
        f"{name} has {_text(counts)}, published {_text(published[name])}"
        for name, counts in count_images(rows).items()
        if name in published and counts != published[name]
    ]
    if deviations:
        message = f"{root}: not the published images (train, test normal, test anomalous): {'; '.join(deviations)}"
        deviate(message, "complete the data, or", strict=strict)


def deviate(message: str, remedy: str, purpose: str = "", otherwise: str = "", *, strict: bool) -> None:
    """Raise `InputError` with what to do, or without `strict` log as a warning what is done instead."""
    if strict:
        raise InputError(f"{message}; {remedy} set `strict: false` in its `splits` section{purpose}")
    logger.warning("%s%s", message, otherwise)


def _text(counts: Counts) -> str:
    return " + ".join(map(str, counts))
