"""Anomaly maps of any method as `invad-pipe evaluate` takes them: one array in a file, or a folder with a file for each map.

Every file is hostile until it has been read, nothing is ever unpickled, and every error names its file.
"""

import math
import os
import re
import stat
import zipfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from PIL.ExifTags import Base
from PIL.TiffImagePlugin import TiffImageFile

from invad.data.images import MAX_PIXELS, decoded_mask
from invad.data.listing import entries
from invad.disk import readable
from invad.errors import InputError

MAP_SUFFIXES = frozenset({".npy", ".tif", ".tiff", ".png"})
NORMAL_FOLDERS = frozenset({"good", "normal"})
Item = TypeVar("Item")
BATCH = 32  # maps in memory at a time
MAX_BYTES = 64 * 2**30  # of the arrays of an .npz

_GREY_MODES = ("L", "I;16", "I;16B", "I", "F")
_WRAPPING = {(8, 2): "signed bytes", (32, 1): "unsigned 32 bits"}  # bits and SampleFormat: Pillow changes such numbers


@dataclass(frozen=True)
class MapFolder:
    """The maps of a folder: iterating, as often as wanted, yields batches (n, H, W) that are read then.

    Attributes:
        root: The folder.
        names: Paths of the files relative to it, with `/`, sorted as text.
        size: (H, W) of the first map; another size is an `InputError` while iterating.
        notes: What was ignored.
    """

    root: Path
    names: list[str]
    size: tuple[int, int]
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[np.ndarray]:
        for names in batches(self.names):
            yield np.stack([self._read(name) for name in names])

    def _read(self, name: str) -> np.ndarray:
        array = read_map(self.root / name)
        if (size := array.shape) != self.size:
            first = f"{size_text(self.size)} of {self.names[0]}"
            raise InputError(f"{self.root / name}: has {size_text(size)} pixels; all maps must have the {first}")
        return array

    def classes(self) -> list[str]:
        """Return the class of each map: the first folder of its path, as in MVTec AD, or the one class "all".

        The latter where the maps lie directly in `root`, or in folders `good` or `normal` there (those of a single class).

        Raises:
            InputError: Some maps lie directly in `root` and others do not.
        """
        folders = [PurePosixPath(name).parts[0] if "/" in name else "" for name in self.names]
        if all(not folder for folder in folders) or NORMAL_FOLDERS & set(folders):
            return ["all"] * len(folders)
        if "" in folders:
            raise InputError(
                f"{self.root}: {self.names[folders.index('')]} lies in no folder, other maps do; give --classes"
            )
        return folders


def open_map_folder(root: Path) -> MapFolder:
    """List the maps below `root` and read the first one.

    Raises:
        InputError: There is none, two differ in their suffix alone, or as for `read_map`.
    """
    names, notes = list_files(root, MAP_SUFFIXES)
    if not names:
        raise InputError(f"{root}: has no maps ({', '.join(sorted(MAP_SUFFIXES))})")
    by_stem: dict[str, str] = {}
    for name in names:
        if (other := by_stem.setdefault(without_suffix(name), name)) != name:
            raise InputError(f"{root / other} and {root / name}: two maps of one name; keep one")
    return MapFolder(root, names, read_map(root / names[0]).shape, notes)


def read_map(path: Path) -> np.ndarray:
    """Read one map (H, W): a `.npy` of any real numbers, or a grey TIFF or PNG of 8 or 16 bits, or 32 (TIFF only).

    Raises:
        InputError: The file is missing or damaged, has other dimensions, colours or several pages, no number of a pixel or more
            than `MAX_PIXELS`, or NaN or infinity.
    """
    array = open_npy(path) if path.suffix.lower() == ".npy" else _read_grey(path)
    check_array(array, path, ("H", "W"))
    if array.size > MAX_PIXELS:
        raise InputError(f"{path}: has {array.size} pixels; at most {MAX_PIXELS} are accepted")
    array = np.array(array, dtype=array.dtype.newbyteorder("="))
    if not np.isfinite(array).all():
        raise InputError(f"{path}: holds NaN or infinity; scores must be finite")
    return array


def _read_grey(path: Path) -> np.ndarray:
    try:
        with decoded_mask(path) as image:  # the modes of masks include all grey ones
            if image.mode not in _GREY_MODES:
                raise InputError(f"{path}: has the pixel format {image.mode}; a map has one grey value for each pixel")
            if isinstance(image, TiffImageFile):
                bits, sign = (image.tag_v2.get(tag, (1,))[0] for tag in (Base.BitsPerSample, Base.SampleFormat))
                if (bits, sign) in _WRAPPING:
                    raise InputError(f"{path}: holds {_WRAPPING[bits, sign]}")
            return np.asarray(image)
    except InputError as error:
        hint = "; a TIFF may hold float32, or 8 or 16 bits" if path.suffix.lower() != ".png" else ""
        raise InputError(f"{error}{hint}") from None


