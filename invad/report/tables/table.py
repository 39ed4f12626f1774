"""A table of the report before it is written: `writing` makes Markdown, CSV and LaTeX of it, the page HTML.

A number keeps its full precision until it is written; a value that is not available is None and carries the reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from invad.report.labels import Metric

RowKind = Literal["plain", "summary", "published", "difference"]


@dataclass(frozen=True)
class Cell:
    """One number, or a few words.

    value: in the unit of the file it comes from (metrics are fractions in [0, 1]); None when not available. text: printed instead of a
    value. std: standard deviation over seeds. notes: what a reader has to know, one sentence each. rank: 1 the best of its block and
    column, 2 the second, 0 any other.
    """

    value: float | None = None
    notes: tuple[str, ...] = ()
    std: float | None = None
    rank: Literal[0, 1, 2] = 0
    text: str | None = None


@dataclass(frozen=True)
class Row:
    """One line of a table.

    words: what stands in the columns of words, left of the numbers. cells: column key -> cell; a key that is not there prints as nothing.
    keys: the columns of words in the CSV, machine-readable (`benchmark`, `method`, `source`, ...). kind: `summary` rows are made from
    other rows, `published` ones quoted, `difference` ones subtract two rows. block: rows of equal block are compared with each
    other, and a rule is drawn where it changes. notes: about the row as a whole; their marks stand at the first of the words.
    """

    words: tuple[str, ...]
    cells: Mapping[str, Cell]
    keys: Mapping[str, str] = field(default_factory=dict)
    kind: RowKind = "plain"
    block: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows under one caption. title: short, for a heading; heads: the headings of the columns of words; protocol: "" for none."""

    title: str
    caption: str
    heads: tuple[str, ...]
    columns: tuple[Metric, ...]
    rows: tuple[Row, ...]
    protocol: str = ""

    @property
    def footnotes(self) -> tuple[str, ...]:
        """The notes of all rows and cells in reading order, each once; `marks` refers to them by number, from 1."""
        return tuple(
            dict.fromkeys(note for row in self.rows for item in (row, *self.cells(row)) for note in item.notes)
        )

    def cells(self, row: Row) -> Sequence[Cell]:
        """The cells of a row in the order of the columns; an empty one where it has none."""
        return [row.cells.get(column.key, Cell(text="")) for column in self.columns]

    def marks(self, item: Cell | Row) -> str:
        """The footnote numbers of a cell or of a row as a whole, such as `1,3`; empty when it has none."""
        return ",".join(str(self.footnotes.index(note) + 1) for note in item.notes) if item.notes else ""
