"""From what was measured of each class to the structure that `evaluate` returns: values, means and notes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import numpy as np

from invad.metrics.curves import Curve
from invad.metrics.inputs import one_mask_value
from invad.metrics.measure import measure, rank_values, region_and_threshold_values
from invad.metrics.protocol import (
    KEYS,
    NO_MASK,
    PIXEL_KEYS,
    PROTOCOL_VERSION,
    Protocol,
    Value,
    averages,
    means,
    plain,
    reasons,
)
from invad.metrics.ranking import Ranking
from invad.metrics.reading import ClassBlock
from invad.metrics.runs import Run, working_type

LEFT_OUT = "have no mask and are left out of the pixel and region metrics"
"""What a note says of images of a class whose other anomalous images have masks."""


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


class _Images:
    """All images of a class, (n,) each; see `ClassBlock`."""

    def __init__(self, blocks: Sequence[ClassBlock]) -> None:
        self.scores = np.concatenate([block.scores for block in blocks])
        self.labels = np.concatenate([block.labels for block in blocks])
        self.with_pixels = np.concatenate([block.with_pixels for block in blocks])
        self.unknown = np.concatenate([block.unknown for block in blocks])

    def ranking(self, labels: np.ndarray) -> Ranking:
        """By bool labels (n,)."""
        scores = self.scores.astype(working_type(self.scores.dtype), copy=False)
        areas = np.ones(int(labels.sum()), np.int32)
        return Ranking([Run.of(scores[~labels], scores[labels], areas, areas)], "image")


def class_result(
    name: str, blocks: Sequence[ClassBlock], protocols: Sequence[Protocol], *, curves: bool
) -> ClassResult:
    """The values of a class from all its images; `InputError` where its integer masks have 1 and 255 for anomalous."""
    one_mask_value(frozenset().union(*(block.mask_values for block in blocks)), name)
    images, runs = _Images(blocks), [block.pixels for block in blocks if block.pixels.size]
    labels = {"paper": images.with_pixels | images.unknown, "exact": images.labels}
    pixels = measure(Ranking(runs, "pixel"), curves=curves) if runs else None
    if images.unknown.any() and not (images.labels & ~images.unknown).any():
        pixels = None  # no anomalous image has a mask
    values: dict[Protocol, dict[str, Value]] = {}
    for protocol in protocols:
        found = rank_values(measure(images.ranking(labels[protocol])))
        if pixels is None:
            found |= dict.fromkeys(PIXEL_KEYS, NO_MASK)
        else:
            found |= rank_values(pixels) | region_and_threshold_values(pixels, exact=protocol == "exact")
        found |= averages(found)
        values[protocol] = {key: found[key] for key in KEYS}
    notes = _notes(name, images)
    notes += [
        note for protocol in protocols for note in reasons({f"class {name!r}, protocol {protocol}": values[protocol]})
    ]
    found_curves: dict[str, Curve] = {}
    if curves:
        found_curves = measure(images.ranking(images.labels), curves=True).curves | (pixels.curves if pixels else {})
    return ClassResult(values, notes, found_curves)


def evaluation(classes: Mapping[str, ClassResult], protocols: Sequence[Protocol], *, curves: bool) -> Evaluation:
    """All classes, sorted by name, and their mean."""
    names = sorted(classes)
    notes = [note for name in names for note in classes[name].notes]
    mean = {}
    for protocol in protocols:
        values, left_out = means(
            {name: classes[name].values[protocol] for name in names}, KEYS, f"mean, protocol {protocol}"
        )
        mean[protocol] = plain(values)
        notes += [*left_out, *reasons({f"mean, protocol {protocol}": values})]
    result: Evaluation = {
        "per_class": {name: {p: plain(classes[name].values[p]) for p in protocols} for name in names},
        "mean": mean,
        "notes": notes,
        "protocol_version": PROTOCOL_VERSION,
    }
    if curves:
        result["curves"] = {name: classes[name].curves for name in names}
    return result


def _notes(name: str, images: _Images) -> list[str]:
    """Say where the two protocols take different image labels, how many anomalous images have no mask, and what becomes of them."""
    labels, with_pixels = images.labels & ~images.unknown, images.with_pixels & ~images.unknown
    lost, stray = int(np.sum(labels & ~with_pixels)), int(np.sum(~labels & with_pixels))
    lacking, anomalous = int(np.sum(images.unknown)), int(np.sum(images.labels))
    notes = {
        f"{lost} image(s) labelled anomalous have no anomalous pixel: "
        "normal in the paper protocol's image metrics, anomalous in the exact protocol's": lost,
        f"{stray} image(s) labelled normal have anomalous pixels: "
        "anomalous in the paper protocol's image metrics, normal in the exact protocol's": stray,
        f"{lacking} of {anomalous} anomalous images {LEFT_OUT}": 0 < lacking < anomalous,
        f"{lacking} image(s) without a mask take the data set's own label, anomalous, "
        "in the paper protocol's image metrics too": lacking,
    }
    return [f"class {name!r}: {note}" for note, applies in notes.items() if applies]
