"""One table for all of the report: rows and cells as data, written as Markdown, CSV and LaTeX; the page renders the same.

A number keeps its full precision until it is written; a value that is not available is None and carries the reason.
"""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal

from invad.files import write_text
from invad.report.labels import METRICS, Form, Metric

DASH = "–"  # noqa: RUF001  (an en dash is what a missing number is printed as)
PLAIN_GROUPS = (
    "",
    "Averages",
    "Calibration",
    "Cost",
)  # their labels stand alone; others need the group to be understood
PACKAGES = "% \\usepackage{booktabs,graphicx}\n"  # what a document needs for the LaTeX tables
RowKind = Literal["plain", "summary", "published", "difference"]


@dataclass(frozen=True)
class Cell:
    """One number, or a few words.

    value: in the unit of the file it comes from (metrics are fractions in [0, 1]); None when not available. notes: footnotes. std:
    standard deviation over seeds. rank: 1 the best of its block and column, 2 the second, 0 any other. text: printed instead of a value.
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
    """Rows under one caption.

    title: short, for a heading. heads: the headings of the columns of words. protocol: "" for none. remarks: sentences below the
    footnotes that no mark leads to, such as what the evaluation says.
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
        items = (item for row in self.rows for item in (row, *self.cells(row)))
        return tuple(dict.fromkeys(note for item in items for note in item.notes))

    def cells(self, row: Row) -> Sequence[Cell]:
        """The cells of a row in the order of the columns; an empty one where it has none."""
        return [row.cells.get(column.key, Cell(text="")) for column in self.columns]

    def marks(self, item: Cell | Row) -> str:
        """The footnote numbers of a cell or of a row as a whole, such as `1,3`; empty when it has none."""
        return ",".join(str(self.footnotes.index(note) + 1) for note in item.notes) if item.notes else ""


def number_text(form: Form, value: float) -> str:
    """A number as a column of this form prints it; `rate`, `millions` and so on say what the unit of `value` is divided by."""
    text = _FORMS.get(form, _significant)(value)
    return "0.0" if form == "points" and text[1:] == "0.0" else text


