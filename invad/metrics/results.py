"""From what was measured of each class to the structure that `evaluate` returns: values, means and notes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import numpy as np

from invad.metrics.class_scores import ImageScores, image_ranking
from invad.metrics.curves import Curve
from invad.metrics.measure import Measured, errors, measure, rank_values, region_and_threshold_values
from invad.metrics.protocol import KEYS, PIXEL_KEYS, PROTOCOL_VERSION, Protocol, averages, mean_over_classes
from invad.metrics.values import NO_MASK, Missing, Value

LEFT_OUT = "have no mask and are left out of the pixel and region metrics"
"""What a note says of images of a class whose other anomalous images have masks."""
ERROR_LIMIT, AUPRO_ERROR_LIMIT = 1e-6, 1e-4
"""A metric that may be off by more is computed again from scores that are not rounded; where that cannot be, a note says so."""


class Evaluation(TypedDict):
    """What `evaluate` returns; plain Python values, ready for JSON."""

    per_class: dict[str, dict[Protocol, dict[str, float | None]]]
    mean: dict[Protocol, dict[str, float | None]]
    notes: list[str]
    protocol_version: str
    curves: NotRequired[dict[str, dict[str, Curve]]]


@dataclass(frozen=True)
class ClassResult:
    """Of one class: the values of each protocol, what has to be said of them, and its curves."""

    values: dict[Protocol, dict[str, Value]]
    notes: list[str]
    curves: dict[str, Curve]


def doubtful(pixels: Measured, protocols: Sequence[Protocol]) -> dict[str, float]:
    """The metrics that may be off by more than the limit because scores were rounded, and by how much."""
    worst: dict[str, float] = {}
    for protocol in protocols:
        for key, error in errors(pixels, exact=protocol == "exact").items():
            if error > (AUPRO_ERROR_LIMIT if key == "region_aupro" else ERROR_LIMIT):
                worst[key] = max(error, worst.get(key, 0.0))
    return worst


def class_result(
    name: str, pixels: Measured | None, images: ImageScores, protocols: Sequence[Protocol], *, curves: bool
) -> ClassResult:
    """The values of a class; `pixels` is None where no image has a known mask."""
    labels = {"paper": images.with_pixels | images.unknown, "exact": images.labels}
    no_mask = bool(images.unknown.any()) and not (images.labels & ~images.unknown).any()
    values: dict[Protocol, dict[str, Value]] = {}
    for protocol in protocols:
        ranked, totals = image_ranking(images.scores, labels[protocol])
        found = rank_values(measure([ranked], totals))
        if pixels is None or no_mask:
            found |= dict.fromkeys(PIXEL_KEYS, NO_MASK)
        else:
            exact = protocol == "exact"
            found |= rank_values(pixels) | region_and_threshold_values(pixels, exact=exact)
        found |= averages(found)
        values[protocol] = {key: found[key] for key in KEYS}
    notes = _disagreements(name, images) + _without_mask(name, images)
    if pixels is not None:
        notes += _rounding(name, doubtful(pixels, protocols))
    notes += [note for protocol in protocols for note in _missing_notes(f"class {name!r}", protocol, values[protocol])]
    found_curves: dict[str, Curve] = {}
    if curves:
        ranked, totals = image_ranking(images.scores, images.labels)
        found_curves = measure([ranked], totals, curves=True).curves
        if pixels is not None and not no_mask:
            found_curves |= pixels.curves
    return ClassResult(values, notes, found_curves)


def evaluation(classes: Mapping[str, ClassResult], protocols: Sequence[Protocol], *, curves: bool) -> Evaluation:
    """All classes, sorted by name, and their mean."""
    names = sorted(classes)
    notes = [note for name in names for note in classes[name].notes]
    mean = {p: _mean({name: classes[name].values[p] for name in names}, p, notes) for p in protocols}
    result: Evaluation = {
        "per_class": {name: {p: _plain(classes[name].values[p]) for p in protocols} for name in names},
        "mean": mean,
        "notes": notes,
        "protocol_version": PROTOCOL_VERSION,
    }
    if curves:
        result["curves"] = {name: classes[name].curves for name in names}
    return result


def _plain(values: Mapping[str, Value]) -> dict[str, float | None]:
    return {key: None if isinstance(value, Missing) else value for key, value in values.items()}


def _mean(values: Mapping[str, Mapping[str, Value]], protocol: Protocol, notes: list[str]) -> dict[str, float | None]:
    """The mean of each key over classes; appends to `notes` what it lacks."""
    means: dict[str, Value] = {}
    keys_without: dict[tuple[str, ...], list[str]] = {}
    for key in KEYS:
        means[key], left_out = mean_over_classes({name: by_key[key] for name, by_key in values.items()})
        if left_out and not isinstance(means[key], Missing):
            keys_without.setdefault(tuple(left_out), []).append(key)
    for left_out, keys in keys_without.items():
        classes = ", ".join(repr(name) for name in left_out)
        notes.append(f"mean, protocol {protocol}: {', '.join(keys)}: left out of the mean: class {classes}")
    notes += _missing_notes("mean", protocol, means)
    return _plain(means)


def _missing_notes(where: str, protocol: Protocol, values: Mapping[str, Value]) -> list[str]:
    """One note for each reason, with all keys that it explains."""
    by_reason: dict[str, list[str]] = {}
    for key, value in values.items():
        if isinstance(value, Missing):
            by_reason.setdefault(value.reason, []).append(key)
    return [
        f"{where}, protocol {protocol}: {', '.join(keys)}: not available: {reason}"
        for reason, keys in by_reason.items()
    ]


def _disagreements(name: str, images: ImageScores) -> list[str]:
    """Say where the two protocols take different image labels."""
    labels, with_pixels = images.labels[~images.unknown], images.with_pixels[~images.unknown]
    lost, stray = int(np.sum(labels & ~with_pixels)), int(np.sum(~labels & with_pixels))
    notes = []
    if lost:
        notes.append(
            f"class {name!r}: {lost} image(s) labelled anomalous have no anomalous pixel: "
            "normal in the paper protocol's image metrics, anomalous in the exact protocol's"
        )
    if stray:
        notes.append(
            f"class {name!r}: {stray} image(s) labelled normal have anomalous pixels: "
            "anomalous in the paper protocol's image metrics, normal in the exact protocol's"
        )
    return notes


def _without_mask(name: str, images: ImageScores) -> list[str]:
    """Say how many anomalous images have no mask, and what becomes of them."""
    lacking, anomalous = int(np.sum(images.unknown)), int(np.sum(images.labels))
    notes = []
    if 0 < lacking < anomalous:
        notes.append(f"class {name!r}: {lacking} of {anomalous} anomalous images {LEFT_OUT}")
    if lacking:
        notes.append(
            f"class {name!r}: {lacking} image(s) without a mask take the data set's own label, anomalous, "
            "in the paper protocol's image metrics too"
        )
    return notes


def _rounding(name: str, errors: Mapping[str, float]) -> list[str]:
    """Say which values the histogram's bins may have changed."""
    if not errors:
        return []
    bounds = ", ".join(f"{key} by up to {error:.1g}" for key, error in errors.items())
    return [
        f"class {name!r}: it has more different scores than are kept apart; may be off: {bounds} "
        "(exact when the maps are given as an array, or as batches that can be read again)"
    ]
