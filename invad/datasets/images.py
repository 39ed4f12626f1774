"""Reading images and masks: every file is hostile until it has been decoded, and every error names it."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from invad.errors import InputError

MAX_PIXELS = 80_000_000
"""Larger images are refused before they are decoded (a decompression bomb is a small file with a large header)."""

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) in pixels from the header alone.

    Raises:
        InputError: The file is missing or not an image, or larger than `MAX_PIXELS`.
    """
    with _open(path) as image:
        return image.size


def read_image(path: Path, size: int | None = None) -> np.ndarray:
    """Decode an image as uint8 RGB (H, W, 3), resized bilinearly to (size, size) where `size` is given (aspect ratio not kept).

    The pixels are those stored in the file: an EXIF rotation is not applied, because annotations and masks refer to them.

    Raises:
        InputError: The file is missing, not an image, truncated, too large, or has more than 8 bits a channel.
    """
    with _open(path) as image:
        if image.mode not in _MODES:
            raise InputError(f"{path}: has the pixel format {image.mode}; convert it to 8 bits a channel")
        image = _decode(image, path).convert("RGB")
    if size is not None:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def read_mask(path: Path, size: int | None = None) -> np.ndarray:
    """Decode a mask as bool (H, W), True where anomalous: any value above 0 in the file (MVTec AD: 255; VisA: 1, 2, ...).

    With `size`, the mask is resized as in the published evaluation: 0/255, bilinear, anomalous above one half.

    Raises:
        InputError: As for `read_image`.
    """
    with _open(path) as image:
        values = np.asarray(_decode(image, path))
    anomalous = values.reshape(*values.shape[:2], -1)[..., :3].max(axis=-1) > 0
    if size is None:
        return anomalous
    resized = Image.fromarray(anomalous.astype(np.uint8) * 255).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized) > 127


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such image") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: not an image, or a damaged one") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error})") from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise InputError(f"{path}: has {image.width}x{image.height} pixels; at most {MAX_PIXELS} are accepted")
    return image


def _decode(image: Image.Image, path: Path) -> Image.Image:
    try:
        image.load()
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path}: damaged image ({error})") from None
    return image
