"""The files of an archive, one after the other, each judged before it is opened."""

import bz2
import errno
import gzip
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from tqdm import tqdm
from tqdm.utils import CallbackIOWrapper

from invad.disk import readable
from invad.errors import InputError

MOST_MEMBERS = 2_000_000
LONGEST_NAME = 255  # bytes of one part of a path, on every usual file system
MOST_MEMORY = (
    1 << 30
)  # bytes that unpacking .xz may take: its dictionary, 64 MiB at the highest usual level, may be declared of 4 GiB
LONGEST_HEADER = 1 << 20  # bytes of an extended header of a tar, which is read as a whole
BLOCK = 1 << 16
EXPANSION = 2  # a compressed tar does not tell its unpacked size; photographs hardly shrink, so this leaves room
ZSTANDARD = 93  # of a zip's member; zipfile knows it from Python 3.14 on
ENCRYPTED = 0x1  # in the flags of a zip's member

# What the standard library raises for a damaged archive, besides an OSError.
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    UnicodeDecodeError,
)

Only = Callable[[str], bool] | None


@dataclass(frozen=True)
class Member:
    """A regular file in an archive: its relative path, its size in bytes as declared, and how to read it, once."""

    path: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]]


@contextmanager
def open_archive(
    archive: Path, only: Only, unpacked_size: int | None, progress: "tqdm[Any]", most: int | None = None
) -> Generator[tuple[Iterator[Member], int]]:
    """Yield the files that `only` takes, in their order, and the bytes that they need on the disk.

    A zip knows that number; for a tar it is `unpacked_size`, by default an estimate. A zip is judged whole before the first member
    comes, a tar while it is read. Each member is read before the next one is asked for.

    Raises:
        InputError: The archive is damaged, has a member that is refused, or unpacks to more than `most` bytes; also while the members
            are read.
    """
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(archive.open("rb"))
            start = raw.read(6)
            raw.seek(0)
            if start.startswith(b"PK"):
                members, total = _zip_members(stack.enter_context(zipfile.ZipFile(raw)), archive, only, progress)
                if most is not None and total > most:
                    raise _too_large(archive, most)
                yield members, total
            else:
                size = archive.stat().st_size
                progress.reset(size)
                counted = CallbackIOWrapper(progress.update, raw, "read")
                stream, compressed = _decompressed(counted, start, archive)  # pyrefly: ignore[bad-argument-type]  (is like `raw`)
                if most is not None:
                    stream = _Bounded(stream, most, archive)
                needed = unpacked_size or size * (EXPANSION if compressed else 1)
                yield _tar_members(stream, archive, only), needed
    except _DAMAGE as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        # The disk's errors have a number. Those of bz2 and gzip have none; EINVAL: a damaged zip made zipfile seek before the start.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise _damaged(archive, error) from error


def _damaged(archive: Path, error: Exception) -> InputError:
    return InputError(
        f"{archive}: not a zip or tar archive, or a damaged one ({error}); move it away and fetch it again"
    )


def _too_large(archive: Path, most: int) -> InputError:
    return InputError(
        f"{archive}: unpacks to more than {readable(most)}, far more than the published one; fetch it again"
    )


