"""How many images a data set has, class by class, and the comparison of a published one with what lies on disk."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from invad.data.official.store import Release
from invad.data.split_table import ANOMALOUS, SplitRow
from invad.errors import InputError

logger = logging.getLogger(__name__)


class Counts(NamedTuple):
    """Images of a class: normal ones to train on, those held out for calibration included, normal and anomalous ones to test on."""

    train: int
    test_normal: int
    test_anomalous: int


@dataclass(frozen=True)
class PublishedDataset:
    """What is particular to a published data set.

    `build` makes its rows of root, splits settings and the folder for masks that it draws; `needs`: files that its root has;
    `counts`: images of its classes, which a folder of other images is not compared with; `check` compares what else is published with the
    rows of a root and the splits settings. `empty_masks`: anomalous images, without suffix, whose masks are known to be empty.
    """

    build: Callable[[Path, Any, Path], list[SplitRow]]
    release: Release
    needs: tuple[str, ...] = ()
    counts: Mapping[str, Counts] = field(default_factory=dict)
    check: Callable[[list[SplitRow], Path, Any], None] | None = None
    empty_masks: frozenset[str] = frozenset()


def parse_counts(text: str) -> dict[str, Counts]:
    """Return the counts of a text of `class train test_normal test_anomalous`, separated by commas."""
    rows = (row.split() for row in text.split(","))
    return {name: Counts(int(train), int(normal), int(anomalous)) for name, train, normal, anomalous in rows}


def count_images(rows: Iterable[SplitRow]) -> dict[str, Counts]:
    """Return the counts of each class, sorted by name; of the labelled images the normal ones are among those to train on."""
    counts = Counter((row.class_name, row.phase == "test", row.label) for row in rows)
    return {
        name: Counts(counts[name, False, 0], counts[name, True, 0], counts[name, True, 1])
        for name in sorted({name for name, _, _ in counts})
    }


def describe(rows: Iterable[SplitRow]) -> str:
    """Return one line of counts: classes, images to train on, held out from it and with labels, normal and anomalous test images."""
    rows = list(rows)
    counts = Counter((row.phase, row.label) for row in rows)
    classes = len({row.class_name for row in rows})
    noise = f"with {counts['train', 1]} anomalous ones as noise, " if counts["train", 1] else ""
    held_out = f"{counts['calibration', 0]} to calibrate on, " if counts["calibration", 0] else ""
    if any(counts["labelled", label] for label in (0, 1)):
        held_out += f"{counts['labelled', 0]} normal and {counts['labelled', 1]} anomalous with labels, "
    without = sum(row.phase == "test" and row.label == ANOMALOUS and row.mask is None for row in rows)
    return (
        f"{classes} {'class' if classes == 1 else 'classes'}, {counts['train', 0]} normal images to train on, {noise}{held_out}"
        f"{counts['test', 0]} normal and {counts['test', 1]} anomalous to test on"
        + (f" ({without} without a mask count in the image metrics only)" if without else "")
    )


def check_counts(rows: Iterable[SplitRow], published: Mapping[str, Counts], root: Path, *, strict: bool) -> None:
    """Raise `InputError` for classes of other counts than `published`, or without `strict` log them; other classes are the user's own."""
    deviations = [
        f"{name} has {' + '.join(map(str, counts))}, published {' + '.join(map(str, published[name]))}"
        for name, counts in count_images(rows).items()
        if name in published and counts != published[name]
    ]
    if deviations:
        message = f"{root}: not the published images (train, test normal, test anomalous): {'; '.join(deviations)}"
        deviate(message, strict=strict)


def deviate(message: str, *, strict: bool) -> None:
    """Raise `InputError` with what to do, or without `strict` log the message as a warning."""
    if strict:
        raise InputError(f"{message}; mend the data, or set `strict: false` in its `splits` section")
    logger.warning(message)
