"""Results tables: rows made from the metrics files, written as Markdown, CSV and LaTeX.

A number is kept as a fraction with full precision until it is written; a value that is not available is `None` and carries the reason.
"""

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from invad.metrics.results import LEFT_OUT
from invad.reporting.labels import (
    FOLD_MEAN,
    FOLDS,
    METRICS,
    OWN,
    PROTOCOLS,
    Metric,
    benchmark_order,
    benchmark_title,
    source_label,
    source_sentences,
)

NO_REASON = "not available; the evaluation recorded no reason"
NOT_AVAILABLE = ": not available: "  # stands between what a note of the evaluation is about and the reason
DASH = "–"  # noqa: RUF001  (an en dash is what a missing number is printed as)


@dataclass(frozen=True)
class Cell:
    """One number. value: fraction in [0, 1] or `None` when not available; notes: what a reader has to know about it."""

    value: float | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One line of a table. class_name is `None` where the row is a whole benchmark; is_summary marks rows made from other rows."""

    benchmark: str
    class_name: str | None
    label: str
    source: str
    cells: Mapping[str, Cell]
    is_summary: bool = False


class Footnotes:
    """What a table makes of the notes of its rows' cells: footnotes, numbered from 1 in reading order."""

    rows: tuple[Row, ...]

    @property
    def footnotes(self) -> tuple[str, ...]:
        """The notes of all cells, each once."""
        return tuple(dict.fromkeys(note for row in self.rows for cell in row.cells.values() for note in cell.notes))

    def marks(self, cell: Cell) -> str:
        """The footnote numbers of a cell, such as `1,3`; empty when it has none."""
        return ",".join(str(self.footnotes.index(note) + 1) for note in cell.notes)


@dataclass(frozen=True)
class Table(Footnotes):
    """Rows of one protocol with their caption."""

    title: str
    row_heading: str
    protocol: str
    protocol_version: str
    rows: tuple[Row, ...]

    @property
    def caption(self) -> str:
        """What the numbers are: title, protocol and its version, unit, and what kind of data the rows come from."""
        return (
            f"{self.title}. Protocol: {self.protocol}, version {self.protocol_version} ({PROTOCOLS[self.protocol]}). "
            f"Percent, higher is better. {source_sentences(row.source for row in self.rows)}"
        ).rstrip()


def main_rows(metrics: Mapping[str, Mapping[str, Any]], sources: Mapping[str, str], protocol: str) -> list[Row]:
    """One row per benchmark, and the mean of the COCO-AD folds after them when all four are there.

    metrics: benchmark -> content of its metrics file. sources: benchmark -> key of `SOURCES`. protocol: "paper" or "exact".
    """
    rows = []
    for name in benchmark_order(metrics):
        title = benchmark_title(name, sources[name])
        cells = {metric.key: _mean_cell(metrics[name], metric.key, protocol, title) for metric in METRICS}
        rows.append(Row(name, None, title, sources[name], cells))
        if name == FOLDS[-1] and all(fold in metrics and sources[fold] != OWN for fold in FOLDS):
            rows.append(_fold_mean_row(rows[-len(FOLDS) :]))
    return rows


def per_class_rows(metrics: Mapping[str, Any], source: str, protocol: str) -> list[Row]:
    """One row per class of one benchmark in the order of its metrics file, and their mean."""
    name = metrics["benchmark"]
    rows = []
    for class_name, protocols in metrics["per_class"].items():
        values = protocols[protocol]
        where = f"class {class_name!r}"
        cells = {}
        for key in (metric.key for metric in METRICS):
            preferred = [f"{where}, protocol {protocol}", protocol]
            reasons = missing_reasons(values[key], metrics["notes"], [where, key], preferred)
            cells[key] = Cell(values[key], reasons or _left_out(key, where, metrics["notes"]))
        rows.append(Row(name, class_name, class_name, source, cells))
    mean = {metric.key: _mean_cell(metrics, metric.key, protocol) for metric in METRICS}
    return [*rows, Row(name, "mean", "mean", source, mean, is_summary=True)]


def main_tables(metrics: Mapping[str, Mapping[str, Any]], sources: Mapping[str, str]) -> list[Table]:
    """The main results: one table per protocol."""
    version = " and ".join(sorted({str(content["protocol_version"]) for content in metrics.values()}))
    return [
        Table("Results per benchmark", "Benchmark", protocol, version, tuple(main_rows(metrics, sources, protocol)))
        for protocol in PROTOCOLS
    ]


