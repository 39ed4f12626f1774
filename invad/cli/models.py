"""`invad-pipe predict`, `serve`, `export`, `import-checkpoint`: trained models in use."""

import signal
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from invad.errors import InputError
from invad.predict.export import SUFFIXES, Format, RuntimeName
from invad.predict.records import RecordFormat
from invad.predict.serve import Limits

ModelArgument = Annotated[Path, typer.Argument(help="A model folder, such as models/mvtec.")]
ClassOption = Annotated[str | None, typer.Option("--class", help="Whose thresholds decide; by default those of all.")]
ThresholdOption = Annotated[float | None, typer.Option(help="Images that score above it are anomalous.")]
PixelThresholdOption = Annotated[float | None, typer.Option(help="Regions lie above it.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; by default a GPU where there is one.")]
RuntimeOption = Annotated[
    RuntimeName, typer.Option(help="onnx is ONNX Runtime, faster on a CPU; auto takes it where it computes the same.")
]
_NAMED = 20  # images that failed


def predict(
    model: ModelArgument,
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", help="Images and folders.")],
    out: Annotated[str, typer.Option(help="A folder; - writes records to stdout and no pictures.")] = "predictions",
    format: Annotated[RecordFormat, typer.Option(help="csv has the largest region only.")] = "jsonl",
    overlays: Annotated[bool, typer.Option(help="A picture of each image with its heat map and regions.")] = True,
    class_name: ClassOption = None,
    threshold: ThresholdOption = None,
    pixel_threshold: PixelThresholdOption = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images in the network at a time.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that decode and draw; else 4 at most.")] = None,
    device: DeviceOption = None,
    runtime: RuntimeOption = "auto",
) -> None:
    """Say of each image whether it is anomalous and where, in the order of the inputs.

    Writes DIR/predictions.jsonl (or .csv) and DIR/overlays/. An image that cannot be
    read is recorded, named at the end, and makes the exit code 1; a mistake in the
    call makes it 2.
    """
    folder = None if out == "-" else Path(out)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: temporary files are removed
    from invad.predict.sources import OVERLAY_FOLDER, find_images

    sources = find_images(inputs, folder)
    from invad.metrics.calibration import Thresholds
    from invad.predict.detector import check_single_images
    from invad.predict.job import Job
    from invad.predict.predictor import load_predictor
    from invad.predict.records import records_file
    from invad.predict.runtimes import MANY

    # By these numbers alone, so that the same images give the same bytes.
    if runtime == "auto" and len(sources.images) < MANY:
        runtime = "torch"
    fixed = Thresholds(threshold, pixel_threshold)
    predictor = load_predictor(model, class_name=class_name, device=device, thresholds=fixed, runtime=runtime)
    check_single_images(predictor.config, model)
    summary = Job(predictor, sources, folder, format, overlays).run(batch_size, workers)
    said = [f"failed: {error}" for error in summary.errors[:_NAMED]]
    if more := len(summary.errors) - len(said):
        said.append(f"failed: and {more} more")
    if sources.passed_over:
        said.append(f"passed over, formats that are not read: {sources.passed_over}")
    if None in (predictor.thresholds.image, predictor.thresholds.pixel):
        said.append("the model is not calibrated: --threshold gives decisions, --pixel-threshold regions")
    for line in said:
        print(f"invad-pipe: {line}", file=sys.stderr)
    images = f"{summary.images} image{'' if summary.images == 1 else 's'}"
    counts = f"{images}, {summary.anomalous} anomalous, {len(summary.errors)} failed"
    if folder is None:
        print(counts, file=sys.stderr)
    else:
        print(f"{counts}: {records_file(folder, format)}{f', {folder / OVERLAY_FOLDER}' if overlays else ''}")
    raise typer.Exit(1 if summary.errors else 0)


