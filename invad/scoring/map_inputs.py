"""Anomaly maps of any method in files, and what belongs to them, for `invad-pipe evaluate` and `read_inputs(maps, masks).evaluate()`.

Masks of folders are found by name. Every file is hostile until it has been read, nothing is unpickled, and every error names its file.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from invad.data.images import IMAGE_SUFFIXES, MAX_PIXELS, decoded_mask, image_size, read_mask, resize_mask
from invad.data.listing import files_below
from invad.errors import InputError
from invad.metrics import PROTOCOLS, Evaluation, Intervals, bootstrap, evaluate
from invad.metrics.protocol import Protocol
from invad.metrics.reading import Stack

MAPS, MASKS, CLASSES, LABELS = "anomaly_maps", "masks", "classes", "labels"
"""Arrays of an .npz, and arguments of `evaluate`."""
MAP_SUFFIXES = frozenset({".npy", ".tif", ".tiff", ".png"})
BATCH = 32  # maps in memory at a time
MAX_BYTES = 64 * 2**30  # of the arrays of an .npz
_NORMAL_FOLDERS = frozenset({"good", "normal"})
_GROUND_TRUTH, _TEST = "ground_truth", "test"  # folders of masks and of images in MVTec AD
_GREY_MODES = ("L", "I;16", "I;16B", "F")


@dataclass(frozen=True)
class Files:
    """Iterating, as often as wanted, yields batches (n, H, W) of what `read` makes of some files, as they are asked for."""

    read: Callable[[Any], np.ndarray]
    files: Sequence[Path | None]

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self.files), BATCH):
            yield np.stack([self.read(file) for file in self.files[start : start + BATCH]])


@dataclass(frozen=True)
class Inputs:
    """What `invad.metrics.evaluate` takes, under its names; `notes`: what reading ignored or changed; `sources`: argument -> its file."""

    anomaly_maps: Stack
    masks: Stack | None
    classes: Sequence[str] | np.ndarray | None
    labels: np.ndarray | None
    has_mask: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    sources: dict[str, Path] = field(default_factory=dict)
    groups: Sequence[str] | None = None

    def evaluate(self, protocol: Protocol | Sequence[Protocol] = PROTOCOLS) -> Evaluation:
        """Return what `invad.metrics.evaluate` does; its `InputError` names the file instead of the argument."""
        try:
            given = self.anomaly_maps, self.masks, self.classes, self.labels
            return evaluate(*given, protocol=protocol, has_mask=self.has_mask, groups=self.groups)
        except InputError as error:
            argument, colon, problem = str(error).partition(":")
            raise InputError(f"{self.sources.get(argument, argument)}{colon}{problem}") from None

    def bootstrap(self, evaluation: Evaluation) -> Intervals:
        """Return what `invad.metrics.bootstrap` does of what `evaluate` gave with the exact protocol; reads all maps twice more."""
        given = self.anomaly_maps, self.masks, self.classes, self.labels
        return bootstrap(*given, has_mask=self.has_mask, groups=self.groups, evaluation=evaluation)


def read_inputs(
    maps: Path,
    masks: Path | None = None,
    classes: Path | None = None,
    labels: Path | None = None,
    groups: Path | None = None,
) -> Inputs:
    """Open maps and what belongs to them; `InputError`: a file is damaged or does not fit, also when `Inputs.evaluate` reads it."""
    for path in (maps,) if masks is None else (maps, masks):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        if not path.is_dir() and path.suffix.lower() not in (".npy", ".npz"):
            raise InputError(f"{path}: expected a folder, or a .npy or .npz file")
    if masks is not None and maps.is_dir() != masks.is_dir():
        raise InputError(
            f"{masks}: could be matched with {maps} by position only; give two folders, or two .npy or .npz files"
        )
    inputs = (_read_folders if maps.is_dir() else _read_arrays)(maps, masks, classes, labels)
    if groups is None:
        return inputs
    of_maps = inputs.anomaly_maps
    count = len(of_maps.files if isinstance(of_maps, Files) else np.asarray(of_maps))
    return replace(inputs, groups=_lines(groups, count, ".+", "the name of the object that the map is of"))


def _read_arrays(maps: Path, masks: Path | None, classes: Path | None, labels: Path | None) -> Inputs:
    files = {MASKS: masks, CLASSES: classes, LABELS: labels}
    found = open_arrays(maps, (MAPS, "maps"), [name for name, path in files.items() if path is None])
    _check_map(found[MAPS], maps, ("N", "H", "W"))
    if masks is not None:
        found |= open_arrays(masks, (MASKS,))
    if classes is not None:
        found[CLASSES] = np.array(_read_classes(classes, len(found[MAPS])))
    if labels is not None:
        found[LABELS] = _read_labels(labels, len(found[MAPS]))
    if MASKS not in found and LABELS not in found:
        raise InputError(f"{maps}: has no masks; give them, or labels for the image metrics alone")
    sources = {MAPS: maps, **{name: path or maps for name, path in files.items()}}
    return Inputs(found[MAPS], found.get(MASKS), found.get(CLASSES), found.get(LABELS), sources=sources)


def open_arrays(path: Path, names: Sequence[str], others: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Return the array of a `.npy` file, memory-mapped, or arrays of an `.npz` file, by name; `InputError`: it is damaged or pickled.

    `names`: what the main array of an `.npz` may be called, the first of which it is called then; a single one may have any name.
    `others`: read too, where they are there.
    """
    if not path.is_file():  # to open a pipe would wait forever
        raise InputError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        archive = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(archive, np.ndarray):
            return {names[0]: archive}
        with archive:
            there = [name for name in names if name in archive.files] or [x for x in archive.files if x not in others]
            if len(there) != 1:
                known = ", ".join(archive.files) or "none"
                raise InputError(
                    f"{path}: expected one array, or one named {' or '.join(names)}, not the arrays {known}"
                )
            if sum(member.file_size for member in archive.zip.infolist()) > MAX_BYTES:
                raise InputError(
                    f"{path}: has more than {MAX_BYTES} bytes; save its arrays as .npy, which are not read as a whole"
                )
            return {names[0]: archive[there[0]], **{name: archive[name] for name in others if name in archive.files}}
    except InputError:
        raise
    except Exception as error:  # neither numpy nor zipfile promises a set of exceptions for hostile files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"{path}: damaged, or not a {path.suffix.lower()} file of numbers ({reason})") from None


