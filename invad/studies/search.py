"""A search for good settings: samples from the ranges of params.yaml, judged by synthetic defects in normal training images."""

import csv
import io
import textwrap
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

SEARCHED = ("learning_rate", "style_channels", "latent_channels", "blocks")  # of these, what the method has
BASE = "base"  # the name of the benchmark's own setting, which is always the first sample
_MEASURED = (VALIDATION_SCORE, *SCORED_BY)
_COSTS = ("parameters", "multiply_adds", "seconds", "epochs")

FLATTERED = (
    "The method trains on synthetic anomalies, and synthetic defects judge it. They are another kind, but closer to what it has learned "
    "than real ones: the scores flatter it, and are good for nothing but to compare its own settings."
)

Values = dict[str, Any]  # by the keys `SEARCHED`


@dataclass(frozen=True)
class TuneReport:
    """What a search gave. `samples`: best first, those without a score last. `fragment`: the best setting for params.yaml, if any.

    `note`: what readers of the scores must know, if anything.
    """

    benchmark: str
    samples: tuple[tuple[Values, TrialResult], ...]
    fragment: str | None
    note: str = ""

    @property
    def failures(self) -> list[str]:
        """What has failed, and why."""
        return [f"{one.variant}: {one.error}" for _, one in self.samples if one.status == "failed"]


def plan_search(options: StudyOptions, params: Params, tune: TuneConfig) -> Study:
    """Return the study that `run_search` runs, the benchmark's own setting first; `InputError`: it is wrong, or leaves nothing to try."""
    base = apply(params.benchmark(options.benchmark), options.set)
    own = asdict(base.train)
    if "learning_rate" not in own:
        raise InputError(
            f"--benchmark: {base.name} is of {base.train.model}, which has no learning_rate; tune has nothing to try"
        )
    drawn = draw_samples(tune, {key: own[key] for key in SEARCHED if key in own})
    names = [BASE, *(f"sample-{number:02d}" for number in range(2, len(drawn) + 1))]
    changes = [{f"train.{key}": value for key, value in values.items()} for values in drawn]
    variants = tuple(VariantRow(name, "", False, change) for name, change in zip(names, changes, strict=True))
    return Study("tune", base, variants, validation_share=tune.validation_share, validation_seed=tune.seed)


def draw_samples(tune: TuneConfig, first: Mapping[str, Any]) -> list[Values]:
    """Return settings from the ranges of `tune`: `first`, then others; with more `samples` the same ones come first."""
    rng, rates = np.random.default_rng(tune.seed), tune.learning_rate
    drawn = [dict(first)]
    while len(drawn) < tune.samples:
        rate = float(np.exp(rng.uniform(np.log(rates.low), np.log(rates.high))))
        # Three digits are as good, and can be written into params.yaml.
        values: Values = {"learning_rate": min(max(float(f"{rate:.3g}"), rates.low), rates.high)}
        drawn.append(values | {key: int(rng.choice(getattr(tune, key))) for key in SEARCHED[1:] if key in first})
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
    """Return the samples as a table for the terminal, best first, numbers in percent, and the note."""
    rows = [["sample", *report.samples[0][0], *_MEASURED, "status"]]
    for values, result in report.samples:
        measured = [result.metrics.get(key) for key in _MEASURED]
        percents = ["-" if value is None else f"{100 * value:.1f}" for value in measured]
        rows.append([result.variant, *(f"{value:g}" for value in values.values()), *percents, result.status])
    notes = [f"note: {report.note}"] if report.note else []
    return "\n".join([*aligned(rows), *report.failures, *notes]) + "\n"


def _report(study: Study, results: Sequence[TrialResult]) -> TuneReport:
    known = {one.name: one.changes for one in study.variants}
    samples = [
        ({key.removeprefix("train."): value for key, value in known[one.variant].items()}, one) for one in results
    ]
    note = FLATTERED if study.base.train.SYNTHETIC_ANOMALIES else ""
    samples.sort(key=lambda sample: _score(sample[1]), reverse=True)
    (values, best), fragment = samples[0], None
    if _score(best) >= 0:
        lines = [
            f"# The best of {len(samples)} settings by `invad-pipe tune`: {VALIDATION_SCORE} {_score(best):.4f}, the mean of",
            f"# {', '.join(SCORED_BY)} on synthetic defects in {study.validation_share:g} of the normal training images.",
            "# No test image was seen, and this is no estimate of the results on them.",
            *(f"# {line}" for line in textwrap.wrap(note, 100)),
            f"train:\n  {study.base.name}:",
            *(f"    {key}: {value}" for key, value in values.items()),
        ]
        fragment = "\n".join(lines) + "\n"
    return TuneReport(study.base.name, tuple(samples), fragment, note)


def _score(result: TrialResult) -> float:
    """Return the validation score, -1 where there is none."""
    score = result.metrics.get(VALIDATION_SCORE)
    return -1.0 if score is None else score


def _write(report: TuneReport, folder: Path) -> list[Path]:
    """Write the samples as `<benchmark>.csv` and, where there is one, the best setting as `.yaml`; return the paths."""
    names = ["sample", "seed", "status", *report.samples[0][0], *_MEASURED, *_COSTS, "error"]
    names += ["note"] if report.note else []
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for values, result in report.samples:
        writer.writerow({"sample": result.variant, "note": report.note, **values, **result.metrics, **asdict(result)})
    texts = {folder / f"{report.benchmark}.csv": buffer.getvalue()}
    texts |= {folder / f"{report.benchmark}.yaml": report.fragment} if report.fragment else {}
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)
