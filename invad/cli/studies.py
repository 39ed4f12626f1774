"""`invad-pipe ablate` and `invad-pipe tune`: many trainings on Ray Tune, to compare settings and to find good ones."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from invad.cli.extras import require
from invad.cli.options import ParamsOption
from invad.errors import InputError

if TYPE_CHECKING:
    from invad.config import Params

BenchmarkOption = Annotated[
    str | None, typer.Option(help="A benchmark of params.yaml; by default mvtec, or the first where there is none.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Another value of a setting, such as train.epochs=3."),
]
MaxConcurrentOption = Annotated[int | None, typer.Option(help="Trials at a time; by default as many as fit.", min=1)]
TrialsPerGpuOption = Annotated[float | None, typer.Option(help="Trials that share a GPU; by default one.", min=1.0)]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with a study that was begun.")]
RestartOption = Annotated[bool, typer.Option("--restart", help="Remove what there is of the study, and begin anew.")]


def ablate(
    module: Annotated[str, typer.Option(help="The part whose variants are compared; --list shows all.")] = "",
    benchmark: BenchmarkOption = None,
    variants: Annotated[str, typer.Option(help="Some of them, separated by commas; paper is the paper's own.")] = "",
    settings: SetOption = None,
    seeds: Annotated[
        int, typer.Option(help="Trainings of each, with the seed of params.yaml and the next.", min=1)
    ] = 1,
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
    if list_:
        print(_modules_text())
        return
    _check(resume=resume, restart=restart)
    from invad.studies.modules import module_named

    if not module:
        raise InputError("--module: is missing; --list shows all modules")
    module_named(module)  # before anything heavy is imported
    from invad.config import load_params
    from invad.report.ablations import summary_text
    from invad.studies.ablation import run_ablation
    from invad.studies.runner import StudyOptions
    from invad.studies.settings import parse_set
    from invad.workspace import Workspace

    known, chosen = load_params(params), tuple(name.strip() for name in variants.split(",") if name.strip())
    how = (_benchmark(benchmark, known), parse_set(settings or []), max_concurrent, trials_per_gpu, resume, restart)
    options = StudyOptions(*how, variants=chosen, seeds=seeds)
    report = run_ablation(module, options, known, Workspace())
    print(summary_text(report), end="")
    raise typer.Exit(1 if any(result.status == "failed" for result in report.results) else 0)


def tune(
    benchmark: BenchmarkOption = None,
    samples: Annotated[int | None, typer.Option(help="Settings to try; by default as params.yaml says.", min=1)] = None,
    seed: Annotated[
        int | None, typer.Option(help="Chooses settings and validation images; by default as params.yaml says.", min=0)
    ] = None,
    settings: SetOption = None,
    max_concurrent: MaxConcurrentOption = None,
    trials_per_gpu: TrialsPerGpuOption = None,
    early_stop: Annotated[bool, typer.Option("--early-stop", help="End samples that fall behind (ASHA).")] = False,
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
    _check(resume=resume, restart=restart)
    from invad.config import load_params
    from invad.studies.runner import StudyOptions
    from invad.studies.search import run_search, search_text
    from invad.studies.settings import parse_set
    from invad.workspace import Workspace

    known = load_params(params)
    how = (_benchmark(benchmark, known), parse_set(settings or []), max_concurrent, trials_per_gpu, resume, restart)
    chosen = {name: value for name, value in (("samples", samples), ("seed", seed)) if value is not None}
    options = StudyOptions(*how, early_stop=early_stop)
    report = run_search(options, known, Workspace(), replace(known.tune, **chosen))
    print(search_text(report))
    print(report.fragment or "No sample has a score.", end="")
    raise typer.Exit(1 if report.failures else 0)


def _check(*, resume: bool, restart: bool) -> None:
    if resume and restart:
        raise InputError("--resume: goes on with what --restart would remove; give one of them")
    require("ray")


def _benchmark(name: str | None, params: "Params") -> str:
    return name or ("mvtec" if "mvtec" in params.benchmarks else next(iter(params.benchmarks)))


def _modules_text() -> str:
    from invad.studies.modules import MODULES
    from invad.text import aligned

    lines = []
    for module in MODULES.values():
        lines += ["", f"{module.name}: {module.description}"]
        names = [f"  {one.name}{' (paper)' * one.is_paper}" for one in module.variants]
        changes = [", ".join(f"{key}={value}" for key, value in one.changes.items()) for one in module.variants]
        notes = [one.note for one in module.variants]
        lines += aligned(list(zip(names, changes, notes, strict=True)), left=(0, 1, 2))
    return "\n".join(lines[1:])
