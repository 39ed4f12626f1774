"""The mean of the classes' curves, such as the ROC curve of a whole benchmark; also as CSV, which `dvc plots show` draws."""

from collections.abc import Mapping, Sequence

import numpy as np

from invad.metrics.curves import Curve, important_points

COLUMNS = {
    "image_roc": ("false_positive_rate", "true_positive_rate"),
    "image_pr": ("recall", "precision"),
    "pixel_roc": ("false_positive_rate", "true_positive_rate"),
    "pixel_pr": ("recall", "precision"),
    "region_pro": ("false_positive_rate", "region_overlap"),
    "pixel_thresholds": ("threshold", "precision", "recall", "f1", "iou"),
}
POINTS = 201
_NO_RATE = "score"  # the raw score of a threshold: classes have scales of their own


def mean_curve(
    curves: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], name: str, points: int = POINTS
) -> dict[str, list[float]]:
    """The mean over classes of one curve, with as many points as are needed, at most `points`.

    Each class counts the same. At any x the mean is that of the classes' values there, each read off the straight lines between its
    points; left of a class's first point, as precision has it, its first value is taken. Of more points than wanted, those are kept
    whose straight connections keep the area.

    Args:
        curves: class -> curve -> columns, as `invad.metrics.evaluate` returns them; classes without that curve do not take part.
        name: `image_roc`, `image_pr`, `pixel_roc`, `pixel_pr`, `region_pro` or `pixel_thresholds`.
        points: at least 2.

    Returns:
        The columns of the curve, x first and ascending (twice where the mean jumps), without `score`; empty when no class has the curve.
    """
    if points < 2:
        raise ValueError(f"points is {points}, it has to be at least 2")
    members = [curve for _, of_class in sorted(curves.items()) if (curve := of_class.get(name))]
    if not members:
        return {}
    x_name, *y_names = (column for column in members[0] if column != _NO_RATE)
    x = np.repeat(np.unique(np.concatenate([curve[x_name] for curve in members])), 2)
    mean = {y: np.mean([_both_sides(x[::2], curve[x_name], curve[y]) for curve in members], axis=0) for y in y_names}
    new = np.any([np.diff(values, prepend=np.nan) != 0 for values in (x, *mean.values())], axis=0)
    columns = {x_name: x[new], **{y: values[new] for y, values in mean.items()}}
    kept = important_points(columns[x_name], columns[y_names[0]], points)
    return {column: values[kept].tolist() for column, values in columns.items()}


def _both_sides(grid: np.ndarray, x: Sequence[float], y: Sequence[float]) -> np.ndarray:
    """The curve just left and just right of each of `grid` (n,): float64 (2 n,), which differ where it jumps."""
    x_points, y_points = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    sides = np.repeat(np.interp(grid, x_points, y_points), 2)
    first, last = np.searchsorted(x_points, grid, "left"), np.searchsorted(x_points, grid, "right")
    there = first < last
    sides[::2][there] = y_points[first[there]]
    sides[1::2][there] = y_points[last[there] - 1]
    return sides


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
