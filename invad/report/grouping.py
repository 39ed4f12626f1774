"""Several results in one report: seeds become one result, and no two have the same label or the same file names."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from invad.config import BenchmarkConfig
from invad.report.labels import benchmark_order
from invad.report.results import Result


def grouped(results: Sequence[Result]) -> list[Result]:
    """Return the results in the order of the report, those that differ in the seed alone as one, with labels and keys of their own.

    Pictures, curves and losses of several seeds are those of the lowest. Two results of equal settings and seed stay two.
    """
    folded = _distinct(_folded(sorted(results, key=_order)))
    order = benchmark_order({result.published_or_own for result in folded})
    return sorted(folded, key=lambda result: (order.index(result.published_or_own), result.source))


def by_benchmark(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Return the results by benchmark, in their order."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.published_or_own, []).append(result)
    return groups


def companions(result: Result, results: Sequence[Result]) -> list[Result]:
    """Return RD's result on the same data, whose maps a heat-map sheet sets beside those of `result`; none for RD itself."""
    if _is_rd(result):
        return []
    same = [other for other in results if _is_rd(other) and _data(other) == _data(result) and other.tests is not None]
    return same[:1]


def _data(result: Result) -> tuple[object, ...]:
    return result.config.dataset, result.config.splits, result.source


def _is_rd(result: Result) -> bool:
    return result.config.train.model == "rd"


def _order(result: Result) -> tuple[str, str, str, int]:
    return result.benchmark, result.label, repr(_seedless(result)), result.seeds[0]


def _folded(results: Sequence[Result]) -> list[Result]:
    groups: list[list[Result]] = []
    for result in results:
        fitting = (group for group in groups if _same_but_seed(group[0], result))
        group = next(
            (group for group in fitting if not {seed for one in group for seed in one.seeds} & set(result.seeds)), None
        )
        if group is None:
            groups.append([result])
        else:
            group.append(result)
    return [_one(group) for group in groups]


def _seedless(result: Result) -> BenchmarkConfig:
    return replace(result.config, train=replace(result.config.train, seed=0))


def _same_but_seed(one: Result, other: Result) -> bool:
    return _seedless(one) == _seedless(other) and one.source == other.source and one.counts == other.counts


def _one(group: Sequence[Result]) -> Result:
    """Return the results of several seeds as one: that of the lowest, with the metrics of all."""
    first = min(group, key=lambda result: result.seeds)
    metrics = {seed: result.metrics_by_seed[seed] for result in group for seed in result.seeds}
    return replace(first, metrics_by_seed=dict(sorted(metrics.items())))


def _distinct(results: Sequence[Result]) -> list[Result]:
    """Return the results with labels that tell them apart, and with keys of benchmark and label where a benchmark has several."""
    labelled = [replace(result, label=_label(result, results)) for result in results]
    twins, numbered, seen = Counter(map(_name, labelled)), [], Counter()
    for result in labelled:
        seen[_name(result)] += 1
        run = f", run {seen[_name(result)]}" if twins[_name(result)] > 1 else ""  # equal settings and seed
        numbered.append(replace(result, label=result.label + run))
    several = {name for name, count in Counter(result.benchmark for result in numbered).items() if count > 1}
    return [
        replace(result, key=f"{result.benchmark}_{_slug(result.label)}" if result.benchmark in several else result.key)
        for result in numbered
    ]


def _label(result: Result, results: Sequence[Result]) -> str:
    rivals = [other for other in results if _name(other) == _name(result)]
    return ", ".join([result.label, *_differences(result, rivals)])


def _name(result: Result) -> tuple[str, str]:
    return result.published_or_own, result.label


def _differences(result: Result, rivals: Sequence[Result]) -> list[str]:
    """Return the settings but for the seed in which a result differs from any of its rivals, such as `epochs 5`."""
    settings = [_settings(rival) for rival in rivals]
    own = _settings(result)
    names = [name for name in own if name != "train.seed" and any(other.get(name) != own[name] for other in settings)]
    return [f"{name.rpartition('.')[2]} {own[name]}" for name in names]


def _settings(result: Result) -> dict[str, Any]:
    """Return all settings of a result by dotted name."""
    return dict(_flat(asdict(result.config)))


def _flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, dict):
            yield from _flat(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
