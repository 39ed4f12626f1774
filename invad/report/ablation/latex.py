"""The tables of an ablation study as LaTeX."""

from collections.abc import Sequence

from invad.report.ablation.summary import AblationReport, VariantSummary
from invad.report.ablation.tables import Part, Printed, caption, footnotes, legend, marks_of, one_line, parts
from invad.report.tables.writing import latex_escape, latex_tabular


def ablation_latex(report: AblationReport, summaries: Sequence[VariantSummary]) -> str:
    """The three parts as one LaTeX float over the full width; the document needs the packages booktabs and graphicx."""
    notes = footnotes(report, summaries)
    marks = _superscript(marks_of([one_line(note) for note in report.notes], notes))
    lines = ["% \\usepackage{booktabs,graphicx}", "\\begin{table*}[t]", "\\centering"]
    lines.append(f"\\caption{{{latex_escape(f'Ablation {report.module}: {caption(report, summaries)}')}}}")
    for part in parts(report, summaries):
        lines += _latex_part(part, f"Variant{marks}")
    lines += [
        "\\raggedright\\footnotesize",
        *(f"{_superscript(str(n))} {latex_escape(note)}\\par" for n, note in enumerate(notes, 1)),
    ]
    lines += [
        f"\\textit{{{latex_escape(name)}}}: {latex_escape('; '.join(words))}\\par" for name, *words in legend(summaries)
    ]
    return "\n".join([*lines, "\\end{table*}", ""])


def _latex_part(part: Part, head: str) -> list[str]:
    rows = ([_latex_cell(cell) for cell in row] for row in part.rows)
    return [
        f"\\par\\smallskip\\textbf{{{latex_escape(part.title)}}}\\par\\smallskip",
        "\\resizebox{\\ifdim\\width>\\textwidth\\textwidth\\else\\width\\fi}{!}{%",
        *latex_tabular((head, "Seeds"), part.columns, rows),
        "}\\par\\smallskip",
    ]


def _latex_cell(cell: Printed) -> str:
    text = latex_escape(cell.text)
    if cell.text[:1] in "+-" and cell.text[1:2].isdigit():
        text = f"${cell.text[0]}${cell.text[1:]}"
    text = {0: text, 1: f"\\textbf{{{text}}}", 2: f"\\underline{{{text}}}"}[cell.rank]
    return text + (f" $\\pm$ {cell.spread}" if cell.spread else "") + _superscript(cell.marks)


def _superscript(marks: str) -> str:
    return f"\\textsuperscript{{{marks}}}" if marks else ""
