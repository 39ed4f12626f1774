"""What a check needs to know of one file; small, because it is kept of every file of a benchmark."""

import hashlib
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from invad.config import AS_STORED, ReadingConfig
from invad.data.images import anomalous_pixels, decoded_image, decoded_mask, is_rotated, turned_size
from invad.errors import InputError

Role = Literal["image", "mask"]

_JPEG = frozenset({"JPEG", "MPO"})
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that is not there, or that does not decode for the `reason` given (which does not name the file)."""

    reason: str
    missing: bool


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """An image that decodes.

    Attributes:
        sha256: digest of the file's bytes.
        size: (width, height) in pixels.
        mode: Pillow's name of the pixel format.
        rotated: EXIF asks for a rotation or reflection, which is not applied.
        cut: a JPEG without an end marker.
    """

    sha256: bytes
    size: tuple[int, int]
    mode: str
    rotated: bool
    cut: bool


@dataclass(frozen=True, slots=True)
class MaskFacts:
    """A mask that decodes.

    Attributes:
        size: (width, height) in pixels.
        covered: the share of its pixels that are anomalous.
        lossy: it is a JPEG, or has the values that one leaves behind: almost black ones (1 to 10) beside bright ones.
        recoloured: a palette shows other pixels as black than those that count as normal (index 0).
    """

    size: tuple[int, int]
    covered: float
    lossy: bool
    recoloured: bool

    @property
    def empty(self) -> bool:
        """It has no anomalous pixel."""
        return self.covered == 0


Facts = ImageFacts | MaskFacts | Unreadable


def inspect_file(item: tuple[Role, Path], reading: ReadingConfig = AS_STORED) -> Facts:
    """Do `inspect_image` or `inspect_mask`: one function for a pool that does both."""
    role, path = item
    return inspect_image(path, reading) if role == "image" else inspect_mask(path)


def inspect_image(path: Path, reading: ReadingConfig = AS_STORED) -> ImageFacts | Unreadable:
    """Decode an image and digest its bytes; whatever is wrong with the file is returned, not raised."""
    try:
        with decoded_image(path, reading) as image:
            size, mode, jpeg = turned_size(image, reading), image.mode, image.format in _JPEG
            rotated = is_rotated(image) and not reading.exif_rotation
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            cut = jpeg and _lacks_end(content)
            return ImageFacts(hashlib.sha256(content).digest(), size, mode, rotated, cut)
    except (InputError, OSError) as error:
        return _unreadable(path, error)


def inspect_mask(path: Path) -> MaskFacts | Unreadable:
    """Decode a mask and look at its pixels; whatever is wrong with the file is returned, not raised."""
    try:
        with decoded_mask(path) as mask:
            anomalous = anomalous_pixels(mask)
            return MaskFacts(mask.size, float(anomalous.mean()), _is_lossy(mask), _is_recoloured(mask, anomalous))
    except InputError as error:
        return _unreadable(path, error)


def _unreadable(path: Path, error: InputError | OSError) -> Unreadable:
    reason = error.strerror if isinstance(error, OSError) else str(error).removeprefix(f"{path}: ")
    return Unreadable(reason or type(error).__name__, missing=not os.path.exists(path))  # noqa: PTH110  (never raises)


def _lacks_end(jpeg: mmap.mmap) -> bool:
    """Return whether no end marker follows the header, which is stepped over: a preview within it has a marker of its own."""
    position = 2
    while jpeg[position : position + 1] == b"\xff" and jpeg[position : position + 2] != _START_OF_SCAN:
        position += 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
    return jpeg.find(_END_OF_IMAGE, position) < 0


def _is_lossy(mask: Image.Image) -> bool:
    if mask.format in _JPEG:
        return True
    if mask.mode not in ("L", "RGB"):
        return False
    used = np.flatnonzero(np.asarray(mask.histogram()).reshape(-1, 256).sum(axis=0))
    return bool(used[-1] > 128 and ((used >= 1) & (used <= 10)).any())


def _is_recoloured(mask: Image.Image, anomalous: np.ndarray) -> bool:
    if mask.mode != "P":
        return False
    coloured = np.asarray(mask.convert("RGBA"))[..., :3].any(axis=-1)
    return not np.array_equal(coloured, anomalous)
