"""Connected regions of masks, and how much each of their pixels weighs.

PRO at a threshold is the mean over all connected regions of the fraction of the region that is positive. Each region weighs the same, so
a pixel weighs 1 / area of its region, and PRO is one cumulative sum along the ranking. Weights are whole multiples of 2 ** -bits, so
that their sums are exact and the order in which images come cannot change a single bit.
"""

import numpy as np
from scipy import ndimage

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


def region_areas(masks_nhw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The area in pixels of each anomalous pixel's 8-connected region, and of each region.

    Args:
        masks_nhw: bool (N, H, W). Regions of different images never connect.

    Returns:
        int32 (n_anomalous,), in the order of `masks_nhw[masks_nhw]`; and int32 (n_regions,).
    """
    of_pixels, of_regions = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    for mask in masks_nhw:
        if mask.any():
            # labelling takes as long as the array is large: the rectangle around the regions will do
            rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
            inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            labels = ndimage.label(inside, structure=EIGHT_CONNECTED)[0][inside]
            areas = np.bincount(labels).astype(np.int32)
            of_pixels.append(areas[labels])
            of_regions.append(areas[1:])
    return np.concatenate(of_pixels), np.concatenate(of_regions)


def weight_bits(regions: int) -> int:
    """As many bits as the weight of one region can have without an overflow of all regions' sum."""
    return 62 - regions.bit_length()


def fixed_point_weights(areas: np.ndarray, bits: int) -> np.ndarray:
    """1 / area as int64 multiples of 2 ** -bits, rounded: the sum over a region of area A is 1 within A * 2 ** -(bits + 1)."""
    areas = areas.astype(np.int64)
    return ((1 << bits) + areas // 2) // areas