def _read_folders(maps: Path, masks: Path | None, classes: Path | None, labels: Path | None) -> Inputs:
    names, notes = list_files(maps, MAP_SUFFIXES, "maps")
    own_classes = classes_of_folders(names, maps) if classes is None else _read_classes(classes, len(names))
    own_labels = None if labels is None else _read_labels(labels, len(names))
    found: dict[str, Path] = {}
    if masks is not None:
        found, more_notes = match_masks(names, masks)
        notes += more_notes
    files = [found.get(name) for name in names]
    in_normal = np.array([PurePosixPath(name).parent.name in _NORMAL_FOLDERS for name in names])
    # A normal image's mask is known to be empty.
    has_mask = np.array([file is not None for file in files]) | (in_normal if own_labels is None else own_labels == 0)
    if own_labels is None and not has_mask.all():
        name = names[int(np.argmin(has_mask))]
        where = f"there is no {masks / _without_suffix(name)}.png" if masks else "there are no masks"
        remedy = "a map of a normal image lies in a folder good, or labels say what is anomalous"
        raise InputError(f"{maps / name}: {where}; {remedy}")
    size = read_map(maps / names[0]).shape

    def map_of_size(path: Path) -> np.ndarray:
        values = read_map(path)
        if values.shape != size:
            expected = f"all maps must have the {_size_text(size)} of {names[0]}"
            raise InputError(f"{path}: has {_size_text(values.shape)} pixels; {expected}")
        return values

    def mask_of_size(file: Path | None) -> np.ndarray:
        return np.zeros(size, dtype=bool) if file is None else resize_mask(read_mask(file), size)

    if count := sum(file is not None and image_size(file)[::-1] != size for file in files):
        notes.append(f"{count} mask(s) resized to the maps' {_size_text(size)} pixels")
        if own_labels is None:  # resizing may lose small defects
            own_labels = np.array([file is not None and read_mask(file).any() for file in files])
    all_maps = Files(map_of_size, [maps / name for name in names])
    return Inputs(all_maps, Files(mask_of_size, files), own_classes, own_labels, has_mask, notes)


def list_files(root: Path, suffixes: frozenset[str], what: str) -> tuple[list[str], list[str]]:
    """Return the files of these suffixes below `root`, sorted, and a note of others; `InputError`: there are none, or two of one name."""
    paths = [path.relative_to(root) for path in files_below(root)]
    names = sorted(path.as_posix() for path in paths if path.suffix.lower() in suffixes)
    if not names:
        raise InputError(f"{root}: has no {what} ({', '.join(sorted(suffixes))})")
    by_stem: dict[str, str] = {}
    for name in names:
        if (other := by_stem.setdefault(_without_suffix(name), name)) != name:
            raise InputError(f"{root / other} and {root / name}: two {what} of one name; keep one")
    ignored = len(paths) - len(names)
    return names, [f"{root}: ignored {ignored} other file(s)"] if ignored else []


def classes_of_folders(names: Sequence[str], root: Path) -> list[str]:
    """Return each map's class: its first folder, or "all" where that is `good` or none; `InputError`: some lie in no folder."""
    folders = [PurePosixPath(name).parts[0] if "/" in name else "" for name in names]
    if not any(folders) or _NORMAL_FOLDERS & set(folders):
        return ["all"] * len(folders)
    if "" in folders:
        raise InputError(f"{root}: {names[folders.index('')]} lies in no folder, other maps do; give --classes")
    return folders


