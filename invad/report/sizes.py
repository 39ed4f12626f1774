"""The tables of sizes: images of the data sets, and cost of the models, beside published ones."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from invad.report.labels import BENCHMARKS, METHODS, Metric, source_sentences
from invad.report.published import SOURCES, published_costs, published_counts, published_words
from invad.report.results import Result
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
NOT_KNOWN, NOT_STATED = "Not known.", "Not stated in the publication."
COST_MEANING = (
    "Parameters and multiply-adds for one image, of encoder and method together (convolutions and matrix products are counted); of "
    "published rows also the time of a training step on the hardware named. Rows of different input are not comparable."
)


def datasets_table(results: Sequence[Result]) -> Table:
    """The numbers of images of each benchmark at hand, and below them the published ones of what it is built like."""
    rows: list[Row] = []
    for index, result in enumerate(results):
        words = {name: result.words[name] for name in ("Benchmark", "Data")}
        cells = _cells(DATASET_COLUMNS, asdict(result.counts) if result.counts else {}, NOT_KNOWN)
        row = Row(words, cells, block=result.published_or_own)
        rows += [row] if row not in rows else []  # methods share a data set
        name = result.published_name
        if name in published_counts() and all(other.published_name != name for other in results[index + 1 :]):
            source, counts = published_counts()[name]
            words = {"Benchmark": BENCHMARKS[name], "Data": published_words(source)}
            rows.append(Row(words, _cells(DATASET_COLUMNS, asdict(counts), NOT_STATED), "published", name))
    shown = {row.words["Data"] for row in rows}
    cited = [text for key, text in SOURCES.items() if published_words(key) in shown]
    return Table(
        title="Data sets",
        caption=caption(
            "Numbers of images of what was run, and of the published data sets.",
            "Test images are counted by the data set's own labels; published shares of pixels are estimates at 256 x 256 pixels.",
            *(f'Rows "published: {source.label}" follow {source.citation}.' for source in cited),
            source_sentences(result.source for result in results),
        ),
        heads=("Benchmark", "Data"),
        columns=DATASET_COLUMNS,
        rows=tuple(rows),
    )


def _cells(columns: Sequence[Metric], values: Mapping[str, float | None], reason: str) -> dict[str, Cell]:
    """The values of a row; a dash with the reason where there is none."""
    found = {column.key: values.get(column.key) for column in columns}
    return {key: Cell(value, () if value is not None else (reason,)) for key, value in found.items()}


def efficiency_table(results: Sequence[Result]) -> Table:
    """What the models at hand cost, each distinct one once, and the published ones."""
    rows: list[Row] = []
    for result in results:
        setting = f"{result.config.features.image_size} px"
        words = {"Method": result.label, "Setting": setting, "Hardware": "", "Source": "measured"}
        cells = _cells(COST_COLUMNS[:3], asdict(result.cost) if result.cost else {}, NOT_KNOWN)
        row = Row(words, cells, block="measured")
        rows += [row] if row not in rows else []
    for cost in published_costs():
        values = {column.key: json.loads(text) for column in COST_COLUMNS if (text := cost[column.key])}
        words = {
            "Method": METHODS[cost["method"]],
            "Setting": f"{cost['image_size']} px" + (f", batch {cost['batch']}" if cost["batch"] else ""),
            "Hardware": cost["hardware"],
            "Source": published_words(cost["source"]),
        }
        rows.append(Row(words, _cells(COST_COLUMNS, values, NOT_STATED), "published", "published"))
    return Table(
        title="Efficiency",
        caption=caption(
            COST_MEANING, f'Rows "{published_words("rerun")}" quote {SOURCES["rerun"].citation}, and its code.'
        ),
        heads=("Method", "Setting", "Hardware", "Source"),
        columns=COST_COLUMNS,
        rows=tuple(rows),
    )
