"""Pictures as bytes of a file, also of what is hardly one."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def picture(seed: int = 0, width: int = 96, height: int = 80) -> Image.Image:
    """Noise, some of it lighter: no two seeds alike."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 100 + seed % 150, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is that large and has next to no pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"0" * 100)) + chunk(b"IEND")
