"""Bootstrap intervals: how far each metric would move if other test images of the same kind had been taken.

A replicate draws the images of a class again, with replacement: as many normal ones as there are and as many anomalous ones, and whole
objects where objects are seen in several images. An interval holds the middle share (the confidence) of the values of all replicates. The
images' order in the ranking is exact, the pixels' is that of `invad.metrics.binning`.

The maps are given: an interval says nothing of what another training seed, another machine or other classes would give.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypedDict

import numpy as np

from invad.errors import InputError
from invad.metrics.evaluation import Evaluation, evaluate, samples
from invad.metrics.measure import EPSILON, FALSE_POSITIVE_RATE_LIMIT
from invad.metrics.per_image import ClassImages, ImageReader
from invad.metrics.protocol import AVERAGES, PIXEL_KEYS, SAMPLE_KEYS
from invad.metrics.reading import PerImage, Stack

REPLICATES, CONFIDENCE, SEED = 1000, 0.95, 0
CHUNK = 100
"""So many replicates are looked at together."""

Values = dict[str, np.ndarray]
"""By key, a value for each replicate: float64 (r,), NaN where it is not defined."""
Interval = list[float] | None


class Intervals(TypedDict):
    """What `bootstrap` returns; plain Python values, ready for JSON."""

    per_class: dict[str, dict[str, Interval]]
    mean: dict[str, Interval]
    replicates: int
    confidence: float
    seed: int


def bootstrap(
    anomaly_maps: Stack,
    masks: Stack | None,
    classes: PerImage = None,
    labels: PerImage = None,
    image_scores: PerImage = None,
    has_mask: PerImage = None,
    *,
    groups: PerImage = None,
    evaluation: Evaluation | None = None,
    replicates: int = REPLICATES,
    confidence: float = CONFIDENCE,
    seed: int = SEED,
) -> Intervals:
    """Percentile intervals of all metrics of the `exact` protocol, per class and in the mean over classes.

    The first seven arguments are those of `evaluate`, but maps and masks are read twice, so an iterator, which can be read once, is
    refused. evaluation: what `evaluate` gave of them, with the exact protocol; by default it is called. replicates: how often the images
    are drawn, at least 1. confidence: the share of the replicates' values that lies within, above 0 and below 1. seed: at least 0; the
    draws of a class depend on it, on the class's name and on its images' order.

    A class keeps the minimum and maximum of all its pixels, by which scores are scaled for mF1, mAcc and mIoU. The values of pixels come
    from some hundred bins of score; an interval is widened where the value of `evaluate` lies outside.

    Returns `{"per_class": {class: {key: [low, high]}}, "mean": {key: [low, high]}, "replicates": ..., "confidence": ..., "seed": ...}`,
    with the classes and keys of the evaluation; None in place of an interval where it has no value.

    `InputError`: as in `evaluate`; an iterator; numbers out of their range.
    """
    _check(anomaly_maps, masks, replicates, confidence, seed)
    given = anomaly_maps, masks, classes, labels, image_scores
    evaluation = evaluation or evaluate(*given, protocol="exact", has_mask=has_mask, groups=groups)
    if "exact" not in evaluation["mean"]:
        raise InputError("evaluation: lacks the exact protocol, which the intervals are of")
    reader = ImageReader(*given, has_mask, groups)
    points = {name: values["exact"] for name, values in evaluation["per_class"].items()}
    with_pixels = [name for name, values in points.items() if any(values[key] is not None for key in PIXEL_KEYS)]
    drawn = {}
    for name, images in reader.classes(with_pixels):
        rng = np.random.default_rng([seed, *name.encode()])
        drawn[name] = _replicates(images, tuple(points[name]), replicates, rng)
    of_mean = evaluation["mean"]["exact"]
    mean = {
        key: np.mean([drawn[name][key] for name in points if points[name][key] is not None], axis=0)
        for key in of_mean
        if of_mean[key] is not None
    }
    return {
        "per_class": {name: _intervals(drawn[name], of_class, confidence) for name, of_class in points.items()},
        "mean": _intervals(mean, of_mean, confidence),
        "replicates": replicates,
        "confidence": confidence,
        "seed": seed,
    }


def _check(maps: Stack, masks: Stack | None, replicates: int, confidence: float, seed: int) -> None:
    for name, stack in (("anomaly_maps", maps), ("masks", masks)):
        if isinstance(stack, Iterator):
            raise InputError(
                f"{name}: an iterator is read once; expected an array or a list of batches, which are read twice"
            )
    if replicates < 1:
        raise InputError(f"replicates: expected at least 1, got {replicates}")
    if not 0 < confidence < 1:
        raise InputError(f"confidence: expected a number above 0 and below 1, got {confidence}")
    if seed < 0:
        raise InputError(f"seed: expected at least 0, got {seed}")


def _replicates(images: ClassImages, keys: Sequence[str], replicates: int, rng: np.random.Generator) -> Values:
    """The values of a class in each of its replicates."""
    columns = images.columns
    sample, highest, anomalous = samples(columns.scores, columns.labels, columns.groups)
    with_pixels = np.zeros(highest.size, bool)
    np.logical_or.at(with_pixels, sample, columns.with_pixels)
    weights = draws(anomalous + 2 * with_pixels, replicates, rng)
    chunks = []
    for first in range(0, replicates, CHUNK):
        of_samples = weights[first : first + CHUNK]
        of_images = of_samples[:, sample]
        with np.errstate(divide="ignore", invalid="ignore"):  # NaN where a kind of item is lacking
            values = _rank_values("image", *_ranked(columns.scores, columns.labels, of_images))
            if set(SAMPLE_KEYS) <= set(keys):
                values |= _rank_values("sample", *_ranked(highest, anomalous, of_samples))
            values |= _pixel_values(images, of_images)
        values |= {key: np.mean([values[part] for part in parts], axis=0) for key, parts in AVERAGES.items()}
        chunks.append(values)
    return {key: np.concatenate([values[key] for values in chunks]) for key in keys}


def draws(kinds: np.ndarray, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """How often each item (n,) is drawn, with replacement among those of its kind, as many as there are: float64 (replicates, n)."""
    weights = np.empty((replicates, kinds.size))
    for kind in np.unique(kinds):
        at = np.flatnonzero(kinds == kind)
        drawn = rng.integers(0, at.size, (replicates, at.size)) + at.size * np.arange(replicates)[:, None]
        weights[:, at] = np.bincount(drawn.ravel(), minlength=replicates * at.size).reshape(replicates, at.size)
    return weights


def _ranked(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False and true positives at each distinct score of items (n,), as `_rank_values` takes them; weights (r, n)."""
    order = np.argsort(scores, kind="stable")[::-1]
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # of equal scores
    fp, tp = (np.cumsum(weights[:, order] * of_kind[order], axis=1)[:, last] for of_kind in (~labels, labels))
    none = np.zeros((len(weights), 1))
    return np.hstack((none, fp)), np.hstack((none, tp)), np.ones(last.size, bool)


