"""Synthetic anomalies: a texture shows through a mask of Perlin noise, for methods that learn to see what was painted in.

Source: spec of DRAEM (ICCV 2021) and DeSTSeg (CVPR 2023), whose generators agree. The draws of an image come from the generator that is
given, so they depend on (seed, epoch, image) alone. The defects that judge `tune` are another kind (`invad.studies.validation`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from invad.data.listing import image_files
from invad.errors import InputError

THRESHOLD = 0.5  # of the noise, above which it is a mask
MOST_CELLS = 5  # log2 of the cells of the noise along a side
ROTATION = 90.0  # degrees, to either side, of noise and image
OPAQUE = 0.8  # the image shows through a texture by at most this share
CACHED_TEXTURES = 256


@dataclass(frozen=True)
class Corruption:
    """A recipe.

    `probability`: that an image gets an anomaly at all. `rotation`: that the image is rotated first, its clean target alike.
    `operations`: how many of the ten change a texture. `textures`: a folder of images, such as those of DTD; empty for training images of
    other classes.
    """

    probability: float = 0.5
    rotation: float = 0.3
    operations: int = 3
    textures: str = ""


@dataclass(frozen=True)
class Textures:
    """Where textures come from: `paths`, read by `read` as uint8 (size, size, 3), which `groups` tells apart; -1 is nobody's."""

    paths: Sequence[Path]
    groups: np.ndarray
    read: Callable[[Path], np.ndarray]

    @classmethod
    def of(
        cls, corruption: Corruption, images: Sequence[Path], classes: Sequence[str], read: Callable[[Path], np.ndarray]
    ) -> "Textures":
        """Return those of a recipe for the training images `images`, of `classes`; `InputError` where a folder has none."""
        read = lru_cache(CACHED_TEXTURES)(read)
        if not corruption.textures:
            return cls(images, np.unique(classes, return_inverse=True)[1], read)
        folder = Path(corruption.textures)
        paths = sorted(image_files(folder)) if folder.is_dir() else []
        if not paths:
            raise InputError(f"{folder}: has no images for textures")
        return cls(paths, np.full(len(paths), -1), read)

    def draw(self, row: int, rng: np.random.Generator) -> np.ndarray:
        """Return a texture for the training image `row`: of another class, or where there is none, a part of an image, enlarged."""
        own = -2 if self.groups[0] == -1 else self.groups[row]
        others = np.flatnonzero(self.groups != own)
        chosen = int(rng.choice(others if len(others) else len(self.paths)))
        texture = self.read(self.paths[chosen])
        return texture if len(others) else _part(texture, rng)


