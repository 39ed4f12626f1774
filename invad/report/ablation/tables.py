"""The tables of an ablation study in three parts of readable width, as Markdown, and everything in one as CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from invad.report.ablation.summary import FINISHED, AblationReport, VariantSummary, counted, full_label, seed_words
from invad.report.labels import METRICS, PROTOCOLS, Metric, benchmark_title
from invad.report.tables.writing import DASH, markdown_text, percent, signed

COST = (
    Metric("parameters", "Cost", "Param. (M)", "Trained parameters in millions, without the encoder."),
    Metric("multiply_adds", "Cost", "M-adds (G)", "Multiply-adds for one image in thousand millions, with the encoder."),
    Metric("seconds", "Cost", "Training (s)", "Mean training time of a run in seconds."),
)  # fmt: skip
MAIN = tuple(
    metric for metric in METRICS if ("new" not in metric.group and metric.group != "Averages") or metric.key == "mad"
)
OTHER = tuple(metric for metric in METRICS if metric not in MAIN)
PAPER_MARK = " (paper)"
DATA = {
    "embedded": "Small generated data: not comparable with published numbers.",
    "path": "A copy of the data set given by its path: comparable with published numbers only if that copy is complete.",
    "official": "The official download of the data set.",
    "own": "The user's own data, for which there are no published numbers.",
}


@dataclass(frozen=True)
class Printed:
    """A cell as the reader sees it. spread: the standard deviation; rank: 1 best of its column, 2 second; marks: footnote numbers."""

    text: str
    spread: str = ""
    rank: int = 0
    marks: str = ""


@dataclass(frozen=True)
class Part:
    """Some columns of all variants. rows: variant, seeds, then one cell per column."""

    title: str
    columns: tuple[Metric, ...]
    rows: tuple[tuple[Printed, ...], ...]


def cost_texts(summaries: Sequence[VariantSummary]) -> list[tuple[str, str, str]]:
    """Per variant: parameters in millions, multiply-adds in thousand millions, seconds (one decimal when all are short); else dashes."""
    times = [summary.seconds for summary in summaries if summary.seconds is not None]
    digits = 1 if all(time < 100 for time in times) else 0

    def text(value: float | None, unit: float, decimals: int) -> str:
        return DASH if value is None else f"{value / unit:,.{decimals}f}"

    return [
        (text(row.parameters, 1e6, 2), text(row.multiply_adds, 1e9, 2), text(row.seconds, 1, digits))
        for row in summaries
    ]


def seeds_text(summary: VariantSummary) -> str:
    """How many seeds have finished, and of how many where some have not."""
    done = len(summary.seeds)
    return str(done) if done == summary.runs else f"{done} of {summary.runs}"


def one_line(text: str) -> str:
    """Text without line breaks, which would end a table row or a list item."""
    return " ".join(text.split())


def label(summary: VariantSummary) -> str:
    """The variant's name, marked when it is the paper's setting."""
    return one_line(summary.variant.name) + (PAPER_MARK if summary.variant.is_paper else "")


def legend(summaries: Sequence[VariantSummary]) -> list[tuple[str, ...]]:
    """What the variants are, of those that say so: name, then the note, the changed settings or both."""
    rows: list[tuple[str, ...]] = []
    for row in summaries:
        changes = ", ".join(f"{key} = {value}" for key, value in row.variant.changes.items())
        words = tuple(one_line(text) for text in (row.variant.note, changes) if text)
        if words:
            rows.append((label(row), *words))
    return rows


def footnotes(report: AblationReport, summaries: Sequence[VariantSummary]) -> tuple[str, ...]:
    """All notes, each once, in reading order: of the study, of the rows and their values, of the differences."""
    notes = [one_line(note) for note in report.notes]
    for columns in (MAIN, OTHER):
        for row in summaries:
            notes += [*row.notes, *(note for column in columns for note in row.values[column.key].notes)]
    notes += [note for row in summaries for value in row.values.values() for note in value.difference_notes]
    return tuple(dict.fromkeys(notes))


def caption(report: AblationReport, summaries: Sequence[VariantSummary]) -> str:
    """What the numbers are: the question, the data, the protocol, the seeds and what the columns and marks mean."""
    question = one_line(report.description).rstrip(".")
    data = " ".join(DATA.get(part, f"Data: {one_line(part)}.") for part in report.data.split("+"))
    return (
        f"{question[:1].upper()}{question[1:]}. Benchmark: {benchmark_title(report.benchmark, report.data)}. {data} "
        f"Protocol: paper ({PROTOCOLS['paper']}). Percent, higher is better; {_seeds_words(summaries)}. "
        "Bold: best of a column, underlined: second best. Param.: trained parameters, without the encoder. "
        f"M-adds: multiply-adds for one image, with the encoder. Training: mean time of a run{_training_words(report)}."
    )


def _seeds_words(summaries: Sequence[VariantSummary]) -> str:
    seeds = sorted({seed for row in summaries for seed in row.seeds})
    names = seed_words(seeds).lower()
    if any(value.std is not None for row in summaries for value in row.values.values()):
        return f"mean ± sample standard deviation over {names}; differences are between means"
    return (
        f"one run per variant ({names}), which tells nothing of the spread between seeds"
        if seeds
        else "no run finished"
    )


def _training_words(report: AblationReport) -> str:
    """Of how many epochs and on what the finished runs were, where that is known."""
    done = [run for run in report.results if run.status == FINISHED]
    epochs = sorted({run.epochs for run in done if run.epochs is not None})
    devices = sorted({one_line(run.device) for run in done if run.device})
    length = f" of {' to '.join(str(number) for number in (epochs[0], epochs[-1]))} epochs" if len(epochs) > 1 else ""
    length = f" of {counted(epochs[0], 'epoch')}" if len(epochs) == 1 else length
    return length + (f" on {' and '.join(devices)}" if devices else "")


def parts(report: AblationReport, summaries: Sequence[VariantSummary]) -> list[Part]:
    """The main metrics with the cost, the other metrics, and the differences to the paper's setting."""
    notes = footnotes(report, summaries)
    heads = [(Printed(label(row), marks=marks_of(row.notes, notes)), Printed(seeds_text(row))) for row in summaries]
    costs = [tuple(Printed(text) for text in texts) for texts in cost_texts(summaries)]
    columns = {metric.key: _column(metric.key, summaries, notes) for metric in METRICS}
    differences = [
        tuple(
            Printed(
                signed(row.values[metric.key].difference),
                marks=marks_of(row.values[metric.key].difference_notes, notes),
            )
            for metric in METRICS
        )
        for row in summaries
    ]

    def rows(metrics: Sequence[Metric]) -> list[tuple[Printed, ...]]:
        return [tuple(columns[metric.key][index] for metric in metrics) for index in range(len(summaries))]

    def part(title: str, metrics: tuple[Metric, ...], cells: Sequence[tuple[Printed, ...]]) -> Part:
        return Part(title, metrics, tuple((*head, *row) for head, row in zip(heads, cells, strict=True)))

    main = [cost + row for cost, row in zip(costs, rows(MAIN), strict=True)]
    return [
        part("Cost and main metrics", COST + MAIN, main),
        part("Other metrics", OTHER, rows(OTHER)),
        part("Difference to the paper's setting, percentage points", METRICS, differences),
    ]