def per_class_tables(metrics: Mapping[str, Any], source: str) -> list[Table]:
    """The results of one benchmark class by class: one table per protocol."""
    title = f"Results per class, {benchmark_title(metrics['benchmark'], source)}"
    version = str(metrics["protocol_version"])
    return [
        Table(title, "Class", protocol, version, tuple(per_class_rows(metrics, source, protocol)))
        for protocol in PROTOCOLS
    ]


def _mean_cell(metrics: Mapping[str, Any], key: str, protocol: str, title: str = "") -> Cell:
    """A benchmark's mean, with a note when classes are missing from it.

    title: put before each note where rows of several benchmarks meet.
    """
    prefix = f"{title}: " if title else ""
    value = metrics["mean"][protocol][key]
    if value is None:
        reasons = missing_reasons(value, metrics["notes"], [key], [f"mean, protocol {protocol}", protocol])
        return Cell(None, tuple(prefix + reason for reason in reasons))
    missing = [name for name, protocols in metrics["per_class"].items() if protocols[protocol][key] is None]
    if not missing:
        return Cell(value)
    total = len(metrics["per_class"])
    return Cell(value, (f"{prefix}mean of {total - len(missing)} of {total} classes, without {', '.join(missing)}.",))


def _fold_mean_row(folds: Sequence[Row]) -> Row:
    cells = {}
    for key in (metric.key for metric in METRICS):
        missing = [row.label for row in folds if row.cells[key].value is None]
        if missing:
            cells[key] = Cell(None, (f"The mean needs all four folds; not available: {', '.join(missing)}.",))
        else:
            cells[key] = Cell(math.fsum(row.cells[key].value for row in folds) / len(folds))
    source = "+".join(sorted({row.source for row in folds}))
    return Row(FOLD_MEAN, None, benchmark_title(FOLD_MEAN, source), source, cells, is_summary=True)


def missing_reasons(
    value: float | None, notes: Sequence[str], required: Sequence[str], preferred: Sequence[str]
) -> tuple[str, ...]:
    """Why a value is missing: the notes that name all `required` words, narrowed by each of `preferred` that any of them names.

    Only the reason of a note is kept: the cell's place tells class, protocol and metric. Empty when the value is there; `NO_REASON`
    when no note fits.
    """
    if value is not None:
        return ()
    notes = [note for note in notes if all(_names(note, word) for word in required)]
    for word in preferred:
        notes = [note for note in notes if _names(note, word)] or notes
    return tuple(dict.fromkeys(_reason(note) for note in notes)) or (NO_REASON,)


def _reason(note: str) -> str:
    _, separator, reason = note.partition(NOT_AVAILABLE)
    return f"not available: {reason}." if separator else note


def _left_out(key: str, where: str, notes: Sequence[str]) -> tuple[str, ...]:
    """The note that a metric which needs masks lacks some images of a class."""
    if key.startswith("image_") or key == "mad_image":
        return ()
    return tuple(note for note in notes if note.startswith(f"{where}:") and note.endswith(LEFT_OUT))


def _names(note: str, word: str) -> bool:
    """Whether a note is about `word`; a reason ("not available: needs pixel_ap") may name other values."""
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", note.partition(NOT_AVAILABLE)[0]) is not None


def percent(value: float | None) -> str:
    """A fraction as percent with one decimal, without the sign; a dash when it is not available."""
    return DASH if value is None else f"{100 * value:.1f}"


def column_groups(columns: Sequence[Metric] = METRICS) -> list[tuple[str, int]]:
    """The headings above the columns and how many columns each spans."""
    return [(name, len(list(members))) for name, members in groupby(columns, key=lambda column: column.group)]


def markdown(tables: Sequence[Table]) -> str:
    """All tables as GitHub-flavoured Markdown, columns aligned so that the source is readable as well."""
    return "\n".join(_markdown_table(table) for table in tables)


def _markdown_table(table: Table) -> str:
    headings = [table.row_heading, "Data", *(_flat_heading(metric.group, metric.label) for metric in METRICS)]
    lines = [headings]
    for row in table.rows:
        cells = [row.cells[metric.key] for metric in METRICS]
        marked = [percent(cell.value) + (f"<sup>{table.marks(cell)}</sup>" if cell.notes else "") for cell in cells]
        label = row.label.replace("|", r"\|")
        lines.append([f"**{label}**" if row.is_summary else label, source_label(row.source), *marked])
    return markdown_text(table.caption, lines, table.footnotes)


