"""Reading images and masks: every file is hostile until it has been decoded, and every error names it."""

import stat
import threading
import warnings
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from invad.config import AS_STORED, ReadingConfig
from invad.data.decoders import MOST_PIECES, MOST_SCANS, count_scans, slow_header
from invad.errors import InputError

MAX_PIXELS = 80_000_000
"""Larger images are refused before they are decoded (a decompression bomb is a small file with a large header)."""

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp"})

_MOST_SEARCHED = 2**28  # bytes of a JPEG, which with `MAX_PIXELS` has fewer
# Whatever the suffix says; Pillow would also hand PostScript to Ghostscript.
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
# Of faxes and JPEGs within a TIFF libtiff goes on behind damage.
_TIFF_COMPRESSIONS = frozenset({"raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate"})
_IMAGE_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
_DEEP_GREY_MODES = frozenset({"I;16", "I;16B", "I", "F"})
_GREY16_MODES = _DEEP_GREY_MODES - {"F"}
_MASK_MODES = _IMAGE_MODES - {"CMYK", "YCbCr"} | _DEEP_GREY_MODES  # where 0 in all colour channels is black
_TURNED = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
_TURNS = {number: Image.Transpose[name] for number, name in enumerate(_TURNED, start=2)}  # by EXIF's number
_LYING = range(5, 9)  # numbers that exchange width and height


class TooManyPixelsError(InputError):
    """An image is too large to be decoded."""


def image_size(path: Path, reading: ReadingConfig = AS_STORED) -> tuple[int, int]:
    """Return (width, height) in pixels of an image or a mask, from the header alone, after a rotation where `reading` asks for it.

    `InputError`: no PNG, JPEG, BMP, TIFF or WebP, several frames or pages, more than `MAX_PIXELS` pixels, or colours of 16 bits.
    """
    with _opened(path, path) as image:
        # Of a TIFF the size is that after the rotation, which its decoder applies.
        return image.size if image.format == "TIFF" else turned_size(image, reading)


def turned_size(image: Image.Image, reading: ReadingConfig) -> tuple[int, int]:
    """Return (width, height) that `rgb` will give an image."""
    lies = reading.exif_rotation and _orientation(image) in _LYING
    return image.size[::-1] if lies else image.size


def check_mask_size(mask: Path, image: Path, size: tuple[int, int]) -> None:
    """Raise `InputError` where the header of the file `mask` does not say the `size` (width, height) of the file `image`."""
    width, height = image_size(mask)
    if (width, height) != size:
        raise InputError(f"{mask}: has {width}x{height} pixels, but its image {image} has {size[0]}x{size[1]}")


def read_image(path: Path, size: int | None = None, reading: ReadingConfig = AS_STORED) -> np.ndarray:
    """Decode an image as uint8 RGB (H, W, 3), resized bilinearly to (size, size) where `size` is given (aspect ratio not kept).

    The pixels are those stored in the file, unless `reading` says otherwise: an EXIF rotation is not applied, because masks refer to them
    (only that of a TIFF, which its decoder applies), and 16-bit grey is refused. Alpha is dropped; of two pictures in one file (MPO) the
    first counts. JPEG has no checksum: changed bytes may decode. `InputError` as for `image_size`; or the file is damaged, would take far
    longer than its pixels explain, or has a pixel format other than 8 bits a channel of grey, palette, RGB, CMYK or YCbCr.
    """
    with decoded_image(path, reading) as image:
        image = rgb(image, reading)
    return np.asarray(image if size is None else resized(image, size))


