"""Options that several commands share, and the examples of all."""

import math
from pathlib import Path
from typing import Annotated

import typer

from invad.errors import InputError


def _finite(option: typer.CallbackParam, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise InputError(f"{option.opts[0]} {value}: expected a number")
    return value


ParamsOption = Annotated[Path, typer.Option("--params", help="The settings to read.")]

# Of the commands that decide with a trained model.
ModelArgument = Annotated[Path, typer.Argument(help="A model folder, such as models/mvtec.")]
ClassOption = Annotated[
    str | None, typer.Option("--class", help="Whose thresholds decide; by default those of all classes together.")
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(help="Images that score above it are anomalous; instead of the calibrated one.", callback=_finite),
]
PixelThresholdOption = Annotated[
    float | None, typer.Option(help="Regions lie above it; instead of the calibrated one.", callback=_finite)
]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; by default a GPU where there is one.")]

# Of the main commands, for `--help` and the page of all commands.
EXAMPLES = {
    "predict": (
        "invad-pipe predict models/mvtec photos --out found",
        "invad-pipe predict models/mvtec 'photos/**/*.png' --class wood --format csv",
        "invad-pipe predict models/mvtec photos --out - > records.jsonl",
    ),
    "serve": ("invad-pipe serve models/mvtec --port 8000",),
    "export": (
        "invad-pipe export models/mvtec --format onnx",
        "invad-pipe export models/mvtec --precision int8 --images shop/good",
    ),
    "evaluate": (
        "invad-pipe evaluate --maps maps --masks masks",
        "invad-pipe evaluate --maps maps.npy --masks masks.npy --json metrics.json",
    ),
    "report": ("invad-pipe report", "invad-pipe report --runs ID ID"),
    "ablate": ("invad-pipe ablate --module ssm --seeds 3",),
    "tune": ("invad-pipe tune --benchmark mvtec",),
    "clean": ("invad-pipe clean", "invad-pipe clean --yes"),
    "data import": (
        "invad-pipe data import shop --images /data/shop",
        "invad-pipe data import shop --images /data/shop --normal ok --abnormal ng --masks labels",
        "invad-pipe data import shop --images /data/shop --table list.csv --like visa",
    ),
    "data check": ("invad-pipe data check mvtec", "invad-pipe data check shop --json findings.json"),
    "data remove": ("invad-pipe data remove shop",),
}


def epilog(command: str) -> str:
    """Return the examples as the last lines of a command's help; each is a paragraph, or they would be joined."""
    return "\n\n".join(["Examples:", *EXAMPLES[command]])
