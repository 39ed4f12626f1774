"""`evaluate`: all metrics of both protocols for anybody's anomaly maps."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

from invad.errors import InputError
from invad.metrics import inputs
from invad.metrics.protocol import KEYS, PROTOCOL_VERSION, PROTOCOLS, Protocol, class_values, mean_over_classes
from invad.metrics.values import Missing, Value

LEFT_OUT = "have no mask and are left out of the pixel and region metrics"
"""What a note says of images of a class whose other anomalous images have masks."""


class Evaluation(TypedDict):
    """What `evaluate` returns; plain Python values, ready for JSON."""

    per_class: dict[str, dict[Protocol, dict[str, float | None]]]
    mean: dict[Protocol, dict[str, float | None]]
    notes: list[str]
    protocol_version: str


def evaluate(
    anomaly_maps: inputs.Stack,
    masks: inputs.Stack | None,
    classes: Sequence[str] | np.ndarray | None = None,
    labels: Sequence[int] | np.ndarray | None = None,
    image_scores: Sequence[float] | np.ndarray | None = None,
    protocol: Protocol | Sequence[Protocol] = ("paper", "exact"),
    has_mask: Sequence[bool] | np.ndarray | None = None,
) -> Evaluation:
    """The eleven metrics and four averages of arXiv:2404.10760 per class and in the mean over classes.

    Args:
        anomaly_maps: raw scores, higher is more anomalous, any finite numbers: (N, H, W) floating point or integers,
            as one array (a memory map is read one class at a time) or as an iterable of batches (n, H, W).
        masks: the same shape, or batches of any size in the same order. Bool; or integers that are only 0 and 1, or
            only 0 and 255 (anomalous where not 0; one class must not mix 1 and 255); or floating point in [0, 1]
            (anomalous where above 0.5). Nothing else. None: no image has one.
        classes: N class names; by default all images are one class "all".
        labels: the data set's own image labels (N,), 0 or 1, taken by the `exact` protocol. By default an image is
            anomalous when its mask has an anomalous pixel, which is what the `paper` protocol takes wherever there is a
            mask. Required where one is lacking.
        image_scores: (N,); by default the maximum of each map.
        protocol: one or both of "paper" (comparable to published numbers) and "exact".
        has_mask: (N,) bool; by default all True. Where False, the mask given is ignored: that of a normal image is
            empty; that of an anomalous one is not known, and the image is left out of the region and pixel metrics.

    Returns:
        `{"per_class": {class: {protocol: {key: value}}}, "mean": {protocol: {key: value}}, "notes": [...],
        "protocol_version": ...}` with classes sorted by name and keys as in `KEYS`. A value is a fraction in [0, 1],
        or None where it is not defined; `notes` then says why, naming class, protocol and keys, and which classes a
        mean leaves out. The order of images changes nothing.

    Raises:
        InputError: NaN or infinite scores (naming image and class), shapes or lengths that do not match, empty input,
            other mask values, masks that are lacking without labels, an unknown protocol.
    """
    protocols = _protocols(protocol)
    maps_nhw = inputs.stack(anomaly_maps, "anomaly_maps", "fiu")
    masks_nhw, with_mask = _masks(masks, has_mask, maps_nhw.shape)
    if maps_nhw.shape != masks_nhw.shape:
        raise InputError(f"masks: shape {masks_nhw.shape} differs from that of anomaly_maps, {maps_nhw.shape}")
    names = inputs.class_names(classes, len(maps_nhw))
    own_labels = None if labels is None else inputs.image_labels(labels, len(maps_nhw))
    if own_labels is None and not with_mask.all():
        raise InputError("labels: are required where an image has no mask")
    own_scores = None if image_scores is None else inputs.scores_of_images(image_scores, names)

    values: dict[str, dict[Protocol, dict[str, Value]]] = {}
    notes: list[str] = []
    for name in sorted(set(names.tolist())):
        index = np.flatnonzero(names == name)
        class_maps, class_masks = maps_nhw[index], masks_nhw[index]
        class_masks[~with_mask[index]] = 0  # on the copy that an index array makes
        class_masks = inputs.binary_masks(class_masks, index, name)
        inputs.require_finite_maps(class_maps, index, names)
        with_pixels = class_masks.any(axis=(1, 2))
        class_labels = with_pixels if own_labels is None else own_labels[index]
        class_scores = class_maps.max(axis=(1, 2)) if own_scores is None else own_scores[index]
        unknown = class_labels & ~with_mask[index]
        values[name] = class_values(class_maps, class_masks, class_labels, class_scores, unknown, protocols)
        notes += _disagreements(name, class_labels[~unknown], with_pixels[~unknown])
        notes += _without_mask(name, class_labels, unknown)
        notes += [note for p in protocols for note in _missing_notes(f"class {name!r}", p, values[name][p])]

    mean = {p: _mean({name: values[name][p] for name in values}, p, notes) for p in protocols}
    return {
        "per_class": {
            name: {p: _plain(by_key) for p, by_key in by_protocol.items()} for name, by_protocol in values.items()
        },
        "mean": mean,
        "notes": notes,
        "protocol_version": PROTOCOL_VERSION,
    }


def _masks(
    masks: inputs.Stack | None, has_mask: Sequence[bool] | np.ndarray | None, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """The masks (N, H, W), and bool (N,) which images have one; without any, empty ones of the maps' `shape`."""
    if masks is not None:
        return inputs.stack(masks, "masks", "biuf"), inputs.images_with_mask(has_mask, shape[0])
    if has_mask is not None:
        raise InputError("has_mask: must be left out where masks is None")
    return np.broadcast_to(False, shape), np.zeros(shape[0], dtype=bool)


def _protocols(protocol: Protocol | Sequence[Protocol]) -> tuple[Protocol, ...]:
    chosen = (protocol,) if isinstance(protocol, str) else tuple(protocol)
    if not chosen or any(p not in PROTOCOLS for p in chosen) or len(set(chosen)) != len(chosen):
        raise InputError(f"protocol: expected one or both of {', '.join(PROTOCOLS)}, got {protocol!r}")
    return chosen


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


def _disagreements(name: str, labels: np.ndarray, with_pixels: np.ndarray) -> list[str]:
    """Say where the two protocols take different image labels."""
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


def _without_mask(name: str, labels: np.ndarray, unknown: np.ndarray) -> list[str]:
    """Say how many anomalous images have no mask, and what becomes of them."""
    lacking, anomalous = int(np.sum(unknown)), int(np.sum(labels))
    notes = []
    if 0 < lacking < anomalous:
        notes.append(f"class {name!r}: {lacking} of {anomalous} anomalous images {LEFT_OUT}")
    if lacking:
        notes.append(
            f"class {name!r}: {lacking} image(s) without a mask take the data set's own label, anomalous, "
            "in the paper protocol's image metrics too"
        )
    return notes
