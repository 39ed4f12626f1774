"""Thresholds from normal images alone, and what they give on a test set.

Unlike a best-possible number such as F1max, whose threshold is chosen with the test labels at hand, an operating point is one that a
user can have. Positive is strictly above the threshold. No key of it is named like one of `invad.metrics.evaluate`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from invad.errors import InputError
from invad.metrics.protocol import NO_MASK, Missing, Value, means, plain, reasons

LEVELS = {"image": ("fpr", "precision", "recall", "f1"), "pixel": ("fpr", "precision", "recall", "f1", "iou")}
OPERATING_KEYS = tuple(f"calibrated_{level}_{name}" for level in LEVELS for name in ("threshold", *LEVELS[level]))
MEAN_KEYS = tuple(key for key in OPERATING_KEYS if not key.endswith("_threshold"))  # each class has its own
NO_THRESHOLD = "no normal image is held out"

NO_CLASS = Missing("no class has it")


@dataclass(frozen=True)
class Thresholds:
    """Of image scores and of the pixels of anomaly maps; None where no normal image was there to take them from.

    `InputError` for one that is NaN or infinite: nothing, or everything, would lie above it.
    """

    image: float | None
    pixel: float | None

    def __post_init__(self) -> None:
        for level in ("image", "pixel"):
            value = getattr(self, level)
            if value is not None and not math.isfinite(value):
                raise InputError(f"thresholds: the one of {level}s is {value}; expected a finite number")

    def over(self, others: "Thresholds") -> "Thresholds":
        """These, and that of the others where one is None."""
        image, pixel = self.image, self.pixel
        return Thresholds(others.image if image is None else image, others.pixel if pixel is None else pixel)


NOT_CALIBRATED = Thresholds(None, None)


class RunningThreshold:
    """The smallest score that at most `floor(rate * count)` of `count` normal scores lie strictly above, which come piece by piece.

    It is the (floor(rate * count) + 1)-th largest: with rate * count below 1 the largest. So many are held.
    """

    def __init__(self, count: int, rate: float) -> None:
        self._size = scores_above(count, rate) + 1
        self._largest = np.empty(0, np.float32)

    def add(self, scores: np.ndarray) -> None:
        """Take in more scores, of any shape; `InputError` when one of them is NaN or infinite."""
        if not np.isfinite(scores).all():
            raise InputError("scores: NaN or infinite; no threshold can be taken from them")
        scores = scores.ravel()
        if len(self._largest) == self._size:
            scores = scores[scores > self._largest[0]]
        self._largest = np.concatenate([self._largest, scores])
        if len(self._largest) >= self._size:
            first = len(self._largest) - self._size
            self._largest = np.partition(self._largest, first)[first:]

    @property
    def value(self) -> float | None:
        """The threshold, when all scores are there; None without any."""
        return float(self._largest[0]) if len(self._largest) else None


def scores_above(count: int, rate: float) -> int:
    """Return how many of `count` normal scores may lie above a threshold at this false-positive rate."""
    return math.floor(Fraction(str(rate)) * count)  # exact, where 0.29 * 100 is below 29 in floats


def operating_point(
    anomaly_maps: Iterable[np.ndarray],
    masks: Iterable[np.ndarray],
    classes: Sequence[str],
    labels: Sequence[int] | np.ndarray,
    image_scores: Sequence[float] | np.ndarray,
    has_mask: Sequence[bool] | np.ndarray,
    thresholds: Mapping[str, Thresholds],
    without: str = NO_THRESHOLD,
) -> dict[str, Any]:
    """What the thresholds of each class give on its test images; maps and masks are read once, batch by batch.

    anomaly_maps, masks: batches (n, H, W) of equal shapes, whose lengths add up to N; a mask is anomalous where it is not 0.
    classes, labels, image_scores: of each of the N images; a label is the data set's own, 1 for anomalous.
    has_mask: (N,) bool; where False, an anomalous image is left out of the pixels, and a normal one has no anomalous pixel.
    thresholds: class -> its own, or None; `without` is the reason that is given then.

    Returns `{"per_class": {class: {key: value}}, "mean": {key: value}, "notes": [...]}`: for each class, sorted by name, `OPERATING_KEYS`,
    of which all but the thresholds are fractions; of `MEAN_KEYS` the mean of the classes that have a value. None where a value is not
    defined; a note says why, and which classes a mean leaves out. `InputError`: lengths or shapes differ, a class has no entry in
    `thresholds`, or a score or a map is NaN or infinite.
    """
    names, labels, scores = np.asarray(classes), np.asarray(labels).astype(bool), np.asarray(image_scores)
    has_mask = np.asarray(has_mask, dtype=bool)
    if not np.isfinite(scores).all():
        raise InputError("image_scores: NaN or infinite; they can be compared with no threshold")
    missing = sorted(set(names.tolist()) - set(thresholds))
    if missing:
        raise InputError(f"thresholds: class {missing[0]!r} is missing")
    known = has_mask | ~labels
    pixels = _count_pixels(anomaly_maps, masks, has_mask, [thresholds[name].pixel for name in names.tolist()])
    values = {}
    for name in sorted(set(names.tolist())):
        own, limits = names == name, thresholds[name]
        images = _counts(labels[None, own], scores[None, own], [limits.image])[0]
        no_mask = labels[own].any() and not (labels & known)[own].any()
        no_pixel = NO_MASK if no_mask else Missing("no anomalous pixel")
        values[name] = {
            **_level("image", limits.image, images, without, Missing("no anomalous image")),
            **_level("pixel", limits.pixel, pixels[own & known].sum(axis=0), without, no_pixel),
        }
    mean, left_out = means(values, MEAN_KEYS, "mean")
    mean = {key: NO_CLASS if isinstance(value, Missing) else value for key, value in mean.items()}
    notes = reasons({f"class {name!r}": by_key for name, by_key in values.items()})
    return {
        "per_class": {name: plain(by_key) for name, by_key in values.items()},
        "mean": plain(mean),
        "notes": [*notes, *left_out, *reasons({"mean": mean})],
    }


def _counts(anomalous: np.ndarray, scores: np.ndarray, thresholds: Sequence[float | None]) -> np.ndarray:
    """Images or pixels of each row (n, k), int64 (n, 4): anomalous and above the row's threshold, normal and above, anomalous, normal."""
    above = scores > np.array([np.nan if each is None else each for each in thresholds], np.float64)[:, None]
    hits, positive = (anomalous & above).sum(axis=1), anomalous.sum(axis=1)
    return np.stack((hits, above.sum(axis=1) - hits, positive, anomalous.shape[1] - positive), axis=1)


