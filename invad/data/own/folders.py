"""Images in folders: the layouts that are understood, and the pairing of images with masks by name. MVTec AD is read by it too."""

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from invad.data.listing import entries, files_below, image_files, is_image, named, subfolders, suffix_counts
from invad.data.own.table import ANY_DEFECT, COLUMNS, GOOD, ImportRow, check_rows, read_csv, read_table
from invad.data.split_table import ANOMALOUS, NORMAL, OF_VIEWS, Phase
from invad.errors import InputError

_OF_LAYOUTS = frozenset({"train", "test", "ground_truth", "good", "bad", "masks"})


@dataclass(frozen=True)
class Kind:
    """A folder of images of one kind, and the folders where their masks may lie."""

    folder: Path
    phase: Phase | Literal[""]
    label: int
    defect_type: str
    masks: tuple[Path, ...]


@dataclass(frozen=True)
class Layout:
    """How a class lies in its folder: its `parts` in words, the folder of all `masks`, and the `kinds` of images in it."""

    title: str
    parts: tuple[str, ...]
    masks: str
    kinds: Callable[[Path], list[Kind]]

    def fits(self, folder: Path) -> bool:
        """Return whether `folder` has a folder of normal images that may be trained on."""
        normal = [kind for kind in self.kinds(folder) if kind.label == NORMAL and kind.phase != "test"]
        return any(kind.folder.is_dir() for kind in normal)


@dataclass(frozen=True)
class Discovery:
    """What was understood of a user's data: the layout in words, the images, masks without an image, and what else was left out."""

    layout: str
    root: Path
    rows: list[ImportRow]
    unmatched_masks: list[str]
    notes: list[str]


def _mvtec_kinds(folder: Path) -> list[Kind]:
    phases: tuple[Phase, ...] = ("train", "test")
    kinds = []
    for phase in phases:
        for kind in subfolders(folder / phase):
            label, masks = NORMAL if kind.name == GOOD else ANOMALOUS, folder / "ground_truth" / kind.name
            kinds.append(Kind(kind, phase, label, kind.name, (masks,) if phase == "test" else ()))
    return kinds


def named_layout(normal: Sequence[str] = ("good",), abnormal: Sequence[str] = ("bad",), masks: str = "masks") -> Layout:
    """Return the layout of folders with these names or paths, `abnormal` ones by type; `InputError`: one leaves the class's folder."""
    parts = (*normal, *abnormal, masks)
    for name in parts:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise InputError(f"{name}: must be the name of a folder in that of the images, or in each class's")

    def kinds(folder: Path) -> list[Kind]:
        of_masks = folder / masks
        found = [Kind(folder / name, "", NORMAL, GOOD, (of_masks / name,)) for name in normal]
        for bad in (folder / name for name in abnormal):
            defect_type = ANY_DEFECT if len(abnormal) == 1 else bad.name
            found.append(Kind(bad, "", ANOMALOUS, defect_type, (of_masks, of_masks / bad.relative_to(folder))))
            types = subfolders(bad)
            found += [Kind(each, "", ANOMALOUS, each.name, (of_masks, of_masks / each.name)) for each in types]
        return found

    return Layout("folders", parts, masks, kinds)


_MVTEC_PARTS = ("train/good", "test/<defect>", "ground_truth/<defect>")
MVTEC = Layout("MVTec-like tree", _MVTEC_PARTS, "ground_truth", _mvtec_kinds)
_LAYOUTS = (MVTEC, named_layout())
_FLAT = Layout("folder of normal images", ("*",), ".masks", lambda folder: [Kind(folder, "", NORMAL, GOOD, ())])


def discover(name: str, images: Path, table: Path | None = None, layout: Layout | None = None) -> Discovery:
    """Return what lies in the folder `images`: the rows of `table`, in a `layout` of other names, or what is understood of it.

    `name` is that of the class where the data do not name one. `InputError`: nothing, or more than one thing, can be understood.
    """
    if not images.is_dir():
        raise InputError(f"{images}: is not a folder of images")
    if table is not None:
        return _from_table(name, images, table)
    folders_in = {path.name: path for path in subfolders(images)}
    classes = {each: path for each, path in folders_in.items() if layout or each not in _OF_LAYOUTS}
    matches = [
        (each, folders)
        for each in ((layout,) if layout else _LAYOUTS)
        for folders in ({name: images}, classes)
        if any(map(each.fits, folders.values()))
    ]
    if len(matches) == 1:
        return _from_folders(images, *matches[0])
    if layout and not matches:
        raise InputError(f"{images}: has no folder {layout.parts[0]} of normal images, nor has one of its folders")
    tables = [path for path in entries(images) if path.suffix.lower() == ".csv"]
    if len(tables) == 1 and not matches:
        return _from_table(name, images, tables[0])
    if not matches and not tables and folders_in.keys() <= classes.keys() and image_files(images):
        flat = _from_folders(images, _FLAT, {name: images})
        note = f"no folders are known in it: all images are taken as normal ones of the class {name}"
        return replace(flat, notes=[note, *flat.notes])
    known = " or ".join(", ".join(each.parts) for each in _LAYOUTS)
    raise InputError(
        f"{images}: {'more than one layout matches' if matches else 'has no layout that is known'}; known are {known}, in the folder "
        "itself or in one for each class, and a folder of normal images; or list the images in a table, a .csv with a column image, "
        "and give it with --table"
    )


