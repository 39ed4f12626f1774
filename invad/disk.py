"""Is there room on the disk; and a disk that is full, read-only or failing, behind whatever a library raises for it, as one line."""

import errno
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from invad.errors import InputError

# Of an OSError that says something about the disk or folder, and not about what the caller did with a file.
_ERRNOS = frozenset({errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG})
# Of a full disk: what the system says, and what safetensors, SQLite, Ray and others write into a message, which alone is left of it.
_TEXT = re.compile("No space left on device|Disk quota exceeded|database or disk is full")


def free_bytes(folder: Path, needed: int, purpose: str) -> int:
    """Return the free bytes of the disk of the existing `folder`; `InputError`, which begins with `purpose`: fewer than `needed`."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{purpose}: {readable(needed)} are needed in {folder.absolute()}, {readable(free)} are free; make room or use another disk"
        )
    return free


def readable(size: int) -> str:
    """Format a number of bytes: 19_336_861_798 -> `19.3GB`."""
    return f"{tqdm.format_sizeof(size)}B"


def disk_problem(error: BaseException) -> str | None:
    """Return one line on what is wrong with the disk or a folder, where that is what `error` comes from; else None."""
    for cause in causes(error):
        match = _TEXT.search(str(cause))
        if match is None and isinstance(cause, OSError) and cause.errno in _ERRNOS:
            return f"{f'{cause.filename}: ' if cause.filename else ''}{cause.strerror}"
        if match is not None:
            here, temporary = (readable(shutil.disk_usage(folder).free) for folder in (".", tempfile.gettempdir()))
            return (
                f"{match[0]}; {here} are free in {Path.cwd()}, {temporary} in {tempfile.gettempdir()}; "
                "`invad-pipe plan` says what is needed, `invad-pipe clean` and `dvc gc --workspace` make room"
            )
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and what it was raised from or during; of Ray's, what its workers raised."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            workers = (getattr(cause, "worker_failures", None) or {}).values()
            waiting += [*workers, getattr(cause, "cause", None), cause.__cause__, cause.__context__]
