"""Connected regions of masks, and how much each of their pixels weighs.

PRO at a threshold is the mean over all connected regions of the fraction of the region that is positive. Each region weighs the same, so
a pixel weighs 1 / area of its region, and PRO is one cumulative sum along the ranking. Weights are whole multiples of 2 ** -bits, so
that their sums are exact and the order in which images come cannot change a single bit.
"""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def region_areas(masks_nhw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The area in pixels of each anomalous pixel's 8-connected region, and of each region.

    Runs of pixels in a row are joined to those that they touch in the row below: there are far fewer of them than pixels.

    Args:
        masks_nhw: bool (N, H, W). Regions of different images never connect.

    Returns:
        int32 (n_anomalous,), in the order of `masks_nhw[masks_nhw]`; and int32 (n_regions,).
    """
    images, height, width = masks_nhw.shape
    below = width + 1  # a column of False ends all runs of a row, a row of False each image
    padded = np.zeros((images, height + 1, below), bool)
    padded[:, :-1, :-1] = masks_nhw
    edges = np.flatnonzero(np.diff(padded.ravel(), prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    first, stop = np.searchsorted(ends, starts + below), np.searchsorted(starts, ends + below, side="right")
    touched = np.maximum(stop - first, 0)  # so many consecutive runs, corners included
    upper = np.repeat(np.arange(starts.size), touched)
    lower = np.arange(upper.size) + np.repeat(first - np.cumsum(touched) + touched, touched)
    pairs = coo_array((np.ones(upper.size, bool), (upper, lower)), shape=(starts.size, starts.size))
    count, region = connected_components(pairs, directed=False)
    lengths = ends - starts
    areas = np.bincount(region, lengths, count).astype(np.int32)
    return np.repeat(areas[region], lengths), areas


def weight_bits(regions: int) -> int:
    """As many bits as the weight of one region can have without an overflow of all regions' sum."""
    return 62 - regions.bit_length()


def fixed_point_weights(areas: np.ndarray, bits: int) -> np.ndarray:
    """1 / area as int64 multiples of 2 ** -bits, rounded: the sum over a region of area A is 1 within A * 2 ** -(bits + 1)."""
    areas = areas.astype(np.int64)
    return ((1 << bits) + areas // 2) // areas
