"""Tables as files: Markdown, CSV, LaTeX, and JSON that reads back as the same table."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from invad.errors import InputError
from invad.files import write_text
from invad.report.tables import CLOSE, DASH, Row, Table, blocks, column_groups, flat_heading

_TABLE = TypeAdapter(Table)


def write_tables(tables: Sequence[Table], folder: Path, name: str) -> None:
    """Write all of them as `name`.md, .csv and .tex."""
    write_text(folder / f"{name}.md", markdown(tables))
    write_text(folder / f"{name}.csv", csv_text(tables))
    write_text(folder / f"{name}.tex", latex(tables))


def table_json(table: Table) -> str:
    """A table as JSON, for `read_table`."""
    return _TABLE.dump_json(table, indent=2).decode() + "\n"


def read_table(path: Path) -> Table:
    """Read a table; `InputError` where the file does not hold what `table_json` gives."""
    try:
        return _TABLE.validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(f"{path}: not a table of this project ({error.errors()[0]['msg']})") from None


def markdown(tables: Sequence[Table]) -> str:
    """All tables as GitHub-flavoured Markdown, columns aligned so that the source is readable as well."""
    return "\n".join(map(_markdown_table, tables))


def _markdown_table(table: Table) -> str:
    lines = [[*table.heads, *map(flat_heading, table.columns)], *(_markdown_row(table, row) for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    words = len(table.heads)
    rule = ["-" * width if column < words else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    text = f"**{markdown_escape(table.title)}.** {markdown_escape(table.caption)}\n\n"
    for line in (lines[0], rule, *lines[1:]):
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        padded[words:] = [cell.rjust(width) for cell, width in zip(line[words:], widths[words:], strict=True)]
        text += f"| {' | '.join(padded)} |\n"
    notes = [f"{number}. {markdown_escape(note)}\n" for number, note in enumerate(table.footnotes, 1)]
    remarks = [f"- {markdown_escape(remark)}\n" for remark in table.remarks]
    return text + "".join("\n" + "".join(part) for part in (notes, remarks) if part)


def _markdown_row(table: Table, row: Row) -> list[str]:
    def marked(text: str, sign: str, marks: str) -> str:
        return sign.format(markdown_escape(text)) + (f"<sup>{marks}</sup>" if marks else "")

    first, *words = table.words(row)
    sign = {"summary": "**{}**", "difference": "*{}*"}.get(row.kind, "{}")
    cells = [marked(text, ("{}", "**{}**", "<u>{}</u>")[rank], marks) for text, rank, marks in table.printed(row)]
    return [marked(first, sign, table.marks(row)), *map(markdown_escape, words), *cells]


def markdown_escape(text: str) -> str:
    """Text as Markdown prints it literally, in a table as well."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", r"\|").replace("*", r"\*")


