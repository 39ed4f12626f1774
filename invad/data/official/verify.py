"""Is a file the published one? The answer is kept in a sidecar, so that nobody hashes 19 GB twice."""

import hashlib
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from invad.errors import InputError
from invad.files import read_json, write_json

BLOCK = 1 << 20


@dataclass(frozen=True)
class Remote:
    """A published file.

    `name`: its file name, for messages. `size`: in bytes. `checksum`: `sha256:<64 hexadecimal digits>` or `md5:<32>`. `size` and
    `checksum` are None where none is published; `InputError` for a checksum of another form.
    """

    name: str
    url: str
    size: int | None = None
    checksum: str | None = None

    def __post_init__(self) -> None:
        if self.checksum and not re.fullmatch("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", self.checksum):
            raise InputError(f"{self.name}: checksum {self.checksum!r}: expected sha256: or md5: and lower-case digits")


@dataclass(frozen=True)
class Verified:
    """What the sidecar `<file>.verified.json` holds. `checksum`: the published one that the file agrees with, None when there is none."""

    size: int
    mtime_ns: int
    sha256: str
    checksum: str | None


class Mismatch(Exception):  # noqa: N818  (never leaves this package)
    """A file is not the published one; the text says in what."""


def is_complete(remote: Remote, path: Path) -> bool:
    """Return whether `path` is there and is the published file.

    While its size and modification time are those of the sidecar it is not read; else it is hashed, and a new sidecar is written. Where
    no checksum is published, the SHA-256 of the first time counts.
    """
    try:
        record(path, verify(remote, path))
    except InputError:
        return False
    return True


def verify_local(remote: Remote, path: Path) -> str:
    """Return the SHA-256 of a user's file given instead of an address. It is used where it is, and nothing is written beside it.

    Raises:
        InputError: It is missing, or its size or checksum is not the published one.
    """
    return verify(remote, path).sha256


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, from the sidecar while that is valid.

    Raises:
        InputError: There is no such file.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    known = _valid_record(path)
    return known.sha256 if known else measure(Remote(path.name, ""), path).sha256


def verify(remote: Remote, path: Path) -> Verified:
    """Return what is known of `path`, without reading it while its sidecar is valid; write nothing.

    Raises:
        InputError: It is missing, is not the published file, or has changed since it was verified.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected {remote.name}")
    known = _valid_record(path)
    if known and remote.size in (None, known.size) and remote.checksum in (None, known.checksum, _sha256(known)):
        return known
    try:
        found = measure(remote, path)
        before = _read_record(path)
        if not remote.checksum and before and before.sha256 != found.sha256:
            raise Mismatch(f"it has changed since it was verified, {_sha256(before)} then, {_sha256(found)} now")
    except Mismatch as problem:
        raise InputError(
            f"{path}: not the {remote.name} expected: {problem}; move it away or give the right one"
        ) from None
    return found


def measure(remote: Remote, path: Path) -> Verified:
    """Read the whole file and compare it with what is published.

    Raises:
        Mismatch: Its size or checksum is another one.
    """
    size, mtime_ns = _size_and_time(path)  # before reading: a change meanwhile makes the sidecar invalid
    if remote.size not in (None, size):
        raise Mismatch(f"{size} bytes, {remote.size} are right")
    algorithm = remote.checksum.split(":")[0] if remote.checksum else "sha256"
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", algorithm}}
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            for digest in hashes.values():
                digest.update(block)
    checksum = f"{algorithm}:{hashes[algorithm].hexdigest()}"
    if remote.checksum not in (None, checksum):
        raise Mismatch(f"{checksum}, {remote.checksum} is right")
    return Verified(size, mtime_ns, hashes["sha256"].hexdigest(), remote.checksum)


def record(path: Path, found: Verified) -> None:
    """Write the sidecar of `path`, unless it is there already."""
    if _read_record(path) != found:
        write_json(_sidecar(path), asdict(found))


def _valid_record(path: Path) -> Verified | None:
    known = _read_record(path)
    return known if known and (known.size, known.mtime_ns) == _size_and_time(path) else None


def _read_record(path: Path) -> Verified | None:
    try:
        return Verified(**read_json(_sidecar(path)))
    except (InputError, TypeError):  # none, or not one of ours: the file is hashed again
        return None


def _size_and_time(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _sha256(known: Verified) -> str:
    return f"sha256:{known.sha256}"


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.verified.json")
