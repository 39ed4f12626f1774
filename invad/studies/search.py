"""A search for good settings: samples from the ranges of params.yaml, judged by synthetic defects in normal training images."""

import csv
import io
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from invad.config import Params, TuneConfig
from invad.errors import InputError
from invad.files import write_text
from invad.studies.driver import StudyOptions, run_study
from invad.studies.modules import Variant
from invad.studies.results import TrialResult
from invad.studies.settings import apply
from invad.studies.study import Study
from invad.studies.trial import SCORED_BY, VALIDATION_SCORE
from invad.text import aligned
from invad.workspace import Workspace

SEARCHED = ("learning_rate", "style_channels", "latent_channels", "blocks")
BASE = "base"  # the name of the benchmark's own setting, which is always the first sample
_MEASURED = (VALIDATION_SCORE, *SCORED_BY)


@dataclass(frozen=True)
class Sample:
    """One setting and what became of it. `values`: of the keys `SEARCHED`."""

    values: dict[str, float | int]
    result: TrialResult

    @property
    def score(self) -> float | None:
        """The validation score; None where there is none."""
        return self.result.metrics.get(VALIDATION_SCORE) if self.result.status == "finished" else None


@dataclass(frozen=True)
class TuneReport:
    """What a search gave. `samples`: best first, those without a score last. `fragment`: the best setting for params.yaml, if any."""

    benchmark: str
    share: float
    samples: tuple[Sample, ...]
    fragment: str | None

    @property
    def failed(self) -> bool:
        """Whether any sample has failed."""
        return any(sample.result.status == "failed" for sample in self.samples)


def plan_search(options: StudyOptions, params: Params, tune: TuneConfig) -> Study:
    """Return the study that `run_search` runs; its first variant is the benchmark's own setting.

    Raises:
        InputError: Benchmark, key or value is unknown or wrong, or the benchmark is not of InvAD.
    """
    from invad.cluster.tune import draw_samples

    base = apply(params.benchmark(options.benchmark), options.set)
    if base.train.model != "invad":
        raise InputError(f"--benchmark: {base.name} is of {base.train.model}; tune searches settings of invad only")
    first = {key: getattr(base.train, key) for key in SEARCHED}
    drawn = draw_samples(tune, tune.samples, tune.seed, first)
    names = [BASE, *(f"sample-{number:02d}" for number in range(2, len(drawn) + 1))]
    variants = tuple(
        Variant(name, {f"train.{key}": value for key, value in values.items()})
        for name, values in zip(names, drawn, strict=True)
    )
    return Study(
        name="tune",
        base=base,
        variants=variants,
        all_variants=variants,
        validation_share=tune.validation_share,
        validation_seed=tune.seed,
        test=False,
    )


def run_search(
    options: StudyOptions, params: Params, workspace: Workspace, tune: TuneConfig | None = None
) -> TuneReport:
    """Train and judge what is missing of the samples, and write `reports/tune/<benchmark>.{csv,md,yaml}`. No test image is read.

    Args:
        options: The benchmark, and how the study is run.
        params: The settings.
        workspace: Where data and results lie.
        tune: Ranges, number of samples, seed and share; by default those of `params`.

    Raises:
        InputError: As for `plan_search`; or the split is not built, the machine is too small, or the search is there already.
    """
    tune = tune or params.tune
    study = plan_search(options, params, tune)
    words = [*options.words(), "--samples", str(tune.samples), "--seed", str(tune.seed)]
    return run_study(
        study,
        options,
        params,
        workspace,
        report=lambda results: _report(study, results),
        write=lambda report: write_search(report, workspace.reports / "tune"),
        command=lambda _trial: shlex.join(["invad-pipe", "tune", *words]),
    )


