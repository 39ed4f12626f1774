"""Masks of anomaly maps in files: found by name, never by position, and resized to the maps as in the published evaluation."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from invad.data.images import IMAGE_SUFFIXES, image_size, read_mask, resize_mask
from invad.errors import InputError
from invad.scoring.map_files import BATCH, MapFolder, check_array, list_files, size_text, without_suffix

_GROUND_TRUTH, _TEST = "ground_truth", "test"  # folders of masks and of images in MVTec AD
_MASK_ENDINGS = ("_mask", "_gt")
_SIZES_NAMED = 3


@dataclass(frozen=True)
class ResizedMasks:
    """Masks as batches bool (n, H, W) of one size: iterating, as often as wanted, reads and resizes them then.

    Attributes:
        stored_sizes: (h, w) of each mask in its file.
        size: (H, W).
        read: Index -> mask as stored, bool (h, w), True where anomalous.
    """

    stored_sizes: Sequence[tuple[int, int]]
    size: tuple[int, int]
    read: Callable[[int], np.ndarray]

    def __len__(self) -> int:
        return len(self.stored_sizes)

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), BATCH):
            stop = min(start + BATCH, len(self))
            yield np.stack([resize_mask(self.read(index), self.size) for index in range(start, stop)])

    def labels(self) -> np.ndarray:
        """Return bool (N,), whether a mask has an anomalous pixel as stored; resizing may lose small ones."""
        return np.array([self.read(index).any() for index in range(len(self))])

    def note(self) -> str:
        """Say how many masks are resized and from what sizes; empty when none is."""
        counts = Counter(size for size in self.stored_sizes if size != self.size)
        if not counts:
            return ""
        named = ", ".join(f"{size_text(size)} ({count})" for size, count in counts.most_common(_SIZES_NAMED))
        more = f" and {len(counts) - _SIZES_NAMED} other sizes" if len(counts) > _SIZES_NAMED else ""
        return f"{counts.total()} mask(s) resized to the maps' {size_text(self.size)} pixels, from {named}{more}"


def masks_of_files(files: Sequence[Path | None], size: tuple[int, int]) -> ResizedMasks:
    """The masks of image files, of which the headers are read at once; None stands for an empty mask.

    Raises:
        InputError: As for `read_mask`, for a damaged file while iterating only.
    """
    empty = np.zeros(size, dtype=bool)

    def read(index: int) -> np.ndarray:
        file = files[index]
        return empty if file is None else read_mask(file)

    return ResizedMasks([size if file is None else image_size(file)[::-1] for file in files], size, read)


def masks_of_array(masks_nhw: np.ndarray, path: Path, size: tuple[int, int]) -> ResizedMasks:
    """The masks of an array (N, h, w) of bool, 0 and 1, 0 and 255, or fractions that are anomalous above one half.

    Raises:
        InputError: The array of the file `path` has other dimensions or, while iterating, other values.
    """
    check_array(masks_nhw, path, ("N", "H", "W"), "biuf")
    fractions = masks_nhw.dtype.kind == "f"

    def read(index: int) -> np.ndarray:
        mask = masks_nhw[index]
        if not ((mask >= 0) & (mask <= 1) if fractions else np.isin(mask, (0, 1, 255))).all():
            raise InputError(f"{path}: mask {index} holds other values than 0 and 1, or 0 and 255")
        return mask > (0.5 if fractions else 0)

    return ResizedMasks([masks_nhw.shape[1:]] * len(masks_nhw), size, read)


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
    stems = [path.stem, *(path.stem.removesuffix(end) for end in _MASK_ENDINGS if path.stem.endswith(end))]
    folders = path.parent.parts
    in_test = [_TEST if part == _GROUND_TRUTH else part for part in folders]
    in_none = [part for part in folders if part != _GROUND_TRUTH]
    for parts in (folders, in_test, in_none):
        yield from (PurePosixPath(*parts, stem).as_posix() for stem in stems)
