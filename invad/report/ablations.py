"""What an ablation study measured: its table, its four files, a short text for the terminal, and the table read back for the page."""

import csv
import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from invad.errors import InputError
from invad.files import atomic_path
from invad.report.cells import difference, fold_seeds, ranked, ranks_words, value_cell
from invad.report.labels import (
    HEADLINE,
    METRICS,
    NOT_RUN,
    PROTOCOLS,
    Metric,
    benchmark_title,
    source_label,
    source_sentences,
)
from invad.report.tables import DASH, Cell, Row, Table, caption, cell_text, csv_text, latex, markdown
from invad.text import aligned

COST = (
    Metric("parameters", "Cost", "Param. (M)", "Trained parameters in millions, without the encoder.", "millions", None),
    Metric("multiply_adds", "Cost", "M-adds (G)", "Multiply-adds for one image in thousand millions, with the encoder.", "giga", None),
    Metric("seconds", "Cost", "Training (s)", "Mean training time of a run in seconds.", "seconds", None),
)  # fmt: skip
SUFFIXES = ("csv", "md", "tex", "png")
FINISHED, FAILED = "finished", "failed"
PARTIAL = "partial"  # of a variant: only some runs have finished
PAPER_MARK = " (paper)"
DIFFERENCE = 'A row "- paper" is the difference to the paper\'s setting in percentage points.'
NO_PAPER = "There are no differences: the paper's setting is not among the finished variants."
MEANING = (
    "Param.: trained parameters, without the encoder. M-adds: multiply-adds for one image, with the encoder. "
    "Training: mean time of a run"
)
ERROR_LENGTH, WIDTH = 200, 100  # characters of an error in a footnote, and of a terminal's line


@dataclass(frozen=True)
class TrialResult:
    """One run: a variant with one seed.

    status: "finished", "failed" (`error` says why) or, of a search alone, "stopped" (early, after `epochs`). multiply_adds: of one image.
    seconds: of training. metrics: keys of `METRICS` -> fraction in [0, 1] or `None` when not available; of finished runs alone.
    """

    variant: str
    seed: int
    status: str
    error: str = ""
    parameters: int | None = None
    multiply_adds: int | None = None
    seconds: float | None = None
    epochs: int | None = None
    device: str = ""
    metrics: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class VariantRow:
    """One variant. note: what it is, in words. is_paper: the paper's own setting. changes: settings that differ, dotted key -> value."""

    name: str
    note: str
    is_paper: bool
    changes: Mapping[str, object]


@dataclass(frozen=True)
class AblationReport:
    """One study. module: the name of its files. data: key of `SOURCES`. results: all runs, in any order. notes: what readers must know."""

    module: str
    description: str
    benchmark: str
    data: str
    variants: Sequence[VariantRow]
    results: Sequence[TrialResult]
    notes: Sequence[str] = ()

    @property
    def title(self) -> str:
        """What was compared on what data, for figures and terminals."""
        where = f"{benchmark_title(self.benchmark, self.data)} ({source_label(self.data)} data)"
        return f"Ablation {self.module}, {where}"

    def runs(self, variant: VariantRow, *, finished: bool = False) -> list[TrialResult]:
        """The runs of a variant in the order of their seeds."""
        own = sorted((run for run in self.results if run.variant == variant.name), key=lambda run: run.seed)
        return [run for run in own if run.status == FINISHED] if finished else own


def write_ablation(report: AblationReport, folder: Path) -> list[Path]:
    """Write `<module>.csv`, `.md`, `.tex` and `.png` to `folder`, all four or none, and return their paths.

    The same report gives the same bytes.
    """
    from invad.report.plots import ablation_figure  # slow to import
    from invad.report.style import png_bytes

    table = ablation_table(report)
    contents = {
        "csv": csv_text([table]).encode(),
        "md": f"{markdown([table])}\n![Metrics by variant]({report.module}.png)\n".encode(),
        "tex": latex([table]).encode(),
        "png": png_bytes(ablation_figure(table, report.title)),
    }
    paths = [folder / f"{report.module}.{suffix}" for suffix in SUFFIXES]
    with ExitStack() as stack:  # the files get their names when all of them are written
        temporaries = [stack.enter_context(atomic_path(path)) for path in paths]
        for temporary, suffix in zip(temporaries, SUFFIXES, strict=True):
            temporary.write_bytes(contents[suffix])
    return paths


