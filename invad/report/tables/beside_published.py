"""Published numbers, one table for each benchmark, with the measured ones beside them that may stand there."""

from collections.abc import Iterable, Sequence

from invad.report.labels import BENCHMARKS, FOLD_MEAN, FOLDS, METHODS, METRICS, PROTOCOLS, source_label
from invad.report.results import Result
from invad.report.tables.cells import (
    RANKS,
    caption,
    has_ranks,
    mean_cells,
    ordered,
    ranked,
    seeds_words,
    sources_words,
)
from invad.report.tables.folds import fold_means
from invad.report.tables.published import SOURCES, PublishedResult, incomparable, published_results, recipe_notes
from invad.report.tables.table import Cell, Row, Table
from invad.report.tables.writing import DASH, signed

PROTOCOL = "paper"
UNIT = f"Protocol: {PROTOCOL} ({PROTOCOLS[PROTOCOL]}). Percent, higher is better."
PUBLISHED_ONLY = "All rows are published, none is measured here."
DIFFERENCE = 'A row "difference" is the measured value minus the paper\'s of the same method and benchmark, in percentage points.'
NO_EPOCHS = "Epochs are a dash where the source does not state them."


def beside_tables(results: Sequence[Result]) -> list[Table]:
    """A table of each published benchmark that any result is built like, and of the mean of COCO-AD's folds where there is a fold.

    Measured rows come first, those that may stand there, each with its difference to the paper; the caption says why others may not.
    """
    results = ordered(results)
    at_hand = {result.published_name for result in results}
    names = [name for name in BENCHMARKS if name in at_hand or (name == FOLD_MEAN and at_hand & set(FOLDS))]
    return [_table(name, results) for name in names]


def _table(name: str, results: Sequence[Result]) -> Table:
    among = [result for result in results if result.published_name in (FOLDS if name == FOLD_MEAN else (name,))]
    comparable = [result for result in among if not incomparable(result)]
    published = [entry for entry in published_results() if entry.benchmark == name]
    with_seeds = any(len(result.seeds) > 1 for result in comparable)
    measured = _mean_rows(comparable) if name == FOLD_MEAN else [_measured_row(result) for result in comparable]
    rows = [line for row in measured for line in (row, *_difference(row, published))]
    rows += [_published_row(entry) for entry in sorted(published, key=_place)]
    rows = list(ranked(rows, METRICS))
    return Table(
        title=f"Published numbers, {BENCHMARKS[name]}",
        caption=_caption(name, among, rows, {entry.source for entry in published}),
        heads=("Method", "Source", "Epochs", *(["Seeds"] if with_seeds else [])),
        columns=METRICS,
        rows=tuple(_with_seeds(row) for row in rows) if with_seeds else tuple(rows),
        protocol=PROTOCOL,
    )


def _place(entry: PublishedResult) -> tuple[int, int, int]:
    """The order of published rows: by source and epochs of the re-run, then by method."""
    repeated = entry.epochs if entry.source == "rerun" else 0
    return list(SOURCES).index(entry.source), repeated or 0, list(METHODS).index(entry.method)


def _measured_row(result: Result) -> Row:
    return Row(
        words=(result.label, f"measured ({source_label(result.source)} data)", str(result.config.train.epochs)),
        cells=mean_cells(result, PROTOCOL, with_title=False),
        keys=_keys(result.published_name or "", result.method or "", result.source, str(result.config.train.epochs))
        | {"label": result.label, "seeds": " ".join(map(str, result.seeds))},
        block="measured",
        notes=recipe_notes(result),
    )


def _mean_rows(folds: Sequence[Result]) -> list[Row]:
    return [
        Row(
            words=(mean.label, f"measured ({source_label(mean.source)} data)", mean.epochs),
            cells=mean.cells,
            keys=_keys(FOLD_MEAN, mean.method or "", mean.source, mean.epochs)
            | {"label": mean.label, "seeds": " ".join(map(str, mean.seeds))},
            block="measured",
            notes=_recipes(mean.folds),
        )
        for mean in fold_means(folds, PROTOCOL)
    ]


