"""`invad-pipe check`, `plan`, `clean`, `report`, `ui`, `profile`, `runs`: the settings, the pipeline and its results in this folder."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from invad.errors import InputError
from invad.workspace import Workspace

ParamsOption = Annotated[Path, typer.Option("--params", help="The settings to read.")]
NameArgument = Annotated[str, typer.Argument(help="As `profile list` shows it.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Of MLflow, or a benchmark's name.")]
_NOTES = {"old": "no start goes on from it", "useful": "a start may go on from it", "running": "in use"}

profile = typer.Typer(no_args_is_help=True, help="Ready-made settings: quick, paper, paper-lite.")
runs = typer.Typer(no_args_is_help=True, help="The runs that MLflow keeps.")


def check(params: ParamsOption = Path("params.yaml")) -> None:
    """Check params.yaml, and show what it asks for and which code has changed since the last `dvc repro`."""
    from invad.config import load_params
    from invad.config.closure import STAGES, changed_code

    settings = load_params(params)
    for name, download in settings.download.items():
        print(f"data set   {name:<12} {download.source}{f' {download.path}' if download.path else ''}")
    for name, benchmark in settings.benchmarks.items():
        features, train = benchmark.features, benchmark.train
        print(
            f"benchmark  {name:<12} {train.model} on {features.encoder} ({features.weights} weights), "
            f"{features.image_size} px, {train.epochs} epochs, batch {train.batch_size}"
        )
    for module in settings.ablations:
        from invad.studies.ablation import ablation_of_params, plan_ablation

        options = ablation_of_params(module, settings)
        names = ", ".join(variant.name for variant in plan_ablation(module, options, settings).variants)
        seeds = f"{options.seeds} seed{'s' * (options.seeds > 1)}"
        print(f"ablation   {module:<12} of {options.benchmark}: {names}; {seeds}")
    for stage in STAGES:
        before = Workspace().code(stage)
        if before.exists() and (changed := changed_code(stage, before.read_text(encoding="utf-8"))):
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            print(f"code       {stage:<12} runs again: {', '.join(changed[:3])}{more}")


def plan(params: ParamsOption = Path("params.yaml")) -> None:
    """Say what `dvc repro` fetches, trains on and writes, before it does, and whether the disk has room for it."""
    from invad.config import load_params
    from invad.pipeline.plan import plan_text

    print(plan_text(load_params(params), Workspace()))


def clean(
    params: ParamsOption = Path("params.yaml"),
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is old.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="With --yes: also what a start could go on from.")] = False,
) -> None:
    """Show, and with --yes remove, checkpoints and Ray's files of earlier runs, studies with their features, unfinished extractions.

    Also what killed stages were writing (.NAME.PID.tmp), and a list of DVC's that a kill
    has cut off (.dvc/tmp/rwlock), with which no dvc starts.
    """
    from invad.config import load_params
    from invad.pipeline.leftovers import find_leftovers, remove_leftovers

    leftovers = find_leftovers(load_params(params), Workspace())
    for leftover in leftovers:
        age = timedelta(seconds=round(leftover.age))
        note = _NOTES[leftover.state]
        print(f"{leftover.path}  {leftover.size / 1e6:.1f} MB, {age} old: {leftover.what}; {note}")
    if not leftovers:
        print("nothing is left of earlier runs")
    elif not yes:
        print("nothing was removed; --yes removes what no start goes on from, --yes --all all that is not in use")
    else:
        removed = remove_leftovers(leftovers, everything=everything)
        size = sum(each.size for each in removed) / 1e6
        print(f"{len(removed)} removed ({size:.1f} MB), {len(leftovers) - len(removed)} kept")


def report(
    more: Annotated[list[str] | None, typer.Argument(metavar="ID", hidden=True)] = None,  # the rest of `--runs A B C`
    runs: Annotated[
        list[str] | None, typer.Option(metavar="ID ...", help="Runs of MLflow, instead of this folder.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A folder; by default `reports`, or `reports/runs`.")] = None,
) -> None:
    """Render tables, figures and the page, as `dvc repro report` does; with --runs several models, seeds or trials side by side.

    Runs that differ in the seed alone become one row: mean and standard deviation.
    """
    from invad.config import load_params
    from invad.pipeline.rendering import report_runs, report_workspace

    workspace = Workspace()
    folder = out or (workspace.reports / "runs" if runs else workspace.reports)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder}: is a file; expected a folder, or the name of a new one")
    if more and not runs:
        raise InputError(f"{' '.join(more)}: unexpected; runs are given as --runs {' '.join(more)}")
    if runs:
        report_runs([*runs, *(more or ())], workspace, folder)
    else:
        report_workspace(load_params(), workspace, folder)
    print(f"open {folder / 'index.html'}")


def ui(port: Annotated[int, typer.Option(help="On 127.0.0.1.", min=1, max=65535)] = 5000) -> None:
    """Compare the runs of this folder in MLflow's page, served on 127.0.0.1 only."""
    from invad.tracking.page import serve_page

    raise typer.Exit(serve_page(port, Workspace()))


