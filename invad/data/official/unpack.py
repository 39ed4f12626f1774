"""Unpack zip and tar archives: nothing lands outside the target, and a killed unpacking never looks finished."""

import errno
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from invad.disk import free_bytes, readable
from invad.errors import InputError
from invad.files import read_json, remove, write_json

MARKERS = ".unpacked"  # in the target: one file for each archive that was unpacked there
# What an archive unpacks to, headers included, is bounded by what is expected, which is an estimate.
MOST_TIMES, SMALLEST_BOUND = 4, 1 << 20
MOST_MEMORY = 1 << 30  # bytes of an .xz's dictionary: 64 MiB at the highest usual level, up to 4 GiB may be declared
LONGEST_HEADER = 1 << 20  # bytes of an extended header of a tar, which is read as a whole
BLOCK = 1 << 20
HEADER = tarfile.BLOCKSIZE  # bytes of a member, at least: their number is bounded by what they unpack to
ENCRYPTED = 0x1  # in the flags of a zip's member
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)  # others may need any amount of memory
_COMPRESSIONS = {b"\x1f\x8b": "gz", b"\xfd7zXZ\0": "xz", b"BZh": "bz2"}  # by a file's first bytes

Only = Callable[[str], bool] | None
Member = tuple[str, int, str, Callable[[], Any]]  # a file: name, bytes, why it is refused, and what opens it

# What the standard library raises for a damaged archive. The errors of a full disk have other numbers.
_OF_FORMATS = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError)
_DAMAGE = (*_OF_FORMATS, EOFError, NotImplementedError, UnicodeError)
_DAMAGE_NUMBERS = {None, errno.EINVAL, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG}


def unpack(
    archive: Path, target: Path, *, name: str, sha256: str, unpacked_size: int, label: str, only: Only = None
) -> None:
    """Unpack a .zip, .tar, .tar.gz, .tar.xz or .tar.bz2, told apart by their contents, into the folder `target`.

    Each top-level entry of the archive replaces the one of the same name in `target`; before, it is complete in a temporary folder
    there. `unpacked_sha256` will return `sha256` for the archive's `name`. `unpacked_size`: the bytes expected on the disk; four times as
    many are refused. `only` takes or leaves a file by its name in the archive (`annotations/a.json`). A bar on stderr counts bytes.
    `InputError`, and `target` is as it was: the archive is damaged or another kind, has a member that is refused (a path that leads
    outside, a link, a device, an encrypted one), holds no file that is taken, or does not fit on the disk.
    """
    target.mkdir(parents=True, exist_ok=True)
    free_bytes(target, unpacked_size, f"{archive} to be unpacked")
    staging = target / f".unpacking-{name}"
    remove(staging)  # of a process that was killed
    staging.mkdir()
    try:
        _unpack_into(staging, archive, label, only, MOST_TIMES * unpacked_size + SMALLEST_BOUND)
        files = {path.name: _count_files(path) for path in sorted(staging.iterdir())}
        if not files:
            raise InputError(f"{archive}: holds none of the files expected in it; give the archive as it is published")
        _marker(name, target).unlink(missing_ok=True)  # from here until the end `target` is neither the old nor the new
        for entry in files:
            remove(target / entry)
            (staging / entry).rename(target / entry)
        write_json(_marker(name, target), {"archive": name, "sha256": sha256, "entries": files})
    finally:
        remove(staging)


def unpacked_sha256(archive_name: str, target: Path) -> str | None:
    """Return the SHA-256 of the archive of this name that was unpacked into `target`; None when none was, or files of it are gone."""
    try:
        marker = read_json(_marker(archive_name, target))
    except InputError:
        return None
    complete = all(_count_files(target / entry) >= files for entry, files in marker["entries"].items())
    return marker["sha256"] if complete else None


def _marker(name: str, target: Path) -> Path:
    return target / MARKERS / f"{name}.json"