def markdown_text(caption: str, lines: Sequence[Sequence[str]], footnotes: Sequence[str]) -> str:
    """A caption, a table (headings first, then rows; the first two columns hold words) and its footnotes as Markdown."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rule = ["-" * width if column < 2 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    padded = [
        [
            text.ljust(width) if column < 2 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in (lines[0], rule, *lines[1:])
    ]
    notes = "".join(f"{number}. {note}\n" for number, note in enumerate(footnotes, 1))
    return f"{caption}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in padded) + (f"\n{notes}" if notes else "")


def _flat_heading(group: str, label: str) -> str:
    return label if group == "Averages" else f"{group.split(',')[0]} {label}"


def csv_text(tables: Sequence[Table]) -> str:
    """All tables in one CSV: fractions with full precision (they read back as the same floats), empty where not available."""
    with_classes = any(row.class_name is not None for table in tables for row in table.rows)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    key_columns = ["benchmark", *(["class"] if with_classes else []), "data", "protocol", "protocol_version"]
    writer.writerow([*key_columns, *(metric.key for metric in METRICS)])
    for table in tables:
        for row in table.rows:
            names = [row.benchmark, row.class_name] if with_classes else [row.benchmark]
            values = [row.cells[metric.key].value for metric in METRICS]
            numbers = ["" if value is None else repr(float(value)) for value in values]
            writer.writerow([*names, row.source, table.protocol, table.protocol_version, *numbers])
    return buffer.getvalue()


def latex(tables: Sequence[Table]) -> str:
    """All tables as LaTeX floats over the full width; the document needs the packages booktabs and graphicx."""
    return "% \\usepackage{booktabs,graphicx}\n" + "\n".join(_latex_table(table) for table in tables)


def _latex_table(table: Table) -> str:
    rows = [_latex_cells(table, row) for row in table.rows]
    return latex_text(table.caption, METRICS, table.row_heading, rows, table.footnotes)


def latex_text(
    caption: str, columns: Sequence[Metric], row_heading: str, rows: Iterable[Sequence[str]], footnotes: Sequence[str]
) -> str:
    """A LaTeX float over the full width. rows: cells as LaTeX, two of words before those of `columns`."""
    lines = [
        "\\begin{table*}[t]",
        "\\centering",
        f"\\caption{{{latex_escape(caption)}}}",
        "\\resizebox{\\textwidth}{!}{%",
        *latex_tabular((row_heading, "Data"), columns, rows),
        "}",
        *_latex_footnotes(footnotes),
        "\\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def latex_tabular(heads: tuple[str, str], columns: Sequence[Metric], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a tabular. heads: of the two columns of words, as LaTeX; rows: cells as LaTeX, those two and `columns`."""
    groups, rules, column = [], [], 3
    for name, span in column_groups(columns):
        groups.append(f"\\multicolumn{{{span}}}{{c}}{{{latex_escape(name)}}}")
        rules.append(f"\\cmidrule(lr){{{column}-{column + span - 1}}}")
        column += span
    headings = [*heads, *(latex_escape(metric.label) for metric in columns)]
    return [
        f"\\begin{{tabular}}{{ll{'r' * len(columns)}}}",
        "\\toprule",
        f" & & {' & '.join(groups)} \\\\",
        "".join(rules),
        f"{' & '.join(headings)} \\\\",
        "\\midrule",
        *(f"{' & '.join(row)} \\\\" for row in rows),
        "\\bottomrule",
        "\\end{tabular}%",
    ]


def _latex_cells(table: Table, row: Row) -> list[str]:
    cells = [row.cells[metric.key] for metric in METRICS]
    marks = [f"\\textsuperscript{{{table.marks(cell)}}}" if cell.notes else "" for cell in cells]
    numbers = ["--" if cell.value is None else percent(cell.value) for cell in cells]
    label = latex_escape(row.label)
    label = f"\\textit{{{label}}}" if row.is_summary else label
    return [label, latex_escape(source_label(row.source)), *(a + b for a, b in zip(numbers, marks, strict=True))]


def _latex_footnotes(footnotes: Iterable[str]) -> list[str]:
    notes = [f"\\textsuperscript{{{number}}} {latex_escape(note)}" for number, note in enumerate(footnotes, 1)]
    return ["\\par\\smallskip", "\\raggedright\\footnotesize", *(f"{note}\\par" for note in notes)] if notes else []


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", DASH: "--", "±": r"$\pm$",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",  # other signs in the classic font encoding
}  # fmt: skip


def latex_escape(text: str) -> str:
    """Text as LaTeX prints it literally; straight double quotes become an opening and a closing pair by turns."""
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return re.sub(r'"([^"]*)"', r"``\1''", escaped)
