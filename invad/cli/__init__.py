"""`invad-pipe`: what is not a stage of the pipeline. Heavy packages are imported by the commands that need them."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from invad import __version__
from invad.errors import InputError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False, add_completion=False)


runs = typer.Typer(no_args_is_help=True, help="The runs that MLflow keeps.")
app.add_typer(runs, name="runs")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Multi-class visual anomaly detection, reproducible: `dvc repro` runs the pipeline, these commands go with it."""
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def check(
    params: Annotated[Path, typer.Option(help="The settings to check.")] = Path("params.yaml"),
) -> None:
    """Check params.yaml and show what it asks for."""
    from invad.config import load_params

    settings = load_params(params)
    for name, download in settings.download.items():
        print(f"data set   {name:<12} {download.source}{f' {download.path}' if download.path else ''}")
    for name, benchmark in settings.benchmarks.items():
        features, train = benchmark.features, benchmark.train
        print(
            f"benchmark  {name:<12} {train.model} on {features.encoder} ({features.weights} weights), "
            f"{features.image_size} px, {train.epochs} epochs, batch {train.batch_size}"
        )


@app.command()
def ui(port: Annotated[int, typer.Option(help="On 127.0.0.1.", min=1, max=65535)] = 5000) -> None:
    """Compare the runs of this folder in MLflow's page, served on 127.0.0.1 only."""
    from invad.tracking import tracking_uri
    from invad.workspace import Workspace

    uri = tracking_uri(Workspace())
    print(f"MLflow on http://127.0.0.1:{port} (end with Ctrl-C)", file=sys.stderr)
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        uri,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@runs.command()
def sync() -> None:
    """Log to MLflow what is missing there of the results at hand."""
    from invad.config import load_params
    from invad.pipeline import sync_runs
    from invad.workspace import Workspace

    for line in sync_runs(load_params(), Workspace()):
        print(line)


def main() -> None:
    """Run the command line; a mistake in the input is one line and exit code 2."""
    try:
        app()
    except InputError as error:
        print(f"invad-pipe: error: {error}", file=sys.stderr)
        sys.exit(2)