class Judge:
    """Refuses members by their names; remembers those that were there."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self.count = 0
        self.files: set[str] = set()
        self.folders = {"."}

    def path(self, name: str, *, folder: bool) -> PurePosixPath:
        """Return the name as a relative path inside the target; `InputError` where it could lead elsewhere, or members are too many."""
        self.count += 1
        if self.count > MOST_MEMBERS:
            raise InputError(f"{self.archive}: more than {MOST_MEMBERS:,} members; no data set here has so many")
        path = PurePosixPath(name)
        if name.startswith("/") or re.match("[A-Za-z]:", name) or "\\" in name or "\0" in name or ".." in path.parts:
            raise self.refuse(name, "its path could lead outside the target")
        if not path.parts and not folder:
            raise self.refuse(name, "it has no name")
        if name.encode(errors="replace").decode() != name or any(len(p.encode()) > LONGEST_NAME for p in path.parts):
            raise self.refuse(name, "its name is not UTF-8, or too long")
        if path.parts and path.parts[0].startswith(".unpack"):
            raise self.refuse(name, "the unpacking itself uses this name")
        self._remember(path, name, folder)
        return path

    def refuse(self, name: str, reason: str) -> InputError:
        """Return the exception to raise for a member."""
        return InputError(
            f"{self.archive}: member {name!r} is refused: {reason}; give an archive of plain files and folders"
        )

    def _remember(self, path: PurePosixPath, name: str, folder: bool) -> None:
        parents = {str(parent) for parent in takewhile(lambda parent: str(parent) not in self.folders, path.parents)}
        if str(path) in self.files or (not folder and str(path) in self.folders) or parents & self.files:
            raise self.refuse(name, "its name comes twice")
        self.folders |= parents
        (self.folders if folder else self.files).add(str(path))


def _zip_members(
    file: zipfile.ZipFile, archive: Path, only: Only, progress: "tqdm[Any]"
) -> tuple[Iterator[Member], int]:
    judge = Judge(archive)
    chosen = []
    for info in file.infolist():
        folder = info.orig_filename.endswith("/")  # not is_dir(), which fails for a name of no character
        path = judge.path(info.orig_filename, folder=folder)
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise judge.refuse(info.filename, "it is a link or a device")
        if info.flag_bits & ENCRYPTED:
            raise judge.refuse(info.filename, "it is encrypted")
        if info.compress_type in (zipfile.ZIP_LZMA, ZSTANDARD):
            raise judge.refuse(info.filename, "its compression may need any amount of memory")
        if not folder and (only is None or only(str(path))):
            chosen.append((path, info))
    total = sum(info.file_size for _, info in chosen)
    progress.reset(total)

    def members() -> Iterator[Member]:
        for path, info in chosen:
            yield Member(path, info.file_size, lambda info=info: file.open(info))
            progress.update(info.file_size)

    return members(), total


class Stream(Protocol):
    """What is read once, from its start to its end."""

    def read(self, size: int, /) -> bytes:
        """Return at least one and at most `size` bytes; none at the end."""
        ...


def _decompressed(raw: IO[bytes], start: bytes, archive: Path) -> tuple[Stream, bool]:
    """Return the stream of the tar in a file that starts with `start`, and whether it is compressed."""
    # not tarfile's own decompression: when it reads a stream it ignores checksums and a missing end
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw), True
    if start.startswith(b"\xfd7zXZ\0"):
        return _Xz(raw, archive), True
    if start.startswith(b"BZh"):
        return bz2.BZ2File(raw), True
    return raw, False


class _Xz:
    """What an .xz holds, as lzma.LZMAFile reads it; but its memory is bounded, and what follows the last stream is an error."""

    def __init__(self, raw: Stream, archive: Path) -> None:
        self._raw = raw
        self._archive = archive
        self._decoder = self._new_decoder()

    def read(self, size: int) -> bytes:
        while True:
            block = b""
            if self._decoder.eof:
                block = self._next_stream()
                if not block:
                    return b""
                self._decoder = self._new_decoder()
            elif self._decoder.needs_input and not (block := self._raw.read(BLOCK)):
                raise EOFError("it ends too early")
            if data := self._decompress(block, size):
                return data

    def _new_decoder(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_MEMORY)

    def _decompress(self, block: bytes, size: int) -> bytes:
        try:
            return self._decoder.decompress(block, size)
        except lzma.LZMAError as error:
            if "memory usage limit" not in str(error).lower():
                raise
            raise InputError(
                f"{self._archive}: needs more than {readable(MOST_MEMORY)} of memory to be unpacked; fetch it again"
            ) from None

    def _next_stream(self) -> bytes:
        """Return the start of what follows; nothing at the end. Between streams there may be zeros."""
        block = self._decoder.unused_data.lstrip(b"\0")
        while not block:
            read = self._raw.read(BLOCK)
            if not read:
                break
            block = read.lstrip(b"\0")
        return block


class _Bounded:
    """A stream that holds at most so many bytes; `InputError` behind them."""

    def __init__(self, stream: Stream, most: int, archive: Path) -> None:
        self._stream = stream
        self._most = self._left = most
        self._archive = archive

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _too_large(self._archive, self._most)
        return data


def _tar_members(stream: Stream, archive: Path, only: Only) -> Iterator[Member]:
    judge = Judge(archive)
    with _TarFile.open(fileobj=stream, mode="r|", tarinfo=StrictTarInfo) as tar:  # pyrefly: ignore[no-matching-overload]  (reads only)
        while (info := tar.next()) is not None:
            tar.members.clear()  # it would keep them all
            path = judge.path(info.name, folder=info.isdir())
            if not info.isdir() and (not info.isreg() or info.issparse()):
                raise judge.refuse(info.name, "it is a link, a device or sparse")
            if not info.isdir() and (only is None or only(str(path))):
                yield Member(path, info.size, partial(_opened, tar, info))
        while stream.read(1 << 20):  # checks the compressed stream to its end
            pass


class _TarFile(tarfile.TarFile):
    members: list[tarfile.TarInfo]  # typeshed leaves it out


def _opened(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(info)
    if file is None:
        raise tarfile.ReadError(f"{info.name}: not a regular file")
    return file


_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


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
        if info.type in _EXTENDED and info.size > LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {info.size} bytes")
        return info
