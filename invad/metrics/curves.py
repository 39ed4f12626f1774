"""ROC, precision-recall, PRO and threshold curves of at most 1,000 points, whose area is that of all points within 1e-4; their means."""

import heapq
from collections.abc import Mapping, Sequence

import numpy as np

from invad.metrics.ranking import Block, Ranking

MAX_POINTS = 1000
_CELLS = 50_000
"""Points that lie in one cell of 1/50,000 of each rate become one while a ranking is walked along; moves no area by more than 4e-5."""

MEAN_POINTS = 201
"""At most, of the mean of the classes' curves."""
COLUMNS = {
    "image_roc": ("false_positive_rate", "true_positive_rate"),
    "image_pr": ("recall", "precision"),
    "pixel_roc": ("false_positive_rate", "true_positive_rate"),
    "pixel_pr": ("recall", "precision"),
    "region_pro": ("false_positive_rate", "region_overlap"),
    "pixel_thresholds": ("threshold", "precision", "recall", "f1", "iou"),
}
"""Of the mean curves: without the raw score of a threshold, for which classes have scales of their own."""

Curve = dict[str, list[float]]
"""Columns of equal length."""


class CurvePoints:
    """Collects the vertices of one ranking's curves, see `invad.metrics.measure.Measured` for the order of calls."""

    def __init__(self, ranking: Ranking) -> None:
        self._ranking = ranking
        self._last = np.zeros((1, 3), dtype=np.int64)
        self._vertices = [self._last]
        self._precision_recall: list[np.ndarray] = []

    def step(self, block: Block) -> None:
        """Take in the next thresholds."""
        after = np.stack((block.true_positives, block.false_positives, block.weight), axis=1)
        before = np.concatenate((self._last, after[:-1]))
        before[:, 1] = block.false_positives_above  # false positives alone are added up to the threshold
        vertices = np.stack((before, after), axis=1).reshape(-1, 3)
        self._vertices.append(vertices[self._in_new_cell(vertices)])
        new = self._in_new_cell(after)
        self._precision_recall.append(np.column_stack((after[new, :2], block.scores[new])))
        self._last = after[-1:]

    def _in_new_cell(self, vertices: np.ndarray) -> np.ndarray:
        totals = np.maximum([self._ranking.anomalous, self._ranking.normal, self._ranking.weight], 1)
        cells = np.concatenate((self._last, vertices)) / totals * _CELLS // 1
        return (cells[1:] != cells[:-1]).any(axis=1)

    def curves(self) -> dict[str, Curve]:
        """The curves that the data allow: `<unit>_roc`, `<unit>_pr` and, of pixels, `region_pro`."""
        level = self._ranking.unit
        curves: dict[str, Curve] = {}
        if not self._ranking.anomalous:
            return curves
        tp, fp, scores = np.concatenate(self._precision_recall).T
        curves[f"{level}_pr"] = _simplified(recall=tp / self._ranking.anomalous, precision=tp / (tp + fp), score=scores)
        if not self._ranking.normal:
            return curves
        end = [[self._ranking.anomalous, self._ranking.normal, self._ranking.weight]]
        vertices = np.concatenate((*self._vertices, self._last, end))
        repeated = (vertices[1:] == vertices[:-1]).all(axis=1)
        tp, fp, weight = vertices[np.concatenate(([True], ~repeated))].T
        rate = fp / self._ranking.normal
        curves[f"{level}_roc"] = _simplified(false_positive_rate=rate, true_positive_rate=tp / self._ranking.anomalous)
        if level == "pixel":
            overlap = weight / self._ranking.weight
            curves["region_pro"] = _simplified(false_positive_rate=rate, region_overlap=overlap)
        return curves


def _simplified(**columns: np.ndarray) -> Curve:
    """At most `MAX_POINTS` points of a curve, whose first column is x (ascending) and whose second is y."""
    x, y, *_ = columns.values()
    points = important_points(x, y, MAX_POINTS)
    return {name: values[points].tolist() for name, values in columns.items()}


def important_points(x: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    """Ascending indices of at most `count` points, ends included, between which straight lines keep the area under a curve.

    From the two ends on, the stretch whose line encloses the largest area with the curve is cut at the point farthest from the line.
    """
    if x.size <= count:
        return np.arange(x.size)
    chosen, queue = [0, x.size - 1], [_stretch(x, y, 0, x.size - 1)]
    while len(chosen) < count and queue[0][0] < 0:
        _, start, middle, stop = heapq.heappop(queue)
        chosen.append(middle)
        heapq.heappush(queue, _stretch(x, y, start, middle))
        heapq.heappush(queue, _stretch(x, y, middle, stop))
    return np.sort(chosen)


def _stretch(x: np.ndarray, y: np.ndarray, start: int, stop: int) -> tuple[float, int, int, int]:
    """(minus the area between curve and line, start, the farthest point, stop); the area is 0 where nothing lies between."""
    if stop - start < 2:
        return 0.0, start, start, stop
    xs, ys = x[start : stop + 1] - x[start], y[start : stop + 1] - y[start]
    distance = np.abs(ys * xs[-1] - xs * ys[-1])  # from the line, times its length: a line may be vertical
    length = float(np.hypot(xs[-1], ys[-1])) or 1.0
    along = np.hypot(np.diff(xs), np.diff(ys))
    area = float(np.sum(along * (distance[1:] + distance[:-1]))) / 2 / length
    return -area, start, start + 1 + int(np.argmax(distance[1:-1])), stop


def mean_curve(curves: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], name: str) -> Curve:
    """The mean over classes of one of the curves of `COLUMNS`, x first and ascending (twice where the mean jumps).

    Each class that has the curve counts the same; where none has it, the result is empty. At any x the mean is that of the classes'
    values there, each read off the straight lines between its points; left of a class's first point, as precision has it, its first
    value is taken. Of more points than `MEAN_POINTS`, those are kept whose straight connections keep the area.

    curves: class -> curve -> columns, as `invad.metrics.evaluate` returns them.
    """
    members = [curve for _, of_class in sorted(curves.items()) if (curve := of_class.get(name))]
    if not members:
        return {}
    x_name, *y_names = COLUMNS[name]
    x = np.repeat(np.unique(np.concatenate([curve[x_name] for curve in members])), 2)
    mean = {y: np.mean([_both_sides(x[::2], curve[x_name], curve[y]) for curve in members], axis=0) for y in y_names}
    new = np.any([np.diff(values, prepend=np.nan) != 0 for values in (x, *mean.values())], axis=0)
    columns = {x_name: x[new], **{y: values[new] for y, values in mean.items()}}
    kept = important_points(columns[x_name], columns[y_names[0]], MEAN_POINTS)
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
    """Return `mean_curve` of each curve as CSV: its columns, then a line per point; no point where no class has it."""
    texts = {}
    for name, columns in COLUMNS.items():
        mean = mean_curve(curves, name)
        points = zip(*(mean.get(column, ()) for column in columns), strict=True)
        lines = [",".join(columns), *(",".join(f"{value:.6g}" for value in point) for point in points)]
        texts[name] = "\n".join(lines) + "\n"
    return texts
