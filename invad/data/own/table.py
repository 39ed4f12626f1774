"""The table of one's own images, `data/import/<name>.csv`, kept in git and free to be edited by hand; and the split that it gives."""

import csv
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from invad.config import ReadingConfig, TableSplitConfig, reading_of
from invad.data.hold_out import chosen
from invad.data.images import check_mask_size, image_size
from invad.data.own.rows import COLUMNS, ImportRow, check_rows, parse_row, problem, read_csv
from invad.data.split_table import ANOMALOUS, SplitRow
from invad.errors import InputError


def read_import_table(path: Path) -> list[ImportRow]:
    """Read and check a table with all of `COLUMNS` (others are ignored); whether the files are there is not looked at.

    Raises:
        InputError: It is missing or no CSV; a column is missing; a row has an unknown phase or label, no class, a path that leaves
            the images' folder, an image that is listed before, a normal image with a mask or an anomalous one to train on. The
            message names the file and line.
    """
    _, records = read_csv(path, needed=COLUMNS)
    rows = [parse_row(cells, origin) for origin, cells in records]
    check_rows(rows)
    return rows


def write_import_table(rows: Iterable[ImportRow], path: Path) -> None:
    """Write the rows to `path`, sorted by class and image, so that the same data give the same bytes."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in sorted(rows, key=lambda row: (row.class_name, row.image)):
            writer.writerow([row.image, row.class_name, row.phase, row.label, row.defect_type, row.mask or ""])


def build_table(root: Path, table: Path, config: TableSplitConfig, dataset: str) -> list[SplitRow]:
    """Return the rows of all images of `table`, whose paths are relative to `root`, sorted by class, phase (train first) and image.

    Raises:
        InputError: As for `read_import_table` and `split_rows`.
    """
    rows = with_phases(read_import_table(table), config)
    return split_rows(root, rows, reading_of(config), dataset, str(table))


def split_rows(root: Path, rows: list[ImportRow], reading: ReadingConfig, dataset: str, source: str) -> list[SplitRow]:
    """Return the rows of all images, whose paths are relative to `root`, sorted by class, phase (train first) and image.

    All have a phase. `source` is where they come from, for messages.

    Raises:
        InputError: A file is missing or not an image, a mask has another size than its image, or a class has no normal image to
            train on or no image to test on.
    """
    present = defaultdict(set)
    for row in rows:
        present[row.class_name].add(row.phase)
    for class_name in sorted(present):
        for phase, needed in (("train", "normal image to train on"), ("test", "image to test on")):
            if phase not in present[class_name]:
                raise InputError(f"{source}: the class {class_name} has no {needed}")
    split = [_split_row(root, row, dataset, reading) for row in rows]
    return sorted(split, key=lambda row: (row.class_name, row.phase == "test", row.image))


def with_phases(rows: list[ImportRow], config: TableSplitConfig) -> list[ImportRow]:
    """Return the rows, all with a phase.

    Where there is none, anomalous images are for the test; of a class's normal ones the share `config.test_share` (rounded up, but one
    at least is left to train on), chosen by a hash of `config.seed` and their names. One more image in a class moves at most one other.
    """
    test = {row.image for row in rows if row.label == ANOMALOUS and not row.phase}
    to_train_on = {row.class_name for row in rows if row.phase == "train"}
    undecided = defaultdict(list)
    for row in rows:
        if row.label != ANOMALOUS and not row.phase:
            undecided[row.class_name].append(row.image)
    for class_name, images in undecided.items():
        # exact, where 0.07 * 100 is above 7 in floats
        share = math.ceil(Fraction(str(config.test_share)) * len(images))
        most = len(images) if class_name in to_train_on else len(images) - 1
        test |= chosen(images, min(share, most), f"{config.seed}/")
    return [row if row.phase else replace(row, phase="test" if row.image in test else "train") for row in rows]


def _split_row(root: Path, row: ImportRow, dataset: str, reading: ReadingConfig) -> SplitRow:
    image, phase = root / row.image, row.phase or "test"
    try:
        width, height = image_size(image, reading)
        if row.mask is not None:
            check_mask_size(root / row.mask, image, (width, height))
    except InputError as error:
        raise problem(row, str(error)) from None
    return SplitRow(row.image, row.class_name, phase, row.label, row.defect_type, row.mask, width, height, dataset)
