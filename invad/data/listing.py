"""What lies in a folder: the images, without what systems and programs leave beside them."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from invad.data.images import IMAGE_SUFFIXES
from invad.errors import InputError

NAMED = 20  # files that a message lists by name
_OF_SYSTEMS = frozenset({"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "@eadir"})


def entries(folder: Path) -> list[Path]:
    """Return what lies in `folder`, sorted, without hidden files; nothing when there is none. `InputError`: a name is not UTF-8."""
    if not folder.is_dir():
        return []
    try:
        found = sorted(path for path in folder.iterdir() if not hidden(path.name))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from None
    for path in found:
        try:
            path.name.encode()
        except UnicodeEncodeError:
            raise InputError(f"{folder}: the file name {path.name!a} is not UTF-8; rename it") from None
    return found


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in `folder`, sorted."""
    return [path for path in entries(folder) if path.is_dir()]


def inner_folder(root: Path, name: str) -> Path:
    """Return the folder `name` in `root`, which an archive unpacks to, or `root` where there is none: then it is that folder."""
    return root / name if (root / name).is_dir() else root


def image_files(folder: Path) -> list[Path]:
    """Return the images in `folder`, sorted."""
    return [path for path in entries(folder) if is_image(path) and not path.is_dir()]


def is_image(path: Path) -> bool:
    """Return whether a file's suffix is that of an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def suffix_counts(paths: Iterable[Path]) -> str:
    """Return how many files there are of each suffix, the most frequent first: `3 .heic, 1 .txt, 1 without a suffix`."""
    counts = Counter(ascii(path.suffix.lower())[1:-1] or "without a suffix" for path in sorted(paths))
    return ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common())


def named(names: Collection[str]) -> str:
    """Return the first twenty names, in order, and how many more there are; one that is not UTF-8 is escaped."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(sorted(names)[:NAMED]).encode(errors="backslashreplace").decode() + more


def files_below(root: Path) -> Iterator[Path]:
    """Yield all files below `root`, without what systems leave there: to look at a folder with a file manager does not change it."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not hidden(name)]
        yield from (Path(folder, name) for name in names if not hidden(name))


def hidden(name: str) -> bool:
    """Return whether a file or folder is one that a system put there: `.DS_Store`, `._000.png`, `__MACOSX`, `Thumbs.db`."""
    return name.startswith(".") or name.lower() in _OF_SYSTEMS
