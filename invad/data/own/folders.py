"""One class in folders: the two layouts, and the pairing of images with masks by name. Also MVTec AD itself is read by it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from invad.data.listing import image_files, subfolders
from invad.data.own.rows import ANY_DEFECT, GOOD, ImportRow, check_rows
from invad.data.split_table import ANOMALOUS, NORMAL, Phase
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
    kinds = layout.kinds(folder)
    images = {image: kind for kind in kinds for image in image_files(kind.folder)}
    if not images:
        raise InputError(f"{folder}: the class {class_name} has no images in {' or '.join(layout.parts[:-1])}")
    of_kinds = (masks for kind in kinds for masks in kind.masks)
    masks = list(dict.fromkeys([folder / layout.masks, *subfolders(folder / layout.masks), *of_kinds]))
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


@dataclass(frozen=True)
class FolderNames:
    """What the folders of a class are called: of normal images, of anomalous ones, and of their masks; each may be a path."""

    normal: tuple[str, ...] = ("good",)
    abnormal: tuple[str, ...] = ("bad",)
    masks: str = "masks"

    def layout(self) -> Layout:
        """Return the layout of folders with these names. Of several abnormal ones each is a type of defects.

        Raises:
            InputError: A name leaves the class's folder, or two are the same or lie in each other.
        """
        self._check()
        parts = (*self.normal, *self.abnormal, self.masks)
        return Layout("normal and abnormal folders", parts, normal=self.normal[0], masks=self.masks, kinds=self._kinds)

    def _kinds(self, folder: Path) -> list[Kind]:
        masks = folder / self.masks
        kinds = [Kind(folder / name, "", NORMAL, GOOD, (masks / name,)) for name in self.normal]
        for name in self.abnormal:
            bad = folder / name
            defect_type = ANY_DEFECT if len(self.abnormal) == 1 else bad.name
            kinds.append(Kind(bad, "", ANOMALOUS, defect_type, (masks, masks / name)))
            kinds += [Kind(kind, "", ANOMALOUS, kind.name, (masks, masks / kind.name)) for kind in subfolders(bad)]
        return kinds

    def _check(self) -> None:
        options = [
            *(("--normal", name) for name in self.normal),
            *(("--abnormal", name) for name in self.abnormal),
            ("--masks", self.masks),
        ]
        for option, name in options:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise InputError(
                    f"{option} {name}: must be the name of a folder in that of the images, or in each class's"
                )
        for index, (option, name) in enumerate(options):
            for other, another in options[:index]:
                one, two = PurePosixPath(name), PurePosixPath(another)
                if one.is_relative_to(two) or two.is_relative_to(one):
                    raise InputError(f"{option} {name}: is the folder of {other} {another}, or one lies in the other")


MVTEC = Layout(
    "MVTec-like tree",
    ("train/good", "test/<defect>", "ground_truth/<defect>"),
    normal="train/good",
    masks="ground_truth",
    kinds=_mvtec_kinds,
)
GOOD_BAD = replace(FolderNames().layout(), title="good/bad folders")
FLAT = Layout(
    "folder of normal images",
    ("*",),
    normal="",
    masks=".masks",
    kinds=lambda folder: [Kind(folder, "", NORMAL, GOOD, ())],
)
LAYOUTS = (MVTEC, GOOD_BAD)


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
