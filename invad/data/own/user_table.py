"""A CSV table that the user brings: `image`, and what is known of `class`, `phase`, `label`, `defect_type` and `mask`."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from invad.data.own.rows import COLUMNS, ImportRow, Records, check_rows, parse_row, read_csv
from invad.data.split_table import ANOMALOUS, NORMAL
from invad.errors import InputError

TABLE_SUFFIX = ".csv"
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
    if path.suffix.lower() != TABLE_SUFFIX:
        raise InputError(f"{path}: the table must be a .csv file")
    columns, records = read_csv(path)
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
