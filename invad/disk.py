"""Is there room on the disk; and a disk that is full, read-only or failing, behind whatever a library raises for it, as one line."""

import errno
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from invad.errors import InputError

# Of an OSError that says something about the disk or folder, and not about what the caller did with a file.
_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# What safetensors, SQLite, Ray and processes of other languages write into a message, which alone is left of their error.
_TEXT = re.compile(
    r"No space left on device|Disk quota exceeded|database or disk is full|Read-only file system|"
    r"attempt to write a readonly database"
)
# Before 3.12.8 and 3.13.1 Python itself leaves half a file of compiled code where the disk is full, and then reads it every time.
_CUT_CODE = ("marshal data too short", "EOF read where not expected")


def free_bytes(folder: Path, needed: int, purpose: str) -> int:
    """Return the free bytes of the disk that holds the existing `folder`.

    Raises:
        InputError: They are fewer than `needed`; `purpose` is the start of the message.
    """
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
        if isinstance(cause, OSError) and cause.errno in _ERRNOS:
            reason = _reason(cause)
            file = f"{cause.filename}: " if isinstance(cause.filename, str | Path) else ""
            return f"{file}{reason}{_advice() if cause.errno in _FULL else ''}"
        if isinstance(cause, EOFError) and str(cause) in _CUT_CODE:
            return f"code that Python has compiled on a full disk is cut off; remove the folders __pycache__ in {Path.cwd()}"
        if match := _TEXT.search(str(cause)):
            return f"{match[0]}{_advice() if 'ead' not in match[0] else ''}"
    return None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and what it was raised from or during; of Ray's, what its workers raised."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        cause = waiting.pop(0)
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        workers: Sequence[BaseException] = tuple((getattr(cause, "worker_failures", None) or {}).values())
        inner = getattr(cause, "cause", None)
        waiting += [*workers, inner if isinstance(inner, BaseException) else None, cause.__cause__, cause.__context__]


def _reason(error: OSError) -> str:
    """Return what the system says; pyarrow has it at the end of a longer text."""
    text = " ".join((error.strerror or str(error)).split())
    match = _TEXT.search(text)
    return match[0] if match else text


def _advice() -> str:
    """Return how much is free where this program writes, and how to make room."""
    folders = {Path.cwd(): "here", Path(tempfile.gettempdir()): "for temporary files"}
    free = [
        f"{readable(shutil.disk_usage(folder).free)} are free in {folder} ({what})" for folder, what in folders.items()
    ]
    return f"; {' and '.join(free)}; `invad-pipe plan` says what is needed, `invad-pipe clean` and `dvc gc --workspace` make room"
