"""The report of an ablation study: tables, a CSV file and a figure, written together, and a short table for the terminal."""

import textwrap
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from invad.files import atomic_path
from invad.report.ablation.latex import ablation_latex
from invad.report.ablation.summary import AblationReport, TrialResult, VariantRow, VariantSummary, summarise
from invad.report.ablation.tables import (
    PAPER_MARK,
    ablation_csv,
    ablation_markdown,
    cost_texts,
    label,
    seeds_text,
)
from invad.report.labels import benchmark_title, source_label
from invad.report.tables.writing import DASH, percent

__all__ = ["AblationReport", "TrialResult", "VariantRow", "summary_text", "write_ablation"]

WIDTH = 100  # characters of a terminal's line
TERMINAL = {
    "image_auroc": "I-AUROC",
    "pixel_auroc": "P-AUROC",
    "pixel_ap": "P-AP",
    "region_aupro": "AUPRO",
    "mad": "mAD",
}


def write_ablation(report: AblationReport, folder: Path) -> list[Path]:
    """Write `<module>.csv`, `.md`, `.tex` and `.png` to `folder`, all four or none, and return their paths.

    The same report gives the same bytes. Raises `InputError` when variants and results do not fit together.
    """
    from invad.report.ablation.figure import ablation_figure  # slow to import
    from invad.report.figures.style import png_bytes

    summaries = summarise(report)
    contents = {
        "csv": ablation_csv(summaries).encode(),
        "md": ablation_markdown(report, summaries).encode(),
        "tex": ablation_latex(report, summaries).encode(),
        "png": png_bytes(ablation_figure(summaries, title(report))),
    }
    paths = [folder / f"{report.module}.{suffix}" for suffix in contents]
    with ExitStack() as stack:  # the files get their names when all of them are written
        temporaries = [stack.enter_context(atomic_path(path)) for path in paths]
        for temporary, content in zip(temporaries, contents.values(), strict=True):
            temporary.write_bytes(content)
    return paths


def title(report: AblationReport) -> str:
    """What was compared on what data, for figures and terminals."""
    return (
        f"Ablation {report.module}, {benchmark_title(report.benchmark, report.data)} ({source_label(report.data)} data)"
    )


def summary_text(report: AblationReport) -> str:
    """The main numbers as plain text, at most 100 columns wide: means in percent, dashes with the reasons below."""
    summaries = summarise(report)
    rows = [["", "seeds", "M", "G", "s", *TERMINAL.values()]]
    for summary, costs in zip(summaries, cost_texts(summaries), strict=True):
        values = [percent(summary.values[key].mean) for key in TERMINAL]
        rows.append(["", seeds_text(summary), *costs, *values])
    widths = [max(len(row[column]) for row in rows) for column in range(1, len(rows[0]))]
    room = WIDTH - sum(widths) - 2 * len(widths)
    first = min(room, max(len("variant"), *(len(label(summary)) for summary in summaries)))
    names = ["variant", *(_cut(label(summary), first) for summary in summaries)]
    lines = [_line(textwrap.shorten(title(report), WIDTH, placeholder=" ..."))]
    for name, row in zip(names, rows, strict=True):
        cells = (text.rjust(width) for text, width in zip(row[1:], widths, strict=True))
        lines.append(_line("  ".join([name.ljust(first), *cells])))
    lines.insert(2, "-" * (first + sum(widths) + 2 * len(widths)))
    return "\n".join([*lines, *_remarks(summaries, report.notes)]) + "\n"


def _line(text: str) -> str:
    return text.replace(DASH, "-").rstrip()  # not every terminal shows a long dash


def _cut(name: str, width: int) -> str:
    if len(name) <= width:
        return name
    mark = PAPER_MARK if name.endswith(PAPER_MARK) else ""
    return f"{name[: width - 3 - len(mark)]}...{mark}"


def _remarks(summaries: Sequence[VariantSummary], notes: Sequence[str]) -> list[str]:
    texts = [f"{label(summary)}: {note}" for summary in summaries for note in summary.notes]
    return [
        line
        for text in (*texts, *notes)
        for line in textwrap.wrap(" ".join(text.split()), WIDTH, subsequent_indent="  ")
    ]