def serve(
    model: ModelArgument,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    allow_host: Annotated[list[str] | None, typer.Option(help="A further name of the service. Repeatable.")] = None,
    class_name: ClassOption = None,
    threshold: ThresholdOption = None,
    pixel_threshold: PixelThresholdOption = None,
    device: DeviceOption = None,
    runtime: RuntimeOption = "auto",
    max_bytes: Annotated[int, typer.Option(help="The longest body.", min=1)] = Limits.max_bytes,
    max_pixels: Annotated[int, typer.Option(help="The largest image.", min=1)] = Limits.max_pixels,
    queue: Annotated[int, typer.Option(help="Images in progress or waiting; more get a 429.", min=1)] = Limits.queue,
    timeout: Annotated[float, typer.Option(help="Seconds from a request to its answer.", min=0.1)] = Limits.timeout,
    batch_size: Annotated[int, typer.Option(help="Images in the network at a time.", min=1)] = Limits.batch_size,
) -> None:
    """Serve a model: POST an image to /predict, or drop one on the page at /.

    The answer has score, decision and regions; /health and /metrics are for
    operators. SIGTERM or Ctrl-C ends it when what was taken is answered.
    """
    import numpy as np

    from invad.metrics.calibration import Thresholds
    from invad.predict.detector import check_single_images
    from invad.predict.predictor import load_predictor
    from invad.predict.serve.server import LOCAL_NAMES, address, bind, run
    from invad.predict.serve.service import Service

    fixed = Thresholds(threshold, pixel_threshold)
    with bind(host, port) as listener:
        predictor = load_predictor(model, class_name=class_name, device=device, thresholds=fixed, runtime=runtime)
        check_single_images(predictor.config, model)
        predictor.predict(np.zeros((1, 1, 3), np.uint8))  # the first one is slow, or fails
        limits = Limits(max_bytes, max_pixels, queue, timeout, batch_size)
        names = frozenset(name.lower() for name in allow_host or ())
        is_local = ip_address(listener.getsockname()[0]).is_loopback
        hosts = LOCAL_NAMES | names if names or is_local else None
        if not is_local:
            print(
                f"warning: --host {host}: others can reach the service, which asks nobody who they are; put a reverse proxy before it",
                file=sys.stderr,
            )
        by = predictor.runtime + (f" ({predictor.why_torch})" if predictor.why_torch else "")
        print(
            f"{model} on {address(listener)}, {predictor.device}, {by} (end with Ctrl-C)", file=sys.stderr, flush=True
        )
        run(Service(predictor, model.resolve().name, limits), listener, hosts)


def export(
    model: ModelArgument,
    format: Annotated[Format, typer.Option(help="torch-export is for PyTorch without this package.")] = "onnx",
    out: Annotated[Path | None, typer.Option(help="By default exports/NAME.onnx or NAME.pt2.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file that is there.")] = False,
) -> None:
    """Write a trained model as one file that needs neither this package nor its model folder.

    Images of the model's size in, scores and anomaly maps out; thresholds and all
    that preparing an image takes are in the file's metadata. Before the file is
    written its numbers are compared with the model's.
    """
    suffix = SUFFIXES[format]
    out = out or Path("exports") / f"{model.resolve().name}{suffix}"
    if out.suffix != suffix:
        raise InputError(f"--out {out}: expected a name that ends with {suffix}")
    if out.is_dir() or (out.exists() and not force):
        raise InputError(f"{out}: {'is a folder' if out.is_dir() else 'exists; --force replaces it'}")
    if format == "onnx":
        import onnxruntime  # noqa: F401  (that compares what is exported)

        import invad.predict.export.onnx_file  # noqa: F401  (without the extra nothing is begun)
    from invad.predict.export.model import export_model

    difference = export_model(model, out, format)
    print(f"exported    {out}: {out.stat().st_size / 1e6:.1f} MB")
    most = f"maps differ by at most {difference.maps:.1g}, scores by {difference.scores:.1g}"
    print(f"compared    with the model on {difference.images} images: {most}")


def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="The authors' net.pth.")],
    variant: Annotated[str, typer.Option(help="invad, invad-lite, uniad or mvad.")],
    out: Annotated[Path, typer.Option(help="The new model folder, such as models/NAME.")],
    encoder_weights: Annotated[
        str | None, typer.Option(help="A timm tag, .safetensors or .pth; else the paper's.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the model folder that is there.")] = False,
) -> None:
    """Make a model folder of a checkpoint of the authors, with its encoder."""
    from invad.training.authors_checkpoint import import_checkpoint

    imported = import_checkpoint(file, variant, out, encoder_weights, force=force)
    config = imported.config
    print(f"model       {out}, {variant} of {file}, {config.features.image_size} px")
    print(f"parameters  {imported.parameters:,}, of these trainable {imported.trainable:,}")
    print(f"encoder     {config.features.encoder}, SHA-256 {config.encoder_sha256}")
