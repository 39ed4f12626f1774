"""The images that files, folders and patterns stand for, one after another."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

from invad.data.images import IMAGE_SUFFIXES
from invad.data.listing import hidden, is_image, suffix_counts
from invad.errors import InputError

OVERLAY_FOLDER = "overlays"
_NO_IMAGES = f"no images ({', '.join(sorted(IMAGE_SUFFIXES))}; links to folders are not followed)"
_LIKE_AN_OVERLAY = re.compile(r"\.png_*$", re.IGNORECASE)


@dataclass(frozen=True)
class FoundImage:
    """An image that may turn out to be none.

    Attributes:
        path: As it was given, or found below a folder that was given.
        place: The same, absolute, after the links in its folder. No two images that were found have the same.
        problem: Why it cannot be read, where that is known already.
    """

    path: Path
    place: Path
    problem: str = ""


class ImageSources:
    """All images of some inputs, in their order, each image once; iterating, as often as wanted, searches the folders then.

    The images of a folder come sorted by name, folder by folder. Only the names of the folder that is searched are kept in memory; of
    several inputs also those of the images that have been.

    Raises:
        InputError: An input is not there, or has no image, or there is none.
    """

    def __init__(self, inputs: Sequence[str], out: Path | None = None) -> None:
        """Understand files, folders, and patterns with `*`, `?`, `[...]` and `**`.

        Args:
            inputs: A name that is there is taken literally.
            out: The folder that is written to: images in it are not found, unless an input lies in it; its overlays never are.
        """
        written = () if out is None else (out.resolve(), (out / OVERLAY_FOLDER).resolve())
        self._sources = [_source(given, written) for given in inputs]
        if not self._sources:
            raise InputError("no input; expected files, folders or patterns")
        for given, source in zip(inputs, self._sources, strict=True):
            if next(source.images(), None) is None:
                others = suffix_counts(source.others())
                raise InputError(f"{given}: has {_NO_IMAGES}{f', but {others}' if others else ''}")
        self._shared = Path(os.path.commonpath([source.folder for source in self._sources]))

    def __iter__(self) -> Iterator[FoundImage]:
        seen = set[Path]()
        for source in self._sources:
            for image in source.images():
                if image.place not in seen:
                    if len(self._sources) > 1:
                        seen.add(image.place)
                    yield image

    def count(self, most: int) -> int | None:
        """Return the number of images, which takes a search; None for more than `most`."""
        counted = sum(1 for _ in islice(self, most + 1))
        return counted if counted <= most else None

    def passed_over(self) -> str:
        """Return how many files of other formats lie where images are looked for, by suffix; it takes a search of its own."""
        return suffix_counts({place for source in self._sources for place in source.others()})

    def overlay_name(self, image: FoundImage) -> str:
        """Return where an image's overlay goes, with `/`: a path that no other image has.

        It is the path below the deepest folder that all inputs share, with `.png` behind its suffix. To the name of a folder that looks
        like that of an overlay (`x.png/`) a `_` is added.
        """
        *folders, name = image.place.relative_to(self._shared).parts
        # `.png`, `.png_`, ... become `.png_`, `.png__`, ...: no folder has the name of an overlay, nor two the same.
        escaped = (f"{folder}_" if _LIKE_AN_OVERLAY.search(folder) else folder for folder in folders)
        return "/".join([*escaped, f"{name}.png"])


@dataclass(frozen=True)
class _File:
    """A file that was given. `folder`: the one it lies in."""

    found: FoundImage
    folder: Path

    def images(self) -> Iterator[FoundImage]:
        yield self.found

    def others(self) -> Iterator[Path]:
        yield from ()


@dataclass(frozen=True)
class _Tree:
    """What a folder holds, or what of it a pattern names.

    Attributes:
        path: The folder as it was given.
        folder: Its absolute path, without links.
        pattern: The parts of the pattern below it. What they name is taken with everything in it; without any, that is the folder.
        written: Folders that are left out.
    """

    path: Path
    folder: Path
    pattern: tuple[str, ...]
    written: tuple[Path, ...]

    def images(self) -> Iterator[FoundImage]:
        """Yield the images, and folders that cannot be searched as images with a problem."""
        yield from (file for file in self._files() if file.problem or is_image(file.place))

    def others(self) -> Iterator[Path]:
        """Yield the files of other formats; a link to a folder, which is not followed, is none."""
        for file in self._files():
            if not (file.problem or is_image(file.place) or file.place.is_dir()):
                yield file.place

    def _files(self) -> Iterator[FoundImage]:
        return self._below(self.path, self.folder, self._reached({0}))

    def _below(self, path: Path, folder: Path, reached: set[int]) -> Iterator[FoundImage]:
        try:
            with os.scandir(path) as entries:
                names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        except OSError as error:
            yield FoundImage(path, folder, f"cannot be read ({error.strerror})")
            return
        for name, is_folder in names:
            place, following = folder / name, self._after(reached, name)
            if not following or hidden(name) or place in self.written:
                continue
            if is_folder:
                yield from self._below(path / name, place, following)
            elif len(self.pattern) in following:
                yield FoundImage(path / name, place)

    def _after(self, reached: set[int], name: str) -> set[int]:
        """Return the parts of the pattern that may be behind us after one more name, as numbers; none where it does not fit."""
        if len(self.pattern) in reached:
            return {len(self.pattern)}
        stay = {at for at in reached if self.pattern[at] == "**"}
        return self._reached(stay | {at + 1 for at in reached - stay if fnmatchcase(name, self.pattern[at])})

    def _reached(self, reached: set[int]) -> set[int]:
        """Add what is behind us if `**` stands for no folder."""
        for at, part in enumerate(self.pattern):
            if at in reached and part == "**":
                reached.add(at + 1)
        return reached


def _source(given: str, written: tuple[Path, ...]) -> _File | _Tree:
    """Understand one input; `InputError` when it is not there, or among the overlays of an earlier call."""
    path = Path(given)
    if not given or not os.path.lexists(path):
        source = _pattern(path, given, written)
    elif os.path.isdir(path):  # noqa: PTH112  (Path.is_dir raises where a folder may not be entered)
        source = _Tree(path, path.resolve(), (), written)
    else:
        folder = path.parent.resolve()
        source = _File(FoundImage(path, folder / path.name), folder)
    if written and source.folder.is_relative_to(written[1]):
        raise InputError(f"{given}: lies in the folder that overlays are written to; choose another --out")
    return source


def _pattern(path: Path, given: str, written: tuple[Path, ...]) -> _Tree:
    fixed = next((at for at, part in enumerate(path.parts) if glob.has_magic(part)), None)
    if fixed is None:
        raise InputError(f"{given or repr(given)}: no such file or folder")
    root = Path(*path.parts[:fixed])
    if not os.path.isdir(root):  # noqa: PTH112
        raise InputError(f"{given}: there is no folder {root}")
    return _Tree(root, root.resolve(), path.parts[fixed:], written)
