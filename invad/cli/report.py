"""`invad-pipe report`: tables, figures and the page, of this folder's results or of runs that MLflow keeps."""

from pathlib import Path
from typing import Annotated

import typer

from invad.errors import InputError


def report(
    more: Annotated[list[str] | None, typer.Argument(metavar="ID", hidden=True)] = None,  # the rest of `--runs A B C`
    runs: Annotated[
        list[str] | None,
        typer.Option(metavar="ID ...", help="Runs of MLflow (`runs list`); by default this folder's results."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A folder; by default `reports`, and `reports/runs` with --runs.")
    ] = None,
) -> None:
    """Render tables, figures and the page, as `dvc repro report` does; with --runs several models or seeds side by side.

    Runs that differ in the seed alone become one row: mean and standard deviation.
    """
    from invad.config import load_params
    from invad.pipeline.rendering import report_runs, report_workspace
    from invad.workspace import Workspace

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
