"""The names of the metrics and of the two protocols, the averages of a class, the mean over classes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from invad.errors import InputError


@dataclass(frozen=True)
class Missing:
    """Stands where a metric is not defined for the data at hand; `reason` completes "not available: ..."."""

    reason: str


NO_MASK = Missing("no anomalous image has a mask")

Value = float | Missing
"""A fraction in [0, 1], or the reason why there is none. Never NaN."""

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


def checked_protocols(protocol: Protocol | Sequence[Protocol]) -> tuple[Protocol, ...]:
    """One or both protocols as a tuple; anything else is an `InputError`."""
    chosen = (protocol,) if isinstance(protocol, str) else tuple(protocol)
    if not chosen or any(p not in PROTOCOLS for p in chosen) or len(set(chosen)) != len(chosen):
        raise InputError(f"protocol: expected one or both of {', '.join(PROTOCOLS)}, got {protocol!r}")
    return chosen


def averages(values: Mapping[str, Value]) -> dict[str, Value]:
    """The four averages of one class or mean."""
    return {key: _average(values, parts) for key, parts in AVERAGES.items()}


def _average(values: Mapping[str, Value], parts: Sequence[str]) -> Value:
    missing = [key for key in parts if isinstance(values[key], Missing)]
    if not missing:
        return math.fsum(value for key in parts if not isinstance(value := values[key], Missing)) / len(parts)
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
