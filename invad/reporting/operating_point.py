"""The table of operating points: what thresholds from held-out normal images give. Its columns share no name with the results tables."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from invad.metrics.calibration import MEAN_KEYS
from invad.reporting.labels import Metric, benchmark_order, benchmark_title, source_label, source_sentences
from invad.reporting.tables import (
    DASH,
    NOT_AVAILABLE,
    Cell,
    Footnotes,
    Row,
    latex_escape,
    latex_text,
    markdown_text,
    missing_reasons,
    percent,
)

_IMAGE, _PIXEL = "Image, calibrated threshold", "Pixel, calibrated threshold"
COLUMNS = (
    Metric("false_positive_rate", "Calibration", "FPR asked for", "Share of the held-out normal scores that may lie above the threshold."),
    Metric("held_out_images", "Calibration", "Held out", "Number of normal images that were kept from training for the thresholds."),
    Metric("calibrated_image_threshold", _IMAGE, "Threshold", "Image score above which an image is called anomalous."),
    Metric("calibrated_image_fpr", _IMAGE, "FPR", "Share of the normal test images above the threshold."),
    Metric("calibrated_image_precision", _IMAGE, "Precision", "Share of the test images above the threshold that are anomalous."),
    Metric("calibrated_image_recall", _IMAGE, "Recall", "Share of the anomalous test images above the threshold."),
    Metric("calibrated_image_f1", _IMAGE, "F1", "Harmonic mean of precision and recall at this threshold, not at the best one."),
    Metric("calibrated_pixel_threshold", _PIXEL, "Threshold", "Value of the anomaly map above which a pixel is called anomalous."),
    Metric("calibrated_pixel_fpr", _PIXEL, "FPR", "Share of the normal test pixels above the threshold."),
    Metric("calibrated_pixel_precision", _PIXEL, "Precision", "Share of the test pixels above the threshold that are anomalous."),
    Metric("calibrated_pixel_recall", _PIXEL, "Recall", "Share of the anomalous test pixels above the threshold."),
    Metric("calibrated_pixel_f1", _PIXEL, "F1", "Harmonic mean of precision and recall at this threshold, not at the best one."),
    Metric("calibrated_pixel_iou", _PIXEL, "IoU", "Intersection over union at this threshold, not at the best one."),
)  # fmt: skip
OWN_THRESHOLDS = "Each class has its own threshold."
NOT_EVALUATED = "not evaluated; run `dvc repro evaluate`."


@dataclass(frozen=True)
class OperatingTable(Footnotes):
    """The operating points of all benchmarks: of each its mean and its classes."""

    rows: tuple[Row, ...]
    title = "Operating point"
    row_heading = "Benchmark, class"

    @property
    def caption(self) -> str:
        """What the numbers are, and what they are not."""
        return (
            "Operating point: each class's own threshold, taken from normal training images that were held out, at the false-positive "
            "rate asked for; positive is strictly above it. A benchmark's row is the mean of its classes. These are not the best-possible "
            "F1max and IoUmax of the other tables, whose thresholds are chosen with the test labels at hand. Percent, but for thresholds "
            f"(raw scores) and numbers of images. {source_sentences(row.source for row in self.rows)}"
        ).rstrip()


def operating_table(metrics: Mapping[str, Mapping[str, Any]], sources: Mapping[str, str]) -> OperatingTable:
    """The table of all benchmarks. metrics: benchmark -> content of its metrics file. sources: benchmark -> key of `SOURCES`."""
    names = benchmark_order(metrics)
    return OperatingTable(tuple(row for name in names for row in operating_rows(name, metrics[name], sources[name])))


def operating_rows(name: str, metrics: Mapping[str, Any], source: str) -> list[Row]:
    """The mean of one benchmark, then its classes; one row of dashes where no class has an operating point."""
    title = benchmark_title(name, source)
    point = metrics.get("operating_point")
    if point is None or not any(point["held_out_images"].values()):
        reason = NOT_EVALUATED if point is None else f"{point['notes'][0]}."
        cells = {column.key: Cell(None, (f"{title}: {reason}",)) for column in COLUMNS}
        return [Row(name, "mean", title, source, cells, is_summary=True)]
    rate, images = point["false_positive_rate"], point["held_out_images"]
    classes = [
        Row(name, class_name, class_name, source, _class_cells(class_name, point, title))
        for class_name in point["per_class"]
    ]
    cells = {"false_positive_rate": Cell(rate), "held_out_images": Cell(sum(images.values()))}
    for column in COLUMNS[len(cells) :]:
        is_threshold = column.key not in MEAN_KEYS
        cells[column.key] = Cell(None, (OWN_THRESHOLDS,)) if is_threshold else _mean(column.key, point, classes, title)
    return [Row(name, "mean", title, source, cells, is_summary=True), *classes]


def _class_cells(class_name: str, point: Mapping[str, Any], title: str) -> dict[str, Cell]:
    values, where = point["per_class"][class_name], f"class {class_name!r}"
    cells = {
        "false_positive_rate": Cell(point["false_positive_rate"]),
        "held_out_images": Cell(point["held_out_images"][class_name]),
    }
    for key, value in values.items():
        cells[key] = Cell(
            value, tuple(f"{title}: {note}" for note in missing_reasons(value, point["notes"], [where, key], []))
        )
    too_few = tuple(f"{title}: {note}." for note in point["notes"] if where in note and NOT_AVAILABLE not in note)
    threshold = cells["calibrated_image_threshold"]
    if threshold.value is not None:
        cells["calibrated_image_threshold"] = Cell(
            threshold.value, tuple(n for n in too_few if "left out of the mean" not in n)
        )
    return cells


def _mean(key: str, point: Mapping[str, Any], classes: Sequence[Row], title: str) -> Cell:
    """A benchmark's mean, with the reasons of its classes where there is none, and a note where classes are missing from it."""
    value = point["mean"][key]
    missing = [row for row in classes if row.cells[key].value is None]
    if value is None:
        return Cell(None, tuple(dict.fromkeys(note for row in missing for note in row.cells[key].notes)))
    if not missing:
        return Cell(value)
    names = ", ".join(row.label for row in missing)
    return Cell(value, (f"{title}: mean of {len(classes) - len(missing)} of {len(classes)} classes, without {names}.",))


