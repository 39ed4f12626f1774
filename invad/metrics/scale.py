"""Scores scaled to [0, 1] by the minimum and maximum over all pixels of a class."""

import math
from collections.abc import Callable


def scaler(lowest: float, highest: float) -> Callable[[float], float]:
    """The map from a score to [0, 1] in double precision; every score becomes 0 when lowest and highest are equal."""
    lowest, highest = float(lowest), float(highest)
    # the difference of two huge scores may overflow
    factor = 1.0 if math.isfinite(highest - lowest) else 0.5
    span = highest * factor - lowest * factor
    if span == 0:
        return lambda score: 0.0
    return lambda score: (float(score) * factor - lowest * factor) / span