def read_class(root: Path, class_name: str, folder: Path, layout: Layout) -> tuple[list[ImportRow], list[str]]:
    """Return the rows of the class that lies in `folder`, and its masks without an image; all paths are relative to `root`.

    Masks of normal images are left out. `InputError`: there are no images; an image has two masks, or a mask two images.
    """
    kinds = layout.kinds(folder)
    images = {image: kind for kind in kinds for image in image_files(kind.folder)}
    if not images:
        raise InputError(f"{folder}: the class {class_name} has no images in {' or '.join(layout.parts[:-1])}")
    of_kinds = (masks for kind in kinds for masks in kind.masks)
    folders = dict.fromkeys([folder / layout.masks, *subfolders(folder / layout.masks), *of_kinds])
    masks = [mask for each in folders for mask in image_files(each)]
    owners = _owners(images, masks)
    mask_of = {image: mask.relative_to(root).as_posix() for mask, image in owners.items() if images[image].label}
    rows = [
        ImportRow(
            image.relative_to(root).as_posix(), class_name, kind.phase, kind.label, kind.defect_type, mask_of.get(image)
        )
        for image, kind in images.items()
    ]
    check_rows(rows)
    return rows, [mask.relative_to(root).as_posix() for mask in masks if mask not in owners]


def _owners(images: dict[Path, Kind], masks: list[Path]) -> dict[Path, Path]:
    """Return the image of each mask that has one: `000.png` or `000_mask.png` is that of `000.png`."""
    by_name: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for mask in masks:
        by_name[mask.parent, mask.stem.removesuffix("_mask")].append(mask)
    owners: dict[Path, Path] = {}
    for image, kind in images.items():
        found = [mask for folder in kind.masks for mask in by_name.get((folder, image.stem), ())]
        if len(found) > 1:
            raise InputError(f"{image}: two masks have its name, {found[0]} and {found[1]}; keep one")
        for mask in found:
            if mask in owners:
                raise InputError(f"{mask}: two images have its name, {owners[mask]} and {image}; rename one of them")
            owners[mask] = image
    return owners


def _from_table(name: str, images: Path, table: Path) -> Discovery:
    rows = read_table(table, images, name)
    ignored = [
        column or "(without a name)" for column in read_csv(table, ())[0][1] if column not in (*COLUMNS, *OF_VIEWS)
    ]
    notes = [f"unknown columns, ignored: {', '.join(ignored)}"] if ignored else []
    used = {os.path.relpath(table, images), *(path for row in rows for path in (row.image, row.mask) if path)}
    return Discovery(f"table {table}", images, rows, [], notes + _others(images, used))


def _from_folders(root: Path, layout: Layout, folders: dict[str, Path]) -> Discovery:
    # A class that lacks its normal images is an error to come, and no reason to leave it out.
    present = {name: folder for name, folder in folders.items() if any(k.folder.is_dir() for k in layout.kinds(folder))}
    rows, unmatched = [], []
    for name, folder in present.items():
        of_class, masks = read_class(root, name, folder, layout)
        rows += of_class
        unmatched += masks
    used = {*(path for row in rows for path in (row.image, row.mask) if path), *unmatched}
    below = "" if root in folders.values() else "<class>/"
    parts = ", ".join(f"{below}{part}" for part in layout.parts)
    return Discovery(f"{layout.title} ({parts})", root, rows, unmatched, _others(root, used))


def _others(root: Path, used: Collection[str]) -> list[str]:
    """Return notes of the images below `root` that are not among the `used` ones, and of files of other formats, if there are any."""
    paths = [path for path in files_below(root) if path.relative_to(root).as_posix() not in used]
    unread = [path for path in paths if not is_image(path)]
    others = [path.relative_to(root).as_posix() for path in paths if is_image(path)]
    notes = [f"other images in the folder, left out ({len(others)}): {named(others)}"] if others else []
    if unread:
        notes.append(f"files of formats that are not read, left out ({len(unread)}): {suffix_counts(unread)}")
    return notes
