"""The images that files and folders stand for."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from invad.data.images import IMAGE_SUFFIXES
from invad.data.listing import hidden, is_image, suffix_counts
from invad.errors import InputError

OVERLAY_FOLDER = "overlays"
_NO_IMAGES = f"no images ({', '.join(sorted(IMAGE_SUFFIXES))}; links to folders are not followed)"


class FoundImage(NamedTuple):
    """An image that may turn out to be none."""

    path: Path  # as it was given, or found below a folder that was given
    place: Path  # the same, absolute, after the links in its folder: no two images have the same
    problem: str = ""  # why it cannot be read, where that is known already: its folder cannot be

    @property
    def name(self) -> str:
        """The path as UTF-8 can hold it."""
        return str(self.path).encode(errors="backslashreplace").decode()


class Sources(NamedTuple):
    """All images of some inputs, in their order, each image once; those of a folder sorted by name."""

    images: tuple[FoundImage, ...]
    shared: Path  # the deepest folder that all inputs share
    passed_over: str  # how many files of other formats lie where images are looked for, by suffix

    def overlay_name(self, image: FoundImage) -> str:
        """Return the path of an image's overlay in the output folder: as the image lies below `shared`, with `.png` behind its suffix."""
        return f"{OVERLAY_FOLDER}/{image.place.relative_to(self.shared).as_posix()}.png"


def find_images(inputs: Sequence[str], out: Path | None = None) -> Sources:
    """Find the images of files and folders.

    `out`: the folder that is written to. Images in it are not found, unless an input lies in it; its overlays never are. `InputError`:
    an input is not there, has no image or lies among the overlays.
    """
    written = () if out is None else (out.resolve(), (out / OVERLAY_FOLDER).resolve())
    found, others, folders = dict[Path, FoundImage](), set[Path](), list[Path]()
    for given in inputs:
        path = Path(given)
        if not given or not os.path.lexists(path):
            raise InputError(f"{given or repr(given)}: no such file or folder")
        is_folder = os.path.isdir(path)  # noqa: PTH112  (Path.is_dir raises where a folder may not be entered)
        folders.append(path.resolve() if is_folder else path.parent.resolve())
        if written and folders[-1].is_relative_to(written[1]):
            raise InputError(f"{given}: lies in the folder that overlays are written to; choose another --out")
        files = [FoundImage(path, folders[-1] / path.name)]
        if is_folder:
            below = sorted(_below(path, written), key=lambda each: each.place.parts)
            files = [each for each in below if each.problem or is_image(each.place)]
            passed = {each.place for each in below} - {each.place for each in files}
            others |= passed
            if not files:
                but = f", but {suffix_counts(passed)}" if passed else ""
                raise InputError(f"{given}: has {_NO_IMAGES}{but}")
        for image in files:
            found.setdefault(image.place, image)
    return Sources(tuple(found.values()), Path(os.path.commonpath(folders)), suffix_counts(others - found.keys()))


def _below(root: Path, written: tuple[Path, ...]) -> Iterator[FoundImage]:
    """Yield the files below a folder, and the folders that cannot be read."""
    whole, unreadable = root.resolve(), list[OSError]()
    for name, folders, files in os.walk(root, onerror=unreadable.append):
        inner = Path(name).relative_to(root)
        folders[:] = [each for each in folders if not hidden(each) and whole / inner / each not in written]
        yield from (FoundImage(root / inner / file, whole / inner / file) for file in files if not hidden(file))
    for error in unreadable:
        folder = Path(error.filename)
        yield FoundImage(folder, whole / folder.relative_to(root), f"cannot be read ({error.strerror})")
