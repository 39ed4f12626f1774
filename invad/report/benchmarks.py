"""The tables of results: by benchmark, class by class, what thresholds from held-out normal images give, and the published numbers with
the measured ones that may stand beside them; numbers of images, and what models cost.
"""

import statistics
from collections.abc import Iterable, Sequence

from invad.metrics.calibration import MEAN_KEYS
from invad.report.labels import (
    BENCHMARKS,
    FOLD_MEAN,
    FOLDS,
    METHODS,
    METRICS,
    PROTOCOLS,
    Metric,
    columns_of,
    source_sentences,
)
from invad.report.published import (
    SETTING,
    SOURCES,
    PublishedResult,
    incomparable,
    published_results,
    published_words,
    recipe_note,
)
from invad.report.results import Counts, Result, fold_means
from invad.report.tables import (
    DASH,
    Cell,
    Row,
    RowKind,
    Table,
    caption,
    difference,
    over_seeds,
    ranked,
    ranks_words,
    value_cells,
)
from invad.training.cost import Cost

MEAN, PAPER = "mean", "paper"
PUBLISHED_ONLY = "All rows are published, none is measured here."
DIFFERENCE = 'A row "difference" is the measured value minus the paper\'s of the same method and benchmark, in percentage points.'
_IMAGE, _PIXEL = "Calibrated image", "Calibrated pixel"
OPERATING_COLUMNS = (
    Metric("false_positive_rate", "Calibration", "FPR asked for", "Share of held-out scores that may be above a threshold.", "rate", None),
    Metric("held_out_images", "Calibration", "Held out", "Normal images that were kept from training for the thresholds.", "count", None),
    Metric("calibrated_image_threshold", _IMAGE, "Threshold", "Image score above which an image is called anomalous.", "score", None),
    Metric("calibrated_image_fpr", _IMAGE, "FPR", "Share of the normal test images above the threshold.", best=None),
    Metric("calibrated_image_precision", _IMAGE, "Precision", "Share of what is above the threshold that is anomalous.", best=None),
    Metric("calibrated_image_recall", _IMAGE, "Recall", "Share of the anomalous test images above the threshold.", best=None),
    Metric("calibrated_image_f1", _IMAGE, "F1", "Harmonic mean of precision and recall at this threshold, not at the best one.", best=None),
    Metric("calibrated_pixel_threshold", _PIXEL, "Threshold", "Map value above which a pixel is called anomalous.", "score", None),
    Metric("calibrated_pixel_fpr", _PIXEL, "FPR", "Share of the normal test pixels above the threshold.", best=None),
    Metric("calibrated_pixel_precision", _PIXEL, "Precision", "Share of what is above the threshold that is anomalous.", best=None),
    Metric("calibrated_pixel_recall", _PIXEL, "Recall", "Share of the anomalous test pixels above the threshold.", best=None),
    Metric("calibrated_pixel_f1", _PIXEL, "F1", "Harmonic mean of precision and recall at this threshold, not at the best one.", best=None),
    Metric("calibrated_pixel_iou", _PIXEL, "IoU", "Intersection over union at this threshold, not at the best one.", best=None),
)  # fmt: skip
MEASURED = [column.key for column in OPERATING_COLUMNS[2:]]
OWN_THRESHOLDS = Cell(None, ("Each class has its own threshold.",))
MEANING = (
    "Each class's own threshold, taken from normal training images that were held out, at the false-positive rate (FPR) asked for; "
    "positive is strictly above it. A benchmark's row is the mean of its classes. These are not the best-possible F1max and IoUmax of "
    "the other tables, whose thresholds are chosen with the test labels at hand. Percent, but for thresholds (raw scores) and numbers "
    "of images."
)

