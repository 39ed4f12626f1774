"""`invad-pipe runs`: the runs that MLflow keeps."""

import typer

runs = typer.Typer(no_args_is_help=True, help="The runs that MLflow keeps.")


@runs.callback()
def _group() -> None:
    """Keep `sync` a subcommand while it is the only one."""


@runs.command()
def sync() -> None:
    """Log to MLflow what is missing there of the results at hand."""
    from invad.config import load_params
    from invad.pipeline import sync_runs
    from invad.workspace import Workspace

    for line in sync_runs(load_params(), Workspace()):
        print(line)
