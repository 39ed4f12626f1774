"""Test metrics on the way of trainings: the measured ones as tables, and the authors' own of the same method and benchmark beside them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from invad.metrics import AVERAGES
from invad.report.labels import (
    BENCHMARKS,
    FOLD_MEAN,
    FOLDS,
    METHODS,
    METRICS,
    PROTOCOLS,
    columns_of,
    source_label,
    source_sentences,
)
from invad.report.published import RERUN, fraction, incomparable, published_rows, published_words
from invad.report.results import Result, fold_means, means_of_folds
from invad.report.tables import Cell, Cells, Row, Table, caption, over_seeds, value_cells

PROTOCOL = "paper"
TITLE = "Learning curves"
LOGS = f"{RERUN} (ten evaluations of each run in its logs, zhangzjn/data on GitHub, folder ader_log, commit 12360da, 2024-10-30)"
RULE = (
    "Nothing was chosen by these numbers: they are of test images, every evaluation on the way is shown, and the model is that of the last "
    "step."
)

EpochCurve = Sequence[tuple[float, Mapping[str, float]]]  # epoch and metrics, fractions in [0, 1]


@cache
def published_curves() -> Mapping[tuple[str, str], Mapping[int, EpochCurve]]:
    """(Benchmark, method) -> epochs of the authors' run -> its curve, protocol `paper`; that of COCO-AD is the mean of its folds."""
    found: dict[tuple[str, str], dict[int, list[tuple[float, dict[str, float]]]]] = {}
    for row in published_rows("learning"):
        values = {metric.key: fraction(row[metric.key]) for metric in METRICS if metric.key in row}
        runs = found.setdefault((row["benchmark"], row["method"]), {})
        runs.setdefault(int(row["epochs"]), []).append((float(row["epoch"]), _with_averages(values)))
    for method in {method for _, method in found}:
        folds = [found[fold, method] for fold in FOLDS]
        found[FOLD_MEAN, method] = {epochs: _mean_curve([fold[epochs] for fold in folds]) for epochs in folds[0]}
    return found


def _with_averages(values: dict[str, float]) -> dict[str, float]:
    """The metrics of an evaluation with their averages, which the logs leave out."""
    return values | {key: math.fsum(values[part] for part in parts) / len(parts) for key, parts in AVERAGES.items()}


def _mean_curve(curves: Sequence[EpochCurve]) -> list[tuple[float, dict[str, float]]]:
    """The mean of curves with the same epochs."""
    return [
        (points[0][0], {key: math.fsum(values[key] for _, values in points) / len(points) for key in points[0][1]})
        for points in zip(*curves, strict=True)
    ]


def authors_curves(result: Result) -> Mapping[int, EpochCurve]:
    """Epochs of the run -> the authors' curve of the same method and benchmark; none where the result may not stand beside it."""
    return {} if _why_alone(result) else published_curves()[result.published_name or "", result.method or ""]


def _why_alone(result: Result) -> str:
    """Why no curve of the authors stands beside a result; "" where one does."""
    reasons = [reason for each in result.folds or (result,) if (reason := incomparable(each))]
    if not reasons and (result.published_name, result.method) not in published_curves():
        reasons = ["none was published of this method and benchmark"]
    return reasons[0] if reasons else ""


def authors_words(result: Result) -> str:
    """What the authors' curves beside a result are, or why there are none."""
    reason = _why_alone(result)
    return f"Without the authors' curves: {reason}." if reason else f"Grey beside it {LOGS}."


def learning_results(results: Iterable[Result]) -> list[Result]:
    """The results that were looked at on the way of their training, the mean of COCO-AD's folds among them."""
    results = list(results)
    means = [
        replace(mean, learning=_mean_learning([fold.learning for fold in mean.folds])) for mean in fold_means(results)
    ]
    return [result for result in (*results, *means) if result.learning]


def _mean_learning(curves: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The mean of evaluations at the same epochs; none where the folds were looked at at others. Steps are those of the first fold."""
    if len({tuple((point["seed"], round(point["epoch"], 1)) for point in curve) for curve in curves}) > 1:
        return []
    pairs = zip(*curves, strict=True)
    return [{**points[0], "mean": means_of_folds([point["mean"] for point in points])} for points in pairs]


def seed_curves(result: Result, key: str) -> dict[int, tuple[list[float], list[float]]]:
    """Seed -> epochs and values of a metric, protocol `paper`; evaluations without a value are left out."""
    curves: dict[int, tuple[list[float], list[float]]] = {}
    for point in sorted(result.learning, key=lambda point: point["step"]):
        if (value := point["mean"][PROTOCOL].get(key)) is not None:
            epochs, values = curves.setdefault(point["seed"], ([], []))
            epochs.append(point["epoch"])
            values.append(value)
    return curves


def learning_cells(result: Result, protocol: str = PROTOCOL) -> list[tuple[float, Cells]]:
    """Epoch and metrics over the seeds, of each evaluation that all of them have."""
    seeds = {point["seed"] for point in result.learning}
    by_step: dict[int, dict[int, Mapping[str, Any]]] = {}
    for point in result.learning:
        by_step.setdefault(point["step"], {})[point["seed"]] = point
    whole = [list(points.values()) for _, points in sorted(by_step.items()) if points.keys() == seeds]
    return [(points[0]["epoch"], over_seeds([value_cells(p["mean"][protocol]) for p in points])) for points in whole]


def learning_tables(results: Sequence[Result]) -> list[Table]:
    """A table of each result and protocol: a row for each evaluation, and in protocol `paper` those of the authors' runs below."""
    return [_table(result, protocol) for result in learning_results(results) for protocol in PROTOCOLS]


def _table(result: Result, protocol: str) -> Table:
    rows = [
        Row(result.words | {"Epoch": f"{epoch:.3g}"}, cells, block="measured")
        for epoch, cells in learning_cells(result, protocol)
    ]
    authors = authors_curves(result) if protocol == PROTOCOL else {}
    for epochs, curve in authors.items():
        words = {"Benchmark": BENCHMARKS[result.published_or_own], "Method": METHODS[result.method or ""]}
        words |= {"Data": published_words("rerun"), "Epochs": str(epochs)}
        rows += [
            Row(words | {"Epoch": f"{epoch:.3g}"}, {key: Cell(value) for key, value in values.items()}, "published", str(epochs))
            for epoch, values in curve
        ]  # fmt: skip
    several = len({point["seed"] for point in result.learning}) > 1
    words = caption(
        f"Protocol: {protocol} ({PROTOCOLS[protocol]}). Percent, higher is better; {source_label(result.source)} data.",
        "Mean ± sample standard deviation over the seeds." if several else "",
        RULE,
        authors_words(result) if protocol == PROTOCOL else "",
        source_sentences([result.source]),
    )
    heads = ("Epoch", "Data", "Epochs", *(["Seeds"] if several else []))
    columns = columns_of(key for row in rows for key in row.cells)
    title = f"{TITLE}, {result.title}, {result.label}, protocol {protocol}"
    return Table(title, words, heads, columns, tuple(rows), protocol)