def _count_files(path: Path) -> int:
    return 1 if path.is_file() else sum(len(files) for _, _, files in os.walk(path))


def _unpack_into(folder: Path, archive: Path, label: str, only: Only, most: int) -> None:
    """Write the files that `only` takes below `folder`, as new ones of this user: neither the modes nor the owners of the archive."""
    try:
        with archive.open("rb") as file:
            start = file.read(BLOCK)
        members = _zip_members(archive, most) if start.startswith(b"PK") else _tar_members(archive, start, most)
        with tqdm(desc=label, unit="B", unit_scale=True) as progress:
            for name, size, problem, opened in members:
                if problem := problem or _problem_of_name(name):
                    text = f"is refused: {problem}; give an archive of plain files and folders"
                    raise InputError(f"{archive}: member {name!r} {text}")
                if only is None or only(name):
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    with opened() as source, (folder / name).open("xb") as file:
                        shutil.copyfileobj(source, file, BLOCK)
                progress.update(size)
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _DAMAGE_NUMBERS:
            raise
        text = f"not a zip or tar archive, or a damaged one ({error}); move it away and fetch it again"
        raise InputError(f"{archive}: {text}") from error


def _problem_of_name(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return "its path could lead outside the target, or is none"
    return "the unpacking itself uses this name" if path.parts[0].startswith(".unpack") else ""


def _zip_members(archive: Path, most: int) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        _check_size(archive, sum(info.file_size + HEADER for info in file.infolist()), most)
        for info in file.infolist():
            if info.filename.endswith("/"):
                continue
            problem = ""
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                problem = "it is a link or a device"
            elif info.flag_bits & ENCRYPTED or info.compress_type not in _BOUNDED:
                problem = "it is encrypted, or its compression may need any amount of memory"
            yield info.filename, info.file_size, problem, partial(file.open, info)


def _tar_members(archive: Path, start: bytes, most: int) -> Iterator[Member]:
    kind = next((kind for magic, kind in _COMPRESSIONS.items() if start.startswith(magic)), "")
    if kind == "xz":
        _check_memory(archive, start)
    with tarfile.open(archive, f"r:{kind}", tarinfo=StrictTarInfo) as tar:  # pyrefly: ignore[no-matching-overload]  (reads only)
        while (info := tar.next()) is not None:
            tar.members.clear()  # it would keep them all
            _check_size(archive, info.offset_data + info.size, most)
            if not info.isdir():
                problem = "" if info.isreg() and not info.issparse() else "it is a link, a device or sparse"
                yield info.name, info.size, problem, partial(tar.extractfile, info)
        while tar.fileobj.read(BLOCK):  # the checksums of the compressed stream are at its end
            _check_size(archive, tar.fileobj.tell(), most)


def _check_size(archive: Path, size: int, most: int) -> None:
    if size > most:
        raise InputError(
            f"{archive}: unpacks to more than {readable(most)}, far more than the published one; fetch it again"
        )


def _check_memory(archive: Path, start: bytes) -> None:
    """Refuse an .xz whose first block declares a huge dictionary; what later blocks take is bounded by what they unpack to."""
    try:
        lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_MEMORY).decompress(start, max_length=1)
    except lzma.LZMAError as error:
        if "memory usage limit" not in str(error).lower():
            raise
        needs = f"needs more than {readable(MOST_MEMORY)} of memory to be unpacked"
        raise InputError(f"{archive}: {needs}; fetch it again") from None


class StrictTarInfo(tarfile.TarInfo):
    """Headers of a tar of which a damaged or missing one is an error; tarfile takes it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> "StrictTarInfo":  # noqa: ANN401  (as in the base class)
        """See the base class."""
        try:
            info = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf == bytes(tarfile.BLOCKSIZE):  # the block of zeros at the end
                raise
            raise tarfile.ReadError(str(error)) from error
        if info.size < 0 or (not info.isreg() and info.size > LONGEST_HEADER):
            raise tarfile.ReadError(f"a header of {info.size} bytes")
        return info
