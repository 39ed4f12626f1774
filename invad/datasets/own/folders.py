"""One class in folders: the two layouts, and the pairing of images with masks by name. Also MVTec AD itself is read by it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from invad.datasets.listing import image_files, subfolders
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
    """The files of one class.

    `unmatched`: masks without an image. `of_normal`: masks of normal images, of no use. `twins`: images of one folder that differ in
    the suffix alone, such as `000.png` and `000.jpg`.
    """

    rows: list[ImportRow]
    unmatched: list[str]
    of_normal: list[str]
    twins: list[str]


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
    return ClassFiles(
        rows, unmatched, [_relative(mask, root) for mask in sorted(of_normal)], twins(row.image for row in rows)
    )


def twins(images: Iterable[str]) -> list[str]:
    """Return, sorted, the images that have another one's folder and name but for the suffix: one picture saved twice, mostly."""
    images = set(images)
    counts = Counter(PurePosixPath(image).with_suffix("") for image in images)
    return sorted(image for image in images if counts[PurePosixPath(image).with_suffix("")] > 1)


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


MVTEC = Layout(
    "MVTec-like tree",
    ("train/good", "test/<defect>", "ground_truth/<defect>"),
    normal="train/good",
    masks="ground_truth",
    kinds=_mvtec_kinds,
)
GOOD_BAD = Layout("good/bad folders", ("good", "bad", "masks"), normal="good", masks="masks", kinds=_good_bad_kinds)
LAYOUTS = (MVTEC, GOOD_BAD)


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
