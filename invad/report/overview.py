"""What a reader sees first: the results that count, one row a benchmark, and one image of each class."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from invad.report.benchmarks import OPERATING_COLUMNS, operating_means, seeds_words
from invad.report.labels import METRICS, source_sentences
from invad.report.results import Result, TestImages, fold_means, select_samples
from invad.report.tables import Row, Table, are_close, caption, flat_heading

PROTOCOL = "paper"
HEADLINE = ("image_auroc", "region_aupro", "mad", "calibrated_image_recall", "calibrated_image_fpr")
_LEVELS = {"calibrated_image_recall": "Found", "calibrated_image_fpr": "False alarms"}
_BY_KEY = {column.key: column for column in METRICS + OPERATING_COLUMNS}
# One line of headings, which names the level of each number.
COLUMNS = tuple(
    replace(_BY_KEY[key], group="", label=_LEVELS.get(key) or flat_heading(_BY_KEY[key])) for key in HEADLINE
)
BEST_OF_SEVERAL = (
    "Where a benchmark has several rows below, the one with the highest mAD stands here; chosen with the test labels."
)
THRESHOLD = (
    "Found and false alarms: shares of the anomalous and of the normal test images above the threshold that a user has, from normal "
    "images alone."
)
SAMPLE_RULE = (
    "Left the image, its true anomaly outlined; right what the map shows above its threshold, outlined where the image is called "
    "anomalous. Of each class the anomalous image with the median score."
)


def overview_results(results: Sequence[Result]) -> list[Result]:
    """One result of each benchmark and kind of data, in the order given: of several that with the highest mAD, the first of equal ones.

    The mean of COCO-AD's folds stands for them where there is one.
    """
    return [max(members, key=_mad) for members in _kinds(results)]


def _kinds(results: Sequence[Result]) -> list[list[Result]]:
    """The results of each benchmark and kind of data."""
    means = fold_means(results)
    parts = [fold for mean in means for fold in mean.folds]
    found = [*means, *(result for result in results if not any(result is fold for fold in parts))]
    kinds: dict[tuple[str, str], list[Result]] = {}
    for result in found:
        kinds.setdefault((result.published_or_own, result.source), []).append(result)
    return list(kinds.values())


def _rivals(result: Result, members: Sequence[Result]) -> tuple[str, ...]:
    """A note on the results whose mAD the seeds do not tell apart from the best, where there are such."""
    own = result.cells(PROTOCOL)["mad"]
    close = [each.label for each in members if each is not result and are_close(own, each.cells(PROTOCOL)["mad"])]
    return (f"Over the seeds its mAD is not told apart from that of {', '.join(close)}.",) if close else ()


def _mad(result: Result) -> float:
    value = result.cells(PROTOCOL)["mad"].value
    return -math.inf if value is None else value


def overview_table(results: Sequence[Result]) -> Table:
    """The results that count, one row a benchmark."""
    kinds = [(max(members, key=_mad), members) for members in _kinds(results)]
    chosen = [result for result, _ in kinds]
    rows = tuple(
        Row(result.words, result.cells(PROTOCOL) | operating_means(result), notes=_rivals(result, members))
        for result, members in kinds
    )
    known = {key for row in rows for key, cell in row.cells.items() if cell.value is not None}
    columns = tuple(column for column in COLUMNS if column.key in known)
    several = len({result.label for result in results}) > 1
    mixed = len({result.source for result in chosen}) > 1
    heads = ("Benchmark", *(["Method"] if several else []), *(["Data"] if mixed else []))
    words = caption(
        f"Percent, protocol {PROTOCOL}.",
        seeds_words(chosen),
        BEST_OF_SEVERAL if several else "",
        THRESHOLD if any(column.key in _LEVELS for column in columns) else "",
        source_sentences(result.source for result in chosen) if mixed else "",
    )
    return Table("The results that count", words, heads, columns, rows, PROTOCOL)


def overview_samples(tests: TestImages) -> list[int]:
    """Positions of one image of each class, by `SAMPLE_RULE`; of a class without anomalous images the normal one of `select_samples`."""
    shown = [index for index in select_samples(tests) if index in tests.pictures]
    classes = groupby(shown, key=lambda index: tests.classes[index])
    chosen = []
    for members in (list(those) for _, those in classes):
        anomalous = [index for index in members if tests.labels[index]] or members
        chosen.append(anomalous[(len(anomalous) - 1) // 2])
    return chosen
