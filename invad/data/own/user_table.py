"""A CSV or Parquet table that the user brings: `image`, and what is known of `class`, `phase`, `label`, `defect_type` and `mask`."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from invad.data.own.rows import COLUMNS, ImportRow, Records, check_rows, column_names, parse_row, read_csv
from invad.data.split_table import ANOMALOUS, NORMAL
from invad.disk import readable
from invad.errors import InputError

TABLE_SUFFIXES = (".csv", ".parquet")
MOST_ROWS, MOST_BYTES, LONGEST_CELL = 1_000_000, 1 << 29, 4096  # of a Parquet table; a longer path opens no file
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
    """Return all columns' names and, of the known columns, the rows as text.

    A small file may declare any number of rows and long texts that are stored once: both are bounded before they are made.
    """
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            columns = column_names(names, path)
            known = [name for name, column in zip(names, columns, strict=True) if column in COLUMNS]
            _check_size(file.metadata, set(known), path)
            texts = [name for name in known if _is_text(file.schema_arrow.field(name).type, f"{path}: {name}")]
        table = pq.read_table(path, columns=known, read_dictionary=texts, memory_map=True)
        _check_cells(table, path)
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


def _check_size(metadata: pq.FileMetaData, known: set[str], path: Path) -> None:
    if metadata.num_rows > MOST_ROWS:
        raise InputError(f"{path}: has {metadata.num_rows:,} rows; at most {MOST_ROWS:,} are accepted")
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    chunks = (group.column(index) for group in groups for index in range(group.num_columns))
    size = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in known)
    if size > MOST_BYTES:
        raise InputError(f"{path}: unpacks to {readable(size)}; at most {readable(MOST_BYTES)} are accepted")


def _is_text(kind: pa.DataType, where: str) -> bool:
    """Return whether a column is of text or bytes; `InputError` for one of lists or the like."""
    if pa.types.is_nested(kind):
        raise InputError(f"{where} must be text, not {kind}")
    is_text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(of(kind) for of in is_text)


def _check_cells(table: pa.Table, path: Path) -> None:
    """Refuse long cells in columns of text, of which each different one is in memory once."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        for chunk in column.chunks:
            values = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
            if not _is_text(values.type, f"{path}: {name}"):
                continue
            lengths = pc.call_function("binary_length", [values])
            longest = pc.call_function("max", [lengths]).as_py() or 0
            if longest > LONGEST_CELL:
                raise InputError(f"{path}: {name}: a cell of {longest:,} bytes; at most {LONGEST_CELL:,} are accepted")


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
