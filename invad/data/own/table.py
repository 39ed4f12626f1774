"""The table of one's own images, `data/import/<name>.csv`, kept in git and free to be edited by hand; and the split that it gives."""

import csv
import math
from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

from invad.config import ReadingConfig, TableSplitConfig, reading_of
from invad.data.hold_out import chosen
from invad.data.images import check_mask_size, image_size
from invad.data.own.rows import COLUMNS, ImportRow, check_rows, parse_row, problem, read_csv
from invad.data.split_table import ANOMALOUS, Phase, SplitRow
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
    return split_rows(root, read_import_table(table), config, dataset, str(table))


def split_rows(
    root: Path, rows: list[ImportRow], config: TableSplitConfig, dataset: str, source: str
) -> list[SplitRow]:
    """Return the rows of all images, whose paths are relative to `root`, sorted by class, phase (train first) and image.

    Images without a phase get one: anomalous ones are for the test; of a class's normal ones the share `config.test_share` is for
    the test (rounded up, but one at least is left to train on), chosen by a hash of `config.seed` and their names. `source` is where
    the rows come from, for messages.

    Raises:
        InputError: A file is missing or not an image, a mask has another size than its image, or a class has no normal image to
            train on or no image to test on.
    """
    phases = assign_phases(rows, config)
    present = defaultdict(set)
    for row in rows:
        present[row.class_name].add(phases[row.image])
    for class_name in sorted(present):
        for phase, needed in (("train", "normal image to train on"), ("test", "image to test on")):
            if phase not in present[class_name]:
                raise InputError(f"{source}: the class {class_name} has no {needed}")
    split = [_split_row(root, row, phases[row.image], dataset, reading_of(config)) for row in rows]
    return sorted(split, key=lambda row: (row.class_name, row.phase == "test", row.image))


def assign_phases(rows: list[ImportRow], config: TableSplitConfig) -> dict[str, Phase]:
    """Return the phase of every image, as `split_rows` says. One more image in a class moves at most one of the others."""
    phases: dict[str, Phase] = {row.image: row.phase or ("test" if row.label == ANOMALOUS else "train") for row in rows}
    to_train_on = {row.class_name for row in rows if row.phase == "train"}
    undecided = defaultdict(list)
    for row in rows:
        if row.label != ANOMALOUS and not row.phase:
            undecided[row.class_name].append(row.image)
    for class_name, images in undecided.items():
        # exact, where 0.07 * 100 is above 7 in floats
        share = math.ceil(Fraction(str(config.test_share)) * len(images))
        most = len(images) if class_name in to_train_on else len(images) - 1
        phases |= {image: "test" for image in chosen(images, min(share, most), f"{config.seed}/")}
    return phases


def _split_row(root: Path, row: ImportRow, phase: Phase, dataset: str, reading: ReadingConfig) -> SplitRow:
    image = root / row.image
    try:
        width, height = image_size(image, reading)
        if row.mask is not None:
            check_mask_size(root / row.mask, image, (width, height))
    except InputError as error:
        raise problem(row, str(error)) from None
    return SplitRow(row.image, row.class_name, phase, row.label, row.defect_type, row.mask, width, height, dataset)
