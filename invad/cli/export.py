"""`invad-pipe export`: a trained model for other runtimes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from invad.cli.extras import require
from invad.cli.options import ModelArgument
from invad.errors import InputError
from invad.predict.export import SUFFIXES, ExportPrecision, Format

if TYPE_CHECKING:
    from invad.predict.export.check import Difference
    from invad.predict.export.model import Export


def export(
    model: ModelArgument,
    format: Annotated[
        Format,
        typer.Option(help="onnx is for ONNX Runtime and its like, torch-export for PyTorch without this package."),
    ] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option(help="By default exports/NAME.onnx, NAME-int8.onnx or NAME.pt2, of the folder's NAME."),
    ] = None,
    precision: Annotated[
        ExportPrecision, typer.Option(help="int8 is smaller and faster on CPUs, and needs --images; for onnx only.")
    ] = "float32",
    images: Annotated[
        list[str] | None,
        typer.Option(metavar="INPUT", help="Normal images for int8: a file, a folder or a pattern. Repeatable."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file that is there.")] = False,
) -> None:
    """Write a trained model as one file that needs neither this package nor its model folder.

    Images of the model's size in, scores and anomaly maps out; thresholds and all
    that preparing an image takes are in the file's metadata. Before the file is
    written its numbers are compared with the model's.
    """
    suffix = SUFFIXES[format]
    if out is None:
        name = model.resolve().name
        out = Path("exports") / f"{name}{'' if precision == 'float32' else f'-{precision}'}{suffix}"
    if out.suffix != suffix:
        raise InputError(f"--out {out}: expected a name that ends with {suffix}")
    if precision == "int8" and format != "onnx":
        raise InputError(f"--precision int8: is for --format onnx, not for {format}")
    if precision == "int8" and not images:
        raise InputError("--precision int8: needs --images, a folder of normal images")
    if precision != "int8" and images:
        raise InputError(f"--images: are for --precision int8, not for {precision}")
    if out.is_dir() or (out.exists() and not force):
        raise InputError(f"{out}: {'is a folder' if out.is_dir() else 'exists; --force replaces it'}")
    for module in ("onnx", "onnxruntime", "onnxscript") if format == "onnx" else ():
        require(module)
    from invad.predict.export.model import export_model

    done = export_model(model, out, format, precision, images or ())
    _tell(done, model, out, precision)


def _tell(done: "Export", folder: Path, out: Path, precision: str) -> None:
    config, calibration = done.model.config, done.model.calibration
    print(f"model       {folder}: {config.train.model} on {config.features.encoder}, {config.features.image_size} px")
    print(f"exported    {out}: {precision}, {done.size / 1e6:.1f} MB")
    print(f"compared    {_compared(done.difference, precision)}")
    if calibration is None or calibration.all.image_threshold is None:
        print("thresholds  none: the model is not calibrated")
    else:
        image, pixel = calibration.all.image_threshold, calibration.all.pixel_threshold
        print(f"thresholds  image {image:.4g}, pixel {pixel:.4g}, of all classes; those of each are in the file too")
    if lower := {config.features.precision, done.model.score.precision} - {"float32"}:
        print(f"note        the model's settings ask for {' and '.join(sorted(lower))}; the file computes in float32")


def _compared(difference: "Difference", precision: str) -> str:
    count, most = difference.images, f"{difference.maps:.1g} at most, scores by {difference.scores:.1g}"
    if precision == "float32":
        return f"with the model on {count} images of noise: maps differ by {most}"
    decisions = "" if difference.decisions is None else f"; {difference.decisions} of the decisions are others"
    return f"with float32 on {count} of the normal images: maps differ by {difference.mean:.1g} on average and {most}{decisions}"
