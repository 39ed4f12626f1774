"""The table of operating points: what thresholds from held-out normal images give. Its columns share no name with the results tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from invad.metrics.calibration import MEAN_KEYS
from invad.report.cells import (
    Cells,
    Line,
    about_title,
    evaluation_notes,
    fold_seeds,
    lines,
    mean_cell,
    seeds_words,
    sources_words,
    value_cell,
)
from invad.report.labels import Metric, source_label
from invad.report.results import Result
from invad.report.tables import Cell, Row, Table, caption

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
MEASURED = [column.key for column in COLUMNS[2:]]
OWN_THRESHOLDS = Cell(None, ("Each class has its own threshold.",))
MEANING = (
    "Each class's own threshold, taken from normal training images that were held out, at the false-positive rate (FPR) asked for; "
    "positive is strictly above it. A benchmark's row is the mean of its classes. These are not the best-possible F1max and IoUmax of "
    "the other tables, whose thresholds are chosen with the test labels at hand. Percent, but for thresholds (raw scores) and numbers "
    "of images."
)


def operating_table(results: Sequence[Result]) -> Table:
    """The operating points of all results: of each the mean, then its classes; one row of dashes where there is none."""
    ordered = lines(results)
    several = len({line.first.label for line in ordered}) > 1
    return Table(
        title="Operating point",
        caption=caption(MEANING, seeds_words(results), sources_words(results)),
        heads=("Benchmark, class", *(["Method"] if several else []), "Data"),
        columns=COLUMNS,
        rows=tuple(row for line in ordered for row in _rows(line, several)),
        remarks=evaluation_notes((line.first for line in ordered), "operating_point"),
    )


def _rows(line: Line, with_method: bool) -> list[Row]:
    result = line.first
    points = [result.metrics_by_seed[seed].get("operating_point") for seed in result.seeds]
    reasons = tuple(dict.fromkeys(f"No operating point: {reason}." for reason in map(_reason, points) if reason))
    if reasons:
        return [_row(line, None, dict.fromkeys((column.key for column in COLUMNS), Cell(None, reasons)), with_method)]
    found = [point for point in points if point is not None]
    asked, images = {"false_positive_rate": Cell(found[0]["false_positive_rate"])}, found[0]["held_out_images"]
    rows = [_row(line, None, asked | {"held_out_images": Cell(sum(images.values()))} | _means(found), with_method)]
    for name in found[0]["per_class"]:
        by_seed = [point["per_class"][name] for point in found if name in point["per_class"]]
        cells = fold_seeds([{key: value_cell(values[key]) for key in MEASURED} for values in by_seed])
        rows.append(_row(line, name, asked | {"held_out_images": Cell(images[name])} | cells, with_method))
    return rows


def _row(line: Line, name: str | None, cells: Mapping[str, Cell], with_method: bool) -> Row:
    """The row of a class; that of the mean for None."""
    result = line.first
    return Row(
        words=(name or result.title, *([result.label] if with_method else []), source_label(result.source)),
        cells={key: cell if cell == OWN_THRESHOLDS else about_title(cell, result.title) for key, cell in cells.items()},
        keys={"benchmark": result.benchmark, "class": name or "mean", **line.keys()},
        kind="plain" if name is not None else "summary",
        block=result.key,
    )


def _reason(point: Mapping[str, Any] | None) -> str:
    """Why there is no operating point; "" when there is one."""
    if point is None:
        return "not evaluated; run `dvc repro evaluate`"
    return "" if any(point["held_out_images"].values()) else point["notes"][0]


def _means(points: Sequence[Mapping[str, Any]]) -> Cells:
    """A benchmark's means, with a note where classes are missing from one; each class has its own threshold."""
    means = fold_seeds([{k: mean_cell(point["mean"][k], k, point["per_class"]) for k in MEAN_KEYS} for point in points])
    return {key: means.get(key, OWN_THRESHOLDS) for key in MEASURED}
