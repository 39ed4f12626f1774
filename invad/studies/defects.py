"""Synthetic defects in normal images, on 0.5 to 10 percent of each: something to judge settings by without a look at the test images.

They are another kind than the anomalies that methods are trained on, whose masks are Perlin noise (`invad.features.synthesis`): what has
learned to see a generator must not be judged by it.
"""

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from invad.features.synthesis import blended

AREA = (0.005, 0.1)  # least and largest share of the image
VISIBLE = 16  # grey values: the least mean change within a defect
_TRIES = 20

_Layer = tuple[np.ndarray, np.ndarray, float]  # pixels (H, W, 3), where they go (H, W), and how much shows through them


def add_defect(
    image_hwc: np.ndarray, other_hwc: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, str]:
    """Draw one defect into an image.

    Args:
        image_hwc: uint8 (H, W, 3), at least 16 pixels a side; not changed.
        other_hwc: uint8, any size, of which patches are taken.
        rng: Decides everything.

    Returns:
        The image, its mask bool (H, W), and the kind of the defect.
    """
    kind = str(rng.choice(list(_KINDS)))
    for _ in range(_TRIES):
        layer, mask, share = _KINDS[kind](image_hwc, other_hwc, rng)
        defective = np.clip(np.rint(blended(image_hwc, layer, mask, share)), 0, 255).astype(np.uint8)
        # What can hardly be seen is no defect: a white patch on a white ground.
        changed = np.abs(defective.astype(int) - image_hwc).max(axis=-1)
        mask = mask & (changed > 0)
        if AREA[0] <= mask.mean() <= AREA[1] and changed[mask].mean() >= VISIBLE:
            return defective, mask, kind
    mask = _blob(image_hwc.shape[:2], rng)  # in the other half of the grey values, which shows on any ground
    return np.where(mask[..., None], image_hwc ^ np.uint8(128), image_hwc), mask, "stain"


def _patch(image: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> _Layer:
    """This or another image, moved, its contrast and colours changed, in a blob."""
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        image = np.asarray(Image.fromarray(other).resize((width, height), Image.Resampling.BILINEAR))
    moved = np.roll(image, rng.integers((height, width)).tolist(), axis=(0, 1))
    layer = (moved - moved.mean()) * rng.uniform(0.7, 1.3) + moved.mean() + rng.uniform(-50, 50, 3)
    return layer, _blob((height, width), rng), rng.uniform(0, 0.5)


def _scratch(image: np.ndarray, _: np.ndarray, rng: np.random.Generator) -> _Layer:
    """One to three thin curves, lighter or darker than what they cross."""
    height, width = image.shape[:2]
    side, canvas = min(height, width), Image.new("1", (width, height))
    for _count in range(int(rng.integers(1, 4))):
        angles = rng.uniform(0, 2 * np.pi) + rng.uniform(-1.5, 1.5) * np.linspace(0, 1, 32)
        steps = np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(0.25, 0.6) * side / 32
        points = rng.uniform(0.15, 0.85, 2) * (width, height) + steps.cumsum(axis=0)
        thickness = max(2, round(rng.uniform(0.012, 0.032) * side))
        ImageDraw.Draw(canvas).line([(x, y) for x, y in points.tolist()], fill=1, width=thickness, joint="curve")
    mask = np.asarray(canvas, bool)
    crossed = image[mask].mean() if mask.any() else 128
    colour = rng.uniform(0, 0.35) * crossed if crossed > 128 else 255 - rng.uniform(0, 0.35) * (255 - crossed)
    return np.broadcast_to(colour + rng.uniform(-15, 15, 3), image.shape), mask, rng.uniform(0, 0.4)


_KINDS = {"patch": _patch, "scratch": _scratch}


def _blob(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """(H, W) bool: where smooth noise, weighted towards some place, is highest; a random share of the image within `AREA`."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), min(shape) / 12)
    ys, xs = np.ogrid[: shape[0], : shape[1]]
    top, left = rng.uniform(0.2, 0.8, 2)
    weighted = noise / noise.std() - 25 * ((ys / shape[0] - top) ** 2 + (xs / shape[1] - left) ** 2)
    share = np.exp(rng.uniform(*np.log((AREA[0] * 1.5, AREA[1] * 0.9))))
    return weighted > np.quantile(weighted, 1 - share)
