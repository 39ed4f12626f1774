"""The table of a finished ablation study for the page, read back from the CSV file that the study wrote."""

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path

from invad.errors import InputError
from invad.report.labels import METRICS, PROTOCOLS
from invad.report.tables.cells import ranked
from invad.report.tables.table import Cell, Row, Table

PAPER_MARK = " (paper)"


def ablation_table(path: Path) -> Table:
    """The metrics of all variants with their standard deviation over seeds.

    path: `<module>.csv` as `ablation_tables.ablation_csv` writes it. Raises `InputError` when it is missing or not such a file.
    """
    rows = [_row(record, f"{path}: line {number}") for number, record in enumerate(_records(path), 2)]
    return Table(
        title=f"Ablation: {path.stem}",
        caption=(
            f"Protocol: paper ({PROTOCOLS['paper']}). Percent, higher is better; mean over seeds, ± sample standard deviation where "
            "there are several. Bold: best of a column, underlined: second best. Data, cost and notes of the study stand in its own "
            "report beside the CSV file."
        ),
        heads=("Variant", "Seeds"),
        columns=METRICS,
        rows=ranked(rows, METRICS),
        protocol="paper",
    )


def _records(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable ({error})") from None
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        records = list(reader)
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV file ({error})") from None
    needed = ["variant", "is_paper", "seeds", *(metric.key for metric in METRICS)]
    missing = [name for name in needed if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(f"{path}: not the CSV file of an ablation study: no column {missing[0]!r}")
    if not records:
        raise InputError(f"{path}: no variants")
    for number, record in enumerate(records, 2):
        if None in record or None in record.values():
            raise InputError(f"{path}: line {number}: not as many cells as columns")
    return records


def _row(record: Mapping[str, str], where: str) -> Row:
    cells = {}
    for metric in METRICS:
        value, std = (_number(record.get(name) or "", name, where) for name in (metric.key, f"{metric.key}_std"))
        cells[metric.key] = Cell(value, std=std)
    if record["is_paper"] not in ("true", "false"):
        raise InputError(f"{where}: is_paper is {record['is_paper']!r}, neither true nor false")
    if not record["seeds"].isdecimal():
        raise InputError(f"{where}: seeds is {record['seeds']!r}, not a number of seeds")
    variant = " ".join(record["variant"].split()) + (PAPER_MARK if record["is_paper"] == "true" else "")
    return Row((variant, record["seeds"]), cells, {"variant": record["variant"], "seeds": record["seeds"]})


def _number(text: str, name: str, where: str) -> float | None:
    """A finite number; None where the cell is empty."""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: {name} is {text!r}, not a number")
    return value