def ablation_table(report: AblationReport) -> Table:
    """Cost and metrics of each variant in the order given, and its difference to the paper's setting below it."""
    done = next((report.runs(variant, finished=True) for variant in report.variants if variant.is_paper), [])
    paper = {key: cell.value for key, cell in _means(done).items()} if done else {}
    rows = []
    for variant in report.variants:
        row = _row(report, variant)
        rows.append(row)
        if paper and row.keys["seeds"] != "0":
            rows.append(Row((f"{row.words[0]} - paper", ""), difference(row, paper), row.keys, "difference"))
    marked = ranked(rows, METRICS)
    return Table(
        title=f"Ablation {report.module}",
        caption=_caption(report, marked),
        heads=("Variant", "Seeds"),
        columns=COST + METRICS,
        rows=marked,
        protocol="paper",
        remarks=tuple(map(_one_line, report.notes)),
    )


def _row(report: AblationReport, variant: VariantRow) -> Row:
    runs, done = report.runs(variant), report.runs(variant, finished=True)
    seeds = str(len(done)) if len(done) == len(runs) else f"{len(done)} of {len(runs)}"
    keys = {"variant": variant.name, "is_paper": str(variant.is_paper).lower(), "status": _status(runs)}
    notes = (*_explained(variant), *_unfinished(runs))
    return Row((_label(variant), seeds), _cost(done) | _means(done), keys | {"seeds": str(len(done))}, notes=notes)


def _label(variant: VariantRow) -> str:
    return _one_line(variant.name) + (PAPER_MARK if variant.is_paper else "")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _status(runs: Sequence[TrialResult]) -> str:
    done = sum(run.status == FINISHED for run in runs)
    return NOT_RUN if not runs else FINISHED if done == len(runs) else PARTIAL if done else FAILED


def _explained(variant: VariantRow) -> tuple[str, ...]:
    """What the variant is, where its name does not say all."""
    changes = ", ".join(f"{key} = {value}" for key, value in variant.changes.items())
    words = "; ".join(_one_line(text) for text in (variant.note, changes) if text)
    return (f"{_one_line(variant.name)}: {words}",) if words else ()


def _unfinished(runs: Sequence[TrialResult]) -> tuple[str, ...]:
    """Why runs did not finish; seeds that failed alike share a note."""
    failures: dict[str, list[int]] = {}
    for run in runs:
        if run.status != FINISHED:
            error = textwrap.shorten(run.error or "no reason was recorded", ERROR_LENGTH, placeholder=" ...")
            failures.setdefault(error.removesuffix("."), []).append(run.seed)
    return tuple(f"{_seeds(seeds)} failed: {error}." for error, seeds in failures.items()) if runs else ("Not run.",)


def _cost(done: Sequence[TrialResult]) -> dict[str, Cell]:
    """Sizes of the first run that has them, and the mean time."""
    seconds = [run.seconds for run in done if run.seconds is not None]
    found = {
        key: [n for run in done if (n := getattr(run, key)) is not None] for key in ("parameters", "multiply_adds")
    }
    sizes = {key: Cell(next(iter(numbers), None)) for key, numbers in found.items()}
    return {**sizes, "seconds": Cell(math.fsum(seconds) / len(seconds) if seconds else None)}


def _means(done: Sequence[TrialResult]) -> dict[str, Cell]:
    """The metrics over the finished seeds; dashes without a note where there are none: the row says why."""
    by_seed = [{metric.key: value_cell(_finite(run.metrics.get(metric.key))) for metric in METRICS} for run in done]
    return fold_seeds(by_seed) if done else {metric.key: Cell() for metric in METRICS}


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _caption(report: AblationReport, rows: Sequence[Row]) -> str:
    question = _one_line(report.description).rstrip(".")
    done = [run for run in report.results if run.status == FINISHED]
    devices = sorted({_one_line(run.device) for run in done if run.device})
    is_compared = any(row.kind == "difference" for row in rows)
    return caption(
        f"{question[:1].upper()}{question[1:]}. Benchmark: {benchmark_title(report.benchmark, report.data)},"
        f" {source_label(report.data)} data. {source_sentences([report.data])}",
        f"Protocol: paper ({PROTOCOLS['paper']}). Percent, higher is better; {_spread(done, rows)}.",
        ranks_words(rows, "the study"),
        MEANING + (f" on {' and '.join(devices)}." if devices else "."),
        DIFFERENCE if is_compared else NO_PAPER,
    )