def marks_of(notes: Sequence[str], footnotes: Sequence[str]) -> str:
    """The numbers of some notes among all footnotes, such as `1,3`."""
    return ",".join(str(footnotes.index(note) + 1) for note in notes)


def _column(key: str, summaries: Sequence[VariantSummary], notes: Sequence[str]) -> list[Printed]:
    """A metric of all variants; ranked as printed, so that equal numbers have equal ranks, when there is something to compare."""
    values = [row.values[key] for row in summaries]
    texts = [percent(value.mean) for value in values]
    numbers = sorted({float(text) for text in texts if text != DASH}, reverse=True)
    compared = sum(text != DASH for text in texts) > 1
    return [
        Printed(
            text,
            percent(value.std) if value.std is not None else "",
            numbers[:2].index(float(text)) + 1 if compared and text != DASH and float(text) in numbers[:2] else 0,
            marks_of(value.notes, notes),
        )
        for value, text in zip(values, texts, strict=True)
    ]


def ablation_markdown(report: AblationReport, summaries: Sequence[VariantSummary]) -> str:
    """The figure, the three parts and what the variants are, as GitHub-flavoured Markdown."""
    notes = footnotes(report, summaries)
    head = "Variant" + (
        f"<sup>{marks_of([one_line(note) for note in report.notes], notes)}</sup>" if report.notes else ""
    )
    texts = [
        f"# Ablation: {report.module}\n\n{_escaped(caption(report, summaries))}\n\n![Metrics by variant]({report.module}.png)\n"
    ]
    for part in parts(report, summaries):
        headings = [head, "Seeds", *(full_label(column) for column in part.columns)]
        lines = [headings, *([_markdown_cell(cell) for cell in row] for row in part.rows)]
        texts.append(markdown_text(f"**{part.title}**", lines, ()))
    if notes:
        texts.append("".join(f"{number}. {_escaped(note)}\n" for number, note in enumerate(notes, 1)))
    variants = [f"- {_escaped(name)}: {_escaped('; '.join(words))}\n" for name, *words in legend(summaries)]
    return "\n".join([*texts, "**Variants**\n\n" + "".join(variants)] if variants else texts)


def _markdown_cell(cell: Printed) -> str:
    text = _escaped(cell.text)
    text = {0: text, 1: f"**{text}**", 2: f"<u>{text}</u>"}[cell.rank]
    return text + (f" ± {cell.spread}" if cell.spread else "") + (f"<sup>{cell.marks}</sup>" if cell.marks else "")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", r"\|").replace("*", r"\*")


def ablation_csv(summaries: Sequence[VariantSummary]) -> str:
    """One row per variant: fractions and counts with full precision, empty where not available."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = [name for metric in METRICS for name in (metric.key, f"{metric.key}_std", f"{metric.key}_difference")]
    costs = ["parameters", "multiply_adds", "train_seconds_mean"]
    writer.writerow(["variant", "is_paper", "status", "seeds", *costs, *names])
    for row in summaries:
        values = (row.values[metric.key] for metric in METRICS)
        numbers = [number for value in values for number in (value.mean, value.std, value.difference)]
        cells = [
            "" if number is None else repr(number)
            for number in (row.parameters, row.multiply_adds, row.seconds, *numbers)
        ]
        paper = "true" if row.variant.is_paper else "false"
        writer.writerow([row.variant.name, paper, row.status, len(row.seeds), *cells])
    return buffer.getvalue()