def _count_pixels(
    anomaly_maps: Iterable[np.ndarray],
    masks: Iterable[np.ndarray],
    has_mask: np.ndarray,
    thresholds: Sequence[float | None],
) -> np.ndarray:
    """Return the `_counts` of each image, int64 (N, 4)."""
    counts, done = [np.zeros((0, 4), np.int64)], 0
    try:
        for maps_nhw, masks_nhw in zip(anomaly_maps, masks, strict=True):
            if not np.isfinite(maps_nhw).all():
                raise InputError("anomaly_maps: NaN or infinite; they can be compared with no threshold")
            n, at = len(maps_nhw), slice(done, done + len(maps_nhw))
            marked = (masks_nhw != 0).reshape(n, -1) & has_mask[at, None]
            counts.append(_counts(marked, maps_nhw.reshape(n, -1), thresholds[at]))
            done += n
    except ValueError:
        raise InputError("anomaly_maps, masks: their batches do not fit to each other or to the images") from None
    if done != len(has_mask):
        raise InputError(f"anomaly_maps: {done} images, expected {len(has_mask)}, one for each label")
    return np.concatenate(counts)


def _level(
    level: str, threshold: float | None, counts: np.ndarray, without: str, no_anomalous: Missing
) -> dict[str, Value]:
    """Return the values of one level of one class by their keys; without a threshold for the reason `without`."""
    names, values = ("threshold", *LEVELS[level]), {}
    if threshold is None:
        values = dict.fromkeys(names, Missing(without))
    else:
        hits, false_alarms, anomalous, normal = counts.tolist()
        above, union = hits + false_alarms, anomalous + false_alarms
        values = {"threshold": threshold, **dict.fromkeys(names[2:], no_anomalous)}
        values["fpr"] = false_alarms / normal if normal else Missing(f"no normal {level}")
        if anomalous:
            values["precision"] = hits / above if above else Missing(f"no {level} is above the threshold")
            values |= {"recall": hits / anomalous, "f1": 2 * hits / (union + hits), "iou": hits / union}
    return {f"calibrated_{level}_{name}": values[name] for name in names}
