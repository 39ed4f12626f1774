"""`invad-pipe data` and `evaluate`: one's own images, checks of a benchmark's images, and the metrics of anybody's maps."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from invad.cli.project import ParamsOption
from invad.errors import InputError
from invad.workspace import Workspace

if TYPE_CHECKING:
    from invad.metrics import Evaluation, Intervals

data = typer.Typer(no_args_is_help=True, help="Your own images, and checks of the images of a benchmark.")


@data.command("import")
def import_(
    name: Annotated[str, typer.Argument(help="Of the new data set and its benchmark.")],
    images: Annotated[Path, typer.Option(help="A tree as MVTec AD's, good/ bad/ masks/, or normal images alone.")],
    table: Annotated[Path | None, typer.Option(help="A CSV table: image, class, phase, label, mask.")] = None,
    normal: Annotated[list[str] | None, typer.Option(help="A folder of normal images (good). Repeatable.")] = None,
    abnormal: Annotated[list[str] | None, typer.Option(help="A folder of anomalous ones (bad). Repeatable.")] = None,
    masks: Annotated[str | None, typer.Option(help="The folder of their masks (masks).")] = None,
    like: Annotated[str | None, typer.Option(help="The benchmark whose settings are taken; else they fit.")] = None,
    seed: Annotated[int, typer.Option(help="Chooses the test images where the data do not say.", min=0)] = 0,
    test_share: Annotated[float, typer.Option(help="Share of the normal images kept for the test then.")] = 0.2,
    exif_rotation: Annotated[bool, typer.Option("--exif-rotation", help="Turn images as EXIF says.")] = False,
    grey16_white: Annotated[int | None, typer.Option(help="White in 16-bit grey.", min=255, max=65535)] = None,
    force: Annotated[bool, typer.Option("--force", help="Import a data set of this name again.")] = False,
    params: ParamsOption = Path("params.yaml"),
) -> None:
    """Make a benchmark of your own images: print what was understood, write its table, add it to params.yaml."""
    from invad.config import TableSplitConfig
    from invad.data.own.folders import named_layout
    from invad.data.own.importing import import_data
    from invad.devices import best_device

    if not 0 < test_share < 1:
        raise InputError(f"--test-share: must lie between 0 and 1, not {test_share}")
    layout = None
    if normal or abnormal or masks:
        layout = named_layout(normal or ("good",), abnormal or ("bad",), masks or "masks")
    split = TableSplitConfig(seed=seed, test_share=test_share, exif_rotation=exif_rotation, grey16_white=grey16_white)
    how = {"like": like, "params_path": params, "force": force, "layout": layout, "gpu": best_device().type == "cuda"}
    print(import_data(name, images, table, workspace=Workspace(), config=split, **how))


@data.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="Of an imported data set.")], params: ParamsOption = Path("params.yaml")
) -> None:
    """Take back what `data import` did: the data set's table, and it and its benchmarks in params.yaml; images and results stay."""
    from invad.data.own.importing import remove_data

    print(remove_data(name, workspace=Workspace(), params_path=params))


@data.command("check")
def check(
    benchmark: Annotated[str, typer.Argument(help="A benchmark of params.yaml.")],
    json: Annotated[Path | None, typer.Option(help="Write the findings to this file as JSON too.")] = None,
    params: ParamsOption = Path("params.yaml"),
) -> None:
    """Decode every image and mask of a benchmark and look for what is wrong; exit code 1 when there are errors."""
    from invad.config import dataset_kind, load_params
    from invad.data.check import check_split
    from invad.data.download import prepare_dataset
    from invad.data.split_table import open_split
    from invad.data.splits import build_split
    from invad.files import write_json

    known, workspace = load_params(params), Workspace()
    settings = known.benchmark(benchmark)
    table, built = workspace.imported_table(settings.dataset), workspace.split(benchmark)
    is_new = not (built.exists() and table.exists() and table.stat().st_mtime < built.stat().st_mtime)
    if dataset_kind(settings.dataset) == "table" and is_new and not Path("dvc.yaml").exists():
        # Outside of a repository no stage does it.
        prepare_dataset(settings.dataset, known.dataset(settings.dataset), workspace)
        build_split(settings, workspace)
    report = check_split(open_split(settings, workspace), label=f"check {benchmark}")
    if json is not None:
        write_json(json, {"benchmark": benchmark, **report.to_json()})
    print(report.summary())
    raise typer.Exit(1 if report.errors else 0)


def evaluate(
    maps: Annotated[Path, typer.Option(help="An array (N, H, W) as .npy or .npz, or a folder of .npy, .tif or .png.")],
    masks: Annotated[Path | None, typer.Option(help="The same; in arrays 0 and 1 or 255, in images above 0.")] = None,
    classes: Annotated[Path | None, typer.Option(help="A text file with the class of each map, one a line.")] = None,
    labels: Annotated[Path | None, typer.Option(help="A text file with 0 or 1 for each map, one a line.")] = None,
    groups: Annotated[Path | None, typer.Option(help="A text file with the object that each map is a view of.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write all numbers and notes to this file too.")] = None,
    protocol: Annotated[Literal["paper", "exact", "both"], typer.Option(help="That of the metrics.")] = "both",
    intervals: Annotated[bool, typer.Option("--intervals", help="Add 95 % intervals over images to exact.")] = False,
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

    if intervals and protocol == "paper":
        raise InputError("--intervals: are of the exact protocol; expected --protocol exact or both")
    inputs = read_inputs(maps, masks, classes, labels, groups)
    if json is not None and (json.is_dir() or json in (maps, masks, classes, labels, groups)):
        raise InputError(f"--json {json}: is a folder or an input; expected the name of a new file")
    result = inputs.evaluate(PROTOCOLS if protocol == "both" else protocol)
    drawn = inputs.bootstrap(result) if intervals else None
    print(evaluation_text(result, inputs.notes, drawn))
    if json is not None:
        write_json(json, {**result, "intervals": drawn} if drawn else result)


def evaluation_text(result: "Evaluation", notes: list[str], intervals: "Intervals | None" = None) -> str:
    """Return a table for each protocol, a row for each class and the mean, in percent, then the notes: those given and its own.

    intervals: stand below the values of the exact protocol.
    """
    from invad.report.labels import columns_of
    from invad.text import aligned

    # Labels tell the metrics of images, pixels and samples apart by their group only.
    columns = columns_of(next(iter(result["mean"].values())))
    told = ("Sample", "Image", "Pixel")
    heads = [f"{one.group[0]}-{one.label}" if one.group in told else one.label for one in columns]
    lines = []
    for protocol, mean in result["mean"].items():
        rows = [*((name, values[protocol]) for name, values in result["per_class"].items()), ("mean", mean)]
        table = [[name, *(_percent(row[metric.key]) for metric in columns)] for name, row in rows]
        title = f"protocol {protocol}, version {result['protocol_version']}, percent"
        if intervals and protocol == "exact":
            drawn = (*intervals["per_class"].values(), intervals["mean"])
            below = [["", *("-".join(map(_percent, row[one.key] or (None,))) for one in columns)] for row in drawn]
            table = [line for pair in zip(table, below, strict=True) for line in pair]
            title += f", with {100 * intervals['confidence']:g} % intervals from {intervals['replicates']} draws of the images"
        lines += [title, *aligned([["class", *heads], *table]), ""]
    return "\n".join([*lines, *(f"note: {note}" for note in (*notes, *result["notes"]))]).rstrip()


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
