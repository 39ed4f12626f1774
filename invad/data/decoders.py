"""What Pillow leaves to C libraries and does not watch: how often a JPEG paints its image over, and in how many pieces a file comes."""

import re
import struct
from typing import BinaryIO

MOST_SCANS = 40
"""Progressive files have 10 or 18, the smallest that optimisers make about 30; each takes the time of a whole decoding."""

MOST_PIECES = 100_000
"""Strips or tiles of a TIFF, chunks of a PNG, segments of a JPEG and bytes between them: each costs the time of an object."""

_SCAN, _END = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")  # neither a stuffed zero nor a restart, which are within a scan
_BARE = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})  # markers without a length


def count_scans(data: bytes, most: int = MOST_SCANS) -> int:
    """Return how many scans the first image in the bytes of a JPEG has, or `most + 1` where there are more."""
    scans, position = 0, 2
    while scans <= most and (match := _MARKER.search(data, position)):
        marker, position = match[1][0], match.end()
        if marker == _END:
            break
        if marker in _BARE:
            continue
        scans += marker == _SCAN
        position += int.from_bytes(data[position : position + 2], "big")  # not into previews in its segments
    return scans


def slow_header(file: BinaryIO) -> str | None:
    """Return why the header of an image would be read for minutes, whatever its pixels; None where it would not.

    Only the beginnings of pieces are read; the file is left at its beginning.
    """
    start = file.read(16)
    problem = None
    if start.startswith((b"\xff\xd8", b"\x89PNG")):
        position, length = (2, _segment_length) if start.startswith(b"\xff\xd8") else (8, _chunk_length)
        pieces = 0
        while pieces <= MOST_PIECES:
            file.seek(position)
            if not (step := length(file.read(8))):
                break
            pieces, position = pieces + 1, position + step
        else:
            problem = f"more than {MOST_PIECES} segments or chunks"
    elif start[:2] in (b"II", b"MM") and len(start) == 16:
        problem = _slow_tiff(file, start)
    file.seek(0)
    return problem


def _segment_length(head: bytes) -> int:
    """Return the bytes of a segment of a JPEG, one of a stray byte, none at the end of the header."""
    if len(head) < 4 or head[:2] in (b"\xff\xda", b"\xff\xd9"):
        return 0
    has_length = head[0] == 0xFF and head[1] not in (0, 0xFF, *_BARE)
    return 2 + int.from_bytes(head[2:4], "big") if has_length else 1


def _chunk_length(head: bytes) -> int:
    """Return the bytes of a chunk of a PNG, none at its end."""
    return 0 if len(head) < 8 or head[4:] == b"IEND" else 12 + int.from_bytes(head[:4], "big")


_OF_BYTES = frozenset({1, 2, 6, 7})  # types of a tag whose values are one string to Python


def _slow_tiff(file: BinaryIO, start: bytes) -> str | None:
    order = "<" if start.startswith(b"II") else ">"
    # BigTIFF, for files above 4 GB, has 64 bits for places and numbers.
    place, number, entry = ("8xQ", "Q", "HHQ8x") if b"+" in start[2:4] else ("4xI", "H", "HHI4x")
    file.seek(struct.unpack_from(order + place, start)[0])
    raw = file.read(struct.calcsize(order + number))
    if len(raw) < struct.calcsize(order + number):
        return None
    size = struct.calcsize(order + entry)
    table = file.read(size * min(struct.unpack(order + number, raw)[0], MOST_PIECES))
    entries = struct.iter_unpack(order + entry, table[: len(table) // size * size])
    values = sum(many for _, kind, many in entries if kind not in _OF_BYTES)
    is_slow = values > 2 * MOST_PIECES + 1000  # places and sizes of strips, and what else there is
    return f"more than {MOST_PIECES} strips or tiles" if is_slow else None
