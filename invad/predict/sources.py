"""The images that files, folders and patterns stand for."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from invad.data.images import IMAGE_SUFFIXES
from invad.data.listing import hidden, is_image, suffix_counts
from invad.errors import InputError

OVERLAY_FOLDER = "overlays"
_NO_IMAGES = f"no images ({', '.join(sorted(IMAGE_SUFFIXES))}; links to folders are not followed)"


@dataclass(frozen=True)
class FoundImage:
    """An image that may turn out to be none."""

    path: Path  # as it was given, or found below a folder that was given
    place: Path  # the same, absolute, after the links in its folder: no two images have the same
    error: str = ""  # why its folder cannot be read

    @property
    def name(self) -> str:
        """The path as UTF-8 can hold it."""
        return str(self.path).encode(errors="backslashreplace").decode()

    @property
    def problem(self) -> str:
        """Why it cannot be read, where that is known already."""
        return self.error or ("" if self.name == str(self.path) else "the name is not UTF-8; rename it")


class ImageSources:
    """All images of some inputs, in their order, each image once; those of a folder sorted by name.

    Attributes:
        passed_over: How many files of other formats lie where images are looked for, by suffix.
    """

    def __init__(self, inputs: Sequence[str], out: Path | None = None) -> None:
        """Find the images of files, folders, and patterns with `*`, `?`, `[...]` and `**`.

        Args:
            inputs: A name that is there is taken literally.
            out: The folder that is written to: images in it are not found, unless an input lies in it; its overlays never are.

        Raises:
            InputError: An input is not there, has no image or lies among the overlays, or there is none.
        """
        if not inputs:
            raise InputError("no input; expected files, folders or patterns")
        written = () if out is None else (out.resolve(), (out / OVERLAY_FOLDER).resolve())
        found, others, folders = dict[Path, FoundImage](), set[Path](), list[Path]()
        for given in inputs:
            path, pattern = _understood(given)
            is_folder = os.path.isdir(path)  # noqa: PTH112  (Path.is_dir raises where a folder may not be entered)
            folders.append(path.resolve() if is_folder else path.parent.resolve())
            if written and folders[-1].is_relative_to(written[1]):
                raise InputError(f"{given}: lies in the folder that overlays are written to; choose another --out")
            files = _below(path, pattern, written) if is_folder else [FoundImage(path, folders[-1] / path.name)]
            images = [file for file in files if not is_folder or file.error or is_image(file.place)]
            passed = {file.place for file in files} - {image.place for image in images}
            if not images:
                but = f", but {suffix_counts(passed)}" if passed else ""
                raise InputError(f"{given}: has {_NO_IMAGES}{but}")
            others |= passed
            for image in images:
                found.setdefault(image.place, image)
        self._images, self.passed_over = tuple(found.values()), suffix_counts(others)
        self._shared = Path(os.path.commonpath(folders))

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[FoundImage]:
        return iter(self._images)

    def overlay_name(self, image: FoundImage) -> str:
        """Return the path of an image below the deepest folder that all inputs share, with `/`, and `.png` behind its suffix."""
        return f"{image.place.relative_to(self._shared).as_posix()}.png"


def _understood(given: str) -> tuple[Path, tuple[str, ...]]:
    """Return a file or folder that is there, and the parts of a pattern below it; `InputError` where there is none."""
    path = Path(given)
    if given and os.path.lexists(path):
        return path, ()
    fixed = next((at for at, part in enumerate(path.parts) if glob.has_magic(part)), None)
    if fixed is None:
        raise InputError(f"{given or repr(given)}: no such file or folder")
    root = Path(*path.parts[:fixed])
    if not os.path.isdir(root):  # noqa: PTH112
        raise InputError(f"{given}: there is no folder {root}")
    return root, path.parts[fixed:]


def _below(root: Path, pattern: tuple[str, ...], written: tuple[Path, ...]) -> list[FoundImage]:
    """Return the files below a folder that a pattern names or that lie in what it names, sorted; folders that cannot be read too."""
    found, whole = list[FoundImage](), root.resolve()

    def unreadable(error: OSError) -> None:
        folder = Path(error.filename)
        found.append(FoundImage(folder, whole / folder.relative_to(root), f"cannot be read ({error.strerror})"))

    for name, folders, files in os.walk(root, onerror=unreadable):
        folder = Path(name)
        place = whole / folder.relative_to(root)
        folders[:] = [each for each in folders if not hidden(each) and place / each not in written]
        for file in files:
            if not hidden(file) and _matches((*folder.relative_to(root).parts, file), pattern):
                found.append(FoundImage(folder / file, place / file))
    return sorted(found, key=lambda each: each.place.parts)


def _matches(names: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Return whether the parts of a pattern name a path or a folder above it."""
    if not (names and pattern):
        return not pattern
    if pattern[0] == "**":
        return _matches(names, pattern[1:]) or _matches(names[1:], pattern)
    return fnmatchcase(names[0], pattern[0]) and _matches(names[1:], pattern[1:])
