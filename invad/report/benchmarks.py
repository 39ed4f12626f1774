"""The tables of results: by benchmark, class by class, and the published numbers with the measured ones that may stand beside them."""

from collections.abc import Sequence
from dataclasses import replace

from invad.report.cells import (
    Line,
    class_cells,
    difference,
    evaluation_notes,
    fold_means,
    lines,
    measured_caption,
    ranked,
    ranks_words,
    seeds_words,
    sources_words,
)
from invad.report.labels import BENCHMARKS, FOLD_MEAN, FOLDS, METHODS, METRICS, PROTOCOLS, source_label
from invad.report.published import (
    SOURCES,
    PublishedResult,
    incomparable,
    published_per_class,
    published_results,
    published_words,
    recipe_note,
)
from invad.report.results import Result
from invad.report.tables import DASH, Cell, Row, Table, caption

MEAN, PAPER = "mean", "paper"
UNIT = f"Protocol: {PAPER} ({PROTOCOLS[PAPER]}). Percent, higher is better."
PUBLISHED_ONLY = "All rows are published, none is measured here."
DIFFERENCE = 'A row "difference" is the measured value minus the paper\'s of the same method and benchmark, in percentage points.'
NO_EPOCHS = "Epochs are a dash where the source does not state them."


def measured_tables(results: Sequence[Result]) -> list[Table]:
    """The means over the classes of each benchmark and method: one table per protocol. COCO-AD has its mean over the folds as well."""
    return [_measured_table(lines(results), protocol) for protocol in PROTOCOLS]


def _measured_table(singles: Sequence[Line], protocol: str) -> Table:
    results = [line.first for line in singles]
    last = max((index for index, result in enumerate(results) if result.published_name in FOLDS), default=-1) + 1
    all_lines = [*singles[:last], *fold_means(results), *singles[last:]]
    with_seeds = _with_seeds(singles)
    rows = ranked([_measured_row(line, protocol, with_seeds) for line in all_lines], METRICS)
    title, words = (
        f"Results per benchmark, protocol {protocol}",
        measured_caption(protocol, results, rows, "a benchmark"),
    )
    heads = ("Benchmark", "Method", "Data", "Epochs", *with_seeds)
    remarks = evaluation_notes(result for result in results if None in result.metrics["mean"][protocol].values())
    return Table(title, words, heads, METRICS, rows, protocol, remarks)


def _measured_row(line: Line, protocol: str, with_seeds: Sequence[str]) -> Row:
    name = FOLD_MEAN if line.is_mean else line.first.published_or_own
    return Row(
        words=(line.title, line.first.label, source_label(line.source), line.epochs or DASH, *_seeds(line, with_seeds)),
        cells=line.cells(protocol),
        keys=line.keys(protocol),
        kind="summary" if line.is_mean else "plain",
        block=f"{name}, {line.source}",
    )


def _with_seeds(members: Sequence[Line]) -> list[str]:
    """The heading of the column of seeds, where any line has several."""
    return ["Seeds"] if any(len(result.seeds) > 1 for line in members for result in line.members) else []


def _seeds(line: Line, with_seeds: Sequence[str]) -> list[str]:
    return [str(len(line.seeds)) if line.seeds else "differ"] if with_seeds else []


def per_class_tables(results: Sequence[Result]) -> list[Table]:
    """One table per protocol, then, where any result may stand beside it, the published one of its method.

    results: all of one benchmark, which stand below each other in each class. The last measured table has the notes of the evaluation.
    """
    results = [line.first for line in lines(results)]
    paper, exact = (_class_table(results, protocol) for protocol in PROTOCOLS)
    exact = replace(exact, remarks=evaluation_notes(results))
    methods = {result.method for result in results if not incomparable(result)}
    name = results[0].published_name
    published = [entry for entry in published_per_class() if entry.benchmark == name and entry.method in methods]
    return [paper, exact, *([_published_classes(results[0].title, published)] if published else [])]


def _class_table(results: Sequence[Result], protocol: str) -> Table:
    names = dict.fromkeys(name for result in results for name in result.metrics["per_class"])
    pairs = [(result, name) for name in names for result in results if name in result.metrics["per_class"]]
    rows = [_class_row(result, name, protocol) for result, name in (*pairs, *((result, None) for result in results))]
    marked = ranked(rows, METRICS)  # methods are compared within a class; the classes of a method are not
    title, words = f"Results per class, {results[0].title}", measured_caption(protocol, results, marked, "a class")
    return Table(f"{title}, protocol {protocol}", words, ("Class", "Method", "Data"), METRICS, marked, protocol)


def _class_row(result: Result, name: str | None, protocol: str) -> Row:
    """The row of a class; that of the mean for None."""
    line = Line((result,))
    return Row(
        words=(name or MEAN, result.label, source_label(result.source)),
        cells=class_cells(result, name, protocol) if name is not None else line.cells(protocol, about=False),
        keys={"benchmark": result.benchmark, "class": name or MEAN, **line.keys(protocol)},
        kind="plain" if name is not None else "summary",
        block=name or MEAN,
    )


def _published_classes(title: str, entries: Sequence[PublishedResult]) -> Table:
    order = list(dict.fromkeys(entry.class_name for entry in entries))
    rows = [
        _published_row(
            entry, entry.class_name, (entry.class_name, METHODS[entry.method], published_words(entry.source))
        )
        for entry in sorted(entries, key=lambda entry: order.index(entry.class_name))
    ]
    marked, source = ranked(rows, METRICS), SOURCES[entries[0].source]
    quoted = f"They quote {source.citation}; these are of {entries[0].epochs} epochs."
    words = caption(PUBLISHED_ONLY, quoted, UNIT, ranks_words(marked, "a class"))
    heads = ("Class", "Method", "Source")
    return Table(f"Published results per class, {title}", words, heads, METRICS, marked, PAPER)