def _report(study: Study, results: Sequence[TrialResult]) -> TuneReport:
    values = [{key: variant.changes[f"train.{key}"] for key in SEARCHED} for variant in study.variants]
    samples = [Sample(*pair) for pair in zip(values, results, strict=True)]
    samples.sort(key=lambda sample: -1.0 if sample.score is None else sample.score, reverse=True)
    best = samples[0] if samples[0].score is not None else None
    fragment = _fragment(study.base.name, best, len(samples), study.validation_share) if best else None
    return TuneReport(study.base.name, study.validation_share, tuple(samples), fragment)


def _fragment(benchmark: str, best: Sample, samples: int, share: float) -> str:
    lines = [
        f"# The best of {samples} settings by `invad-pipe tune`: {VALIDATION_SCORE} {best.score:.4f}, the mean of {', '.join(SCORED_BY)}",
        f"# on synthetic defects in {share:g} of the normal training images. No test image was seen.",
        "train:",
        f"  {benchmark}:",
        *(f"    {key}: {value}" for key, value in best.values.items()),
    ]
    return "\n".join(lines) + "\n"


def write_search(report: TuneReport, folder: Path) -> list[Path]:
    """Write the samples as `<benchmark>.csv` and `.md` and, where there is one, the best setting as `.yaml`; return the paths."""
    contents = {"csv": _csv(report), "md": _markdown(report)}
    if report.fragment:
        contents["yaml"] = report.fragment
    paths = []
    for suffix, text in contents.items():
        paths.append(folder / f"{report.benchmark}.{suffix}")
        write_text(paths[-1], text)
    return paths


def search_text(report: TuneReport) -> str:
    """Return the samples as a table for the terminal, best first, numbers in percent."""
    rows = [["sample", *SEARCHED, *_MEASURED, "status"]]
    rows += [
        [one.result.variant, *(f"{value:g}" for value in one.values.values()), *_percents(one), one.result.status]
        for one in report.samples
    ]
    failures = [f"{one.result.variant}: {one.result.error}" for one in report.samples if one.result.error]
    return "\n".join([*aligned(rows), *failures]) + "\n"


def _csv(report: TuneReport) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    costs = ("parameters", "multiply_adds", "seconds", "epochs")
    writer.writerow(["sample", "seed", "status", *SEARCHED, *_MEASURED, *costs, "error"])
    for sample in report.samples:
        result = sample.result
        measured = [result.metrics.get(key) for key in _MEASURED]
        numbers = [*measured, *(getattr(result, key) for key in costs)]
        cells = ["" if value is None else repr(value) for value in numbers]
        writer.writerow([result.variant, result.seed, result.status, *sample.values.values(), *cells, result.error])
    return buffer.getvalue()


def _markdown(report: TuneReport) -> str:
    from invad.report.tables import markdown_text

    caption = (
        f"Search on {report.benchmark}, best first. Percent, higher is better; {VALIDATION_SCORE} is the mean of {', '.join(SCORED_BY)} on "
        f"synthetic defects in {report.share:g} of the normal training images, which is no estimate of the results on the test set."
    )
    lines = [["Sample", "Status", *SEARCHED, *_MEASURED]]
    lines += [
        [one.result.variant, one.result.status, *(f"{value:g}" for value in one.values.values()), *_percents(one)]
        for one in report.samples
    ]
    errors = [f"{one.result.variant}: {one.result.error}" for one in report.samples if one.result.error]
    return markdown_text(caption, lines, errors)


def _percents(sample: Sample) -> list[str]:
    values = [sample.result.metrics.get(key) if sample.score is not None else None for key in _MEASURED]
    return ["-" if value is None else f"{100 * value:.1f}" for value in values]


def with_options(tune: TuneConfig, samples: int | None, seed: int | None) -> TuneConfig:
    """Return the section with other numbers from the command line; `InputError` for numbers that are too low."""
    for name, value, least in (("--samples", samples, 1), ("--seed", seed, 0)):
        if value is not None and value < least:
            raise InputError(f"{name}: must be at least {least}, not {value}")
    changes = {name: value for name, value in (("samples", samples), ("seed", seed)) if value is not None}
    return replace(tune, **changes)