DATASET_COLUMNS = (
    Metric("classes", "", "Classes", "Number of classes.", "count", None),
    Metric("train", "Training", "normal", "Normal images that the method learns from.", "count", None),
    Metric("held_out", "Training", "held out", "Normal training images kept for calibrating thresholds.", "count", None),
    Metric("test_normal", "Test", "normal", "Normal test images.", "count", None),
    Metric("test_anomalous", "Test", "anomalous", "Anomalous test images.", "count", None),
    Metric("without_mask", "Test", "without mask", "Anomalous test images whose mask is not known.", "count", None),
    Metric("anomalous_pixels", "Test", "anomalous pixels (%)", "Share of the test pixels that are anomalous.", best=None),
)  # fmt: skip
LABELLED_COLUMNS = (
    Metric("labelled_normal", "Labelled", "normal", "Normal training images that a supervised method alone may see.", "count", None),
    Metric("labelled_anomalous", "Labelled", "anomalous", "Anomalous images that a supervised method may see.", "count", None),
)  # fmt: skip
COST_COLUMNS = (
    Metric("parameters", "", "Parameters (M)", "Parameters of encoder and method, in millions.", "millions", None),
    Metric("trainable", "", "Trained (M)", "Parameters that training changes, in millions.", "millions", None),
    Metric("multiply_adds", "", "Multiply-adds (G)", "Multiply-adds for one image, in thousand millions.", "giga", None),
)  # fmt: skip
COST_MEANING = (
    "Parameters and multiply-adds for one image, of encoder and method together (convolutions and matrix products are counted). Rows of "
    "different input are not comparable."
)


def measured_tables(results: Sequence[Result]) -> list[Table]:
    """The means over the classes of each benchmark and method: one table per protocol. COCO-AD has its mean over the folds as well."""
    return [_measured_table(results, protocol) for protocol in PROTOCOLS]


def _measured_table(results: Sequence[Result], protocol: str) -> Table:
    folds = [result for result in results if result.published_name in FOLDS]
    others = [result for result in results if result.published_name not in FOLDS]
    rows = []
    for result in (*folds, *fold_means(folds), *others):
        kind, block = "summary" if result.folds else "plain", f"{result.published_or_own}, {result.source}"
        rows.append(Row(result.words, result.cells(protocol), kind, block))
    lacking = [result for result in results if None in result.metrics["mean"][protocol].values()]
    heads = ("Benchmark", "Method", "Data", "Epochs")
    title = f"Results per benchmark, protocol {protocol}"
    return _table(title, heads, results, rows, protocol, "a benchmark", evaluation_notes(lacking))


def _table(
    title: str, heads: tuple[str, ...], results: Sequence[Result], rows: Iterable[Row], protocol: str, block: str,
    remarks: tuple[str, ...] = (),
) -> Table:  # fmt: skip
    """A table of measured results; block: what is compared."""
    rows = list(rows)
    columns = columns_of(key for row in rows for key in row.cells)
    marked = ranked(rows, columns)
    versions = sorted({str(metrics["protocol_version"]) for one in results for metrics in one.metrics_by_seed.values()})
    words = caption(
        f"Protocol: {protocol}, version {' and '.join(versions)} ({PROTOCOLS[protocol]}). Percent, higher is better.",
        seeds_words(results),
        ranks_words(marked, block),
        source_sentences(result.source for result in results),
    )
    return Table(title, words, heads + with_seeds(results), columns, marked, protocol, remarks)


def _citations(rows: Iterable[Row]) -> str:
    """Where the published rows come from."""
    shown = {row.words["Data"] for row in rows}
    sources = [source for key, source in SOURCES.items() if published_words(key) in shown]
    return " ".join(f'Rows "published: {one.label}" quote {one.citation} ({one.where}).' for one in sources)


def with_seeds(results: Iterable[Result]) -> tuple[str, ...]:
    """The heading of the column of seeds, where any result has several."""
    return ("Seeds",) if any(len(result.metrics_by_seed) > 1 for result in results) else ()


def seeds_words(results: Iterable[Result]) -> str:
    """What stands after ±; "" when every result has one seed."""
    return "Mean ± sample standard deviation over the seeds." if with_seeds(results) else ""


def evaluation_notes(results: Sequence[Result], part: str = "") -> tuple[str, ...]:
    """What the evaluation said of the results, word for word, each once. part: of the metrics file, such as `operating_point`."""
    found: dict[str, None] = {}
    for result in results:
        about = f"{result.title}, {result.label}: " if len(results) > 1 else ""
        for metrics in result.metrics_by_seed.values():
            content = metrics.get(part) or {} if part else metrics
            found |= dict.fromkeys(f"{about}{note}" for note in content.get("notes", ()))
    return tuple(found)


