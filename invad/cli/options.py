"""Options that several commands share."""

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
