"""What Pillow leaves to C libraries and does not watch: how often a JPEG paints its image over, and what libtiff complains of.

libtiff writes its complaints to standard error, past Python, and goes on; a file of 20 MB can make it write hundreds of megabytes.
"""

import ctypes
import re
import struct
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

MOST_SCANS = 40
"""Progressive files have 10 or 18, the smallest that optimisers make about 30; each takes the time of a whole decoding."""

MOST_PIECES = 100_000
"""Strips or tiles of a TIFF, chunks of a PNG, segments of a JPEG: each costs the time of an object. A file has far fewer."""

MOST_STRAY = 2**16
"""Bytes between the segments of a JPEG, which are read one by one."""

_SCAN, _END = 0xDA, 0xD9
_MARKER = re.compile(
    rb"\xff+([\x01-\xcf\xd8-\xfe])"
)  # neither a stuffed zero nor a restart, both of which are within a scan
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
    if start.startswith(b"\xff\xd8"):
        problem = _slow_jpeg(file)
    elif start.startswith(b"\x89PNG"):
        problem = _slow_png(file)
    else:
        problem = _slow_tiff(file, start) if start[:2] in (b"II", b"MM") and len(start) == 16 else None
    file.seek(0)
    return problem


def _slow_jpeg(file: BinaryIO) -> str | None:
    position, pieces, stray = 2, 0, 0
    while pieces <= MOST_PIECES and stray <= MOST_STRAY:
        file.seek(position)
        head = file.read(4)
        if len(head) < 4 or head[:2] in (b"\xff\xda", b"\xff\xd9"):
            return None
        if head[0] == 0xFF and head[1] not in (0, 0xFF, *_BARE):
            pieces, position = pieces + 1, position + 2 + int.from_bytes(head[2:], "big")
        else:
            stray, position = stray + 1, position + 1
    return f"more than {MOST_PIECES} segments, or {MOST_STRAY} bytes between them"


def _slow_png(file: BinaryIO) -> str | None:
    position = 8
    for _ in range(MOST_PIECES):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return None
        position += 12 + int.from_bytes(head[:4], "big")
    return f"more than {MOST_PIECES} chunks"


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


Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_LOCK = threading.Lock()
_libraries: list[Any] | None = None


@contextmanager
def tiff_complaints() -> Generator[list[str]]:
    """Collect the first complaint of libtiff of what is decoded inside, of one thread at a time; nothing goes to standard error.

    Where the library cannot be reached (another system than Linux, or one that has it within Pillow's own file) the list stays empty.
    """
    complaints: list[str] = []
    thread = threading.get_ident()

    def complain(module: bytes | None, _format: bytes | None, _arguments: int | None) -> None:
        if threading.get_ident() == thread and not complaints:
            complaints.append(f"libtiff complains: {(module or b'').decode('ascii', 'replace')[:40]}")
            _set(None, None)  # one is enough, and there may be millions

    def warn(module: bytes | None, format_: bytes | None, arguments: int | None) -> None:
        if not (module or b"").lstrip(b"_").startswith(b"TIFF"):  # of a decoder; those of tags change no pixel
            complain(module, format_, arguments)

    handlers = Handler(complain), Handler(warn)
    with _LOCK:  # the handlers are those of the process
        before = _set(*handlers)
        try:
            yield complaints
        finally:
            for library, (error, warning) in before:
                library.TIFFSetErrorHandler(error)
                library.TIFFSetWarningHandler(warning)


def _set(error: Any, warning: Any) -> list[tuple[Any, tuple[Any, Any]]]:  # noqa: ANN401  (of ctypes)
    """Set the handlers, None for silence, and return those of before."""
    return [
        (library, (library.TIFFSetErrorHandler(error), library.TIFFSetWarningHandler(warning)))
        for library in _libtiff()
    ]


def _libtiff() -> list[Any]:
    """Return every libtiff that this process has loaded; called when Pillow's is there."""
    global _libraries
    if _libraries is None:
        try:
            lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except OSError:
            lines = []
        paths = {line.split(maxsplit=5)[-1] for line in lines if "/libtiff" in line}
        _libraries = [_loaded(path) for path in sorted(paths) if not path.endswith("(deleted)")]
    return _libraries


def _loaded(path: str) -> Any:  # noqa: ANN401
    library = ctypes.CDLL(path)
    for setter in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
        setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
    return library
