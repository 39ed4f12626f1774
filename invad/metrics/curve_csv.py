"""The mean curves of a benchmark as CSV, which `dvc plots show` draws."""

from collections.abc import Mapping

from invad.metrics.curves import Curve
from invad.metrics.mean_curves import mean_curve

COLUMNS = {
    "image_roc": ("false_positive_rate", "true_positive_rate"),
    "image_pr": ("recall", "precision"),
    "pixel_roc": ("false_positive_rate", "true_positive_rate"),
    "pixel_pr": ("recall", "precision"),
    "region_pro": ("false_positive_rate", "region_overlap"),
    "pixel_thresholds": ("threshold", "precision", "recall", "f1", "iou"),
}


def mean_curve_csvs(curves: Mapping[str, Mapping[str, Curve]]) -> dict[str, str]:
    """Return the mean over the classes of each curve as CSV: its columns, then a line per point; no point where no class has it.

    curves: class -> curve -> columns, as `invad.metrics.evaluate` returns them.
    """
    return {name: _csv(columns, mean_curve(curves, name)) for name, columns in COLUMNS.items()}


def _csv(columns: tuple[str, ...], curve: Curve) -> str:
    points = zip(*(curve.get(column, ()) for column in columns), strict=True)
    return "".join(
        [",".join(columns) + "\n", *(",".join(f"{value:.6g}" for value in point) + "\n" for point in points)]
    )
