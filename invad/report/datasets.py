"""The table of the data sets: how many images each benchmark has, beside the published numbers."""

from collections.abc import Sequence

from invad.report.cells import lines, sources_words
from invad.report.labels import BENCHMARKS, Metric, source_label
from invad.report.published import SOURCES, published_counts
from invad.report.results import Counts, Result
from invad.report.tables import Cell, Note, Row, Table, caption

COLUMNS = (
    Metric("classes", "", "Classes", "Number of classes.", "count", None),
    Metric("train", "Training", "normal", "Normal images that the method learns from.", "count", None),
    Metric("held_out", "Training", "held out", "Normal training images kept for calibrating thresholds.", "count", None),
    Metric("test_normal", "Test", "normal", "Normal test images.", "count", None),
    Metric("test_anomalous", "Test", "anomalous", "Anomalous test images.", "count", None),
    Metric("without_mask", "Test", "without mask", "Anomalous test images whose mask is not known.", "count", None),
    Metric("anomalous_pixels", "Test", "anomalous pixels (%)", "Share of the test pixels that are anomalous.", best=None),
)  # fmt: skip


def datasets_table(results: Sequence[Result]) -> Table:
    """The numbers of images of each benchmark at hand, and below them the published ones of what it is built like."""
    results = [line.first for line in lines(results)]
    rows: list[Row] = []
    for index, result in enumerate(results):
        row = _measured_row(result)
        if all((row.words, row.cells) != (other.words, other.cells) for other in rows):  # methods share a data set
            rows.append(row)
        is_last = all(other.published_name != result.published_name for other in results[index + 1 :])
        if is_last and result.published_name in published_counts():
            rows.append(_published_row(result.published_name))
    cited = {published_counts()[row.keys["benchmark"]][0] for row in rows if row.kind == "published"}
    return Table(
        title="Data sets",
        caption=caption(
            (
                "Numbers of images of what was run, and of the published data sets.",
                "Test images are counted by the data set's own labels.",
                *(
                    f'Rows "published: {text.label}" follow {text.citation}.'
                    for key, text in SOURCES.items()
                    if key in cited
                ),
                sources_words(results),
            )
        ),
        heads=("Benchmark", "Data"),
        columns=COLUMNS,
        rows=tuple(rows),
    )


def _measured_row(result: Result) -> Row:
    none = Cell(None, (Note("no_split", (), result.title),))
    return Row(
        words=(result.title, source_label(result.source)),
        cells={column.key: none for column in COLUMNS}
        if result.counts is None
        else _cells(result.counts, Note("no_pixels")),
        keys={"benchmark": result.benchmark, "source": result.source},
        block=result.published_or_own,
    )


def _published_row(name: str) -> Row:
    source, counts = published_counts()[name]
    cells = _cells(counts, Note("not_stated"))
    if counts.anomalous_pixels is not None:
        cells["anomalous_pixels"] = Cell(counts.anomalous_pixels, (Note("estimate"),))
    words = (BENCHMARKS[name], f"published: {SOURCES[source].label}")
    return Row(words, cells, {"benchmark": name, "source": source}, "published", name)


def _cells(counts: Counts, no_pixels: Note) -> dict[str, Cell]:
    cells = {column.key: Cell(getattr(counts, column.key)) for column in COLUMNS}
    return cells if counts.anomalous_pixels is not None else cells | {"anomalous_pixels": Cell(None, (no_pixels,))}
