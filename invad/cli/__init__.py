"""`invad-pipe`: what is not a stage of the pipeline. Heavy packages are imported by the commands that need them."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from invad import __version__
from invad.cli.clean import clean
from invad.cli.data import data
from invad.cli.evaluate import evaluate
from invad.cli.export import export
from invad.cli.extras import missing_extra
from invad.cli.options import ParamsOption, epilog
from invad.cli.predict import predict
from invad.cli.profile import profile
from invad.cli.report import report
from invad.cli.runs import runs
from invad.cli.serve import serve
from invad.cli.studies import ablate, tune
from invad.disk import disk_problem
from invad.errors import InputError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False)
app.add_typer(data, name="data")
app.add_typer(profile, name="profile")
app.add_typer(runs, name="runs")
for command in (predict, export, evaluate, report, ablate, tune, clean, serve):
    app.command(epilog=epilog(command.__name__))(command)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Multi-class visual anomaly detection, reproducible: `dvc repro` runs the pipeline, these commands go with it."""
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def check(params: ParamsOption = Path("params.yaml")) -> None:
    """Check params.yaml, and show what it asks for and which code has changed since the last `dvc repro`."""
    from invad.config import load_params
    from invad.config.closure import STAGES, changed_code
    from invad.workspace import Workspace

    settings = load_params(params)
    for name, download in settings.download.items():
        print(f"data set   {name:<12} {download.source}{f' {download.path}' if download.path else ''}")
    for name, benchmark in settings.benchmarks.items():
        features, train = benchmark.features, benchmark.train
        print(
            f"benchmark  {name:<12} {train.model} on {features.encoder} ({features.weights} weights), "
            f"{features.image_size} px, {f'{train.length}, ' if train.length else ''}batch {train.batch_size}"
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


@app.command()
def plan(params: ParamsOption = Path("params.yaml")) -> None:
    """Say what `dvc repro` fetches, trains on and writes, before it does, and whether the disk has room for it."""
    from invad.config import load_params
    from invad.pipeline.plan import plan_text
    from invad.workspace import Workspace

    print(plan_text(load_params(params), Workspace()))


@app.command("import-checkpoint")
def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="The authors' net.pth.")],
    variant: Annotated[str, typer.Option(help="invad, invad-lite or uniad.")],
    out: Annotated[Path, typer.Option(help="The new model folder, such as models/NAME.")],
    encoder_weights: Annotated[
        str | None,
        typer.Option(help="Where FILE lacks the encoder: a timm tag, .safetensors or .pth; else the published one."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the model folder that is there.")] = False,
) -> None:
    """Make a model folder of a checkpoint of the authors, with its encoder."""
    from invad.training.authors_checkpoint import import_checkpoint

    imported = import_checkpoint(file, variant, out, encoder_weights, force=force)
    config = imported.config
    print(f"imported    {variant} from {file}")
    print(f"image size  {config.features.image_size} px")
    print(f"parameters  {imported.parameters:,}, of these trainable {imported.trainable:,}")
    print(f"encoder     {config.features.encoder}, SHA-256 {config.encoder_sha256}")
    print(f"model       {out}")


@app.command()
def ui(port: Annotated[int, typer.Option(help="On 127.0.0.1.", min=1, max=65535)] = 5000) -> None:
    """Compare the runs of this folder in MLflow's page, served on 127.0.0.1 only."""
    from invad.tracking.page import serve_page
    from invad.workspace import Workspace

    raise typer.Exit(serve_page(port, Workspace()))


def main() -> None:
    """Run the command line; a mistake in the input, an extra that is not installed, or a full disk is one line and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="invad-pipe: %(message)s", stream=sys.stderr)
    try:
        app()
    except Exception as error:
        message = missing_extra(error) if isinstance(error, ModuleNotFoundError) else disk_problem(error)
        if isinstance(error, InputError):
            message = str(error)
        if message is None:
            raise
        print(f"invad-pipe: error: {message}", file=sys.stderr)
        sys.exit(2)