def per_class_tables(results: Sequence[Result]) -> list[Table]:
    """One table per protocol, the last one with the notes of the evaluation; results: all of one benchmark, together in each class."""
    names = [*dict.fromkeys(name for result in results for name in result.metrics["per_class"]), MEAN]
    tables = []
    for protocol in PROTOCOLS:
        rows = []
        for name in names:
            kind = "summary" if name == MEAN else "plain"
            for result in results:
                if name == MEAN or name in result.metrics["per_class"]:
                    cells = result.cells(protocol, None if name == MEAN else name)
                    rows.append(Row({"Class": name} | result.words, cells, kind, name))
        title, heads = f"Results per class, {results[0].title}, protocol {protocol}", ("Class", "Method", "Data")
        remarks = () if protocol == PAPER else evaluation_notes(results)
        tables.append(_table(title, heads, results, rows, protocol, "a class", remarks))
    return tables


def published_tables(results: Sequence[Result]) -> list[Table]:
    """A table of each published benchmark that any result is built like, and of the mean of COCO-AD's folds where there is a fold.

    Measured rows come first, those that may stand there, each with its difference to the paper; the caption says why others may not.
    """
    at_hand = {result.published_name for result in results}
    names = [name for name in BENCHMARKS if name in at_hand or (name == FOLD_MEAN and at_hand & set(FOLDS))]
    return [_published_table(name, results) for name in names]


def _published_table(name: str, results: Sequence[Result]) -> Table:
    among = [result for result in results if result.published_name in (FOLDS if name == FOLD_MEAN else (name,))]
    beside = [result for result in among if not incomparable(result)]
    measured = fold_means(beside) if name == FOLD_MEAN else beside
    published = [entry for entry in published_results() if entry.benchmark == name]
    paper = {entry.method: entry for entry in published if entry.source == PAPER}
    rows = [row for result in measured for row in _beside(result, paper.get(result.method or ""))]
    rows += [_published_row(entry) for entry in published]
    marked = ranked(rows, METRICS)
    reasons = dict.fromkeys(f"{result.label}: {reason}" for result in among if (reason := incomparable(result)))
    if name == FOLD_MEAN and not fold_means(among):
        reasons["the mean needs one result of each of the four folds"] = None
    words = caption(
        "" if measured else PUBLISHED_ONLY,
        f"Protocol: {PAPER} ({PROTOCOLS[PAPER]}). Percent, higher is better.",
        _citations(rows),
        DIFFERENCE if any(row.kind == "difference" for row in rows) else "",
        seeds_words(measured),
        ranks_words(marked, "the measured rows, the paper's, one re-run, or others of one setting"),
        source_sentences(result.source for result in measured),
        f"Not beside published numbers: {'. '.join(reasons)}." if reasons else "",
    )
    settings = ("Setting",) if any(row.words.get("Setting", SETTING) != SETTING for row in rows) else ()
    heads = ("Method", "Data", *settings, "Epochs", *with_seeds(measured))
    return Table(f"Published numbers, {BENCHMARKS[name]}", words, heads, METRICS, marked, PAPER)


def _published_row(entry: PublishedResult) -> Row:
    block = entry.source if entry.source == PAPER else f"{entry.source} {entry.setting}"
    if entry.source in ("rerun", "page"):  # of one run, read off in two places
        block = f"rerun {entry.epochs}"
    words = {
        "Benchmark": BENCHMARKS[entry.benchmark],
        "Method": METHODS[entry.method],
        "Data": published_words(entry.source),
        "Setting": entry.setting,
        "Epochs": DASH if entry.epochs is None else str(entry.epochs),
    }
    cells = {key: Cell(value, entry.notes.get(key, ())) for key, value in entry.values.items()}
    return Row(words, cells, "published", block, entry.notes.get("", ()))


def _beside(result: Result, paper: PublishedResult | None) -> list[Row]:
    """The row of a measured result, and below it its difference to the paper where that has the method."""
    notes = dict.fromkeys(recipe_note(fold) for fold in result.folds or (result,))
    setting = {"Setting": f"{result.config.features.image_size} px"}
    row = Row(result.words | setting, result.cells(PAPER), block="measured", notes=tuple(filter(None, notes)))
    words = {"Benchmark": result.title, "Method": f"{result.label} - paper", "Data": "difference"}
    if paper is None:
        return [row]
    quoted = {key: Cell(value, std=0.0) for key, value in paper.values.items()}  # taken as it stands
    return [row, difference(row, quoted, words)]


