"""A CSV or Parquet table that the user brings: `image`, and what is known of `class`, `phase`, `label`, `defect_type` and `mask`."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from invad.datasets.own.rows import COLUMNS, ImportRow, Records, check_rows, column_names, parse_row, read_csv
from invad.datasets.split_table import ANOMALOUS, NORMAL
from invad.errors import InputError

TABLE_SUFFIXES = (".csv", ".parquet")
LABELS = {
    **dict.fromkeys(("0", "good", "normal", "ok"), NORMAL),
    **dict.fromkeys(("1", "bad", "anomalous", "anomaly", "defect"), ANOMALOUS),
}


def read_user_table(path: Path, root: Path, name: str) -> tuple[list[ImportRow], list[str]]:
    """Return the rows of the table, paths made relative to the images' folder `root`, and notes on how they were understood.

    Only `image` is needed. Without a class, an image is of the class `name`; without the column `label`, an image with a mask is
    anomalous and any other normal.

    Raises:
        InputError: The table cannot be read or has no column `image`; or a row is wrong, which the message names.
    """
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise InputError(f"{path}: the table must be a .csv or .parquet file")
    columns, records = read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    if "image" not in columns:
        raise InputError(f"{path}: the column image is missing; it has {', '.join(columns)}")
    rows = [parse_row(_complete(cells, root, name, origin), origin) for origin, cells in records]
    check_rows(rows)
    return rows, _notes(columns, records, rows, name)


def _complete(cells: dict[str, str], root: Path, name: str, origin: str) -> dict[str, str]:
    """Return the cells of a row as `parse_row` wants them."""
    mask = _inside(cells.get("mask", ""), root)
    label = ANOMALOUS if mask else NORMAL
    if "label" in cells:
        word = cells["label"].strip().lower()
        if word not in LABELS:
            raise InputError(f"{origin}: label must be one of {', '.join(LABELS)}, not {cells['label']!r}")
        label = LABELS[word]
    return {
        "image": _inside(cells["image"], root),
        "class": cells.get("class", "").strip() or name,
        "phase": cells.get("phase", "").strip().lower(),
        "label": str(label),
        "defect_type": cells.get("defect_type", "").strip(),
        "mask": mask,
    }


def _inside(cell: str, root: Path) -> str:
    """Return an absolute path inside `root` relative to it, any other as it is."""
    for folder in (root.absolute(), root.resolve()):
        if Path(cell).is_absolute() and Path(cell).is_relative_to(folder):
            return Path(cell).relative_to(folder).as_posix()
    return cell


def _read_parquet(path: Path) -> tuple[list[str], Records]:
    """Return all columns' names and, of the known columns, the rows as text."""
    try:
        names = pq.read_schema(path).names
        columns = column_names(names, path)
        known = [name for name, column in zip(names, columns, strict=True) if column in COLUMNS]
        table = pq.read_table(path, columns=known)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a Parquet file ({' '.join(str(error).split())})") from None
    if not table.num_rows:
        raise InputError(f"{path}: has no rows")
    rows = table.rename_columns(column_names(table.column_names, path)).to_pylist()
    origins = (f"{path}: row {number}" for number in range(1, len(rows) + 1))
    return columns, [
        (origin, {column: _text(value, f"{origin}: {column}") for column, value in row.items()})
        for origin, row in zip(origins, rows, strict=True)
    ]


def _text(value: object, where: str) -> str:
    """Return a Parquet value as it would stand in a CSV; a missing label makes a column of 0 and 1 one of 0.0, 1.0 and NaN."""
    if value is None or value != value:
        return ""
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    if not isinstance(value, str):
        raise InputError(f"{where} must be text, not {type(value).__name__}")
    return value


def _notes(columns: list[str], records: Records, rows: list[ImportRow], name: str) -> list[str]:
    notes = []
    unknown = [column or "(without a name)" for column in columns if column not in COLUMNS]
    if unknown:
        notes.append(f"unknown columns, ignored: {', '.join(unknown)}")
    unnamed = sum(not cells.get("class", "").strip() for _, cells in records)
    if unnamed:
        notes.append(f"images without a class ({unnamed}) are taken as of the class {name}")
    if "label" not in columns:
        counts = Counter(row.label for row in rows)
        notes.append(
            f"no column label: images with a mask are taken as anomalous ({counts[ANOMALOUS]}), "
            f"the others as normal ({counts[NORMAL]})"
        )
    else:
        notes.append(f"labels: {_label_words(cells['label'].strip() for _, cells in records)}")
    if "phase" not in columns:
        notes.append("no column phase: which images are for the test is decided by seed")
    return notes


def _label_words(words: Iterable[str]) -> str:
    return ", ".join(
        f"{word} taken as {'anomalous' if LABELS[word.lower()] == ANOMALOUS else 'normal'} ({count})"
        for word, count in sorted(Counter(words).items())
    )
