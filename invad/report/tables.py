"""One table for all of the report: rows and cells as data, which `writers` prints as Markdown, CSV and LaTeX, and the page as HTML.

A number keeps its full precision until it is printed; a value that is not available is None and carries the reason.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from invad.report.labels import Form, Metric

DASH = "–"  # noqa: RUF001  (an en dash is what a missing number is printed as)
CLOSE = "≈"
MISSING = "Not available; the notes of the evaluation say why."
CLOSE_RULE = (
    f"{CLOSE}: the seeds do not tell it apart from the best of its column (all of these are bold) or, in a row of differences, from 0: the "
    "difference is at most the root of the summed squares of the deviations, of which a published number has none."
)
PLAIN_GROUPS = ("", "Averages", "Calibration", "Cost")  # labels below others need the group to be understood
RowKind = Literal["plain", "summary", "published", "difference"]


@dataclass(frozen=True)
class Cell:
    """One number.

    value: in the unit of the file it comes from (metrics are fractions in [0, 1]); None when not available. notes: footnotes. std:
    standard deviation over seeds. rank: 1 the best of its block and column, 2 the second, 0 any other. is_close: the seeds do not tell it
    apart from the best of its block and column, or, of a difference, from 0. interval: over the test images, in the unit of the value.
    """

    value: int | float | None = None  # an int stays one in JSON
    notes: tuple[str, ...] = ()
    std: float | None = None
    rank: Literal[0, 1, 2] = 0
    is_close: bool = False
    interval: tuple[float, float] | None = None


Cells = Mapping[str, Cell]


@dataclass(frozen=True)
class Row:
    """One line of a table.

    words: heading -> text, left of the numbers. cells: column key -> cell; a key that is not there prints as nothing. kind: `summary`
    rows are made from other rows, `published` ones quoted, `difference` ones subtract two rows. block: rows of equal block are compared
    with each other, and a rule is drawn where it changes. notes: about the row as a whole; their marks stand at the first of the words.
    """

    words: Mapping[str, str]
    cells: Cells
    kind: RowKind = "plain"
    block: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows under one caption.

    title: short, for a heading. heads: which words are printed, and in which order; the CSV has all. protocol: "" for none. remarks:
    sentences below the footnotes that no mark leads to, such as what the evaluation says.
    """

    title: str
    caption: str
    heads: tuple[str, ...]
    columns: tuple[Metric, ...]
    rows: tuple[Row, ...]
    protocol: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def footnotes(self) -> tuple[str, ...]:
        """The notes of all rows and cells in reading order, each once; `marks` refers to them by number, from 1."""
        items = (item for row in self.rows for item in (row, *filter(None, self.cells(row))))
        return tuple(dict.fromkeys(note for item in items for note in item.notes))

    def words(self, row: Row) -> list[str]:
        """The words of a row that are printed."""
        return [row.words.get(head, "") for head in self.heads]

    def cells(self, row: Row) -> list[Cell | None]:
        """The cells of a row in the order of the columns; None where it has none."""
        return [row.cells.get(column.key) for column in self.columns]

    def printed(self, row: Row) -> list[tuple[str, int, str]]:
        """Text, rank and marks of each cell of a row."""
        cells = []
        for column, cell in zip(self.columns, self.cells(row), strict=True):
            cells.append((cell_text(column, cell, row.kind), cell.rank, self.marks(cell)) if cell else ("", 0, ""))
        return cells

    def marks(self, item: Cell | Row) -> str:
        """The footnote numbers of a cell or of a row as a whole, such as `1,3`; empty when it has none."""
        return ",".join(str(self.footnotes.index(note) + 1) for note in item.notes) if item.notes else ""


def caption(*sentences: str) -> str:
    """The sentences of a caption, without those that are empty."""
    return " ".join(filter(None, sentences))


def number_text(form: Form, value: float) -> str:
    """A number as a column of this form prints it; `rate`, `millions` and so on say what the unit of `value` is divided by."""
    text = _FORMS[form](value)
    return "0.0" if text in ("+0.0", "-0.0") else text


_FORMS: Mapping[str, Callable[[float], str]] = {
    "percent": lambda value: f"{100 * value:.1f}",
    "points": lambda value: f"{100 * value:+.1f}",
    "rate": lambda value: f"{100 * value:g}",
    "score": lambda value: f"{value:.4g}",
    "count": lambda value: f"{round(value):,}",
    "millions": lambda value: f"{value / 1e6:,.2f}",
    "giga": lambda value: f"{value / 1e9:,.2f}",
    "seconds": lambda value: f"{value:,.{int(value < 100)}f}",
}


def cell_text(column: Metric, cell: Cell, kind: RowKind = "plain") -> str:
    """A cell as every format prints it, before marks and ranks: `96.2`, `≈ 96.2 ± 0.3`, `96.2 [95.1, 97.0]`, `+1.2`, or a dash."""
    if cell.value is None:
        return DASH
    text = number_text("points" if kind == "difference" else column.form, cell.value)
    if cell.interval is not None:
        text += f" [{', '.join(number_text(column.form, end) for end in cell.interval)}]"
    if cell.std is not None:
        text += f" ± {number_text(column.form, cell.std)}"
    return f"{CLOSE} {text}" if cell.is_close else text


def flat_heading(column: Metric) -> str:
    """The heading of a column where no group stands above it, such as `Image AU-ROC`."""
    if column.group in PLAIN_GROUPS:
        return column.label
    is_word = column.label.isalpha() and column.label[1:].islower()
    return f"{column.group.split(',')[0]} {column.label.lower() if is_word else column.label}"


