"""A search for good settings: samples from the ranges of params.yaml, judged by synthetic defects in normal training images."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from invad.config import Params, TuneConfig
from invad.errors import InputError
from invad.files import write_text
from invad.report.ablations import VariantRow
from invad.studies.runner import StudyOptions, finished_study
from invad.studies.study import Study, apply
from invad.studies.trial import SCORED_BY, VALIDATION_SCORE, TrialResult
from invad.text import aligned
from invad.workspace import Workspace

SEARCHED = ("learning_rate", "style_channels", "latent_channels", "blocks")
BASE = "base"  # the name of the benchmark's own setting, which is always the first sample
_MEASURED = (VALIDATION_SCORE, *SCORED_BY)
_COSTS = ("parameters", "multiply_adds", "seconds", "epochs")

Values = dict[str, Any]  # by the keys `SEARCHED`


@dataclass(frozen=True)
class TuneReport:
    """What a search gave. `samples`: best first, those without a score last. `fragment`: the best setting for params.yaml, if any."""

    benchmark: str
    samples: tuple[tuple[Values, TrialResult], ...]
    fragment: str | None

    @property
    def failures(self) -> list[str]:
        """What has failed, and why."""
        return [f"{one.variant}: {one.error}" for _, one in self.samples if one.status == "failed"]


def plan_search(options: StudyOptions, params: Params, tune: TuneConfig) -> Study:
    """Return the study that `run_search` runs, the benchmark's own setting first; `InputError` where that is wrong, or not of InvAD."""
    base = apply(params.benchmark(options.benchmark), options.set)
    if base.train.model != "invad":
        raise InputError(f"--benchmark: {base.name} is of {base.train.model}; tune searches settings of invad only")
    drawn = draw_samples(tune, {key: getattr(base.train, key) for key in SEARCHED})
    names = [BASE, *(f"sample-{number:02d}" for number in range(2, len(drawn) + 1))]
    changes = [{f"train.{key}": value for key, value in values.items()} for values in drawn]
    variants = tuple(VariantRow(name, "", False, change) for name, change in zip(names, changes, strict=True))
    return Study("tune", base, variants, validation_share=tune.validation_share, validation_seed=tune.seed)


def draw_samples(tune: TuneConfig, first: Mapping[str, float | int]) -> list[Values]:
    """Return settings from the ranges of `tune`: `first`, then others; with more `samples` the same ones come first."""
    rng, rates = np.random.default_rng(tune.seed), tune.learning_rate
    drawn = [dict(first)]
    while len(drawn) < tune.samples:
        rate = float(np.exp(rng.uniform(np.log(rates.low), np.log(rates.high))))
        # Three digits are as good, and can be written into params.yaml.
        values: Values = {"learning_rate": min(max(float(f"{rate:.3g}"), rates.low), rates.high)}
        drawn.append(values | {key: int(rng.choice(getattr(tune, key))) for key in SEARCHED[1:]})
    return drawn


def run_search(options: StudyOptions, params: Params, workspace: Workspace, tune: TuneConfig) -> TuneReport:
    """Judge what is missing of the samples of `tune`, and write `reports/tune`; `InputError` as for `finished_study`."""
    study = plan_search(options, params, tune)
    start = ("tune", "--samples", str(tune.samples), "--seed", str(tune.seed))
    with finished_study(study, options, params, workspace, *start) as (results, log_files):
        report = _report(study, results)
        log_files(_write(report, workspace.reports / "tune"))
    return report


def search_text(report: TuneReport) -> str:
    """Return the samples as a table for the terminal, best first, numbers in percent."""
    rows = [["sample", *SEARCHED, *_MEASURED, "status"]]
    for values, result in report.samples:
        measured = [result.metrics.get(key) for key in _MEASURED]
        percents = ["-" if value is None else f"{100 * value:.1f}" for value in measured]
        rows.append([result.variant, *(f"{value:g}" for value in values.values()), *percents, result.status])
    return "\n".join([*aligned(rows), *report.failures]) + "\n"


def _report(study: Study, results: Sequence[TrialResult]) -> TuneReport:
    known = {one.name: one.changes for one in study.variants}
    samples = [({key: known[one.variant][f"train.{key}"] for key in SEARCHED}, one) for one in results]
    samples.sort(key=lambda sample: _score(sample[1]), reverse=True)
    (values, best), fragment = samples[0], None
    if _score(best) >= 0:
        lines = [
            f"# The best of {len(samples)} settings by `invad-pipe tune`: {VALIDATION_SCORE} {_score(best):.4f}, the mean of",
            f"# {', '.join(SCORED_BY)} on synthetic defects in {study.validation_share:g} of the normal training images.",
            "# No test image was seen, and this is no estimate of the results on them.",
            f"train:\n  {study.base.name}:",
            *(f"    {key}: {value}" for key, value in values.items()),
        ]
        fragment = "\n".join(lines) + "\n"
    return TuneReport(study.base.name, tuple(samples), fragment)


def _score(result: TrialResult) -> float:
    """Return the validation score, -1 where there is none."""
    score = result.metrics.get(VALIDATION_SCORE)
    return -1.0 if score is None else score


def _write(report: TuneReport, folder: Path) -> list[Path]:
    """Write the samples as `<benchmark>.csv` and, where there is one, the best setting as `.yaml`; return the paths."""
    names = ["sample", "seed", "status", *SEARCHED, *_MEASURED, *_COSTS, "error"]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for values, result in report.samples:
        writer.writerow({"sample": result.variant, **values, **result.metrics, **asdict(result)})
    texts = {folder / f"{report.benchmark}.csv": buffer.getvalue()}
    texts |= {folder / f"{report.benchmark}.yaml": report.fragment} if report.fragment else {}
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)