def _spread(done: Sequence[TrialResult], rows: Sequence[Row]) -> str:
    words = _seeds(sorted({run.seed for run in done})).lower()
    if any(cell.std is not None for row in rows for cell in row.cells.values()):
        return f"mean ± sample standard deviation over {words}"
    return (
        f"one run per variant ({words}), which tells nothing of the spread between seeds" if done else "no run finished"
    )


def _seeds(seeds: Sequence[int]) -> str:
    return f"Seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"


def summary_text(report: AblationReport) -> str:
    """The main numbers as plain text, at most 100 columns wide: means in percent, dashes with the reasons below."""
    table = ablation_table(report)
    rows = [row for row in table.rows if row.kind != "difference"]
    columns = [*COST, *(metric for key in HEADLINE for metric in METRICS if metric.key == key)]
    cells = [[cell_text(column, replace(row.cells[column.key], std=None)) for column in columns] for row in rows]
    heads = ["seeds", "M", "G", "s", "I-AUROC", "P-AUROC", "P-AP", "AUPRO", "mAD"]
    numbers = [heads, *([row.words[1], *texts] for row, texts in zip(rows, cells, strict=True))]
    room = WIDTH - sum(max(map(len, column)) + 2 for column in zip(*numbers, strict=True))
    names = ["variant", *(_cut(row.words[0], room) for row in rows)]
    head, *body = aligned([[name, *texts] for name, texts in zip(names, numbers, strict=True)])
    title = textwrap.shorten(report.title, WIDTH, placeholder=" ...")
    fates = [(variant, fate) for variant in report.variants for fate in _unfinished(report.runs(variant))]
    notes = [f"{_label(variant)}: {fate}" for variant, fate in fates]
    remarks = [line for text in (*notes, *table.remarks) for line in textwrap.wrap(text, WIDTH, subsequent_indent="  ")]
    text = "\n".join([title, head, "-" * max(map(len, (head, *body))), *body, *remarks]) + "\n"
    return text.replace(DASH, "-")  # not every terminal shows a long dash


def _cut(name: str, width: int) -> str:
    if len(name) <= width:
        return name
    mark = PAPER_MARK if name.endswith(PAPER_MARK) else ""
    return f"{name[: width - 3 - len(mark)]}...{mark}"


def read_ablation(path: Path) -> Table:
    """The table of a finished study, from `<module>.csv`. Raises `InputError` when it is missing or not such a file."""
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""), strict=True)
        rows = [_read_row(record, f"line {number}") for number, record in enumerate(reader, 2)]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except KeyError as error:
        raise InputError(f"{path}: not the CSV file of an ablation study: no column {error}") from None
    except (csv.Error, ValueError) as error:
        raise InputError(f"{path}: not the CSV file of an ablation study ({error})") from None
    if not rows:
        raise InputError(f"{path}: not the CSV file of an ablation study: no variants")
    marked = ranked(rows, METRICS)
    words = f"Protocol: paper ({PROTOCOLS['paper']}). Percent, higher is better; mean over seeds, ± sample standard deviation if several."
    where = f"Data and notes of the study stand in tables/ablation_{path.stem}.md."
    return Table(
        title=f"Ablation: {path.stem}",
        caption=caption(words, ranks_words(marked, "the study"), where),
        heads=("Variant", "Seeds"),
        columns=COST + METRICS,
        rows=marked,
        protocol="paper",
    )


def _read_row(record: Mapping[str, str], where: str) -> Row:
    if None in record or None in record.values():
        raise ValueError(f"{where}: not as many cells as columns")
    variant = VariantRow(record["variant"], "", record["is_paper"] == "true", {})
    label, keys = _label(variant), {"variant": variant.name}
    cells = {column.key: _read_cell(record, column.key, where) for column in COST + METRICS}
    if record["kind"] == "difference":
        zeros = {metric.key: 0.0 for metric in METRICS}
        return Row((f"{label} - paper", ""), difference(Row((), cells), zeros), keys, "difference")
    return Row((label, record["seeds"]), cells, keys)


def _read_cell(record: Mapping[str, str], key: str, where: str) -> Cell:
    """Finite numbers; None where the file has none."""
    numbers = [float(text) if text else None for text in (record[key], record.get(f"{key}_std"))]
    if not all(number is None or math.isfinite(number) for number in numbers):
        raise ValueError(f"{where}: {key} is no finite number")
    return Cell(numbers[0], std=numbers[1])
