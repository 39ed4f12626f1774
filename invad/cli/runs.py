"""`invad-pipe runs`: the runs that MLflow keeps."""

from typing import Annotated

import typer

runs = typer.Typer(no_args_is_help=True, help="The runs that MLflow keeps.")
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Of MLflow, or a benchmark's name.")]


@runs.command()
def sync() -> None:
    """Log to MLflow what it lacks of the results at hand, and end runs whose process was killed."""
    from invad import tracking
    from invad.config import load_params
    from invad.workspace import Workspace

    print(*tracking.sync_runs(load_params(), Workspace()), sep="\n")


@runs.command()
def show(run_id: IdArgument) -> None:
    """Show what a run was, and the commands that build it again."""
    from invad import tracking
    from invad.workspace import Workspace

    print(tracking.show_run(run_id, Workspace()))


@runs.command()
def register(
    run_id: IdArgument,
    name: Annotated[str | None, typer.Option(help="Of the registered model; by default invad-<benchmark>.")] = None,
    alias: Annotated[str | None, typer.Option(help="Leads to this version from now on, such as champion.")] = None,
) -> None:
    """Make a run's model a version in MLflow's model registry, once, and say how it is served."""
    from invad.tracking.models import register_model, serve_commands
    from invad.workspace import Workspace

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
    from invad.workspace import Workspace

    for line in tracking.list_runs(Workspace(), experiment):
        print(line)
