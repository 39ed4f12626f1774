"""`invad-pipe evaluate`: the paper's metrics for the anomaly maps of any method."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from invad.errors import InputError

if TYPE_CHECKING:
    from invad.metrics import Evaluation
    from invad.report.labels import Metric


def evaluate(
    maps: Annotated[
        Path,
        typer.Option(
            help="A .npy or .npz file with an array (N, H, W), or a folder of .npy, .tif, .tiff or grey .png files. "
            "An .npz may hold masks, classes and labels beside anomaly_maps."
        ),
    ],
    masks: Annotated[
        Path | None,
        typer.Option(
            help="For an array an array, 0 and 1 or 0 and 255; for a folder a folder of images, anomalous above 0. "
            "There, masks of another size are resized to the maps."
        ),
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="A text file with the class of each map, one a line, in the order of the maps.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="A text file with 0 (normal) or 1 (anomalous) for each map, one a line, in the same order."),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all numbers and notes to this file too.")] = None,
    protocol: Annotated[
        Literal["paper", "exact", "both"],
        typer.Option(help="paper is comparable with published numbers, exact takes all thresholds."),
    ] = "both",
) -> None:
    """Evaluate the anomaly maps of any method: all metrics per class and in the mean, in percent.

    Maps are raw scores, higher is more anomalous, on one scale for all images of
    a class: maps that were scaled image by image would mislead.

    The order of the maps of a folder is that of their relative paths, sorted as
    text. The first folder of a path is the class, as in MVTec AD; maps directly
    in the folder, or in folders good or normal directly in it, are one class all.

    A mask has the path of its map: bottle/broken/000.png, 000_mask.png or
    000_gt.png goes with bottle/broken/000.tiff, and so does
    bottle/ground_truth/broken/000_mask.png with bottle/test/broken/000.tiff.
    A map without a mask is that of a normal image if its folder is named good or
    normal. With --labels it is if they say 0; if they say 1, its mask is unknown,
    and it is left out of the pixel and region metrics.
    """
    from invad.files import write_json
    from invad.metrics import PROTOCOLS
    from invad.scoring.map_inputs import read_inputs

    inputs = read_inputs(maps, masks, classes, labels)
    if json is not None and (json.is_dir() or json in (maps, masks, classes, labels)):
        raise InputError(f"--json {json}: is a folder or an input; expected the name of a new file")
    result = inputs.evaluate(PROTOCOLS if protocol == "both" else protocol)
    print(evaluation_text(result, inputs.notes))
    if json is not None:
        try:
            write_json(json, result)
        except OSError as error:
            raise InputError(f"--json {json}: cannot be written ({error.strerror})") from None


def evaluation_text(result: "Evaluation", notes: list[str]) -> str:
    """Return a table for each protocol, a row for each class and the mean, in percent, then the notes: those given and its own."""
    from invad.report.labels import METRICS
    from invad.text import aligned

    def cells(values: Mapping[str, float | None]) -> list[str]:
        return ["-" if (value := values[metric.key]) is None else f"{100 * value:.1f}" for metric in METRICS]

    lines = []
    for protocol, mean in result["mean"].items():
        rows = [(name, by_protocol[protocol]) for name, by_protocol in result["per_class"].items()]
        table = [[name, *cells(values)] for name, values in (*rows, ("mean", mean))]
        lines.append(f"protocol {protocol}, version {result['protocol_version']}, percent")
        lines += [*aligned([["class", *map(_heading, METRICS)], *table]), ""]
    return "\n".join([*lines, *(f"note: {note}" for note in (*notes, *result["notes"]))]).rstrip()


def _heading(metric: "Metric") -> str:
    """The report's label, which tells image and pixel metrics apart by their group only: `I-AP`, `P-AP`."""
    return f"{metric.group[0]}-{metric.label}" if metric.group in ("Image", "Pixel") else metric.label
