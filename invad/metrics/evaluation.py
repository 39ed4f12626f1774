"""`evaluate`: all metrics of both protocols for anybody's anomaly maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict

import numpy as np

from invad.metrics.curves import Curve
from invad.metrics.measure import Measured, rank_values, region_and_threshold_values
from invad.metrics.protocol import (
    KEYS,
    NO_MASK,
    PIXEL_KEYS,
    PROTOCOL_VERSION,
    PROTOCOLS,
    SAMPLE_KEYS,
    Protocol,
    Value,
    averages,
    checked_protocols,
    means,
    plain,
    reasons,
)
from invad.metrics.ranking import Ranking, Run, in_order
from invad.metrics.reading import Images, ImageTable, Stack, working


class Evaluation(TypedDict):
    """What `evaluate` returns; plain Python values, ready for JSON."""

    per_class: dict[str, dict[Protocol, dict[str, float | None]]]
    mean: dict[Protocol, dict[str, float | None]]
    notes: list[str]
    protocol_version: str
    curves: NotRequired[dict[str, dict[str, Curve]]]


@dataclass(frozen=True)
class _Result:
    """Of one class: the values of each protocol, what has to be said of them, and its curves."""

    values: dict[Protocol, dict[str, Value]]
    notes: list[str]
    curves: dict[str, Curve]


def evaluate(
    anomaly_maps: Stack,
    masks: Stack | None,
    classes: Sequence[str] | np.ndarray | None = None,
    labels: Sequence[int] | np.ndarray | None = None,
    image_scores: Sequence[float] | np.ndarray | None = None,
    protocol: Protocol | Sequence[Protocol] = PROTOCOLS,
    has_mask: Sequence[bool] | np.ndarray | None = None,
    *,
    groups: Sequence[str] | np.ndarray | None = None,
    curves: bool = False,
    empty_in_paper: Sequence[bool] | np.ndarray | None = None,
) -> Evaluation:
    """The eleven metrics and four averages of arXiv:2404.10760 per class and in the mean over classes.

    Images are read once and block by block, with as many threads as there are cores (at most four), and a class is forgotten as soon as
    all its images have come. Until then 2 bytes of each of its pixels are kept, and 1 to 4 more where it is anomalous; 8 bytes of scores
    that float32 cannot hold (doubles, and integers of 32 bits or more, of which doubles are made, unless it holds a whole block exactly).

    anomaly_maps: raw scores, higher is more anomalous, any finite numbers: (N, H, W) floating point or integers, as one array (a memory map
    is read block by block) or as an iterable of batches (n, H, W).
    masks: the same shape, or batches of any size in the same order. Bool; or integers that in an image are only 0 and 1, or only 0 and 255
    (anomalous where not 0); or floating point in [0, 1] (anomalous where above 0.5). Nothing else. None: no image has one.
    classes: N class names; by default all images are one class "all".
    labels: the data set's own image labels (N,), 0 or 1, taken by the `exact` protocol. By default an image is anomalous when its mask has
    an anomalous pixel, which is what the `paper` protocol takes wherever there is a mask. Required where one is lacking.
    image_scores: (N,); by default the maximum of each map.
    protocol: one or both of "paper" (comparable to published numbers) and "exact".
    has_mask: (N,) bool; by default all True. Where False, the mask given is ignored: that of a normal image is empty; that of an anomalous
    one is not known, and the image is left out of the region and pixel metrics.
    groups: (N,) the object (sample) that each image shows, a name within its class, "" for an image that stands alone. Where any object
    has several images, there are `SAMPLE_KEYS` too: a sample's score is the highest of its images', and it is anomalous where one of them
    is by `labels`, in both protocols.
    empty_in_paper: (N,) bool; by default all False. Where True, a mask that is not known is an empty one to the `paper` protocol: the
    pixels of the image are normal ones there. It stays an anomalous image.

    Returns `{"per_class": {class: {protocol: {key: value}}}, "mean": {protocol: {key: value}}, "notes": [...], "protocol_version": ...}`
    with classes sorted by name and keys as in `KEYS` (and `SAMPLE_KEYS`). A value is a fraction in [0, 1], or None where it is not
    defined; `notes` then says why, naming class, protocol and keys, and which classes a mean leaves out. The order of images and batches
    changes nothing.

    With `curves` also `"curves": {class: {curve: {column: [numbers]}}}`, as far as the data define them, of at most 1,000 points
    whose straight connections keep the area of all points within 1e-4: `image_roc` and `pixel_roc` (`false_positive_rate`,
    `true_positive_rate`), `image_pr` and `pixel_pr` (`recall`, `precision`, and `score`, the raw one at or above which an item is
    positive), `region_pro` (`false_positive_rate`, `region_overlap`) and `pixel_thresholds` (`threshold` 0, 0.01 ... 1 on scaled
    scores, `precision`, `recall`, `f1`, `iou`). Image curves take the labels of the `exact` protocol.

    `InputError`: NaN or infinite scores (naming image and class), shapes or lengths that do not match, empty input, other mask values,
    masks that are lacking without labels, an unknown protocol.
    """
    protocols = checked_protocols(protocol)
    given = classes, labels, image_scores, has_mask, empty_in_paper, groups
    table = ImageTable(anomaly_maps, masks, *given)
    keys = KEYS + SAMPLE_KEYS if table.has_samples else KEYS
    missing = table.class_sizes()
    waiting: dict[str, list[Images]] = {}
    results: dict[str, _Result] = {}
    for part in (of_class for prepared in in_order(table.prepared, table.blocks()) for of_class in prepared):
        waiting.setdefault(part.name, []).append(part)
        missing[part.name] = missing.get(part.name, 0) - part.labels.size
        if not missing[part.name]:
            results[part.name] = _class_result(waiting.pop(part.name), protocols, keys, curves=curves)
    results |= {name: _class_result(parts, protocols, keys, curves=curves) for name, parts in waiting.items()}
    return _evaluation(dict(sorted(results.items())), protocols, keys, curves=curves)


def _class_result(
    parts: Sequence[Images], protocols: Sequence[Protocol], keys: Sequence[str], *, curves: bool
) -> _Result:
    """The values of a class from all its images."""
    name, runs = parts[0].name, [part.pixels for part in parts if part.pixels.size]
    columns = ([getattr(part, column) for part in parts] for column in ("scores", "labels", "with_pixels", "unknown"))
    scores, labels, with_pixels, unknown = map(np.concatenate, columns)
    pixels = Measured(Ranking(runs, "pixel"), curves=curves) if runs else None
    if unknown.any() and not (labels & ~unknown).any():
        pixels = None  # no anomalous image has a mask
    of_samples: dict[str, Value] = {}
    if set(SAMPLE_KEYS) <= set(keys):
        _, highest, anomalous = samples(scores, labels, np.concatenate([part.groups for part in parts]))
        of_samples = rank_values(Measured(image_ranking(highest, anomalous, "sample")))
    empty = [part.empty for part in parts if part.empty.size]
    of_paper = Measured(Ranking([*runs, *empty], "pixel")) if pixels and empty and "paper" in protocols else pixels
    values: dict[Protocol, dict[str, Value]] = {}
    for protocol in protocols:
        exact = protocol == "exact"
        found = rank_values(Measured(image_ranking(scores, labels if exact else with_pixels | unknown)))
        if pixels is None:
            found |= dict.fromkeys(PIXEL_KEYS, NO_MASK)
        else:
            measured = pixels if exact or of_paper is None else of_paper
            found |= rank_values(measured) | region_and_threshold_values(measured, exact=exact)
        found |= averages(found) | of_samples
        values[protocol] = {key: found[key] for key in keys}
    notes = _notes(name, labels, with_pixels, unknown, "the exact protocol's" if of_paper is not pixels else "the")
    for protocol in protocols:
        notes += reasons({f"class {name!r}, protocol {protocol}": values[protocol]})
    found_curves: dict[str, Curve] = {}
    if curves:
        of_images = Measured(image_ranking(scores, labels), curves=True).curves
        found_curves = of_images | (pixels.curves if pixels else {})
    return _Result(values, notes, found_curves)


def image_ranking(scores: np.ndarray, labels: np.ndarray, unit: Literal["image", "sample"] = "image") -> Ranking:
    """The images or samples of a class by bool labels (n,)."""
    scores, areas = working(scores), np.ones(int(labels.sum()), np.int32)
    return Ranking([Run.of(scores[~labels], scores[labels], areas, areas)], unit)


def samples(scores: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The objects (samples) that images (n,) of a class show; an image without a group is an object by itself.

    Return int (n,), which one each image shows; and the highest score of each one's images, and whether one of these is anomalous, (s,).
    """
    names = [(group, -1) if group else ("", number) for number, group in enumerate(groups.tolist())]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    sample = np.array([numbers[name] for name in names])
    highest, anomalous = np.full(len(numbers), scores.min()), np.zeros(len(numbers), bool)
    np.maximum.at(highest, sample, scores)
    np.logical_or.at(anomalous, sample, labels)
    return sample, highest, anomalous


