"""AU-PRO: the per-region overlap against the false positive rate, up to a rate of 0.3.

PRO at a threshold is the mean over all connected regions of the fraction of the region that is positive. Each region
weighs the same, so a pixel weighs 1 / (number of regions * area of its region) and PRO is one cumulative sum along the
ranking.
"""

import numpy as np
from scipy import ndimage

from invad.metrics.ranking import Ranking
from invad.metrics.thresholds import counts_above
from invad.metrics.values import Missing, Value

FALSE_POSITIVE_RATE_LIMIT = 0.3
PAPER_THRESHOLDS = tuple(k / 100 for k in range(100))
"""0, 0.01 ... 0.99 on scaled scores: equally spaced from the lowest score up to but not including the highest."""
EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


def region_weights(masks_nhw: np.ndarray) -> np.ndarray:
    """1 / area of each anomalous pixel's 8-connected region: (n_anomalous,), in the order of `masks_nhw[masks_nhw]`."""
    weights = [np.empty(0)]
    for mask in masks_nhw:
        if mask.any():
            regions, _ = ndimage.label(mask, structure=EIGHT_CONNECTED)
            inside = regions[mask]
            weights.append(1.0 / np.bincount(inside)[inside])
    return np.concatenate(weights)


def aupro_exact(pixels: Ranking) -> Value:
    """AU-PRO over all thresholds: linear between distinct scores and at the limit, the area divided by the limit.

    `pixels` must have been ranked with `region_weights`.
    """
    if missing := pixels.lacking(normal=True):
        return missing
    # between two distinct anomalous scores the curve runs flat; the pixels tied at one score make a straight line
    overlap = pixels.share[pixels.true_positives]
    x = np.concatenate(
        ([0], np.stack((pixels.false_positives_above, pixels.false_positives), axis=1).ravel(), [pixels.normal.size])
    )
    y = np.concatenate(([0.0, 0.0], np.repeat(overlap, 2)))
    limit = FALSE_POSITIVE_RATE_LIMIT * pixels.normal.size
    inside = int(np.searchsorted(x, limit, side="right"))
    x_inside, y_inside = x[:inside].astype(np.float64), y[:inside]
    # x ends at n_normal, beyond the limit: there is a next point
    fraction = (limit - x[inside - 1]) / (x[inside] - x[inside - 1])
    y_limit = y[inside - 1] + fraction * (y[inside] - y[inside - 1])
    area = np.trapezoid(np.append(y_inside, y_limit), np.append(x_inside, limit))
    return min(float(area / limit), 1.0)  # rounding alone could pass 1


def aupro_paper(pixels: Ranking) -> Value:
    """AU-PRO of the published numbers: `PAPER_THRESHOLDS`, positive strictly above, points with a rate below the limit.

    Their rates are rescaled to [0, 1] by their own minimum and maximum, then the trapezoid rule. Where the kept points
    all have one rate (a constant map, or a map without a single false positive) that rescaling is 0 / 0 and the value
    is missing. `pixels` must have been ranked with `region_weights`.
    """
    if missing := pixels.lacking(normal=True):
        return missing
    true_positives, false_positives = counts_above(pixels, PAPER_THRESHOLDS)
    rate = false_positives / pixels.normal.size
    kept = rate < FALSE_POSITIVE_RATE_LIMIT
    rate, overlap = rate[kept][::-1], pixels.share[true_positives[kept]][::-1]
    if not rate.size or rate[0] == rate[-1]:
        return Missing("fewer than two false positive rates below the limit, so they cannot be rescaled")
    return min(float(np.trapezoid(overlap, (rate - rate[0]) / (rate[-1] - rate[0]))), 1.0)