def check_array(array: np.ndarray, path: Path, dimensions: tuple[str, ...]) -> None:
    """Raise `InputError` unless `array` has these dimensions, none of them 0, of real numbers."""
    expected = f"expected ({', '.join(dimensions)})"
    if array.ndim != len(dimensions):
        raise InputError(f"{path}: has the shape {array.shape}; {expected}")
    if array.dtype.kind not in "fiu":
        raise InputError(f"{path}: holds {array.dtype}; {expected} of numbers")
    if array.size == 0:
        raise InputError(f"{path}: empty, its shape is {array.shape}; {expected}")


def list_files(root: Path, suffixes: frozenset[str]) -> tuple[list[str], list[str]]:
    """Return the files of these suffixes below `root` (relative, with `/`, sorted as text), and a note of what was ignored.

    Hidden files are ignored without a note. Links to folders are not followed.
    """
    names, others, links = [], 0, 0
    pending = [root]
    while pending:
        for path in entries(pending.pop()):
            if path.is_dir():
                links += path.is_symlink()
                pending += [] if path.is_symlink() else [path]
            elif path.suffix.lower() in suffixes:
                names.append(path.relative_to(root).as_posix())
            else:
                others += 1
    ignored = [f"{count} {what}" for count, what in ((others, "other file(s)"), (links, "linked folder(s)")) if count]
    return sorted(names), [f"{root}: ignored {' and '.join(ignored)}"] if ignored else []


def without_suffix(name: str) -> str:
    """`bottle/good/000.tiff` -> `bottle/good/000`."""
    return PurePosixPath(name).with_suffix("").as_posix()


def batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yield the items `BATCH` by `BATCH`."""
    yield from (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def size_text(size: tuple[int, ...]) -> str:
    """(H, W) -> `WxH`."""
    return f"{size[1]}x{size[0]}"


def open_arrays(
    path: Path, names: Sequence[str], others: Sequence[str] = ()
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Read the arrays of a `.npy` file, memory-mapped, or an `.npz` file.

    Args:
        path: The file.
        names: What the main array of an `.npz` may be called; where there is one array, it may have any name.
        others: Arrays that are read too, where there are any.

    Returns:
        The arrays by name, the main one as `names[0]`, and a note of those that were not read.

    Raises:
        InputError: The file is missing or damaged; or the main array is missing or not told from others; or the arrays of an
            `.npz` need more memory than is free, or more than `MAX_BYTES`.
    """
    if path.suffix.lower() == ".npy":
        return {names[0]: open_npy(path)}, []
    with _problems_named(path, ".npz"), np.load(path, allow_pickle=False) as archive:
        there = [name for name in names if name in archive.files] or [x for x in archive.files if x not in others]
        if len(there) != 1:
            files = ", ".join(archive.files) or "none"
            raise InputError(f"{path}: expected one array, or one named {' or '.join(names)}, not the arrays {files}")
        wanted = {names[0]: there[0], **{name: name for name in others if name in archive.files}}
        needed, free = (
            sum(_announced(archive.zip, f"{name}.npy") for name in wanted.values()),
            min(_free_memory(), MAX_BYTES),
        )
        if needed > free:
            raise InputError(
                f"{path}: its arrays need {readable(needed)} of memory, {readable(free)} can be had; "
                "save them as .npy, which is not read as a whole"
            )
        unread = [name for name in archive.files if name not in wanted.values()]
        notes = [f"{path}: not read: {', '.join(unread)}"] if unread else []
        return {name: archive[member] for name, member in wanted.items()}, notes


def open_npy(path: Path) -> np.ndarray:
    """Memory-map a `.npy` file; `InputError` when it is missing, damaged, cut off or pickled."""
    with _problems_named(path, ".npy"):
        return np.lib.format.open_memmap(path, mode="r")


def _announced(archive: zipfile.ZipFile, member: str) -> int:
    """Return the size in memory that the header of an array announces."""
    with archive.open(member) as file:
        newer = np.lib.format.read_magic(file) != (1, 0)
        read = np.lib.format.read_array_header_2_0 if newer else np.lib.format.read_array_header_1_0
        shape, _, dtype = read(file)
    return math.prod(shape) * dtype.itemsize


def _free_memory() -> int:
    """Return the bytes that can be had without swapping; where the system does not say, all of its memory."""
    try:
        return 1024 * int(re.findall(r"(?m)^MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text())[0])
    except (OSError, IndexError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextmanager
def _problems_named(path: Path, kind: str) -> Generator[None]:
    """Turn what numpy and zipfile raise into one line that names the file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would wait forever
            raise InputError(f"{path}: not a file")
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:  # neither promises a set of exceptions for hostile files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"{path}: damaged, or not a {kind} file of numbers ({' '.join(reason.split())})") from None
