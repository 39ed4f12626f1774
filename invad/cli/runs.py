"""`invad-pipe runs`: the runs that MLflow keeps."""

import shlex
from typing import Annotated

import typer

runs = typer.Typer(no_args_is_help=True, help="The runs that MLflow keeps.")
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Of MLflow, or a benchmark's name.")]


@runs.command()
def sync() -> None:
    """Log to MLflow what it lacks of the results at hand."""
    from invad import tracking
    from invad.config import load_params
    from invad.workspace import Workspace

    print(*tracking.sync_runs(load_params(), Workspace()), sep="\n")


@runs.command()
def show(run_id: IdArgument) -> None:
    """Show a run, and the commands that build it again."""
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
    from invad import tracking
    from invad.tracking.models import register_model
    from invad.workspace import Workspace

    version = register_model(run_id, Workspace(), name=name, alias=alias)
    print(f"{version}, which is served by")  # on another port than `ui` and a server have
    print(f"export MLFLOW_TRACKING_URI={shlex.quote(tracking.tracking_uri(Workspace()))}")
    print(f"mlflow models serve -m {shlex.quote(version)} --env-manager local --port 5001")


@runs.command("list")
def list_runs(
    experiment: Annotated[str | None, typer.Option(help="benchmark, ablation or tune; by default all.")] = None,
) -> None:
    """List all runs, the newest first."""
    from invad import tracking
    from invad.workspace import Workspace

    for line in tracking.list_runs(Workspace(), experiment):
        print(line)
