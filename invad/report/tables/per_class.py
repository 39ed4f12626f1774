"""The results of one benchmark class by class, and the published ones of the same methods."""

from collections.abc import Sequence

from invad.report.labels import METRICS, PROTOCOLS, source_label
from invad.report.results import Result
from invad.report.tables.cells import (
    RANKS,
    caption,
    class_cells,
    has_ranks,
    mean_cells,
    measured_caption,
    ordered,
    ranked,
)
from invad.report.tables.main import measured_keys
from invad.report.tables.published import SOURCES, PublishedResult, incomparable, published_per_class
from invad.report.tables.table import Cell, Row, Table

MEAN = "mean"


def per_class_tables(results: Result | Sequence[Result]) -> list[Table]:
    """One table per protocol, then, where any result may stand beside it, the published one of its method.

    results: one, or all of one benchmark, which then stand below each other in each class.
    """
    results = ordered([results] if isinstance(results, Result) else results)
    tables = [_table(results, protocol) for protocol in PROTOCOLS]
    methods = {result.method for result in results if not incomparable(result)}
    name = results[0].published_name
    published = [entry for entry in published_per_class() if entry.benchmark == name and entry.method in methods]
    return [*tables, _published_table(results[0].title, published)] if published else tables


def _table(results: Sequence[Result], protocol: str) -> Table:
    classes = dict.fromkeys(name for result in results for name in result.metrics["per_class"])
    rows = [
        _row(result, name, protocol) for name in classes for result in results if name in result.metrics["per_class"]
    ]
    rows += [_row(result, MEAN, protocol) for result in results]
    marked = ranked(rows, METRICS)  # methods are compared within a class; the classes of a method are not
    return Table(
        title=f"Results per class, {results[0].title}, protocol {protocol}",
        caption=measured_caption(protocol, results, marked, "a class"),
        heads=("Class", "Method", "Data"),
        columns=METRICS,
        rows=marked,
        protocol=protocol,
    )


def _row(result: Result, name: str, protocol: str) -> Row:
    is_mean = name == MEAN and name not in result.metrics["per_class"]
    return Row(
        words=(name, result.label, source_label(result.source)),
        cells=mean_cells(result, protocol, with_title=False) if is_mean else class_cells(result, name, protocol),
        keys={"benchmark": result.benchmark, "class": name, **measured_keys(result, protocol)},
        kind="summary" if is_mean else "plain",
        block=name,
    )


def _published_table(title: str, entries: Sequence[PublishedResult]) -> Table:
    order = list(dict.fromkeys(entry.class_name for entry in entries))
    rows = [_published_row(entry) for entry in sorted(entries, key=lambda entry: order.index(entry.class_name))]
    marked = ranked(rows, METRICS)  # methods are compared within a class; the classes of a method are not
    source = SOURCES[entries[0].source]
    return Table(
        title=f"Published results per class, {title}",
        caption=caption(
            (
                f"All rows are published, none is measured here. They quote {source.citation}; these are of {entries[0].epochs} epochs.",
                f"Protocol: paper ({PROTOCOLS['paper']}). Percent, higher is better.",
                RANKS.format("a class") if has_ranks(marked) else "",
            )
        ),
        heads=("Class", "Method", "Source"),
        columns=METRICS,
        rows=marked,
        protocol="paper",
    )


def _published_row(entry: PublishedResult) -> Row:
    return Row(
        words=(entry.class_name, entry.method_label, f"published: {SOURCES[entry.source].label}"),
        cells={key: Cell(value, entry.notes.get(key, ())) for key, value in entry.values.items()},
        keys={
            "benchmark": entry.benchmark,
            "class": entry.class_name,
            "method": entry.method,
            "label": entry.method_label,
            "source": entry.source,
            "epochs": str(entry.epochs),
            "protocol": "paper",
        },
        kind="published",
        block=entry.class_name,
    )
