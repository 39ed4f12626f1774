"""Everything that can be given as an image, as the pixels that the encoder takes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from invad.config import AS_STORED, ReadingConfig
from invad.data.images import checked_image, decoded_image, resized, rgb
from invad.errors import InputError

ImageInput = str | Path | Image.Image | np.ndarray | Tensor
"""A file; a PIL image of 8 bits a channel; an array uint8, RGB (H, W, 3) or grey (H, W); or a tensor, RGB (3, H, W) or grey
(1, H, W), uint8 or floating in [0, 1].
"""


@dataclass(frozen=True)
class PreparedImage:
    """An image as the encoder takes it."""

    pixels: NDArray[np.uint8]  # RGB (size, size, 3), resized
    width: int  # of the image as it was given, in pixels
    height: int
    source: ImageInput | None = None  # what was given, to be drawn on; None where it is not kept


def single_images(images: ImageInput | Iterable[ImageInput]) -> Iterator[ImageInput]:
    """Yield the images of a sequence, of an array (N, H, W, 3) or of a tensor (N, C, H, W); or the only one."""
    is_array = isinstance(images, np.ndarray | Tensor)
    if isinstance(images, str | Path | Image.Image) or (is_array and images.ndim != 4):
        yield images
    else:
        yield from images


def prepared(picture: Image.Image, size: int, source: ImageInput | None = None) -> PreparedImage:
    """Return a decoded image, RGB, resized to (size, size) as `read_image` does it."""
    return PreparedImage(np.asarray(resized(picture, size)), picture.width, picture.height, source)


def rgb_image(image: ImageInput, reading: ReadingConfig = AS_STORED) -> Image.Image:
    """Return an image as a PIL image of mode RGB at its own size; `InputError` for a damaged file, or what is not as `ImageInput` says."""
    if isinstance(image, str | Path):
        with decoded_image(Path(image), reading) as decoded:
            return rgb(decoded, reading)
    if isinstance(image, Image.Image):
        return checked_image(image, reading)
    array = image
    if isinstance(image, Tensor) and image.ndim == 3 and image.shape[0] in (1, 3):
        if image.dtype.is_floating_point:
            if not bool(((image >= 0) & (image <= 1)).all()):
                raise InputError("image: a floating tensor has values in [0, 1], before normalisation; here are others")
            image = (image.float() * 255).round().to(torch.uint8)
        array = image.detach().permute(1, 2, 0).cpu().numpy()
        array = array[..., 0] if array.shape[2] == 1 else array
    if (
        not isinstance(array, np.ndarray)
        or array.dtype != np.uint8
        or array.shape[2:] not in ((), (3,))
        or not array.size
    ):
        what = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, np.ndarray | Tensor) else type(image).__name__
        expected = "a path, a PIL image, an array uint8, (H, W, 3) or (H, W), or a tensor, (3, H, W) or (1, H, W)"
        raise InputError(f"image: expected {expected}, got {what}")
    return rgb(Image.fromarray(np.ascontiguousarray(array)))
