"""`invad-pipe evaluate`: the paper's metrics for the anomaly maps of any method."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from invad.errors import InputError

if TYPE_CHECKING:
    from invad.metrics import Evaluation


def evaluate(
    maps: Annotated[Path, typer.Option(help="An array (N, H, W) as .npy or .npz, or a folder of .npy, .tif or .png.")],
    masks: Annotated[Path | None, typer.Option(help="The same; in arrays 0 and 1 or 255, in images above 0.")] = None,
    classes: Annotated[Path | None, typer.Option(help="A text file with the class of each map, one a line.")] = None,
    labels: Annotated[Path | None, typer.Option(help="A text file with 0 or 1 for each map, one a line.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write all numbers and notes to this file too.")] = None,
    protocol: Annotated[Literal["paper", "exact", "both"], typer.Option(help="That of the metrics.")] = "both",
) -> None:
    """Evaluate the anomaly maps of any method: all metrics per class and in the mean, in percent.

    Maps are raw scores, higher is more anomalous, on one scale for all images of
    a class: maps that were scaled image by image would mislead.

    Masks of a folder are matched with its maps by name, in the order of their
    paths; docs/metrics.md has the rules.
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
        write_json(json, result)


def evaluation_text(result: "Evaluation", notes: list[str]) -> str:
    """Return a table for each protocol, a row for each class and the mean, in percent, then the notes: those given and its own."""
    from invad.report.labels import METRICS
    from invad.text import aligned

    # Labels tell image and pixel metrics apart by their group only.
    heads = [f"{one.group[0]}-{one.label}" if one.group in ("Image", "Pixel") else one.label for one in METRICS]
    lines = []
    for protocol, mean in result["mean"].items():
        rows = [(name, by_protocol[protocol]) for name, by_protocol in result["per_class"].items()]
        values = [(name, [row[metric.key] for metric in METRICS]) for name, row in (*rows, ("mean", mean))]
        table = [[name, *("-" if one is None else f"{100 * one:.1f}" for one in row)] for name, row in values]
        lines.append(f"protocol {protocol}, version {result['protocol_version']}, percent")
        lines += [*aligned([["class", *heads], *table]), ""]
    return "\n".join([*lines, *(f"note: {note}" for note in (*notes, *result["notes"]))]).rstrip()
