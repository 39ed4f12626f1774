"""What a metric returns: a number, or the reason why there is none."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Missing:
    """Stands where a metric is not defined for the data at hand; `reason` completes "not available: ..."."""

    reason: str


NO_MASK = Missing("no anomalous image has a mask")

Value = float | Missing
"""A fraction in [0, 1], or the reason why there is none. Never NaN."""
