"""What an ablation study measured, and what its tables and its figure show of it: one summary per variant."""

import math
import re
import statistics
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from invad.errors import InputError
from invad.report.labels import METRICS, Metric

FINISHED, FAILED, STOPPED = "finished", "failed", "stopped"
PARTIAL, MISSING = "partial", "missing"  # of a variant: only some runs have finished; there is no run at all
NO_PAPER = "No difference: the paper's setting is not among the finished variants."
Item = TypeVar("Item", bound=Hashable)
ERROR_LENGTH = 200  # characters of an error that a footnote shows


@dataclass(frozen=True)
class TrialResult:
    """One run: a variant with one seed.

    status: "finished", "failed" (`error` says why) or "stopped" (early, after `epochs`). multiply_adds: of one image. seconds: of training.
    metrics: keys of `METRICS` -> fraction in [0, 1] or `None` when not available; read only where the run has finished.
    """

    variant: str
    seed: int
    status: str
    error: str = ""
    parameters: int | None = None
    multiply_adds: int | None = None
    seconds: float | None = None
    epochs: int | None = None
    device: str = ""
    metrics: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class VariantRow:
    """One variant. note: what it is, in words. is_paper: the paper's own setting. changes: settings that differ, dotted key -> value."""

    name: str
    note: str
    is_paper: bool
    changes: Mapping[str, object]


@dataclass(frozen=True)
class AblationReport:
    """One study. module: the name of its files. data: key of `SOURCES`. results: all runs, in any order. notes: what readers must know."""

    module: str
    description: str
    benchmark: str
    data: str
    variants: Sequence[VariantRow]
    results: Sequence[TrialResult]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Value:
    """A metric of one variant, or why there is none.

    mean: fraction in [0, 1] over the finished seeds that have it. std: sample standard deviation (n - 1); `None` with one seed.
    difference: to the paper's setting, as fraction. notes and difference_notes: what a reader has to know about mean and difference.
    """

    mean: float | None = None
    std: float | None = None
    difference: float | None = None
    notes: tuple[str, ...] = ()
    difference_notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class VariantSummary:
    """One row of the tables.

    seeds: of the finished runs, ascending. runs: number of all runs. seconds: mean over the finished runs. values: metric key -> `Value`.
    notes: what became of the runs that did not finish.
    """

    variant: VariantRow
    status: str
    seeds: tuple[int, ...]
    runs: int
    parameters: int | None
    multiply_adds: int | None
    seconds: float | None
    values: Mapping[str, Value]
    notes: tuple[str, ...]


def summarise(report: AblationReport) -> list[VariantSummary]:
    """One summary per variant, in the order given.

    Raises `InputError` when variants or runs are given twice, do not belong together, or the module is no file name.
    """
    _check(report)
    runs = {
        variant.name: sorted((run for run in report.results if run.variant == variant.name), key=lambda run: run.seed)
        for variant in report.variants
    }
    paper = next((runs[variant.name] for variant in report.variants if variant.is_paper), [])
    return [_summary(variant, runs[variant.name], paper) for variant in report.variants]


def _check(report: AblationReport) -> None:
    where = f"ablation {report.module!r}"
    if not re.fullmatch(r"\w[\w.-]*", report.module):
        raise InputError(f"{where}: the module names the files; it must be letters, digits, '_', '-' and '.'")
    if not report.variants:
        raise InputError(f"{where}: no variants; at least one is needed")
    names = [variant.name for variant in report.variants]
    if twice := _twice(names):
        raise InputError(f"{where}: the variant {twice!r} is given twice; names must differ")
    if sum(variant.is_paper for variant in report.variants) > 1:
        raise InputError(f"{where}: several variants are the paper's setting; at most one can be")
    for run in report.results:
        if run.variant not in names:
            raise InputError(f"{where}: a result of the unknown variant {run.variant!r}; known are {', '.join(names)}")
        if run.status not in (FINISHED, FAILED, STOPPED):
            raise InputError(
                f"{where}: variant {run.variant!r}: status {run.status!r} must be finished, failed or stopped"
            )
    if twice := _twice((run.variant, run.seed) for run in report.results):
        raise InputError(f"{where}: variant {twice[0]!r} has two results of seed {twice[1]}; one per seed is needed")


