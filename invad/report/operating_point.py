"""The table of operating points: what thresholds from held-out normal images give. Its columns share no name with the results tables."""

from collections.abc import Sequence

from invad.metrics.calibration import MEAN_KEYS
from invad.report.benchmarks import MEAN, evaluation_notes, seeds_words, with_seeds
from invad.report.labels import Metric, source_sentences
from invad.report.results import Result
from invad.report.tables import Cell, Row, Table, caption, over_seeds, value_cells

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
    method = ("Method",) if len({result.label for result in results}) > 1 else ()
    return Table(
        title="Operating point",
        caption=caption(MEANING, seeds_words(results), source_sentences(result.source for result in results)),
        heads=("Benchmark", "Class", *method, "Data", *with_seeds(results)),
        columns=COLUMNS,
        rows=tuple(row for result in results for row in _rows(result)),
        remarks=evaluation_notes(results, "operating_point"),
    )


def _rows(result: Result) -> list[Row]:
    words = {"Benchmark": result.title, "Class": MEAN} | result.words
    points = [metrics.get("operating_point") for metrics in result.metrics_by_seed.values()]
    there = [point for point in points if point is not None and any(point["held_out_images"].values())]
    if len(there) < len(points):
        notes = [point["notes"][0] for point in points if point is not None and point not in there]
        reason = f"No operating point: {notes[0] if notes else 'not evaluated; run `dvc repro evaluate`'}."
        return [
            Row(words, dict.fromkeys((column.key for column in COLUMNS), Cell(None, (reason,))), "summary", result.key)
        ]
    rate, images = Cell(there[0]["false_positive_rate"]), there[0]["held_out_images"]
    means = over_seeds([value_cells({key: p["mean"][key] for key in MEAN_KEYS}, p["per_class"]) for p in there])
    cells = dict.fromkeys(MEASURED, OWN_THRESHOLDS) | means
    found = {MEAN: cells | {"held_out_images": Cell(sum(images.values()))}}
    for name in there[0]["per_class"]:
        by_seed = [{key: p["per_class"][name][key] for key in MEASURED} for p in there if name in p["per_class"]]
        found[name] = over_seeds(list(map(value_cells, by_seed))) | {"held_out_images": Cell(images[name])}
    return [
        Row(
            words | {"Class": name},
            of_class | {"false_positive_rate": rate},
            "summary" if name == MEAN else "plain",
            result.key,
        )
        for name, of_class in found.items()
    ]
