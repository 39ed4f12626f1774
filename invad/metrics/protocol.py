"""The two protocols: which label, threshold set and area each takes, the averages of a class, the mean over classes."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from invad.metrics.ranking import Ranking, auroc, average_precision, f1_max, iou_max, rank
from invad.metrics.region import aupro_exact, aupro_paper, region_weights
from invad.metrics.thresholds import sampled_maxima, threshold_family
from invad.metrics.values import NO_MASK, Missing, Value

PROTOCOL_VERSION = "1"
"""Changes whenever a definition changes, so that numbers are only ever compared like with like."""

Protocol = Literal["paper", "exact"]
PROTOCOLS: tuple[Protocol, ...] = ("paper", "exact")

AVERAGES = {
    "mad_image": ("image_auroc", "image_ap", "image_f1_max"),
    "mad_pixel": ("pixel_auroc", "pixel_ap", "pixel_f1_max"),
    "mad_threshold": ("pixel_mf1", "pixel_macc", "pixel_miou"),
    "mad": (
        "image_auroc",
        "image_ap",
        "image_f1_max",
        "region_aupro",
        "pixel_auroc",
        "pixel_ap",
        "pixel_f1_max",
    ),
}
"""Each average's parts, all of equal weight."""

KEYS = (
    "image_auroc",
    "image_ap",
    "image_f1_max",
    "region_aupro",
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1_max",
    "pixel_mf1",
    "pixel_macc",
    "pixel_miou",
    "pixel_iou_max",
    *AVERAGES,
)
"""All metrics in the order of tables."""
PIXEL_KEYS = tuple(key for key in KEYS if key.startswith(("region_", "pixel_")))
"""The metrics that need masks."""


def class_values(
    maps_nhw: np.ndarray,
    masks_nhw: np.ndarray,
    labels: np.ndarray,
    image_scores: np.ndarray,
    unknown: np.ndarray,
    protocols: Sequence[Protocol] = PROTOCOLS,
) -> dict[Protocol, dict[str, Value]]:
    """All metrics of one class, keys in the order of `KEYS`.

    Maps (N, H, W) are finite raw scores, masks (N, H, W) bool, labels (N,) bool, the data set's own, image scores (N,)
    finite, unknown (N,) bool: anomalous images whose mask is not known.
    """
    pixel_values = _pixel_values(maps_nhw, masks_nhw, labels, unknown, protocols)
    image_labels = {"paper": masks_nhw.any(axis=(1, 2)) | unknown, "exact": labels}
    result = {}
    for protocol in protocols:
        images = rank(image_scores, image_labels[protocol], "image")
        values = {
            "image_auroc": auroc(images),
            "image_ap": average_precision(images),
            "image_f1_max": f1_max(images),
            **pixel_values[protocol],
        }
        values |= {key: _average(values, parts) for key, parts in AVERAGES.items()}
        result[protocol] = {key: values[key] for key in KEYS}
    return result


def _pixel_values(
    maps_nhw: np.ndarray,
    masks_nhw: np.ndarray,
    labels: np.ndarray,
    unknown: np.ndarray,
    protocols: Sequence[Protocol],
) -> dict[Protocol, dict[str, Value]]:
    """The metrics of `PIXEL_KEYS` of the images whose mask is known; what the protocols share is computed once."""
    if unknown.any():
        if not np.any(labels & ~unknown):
            return {protocol: dict.fromkeys(PIXEL_KEYS, NO_MASK) for protocol in protocols}
        maps_nhw, masks_nhw = maps_nhw[~unknown], masks_nhw[~unknown]
    pixels = rank(maps_nhw, masks_nhw, "pixel", region_weights(masks_nhw))
    shared = {
        "pixel_auroc": auroc(pixels),
        "pixel_ap": average_precision(pixels),
        **threshold_family(pixels),
    }
    return {protocol: {**shared, **_own_pixel_metrics(pixels, protocol)} for protocol in protocols}


def _own_pixel_metrics(pixels: Ranking, protocol: Protocol) -> dict[str, Value]:
    if protocol == "paper":
        f1, iou = sampled_maxima(pixels)
        return {"region_aupro": aupro_paper(pixels), "pixel_f1_max": f1, "pixel_iou_max": iou}
    return {"region_aupro": aupro_exact(pixels), "pixel_f1_max": f1_max(pixels), "pixel_iou_max": iou_max(pixels)}


def _average(values: Mapping[str, Value], parts: Sequence[str]) -> Value:
    missing = [key for key in parts if isinstance(values[key], Missing)]
    if not missing:
        return math.fsum(values[key] for key in parts) / len(parts)
    if all(values[key] == NO_MASK for key in missing):
        return NO_MASK  # says more than which parts are lacking
    return Missing(f"needs {', '.join(missing)}")


def mean_over_classes(values: Mapping[str, Value]) -> tuple[Value, list[str]]:
    """The unweighted mean over the classes that have the value, and the names of the classes left out."""
    present = [value for value in values.values() if not isinstance(value, Missing)]
    left_out = [name for name, value in values.items() if isinstance(value, Missing)]
    if not present:
        # a reason that all classes share says more than that no class has it
        return values[left_out[0]] if len(set(values.values())) == 1 else Missing("no class has it"), left_out
    return math.fsum(present) / len(present), left_out
