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

_IMAGE = ("image_auroc", "image_ap", "image_f1_max")
_PIXEL = ("pixel_auroc", "pixel_ap", "pixel_f1_max")
_FAMILY = ("pixel_mf1", "pixel_macc", "pixel_miou")
AVERAGES = {
    "mad_image": _IMAGE,
    "mad_pixel": _PIXEL,
    "mad_threshold": _FAMILY,
    "mad": (*_IMAGE, "region_aupro", *_PIXEL),
}
"""Each average's parts, all of equal weight."""

KEYS = (*AVERAGES["mad"], *_FAMILY, "pixel_iou_max", *AVERAGES)
"""All metrics in the order of tables."""
SAMPLE_KEYS = ("sample_auroc", "sample_ap", "sample_f1_max")
"""Further metrics, where objects (samples) are seen in several images."""
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


def means(
    values: Mapping[str, Mapping[str, Value]], keys: Sequence[str], where: str
) -> tuple[dict[str, Value], list[str]]:
    """The unweighted mean of each key over the classes that have it, and notes of those that it leaves out, which begin with `where`.

    values: class -> key -> value.
    """
    mean: dict[str, Value] = {}
    left_out: dict[tuple[str, ...], list[str]] = {}
    for key in keys:
        present = [value for by_key in values.values() if not isinstance(value := by_key[key], Missing)]
        absent = tuple(name for name, by_key in values.items() if isinstance(by_key[key], Missing))
        if present:
            mean[key] = math.fsum(present) / len(present)
        else:  # a reason that all classes share says more than that no class has it
            reasons = {by_key[key] for by_key in values.values()}
            mean[key] = reasons.pop() if len(reasons) == 1 else Missing("no class has it")
        if present and absent:
            left_out.setdefault(absent, []).append(key)
    return mean, [
        f"{where}: {', '.join(lacking)}: left out of the mean: class {', '.join(map(repr, absent))}"
        for absent, lacking in left_out.items()
    ]


def plain(values: Mapping[str, Value]) -> dict[str, float | None]:
    """None for what is missing."""
    return {key: None if isinstance(value, Missing) else value for key, value in values.items()}


def reasons(values: Mapping[str, Mapping[str, Value]]) -> list[str]:
    """Return a note for each reason and the keys that it explains, naming all classes (or the mean) that lack them."""
    grouped: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for where, by_key in values.items():
        for reason in dict.fromkeys(value.reason for value in by_key.values() if isinstance(value, Missing)):
            keys = tuple(key for key, value in by_key.items() if value == Missing(reason))
            grouped.setdefault((keys, reason), []).append(where)
    return [
        f"{', '.join(places)}: {', '.join(keys)}: not available: {reason}" for (keys, reason), places in grouped.items()
    ]
