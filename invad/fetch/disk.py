"""Is there room on the disk?"""

import shutil
from pathlib import Path

from tqdm import tqdm

from invad.errors import InputError


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
