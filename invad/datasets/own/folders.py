"""One class in folders: the two layouts, and the pairing of images with masks by name."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from invad.datasets.images import IMAGE_SUFFIXES
from invad.datasets.own.rows import ANY_DEFECT, GOOD, ImportRow, check_rows
from invad.datasets.split_table import ANOMALOUS, NORMAL, Phase
from invad.errors import InputError


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
    """How a class lies in its folder.

    `parts`: its folders in words; `normal`: the one that tells the layout; `masks`: that of all masks; `kinds`: those of images.
    """

    title: str
    parts: tuple[str, ...]
    normal: str
    masks: str
    kinds: Callable[[Path], list[Kind]]


@dataclass(frozen=True)
class ClassFiles:
    """What was found of one class. `unmatched`: masks without an image; `of_normal`: masks of normal images, of no use."""

    rows: list[ImportRow]
    unmatched: list[str]
    of_normal: list[str]


def read_class(root: Path, class_name: str, folder: Path, layout: Layout) -> ClassFiles:
    """Return the images and masks of the class that lies in `folder`; all paths are relative to `root`.

    Raises:
        InputError: There are no images; an image has two masks, or a mask two images; or an anomalous image is to be trained on.
    """
    images = {image: kind for kind in layout.kinds(folder) for image in image_files(kind.folder)}
    if not images:
        raise InputError(f"{folder}: the class {class_name} has no images in {' or '.join(layout.parts[:2])}")
    masks = [folder / layout.masks, *subfolders(folder / layout.masks)]
    paired, of_normal = _pair(images, masks)
    rows = [
        ImportRow(
            _relative(image, root),
            class_name,
            kind.phase,
            kind.label,
            kind.defect_type,
            _relative(paired[image], root) if image in paired else None,
        )
        for image, kind in images.items()
    ]
    check_rows(rows)
    used = {*paired.values(), *of_normal}
    unmatched = [_relative(mask, root) for parent in masks for mask in image_files(parent) if mask not in used]
    return ClassFiles(rows, unmatched, [_relative(mask, root) for mask in sorted(of_normal)])


def _pair(images: dict[Path, Kind], folders: list[Path]) -> tuple[dict[Path, Path], set[Path]]:
    """Return the masks of anomalous images by image, and those of normal images: `000.png` or `000_mask.png` fits `000.png`."""
    by_name: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for folder in folders:
        for mask in image_files(folder):
            by_name[folder, mask.stem.removesuffix("_mask")].append(mask)
    paired: dict[Path, Path] = {}
    owners: dict[Path, Path] = {}
    of_normal: set[Path] = set()
    for image, kind in images.items():
        found = [mask for folder in kind.masks for mask in by_name.get((folder, image.stem), ())]
        if kind.label == NORMAL:
            of_normal.update(found)
            continue
        if len(found) > 1:
            raise InputError(f"{image}: two masks have its name, {found[0]} and {found[1]}; keep one")
        for mask in found:
            if mask in owners:
                raise InputError(f"{mask}: two images have its name, {owners[mask]} and {image}; rename one of them")
            owners[mask], paired[image] = image, mask
    return paired, of_normal


def _mvtec_kinds(folder: Path) -> list[Kind]:
    return [
        *(Kind(kind, "train", _mvtec_label(kind), kind.name, ()) for kind in subfolders(folder / "train")),
        *(
            Kind(kind, "test", _mvtec_label(kind), kind.name, (folder / "ground_truth" / kind.name,))
            for kind in subfolders(folder / "test")
        ),
    ]


def _mvtec_label(kind: Path) -> int:
    return NORMAL if kind.name == GOOD else ANOMALOUS


def _good_bad_kinds(folder: Path) -> list[Kind]:
    bad, masks = folder / "bad", folder / "masks"
    return [
        Kind(folder / "good", "", NORMAL, GOOD, (masks / "good",)),
        Kind(bad, "", ANOMALOUS, ANY_DEFECT, (masks, masks / "bad")),
        *(Kind(kind, "", ANOMALOUS, kind.name, (masks, masks / kind.name)) for kind in subfolders(bad)),
    ]


LAYOUTS = (
    Layout(
        "MVTec-like tree",
        ("train/good", "test/<defect>", "ground_truth/<defect>"),
        normal="train/good",
        masks="ground_truth",
        kinds=_mvtec_kinds,
    ),
    Layout("good/bad folders", ("good", "bad", "masks"), normal="good", masks="masks", kinds=_good_bad_kinds),
)


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
    """Return whether a file or folder is one that a system put there: `.DS_Store`, `._000.png`, `__MACOSX`."""
    return name.startswith(".") or name == "__MACOSX"


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