def _published_row(entry: PublishedResult, block: str, words: tuple[str, ...]) -> Row:
    keys = {
        "benchmark": entry.benchmark,
        **({"class": entry.class_name} if entry.class_name else {}),
        "method": entry.method,
        "label": METHODS[entry.method],
        "source": entry.source,
        "epochs": "" if entry.epochs is None else str(entry.epochs),
        "protocol": PAPER,
    }
    cells = {key: Cell(value, entry.notes.get(key, ())) for key, value in entry.values.items()}
    return Row(words, cells, keys, "published", block, entry.notes.get("", ()))


def published_tables(results: Sequence[Result]) -> list[Table]:
    """A table of each published benchmark that any result is built like, and of the mean of COCO-AD's folds where there is a fold.

    Measured rows come first, those that may stand there, each with its difference to the paper; the caption says why others may not.
    """
    results = [line.first for line in lines(results)]
    at_hand = {result.published_name for result in results}
    names = [name for name in BENCHMARKS if name in at_hand or (name == FOLD_MEAN and at_hand & set(FOLDS))]
    return [_published_table(name, results) for name in names]


def _published_table(name: str, results: Sequence[Result]) -> Table:
    among = [result for result in results if result.published_name in (FOLDS if name == FOLD_MEAN else (name,))]
    beside = [result for result in among if not incomparable(result)]
    measured = fold_means(beside) if name == FOLD_MEAN else lines(beside)
    with_seeds = _with_seeds(measured)
    published = sorted((entry for entry in published_results() if entry.benchmark == name), key=_place)
    paper = {entry.method: entry for entry in published if entry.source == PAPER}
    rows = [row for line in measured for row in _beside(line, name, paper.get(line.first.method or ""), with_seeds)]
    for entry in published:
        epochs = DASH if entry.epochs is None else str(entry.epochs)
        words = (METHODS[entry.method], published_words(entry.source), epochs, *("" for _ in with_seeds))
        rows.append(_published_row(entry, f"rerun {epochs}" if entry.source == "rerun" else entry.source, words))
    marked = ranked(rows, METRICS)
    title, words = f"Published numbers, {BENCHMARKS[name]}", _published_caption(name, among, measured, marked)
    return Table(title, words, ("Method", "Source", "Epochs", *with_seeds), METRICS, marked, PAPER)


def _place(entry: PublishedResult) -> tuple[int, int, int]:
    """The order of published rows: by source and epochs of the re-run, then by method."""
    repeated = entry.epochs if entry.source == "rerun" else 0
    return list(SOURCES).index(entry.source), repeated or 0, list(METHODS).index(entry.method)


def _beside(line: Line, name: str, paper: PublishedResult | None, with_seeds: Sequence[str]) -> list[Row]:
    """The row of a measured result, and below it its difference to the paper where that has the method."""
    keys = {key: text for key, text in line.keys(PAPER).items() if key != "protocol_version"} | {"benchmark": name}
    words = (line.first.label, f"measured ({source_label(line.source)} data)", line.epochs or DASH)
    cells = line.cells(PAPER, about=False)
    row = Row((*words, *_seeds(line, with_seeds)), cells, keys, "plain", "measured", _recipes(line))
    if paper is None:
        return [row]
    head = (f"{line.first.label} - paper", "difference", "", *("" for _ in with_seeds))
    return [row, Row(head, difference(row, paper.values), keys, "difference", "measured")]


def _recipes(line: Line) -> tuple[str, ...]:
    """The notes on the recipe: one where all folds agree, else that of each fold that has one."""
    notes = {member.title: recipe_note(member) for member in line.members}
    if len(set(notes.values())) == 1:
        return tuple(filter(None, {*notes.values()}))
    return tuple(f"{title}: {note}" for title, note in notes.items() if note)


def _published_caption(name: str, among: Sequence[Result], measured: Sequence[Line], rows: Sequence[Row]) -> str:
    beside = [line.first for line in measured]
    sources = {row.keys["source"] for row in rows if row.kind == "published"}
    quoted = (
        f'Rows "{published_words(key)}" quote {text.citation} ({text.where}).'
        for key, text in SOURCES.items()
        if key in sources
    )
    return caption(
        "" if beside else PUBLISHED_ONLY,
        UNIT,
        *quoted,
        DIFFERENCE if any(row.kind == "difference" for row in rows) else "",
        seeds_words(beside),
        ranks_words(rows, "the measured rows, the paper's, or one re-run"),
        NO_EPOCHS if any(row.kind == "published" and row.words[2] == DASH for row in rows) else "",
        sources_words(beside),
        _left_out(name, among),
    )


def _left_out(name: str, among: Sequence[Result]) -> str:
    """Why results of this benchmark do not stand beside the published ones, by method."""
    reasons: dict[str, list[str]] = {}
    for result in among:
        if reason := incomparable(result):
            reasons.setdefault(result.label, []).append(reason)
    if name == FOLD_MEAN:
        complete = {line.first.label for line in fold_means(among)}
        for label in dict.fromkeys(result.label for result in among if result.label not in complete):
            reasons.setdefault(label, []).append("the mean needs one result of each of the four folds")
    texts = [f"{label}: {'; '.join(dict.fromkeys(given))}" for label, given in reasons.items()]
    return f"Not beside published numbers: {'. '.join(texts)}." if texts else ""