def csv_text(tables: Sequence[Table]) -> str:
    """All tables in one CSV: the words of a row, protocol and kind, then numbers with full precision (they read back the same).

    Empty where not available. `<key>_low`, `<key>_high` and `<key>_std` are there where any cell of the column has an interval or a
    standard deviation, and `close` where any cell is: the keys of those, with blanks between them.
    """
    rows = [(table, row) for table in tables for row in table.rows]
    columns = list(dict.fromkeys(column.key for table in tables for column in table.columns))
    known = {name for _, row in rows for name, value in _csv_numbers(row).items() if value is not None}
    names = [name for key in columns for name in (key, *(f"{key}_{part}" for part in ("low", "high", "std")))]
    numbers = [name for name in names if name in known or name in columns]
    numbers += ["close"] if any(_csv_close(row) for _, row in rows) else []
    words = dict.fromkeys(_csv_name(head) for _, row in rows for head in row.words)
    buffer = io.StringIO()
    writer = csv.DictWriter(
        buffer, [*words, "protocol", "kind", *numbers], restval="", extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    for table, row in rows:
        record: dict[str, object] = {_csv_name(head): "" if word == DASH else word for head, word in row.words.items()}
        record |= {"protocol": table.protocol, "kind": row.kind, "close": _csv_close(row)}
        writer.writerow(record | _csv_numbers(row))
    return buffer.getvalue()


def _csv_numbers(row: Row) -> dict[str, float | None]:
    numbers: dict[str, float | None] = {}
    for key, cell in row.cells.items():
        low, high = cell.interval or (None, None)
        numbers |= {key: cell.value, f"{key}_low": low, f"{key}_high": high, f"{key}_std": cell.std}
    return numbers


def _csv_close(row: Row) -> str:
    return " ".join(key for key, cell in row.cells.items() if cell.is_close)


def _csv_name(head: str) -> str:
    return head.lower().replace(" ", "_")


def latex(tables: Sequence[Table]) -> str:
    """All tables as LaTeX floats over the full width; the document needs the packages booktabs and graphicx."""
    return "% \\usepackage{booktabs,graphicx}\n" + "\n".join(map(_latex_table, tables))


def _latex_table(table: Table) -> str:
    words, groups, rules, column = len(table.heads), [], [], len(table.heads) + 1
    for name, span in column_groups(table.columns):
        groups.append(f"\\multicolumn{{{span}}}{{c}}{{{latex_escape(name)}}}")
        rules += [f"\\cmidrule(lr){{{column}-{column + span - 1}}}"] if name else []
        column += span
    heads = map(latex_escape, (*table.heads, *(metric.label for metric in table.columns)))
    body = "\\midrule\n".join("".join(_latex_row(table, row) for row in rows) for rows in blocks(table))
    notes = [f"{_latex_marks(str(number))} {latex_escape(note)}" for number, note in enumerate(table.footnotes, 1)]
    notes += map(latex_escape, table.remarks)
    return (
        "\\begin{table*}[tp]\n\\centering\\setlength{\\tabcolsep}{3pt}\n"
        f"\\caption{{{latex_escape(f'{table.title}. {table.caption}')}}}\\smallskip\n"
        "\\resizebox{\\ifdim\\width>\\textwidth\\textwidth\\else\\width\\fi}{!}{%\n"
        f"\\begin{{tabular}}{{{'l' * words}{'r' * len(table.columns)}}}\n\\toprule\n"
        + (f"{'& ' * words}{' & '.join(groups)} \\\\\n{''.join(rules)}\n" if rules else "")
        + f"{' & '.join(heads)} \\\\\n\\midrule\n{body}\\bottomrule\n\\end{{tabular}}%\n}}\n"
        + ("\\par\\smallskip\\raggedright\\footnotesize\n" if notes else "")
        + "".join(f"{note}\\par\n" for note in notes)
        + "\\end{table*}\n"
    )


def _latex_row(table: Table, row: Row) -> str:
    first, *words = map(latex_escape, table.words(row))
    first = f"\\textit{{{first}}}" if row.kind in ("summary", "difference") else first
    cells = []
    for text, rank, marks in table.printed(row):
        signed = re.sub(r"(?<!\S)([+-])(?=\d)", r"$\1$", latex_escape(text))
        cells.append(("{}", "\\textbf{{{}}}", "\\underline{{{}}}")[rank].format(signed) + _latex_marks(marks))
    return f"{' & '.join([first + _latex_marks(table.marks(row)), *words, *cells])} \\\\\n"


def _latex_marks(marks: str) -> str:
    return f"\\textsuperscript{{{marks}}}" if marks else ""


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", DASH: "--", "±": r"$\pm$", CLOSE: r"$\approx$",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",  # other signs in the classic font encoding
}  # fmt: skip


def latex_escape(text: str) -> str:
    """Text as LaTeX prints it literally; straight double quotes become an opening and a closing pair by turns."""
    return re.sub(r'"([^"]*)"', r"``\1''", "".join(_LATEX.get(character, character) for character in text))