def operating_table(results: Sequence[Result]) -> Table:
    """The operating points of all results: of each the mean, then its classes; one row of dashes where there is none."""
    method = ("Method",) if len({result.label for result in results}) > 1 else ()
    return Table(
        title="Operating point",
        caption=caption(MEANING, seeds_words(results), source_sentences(result.source for result in results)),
        heads=("Benchmark", "Class", *method, "Data", *with_seeds(results)),
        columns=OPERATING_COLUMNS,
        rows=tuple(row for result in results for row in _rows(result)),
        remarks=evaluation_notes(results, "operating_point"),
    )


def _rows(result: Result) -> list[Row]:
    words = {"Benchmark": result.title, "Class": MEAN} | result.words
    points = [metrics.get("operating_point") for metrics in result.metrics_by_seed.values()]
    there = [point for point in points if point is not None and any(point["held_out_images"].values())]
    if len(there) < len(points):
        notes = [point["notes"][0] for point in points if point is not None and point not in there]
        reason = f"No operating point: {notes[0] if notes else 'not evaluated; run `dvc repro evaluate`'}."
        dashes = dict.fromkeys((column.key for column in OPERATING_COLUMNS), Cell(None, (reason,)))
        return [Row(words, dashes, "summary", result.key)]
    rate, images = Cell(there[0]["false_positive_rate"]), there[0]["held_out_images"]
    means = over_seeds([value_cells({key: p["mean"][key] for key in MEAN_KEYS}, p["per_class"]) for p in there])
    cells = dict.fromkeys(MEASURED, OWN_THRESHOLDS) | means
    kinds: dict[str, RowKind] = {MEAN: "summary"}
    found = {MEAN: cells | {"held_out_images": Cell(sum(images.values()))}}
    for name in there[0]["per_class"]:
        by_seed = [{key: p["per_class"][name][key] for key in MEASURED} for p in there if name in p["per_class"]]
        found[name] = over_seeds(list(map(value_cells, by_seed))) | {"held_out_images": Cell(images[name])}
    return [
        Row(words | {"Class": name}, cells | {"false_positive_rate": rate}, kinds.get(name, "plain"), result.key)
        for name, cells in found.items()
    ]


def operating_means(result: Result) -> dict[str, Cell]:
    """The means over the classes at their thresholds, by column; of a mean over folds the mean of theirs."""
    of_folds = [_rows(fold)[0].cells for fold in result.folds or (result,)]
    if len(of_folds) == 1:
        return {key: of_folds[0][key] for key in MEAN_KEYS}
    values = {key: [cells[key].value for cells in of_folds] for key in MEAN_KEYS}
    known = {key: [value for value in those if value is not None] for key, those in values.items()}
    return {key: Cell(statistics.fmean(known[key])) for key in MEAN_KEYS if len(known[key]) == len(of_folds)}


def datasets_table(results: Sequence[Result]) -> Table:
    """The numbers of images of each benchmark at hand, once."""
    columns = DATASET_COLUMNS
    if any(counts.labelled_normal or counts.labelled_anomalous for one in results if (counts := one.counts)):
        columns = (*DATASET_COLUMNS[:3], *LABELLED_COLUMNS, *DATASET_COLUMNS[3:])
    rows: list[Row] = []
    for result in results:
        words = {name: result.words[name] for name in ("Benchmark", "Data")}
        row = Row(words, _sizes(columns, result.counts))
        rows += [row] if row not in rows else []  # methods share a data set
    about = "Numbers of images of what was run; test images are counted by the data set's own labels."
    about = caption(about, source_sentences(result.source for result in results))
    return Table("Data sets", about, ("Benchmark", "Data"), columns, tuple(rows))


def _sizes(columns: Sequence[Metric], facts: Counts | Cost | None) -> dict[str, Cell]:
    """The values of a row; a dash with a note where they are not known."""
    found = {column.key: getattr(facts, column.key, None) for column in columns}
    return {key: Cell(value, () if value is not None else ("Not known.",)) for key, value in found.items()}


def efficiency_table(results: Sequence[Result]) -> Table:
    """What the models at hand cost, each distinct one once."""
    rows: list[Row] = []
    for result in results:
        words = {"Method": result.label, "Setting": f"{result.config.features.image_size} px"}
        row = Row(words, _sizes(COST_COLUMNS, result.cost))
        rows += [row] if row not in rows else []
    return Table("Efficiency", COST_MEANING, ("Method", "Setting"), COST_COLUMNS, tuple(rows))
