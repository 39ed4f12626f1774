"""`invad-pipe runs`: the runs that MLflow keeps."""

from typing import Annotated

import typer

runs = typer.Typer(no_args_is_help=True, help="The runs that MLflow keeps.")


@runs.command()
def sync() -> None:
    """Send to MLflow what could not be sent before, and what is missing there of the results at hand."""
    from invad import tracking
    from invad.config import load_params
    from invad.run_log import sync_runs
    from invad.workspace import Workspace

    params, workspace = load_params(), Workspace()
    for step in (tracking.sync, lambda workspace: sync_runs(params, workspace), tracking.sync):
        for line in step(workspace):
            print(line)


@runs.command()
def show(run_id: Annotated[str, typer.Argument(metavar="ID", help="Of MLflow, or of `.invad/runs`.")]) -> None:
    """Show what a run was, and the commands that build it again."""
    from invad import tracking
    from invad.workspace import Workspace

    print(tracking.show_run(run_id, Workspace()))


@runs.command("list")
def list_runs(
    experiment: Annotated[str | None, typer.Option(help="benchmark, ablation or tune; by default all.")] = None,
) -> None:
    """List all runs, the newest first."""
    from invad import tracking
    from invad.workspace import Workspace

    for line in tracking.list_runs(Workspace(), experiment):
        print(line)
