"""What lies in a folder: the images, without what systems and programs leave beside them."""

from pathlib import Path

from invad.datasets.images import IMAGE_SUFFIXES
from invad.errors import InputError

_OF_SYSTEMS = frozenset({"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "@eadir"})


def entries(folder: Path) -> list[Path]:
    """Return what lies in `folder`, sorted, without hidden files; nothing when there is no such folder.

    Raises:
        InputError: The folder cannot be read, or a name is not UTF-8 (no table could hold it).
    """
    if not folder.is_dir():
        return []
    try:
        found = sorted(path for path in folder.iterdir() if not hidden(path.name))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from None
    for path in found:
        if not _is_utf8(path.name):
            raise InputError(f"{folder}: the file name {path.name!a} is not UTF-8; rename it")
    return found


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in `folder`, sorted."""
    return [path for path in entries(folder) if path.is_dir()]


def image_files(folder: Path) -> list[Path]:
    """Return the images in `folder`, sorted."""
    return [path for path in entries(folder) if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()]


def hidden(name: str) -> bool:
    """Return whether a file or folder is one that a system put there: `.DS_Store`, `._000.png`, `__MACOSX`, `Thumbs.db`."""
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