def read_map(path: Path) -> np.ndarray:
    """Read a map (H, W), `.npy`, grey TIFF or PNG; `InputError`: damaged, of other dimensions, colours, too many pixels, or NaN."""
    if path.suffix.lower() == ".npy":
        array = open_arrays(path, (MAPS,))[MAPS]
    else:
        with decoded_mask(path) as image:  # the modes of masks include all grey ones
            if image.mode not in _GREY_MODES:
                expected = "a map has one grey value of 8 or 16 bits or float32 for each pixel"
                raise InputError(f"{path}: has the pixel format {image.mode}; {expected}")
            array = np.asarray(image)
    _check_map(array, path, ("H", "W"))
    if array.size > MAX_PIXELS:
        raise InputError(f"{path}: has {array.size} pixels; at most {MAX_PIXELS} are accepted")
    array = np.array(array, dtype=array.dtype.newbyteorder("="))
    if not np.isfinite(array).all():
        raise InputError(f"{path}: holds NaN or infinity; scores must be finite")
    return array


def _check_map(array: np.ndarray, path: Path, dimensions: tuple[str, ...]) -> None:
    """Raise `InputError` unless `array` has these dimensions, none of them 0, of real numbers."""
    if array.ndim != len(dimensions) or array.dtype.kind not in "fiu" or array.size == 0:
        expected = f"expected numbers of the shape ({', '.join(dimensions)})"
        raise InputError(f"{path}: holds {array.dtype} of the shape {array.shape}; {expected}")


def _without_suffix(name: str) -> str:
    """`bottle/good/000.tiff` -> `bottle/good/000`."""
    return PurePosixPath(name).with_suffix("").as_posix()


def _size_text(size: tuple[int, ...]) -> str:
    """(H, W) -> `WxH`."""
    return f"{size[1]}x{size[0]}"


def match_masks(names: Sequence[str], root: Path) -> tuple[dict[str, Path], list[str]]:
    """Return map's name -> file of its mask, for each mask below `root`, found by its path, and a note of what was ignored.

    The paths of a map in `names` and its mask are equal but for the suffix; but `_mask` or `_gt` may end the mask's name, and its folder
    `ground_truth` stands for `test` of the maps, or for no folder. Where there is a `ground_truth`, what lies outside is ignored: the
    images of a data set. `InputError`: there are no masks, a mask has no map, or a map two masks.
    """
    masks, notes = list_files(root, IMAGE_SUFFIXES, "masks")
    below = [name for name in masks if _GROUND_TRUTH in PurePosixPath(name).parts[:-1]]
    if 0 < len(below) < len(masks):
        notes.append(f"{root}: ignored {len(masks) - len(below)} image(s) outside the folders {_GROUND_TRUTH}")
    maps = {_without_suffix(name): name for name in names}
    found: dict[str, Path] = {}
    for name in below or masks:
        map_name = next((maps[path] for path in _map_paths(name) if path in maps), None)
        if map_name is None:
            raise InputError(f"{root / name}: is the mask of no map; the first map is {names[0]}")
        if map_name in found:
            raise InputError(f"{found[map_name]} and {root / name}: two masks of the map {map_name}; keep one")
        found[map_name] = root / name
    return found, notes


def _map_paths(mask: str) -> Iterator[str]:
    """Yield the paths, without suffix, that the map of a mask may have, the most literal ones first."""
    path = PurePosixPath(mask)
    in_test = [_TEST if part == _GROUND_TRUTH else part for part in path.parent.parts]
    in_none = [part for part in path.parent.parts if part != _GROUND_TRUTH]
    stems = dict.fromkeys((path.stem, path.stem.removesuffix("_mask"), path.stem.removesuffix("_gt")))
    for parts in (path.parent.parts, in_test, in_none):
        yield from (PurePosixPath(*parts, stem).as_posix() for stem in stems)


def _read_classes(path: Path, count: int) -> list[str]:
    return _lines(path, count, ".+", "the name of a class")


def _read_labels(path: Path, count: int) -> np.ndarray:
    return np.array(_lines(path, count, "[01]", "0 (normal) or 1 (anomalous)"), dtype=np.int8)


def _lines(path: Path, count: int, pattern: str, expected: str) -> list[str]:
    """Return the `count` lines of a text file; `InputError` where there are more, fewer or one that does not match."""
    try:
        text = path.read_text(encoding="utf-8-sig").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read as UTF-8 text ({getattr(error, 'strerror', None) or error})"
        ) from None
    lines = [line.strip() for line in text.split("\n")]
    if len(lines) != count:
        raise InputError(f"{path}: has {len(lines)} line(s), but there are {count} maps; expected one for each")
    for number, line in enumerate(lines, 1):
        if not re.fullmatch(pattern, line):
            raise InputError(f"{path}, line {number}: {line!r}; expected {expected}")
    return lines
