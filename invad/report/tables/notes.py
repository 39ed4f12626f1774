"""What the evaluation said about values, as footnotes: why one is missing, and what a mean leaves out."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from invad.metrics.results import LEFT_OUT
from invad.report.labels import METRICS, PROTOCOLS

NO_REASON = "not available; the evaluation recorded no reason"
NOT_AVAILABLE = ": not available: "  # stands between what a note of the evaluation is about and the reason


def missing_reasons(
    value: float | None, notes: Sequence[str], required: Sequence[str], preferred: Sequence[str]
) -> tuple[str, ...]:
    """Why a value is missing: the notes that name all `required` words, narrowed by each of `preferred` that any of them names.

    Only the reason of a note is kept: the cell's place tells class, protocol and metric. Empty when the value is there; `NO_REASON`
    when no note fits.
    """
    if value is not None:
        return ()
    notes = [note for note in notes if all(_names(note, word) for word in required)]
    for word in preferred:
        notes = [note for note in notes if _names(note, word)] or notes
    return tuple(dict.fromkeys(_reason(note) for note in notes)) or (NO_REASON,)


def _names(note: str, word: str) -> bool:
    """Whether a note is about `word`; a reason ("not available: needs pixel_ap") may name other values."""
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", note.partition(NOT_AVAILABLE)[0]) is not None


def _reason(note: str) -> str:
    _, separator, reason = note.partition(NOT_AVAILABLE)
    return f"not available: {reason}." if separator else note


def class_reasons(metrics: Mapping[str, Any], class_name: str, protocol: str, key: str) -> tuple[str, ...]:
    """Why the value of a class is missing; or that it lacks some images, where it needs masks that are not there."""
    where, notes = f"class {class_name!r}", metrics["notes"]
    value = metrics["per_class"][class_name][protocol][key]
    reasons = missing_reasons(value, notes, [where, key], [f"{where}, protocol {protocol}", protocol])
    return reasons or _left_out(key, where, notes)


def mean_reasons(metrics: Mapping[str, Any], protocol: str, key: str) -> tuple[str, ...]:
    """Why the mean over the classes is missing; or which classes are missing from it."""
    value, per_class = metrics["mean"][protocol][key], metrics["per_class"]
    if value is None:
        return missing_reasons(value, metrics["notes"], [key], [f"mean, protocol {protocol}", protocol])
    missing = [name for name, protocols in per_class.items() if protocols[protocol][key] is None]
    if not missing:
        return ()
    return (f"mean of {len(per_class) - len(missing)} of {len(per_class)} classes, without {', '.join(missing)}.",)


def _left_out(key: str, where: str, notes: Sequence[str]) -> tuple[str, ...]:
    """The note that a metric which needs masks lacks some images of a class."""
    if key.startswith("image_") or key == "mad_image":
        return ()
    return tuple(note for note in notes if note.startswith(f"{where}:") and note.endswith(LEFT_OUT))


def merged_notes(notes: Sequence[str]) -> list[str]:
    """The notes of the evaluation; what it says of both protocols in the same words is said once."""
    paper, exact = (f", protocol {protocol}: " for protocol in PROTOCOLS)
    merged = []
    for note in notes:
        if paper in note and note.replace(paper, exact) in notes:
            merged.append(note.replace(paper, ", both protocols: "))
        elif exact not in note or note.replace(exact, paper) not in notes:
            merged.append(note)
    return merged


def unexplained_values(metrics: Mapping[str, Any]) -> list[str]:
    """One sentence per class, mean and protocol for the values that are not available without a note that says so.

    metrics: content of `reports/metrics/<benchmark>.json`.
    """
    sentences = []
    for protocol in PROTOCOLS:
        reasons = {
            name: {metric.key: class_reasons(metrics, name, protocol, metric.key) for metric in METRICS}
            for name in metrics["per_class"]
        }
        reasons["mean"] = {metric.key: mean_reasons(metrics, protocol, metric.key) for metric in METRICS}
        for name, by_key in reasons.items():
            if keys := [key for key, given in by_key.items() if NO_REASON in given]:
                sentences.append(f"{name}, protocol {protocol}: {', '.join(keys)}: {NO_REASON}")
    return sentences