def _recipes(folds: Iterable[Result]) -> tuple[str, ...]:
    """The notes on the recipes of the folds: one where they agree, else those of each fold that has one."""
    notes = {fold.title: recipe_notes(fold) for fold in folds}
    if len(set(notes.values())) == 1:
        return next(iter(notes.values()))
    return tuple(f"{title}: {note}" for title, of_fold in notes.items() for note in of_fold)


def _difference(row: Row, published: Sequence[PublishedResult]) -> list[Row]:
    """The row minus the paper's of the same method; none where the paper has none."""
    method = row.keys["method"]
    paper = next((entry for entry in published if entry.source == "paper" and entry.method == method), None)
    if paper is None:
        return []
    cells = {
        key: Cell(None, cell.notes) if cell.value is None else _points(cell.value - paper.values[key])
        for key, cell in row.cells.items()
    }
    words = (f"{row.words[0]} - paper", "difference", "")
    return [Row(words, cells, row.keys, "difference", row.block)]


def _points(difference: float) -> Cell:
    return Cell(difference, text=signed(difference))


def _published_row(entry: PublishedResult) -> Row:
    epochs = "" if entry.epochs is None else str(entry.epochs)
    return Row(
        words=(entry.method_label, f"published: {SOURCES[entry.source].label}", epochs or DASH),
        cells={key: Cell(value, entry.notes.get(key, ())) for key, value in entry.values.items()},
        keys=_keys(entry.benchmark, entry.method, entry.source, epochs) | {"label": entry.method_label},
        kind="published",
        block=f"{entry.source} {epochs}" if entry.source == "rerun" else entry.source,
    )


def _keys(benchmark: str, method: str, source: str, epochs: str) -> dict[str, str]:
    return {"benchmark": benchmark, "method": method, "source": source, "epochs": epochs, "protocol": PROTOCOL}


def _with_seeds(row: Row) -> Row:
    """The row with the number of its seeds after the epochs; published rows do not state theirs."""
    count = str(len(row.keys["seeds"].split())) if row.kind == "plain" else ""
    return Row((*row.words, count), row.cells, row.keys, row.kind, row.block, row.notes)


def _caption(name: str, among: Sequence[Result], rows: Sequence[Row], sources: Iterable[str]) -> str:
    beside = [result for result in among if not incomparable(result)]
    has_measured = any(row.kind == "plain" for row in rows)
    return caption(
        (
            "" if has_measured else PUBLISHED_ONLY,
            UNIT,
            *(
                f'Rows "published: {text.label}" quote {text.citation} ({text.where}).'
                for key, text in SOURCES.items()
                if key in sources
            ),
            DIFFERENCE if any(row.kind == "difference" for row in rows) else "",
            seeds_words(beside) if has_measured else "",
            RANKS.format("the measured rows, the paper's, or one re-run") if has_ranks(rows) else "",
            NO_EPOCHS if any(row.words[2] == DASH for row in rows) else "",
            sources_words(beside) if has_measured else "",
            _left_out(name, among),
        )
    )


def _left_out(name: str, among: Sequence[Result]) -> str:
    """Why results of this benchmark do not stand beside the published ones, by method."""
    reasons: dict[str, dict[str, None]] = {}
    for result in among:
        if reason := incomparable(result):
            where = f"{result.title}: " if name == FOLD_MEAN else ""
            reasons.setdefault(result.label, {})[f"{where}{reason}"] = None
    if name == FOLD_MEAN:
        _add_incomplete(reasons, among)
    texts = [f"{label}: {'; '.join(_shared(list(given)))}" for label, given in reasons.items()]
    return f"Not beside published numbers: {'. '.join(texts)}." if texts else ""


def _shared(reasons: Sequence[str]) -> list[str]:
    """The reasons of several folds in one where all four have the same."""
    bare = {reason.partition(": ")[2] for reason in reasons}
    return [*bare] if len(reasons) == len(FOLDS) and len(bare) == 1 else list(reasons)


def _add_incomplete(reasons: dict[str, dict[str, None]], among: Sequence[Result]) -> None:
    """Add that a mean needs all four folds, where a label has not one result of each."""
    complete = {mean.label for mean in fold_means(among, PROTOCOL)}
    for label in dict.fromkeys(result.label for result in among):
        if label not in complete:
            reasons.setdefault(label, {})["the mean needs one result of each of the four folds"] = None