def column_groups(columns: Sequence[Metric]) -> list[tuple[str, int]]:
    """The headings above the columns and how many columns each spans."""
    return [(name, len(list(members))) for name, members in groupby(columns, key=lambda column: column.group)]


def blocks(table: Table) -> list[list[Row]]:
    """The rows of a table, parted where a rule is drawn: where the block changes, unless every block is a single row."""
    parted = [list(rows) for _, rows in groupby(table.rows, key=lambda row: row.block)]
    return parted if len(parted) < len(table.rows) else [list(table.rows)]


def value_cells(
    values: Mapping[str, float | None], classes: Mapping[str, Mapping[str, float | None]] | None = None
) -> dict[str, Cell]:
    """What the evaluation gave, by metric, with a note where there is no value.

    classes: name -> values, where these are the means over them; a note says which of them have none.
    """
    classes, cells = classes or {}, {}
    for key, value in values.items():
        lacking = [name for name, of_class in classes.items() if of_class[key] is None]
        note = f"Mean of {len(classes) - len(lacking)} of {len(classes)} classes, without {', '.join(lacking)}."
        cells[key] = Cell(value, (MISSING,) if value is None else (note,) if lacking else ())
    return cells


def over_seeds(by_seed: Sequence[Cells]) -> dict[str, Cell]:
    """One cell of each value with several seeds: the mean, the sample standard deviation (n - 1), and all notes."""
    return {key: _folded([cells[key] for cells in by_seed]) for key in by_seed[0]}


def _folded(cells: Sequence[Cell]) -> Cell:
    if len(cells) == 1:
        return cells[0]
    values = [cell.value for cell in cells if cell.value is not None]
    notes = tuple(dict.fromkeys(note for cell in cells for note in cell.notes))
    if not values:
        return Cell(None, notes)
    if len(values) < len(cells):
        notes = (f"Mean of {len(values)} of {len(cells)} seeds; the others have no value.", *notes)
    return Cell(math.fsum(values) / len(values), notes, statistics.stdev(values) if len(values) > 1 else None)


def are_close(one: Cell, other: Cell) -> bool:
    """Whether the seeds do not tell two numbers apart: they differ by at most the root of the summed squares of their deviations.

    A number of one seed has no deviation, and is always told apart.
    """
    if one.value is None or other.value is None or one.std is None or other.std is None:
        return False
    return abs(one.value - other.value) <= math.hypot(one.std, other.std)


def ranked(rows: Iterable[Row], columns: Sequence[Metric]) -> tuple[Row, ...]:
    """The rows with the best and the second best number of each block and column marked; equal as printed is equal in rank.

    What the seeds do not tell apart from the best is `is_close` and of its rank, and then so is the best itself. Differences never take
    part, and summaries only among themselves: a mean does not compete with what it is made of. A column that has a number in one row of a
    block only has no best there, nor has one without `Metric.best`.
    """
    rows = list(rows)
    groups: dict[tuple[str, bool], list[int]] = {}
    for index, row in enumerate(rows):
        if row.kind != "difference":
            groups.setdefault((row.block, row.kind == "summary"), []).append(index)
    marked = [dict(row.cells) for row in rows]
    for indices in groups.values():
        for column in (column for column in columns if column.best):
            found = {index: cell for index in indices if (cell := marked[index].get(column.key)) is not None}
            for index, cell in _ranked_cells(found, column).items():
                marked[index][column.key] = cell
    return tuple(replace(row, cells=cells) for row, cells in zip(rows, marked, strict=True))


def _ranked_cells(cells: Mapping[int, Cell], column: Metric) -> dict[int, Cell]:
    """The cells of a column and block that are best, not told apart from the best, or second best; by index."""
    sign = 1 if column.best == "highest" else -1
    values = {index: sign * cell.value for index, cell in cells.items() if cell.value is not None}
    if len(values) < 2:
        return {}
    printed = {index: float(number_text(column.form, value).replace(",", "")) for index, value in values.items()}
    best = max(values, key=lambda index: values[index])
    close = {index for index in values if index != best and are_close(cells[index], cells[best])}
    close |= {best} if close else set()
    first = close | {index for index in values if printed[index] == printed[best]}
    second = max((number for index, number in printed.items() if index not in first), default=None)
    found = {index: replace(cells[index], rank=1, is_close=index in close) for index in first}
    return found | {
        index: replace(cells[index], rank=2) for index in values if index not in first and printed[index] == second
    }


def ranks_words(rows: Iterable[Row], block: str) -> str:
    """What the marks mean where any number is marked as the best or as close. block: what is compared, such as `a class`."""
    cells = [cell for row in rows for cell in row.cells.values()]
    is_marked, is_close = any(cell.rank for cell in cells), any(cell.is_close for cell in cells)
    return caption(
        f"Bold: best of a column within {block}; underlined: second best." if is_marked else "",
        CLOSE_RULE if is_close else "",
    )


def difference(row: Row, reference: Cells, words: Mapping[str, str]) -> Row:
    """A row of the cells of another minus those of a reference; a dash where either has no value.

    A difference of other than nothing is `is_close` by the rule of `are_close`.
    """
    cells = {}
    for key, cell in ((key, cell) for key, cell in row.cells.items() if key in reference):
        other = reference[key].value
        if cell.value is None or other is None:
            cells[key] = Cell(None, cell.notes or (MISSING,))
        else:
            own = cell.value - other
            cells[key] = Cell(own, is_close=own != 0 and are_close(cell, reference[key]))
    return Row(words, cells, "difference", row.block)
