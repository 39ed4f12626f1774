"""Synthetic anomalies: a texture shows through a mask of Perlin noise, for methods that learn to see what was painted in.

Source: spec of DRAEM (ICCV 2021) and DeSTSeg (CVPR 2023), whose generators agree. The draws of an image come from the generator that is
given, so they depend on (seed, epoch, image) alone. The defects that judge `tune` are another kind (`invad.studies.validation`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from invad.data.listing import image_files
from invad.errors import InputError
from invad.features.decoded import DecodedImages
from invad.features.texture_operations import augmented, rotated

THRESHOLD = 0.5  # of the noise, above which it is a mask
MOST_CELLS = 5  # log2 of the cells of the noise along a side
ROTATION = 90.0  # degrees, to either side, of noise and image
OPAQUE = 0.8  # the image shows through a texture by at most this share
_TRIES = 20  # for a mask of an area that is accepted
_SHUFFLED_SCALE, _SHUFFLED_SHIFT = (0.6, 1.4), 40.0


@dataclass(frozen=True)
class Corruption:
    """A recipe.

    `probability`: that an image gets an anomaly at all. `rotation`: that the image is rotated first, its clean target alike.
    `operations`: how many of the ten change a texture. `textures`: a folder of images, such as those of DTD; empty for training images of
    other classes. `area`: the least and the largest share of the image; a mask outside of it is drawn again, at most 20 times, and then
    stays. `shuffled`: textures are images of any class, turned, in other colours, cut into tiles that are shuffled.
    """

    probability: float = 0.5
    rotation: float = 0.3
    operations: int = 3
    textures: str = ""
    area: tuple[float, float] = (0.0, 1.0)
    shuffled: bool = False


@dataclass(frozen=True)
class Textures:
    """Where textures come from: `images`, uint8 (size, size, 3), of which those at `kept` are drawn.

    `groups` tells the classes of the images apart, and -1 is nobody's.
    """

    images: Sequence[np.ndarray]
    groups: np.ndarray
    kept: np.ndarray

    @classmethod
    def of(
        cls,
        corruption: Corruption,
        images: DecodedImages,
        classes: Sequence[str],
        size: int,
        used: Sequence[int] | None = None,
    ) -> "Textures":
        """Return those of a recipe for the training images `images`, of `classes`; `InputError` where a folder has none.

        `used`: the images that are trained on, by default all; no other one is a texture.
        """
        if not corruption.textures:
            kept = images.kept if used is None else np.intersect1d(images.kept, used)
            return cls(images, np.unique(classes, return_inverse=True)[1], kept)
        folder = Path(corruption.textures)
        paths = sorted(image_files(folder)) if folder.is_dir() else []
        if not paths:
            raise InputError(f"{folder}: has no images for textures")
        textures = DecodedImages(paths, size)
        return cls(textures, np.full(len(paths), -1), textures.kept)

    def draw(self, row: int, recipe: Corruption, rng: np.random.Generator) -> np.ndarray:
        """Return a texture for the training image `row`, uint8: as it is stored where it is another class's or of a folder.

        A part of an image, enlarged, where there is no other class.
        """
        own = -2 if recipe.shuffled or self.groups[0] == -1 else self.groups[row]
        others = self.kept[self.groups[self.kept] != own]
        texture = self.images[int(rng.choice(others if len(others) else self.kept))]
        if recipe.shuffled:
            texture = shuffled_tiles(texture, rng)
        elif not len(others):
            texture = _part(texture, rng)
        return augmented(texture, recipe.operations, rng)


def _part(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a third of an image along each side, enlarged to its size, so that it does not look like the place that it is put to."""
    height, width = image.shape[:2]
    top, left = (int(rng.integers(side - side // 3 + 1)) for side in (height, width))
    box = (left, top, left + width // 3, top + height // 3)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box))


def shuffled_tiles(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a square image, uint8 (H, H, 3), as a texture: turned, channels permuted, tiles of a quarter or an eighth shuffled, scaled.

    Values are times 0.6 to 1.4, plus -40 to 40 in each channel. Source: spec of ToCoAD. The side is a multiple of 8.
    """
    turned = np.rot90(image, int(rng.integers(4)))[..., rng.permutation(3)]
    along = int(rng.choice([4, 8]))
    side = len(image) // along
    tiles = turned.reshape(along, side, along, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    mixed = rng.permutation(tiles).reshape(along, along, side, side, 3).swapaxes(1, 2).reshape(image.shape)
    factor, shift = rng.uniform(*_SHUFFLED_SCALE), rng.uniform(-_SHUFFLED_SHIFT, _SHUFFLED_SHIFT, 3)
    return np.clip(np.rint(mixed * factor + shift), 0, 255).astype(np.uint8)


def corrupted(
    image: np.ndarray, textures: Textures, row: int, recipe: Corruption, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the clean image uint8, the same with an anomaly, float32, both (H, W, 3) in [0, 255], and its mask, bool (H, W).

    image: uint8 (H, W, 3), whose sides are multiples of 32; the training image `row`.
    """
    if rng.random() < recipe.rotation:
        image = rotated(image, rng.uniform(-ROTATION, ROTATION))
    if rng.random() >= recipe.probability:
        return image, image.astype(np.float32), np.zeros(image.shape[:2], bool)
    mask = drawn_mask(image.shape[:2], recipe.area, rng)
    if not mask.any():
        return image, image.astype(np.float32), mask
    return image, blended(image, textures.draw(row, recipe, rng), mask, rng.uniform(0, OPAQUE)), mask


def drawn_mask(shape: tuple[int, ...], area: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Return a mask of rotated Perlin noise, bool (H, W), of a share of the image within `area`, or of any after 20 tries."""
    mask = np.zeros(shape, bool)
    for _ in range(_TRIES):
        rows, columns = 2 ** rng.integers(MOST_CELLS + 1, size=2)
        angles = rng.uniform(0, 2 * np.pi, (rows + 1, columns + 1))
        noise = rotated(perlin_noise(angles, shape), rng.uniform(-ROTATION, ROTATION))
        mask = noise > THRESHOLD
        if area[0] <= mask.mean() <= area[1]:
            break
    return mask


def perlin_noise(angles: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return Perlin noise, float32 of `shape`, in [-1, 1].

    angles: of the gradients at the lattice points (rows + 1, columns + 1), in radians, the first component along rows.
    """
    (near_v, far_v), (near_u, far_u) = (
        _lattice(points - 1, side) for points, side in zip(angles.shape, shape, strict=True)
    )
    along_rows, along_columns = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    return np.float32(np.sqrt(2)) * (far_v @ along_rows @ near_u.T + near_v @ along_columns @ far_u.T)


@cache
def _lattice(cells: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the weight of each lattice point for each pixel of a side, and that times the distance, float32 (side, cells + 1) both.

    A corner's share of the noise is a product of one factor along rows and one along columns, so the noise is two matrix products.
    """
    places = np.arange(side) * cells / side
    distances = places[:, None] - np.arange(cells + 1)
    t = np.clip(1 - np.abs(distances), 0, 1)
    weights = t * t * t * (t * (t * 6 - 15) + 10)
    return weights.astype(np.float32), (weights * distances).astype(np.float32)


def blended(image: np.ndarray, texture: np.ndarray, mask: np.ndarray, share: float) -> np.ndarray:
    """Return float32 (H, W, 3): the texture where the mask is, through which the image shows by `share`, and the image elsewhere."""
    mixed = image.astype(np.float32)
    mixed[mask] = np.float32(1 - share) * texture[mask].astype(np.float32) + np.float32(share) * mixed[mask]
    return mixed