def _significant(value: float) -> str:
    """Three significant digits, but never fewer than the whole number."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


_FORMS: Mapping[str, Callable[[float], str]] = {
    "percent": lambda value: f"{100 * value:.1f}",
    "points": lambda value: f"{100 * value:+.1f}",
    "rate": lambda value: f"{100 * value:g}",
    "score": lambda value: f"{value:.4g}",
    "count": lambda value: f"{round(value):,}",
    "millions": lambda value: f"{value / 1e6:,.2f}",
    "giga": lambda value: f"{value / 1e9:,.2f}",
    "milliseconds": lambda value: _significant(1000 * value),
    "seconds": lambda value: f"{value:,.{int(value < 100)}f}",
}
"""How numbers of each form are printed; others have three significant digits."""


def cell_text(column: Metric, cell: Cell) -> str:
    """A cell as every format prints it, before marks and ranks: `96.2`, `96.2 ± 0.3`, its words, or a dash when not available."""
    text, spread = _parts(column, cell)
    return f"{text} ± {spread}" if spread else text


def _parts(column: Metric, cell: Cell) -> tuple[str, str]:
    """What is ranked, and the standard deviation after it; "" without one."""
    if cell.text is not None:
        return cell.text, ""
    if cell.value is None:
        return DASH, ""
    return number_text(column.form, cell.value), "" if cell.std is None else number_text(column.form, cell.std)


def flat_heading(column: Metric) -> str:
    """The heading of a column where no group stands above it, such as `Image AU-ROC`."""
    if column.group in PLAIN_GROUPS:
        return column.label
    is_word = column.label.isalpha() and column.label[1:].islower()
    return f"{column.group.split(',')[0]} {column.label.lower() if is_word else column.label}"


def column_groups(columns: Sequence[Metric] = METRICS) -> list[tuple[str, int]]:
    """The headings above the columns and how many columns each spans."""
    return [(name, len(list(members))) for name, members in groupby(columns, key=lambda column: column.group)]


def block_starts(rows: Sequence[Row]) -> list[int]:
    """Indices of the rows above which a rule is drawn: where the block changes, unless every block is a single row."""
    starts = [index for index in range(1, len(rows)) if rows[index].block != rows[index - 1].block]
    return starts if len(starts) + 1 < len(rows) else []


def write_tables(tables: Sequence[Table], folder: Path, name: str, remark: str = "") -> None:
    """Write all of them as `name`.md, .csv and .tex. remark: a last sentence of the Markdown."""
    write_text(folder / f"{name}.md", markdown(tables) + (f"\n{remark}\n" if remark else ""))
    write_text(folder / f"{name}.csv", csv_text(tables))
    write_text(folder / f"{name}.tex", latex(tables))


def markdown(tables: Sequence[Table]) -> str:
    """All tables as GitHub-flavoured Markdown, columns aligned so that the source is readable as well."""
    return "\n".join(_markdown_table(table) for table in tables)


def _markdown_table(table: Table) -> str:
    lines = [[*table.heads, *(flat_heading(column) for column in table.columns)]]
    for row in table.rows:
        cells = zip(table.columns, table.cells(row), strict=True)
        lines.append([*_markdown_words(table, row), *(_markdown_cell(table, *pair) for pair in cells)])
    caption = f"**{markdown_escape(table.title)}.** {markdown_escape(table.caption)}"
    text = markdown_text(caption, lines, [markdown_escape(note) for note in table.footnotes], len(table.heads))
    remarks = "".join(f"- {markdown_escape(remark)}\n" for remark in table.remarks)
    return f"{text}\n{remarks}" if remarks else text


def _markdown_words(table: Table, row: Row) -> list[str]:
    first, *others = (markdown_escape(word) for word in row.words)
    mark = {"summary": "**", "difference": "*"}.get(row.kind, "")
    return [f"{mark}{first}{mark}{_superscript(table.marks(row))}", *others]


def _markdown_cell(table: Table, column: Metric, cell: Cell) -> str:
    text, spread = _parts(column, cell)
    text = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}[cell.rank].format(markdown_escape(text))
    return text + (f" ± {spread}" if spread else "") + _superscript(table.marks(cell))


def _superscript(marks: str) -> str:
    return f"<sup>{marks}</sup>" if marks else ""


def markdown_escape(text: str) -> str:
    """Text as Markdown prints it literally, in a table as well."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", r"\|").replace("*", r"\*")