def _notes(name: str, own_labels: np.ndarray, with_pixels: np.ndarray, unknown: np.ndarray, whose: str) -> list[str]:
    """Say where the two protocols take different image labels, how many anomalous images have no mask, and `whose` metrics lack them."""
    labels, with_pixels = own_labels & ~unknown, with_pixels & ~unknown
    lost, stray = int(np.sum(labels & ~with_pixels)), int(np.sum(~labels & with_pixels))
    lacking, anomalous = int(np.sum(unknown)), int(np.sum(own_labels))
    notes = {
        f"{lost} image(s) labelled anomalous have no anomalous pixel: "
        "normal in the paper protocol's image metrics, anomalous in the exact protocol's": lost,
        f"{stray} image(s) labelled normal have anomalous pixels: "
        "anomalous in the paper protocol's image metrics, normal in the exact protocol's": stray,
        f"{lacking} of {anomalous} anomalous images have no mask and are left out of {whose} pixel and region metrics": (
            0 < lacking < anomalous
        ),
        f"{lacking} image(s) without a mask take the data set's own label, anomalous, "
        "in the paper protocol's image metrics too": lacking,
    }
    return [f"class {name!r}: {note}" for note, applies in notes.items() if applies]


def _evaluation(
    classes: Mapping[str, _Result], protocols: Sequence[Protocol], keys: Sequence[str], *, curves: bool
) -> Evaluation:
    """All classes and their mean."""
    notes = [note for of_class in classes.values() for note in of_class.notes]
    mean = {}
    for protocol in protocols:
        where = f"mean, protocol {protocol}"
        values, left_out = means({name: result.values[protocol] for name, result in classes.items()}, keys, where)
        mean[protocol] = plain(values)
        notes += [*left_out, *reasons({where: values})]
    result: Evaluation = {
        "per_class": {name: {p: plain(each.values[p]) for p in protocols} for name, each in classes.items()},
        "mean": mean,
        "notes": notes,
        "protocol_version": PROTOCOL_VERSION,
    }
    if curves:
        result["curves"] = {name: each.curves for name, each in classes.items()}
    return result
