"""`invad-pipe predict`: what a trained model says of images."""

import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from invad.cli.options import ClassOption, DeviceOption, ModelArgument, PixelThresholdOption, ThresholdOption
from invad.errors import InputError

if TYPE_CHECKING:
    from invad.metrics.calibration import Thresholds
    from invad.predict.job import Summary


def predict(
    model: ModelArgument,
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Images, folders with all below them, and patterns: 'parts/**/*.png'."),
    ],
    out: Annotated[str, typer.Option(help="A folder; - writes records to stdout and no pictures.")] = "predictions",
    format: Annotated[
        Literal["jsonl", "csv", "coco"],
        typer.Option(help="jsonl has everything, csv a row for each image, coco masks."),
    ] = "jsonl",
    overlays: Annotated[bool, typer.Option(help="A picture of each image with its heat map and regions.")] = True,
    class_name: ClassOption = None,
    threshold: ThresholdOption = None,
    pixel_threshold: PixelThresholdOption = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images in the network at a time; by default as in the stage score.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads that decode and draw; by default one for each core, 4 at most.")
    ] = None,
    device: DeviceOption = None,
) -> None:
    """Say of each image whether it is anomalous and where, in the order of the inputs.

    Writes DIR/predictions.jsonl (or .csv, or for coco .json with images.json) and
    DIR/overlays/. An image that cannot be read is recorded, named at the end, and
    makes the exit code 1; a mistake in the call makes it 2.
    """
    folder = None if out == "-" else Path(out)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise InputError(f"--out {out}: is a file; expected a folder, or - for stdout")
    if folder is None and format == "coco":
        raise InputError("--out -: results of COCO are two files; choose a folder, or --format jsonl or csv")
    try:
        from invad.predict.sources import OVERLAY_FOLDER, ImageSources

        sources = ImageSources(inputs, folder)
        from invad.metrics.calibration import Thresholds
        from invad.predict.job import Output, predict_files
        from invad.predict.predictor import load_predictor
        from invad.predict.records import records_file

        predictor = load_predictor(
            model, class_name=class_name, device=device, thresholds=Thresholds(threshold, pixel_threshold)
        )
        output = Output(folder, format, overlays)
        with _sigterm_interrupts():
            summary = predict_files(predictor, sources, output, batch_size=batch_size, workers=workers)
    except KeyboardInterrupt:
        left = "" if folder is None else "; no records were written, and the overlays that are there are whole"
        print(f"invad-pipe: interrupted{left}", file=sys.stderr)
        raise typer.Exit(130) from None
    where = "" if folder is None else f": {records_file(folder, format)}"
    where += f", {folder / OVERLAY_FOLDER}" if folder is not None and overlays else ""
    if others := sources.passed_over:
        print(f"invad-pipe: passed over, formats that are not read: {others}", file=sys.stderr)
    _tell(summary, predictor.thresholds, where)
    raise typer.Exit(1 if summary.failed else 0)


@contextmanager
def _sigterm_interrupts() -> Generator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that temporary files are removed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(summary: "Summary", thresholds: "Thresholds", where: str) -> None:
    """Print what went wrong and what is missing to stderr, and one line for all; to stderr too where records have stdout."""
    for error in summary.errors:
        print(f"invad-pipe: failed: {error}", file=sys.stderr)
    if more := summary.failed - len(summary.errors):
        print(f"invad-pipe: failed: and {more} more", file=sys.stderr)
    missing = ["no decisions without --threshold"] if thresholds.image is None else []
    if missing := missing + (["no regions without --pixel-threshold"] if thresholds.pixel is None else []):
        print(f"invad-pipe: without a calibrated threshold there are {' and '.join(missing)}", file=sys.stderr)
    anomalous = "" if thresholds.image is None else f", {summary.anomalous} anomalous"
    rate = summary.images / max(summary.seconds, 1e-9)
    counts = f"{summary.images} image{'' if summary.images == 1 else 's'}{anomalous}, {summary.failed} failed"
    print(f"{counts}, {rate:.1f} images/s{where}", file=sys.stdout if where else sys.stderr)