@profile.command("list")
def list_() -> None:
    """List the profiles."""
    from invad.config.profiles import list_profiles

    for name, description in list_profiles():
        print(f"{name:<12} {description}")


@profile.command()
def show(name: NameArgument) -> None:
    """Print a profile."""
    from invad.config.profiles import profile_text

    print(profile_text(name), end="")


@profile.command()
def use(
    name: NameArgument,
    force: Annotated[bool, typer.Option("--force", help="Replace your edits.")] = False,
    params: ParamsOption = Path("params.yaml"),
) -> None:
    """Write a profile to params.yaml; the paths of your data and your own data sets stay.

    With --force the old file is kept beside it as params.yaml.bak.
    """
    from invad.config.profiles import use_profile

    report = use_profile(name, params, force=force)
    if not report.changed:
        print(f"{params} is the profile {name} already; nothing changed")
        return
    print(f"{params} is now the profile {name}")
    for key in report.kept:
        print(f"kept   {key}")
    if report.backup is not None:
        print(f"before {report.backup}")


@runs.command()
def sync() -> None:
    """Log to MLflow what it lacks of the results at hand, and end runs whose process was killed."""
    from invad import tracking
    from invad.config import load_params

    print(*tracking.sync_runs(load_params(), Workspace()), sep="\n")


@runs.command("show")
def show_run(run_id: IdArgument) -> None:
    """Show what a run was, and the commands that build it again."""
    from invad import tracking

    print(tracking.show_run(run_id, Workspace()))


@runs.command()
def register(
    run_id: IdArgument,
    name: Annotated[str | None, typer.Option(help="Of the registered model; by default invad-<benchmark>.")] = None,
    alias: Annotated[str | None, typer.Option(help="Leads to this version from now on, such as champion.")] = None,
) -> None:
    """Make a run's model a version in MLflow's model registry, once, and say how it is served."""
    from invad.tracking.models import register_model, serve_commands

    version = register_model(run_id, Workspace(), name=name, alias=alias)
    image, pixel = version.thresholds.image, version.thresholds.pixel
    print(f"{'registered' if version.is_new else 'known':<10}  {version.name}, version {version.number}")
    if alias is not None:
        print(f"alias       {alias}")
    decides = "none, so it gives scores and maps but no decisions"
    print(f"thresholds  {decides if image is None else f'image {image:.4g}, pixel {pixel:.4g}'}")
    print("To serve it:", *serve_commands(version, Workspace()), sep="\n")


@runs.command("list")
def list_runs(
    experiment: Annotated[str | None, typer.Option(help="benchmark, ablation or tune; by default all.")] = None,
) -> None:
    """List all runs, the newest first."""
    from invad import tracking

    for line in tracking.list_runs(Workspace(), experiment):
        print(line)
