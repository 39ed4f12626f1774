"""One image of a data set of one's own: its line in a CSV, and what must hold of it."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from invad.data.split_table import ANOMALOUS, NORMAL, Phase
from invad.errors import InputError

COLUMNS = ("image", "class", "phase", "label", "defect_type", "mask")
GOOD, ANY_DEFECT = "good", "anomaly"  # defect types: of every normal image, and of an anomalous one where none is given

Records = list[tuple[str, dict[str, str]]]  # of each row of a file, the name for messages and the cells by column


@dataclass(frozen=True)
class ImportRow:
    """One image.

    `image` and `mask` are relative to the images' folder and written with `/`. `phase` is empty where it is left to the splits stage.
    `mask` is None for a normal image, and for an anomalous one whose mask is not known. `origin` is the file and line that a
    message names, empty for an image found in a folder.
    """

    image: str
    class_name: str
    phase: Phase | Literal[""]
    label: int
    defect_type: str
    mask: str | None
    origin: str = field(default="", compare=False)


def read_csv(path: Path, needed: Iterable[str] = ()) -> tuple[list[str], Records]:
    """Return the columns' names (as `column_names`) and the rows of a CSV file; blank lines are skipped.

    Raises:
        InputError: It is missing, not UTF-8, damaged or without rows, separated by something else than commas, lacks a column
            that is `needed` or has one twice, or a row has more or fewer cells than the header.
    """
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    try:
        lines = [(f"{path}: line {reader.line_num}", cells) for cells in reader if cells]
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: not a CSV file ({error})") from None
    if len(lines) < 2:
        raise InputError(f"{path}: has no rows; line 1 names the columns, each further line is an image")
    (first, header), *rows = lines
    if len(header) == 1 and any(separator in header[0] for separator in ";\t|"):
        raise InputError(f"{first}: the columns must be separated by commas, not as in {header[0]!r}")
    columns = column_names(header, path)
    missing = [column for column in needed if column not in columns]
    if missing:
        raise InputError(f"{first}: the columns {', '.join(missing)} are missing; it needs {', '.join(needed)}")
    for origin, cells in rows:
        if len(cells) != len(columns):
            raise InputError(f"{origin}: has {len(cells)} cells, but the header has {len(columns)}")
    return columns, [(origin, dict(zip(columns, cells, strict=True))) for origin, cells in rows]


def column_names(header: Iterable[str], path: Path) -> list[str]:
    """Return the names in lower case and without spaces around them; `InputError` when one occurs twice."""
    columns = [name.strip().lower() for name in header]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise InputError(f"{path}: the column {twice[0]!r} occurs twice")
    return columns


def parse_row(cells: Mapping[str, str], origin: str) -> ImportRow:
    """Return the row of one line that has all of `COLUMNS`; `InputError` for a cell that is wrong by itself."""
    phase, label = cells["phase"].strip(), cells["label"].strip()
    if phase not in ("train", "test", ""):
        raise InputError(f"{origin}: phase must be train, test or empty, not {phase!r}")
    if label not in ("0", "1"):
        raise InputError(f"{origin}: label must be 0 (normal) or 1 (anomalous), not {label!r}")
    for column in ("image", "class"):
        if not cells[column].strip():
            raise InputError(f"{origin}: {column} is empty")
    return ImportRow(
        image=_relative(cells["image"], "image", origin),
        class_name=cells["class"],
        phase=phase,
        label=int(label),
        defect_type=GOOD if int(label) == NORMAL else cells["defect_type"] or ANY_DEFECT,
        mask=_relative(cells["mask"], "mask", origin) if cells["mask"] else None,
        origin=origin,
    )


def check_rows(rows: Iterable[ImportRow]) -> None:
    """Check what the cells of a row say together, and that no image occurs twice.

    Raises:
        InputError: An anomalous image is to be trained on or has the defect type of normal ones, a normal image has a mask, or an
            image is listed twice.
    """
    seen: dict[str, str] = {}
    for row in rows:
        if row.label == ANOMALOUS and row.phase == "train":
            raise problem(row, f"{row.image}: an anomalous image in train; only normal images are trained on")
        if row.label == ANOMALOUS and row.defect_type == GOOD:
            raise problem(row, f"{row.image}: an anomalous image of the defect type {GOOD}, which normal images have")
        if row.label == NORMAL and row.mask is not None:
            raise problem(row, f"{row.image}: a normal image with a mask; leave the mask empty, or make the label 1")
        if row.image in seen:
            raise problem(row, f"{row.image}: this image is listed before, in {seen[row.image]}")
        seen[row.image] = row.origin


def problem(row: ImportRow, text: str) -> InputError:
    """Return the error that `text`, which names the file, is wrong with `row`."""
    return InputError(f"{row.origin}: {text}" if row.origin else text)


def _read_text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a CSV file in UTF-8 (byte {error.start}); save it as such") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(f"{path}: line {line}: not a CSV file in UTF-8, it has a NUL byte")
    return text


def _relative(cell: str, column: str, origin: str) -> str:
    path = PurePosixPath(cell)
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"{origin}: {column} {cell!r} leaves the images' folder; it must be relative, without '..'")
    return path.as_posix()
