"""`invad-pipe ablate` and `invad-pipe tune`: many trainings on Ray Tune, to compare settings and to find good ones."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from invad.cli.project import ParamsOption
from invad.errors import InputError
from invad.workspace import Workspace

if TYPE_CHECKING:
    from invad.config import Params
    from invad.studies.runner import StudyOptions

BenchmarkOption = Annotated[str | None, typer.Option(help="By default mvtec, or the first of params.yaml.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Another value, such as train.epochs=3.")]
MaxConcurrentOption = Annotated[int | None, typer.Option(help="Trials at a time; by default as many as fit.", min=1)]
TrialsPerGpuOption = Annotated[float | None, typer.Option(help="Trials that share a GPU; by default one.", min=1.0)]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with a study that was begun.")]
RestartOption = Annotated[bool, typer.Option("--restart", help="Remove what there is of the study, and begin anew.")]


def ablate(
    module: Annotated[str, typer.Option(help="The part whose variants are compared; --list shows all.")] = "",
    benchmark: BenchmarkOption = None,
    variants: Annotated[str, typer.Option(help="Some of them, separated by commas; paper is the paper's own.")] = "",
    settings: SetOption = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each, from the seed of params.yaml on.", min=1)] = 1,
    max_concurrent: MaxConcurrentOption = None,
    trials_per_gpu: TrialsPerGpuOption = None,
    resume: ResumeOption = False,
    restart: RestartOption = False,
    list_: Annotated[bool, typer.Option("--list", help="Print all modules and variants, and exit.")] = False,
    params: ParamsOption = Path("params.yaml"),
) -> None:
    """Train the variants of a module and compare them: reports/ablations/MODULE.csv, .md, .tex and .json.

    Each trial is one process with train.resources_per_worker.cpu CPUs of params.yaml
    and at most one GPU; train.workers is for a single training and plays no part.

    A trial that fails is recorded, and the others go on; the exit code is then 1.
    """
    from invad.studies.modules import MODULES, module_named

    if list_:
        for each in MODULES.values():
            print(f"{each.name}: {each.description}")
            for one in each.variants:
                changes = ", ".join(f"{key}={value}" for key, value in one.changes.items())
                print(f"  {one.name}{' (paper)' * one.is_paper}: {changes} {one.note}".rstrip())
        return
    if not module:
        raise InputError("--module: is missing; --list shows all modules")
    module_named(module)  # before anything heavy is imported
    known, options = _asked(params, benchmark, settings, max_concurrent, trials_per_gpu, resume, restart)
    from invad.report.ablations import summary_text
    from invad.studies.ablation import run_ablation

    chosen = tuple(name.strip() for name in variants.split(",") if name.strip())
    report = run_ablation(module, replace(options, variants=chosen, seeds=seeds), known, Workspace())
    print(summary_text(report), end="")
    raise typer.Exit(1 if any(result.status == "failed" for result in report.results) else 0)


def tune(
    benchmark: BenchmarkOption = None,
    samples: Annotated[int | None, typer.Option(help="Settings to try; by default as params.yaml says.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="By default that of params.yaml.", min=0)] = None,
    settings: SetOption = None,
    max_concurrent: MaxConcurrentOption = None,
    trials_per_gpu: TrialsPerGpuOption = None,
    resume: ResumeOption = False,
    restart: RestartOption = False,
    params: ParamsOption = Path("params.yaml"),
) -> None:
    """Search good settings in the ranges of params.yaml, section tune: reports/tune/BENCHMARK.csv and .yaml.

    Settings are judged by synthetic defects in normal training images that are kept
    from training; no test image is read. The benchmark's own setting is the first.

    Prints the samples, best first, and the best setting as a piece of params.yaml.
    A trial that fails is recorded, and the others go on; the exit code is then 1.
    """
    known, options = _asked(params, benchmark, settings, max_concurrent, trials_per_gpu, resume, restart)
    from invad.studies.search import run_search, search_text

    chosen = {name: value for name, value in (("samples", samples), ("seed", seed)) if value is not None}
    report = run_search(options, known, Workspace(), replace(known.tune, **chosen))
    print(search_text(report))
    print(report.fragment or "No sample has a score.", end="")
    raise typer.Exit(1 if report.failures else 0)


def _asked(
    params: Path,
    benchmark: str | None,
    settings: list[str] | None,
    max_concurrent: int | None,
    trials_per_gpu: float | None,
    resume: bool,
    restart: bool,
) -> "tuple[Params, StudyOptions]":
    """Return the settings of params.yaml, and what the options that both commands have ask for."""
    if resume and restart:
        raise InputError("--resume: goes on with what --restart would remove; give one of them")
    import ray  # noqa: F401  (without the extra nothing is begun)

    from invad.config import load_params
    from invad.studies.runner import StudyOptions
    from invad.studies.study import parse_set

    known = load_params(params)
    name = benchmark or ("mvtec" if "mvtec" in known.benchmarks else next(iter(known.benchmarks)))
    return known, StudyOptions(name, parse_set(settings or []), max_concurrent, trials_per_gpu, resume, restart)
