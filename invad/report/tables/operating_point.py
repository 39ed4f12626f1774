"""The table of operating points: what thresholds from held-out normal images give. Its columns share no name with the results tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from invad.metrics.calibration import MEAN_KEYS
from invad.report.labels import Metric, source_label
from invad.report.results import Result
from invad.report.tables.cells import caption, fold_seeds, ordered, seeds_words, sources_words, titled
from invad.report.tables.main import measured_keys
from invad.report.tables.notes import NOT_AVAILABLE, missing_reasons
from invad.report.tables.table import Cell, Row, Table

_IMAGE, _PIXEL = "Calibrated image", "Calibrated pixel"
COLUMNS = (
    Metric("false_positive_rate", "Calibration", "FPR asked for", "Share of held-out scores that may be above a threshold.", "rate", None),
    Metric("held_out_images", "Calibration", "Held out", "Normal images that were kept from training for the thresholds.", "count", None),
    Metric("calibrated_image_threshold", _IMAGE, "Threshold", "Image score above which an image is called anomalous.", "score", None),
    Metric("calibrated_image_fpr", _IMAGE, "FPR", "Share of the normal test images above the threshold.", best=None),
    Metric("calibrated_image_precision", _IMAGE, "Precision", "Share of what is above the threshold that is anomalous.", best=None),
    Metric("calibrated_image_recall", _IMAGE, "Recall", "Share of the anomalous test images above the threshold.", best=None),
    Metric("calibrated_image_f1", _IMAGE, "F1", "Harmonic mean of precision and recall at this threshold, not at the best one.", best=None),
    Metric("calibrated_pixel_threshold", _PIXEL, "Threshold", "Map value above which a pixel is called anomalous.", "score", None),
    Metric("calibrated_pixel_fpr", _PIXEL, "FPR", "Share of the normal test pixels above the threshold.", best=None),
    Metric("calibrated_pixel_precision", _PIXEL, "Precision", "Share of what is above the threshold that is anomalous.", best=None),
    Metric("calibrated_pixel_recall", _PIXEL, "Recall", "Share of the anomalous test pixels above the threshold.", best=None),
    Metric("calibrated_pixel_f1", _PIXEL, "F1", "Harmonic mean of precision and recall at this threshold, not at the best one.", best=None),
    Metric("calibrated_pixel_iou", _PIXEL, "IoU", "Intersection over union at this threshold, not at the best one.", best=None),
)  # fmt: skip
MEASURED = COLUMNS[2:]
OWN_THRESHOLDS = "Each class has its own threshold."
NOT_EVALUATED = "not evaluated; run `dvc repro evaluate`."
MEANING = (
    "Each class's own threshold, taken from normal training images that were held out, at the false-positive rate (FPR) asked for; "
    "positive is strictly above it. A benchmark's row is the mean of its classes. These are not the best-possible F1max and IoUmax of "
    "the other tables, whose thresholds are chosen with the test labels at hand. Percent, but for thresholds (raw scores) and numbers "
    "of images."
)


def operating_table(results: Sequence[Result]) -> Table:
    """The operating points of all results: of each the mean, then its classes; one row of dashes where there is none."""
    results = ordered(results)
    several = len({result.label for result in results}) > 1
    return Table(
        title="Operating point",
        caption=caption((MEANING, seeds_words(results), sources_words(results))),
        heads=("Benchmark, class", *(["Method"] if several else []), "Data"),
        columns=COLUMNS,
        rows=tuple(row for result in results for row in _rows(result, several)),
    )


def _rows(result: Result, with_method: bool) -> list[Row]:
    def row(name: str, cells: Mapping[str, Cell], is_mean: bool = False) -> Row:
        return Row(
            words=(
                result.title if is_mean else name,
                *([result.label] if with_method else []),
                source_label(result.source),
            ),
            cells={key: _titled(cell, result.title) for key, cell in cells.items()},
            keys={"benchmark": result.benchmark, "class": name, **_keys(result)},
            kind="summary" if is_mean else "plain",
            block=result.key,
        )

    found = [result.metrics_by_seed[seed].get("operating_point") for seed in result.seeds]
    reasons = [_reason(point) for point in found]
    if any(reasons):
        cell = Cell(None, tuple(dict.fromkeys(reason for reason in reasons if reason)))
        return [row("mean", {column.key: cell for column in COLUMNS}, is_mean=True)]
    points = [point for point in found if point is not None]
    asked = {"false_positive_rate": Cell(points[0]["false_positive_rate"])}
    images = points[0]["held_out_images"]
    by_seed = [{name: _class_cells(name, point) for name in point["per_class"]} for point in points]
    classes = {
        name: _folded([of_seed[name] for of_seed in by_seed if name in of_seed]) for name in points[0]["per_class"]
    }
    mean = _folded([_mean_cells(point, cells) for point, cells in zip(points, by_seed, strict=True)])
    first = row("mean", asked | {"held_out_images": Cell(sum(images.values()))} | mean, is_mean=True)
    return [
        first,
        *(row(name, asked | {"held_out_images": Cell(images[name])} | cells) for name, cells in classes.items()),
    ]


def _titled(cell: Cell, title: str) -> Cell:
    return cell if cell.notes == (OWN_THRESHOLDS,) else titled(cell, title)


def _keys(result: Result) -> dict[str, str]:
    return {key: text for key, text in measured_keys(result, "").items() if not key.startswith("protocol")}


def _reason(point: Mapping[str, Any] | None) -> str:
    """Why there is no operating point; "" when there is one."""
    if point is None:
        return NOT_EVALUATED
    return "" if any(point["held_out_images"].values()) else f"{point['notes'][0]}."


def _folded(by_seed: Sequence[Mapping[str, Cell]]) -> dict[str, Cell]:
    return {column.key: fold_seeds([cells[column.key] for cells in by_seed]) for column in MEASURED}


def _class_cells(class_name: str, point: Mapping[str, Any]) -> dict[str, Cell]:
    values, where = point["per_class"][class_name], f"class {class_name!r}"
    cells = {
        key: Cell(value, missing_reasons(value, point["notes"], [where, key], [])) for key, value in values.items()
    }
    too_few = tuple(f"{note}." for note in point["notes"] if where in note and NOT_AVAILABLE not in note)
    threshold = cells["calibrated_image_threshold"]
    if threshold.value is not None:
        notes = tuple(note for note in too_few if "left out of the mean" not in note)
        cells["calibrated_image_threshold"] = Cell(threshold.value, notes)
    return cells


def _mean_cells(point: Mapping[str, Any], classes: Mapping[str, Mapping[str, Cell]]) -> dict[str, Cell]:
    """A benchmark's means, with the reasons of its classes where there is none, and a note where classes are missing from it."""
    cells = {}
    for column in MEASURED:
        key = column.key
        missing = [name for name, of_class in classes.items() if of_class[key].value is None]
        if key not in MEAN_KEYS:
            cells[key] = Cell(None, (OWN_THRESHOLDS,))
        elif point["mean"][key] is None:
            cells[key] = Cell(None, tuple(dict.fromkeys(note for name in missing for note in classes[name][key].notes)))
        elif missing:
            part = f"mean of {len(classes) - len(missing)} of {len(classes)} classes, without {', '.join(missing)}."
            cells[key] = Cell(point["mean"][key], (part,))
        else:
            cells[key] = Cell(point["mean"][key])
    return cells
