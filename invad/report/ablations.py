"""What an ablation study measured: its table, its files, and a short text for the terminal."""

import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from invad.files import write_text
from invad.report.labels import (
    HEADLINES,
    METRICS,
    PROTOCOLS,
    Metric,
    benchmark_title,
    columns_of,
    source_label,
    source_sentences,
)
from invad.report.tables import (
    Cell,
    Row,
    Table,
    caption,
    difference,
    over_seeds,
    ranked,
    ranks_words,
    value_cells,
)
from invad.report.writers import markdown, table_json, write_tables

COST = (
    Metric("parameters", "Cost", "Param. (M)", "Trained parameters in millions, without the encoder.", "millions", None),
    Metric("multiply_adds", "Cost", "M-adds (G)", "Multiply-adds for one image in thousand millions, with the encoder.", "giga", None),
    Metric("seconds", "Cost", "Training (s)", "Mean training time of a run in seconds.", "seconds", None),
    Metric("images_per_second", "Cost", "Images/s", "Test images scored in a second, metrics included.", "score", None),
    Metric("memory", "Cost", "Memory (GB)", "Most main memory of a run's process.", "giga", None),
)  # fmt: skip
FINISHED, FAILED = "finished", "failed"
PARTIAL, NOT_RUN = "partial", "not run"  # of a variant: only some runs, or none
PAPER_MARK = " (paper)"
DIFFERENCE = 'A row "- paper" is the difference to the paper\'s setting in percentage points.'
NO_PAPER = "There are no differences: the paper's setting is not among the finished variants."
MEANING = (
    "Param.: trained parameters, without the encoder. M-adds: multiply-adds for one image, with the encoder. "
    "Images/s: test images scored, metrics included. Memory: the most main memory of a run. Training: mean time of a run"
)
ERROR_LENGTH = 200  # characters of an error in a footnote


@dataclass(frozen=True)
class TrialResult:
    """One run: a variant with one seed.

    status: "finished", "failed" (`error` says why) or, of a search alone, "stopped" (early, after `epochs`). multiply_adds: of one image.
    seconds: of training. images_per_second: of scoring, metrics included. memory: the most main memory that its process held, in bytes.
    metrics: keys of `METRICS` -> fraction in [0, 1] or `None` when not available; of finished runs alone.
    """

    variant: str
    seed: int
    status: str
    error: str = ""
    parameters: int | None = None
    multiply_adds: int | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    memory: int | None = None
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

    def runs(self, variant: VariantRow, *, finished: bool = False) -> list[TrialResult]:
        """The runs of a variant in the order of their seeds."""
        own = sorted((run for run in self.results if run.variant == variant.name), key=lambda run: run.seed)
        return [run for run in own if run.status == FINISHED] if finished else own


def write_ablation(report: AblationReport, folder: Path) -> list[Path]:
    """Write `<module>.json`, which the report reads, `.csv`, `.md` and `.tex`; return their paths. Equal studies give equal bytes."""
    table = ablation_table(report)
    write_tables([table], folder, report.module)
    write_text(folder / f"{report.module}.json", table_json(table))
    return [folder / f"{report.module}.{suffix}" for suffix in ("json", "csv", "md", "tex")]


def ablation_table(report: AblationReport) -> Table:
    """Cost and metrics of each variant in the order given, and its difference to the paper's setting below it."""
    done = next((report.runs(variant, finished=True) for variant in report.variants if variant.is_paper), [])
    paper = _means(done) if done else {}
    rows = []
    for variant in report.variants:
        row = _row(report, variant)
        rows.append(row)
        if paper and row.words["Status"] in (FINISHED, PARTIAL):
            rows.append(difference(row, paper, {"Variant": f"{row.words['Variant']} - paper"}))
    columns = _columns(report.results)
    marked = ranked(rows, columns)
    return Table(
        title=f"Ablation {report.module}",
        caption=_caption(report, marked),
        heads=("Variant", "Seeds"),
        columns=COST + columns,
        rows=marked,
        protocol="paper",
        remarks=tuple(report.notes),
    )