def rgb(image: Image.Image, reading: ReadingConfig = AS_STORED) -> Image.Image:
    """Return a decoded image as RGB, turned and scaled to 8 bits as `reading` says; what is transparent keeps its stored colour."""
    if reading.exif_rotation and (turn := _TURNS.get(_orientation(image))) is not None:
        image = image.transpose(turn)
    if reading.grey16_white is not None and image.mode in _GREY16_MODES:
        values = np.asarray(image).clip(0, reading.grey16_white).astype(np.uint32)
        image = Image.fromarray(((values * 255 + reading.grey16_white // 2) // reading.grey16_white).astype(np.uint8))
    if image.mode == "P":
        image = image.convert("RGBA")  # a palette with transparency is converted to RGB by way of RGBA only
    return image.convert("RGB")


def resized(image: Image.Image, size: int) -> Image.Image:
    """Return an RGB image of (size, size), bilinear and with antialiasing; the aspect ratio is not kept."""
    return image.resize((size, size), Image.Resampling.BILINEAR)


def read_mask(path: Path, size: int | None = None) -> np.ndarray:
    """Decode a mask as bool (H, W), True where anomalous: see `anomalous_pixels`; with `size`, resized by `resize_mask` to that side.

    `InputError` as for `image_size`; or the file is damaged, or neither grey (of any depth), palette nor RGB.
    """
    with decoded_mask(path) as image:
        anomalous = anomalous_pixels(image)
    return anomalous if size is None else resize_mask(anomalous, (size, size))


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a mask bool (h, w) to (H, W) as in the published evaluation: 0/255, bilinear, anomalous above one half."""
    if mask.shape == size:
        return mask
    height, width = size
    resized = Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized) > 127


def anomalous_pixels(mask: Image.Image) -> np.ndarray:
    """Return bool (H, W): True where any value above 0 is stored (MVTec AD: 255; VisA: 1, 2, ...).

    Of a palette the indices count, not the colours; an alpha channel does not count.
    """
    values = np.asarray(mask)
    if values.ndim == 3:
        values = values[..., : 1 if mask.mode in ("LA", "PA") else 3].max(axis=-1)
    return values > 0


def decoded_image(path: Path, reading: ReadingConfig = AS_STORED) -> AbstractContextManager[ImageFile]:
    """Open what `read_image` accepts, decoded, in the mode of the file; errors as there."""
    return _decoded(path, path, _modes(reading))


def decoded_mask(path: Path) -> AbstractContextManager[ImageFile]:
    """Open what `read_mask` accepts, decoded, in the mode of the file; errors as there."""
    return _decoded(path, path, _MASK_MODES)


def image_of_bytes(
    data: bytes, name: str, max_pixels: int = MAX_PIXELS, reading: ReadingConfig = AS_STORED
) -> Image.Image:
    """Return the RGB image that `data`, a whole file, holds; errors as for `read_image`, with `name` in the place of the path.

    `TooManyPixelsError`: it has more than `max_pixels`; nothing has been decoded then.
    """
    with _decoded(data, name, _modes(reading), max_pixels) as image:
        return rgb(image, reading)


def checked_image(image: Image.Image, reading: ReadingConfig = AS_STORED) -> Image.Image:
    """Return an image that a caller has opened as RGB; errors as for `read_image`, except that its size is the caller's matter."""
    name = getattr(image, "filename", "") or "PIL image"
    with _problems_named(name, "damaged image"):
        _load(image, name)
    _check_mode(image, name, _modes(reading))
    return rgb(image, reading)


def is_rotated(image: Image.Image) -> bool:
    """Return whether EXIF asks for a rotation or reflection that has not been applied to a decoded image."""
    return _orientation(image) in _TURNS


def _orientation(image: Image.Image) -> int:
    """Return EXIF's number of how an image is to be turned; 1, not at all, where it has none or not one of these."""
    try:
        orientation = image.getexif().get(Base.Orientation, 1)
        return orientation if orientation in _TURNS else 1
    except Exception:  # Pillow promises no set of exceptions for damaged EXIF data, which ask for nothing
        return 1


def _modes(reading: ReadingConfig) -> frozenset[str]:
    return _IMAGE_MODES if reading.grey16_white is None else _IMAGE_MODES | _GREY16_MODES


@contextmanager
def _opened(source: Path | bytes, name: Path | str, max_pixels: int = MAX_PIXELS) -> Generator[ImageFile]:
    """Open a file, or the bytes of one, which messages call `name`, and look at its header."""
    with ExitStack() as stack:
        with _problems_named(name, "cannot be read as an image"):
            # To open a pipe would wait forever.
            if isinstance(source, Path) and not stat.S_ISREG(source.stat().st_mode):
                raise InputError(f"{name}: not an image, not even a file")
            file = stack.enter_context(_stream(source))
            if (problem := slow_header(file)) is not None:
                raise InputError(f"{name}: has {problem}; save it anew")
            image = stack.enter_context(Image.open(file, formats=_FORMATS))
            _check_header(image, name, max_pixels)
        yield image


@contextmanager
def _decoded(
    source: Path | bytes, name: Path | str, modes: frozenset[str], max_pixels: int = MAX_PIXELS
) -> Generator[ImageFile]:
    with _opened(source, name, max_pixels) as image:
        _check_mode(image, name, modes)
        with _problems_named(name, "damaged image"):
            if image.format == "PNG":
                with _stream(source) as file, Image.open(file, formats=("PNG",)) as again:
                    again.verify()  # the checksums: damaged data may well decode
            _load(image, name)
        yield image


def _stream(source: Path | bytes) -> BinaryIO:
    return BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _check_header(image: ImageFile, path: Path | str, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise TooManyPixelsError(f"{path}: has {image.width}x{image.height} pixels; at most {max_pixels} are accepted")
    # Not n_frames, for which a TIFF of many pages is searched for minutes. MPO: a photograph with a second view behind it.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise InputError(f"{path}: has several frames or pages; save the one that counts as a file of its own")
    # Of more than 8 bits a channel Pillow keeps the upper ones without a word.
    bits = image.tag_v2.get(Base.BitsPerSample, (1,)) if isinstance(image, TiffImageFile) else ()
    is_deep = max(bits, default=0) > 8 or any(";16" in str(tile.args) for tile in image.tile)
    if image.mode not in _DEEP_GREY_MODES and is_deep:
        raise InputError(f"{path}: has colours of 16 bits a channel; convert it to 8 bits a channel")


def _load(image: Image.Image, name: Path | str) -> None:
    """Decode; `InputError` for what takes far longer than its pixels explain, and for a TIFF in which damage is not seen."""
    if not isinstance(image, ImageFile) or not image.tile:
        image.load()
        return
    if image.format in ("JPEG", "MPO") and image.fp is not None:
        position = image.fp.tell()
        image.fp.seek(0)
        data = image.fp.read(_MOST_SEARCHED)
        image.fp.seek(position)
        # Counted in earnest only where there may be too many, which is rare: it takes a tenth of the decoding.
        if data.count(b"\xff\xda") > MOST_SCANS and count_scans(data) > MOST_SCANS:
            raise InputError(f"{name}: a JPEG of more than {MOST_SCANS} scans; save it anew")
    if len(image.tile) > MOST_PIECES:
        raise InputError(f"{name}: has more than {MOST_PIECES} strips or tiles; save it anew")
    if image.format == "TIFF" and (compression := image.info.get("compression")) not in _TIFF_COMPRESSIONS:
        raise InputError(f"{name}: a TIFF compressed as {compression}; save it anew, as PNG or by LZW or deflate")
    if image.tile[0].codec_name == "bmp_rle":
        raise InputError(f"{name}: a BMP in run lengths, which decode for long; save it anew, as PNG")
    image.load()


def _check_mode(image: Image.Image, name: Path | str, modes: frozenset[str]) -> None:
    if image.mode not in modes:
        is_grey16 = image.mode in _GREY16_MODES
        scaled = ", or say in its `splits` section what is white: grey16_white" if is_grey16 else ""
        raise InputError(
            f"{name}: has the pixel format {image.mode}; convert it to 8 bits a channel, grey or RGB{scaled}"
        )


class _Silence:
    """No warnings while any thread is inside: `warnings.catch_warnings` by itself knows of one thread only and would leave them off."""

    def __init__(self) -> None:
        self._lock, self._inside, self._filters = threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._filters.enter_context(warnings.catch_warnings(action="ignore"))

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._filters.close()


_SILENCE = _Silence()


@contextmanager
def _problems_named(path: Path | str, problem: str) -> Generator[None]:
    """Turn what Pillow raises into one line that names the file; silence its warnings, which name none."""
    try:
        with _SILENCE:
            yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # a warning where these are made errors
        raise TooManyPixelsError(f"{path}: has far more than {MAX_PIXELS} pixels; at most these are accepted") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: not an image (PNG, JPEG, BMP, TIFF or WebP), or a damaged one") from None
    except Exception as error:  # Pillow promises no set of exceptions for hostile files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"{path}: {problem} ({' '.join(reason.split())})") from None
