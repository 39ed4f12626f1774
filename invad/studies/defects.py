"""Synthetic defects in normal images: something to judge settings by without a look at the test images.

Three kinds, on 0.5 to 10 percent of the image: a patch from elsewhere, a texture blended in through a mask of smooth noise, thin scratches.
"""

from collections.abc import Callable

import numpy as np

AREA = (0.005, 0.1)  # least and largest share of the image
_TRIES = 20


def add_defect(
    image_hwc: np.ndarray, other_hwc: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, str]:
    """Draw one defect into an image.

    Args:
        image_hwc: uint8 (H, W, 3), at least 16 pixels a side; not changed.
        other_hwc: uint8, any size, of which patches and textures are taken.
        rng: Decides everything.

    Returns:
        The image, its mask bool (H, W), and the kind of the defect.
    """
    kind = str(rng.choice(list(_KINDS)))
    for _ in range(_TRIES):
        defective, mask = _KINDS[kind](image_hwc, other_hwc, rng)
        # What can hardly be seen is no defect: a white patch on a white ground.
        changed = np.abs(defective.astype(int) - image_hwc).max(axis=-1)
        mask &= changed > 0
        if AREA[0] <= mask.mean() <= AREA[1] and changed[mask].mean() >= 16:
            return defective, mask, kind
    defective, mask = _stain(image_hwc, rng)
    return defective, mask, "stain"


def _patch(image: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A rectangle of this or another image, its colours jittered, somewhere else."""
    height, width = _patch_size(image.shape[:2], rng)
    source = image if rng.random() < 0.5 or min(other.shape[0] - height, other.shape[1] - width) < 1 else other
    patch = _crop(source, height, width, rng).astype(np.float64)
    patch = (patch - patch.mean()) * rng.uniform(0.7, 1.3) + patch.mean() + rng.uniform(-40, 40, 3)
    if rng.random() < 0.5:
        patch = patch[::-1]
    top, left = (
        int(rng.integers(0, total - part + 1)) for total, part in zip(image.shape, (height, width), strict=False)
    )
    mask = np.zeros(image.shape[:2], bool)
    mask[top : top + height, left : left + width] = True
    layer = np.zeros(image.shape)
    layer[mask] = patch.reshape(-1, 3)
    return _blended(image, layer, mask, 1.0), mask


def _texture(image: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A shuffled piece of another image through a mask of smooth noise."""
    mask = _blob(image.shape[:2], rng)
    height, width = (max(4, side // 3) for side in other.shape[:2])
    texture = _resized(_crop(other, height, width, rng), image.shape[:2])
    texture = texture[..., rng.permutation(3)] + rng.uniform(-50, 50, 3)
    return _blended(image, texture, mask, rng.uniform(0.3, 1.0)), mask


def _scratch(image: np.ndarray, _: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One to three thin curves, lighter or darker than what they cross."""
    height, width = image.shape[:2]
    side = min(height, width)
    mask = np.zeros((height, width), bool)
    ys, xs = np.mgrid[:height, :width]
    for _count in range(int(rng.integers(1, 4))):
        start, angle = rng.uniform(0.15, 0.85, 2) * (height, width), rng.uniform(0, 2 * np.pi)
        length, bend = rng.uniform(0.25, 0.6) * side, rng.uniform(-1.5, 1.5)
        radius = max(0.8, rng.uniform(0.006, 0.016) * side)
        for step in np.arange(0, length, max(1.0, radius)):
            turned = angle + bend * step / length
            start = start + max(1.0, radius) * np.array([np.sin(turned), np.cos(turned)])
            top, left = (int(np.clip(value - radius - 1, 0, None)) for value in start)
            window = np.s_[top : top + int(2 * radius) + 4, left : left + int(2 * radius) + 4]
            mask[window] |= np.hypot(ys[window] - start[0], xs[window] - start[1]) <= radius
    crossed = image[mask].mean() if mask.any() else 128
    colour = rng.uniform(0, 0.35) * crossed if crossed > 128 else 255 - rng.uniform(0, 0.35) * (255 - crossed)
    layer = np.broadcast_to(colour + rng.uniform(-15, 15, 3), image.shape)
    return _blended(image, layer, mask, rng.uniform(0.6, 1.0)), mask


_Kind = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
_KINDS: dict[str, _Kind] = {"patch": _patch, "texture": _texture, "scratch": _scratch}


def _stain(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A blob of the inverted colours, which shows on any ground but a middle grey; there it is black."""
    mask = _blob(image.shape[:2], rng)
    inverted = 255 - image.astype(np.float64)
    layer = np.where(np.abs(inverted - image) < 64, 0.0, inverted)
    return _blended(image, layer, mask, 1.0), mask


def _blended(image: np.ndarray, layer: np.ndarray, mask: np.ndarray, opacity: float) -> np.ndarray:
    blended = image.astype(np.float64)
    blended[mask] += opacity * (layer[mask] - blended[mask])
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


def _patch_size(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, int]:
    area = np.exp(rng.uniform(*np.log(AREA))) * shape[0] * shape[1]
    aspect = np.exp(rng.uniform(-1.1, 1.1))
    height = int(np.clip(np.sqrt(area * aspect), 2, shape[0] // 2))
    return height, int(np.clip(area / height, 2, shape[1] // 2))


def _crop(image: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    top, left = (
        int(rng.integers(0, total - part + 1)) for total, part in zip(image.shape, (height, width), strict=False)
    )
    return image[top : top + height, left : left + width]


def _blob(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """(H, W) bool: where smooth noise, weighted towards some place, is highest; a random share of the image within `AREA`."""
    noise = _resized(rng.standard_normal((6, 6)), shape) + 0.5 * _resized(rng.standard_normal((16, 16)), shape)
    ys, xs = (np.linspace(0, 1, side) for side in shape)
    centre = rng.uniform(0.2, 0.8, 2)
    noise -= 25 * ((ys[:, None] - centre[0]) ** 2 + (xs - centre[1]) ** 2)
    share = np.exp(rng.uniform(*np.log((AREA[0] * 1.5, AREA[1] * 0.9))))
    return noise > np.quantile(noise, 1 - share)


def _resized(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Interpolate (h, w) or (h, w, C) bilinearly to (H, W), corners on corners."""
    result = values.astype(np.float64)
    for axis, side in enumerate(shape):
        positions = np.linspace(0, result.shape[axis] - 1, side)
        lower = np.clip(positions.astype(int), 0, max(0, result.shape[axis] - 2))
        upper = np.minimum(lower + 1, result.shape[axis] - 1)
        weight = (positions - lower).reshape([-1 if index == axis else 1 for index in range(result.ndim)])
        result = np.take(result, lower, axis) * (1 - weight) + np.take(result, upper, axis) * weight
    return result