def _twice(items: Iterable[Item]) -> Item | None:
    return next((item for item, count in Counter(items).items() if count > 1), None)


def _summary(variant: VariantRow, runs: Sequence[TrialResult], paper: Sequence[TrialResult]) -> VariantSummary:
    done = _finished(runs)
    return VariantSummary(
        variant=variant,
        status=_status(runs),
        seeds=tuple(run.seed for run in done),
        runs=len(runs),
        parameters=next((run.parameters for run in done if run.parameters is not None), None),
        multiply_adds=next((run.multiply_adds for run in done if run.multiply_adds is not None), None),
        seconds=_mean(_numbers(run.seconds for run in done)),
        values={metric.key: _value(metric, done, _finished(paper)) for metric in METRICS},
        notes=_unfinished(runs),
    )


def _finished(runs: Sequence[TrialResult]) -> list[TrialResult]:
    return [run for run in runs if run.status == FINISHED]


def _status(runs: Sequence[TrialResult]) -> str:
    found = {run.status for run in runs}
    if FINISHED in found:
        return FINISHED if len(found) == 1 else PARTIAL
    return FAILED if FAILED in found else STOPPED if found else MISSING


def _unfinished(runs: Sequence[TrialResult]) -> tuple[str, ...]:
    """What became of the runs that did not finish; seeds with the same fate share a sentence."""
    if not runs:
        return ("Not run.",)
    fates: dict[str, list[int]] = {}
    for run in runs:
        if run.status == FAILED:
            fates.setdefault(f"failed: {short_text(run.error or 'no reason was recorded')}", []).append(run.seed)
        elif run.status == STOPPED:
            after = "" if run.epochs is None else f" after {counted(run.epochs, 'epoch')}"
            fates.setdefault(f"stopped early{after}", []).append(run.seed)
    return tuple(f"{seed_words(seeds)} {fate}{'' if fate.endswith('.') else '.'}" for fate, seeds in fates.items())


def _value(metric: Metric, done: Sequence[TrialResult], paper: Sequence[TrialResult]) -> Value:
    if not done:
        return Value()  # the row's own notes say why
    name = full_label(metric)
    numbers = _numbers(run.metrics.get(metric.key) for run in done)
    mean = _mean(numbers)
    if mean is None:
        note = (f"{name} is not available: the evaluation gave no value.",)
        return Value(notes=note, difference_notes=note)
    std = statistics.stdev(numbers) if len(numbers) > 1 else None
    notes: tuple[str, ...] = ()
    if len(numbers) < len(done):
        notes = (f"Mean of {len(numbers)} of {len(done)} seeds; the evaluation gave no value for the others.",)
    reference = _mean(_numbers(run.metrics.get(metric.key) for run in paper))
    if reference is None:
        lacking = f"No difference: the paper's setting has no value of {name}." if paper else NO_PAPER
        return Value(mean, std, None, notes, (lacking,))
    return Value(mean, std, mean - reference, notes, notes)


def _numbers(values: Iterable[float | None]) -> list[float]:
    return [float(value) for value in values if value is not None and math.isfinite(value)]


def _mean(numbers: Sequence[float]) -> float | None:
    return math.fsum(numbers) / len(numbers) if numbers else None


def full_label(metric: Metric) -> str:
    """A metric's name where no heading tells its level: `Image AU-ROC`."""
    return metric.label if metric.group in ("Averages", "Cost") else f"{metric.group.split(',')[0]} {metric.label}"


def counted(number: int, noun: str) -> str:
    """`1 epoch`, `3 epochs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def seed_words(seeds: Sequence[int]) -> str:
    """`Seed 0`, or `Seeds 0, 1, 2`."""
    return f"Seed{'' if len(seeds) == 1 else 's'} {', '.join(str(seed) for seed in seeds)}"


def short_text(text: str) -> str:
    """Text on one line, cut where it gets longer than a footnote should be."""
    line = " ".join(text.split())
    return line if len(line) <= ERROR_LENGTH else f"{line[: ERROR_LENGTH - 4].rstrip()} ..."