def markdown_text(caption: str, lines: Sequence[Sequence[str]], footnotes: Sequence[str], words: int = 2) -> str:
    """A caption, a table (headings first, then rows; the first `words` columns hold words) and its footnotes as Markdown."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rule = ["-" * width if column < words else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    padded = [
        [
            text.ljust(width) if column < words else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in (lines[0], rule, *lines[1:])
    ]
    notes = "".join(f"{number}. {note}\n" for number, note in enumerate(footnotes, 1))
    return f"{caption}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in padded) + (f"\n{notes}" if notes else "")


def csv_text(tables: Sequence[Table]) -> str:
    """All tables in one CSV: what a row is, its kind, then numbers with full precision (they read back the same).

    Empty where not available. `<key>_std` is there where any cell of the column has a standard deviation.
    """
    keys = list(dict.fromkeys(key for table in tables for row in table.rows for key in row.keys))
    columns = list(dict.fromkeys(column.key for table in tables for column in table.columns))
    with_std = {
        key for table in tables for row in table.rows for key, cell in row.cells.items() if cell.std is not None
    }
    names = [name for key in columns for name in ((key, f"{key}_std") if key in with_std else (key,))]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [*keys, "kind", *names], restval="", lineterminator="\n")
    writer.writeheader()
    for row in (row for table in tables for row in table.rows):
        numbers = {key: _csv_number(cell.value, cell.text) for key, cell in row.cells.items() if key in columns}
        spreads = {f"{key}_std": _csv_number(row.cells[key].std) for key in with_std & row.cells.keys()}
        writer.writerow({**row.keys, "kind": row.kind, **numbers, **spreads})
    return buffer.getvalue()


def _csv_number(value: float | None, text: str | None = None) -> str:
    if value is None:
        return text if text and text != DASH else ""
    return repr(value) if isinstance(value, int) else repr(float(value))


def latex(tables: Sequence[Table]) -> str:
    """All tables as LaTeX floats over the full width; the document needs the packages booktabs and graphicx."""
    return PACKAGES + "\n".join(_latex_table(table) for table in tables)


def _latex_table(table: Table) -> str:
    notes = [f"{_latex_marks(str(number))} {latex_escape(note)}" for number, note in enumerate(table.footnotes, 1)]
    notes += [latex_escape(remark) for remark in table.remarks]
    lines = [
        "\\begin{table*}[tp]",
        "\\centering\\setlength{\\tabcolsep}{3pt}",
        f"\\caption{{{latex_escape(f'{table.title}. {table.caption}')}}}\\smallskip",
        "\\resizebox{\\ifdim\\width>\\textwidth\\textwidth\\else\\width\\fi}{!}{%",
        *_latex_tabular(table),
        "}",
        *(["\\par\\smallskip", "\\raggedright\\footnotesize"] if notes else []),
        *(f"{note}\\par" for note in notes),
        "\\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def _latex_tabular(table: Table) -> list[str]:
    groups, lines, column = [], [], len(table.heads) + 1
    for name, span in column_groups(table.columns):
        groups.append(f"\\multicolumn{{{span}}}{{c}}{{{latex_escape(name)}}}")
        lines += [f"\\cmidrule(lr){{{column}-{column + span - 1}}}"] if name else []
        column += span
    headings = map(latex_escape, (*table.heads, *(metric.label for metric in table.columns)))
    above = [f"{'& ' * len(table.heads)}{' & '.join(groups)} \\\\", "".join(lines)] if lines else []
    rules, body = block_starts(table.rows), []
    for index, row in enumerate(table.rows):
        body += ["\\midrule"] if index in rules else []
        body.append(f"{' & '.join(_latex_row(table, row))} \\\\")
    return [
        f"\\begin{{tabular}}{{{'l' * len(table.heads)}{'r' * len(table.columns)}}}",
        "\\toprule",
        *above,
        f"{' & '.join(headings)} \\\\",
        "\\midrule",
        *body,
        "\\bottomrule",
        "\\end{tabular}%",
    ]


def _latex_row(table: Table, row: Row) -> list[str]:
    first, *others = (latex_escape(word) for word in row.words)
    first = f"\\textit{{{first}}}" if row.kind in ("summary", "difference") else first
    cells = [_latex_cell(table, *pair) for pair in zip(table.columns, table.cells(row), strict=True)]
    return [first + _latex_marks(table.marks(row)), *others, *cells]


def _latex_cell(table: Table, column: Metric, cell: Cell) -> str:
    text, spread = (latex_escape(part) for part in _parts(column, cell))
    text = re.sub(r"^([+-])(?=\d)", r"$\1$", text)
    text = {0: "{}", 1: "\\textbf{{{}}}", 2: "\\underline{{{}}}"}[cell.rank].format(text)
    text += _latex_marks(table.marks(cell))
    return (
        f"\\begin{{tabular}}[t]{{@{{}}r@{{}}}}{text}\\\\[-0.6ex]{{\\scriptsize$\\pm${spread}}}\\end{{tabular}}"
        if spread
        else text
    )


def _latex_marks(marks: str) -> str:
    return f"\\textsuperscript{{{marks}}}" if marks else ""


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", DASH: "--", "±": r"$\pm$",
    "\0": "{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",  # other signs in the classic font encoding
}  # fmt: skip


def latex_escape(text: str) -> str:
    """Text as LaTeX prints it literally; straight double quotes become an opening and a closing pair by turns."""
    text = text.replace("--", "-\0-")  # LaTeX would make one dash of the two
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return re.sub(r'"([^"]*)"', r"``\1''", escaped)


def caption(*sentences: str) -> str:
    """The sentences of a caption, without those that are empty."""
    return " ".join(filter(None, sentences))
