"""Anomaly maps in files with all that belongs to them: what `invad-pipe evaluate` evaluates.

From Python: `read_inputs(maps, masks).evaluate()`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from invad.errors import InputError
from invad.metrics import PROTOCOLS, Evaluation, evaluate
from invad.metrics.inputs import Stack
from invad.metrics.protocol import Protocol
from invad.scoring.map_files import NORMAL_FOLDERS, MapFolder, check_array, open_arrays, open_map_folder, without_suffix
from invad.scoring.mask_files import masks_of_array, masks_of_files, match_masks
from invad.scoring.store import TABLE_FILE, open_scores

MAPS, MASKS, CLASSES, LABELS = "anomaly_maps", "masks", "classes", "labels"
"""Arrays of an .npz, and arguments of `evaluate`."""


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
    check_array(found[MAPS], maps, ("N", "H", "W"), "fiu")
    count, height, width = found[MAPS].shape
    if masks is not None:
        of_masks, more_notes = open_arrays(masks, (MASKS,))
        found, notes = found | of_masks, notes + more_notes
    own_classes = found.get(CLASSES) if classes is None else read_classes(classes, count)
    if labels is not None:
        found[LABELS] = read_labels(labels, count)
    sources = {MAPS: maps, **{name: path or maps for name, path in files.items()}}
    own_masks, own_labels = found.get(MASKS), found.get(LABELS)
    if own_masks is not None:
        resized = masks_of_array(own_masks, sources[MASKS], (height, width))
        if len(resized) != count:
            raise InputError(f"{sources[MASKS]}: has {len(resized)} masks, but there are {count} maps")
        if note := resized.note():
            notes.append(note)
            own_labels = resized.labels() if own_labels is None else own_labels
            return Inputs(found[MAPS], resized, own_classes, own_labels, notes=notes, sources=sources)
    elif own_labels is None:
        raise InputError(f"{maps}: has no masks; give them, or labels for the image metrics alone")
    return Inputs(found[MAPS], own_masks, own_classes, own_labels, notes=notes, sources=sources)


def _read_folders(maps: Path, masks: Path | None, classes: Path | None, labels: Path | None) -> Inputs:
    folder = open_map_folder(maps)
    own_classes = folder.classes() if classes is None else read_classes(classes, len(folder))
    own_labels = None if labels is None else read_labels(labels, len(folder))
    found, mask_notes = ({}, []) if masks is None else match_masks(folder, masks)
    files = [found.get(name) for name in folder.names]
    has_mask = np.array([file is not None for file in files])
    in_normal = np.array([PurePosixPath(name).parent.name in NORMAL_FOLDERS for name in folder.names])
    has_mask |= in_normal if own_labels is None else own_labels == 0  # a normal image's mask is known to be empty
    if own_labels is None and not has_mask.all():
        raise InputError(_without_mask(folder, folder.names[int(np.argmin(has_mask))], masks))
    notes = [*folder.notes, *mask_notes]
    if own_labels is not None and (count := int(np.sum(in_normal & (own_labels == 1)))):
        notes.append(f"{labels}: calls {count} map(s) in a folder good or normal anomalous")
    resized = masks_of_files(files, folder.size)
    if note := resized.note():
        notes.append(note)
        own_labels = resized.labels() if own_labels is None else own_labels
    return Inputs(folder, resized, own_classes, own_labels, has_mask=has_mask, notes=notes)


def _without_mask(folder: MapFolder, name: str, masks: Path | None) -> str:
    where = f"there is no {masks / without_suffix(name)}.png" if masks else "there are no masks"
    return (
        f"{folder.root / name}: {where}; a map of a normal image lies in a folder good, or labels say what is anomalous"
    )


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
