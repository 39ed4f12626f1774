"""Anomaly maps in files with all that belongs to them: what `invad-pipe evaluate` evaluates.

From Python: `read_inputs(maps, masks).evaluate()`. Masks of folders are found by name, never by position.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from invad.data.images import IMAGE_SUFFIXES, image_size, read_mask, resize_mask
from invad.errors import InputError
from invad.metrics import PROTOCOLS, Evaluation, evaluate
from invad.metrics.protocol import Protocol
from invad.metrics.reading import Stack
from invad.scoring.map_files import (
    NORMAL_FOLDERS,
    MapFolder,
    batches,
    check_array,
    list_files,
    open_arrays,
    open_map_folder,
    size_text,
    without_suffix,
)
from invad.scoring.store import TABLE_FILE, open_scores

MAPS, MASKS, CLASSES, LABELS = "anomaly_maps", "masks", "classes", "labels"
"""Arrays of an .npz, and arguments of `evaluate`."""
_GROUND_TRUTH, _TEST = "ground_truth", "test"  # folders of masks and of images in MVTec AD


@dataclass(frozen=True)
class Inputs:
    """What `invad.metrics.evaluate` takes, under its names.

    Attributes:
        notes: What reading ignored or changed.
        sources: Argument -> the file that it comes from, for messages.
    """

    anomaly_maps: Stack
    masks: Stack | None
    classes: Sequence[str] | np.ndarray | None
    labels: np.ndarray | None
    image_scores: np.ndarray | None = None
    has_mask: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    sources: dict[str, Path] = field(default_factory=dict)

    def evaluate(self, protocol: Protocol | Sequence[Protocol] = PROTOCOLS) -> Evaluation:
        """Return what `invad.metrics.evaluate` does; its `InputError` names the file instead of the argument."""
        truth = (self.masks, self.classes, self.labels)
        try:
            return evaluate(self.anomaly_maps, *truth, self.image_scores, protocol, has_mask=self.has_mask)
        except InputError as error:
            argument, colon, problem = str(error).partition(":")
            raise InputError(f"{self.sources.get(argument, argument)}{colon}{problem}") from None


def read_inputs(
    maps: Path, masks: Path | None = None, classes: Path | None = None, labels: Path | None = None
) -> Inputs:
    """Open anomaly maps and what belongs to them; `invad-pipe evaluate --help` says what each file may be.

    Raises:
        InputError: A file is missing, damaged or of the wrong kind, or the files do not fit together. Most files of a folder are
            read by `Inputs.evaluate` only, which raises it then.
    """
    for path in (maps,) if masks is None else (maps, masks):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        if not path.is_dir() and path.suffix.lower() not in (".npy", ".npz"):
            raise InputError(f"{path}: expected a folder, or a .npy or .npz file")
    if (maps / TABLE_FILE).is_file():
        if given := masks or classes or labels:
            raise InputError(f"{given}: must be left out; {maps} has masks, classes and labels of its own")
        scores = open_scores(maps)
        truth = (scores.masks_nhw, scores.classes, scores.labels)
        return Inputs(scores.maps_nhw, *truth, scores.image_scores, scores.has_mask)
    if masks is not None and maps.is_dir() != masks.is_dir():
        raise InputError(
            f"{masks}: could be matched with {maps} by position only; give two folders, or two .npy or .npz files"
        )
    return (_read_folders if maps.is_dir() else _read_arrays)(maps, masks, classes, labels)


def _read_arrays(maps: Path, masks: Path | None, classes: Path | None, labels: Path | None) -> Inputs:
    files = {MASKS: masks, CLASSES: classes, LABELS: labels}
    found, notes = open_arrays(maps, (MAPS, "maps"), [name for name, path in files.items() if path is None])
    check_array(found[MAPS], maps, ("N", "H", "W"))
    if masks is not None:
        of_masks, more_notes = open_arrays(masks, (MASKS,))
        found, notes = found | of_masks, notes + more_notes
    own_classes = found.get(CLASSES) if classes is None else read_classes(classes, len(found[MAPS]))
    own_labels = found.get(LABELS) if labels is None else read_labels(labels, len(found[MAPS]))
    if MASKS not in found and own_labels is None:
        raise InputError(f"{maps}: has no masks; give them, or labels for the image metrics alone")
    sources = {MAPS: maps, **{name: path or maps for name, path in files.items()}}
    return Inputs(found[MAPS], found.get(MASKS), own_classes, own_labels, notes=notes, sources=sources)


def _read_folders(maps: Path, masks: Path | None, classes: Path | None, labels: Path | None) -> Inputs:
    folder = open_map_folder(maps)
    own_classes = folder.classes() if classes is None else read_classes(classes, len(folder))
    own_labels = None if labels is None else read_labels(labels, len(folder))
    found, notes = ({}, []) if masks is None else match_masks(folder, masks)
    files = [found.get(name) for name in folder.names]
    in_normal = np.array([PurePosixPath(name).parent.name in NORMAL_FOLDERS for name in folder.names])
    # A normal image's mask is known to be empty.
    has_mask = np.array([file is not None for file in files]) | (in_normal if own_labels is None else own_labels == 0)
    if own_labels is not None and (count := int(np.sum(in_normal & (own_labels == 1)))):
        notes.append(f"{labels}: calls {count} map(s) in a folder good or normal anomalous")
    if own_labels is None and not has_mask.all():
        name = folder.names[int(np.argmin(has_mask))]
        where = f"there is no {masks / without_suffix(name)}.png" if masks else "there are no masks"
        remedy = "a map of a normal image lies in a folder good, or labels say what is anomalous"
        raise InputError(f"{maps / name}: {where}; {remedy}")
    resized = ResizedMasks(files, folder.size)
    if count := resized.count():
        notes.append(f"{count} mask(s) resized to the maps' {size_text(folder.size)} pixels")
        own_labels = resized.labels() if own_labels is None else own_labels
    return Inputs(folder, resized, own_classes, own_labels, has_mask=has_mask, notes=[*folder.notes, *notes])


@dataclass(frozen=True)
class ResizedMasks:
    """Masks of image files as batches bool (n, H, W) of one `size`, as in the published evaluation; None stands for an empty one.

    Iterating, as often as wanted, reads and resizes them then; `InputError` as for `read_mask`.
    """

    files: Sequence[Path | None]
    size: tuple[int, int]

    def __iter__(self) -> Iterator[np.ndarray]:
        for some in batches(self.files):
            yield np.stack([resize_mask(self._read(file), self.size) for file in some])

    def _read(self, file: Path | None) -> np.ndarray:
        return np.zeros(self.size, dtype=bool) if file is None else read_mask(file)

    def labels(self) -> np.ndarray:
        """Return bool (N,), whether a mask has an anomalous pixel as stored; resizing may lose small ones."""
        return np.array([self._read(file).any() for file in self.files])

    def count(self) -> int:
        """Return how many masks are of another size, by the headers of their files."""
        return sum(file is not None and image_size(file)[::-1] != self.size for file in self.files)


def match_masks(folder: MapFolder, root: Path) -> tuple[dict[str, Path], list[str]]:
    """Find the map of each mask below `root` by its path.

    Both are equal but for the suffix; but `_mask` or `_gt` may end the mask's name, and its folder `ground_truth` stands for `test` of
    the maps, or for no folder. Where there is a `ground_truth`, what lies outside is ignored: the images of a data set.

    Returns:
        Map's name -> file of its mask, and a note of what was ignored.

    Raises:
        InputError: There are no masks, a mask has no map, or a map two masks.
    """
    names, notes = list_files(root, IMAGE_SUFFIXES)
    if not names:
        raise InputError(f"{root}: has no masks ({', '.join(sorted(IMAGE_SUFFIXES))})")
    below = [name for name in names if _GROUND_TRUTH in PurePosixPath(name).parts[:-1]]
    if 0 < len(below) < len(names):
        notes.append(f"{root}: ignored {len(names) - len(below)} image(s) outside the folders {_GROUND_TRUTH}")
    maps = {without_suffix(name): name for name in folder.names}
    found: dict[str, Path] = {}
    for name in below or names:
        map_name = next((maps[path] for path in _map_paths(name) if path in maps), None)
        if map_name is None:
            raise InputError(f"{root / name}: is the mask of no map; the first map is {folder.names[0]}")
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


def read_classes(path: Path, count: int) -> list[str]:
    """Read the class names of `count` maps, one a line; `InputError` where there are more, fewer or an empty one."""
    names = _lines(path, count)
    if "" in names:
        raise InputError(f"{path}, line {names.index('') + 1}: empty; expected the name of a class")
    return names


def read_labels(path: Path, count: int) -> np.ndarray:
    """Read the labels int8 (N,) of `count` images, 0 (normal) or 1 (anomalous) a line; `InputError` where there is anything else."""
    lines = _lines(path, count)
    for number, line in enumerate(lines, 1):
        if line not in ("0", "1"):
            raise InputError(f"{path}, line {number}: {line!r}; expected 0 (normal) or 1 (anomalous)")
    return np.array(lines, dtype=np.int8)


def _lines(path: Path, count: int) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    if len(lines) != count:
        raise InputError(f"{path}: has {len(lines)} line(s), but there are {count} maps; expected one for each")
    return [line.strip() for line in lines]
