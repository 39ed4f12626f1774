"""What the tables of results are made of: one line for a result or the mean of folds, seeds folded, the best of each column marked."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from invad.config import GradientConfig
from invad.report.labels import (
    FOLD_MEAN,
    FOLDS,
    METHODS,
    METRICS,
    PROTOCOLS,
    Metric,
    benchmark_order,
    benchmark_title,
    source_sentences,
)
from invad.report.results import Result
from invad.report.tables import Cell, Row, caption, number_text

MISSING = "Not available; the notes of the evaluation say why."
OTHER_SEEDS = "No standard deviation: the folds have different seeds."
Cells = dict[str, Cell]


@dataclass(frozen=True)
class Line:
    """What a row of measured numbers is about: one result, or all four folds of COCO-AD of one method, in their order."""

    members: tuple[Result, ...]

    @property
    def is_mean(self) -> bool:
        """Whether it is the mean of the folds."""
        return len(self.members) > 1

    @property
    def first(self) -> Result:
        """The result, or that of the first fold."""
        return self.members[0]

    @property
    def source(self) -> str:
        """The source, or those of the folds joined by `+` where they differ."""
        return "+".join(sorted({member.source for member in self.members}))

    @property
    def title(self) -> str:
        """The benchmark as people write it."""
        return benchmark_title(FOLD_MEAN, self.source) if self.is_mean else self.first.title

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that all members have; none where they differ."""
        return self.first.seeds if len({member.seeds for member in self.members}) == 1 else ()

    @property
    def epochs(self) -> str:
        """Such as `100`, or `50 to 100` where they differ; "" for a method that is not trained by gradients."""
        configs = [member.config.train for member in self.members]
        found = sorted({config.epochs for config in configs if isinstance(config, GradientConfig)})
        return " to ".join(map(str, dict.fromkeys((*found[:1], *found[-1:]))))

    def keys(self, protocol: str = "") -> dict[str, str]:
        """What identifies the row in the CSV."""
        keys = {
            "benchmark": FOLD_MEAN if self.is_mean else self.first.benchmark,
            "method": self.first.method or "",
            "label": self.first.label,
            "source": self.source,
            "epochs": self.epochs,
            "seeds": " ".join(map(str, self.seeds)),
        }
        version = str(self.first.metrics["protocol_version"])
        return keys | {"protocol": protocol, "protocol_version": version} if protocol else keys

    def cells(self, protocol: str, *, about: bool = True) -> Cells:
        """The means over the classes, by metric. about: say the benchmark in each note, where benchmarks meet."""
        by_seed = [[_means(fold.metrics_by_seed[seed], protocol) for seed in fold.seeds] for fold in self.members]
        if not self.is_mean:
            cells = fold_seeds(by_seed[0])
            return {key: about_title(cell, self.title) for key, cell in cells.items()} if about else cells
        if self.seeds:
            return fold_seeds([self._mean(cells) for cells in zip(*by_seed, strict=True)])
        means = self._mean([fold_seeds(cells) for cells in by_seed])
        return {key: replace(cell, notes=(OTHER_SEEDS, *cell.notes)) for key, cell in means.items()}

    def _mean(self, folds: Sequence[Cells]) -> Cells:
        """The mean of each value, which every fold has to have."""
        means = {}
        for key in (metric.key for metric in METRICS):
            values = [fold[key].value for fold in folds]
            known = [value for value in values if value is not None]
            if len(known) == len(values):
                means[key] = Cell(math.fsum(known) / len(known))
            else:
                missing = [m.title for m, value in zip(self.members, values, strict=True) if value is None]
                means[key] = Cell(None, (f"The mean needs all four folds; not available: {', '.join(missing)}.",))
        return means


def lines(results: Iterable[Result]) -> list[Line]:
    """A line for each result in the order of every table, whatever the order they come in: by benchmark, kind of data, then method."""
    results = list(results)
    benchmarks = benchmark_order({result.published_or_own for result in results})
    methods = list(METHODS)

    def place(result: Result) -> tuple[int, str, str, int, str, str]:
        method = methods.index(result.method) if result.method in methods else len(methods)
        where = benchmarks.index(result.published_or_own)
        return where, result.source, result.benchmark, method, result.label, result.key

    return [Line((result,)) for result in sorted(results, key=place)]


def fold_means(results: Iterable[Result]) -> list[Line]:
    """The mean of COCO-AD's folds of each label that has exactly one result of each, in the order of the labels."""
    by_label: dict[str, list[Result]] = {}
    for result in results:
        if result.published_name in FOLDS:
            by_label.setdefault(result.label, []).append(result)
    groups = [sorted(group, key=lambda result: result.published_name or "") for group in by_label.values()]
    return [Line(tuple(group)) for group in groups if tuple(result.published_name for result in group) == FOLDS]


def _means(metrics: Mapping[str, Any], protocol: str) -> Cells:
    classes = {name: values[protocol] for name, values in metrics["per_class"].items()}
    return {key: mean_cell(value, key, classes) for key, value in metrics["mean"][protocol].items()}


