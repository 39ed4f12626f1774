"""Cells of the results tables: seeds folded into mean and standard deviation, and the best of each column found."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace

from invad.report.labels import METHODS, METRICS, PROTOCOLS, Metric, benchmark_order, source_sentences
from invad.report.results import Result
from invad.report.tables.notes import class_reasons, mean_reasons
from invad.report.tables.table import Cell, Row
from invad.report.tables.writing import number_text

RANKS = "Bold: best of a column within {}; underlined: second best."


def ordered(results: Iterable[Result]) -> list[Result]:
    """The results in the order of every table: by benchmark, kind of data, then method, whatever the order they come in."""
    results = list(results)
    benchmarks = benchmark_order({result.published_name or result.benchmark for result in results})
    methods = list(METHODS)

    def place(result: Result) -> tuple[int, str, str, int, str, str]:
        method = methods.index(result.method) if result.method in methods else len(methods)
        name = result.published_name or result.benchmark
        return benchmarks.index(name), result.source, result.benchmark, method, result.label, result.key

    return sorted(results, key=place)


def mean_cells(result: Result, protocol: str, with_title: bool = True) -> dict[str, Cell]:
    """The means over the classes, by metric. with_title: put the benchmark's title before each note, where benchmarks meet."""
    cells = {key: fold_seeds(by_seed) for key, by_seed in mean_cells_by_seed(result, protocol).items()}
    return {key: titled(cell, result.title) for key, cell in cells.items()} if with_title else cells


def mean_cells_by_seed(result: Result, protocol: str) -> dict[str, list[Cell]]:
    """The means over the classes, by metric: one cell for each seed, in their order."""
    all_metrics = [result.metrics_by_seed[seed] for seed in result.seeds]
    return {
        metric.key: [
            Cell(metrics["mean"][protocol][metric.key], mean_reasons(metrics, protocol, metric.key))
            for metrics in all_metrics
        ]
        for metric in METRICS
    }


def class_cells(result: Result, class_name: str, protocol: str) -> dict[str, Cell]:
    """The values of one class, by metric."""
    return {
        metric.key: fold_seeds(
            [
                Cell(
                    metrics["per_class"][class_name][protocol][metric.key],
                    class_reasons(metrics, class_name, protocol, metric.key),
                )
                for metrics in (result.metrics_by_seed[seed] for seed in result.seeds)
            ]
        )
        for metric in METRICS
    }


def fold_seeds(cells: Sequence[Cell]) -> Cell:
    """One cell of the same value with several seeds: the mean, the sample standard deviation (n - 1), and all notes."""
    if len(cells) == 1:
        return cells[0]
    values = [cell.value for cell in cells if cell.value is not None]
    notes = tuple(dict.fromkeys(note for cell in cells for note in cell.notes))
    if not values:
        return Cell(None, notes)
    if len(values) < len(cells):
        notes = (f"Mean of {len(values)} of {len(cells)} seeds; the others have no value.", *notes)
    return Cell(math.fsum(values) / len(values), notes, statistics.stdev(values) if len(values) > 1 else None)


def titled(cell: Cell, title: str) -> Cell:
    """The cell with a title before each of its notes."""
    return replace(cell, notes=tuple(f"{title}: {note}" for note in cell.notes))


def ranked(rows: Sequence[Row], columns: Sequence[Metric]) -> tuple[Row, ...]:
    """The rows with the best and the second best number of each block and column marked; equal as printed is equal in rank.

    Differences never take part, and summaries only among themselves: a mean does not compete with what it is made of. A column that has
    a number in one row of a block only has no best there, nor has one without `Metric.best`.
    """
    groups: dict[tuple[str, bool], list[int]] = {}
    for index, row in enumerate(rows):
        if row.kind != "difference":
            groups.setdefault((row.block, row.kind == "summary"), []).append(index)
    marked = [dict(row.cells) for row in rows]
    for indices in groups.values():
        for column in columns:
            printed = {
                index: float(number_text(column.form, cell.value).replace(",", ""))
                for index in indices
                if (cell := rows[index].cells.get(column.key)) is not None and cell.value is not None
            }
            if column.best is None or len(printed) < 2:
                continue
            best = sorted(set(printed.values()), reverse=column.best == "highest")[:2]
            for index, number in printed.items():
                if number in best:
                    marked[index][column.key] = replace(marked[index][column.key], rank=1 if number == best[0] else 2)
    return tuple(replace(row, cells=cells) for row, cells in zip(rows, marked, strict=True))


def has_ranks(rows: Iterable[Row]) -> bool:
    """Whether any number is marked as the best."""
    return any(cell.rank for row in rows for cell in row.cells.values())


def protocol_words(protocol: str, results: Sequence[Result]) -> str:
    """The protocol, its version and what it is, and the unit, as sentences of a caption."""
    versions = {str(metrics["protocol_version"]) for result in results for metrics in result.metrics_by_seed.values()}
    return (
        f"Protocol: {protocol}, version {' and '.join(sorted(versions))} ({PROTOCOLS[protocol]}). "
        "Percent, higher is better."
    )


def measured_caption(protocol: str, results: Sequence[Result], rows: Sequence[Row], block: str) -> str:
    """The caption of a table of measured results. rows: those of the table, ranked; block: what is compared in it, such as `a class`."""
    return caption(
        (
            protocol_words(protocol, results),
            seeds_words(results),
            RANKS.format(block) if has_ranks(rows) else "",
            sources_words(results),
        )
    )


def caption(sentences: Iterable[str]) -> str:
    """The sentences of a caption, without those that are empty."""
    return " ".join(sentence for sentence in sentences if sentence)


def seeds_words(results: Sequence[Result]) -> str:
    """What stands after ± and over which seeds; "" when every result has one."""
    several = sorted({result.seeds for result in results if len(result.seeds) > 1})
    if not several:
        return ""
    lists = " or ".join(", ".join(map(str, seeds)) for seeds in several)
    return f"Mean ± sample standard deviation over the seeds {lists}."


def sources_words(results: Iterable[Result]) -> str:
    """What the marks of the data mean."""
    return source_sentences(result.source for result in results)
