"""How far the numbers can be trusted: their intervals over the test images, beside the deviation over the seeds."""

from collections.abc import Sequence
from dataclasses import replace

from invad.report.labels import HEADLINES, PROTOCOLS, source_sentences
from invad.report.results import Result
from invad.report.tables import Cells, Row, Table, caption

PROTOCOL = "exact"
_SEEDS = (
    "; behind ± the sample standard deviation over the seeds, which says how far another training would move it, on the same images. "
    "Half an interval of 95 % is about two standard deviations: hold it against twice the number behind ±."
)


def spread_tables(results: Sequence[Result]) -> list[Table]:
    """One table, a row for each result whose metrics have intervals; none without any."""
    with_intervals = [result for result in results if result.metrics.get("intervals")]
    if not with_intervals:
        return []
    rows = tuple(Row(result.words, _cells(result), block=result.published_or_own) for result in with_intervals)
    settings = [result.metrics["intervals"] for result in with_intervals]
    confidence = _several({f"{100 * each['confidence']:g}" for each in settings})
    replicates = _several({f"{each['replicates']:,}" for each in settings})
    several = any(len(result.metrics_by_seed) > 1 for result in with_intervals)
    words = caption(
        f"Protocol: {PROTOCOL} ({PROTOCOLS[PROTOCOL]}). Percent, higher is better.",
        f"Of each model, the first seed, its value and in brackets the interval of {confidence} %, which says how far other test images of "
        f"the same kind would move it ({replicates} draws with replacement from the test images){_SEEDS if several else '.'}",
        source_sentences(result.source for result in with_intervals),
    )
    heads = ("Benchmark", "Method", "Data", *(["Seeds"] if several else []))
    return [Table("Spread over test images and seeds", words, heads, HEADLINES, rows, PROTOCOL)]


def _several(texts: set[str]) -> str:
    return " or ".join(sorted(texts))


def _cells(result: Result) -> Cells:
    """The model's own values with their intervals, and the deviations over all seeds."""
    own, over_seeds, intervals = (
        result.metrics["mean"][PROTOCOL],
        result.cells(PROTOCOL),
        result.metrics["intervals"]["mean"],
    )
    cells = {}
    for key in (metric.key for metric in HEADLINES):
        low, high = intervals.get(key) or (None, None)
        is_known = low is not None and high is not None
        cells[key] = replace(over_seeds[key], value=own[key], interval=(low, high) if is_known else None)
    return cells