def _part(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a third of an image along each side, enlarged to its size, so that it does not look like the place that it is put to."""
    height, width = image.shape[:2]
    top, left = (int(rng.integers(side - side // 3 + 1)) for side in (height, width))
    box = (left, top, left + width // 3, top + height // 3)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box))


def corrupted(
    image: np.ndarray, textures: Textures, row: int, recipe: Corruption, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the clean image uint8, the same with an anomaly, float32, both (H, W, 3) in [0, 255], and its mask, bool (H, W).

    image: uint8 (H, W, 3), whose sides are multiples of 32; the training image `row`.
    """
    if rng.random() < recipe.rotation:
        image = rotated(image, rng.uniform(-ROTATION, ROTATION))
    texture = augmented(textures.draw(row, rng), recipe.operations, rng)
    cells = tuple(2 ** rng.integers(MOST_CELLS + 1, size=2))
    angles = rng.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    noise = rotated(perlin_noise(angles, image.shape[:2]), rng.uniform(-ROTATION, ROTATION))
    mask, share = noise > THRESHOLD, rng.uniform(0, OPAQUE)
    if rng.random() >= recipe.probability:
        mask = np.zeros_like(mask)
    return image, blended(image, texture, mask, share), mask


def perlin_noise(angles: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return Perlin noise, float32 of `shape`, in [-1, 1].

    angles: of the gradients at the lattice points (rows + 1, columns + 1), in radians, the first component along rows; the numbers of
    rows and columns divide the shape.
    """
    rows, columns = angles.shape[0] - 1, angles.shape[1] - 1
    v, u = (np.arange(side) * cells / side for side, cells in zip(shape, (rows, columns), strict=True))
    top, left = v.astype(int), u.astype(int)
    fv, fu = (v - top)[:, None].astype(np.float32), (u - left)[None, :].astype(np.float32)
    along_rows, along_columns = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def corner(m: int, n: int) -> np.ndarray:
        lattice = np.ix_(top + m, left + n)
        return along_rows[lattice] * (fv - m) + along_columns[lattice] * (fu - n)

    sv, su = _smooth(fv), _smooth(fu)
    left_side = corner(0, 0) + sv * (corner(1, 0) - corner(0, 0))
    right_side = corner(0, 1) + sv * (corner(1, 1) - corner(0, 1))
    return np.float32(np.sqrt(2)) * (left_side + su * (right_side - left_side))


def _smooth(t: np.ndarray) -> np.ndarray:
    return t * t * t * (t * (t * 6 - 15) + 10)


def rotated(values: np.ndarray, degrees: float) -> np.ndarray:
    """Return float32 (H, W) or uint8 (H, W, 3) rotated clockwise about its centre, bilinearly, with 0 for what comes from outside."""
    framed = np.pad(values, ((1, 1), (1, 1), *([(0, 0)] * (values.ndim - 2))))  # the border fades into 0
    return np.asarray(Image.fromarray(framed).rotate(-degrees, Image.Resampling.BILINEAR))[1:-1, 1:-1]


def blended(image: np.ndarray, texture: np.ndarray, mask: np.ndarray, share: float) -> np.ndarray:
    """Return float32 (H, W, 3): the texture where the mask is, through which the image shows by `share`, and the image elsewhere."""
    inside = mask[..., None]
    mixed = np.float32(1 - share) * texture.astype(np.float32) + np.float32(share) * image.astype(np.float32)
    return np.where(inside, mixed, image.astype(np.float32))


def augmented(texture: np.ndarray, operations: int, rng: np.random.Generator) -> np.ndarray:
    """Return a texture, uint8 (H, W, 3), changed by so many different operations, in the order that they are drawn."""
    image = Image.fromarray(texture)
    for index in rng.permutation(len(OPERATIONS))[:operations]:
        image = OPERATIONS[index](image, rng)
    return np.asarray(image)


def gamma(image: Image.Image, exponents: Sequence[float]) -> Image.Image:
    """Return `255 (v / 255)^g`, with a `g` for each channel, truncated to whole numbers."""
    table = [int(255 * (value / 255) ** exponent) for exponent in exponents for value in range(256)]
    return image.point(table)


def scaled_brightness(image: Image.Image, space: str, factor: float, offset: float) -> Image.Image:
    """Return an image whose luminance, in the colour space `YCbCr` or `HSV`, is times `factor` and plus `offset`."""
    bands = list(image.convert(space).split())
    index = 0 if space == "YCbCr" else 2
    bands[index] = bands[index].point([min(255, max(0, round(factor * value + offset))) for value in range(256)])
    return Image.merge(space, bands).convert("RGB")


def shifted_hue(image: Image.Image, hue: float, saturation: float) -> Image.Image:
    """Return an image whose hue, which wraps, and saturation are shifted by so much of 255."""
    bands = list(image.convert("HSV").split())
    bands[0] = bands[0].point([round(value + hue) % 256 for value in range(256)])
    bands[1] = bands[1].point([min(255, max(0, round(value + saturation))) for value in range(256)])
    return Image.merge("HSV", bands).convert("RGB")


def _solarised(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    threshold = int(rng.integers(32, 129))
    return ImageOps.solarize(image, threshold) if rng.random() < 0.5 else image


def _brightened(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    space, factor, offset = str(rng.choice(["YCbCr", "HSV"])), rng.uniform(0.8, 1.2), rng.uniform(-30, 30)
    return scaled_brightness(image, space, factor, offset if rng.random() < 0.5 else factor * offset)


OPERATIONS: tuple[Callable[[Image.Image, np.random.Generator], Image.Image], ...] = (
    lambda image, rng: gamma(image, rng.uniform(0.5, 2.0, 3).tolist()),
    _brightened,
    lambda image, rng: ImageEnhance.Sharpness(image).enhance(rng.uniform(0.0, 2.0)),
    lambda image, rng: shifted_hue(image, rng.uniform(-50, 50), rng.uniform(-50, 50)),
    _solarised,
    lambda image, rng: ImageOps.posterize(image, int(rng.integers(1, 9))),
    lambda image, rng: ImageOps.invert(image),
    lambda image, rng: ImageOps.autocontrast(image, rng.uniform(0, 20)),
    lambda image, rng: ImageOps.equalize(image),
    lambda image, rng: Image.fromarray(rotated(np.asarray(image), rng.uniform(-45, 45))),
)