def cell_text(key: str, value: float | None) -> str:
    """A number as the table prints it: thresholds are raw scores, images are counted, all else is percent."""
    if value is None:
        return DASH
    if key.endswith("_threshold"):
        return f"{value:.4g}"
    if key == "held_out_images":
        return str(int(value))
    return f"{100 * value:g}" if key == "false_positive_rate" else percent(value)


def operating_markdown(table: OperatingTable) -> str:
    """The table as GitHub-flavoured Markdown."""
    lines = [[table.row_heading, "Data", *(_flat_heading(column) for column in COLUMNS)]]
    for row in table.rows:
        label = row.label.replace("|", r"\|")
        cells = [
            cell_text(key, cell.value) + (f"<sup>{table.marks(cell)}</sup>" if cell.notes else "")
            for key, cell in _cells(row)
        ]
        lines.append([f"**{label}**" if row.is_summary else label, source_label(row.source), *cells])
    return markdown_text(table.caption, lines, table.footnotes)


def _flat_heading(column: Metric) -> str:
    level = column.group.split(",")[0]
    label = column.label if column.label.upper() == column.label or column.label == "IoU" else column.label.lower()
    return column.label if level == "Calibration" else f"Calibrated {level.lower()} {label}"


def operating_csv(table: OperatingTable) -> str:
    """The table as CSV: fractions with full precision, empty where not available; the mean of a benchmark is the class `mean`."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["benchmark", "class", "data", *(column.key for column in COLUMNS)])
    for row in table.rows:
        numbers = ["" if cell.value is None else repr(cell.value) for _, cell in _cells(row)]
        writer.writerow([row.benchmark, row.class_name, row.source, *numbers])
    return buffer.getvalue()


def operating_latex(table: OperatingTable) -> str:
    """The table as LaTeX float; the document needs the packages booktabs and graphicx."""
    rows = []
    for row in table.rows:
        label = latex_escape(row.label)
        cells = [
            ("--" if cell.value is None else cell_text(key, cell.value))
            + (f"\\textsuperscript{{{table.marks(cell)}}}" if cell.notes else "")
            for key, cell in _cells(row)
        ]
        rows.append(
            [f"\\textit{{{label}}}" if row.is_summary else label, latex_escape(source_label(row.source)), *cells]
        )
    text = latex_text(table.caption, COLUMNS, table.row_heading, rows, table.footnotes)
    return f"% \\usepackage{{booktabs,graphicx}}\n{text}"


def _cells(row: Row) -> list[tuple[str, Cell]]:
    return [(column.key, row.cells[column.key]) for column in COLUMNS]


def image_thresholds(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The calibrated threshold on the image score of each class that has one."""
    per_class = metrics.get("operating_point", {}).get("per_class", {})
    thresholds = {name: values["calibrated_image_threshold"] for name, values in per_class.items()}
    return {name: threshold for name, threshold in thresholds.items() if threshold is not None}
