"""The main results: what was measured, one table for each protocol."""

from collections.abc import Sequence

from invad.report.labels import FOLD_MEAN, FOLDS, METRICS, PROTOCOLS, source_label
from invad.report.results import Result
from invad.report.tables.cells import mean_cells, measured_caption, ordered, ranked
from invad.report.tables.folds import FoldMean, fold_means
from invad.report.tables.table import Row, Table


def measured_tables(results: Sequence[Result]) -> list[Table]:
    """The means over the classes of each benchmark and method: one table per protocol. COCO-AD has its mean over the folds as well.

    Raises `ValueError` without results.
    """
    if not results:
        raise ValueError("results: none; a table needs at least one")
    return [_table(ordered(results), protocol) for protocol in PROTOCOLS]


def _table(results: Sequence[Result], protocol: str) -> Table:
    with_seeds = any(len(result.seeds) > 1 for result in results)
    rows = [_row(result, protocol, with_seeds) for result in results]
    last = max((index for index, result in enumerate(results) if result.published_name in FOLDS), default=-1)
    rows[last + 1 : last + 1] = [_mean_row(mean, protocol, with_seeds) for mean in fold_means(results, protocol)]
    marked = ranked(rows, METRICS)
    return Table(
        title=f"Results per benchmark, protocol {protocol}",
        caption=measured_caption(protocol, results, marked, "a benchmark"),
        heads=("Benchmark", "Method", "Data", "Epochs", *(["Seeds"] if with_seeds else [])),
        columns=METRICS,
        rows=marked,
        protocol=protocol,
    )


def _row(result: Result, protocol: str, with_seeds: bool) -> Row:
    epochs, seeds = str(result.config.train.epochs), [str(len(result.seeds))] if with_seeds else []
    return Row(
        words=(result.title, result.label, source_label(result.source), epochs, *seeds),
        cells=mean_cells(result, protocol),
        keys=measured_keys(result, protocol),
        block=f"{result.published_name or result.benchmark}, {result.source}",
    )


def _mean_row(mean: FoldMean, protocol: str, with_seeds: bool) -> Row:
    seeds = [str(len(mean.seeds)) if mean.seeds else "differ"] if with_seeds else []
    keys = measured_keys(mean.folds[0], protocol)
    return Row(
        words=(mean.title, mean.label, source_label(mean.source), mean.epochs, *seeds),
        cells=mean.cells,
        keys=keys
        | {
            "benchmark": FOLD_MEAN,
            "source": mean.source,
            "epochs": mean.epochs,
            "seeds": " ".join(map(str, mean.seeds)),
        },
        kind="summary",
        block=f"{FOLD_MEAN}, {mean.source}",
    )


def measured_keys(result: Result, protocol: str) -> dict[str, str]:
    """What identifies a measured row in the CSV."""
    return {
        "benchmark": result.benchmark,
        "method": result.method or "",
        "label": result.label,
        "source": result.source,
        "epochs": str(result.config.train.epochs),
        "seeds": " ".join(map(str, result.seeds)),
        "protocol": protocol,
        "protocol_version": str(result.metrics["protocol_version"]),
    }
