"""Anomaly maps and segments -> the numbers that SegAD's trees see (arXiv:2405.04953, section 3; spec of SegAD, features)."""

from collections.abc import Sequence

import numpy as np

STATISTICS = ("q995", "skewness", "kurtosis", "mean")
QUANTILE = 0.995
EQUAL = 1e-15  # a segment whose deviation is no larger than this times its mean has no shape: scipy's rule of float64


def feature_names(detectors: int, segments: int, *, maxima: bool = True) -> list[str]:
    """Return the names of the columns of `image_features`, in their order, such as `segment0_q995_detector1`."""
    names = [
        f"segment{segment}_{statistic}_detector{detector}"
        for segment in range(segments)
        for detector in range(detectors)
        for statistic in STATISTICS
    ]
    return names + [f"maximum_detector{detector}" for detector in range(detectors) if maxima]


def image_features(
    anomaly_maps: Sequence[np.ndarray], label_map: np.ndarray, segments: int, *, maxima: bool = True
) -> np.ndarray:
    """Return the features of one image, float64 (4 * K * L + K,), without `maxima` (4 * K * L,).

    anomaly_maps: of K detectors, (H, W). label_map: integers (H, W); the pixels of 0 to L - 1 are those of a segment, others count nowhere
    but in the maxima. Of a segment without a pixel all is 0; of one of equal values skewness and kurtosis are NaN, for the trees to
    take as missing.
    """
    maps = [np.asarray(each, np.float64) for each in anomaly_maps]
    found = [_statistics(each[label_map == segment]) for segment in range(segments) for each in maps]
    largest = [[each.max() for each in maps]] if maxima else []
    return np.concatenate([*found, *largest])


def _statistics(values: np.ndarray) -> np.ndarray:
    """Return the four numbers of a segment's values, float64 (n,): population moments, excess kurtosis."""
    if not values.size:
        return np.zeros(len(STATISTICS))
    mean = values.mean()
    squares = (values - mean) ** 2
    variance = squares.mean()
    skewness = kurtosis = np.nan
    if variance > (EQUAL * mean) ** 2:
        skewness = (squares * (values - mean)).mean() / variance**1.5
        kurtosis = (squares**2).mean() / variance**2 - 3
    return np.array([np.quantile(values, QUANTILE), skewness, kurtosis, mean])
