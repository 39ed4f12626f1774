"""The ten operations that change a texture before it is painted into an image, with Pillow; their ranges are those of DRAEM's code.

Brightness is scaled in a colour space drawn from those of the authors' code, but for Luv, which neither Pillow nor torchvision has.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageCms, ImageEnhance, ImageOps

# YUV and YCbCr have the same luminance, and colours that do not depend on it: to scale it is the same in both.
SPACES = ("YCbCr", "YCbCr", "HSV", "HLS", "LAB")
_LUMINANCE = {"YCbCr": 0, "HSV": 2, "LAB": 0}  # the band of Pillow's that is scaled


def augmented(texture: np.ndarray, operations: int, rng: np.random.Generator) -> np.ndarray:
    """Return a texture, uint8 (H, W, 3), changed by so many different operations, in the order that they are drawn."""
    image = Image.fromarray(texture)
    for index in rng.permutation(len(OPERATIONS))[:operations]:
        image = OPERATIONS[index](image, rng)
    return np.asarray(image)


def rotated(values: np.ndarray, degrees: float) -> np.ndarray:
    """Return float32 (H, W) or uint8 (H, W, 3) rotated clockwise about its centre, bilinearly, with 0 for what comes from outside."""
    framed = np.pad(values, ((1, 1), (1, 1), *([(0, 0)] * (values.ndim - 2))))  # the border fades into 0
    return np.asarray(Image.fromarray(framed).rotate(-degrees, Image.Resampling.BILINEAR))[1:-1, 1:-1]


def gamma(image: Image.Image, exponents: Sequence[float]) -> Image.Image:
    """Return `255 (v / 255)^g`, with a `g` for each channel, truncated to whole numbers."""
    values = np.arange(256) / 255
    return image.point([int(value) for exponent in exponents for value in 255 * values**exponent])


def scaled_brightness(image: Image.Image, space: str, factor: float, offset: float) -> Image.Image:
    """Return an image whose luminance, from 0 to 255 in a colour space of `SPACES`, is times `factor` and plus `offset`."""
    if space == "HLS":
        return _scaled_lightness(image, factor, offset)
    bands = list(_converted(image, "RGB", space).split())
    index = _LUMINANCE[space]
    bands[index] = bands[index].point(_table(lambda value: factor * value + offset))
    return _converted(Image.merge(space, bands), space, "RGB")


def _scaled_lightness(image: Image.Image, factor: float, offset: float) -> Image.Image:
    """Pillow has no HLS: with hue and saturation kept, a channel's distance from the lightness grows with the room for it."""
    values = np.asarray(image).transpose(2, 0, 1).astype(np.float32, order="C")  # planes: extrema of pixels are slow
    lightness = (values.max(axis=0) + values.min(axis=0)) / 2
    scaled = np.clip(factor * lightness + offset, 0, 255)
    room, new_room = (127.5 - np.abs(level - 127.5) for level in (lightness, scaled))
    # Black and white have no room, and no distance.
    new = scaled + (values - lightness) * (new_room / np.maximum(room, 0.5))
    return Image.fromarray(np.rint(np.clip(new, 0, 255)).astype(np.uint8).transpose(1, 2, 0).copy())


def _converted(image: Image.Image, before: str, after: str) -> Image.Image:
    if "LAB" not in (before, after):
        return image.convert(after)
    converted = ImageCms.applyTransform(image, _transform(before, after))
    if converted is None:
        raise RuntimeError("Pillow changed an image in place")
    return converted


@cache
def _transform(before: str, after: str) -> ImageCms.ImageCmsTransform:
    profiles = {"RGB": ImageCms.createProfile("sRGB"), "LAB": ImageCms.createProfile("LAB")}
    flags = ImageCms.Flags.NOCACHE  # several threads share it
    return ImageCms.buildTransform(profiles[before], profiles[after], before, after, flags=flags)


def shifted_hue(image: Image.Image, hue: float, saturation: float) -> Image.Image:
    """Return an image whose hue, which wraps, and saturation are shifted by so much of 255."""
    bands = list(image.convert("HSV").split())
    bands[0] = bands[0].point([round(value + hue) % 256 for value in range(256)])
    bands[1] = bands[1].point(_table(lambda value: value + saturation))
    return Image.merge("HSV", bands).convert("RGB")


def _table(function: Callable[[int], float]) -> list[int]:
    return [min(255, max(0, round(function(value)))) for value in range(256)]


def _solarised(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    threshold = int(rng.integers(32, 129))
    return ImageOps.solarize(image, threshold) if rng.random() < 0.5 else image


def _brightened(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    space, factor, offset = str(rng.choice(SPACES)), rng.uniform(0.8, 1.2), rng.uniform(-30, 30)
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
