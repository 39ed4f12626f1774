"""The tables of sizes: images of the data sets, and cost of the models, beside published ones."""

from collections.abc import Iterator, Mapping, Sequence

from invad.report.cells import lines, sources_words
from invad.report.labels import BENCHMARKS, METHODS, Metric, source_label
from invad.report.published import SOURCES, published_costs, published_counts, published_words
from invad.report.results import Counts, Result
from invad.report.tables import Cell, Row, Table, caption

DATASET_COLUMNS = (
    Metric("classes", "", "Classes", "Number of classes.", "count", None),
    Metric("train", "Training", "normal", "Normal images that the method learns from.", "count", None),
    Metric("held_out", "Training", "held out", "Normal training images kept for calibrating thresholds.", "count", None),
    Metric("test_normal", "Test", "normal", "Normal test images.", "count", None),
    Metric("test_anomalous", "Test", "anomalous", "Anomalous test images.", "count", None),
    Metric("without_mask", "Test", "without mask", "Anomalous test images whose mask is not known.", "count", None),
    Metric("anomalous_pixels", "Test", "anomalous pixels (%)", "Share of the test pixels that are anomalous.", best=None),
)  # fmt: skip
COST_COLUMNS = (
    Metric("parameters", "", "Parameters (M)", "Parameters of encoder and method, in millions.", "millions", None),
    Metric("trainable", "", "Trained (M)", "Parameters that training changes, in millions.", "millions", None),
    Metric("multiply_adds", "", "Multiply-adds (G)", "Multiply-adds for one image, in thousand millions.", "giga", None),
    Metric("step_s", "", "Step (ms)", "Time of one training step, in milliseconds.", "milliseconds", None),
)  # fmt: skip
NOT_STATED = "Not stated in the publication."
COST_MEANING = (
    "Parameters and multiply-adds for one image, of encoder and method together (convolutions and matrix products are counted); of "
    "published rows also the time of a training step on the hardware named. Rows of different input are not comparable."
)


def datasets_table(results: Sequence[Result]) -> Table:
    """The numbers of images of each benchmark at hand, and below them the published ones of what it is built like."""
    results = [line.first for line in lines(results)]
    rows: list[Row] = []
    for index, result in enumerate(results):
        row = _counted_row(result)
        if all((row.words, row.cells) != (other.words, other.cells) for other in rows):  # methods share a data set
            rows.append(row)
        is_last = all(other.published_name != result.published_name for other in results[index + 1 :])
        if is_last and result.published_name in published_counts():
            rows.append(_published_counts(result.published_name))
    cited = {published_counts()[row.keys["benchmark"]][0] for row in rows if row.kind == "published"}
    return Table(
        title="Data sets",
        caption=caption(
            "Numbers of images of what was run, and of the published data sets.",
            "Test images are counted by the data set's own labels.",
            *(f'Rows "{published_words(key)}" follow {SOURCES[key].citation}.' for key in SOURCES if key in cited),
            sources_words(results),
        ),
        heads=("Benchmark", "Data"),
        columns=DATASET_COLUMNS,
        rows=tuple(rows),
    )


def _counted_row(result: Result) -> Row:
    none = Cell(None, (f"{result.title}: The split of this benchmark is not known.",))
    cells = {column.key: none for column in DATASET_COLUMNS}
    return Row(
        words=(result.title, source_label(result.source)),
        cells=cells if result.counts is None else _counts(result.counts, "Not counted."),
        keys={"benchmark": result.benchmark, "source": result.source},
        block=result.published_or_own,
    )


def _published_counts(name: str) -> Row:
    source, counts = published_counts()[name]
    cells = _counts(counts, NOT_STATED)
    if counts.anomalous_pixels is not None:
        cells["anomalous_pixels"] = Cell(counts.anomalous_pixels, ("An estimate at 256 x 256 pixels.",))
    keys = {"benchmark": name, "source": source}
    return Row((BENCHMARKS[name], published_words(source)), cells, keys, "published", name)


def _counts(counts: Counts, no_pixels: str) -> dict[str, Cell]:
    cells = {column.key: Cell(getattr(counts, column.key)) for column in DATASET_COLUMNS}
    return cells if counts.anomalous_pixels is not None else cells | {"anomalous_pixels": Cell(None, (no_pixels,))}


def efficiency_table(results: Sequence[Result]) -> Table:
    """What the models at hand cost, and the published ones."""
    return Table(
        title="Efficiency",
        caption=caption(
            COST_MEANING, f'Rows "{published_words("rerun")}" quote {SOURCES["rerun"].citation}, and its code.'
        ),
        heads=("Method", "Setting", "Hardware", "Source"),
        columns=COST_COLUMNS,
        rows=(*_models(results), *map(_published_cost, published_costs())),
    )


def _models(results: Sequence[Result]) -> Iterator[Row]:
    """A row of each distinct model, wherever it was trained."""
    seen = set()
    for result in (line.first for line in lines(results)):
        size, cost = result.config.features.image_size, result.cost
        if (result.label, size, cost) not in seen:
            seen.add((result.label, size, cost))
            missing = Cell(None, ("The model's size could not be counted.",))
            sizes = [column.key for column in COST_COLUMNS[:3]]
            cells = {key: missing if cost is None else Cell(getattr(cost, key)) for key in sizes}
            words = (result.label, f"{size} px", "", "measured")
            keys = {"method": result.method or "", "label": result.label, "setting": words[1], "source": "measured"}
            yield Row(words, cells, keys, block="measured")


def _published_cost(cost: Mapping[str, str]) -> Row:
    stated = {column.key: cost[column.key] for column in COST_COLUMNS}
    cells = {key: _stated(text) for key, text in stated.items()}
    setting = f"{cost['image_size']} px" + (f", batch {cost['batch']}" if cost["batch"] else "")
    keys = {"method": cost["method"], "setting": setting, "source": cost["source"], "hardware": cost["hardware"]}
    words = (METHODS[cost["method"]], setting, cost["hardware"], published_words(cost["source"]))
    return Row(words, cells, keys, "published", "published")


def _stated(text: str) -> Cell:
    return Cell(int(text) if text.isdecimal() else float(text)) if text else Cell(None, (NOT_STATED,))