def _rank_values(unit: str, fp: np.ndarray, tp: np.ndarray, single: np.ndarray) -> Values:
    """AU-ROC, AP and the highest F1 of false and true positives (r, e), from none to all.

    single: bool (e - 1,), whether the items that a step adds have one score.
    """
    normal, anomalous, positive = fp[:, -1], tp[:, -1], fp + tp
    true, both = tp[:, 1:] + tp[:, :-1], positive[:, 1:] + positive[:, :-1]
    wins = np.einsum("re,re->r", np.diff(fp), true)
    # The precision of a step is that of its middle; where all items of the step have one score, it is that of its end.
    true[:, single], both[:, single] = 2 * tp[:, 1:][:, single], 2 * positive[:, 1:][:, single]
    precision = np.divide(true, np.maximum(both, 1, out=both), out=both)
    f1 = 2 * np.max(tp / (positive + anomalous[:, None]), axis=1)
    return {
        f"{unit}_auroc": wins / (2 * normal * anomalous),
        f"{unit}_ap": np.einsum("re,re->r", np.diff(tp), precision) / anomalous,
        f"{unit}_f1_max": f1,
    }


def _pixel_values(images: ClassImages, weights: np.ndarray) -> Values:
    """The metrics of regions and pixels; weights (r, n) of the images."""
    if images.pixels is None:
        return dict.fromkeys(PIXEL_KEYS, np.full(len(weights), np.nan))
    (bins, counts), some = images.pixels, images.columns.with_pixels
    fp, anomalous = weights @ counts.normal, weights[:, some]
    tp, overlap = anomalous @ counts.anomalous[some], anomalous @ counts.overlap[some]
    values = _rank_values("pixel", fp, tp, bins.single)
    f1 = values["pixel_f1_max"]
    values |= _family_values(fp[:, bins.family], tp[:, bins.family], tp[:, -1:])
    return values | {"pixel_iou_max": f1 / (2 - f1), "region_aupro": _aupro(fp, overlap / overlap[:, -1:])}


def _family_values(fp: np.ndarray, tp: np.ndarray, anomalous: np.ndarray) -> Values:
    """mF1, mAcc and mIoU from the positives above each threshold, (r, 7)."""
    precision, recall = tp / (tp + fp + EPSILON), tp / (anomalous + EPSILON)
    of_each = {
        "pixel_mf1": 2 * precision * recall / (precision + recall + EPSILON),
        "pixel_macc": recall,
        "pixel_miou": tp / (anomalous + fp + EPSILON),
    }
    return {key: values.mean(axis=1) for key, values in of_each.items()}


def _aupro(fp: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    """The area under the overlap of regions up to the limit of false positives: both (r, e), straight between two edges."""
    limit = FALSE_POSITIVE_RATE_LIMIT * fp[:, -1:]
    within = np.sum(fp <= limit, axis=1)  # so many edges; not the last, unless there is no normal pixel
    most = min(int(within.max()) + 1, fp.shape[1])
    fp, overlap = fp[:, :most], overlap[:, :most]
    area = np.einsum("re,re->r", np.diff(np.minimum(fp, limit)), (overlap[:, 1:] + overlap[:, :-1]) / 2)
    # In the bin of the limit the line is cut: the overlap there is not that of the bin's end.
    rows, end = np.arange(len(fp)), np.minimum(within, most - 1)
    taken, rise = limit[:, 0] - fp[rows, end - 1], overlap[rows, end] - overlap[rows, end - 1]
    area -= taken * rise / 2 * (1 - taken / (fp[rows, end] - fp[rows, end - 1]))
    return area / limit[:, 0]


def _intervals(drawn: Values, points: Mapping[str, float | None], confidence: float) -> dict[str, Interval]:
    return {key: None if point is None else _interval(drawn[key], point, confidence) for key, point in points.items()}


def _interval(values: np.ndarray, point: float, confidence: float) -> list[float]:
    """The middle share of the values that are defined, and the point."""
    defined = values[~np.isnan(values)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, (tail, 1 - tail)).tolist() if defined.size else (point, point)
    return [min(low, point), min(max(high, point), 1.0)]  # rounding alone could pass 1