def mean_cell(mean: float | None, key: str, classes: Mapping[str, Mapping[str, float | None]]) -> Cell:
    """A mean over classes, with a note where there is none or some have no value. classes: their values by metric."""
    if mean is None:
        return Cell(None, (MISSING,))
    lacking = [name for name, values in classes.items() if values[key] is None]
    note = f"Mean of {len(classes) - len(lacking)} of {len(classes)} classes, without {', '.join(lacking)}."
    return Cell(mean, (note,) if lacking else ())


def value_cell(value: float | None) -> Cell:
    """A value that the evaluation gave, or a dash."""
    return Cell(value, () if value is not None else (MISSING,))


def class_cells(result: Result, class_name: str, protocol: str) -> Cells:
    """The values of one class, by metric."""
    files = [result.metrics_by_seed[seed]["per_class"][class_name][protocol] for seed in result.seeds]
    return fold_seeds([{key: value_cell(value) for key, value in values.items()} for values in files])


def fold_seeds(by_seed: Sequence[Cells]) -> Cells:
    """One cell of each value with several seeds: the mean, the sample standard deviation (n - 1), and all notes."""
    return {key: _folded([cells[key] for cells in by_seed]) for key in by_seed[0]}


def _folded(cells: Sequence[Cell]) -> Cell:
    if len(cells) == 1:
        return cells[0]
    values = [cell.value for cell in cells if cell.value is not None]
    notes = tuple(dict.fromkeys(note for cell in cells for note in cell.notes))
    if not values:
        return Cell(None, notes)
    if len(values) < len(cells):
        notes = (f"Mean of {len(values)} of {len(cells)} seeds; the others have no value.", *notes)
    return Cell(math.fsum(values) / len(values), notes, statistics.stdev(values) if len(values) > 1 else None)


def about_title(cell: Cell, title: str) -> Cell:
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
        for column in (column for column in columns if column.best):
            printed = {
                index: float(number_text(column.form, value).replace(",", ""))
                for index in indices
                if (value := rows[index].cells.get(column.key, Cell()).value) is not None
            }
            best = sorted(set(printed.values()), reverse=column.best == "highest")[:2]
            for index, number in printed.items() if len(printed) > 1 else ():
                if number in best:
                    marked[index][column.key] = replace(marked[index][column.key], rank=1 if number == best[0] else 2)
    return tuple(replace(row, cells=cells) for row, cells in zip(rows, marked, strict=True))


def difference(row: Row, reference: Mapping[str, float | None]) -> Cells:
    """The cells of a row minus those of a reference; a dash with the row's notes where it has no value, or with a note of its own."""
    return {key: _difference(cell, reference[key]) for key, cell in row.cells.items() if key in reference}


def _difference(cell: Cell, reference: float | None) -> Cell:
    if cell.value is None:
        return Cell(None, cell.notes)
    if reference is None:
        return Cell(None, ("No difference: the paper's setting has no value.",))
    return Cell(cell.value - reference, text=number_text("points", cell.value - reference))


def ranks_words(rows: Iterable[Row], block: str) -> str:
    """What the marks mean where any number is marked as the best. block: what is compared, such as `a class`."""
    is_marked = any(cell.rank for row in rows for cell in row.cells.values())
    return f"Bold: best of a column within {block}; underlined: second best." if is_marked else ""


def measured_caption(protocol: str, results: Sequence[Result], rows: Sequence[Row], block: str) -> str:
    """The caption of a table of measured results. rows: those of the table, ranked."""
    versions = {str(metrics["protocol_version"]) for result in results for metrics in result.metrics_by_seed.values()}
    words = f"Protocol: {protocol}, version {' and '.join(sorted(versions))} ({PROTOCOLS[protocol]}). Percent, higher is better."
    return caption(words, seeds_words(results), ranks_words(rows, block), sources_words(results))


def seeds_words(results: Sequence[Result]) -> str:
    """What stands after ± and over which seeds; "" when every result has one."""
    several = sorted({result.seeds for result in results if len(result.seeds) > 1})
    over = " or ".join(", ".join(map(str, seeds)) for seeds in several)
    return f"Mean ± sample standard deviation over the seeds {over}." if several else ""


def sources_words(results: Iterable[Result]) -> str:
    """What the marks of the data mean."""
    return source_sentences(result.source for result in results)


def evaluation_notes(results: Iterable[Result], part: str = "") -> tuple[str, ...]:
    """What the evaluation said of the results, word for word, each once. part: of the metrics file, such as `operating_point`."""
    results = list(results)
    several = len({(result.title, result.label) for result in results}) > 1
    found: dict[str, None] = {}
    for result in results:
        about = f"{result.title}, {result.label}: " if several else ""
        for metrics in result.metrics_by_seed.values():
            content = metrics.get(part) or {} if part else metrics
            found |= dict.fromkeys(f"{about}{note}" for note in content.get("notes", ()))
    return tuple(found)