def _row(report: AblationReport, variant: VariantRow) -> Row:
    runs, done = report.runs(variant), report.runs(variant, finished=True)
    status = NOT_RUN if not runs else FINISHED if len(done) == len(runs) else PARTIAL if done else FAILED
    words = {
        "Variant": variant.name + (PAPER_MARK if variant.is_paper else ""),
        "Seeds": str(len(done)) if len(done) == len(runs) else f"{len(done)} of {len(runs)}",
        "Status": status,
    }
    changes = ", ".join(f"{key} = {value}" for key, value in variant.changes.items())
    about = "; ".join(filter(None, (variant.note, changes)))
    notes = (f"{variant.name}: {about}",) if about else ()
    return Row(words, _cost(done) | _means(done), notes=(*notes, *_unfinished(runs)))


def _unfinished(runs: Sequence[TrialResult]) -> tuple[str, ...]:
    """Why runs did not finish; seeds that failed alike share a note."""
    failures: dict[str, list[int]] = {}
    for run in runs:
        if run.status != FINISHED:
            error = textwrap.shorten(run.error or "no reason was recorded", ERROR_LENGTH, placeholder=" ...")
            failures.setdefault(error.removesuffix("."), []).append(run.seed)
    return tuple(f"{_seeds(seeds)} failed: {error}." for error, seeds in failures.items()) if runs else ("Not run.",)


def _cost(done: Sequence[TrialResult]) -> dict[str, Cell]:
    """The mean over the runs that have it: sizes are the same in all of them."""
    found = {column.key: [n for run in done if (n := getattr(run, column.key)) is not None] for column in COST}
    means = {key: statistics.mean(numbers) if numbers else None for key, numbers in found.items()}
    return {key: Cell(value) for key, value in means.items()}


def _means(done: Sequence[TrialResult]) -> dict[str, Cell]:
    """The metrics over the finished seeds; dashes without a note where there are none: the row says why."""
    by_seed = [value_cells({metric.key: run.metrics.get(metric.key) for metric in _columns(done)}) for run in done]
    return over_seeds(by_seed) if done else {metric.key: Cell() for metric in METRICS}


def _columns(runs: Sequence[TrialResult]) -> tuple[Metric, ...]:
    return columns_of(key for run in runs for key in run.metrics)


def _caption(report: AblationReport, rows: Sequence[Row]) -> str:
    question = report.description.rstrip(".")
    done = [run for run in report.results if run.status == FINISHED]
    devices = sorted({run.device for run in done if run.device})
    seeds = _seeds(sorted({run.seed for run in done})).lower()
    spread = f"one run per variant ({seeds}), which tells nothing of their spread" if done else "no run finished"
    if any(cell.std is not None for row in rows for cell in row.cells.values()):
        spread = f"mean ± sample standard deviation over {seeds}"
    return caption(
        f"{question[:1].upper()}{question[1:]}. Benchmark: {benchmark_title(report.benchmark, report.data)},"
        f" {source_label(report.data)} data. {source_sentences([report.data])}",
        f"Protocol: paper ({PROTOCOLS['paper']}). Percent, higher is better; {spread}.",
        ranks_words(rows, "the study"),
        MEANING + (f" on {' and '.join(devices)}." if devices else "."),
        DIFFERENCE if any(row.kind == "difference" for row in rows) else NO_PAPER,
    )


def _seeds(seeds: Sequence[int]) -> str:
    return f"Seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"


def summary_text(report: AblationReport) -> str:
    """The table without differences and with the main metrics alone, for the terminal."""
    table = ablation_table(report)
    columns = (*COST[:3], *HEADLINES)
    return markdown(
        [replace(table, columns=columns, rows=tuple(row for row in table.rows if row.kind != "difference"))]
    )
