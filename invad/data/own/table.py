"""The table of one's own images, `data/import/<name>.csv`: one row for each, kept in git and free to be edited by hand."""

import csv
from collections.abc import Iterable
from pathlib import Path

from invad.config import TableSplitConfig
from invad.data.own.rows import COLUMNS, ImportRow, check_rows, parse_row, read_csv
from invad.data.own.splitting import split_rows
from invad.data.split_table import SplitRow
from invad.errors import InputError


def read_import_table(path: Path) -> list[ImportRow]:
    """Read and check a table with all of `COLUMNS` (others are ignored); whether the files are there is not looked at.

    Raises:
        InputError: It is missing or no CSV; a column is missing; a row has an unknown phase or label, no class, a path that leaves
            the images' folder, an image that is listed before, a normal image with a mask or an anomalous one to train on. The
            message names the file and line.
    """
    columns, records = read_csv(path)
    missing = [column for column in COLUMNS if column not in columns]
    if missing:
        raise InputError(f"{path}: line 1: the columns {', '.join(missing)} are missing; it needs {', '.join(COLUMNS)}")
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
