"""`invad-pipe check`, `plan`, `clean`, `report`, `ui`, `profile`, `runs`: the settings, the pipeline and its results in this folder."""

import shlex
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

profile = typer.Typer(no_args_is_help=True, help="Ready-made settings: quick, all, paper, paper-METHOD.")
runs = typer.Typer(no_args_is_help=True, help="The runs that MLflow keeps.")


def check(params: ParamsOption = Path("params.yaml")) -> None:
    """Check params.yaml, and show what it asks for and what has changed since the last `dvc repro`, settings and code."""
    from invad.config import load_params
    from invad.pipeline.dependencies import changed, dependencies

    settings = load_params(params)
    for name, download in settings.download.items():
        print(f"data set   {name:<12} {download.source}{f' {download.path}' if download.path else ''}")
    for name, benchmark in settings.benchmarks.items():
        features, train = benchmark.features, benchmark.train
        print(
            f"benchmark  {name:<12} {train.model} on {features.encoder} ({features.weights} weights), "
            f"{features.image_size} px, {f'{train.length}, ' if train.length else ''}batch {train.batch_size}"
        )
    for module, one in settings.ablations.items():
        print(
            f"ablation   {module:<12} of {one.benchmark}: {', '.join(one.variants) or 'all variants'}; {one.seeds} seeds"
        )
    for name, one in settings.supervised.items():
        print(
            f"supervised {name:<12} segad on {', '.join(one.detectors)}; segments {one.segments}, {len(one.seeds)} seeds"
        )
    for stage, text in dependencies(settings).items():
        before = Workspace().code(stage)
        if before.exists() and (names := changed(before.read_text(encoding="utf-8"), text)):
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            print(f"changed    {stage:<12} runs again: {', '.join(names[:3])}{more}")


def plan(params: ParamsOption = Path("params.yaml")) -> None:
    """Say what `dvc repro` fetches, trains on and writes, before it does, and whether the disk has room for it."""
    from invad.config import load_params
    from invad.pipeline.plan import plan_text

    print(plan_text(load_params(params), Workspace()))


def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is of no use.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="With --yes: also what a start could go on from.")] = False,
) -> None:
    """Show, and with --yes remove, what killed stages were writing (.NAME.PID.tmp).

    With --all also checkpoints and Ray's files of trainings, studies with their features,
    and unfinished extractions.
    """
    from invad.pipeline.leftovers import find_leftovers, remove_leftovers

    leftovers = find_leftovers(Workspace())
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
    """Render tables, figures and the page, as `dvc repro report` does; with --runs several models or seeds side by side.

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
    from invad.tracking.show import serve_page

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
def use(name: NameArgument, params: ParamsOption = Path("params.yaml")) -> None:
    """Write a profile to params.yaml; the paths of your data and your own data sets stay, and the old file as params.yaml.bak."""
    from invad.config.profiles import use_profile

    kept, backup = use_profile(name, params)
    print(f"{params} is now the profile {name}")
    for key in kept:
        print(f"kept   {key}")
    if backup is not None:
        print(f"before {backup}")


@runs.command()
def sync() -> None:
    """Log to MLflow what it lacks of the results at hand."""
    from invad import tracking
    from invad.config import load_params

    print(*tracking.sync_runs(load_params(), Workspace()), sep="\n")


@runs.command("show")
def show_run(run_id: IdArgument) -> None:
    """Show a run, and the commands that build it again."""
    from invad import tracking

    print(tracking.show_run(run_id, Workspace()))


@runs.command()
def register(
    run_id: IdArgument,
    name: Annotated[str | None, typer.Option(help="Of the registered model; by default invad-<benchmark>.")] = None,
    alias: Annotated[str | None, typer.Option(help="Leads to this version from now on, such as champion.")] = None,
) -> None:
    """Make a run's model a version in MLflow's model registry, once, and say how it is served."""
    from invad import tracking
    from invad.tracking.show import register_model

    version = register_model(run_id, Workspace(), name=name, alias=alias)
    print(f"{version}, which is served by")  # on another port than `ui` and a server have
    print(f"export MLFLOW_TRACKING_URI={shlex.quote(tracking.tracking_uri(Workspace()))}")
    print(f"mlflow models serve -m {shlex.quote(version)} --env-manager local --port 5001")


@runs.command("list")
def list_runs() -> None:
    """List all runs, the newest first."""
    from invad import tracking

    print(*tracking.list_runs(Workspace()), sep="\n")
