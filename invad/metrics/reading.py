"""The images that `evaluate` is given: checked, read block by block, and each block made ready on any thread.

Each failure is one line that names the argument, the image and the class.
"""

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np

from invad.errors import InputError
from invad.metrics.ranking import Run, region_areas

BLOCK_PIXELS = 1 << 21
"""A block has at most so many pixels, or one image."""

Stack = np.ndarray | Iterable[np.ndarray]
"""(N, H, W) at once (an array or a memory map), or batches of (n, H, W) in the same order."""
PerImage = Sequence[Any] | np.ndarray | None
Block = tuple[int, np.ndarray, np.ndarray]
"""Some images in a row: the position of the first among all, their maps and masks (n, H, W)."""


@dataclass(frozen=True)
class Images:
    """Some images of one class, (n,) each but for the pixels of those whose mask is known; labels are the data set's own.

    with_pixels: whether the mask has an anomalous pixel. unknown: whether the image is anomalous and its mask not known. empty: the pixels
    of those images whose mask is not known but empty to the paper protocol. groups: the names of the objects that the images show, where
    they are given.
    """

    name: str
    pixels: Run
    scores: np.ndarray
    labels: np.ndarray
    with_pixels: np.ndarray
    unknown: np.ndarray
    empty: Run
    groups: np.ndarray


def working(scores: np.ndarray) -> np.ndarray:
    """Scores of any numeric type as float32 where that holds each of them exactly, else as float64."""
    doubles = scores.astype(np.float32 if np.can_cast(scores.dtype, np.float32) else np.float64, copy=False)
    with np.errstate(over="ignore"):
        singles = doubles.astype(np.float32, copy=False)
    return singles if singles is doubles or np.array_equal(singles, doubles) else doubles


class ImageTable:
    """All images, given as for `evaluate`: their maps and masks in batches, and what is known of each image beside these.

    `InputError`: what is given contradicts itself, or an image without a mask has no label.
    """

    def __init__(
        self,
        maps: Stack,
        masks: Stack | None,
        classes: PerImage,
        labels: PerImage,
        image_scores: PerImage,
        has_mask: PerImage,
        empty_in_paper: PerImage = None,
        groups: PerImage = None,
    ) -> None:
        if masks is None and has_mask is not None:
            raise InputError("has_mask: must be left out where masks is None")
        self._maps = _batches(maps, "anomaly_maps")
        self._masks = None if masks is None else _batches(masks, "masks")
        # The number of images; of batches it is not known, but the first of the others may say it.
        of_maps = np.asarray(maps) if hasattr(maps, "__array__") else None
        counted = (of_maps, classes, labels, image_scores, has_mask, groups)
        sizes = [len(each) for each in counted if isinstance(each, Sized)]
        self.count = sizes[0] if sizes else None
        self.names = self._column("classes", classes, "U")
        if self.names is not None and (empty := np.flatnonzero(self.names == "")).size:
            raise InputError(f"classes: the name of image {empty[0]} is empty")
        self._groups = self._column("groups", groups, "U")
        self._labels = self._column("labels", labels, "biuf")
        self._scores = self._column("image_scores", image_scores, "fiu")
        self._has_mask = self._column("has_mask", has_mask, "b")
        self._empty = self._column("empty_in_paper", empty_in_paper, "b")
        if self._labels is not None and (wrong := np.flatnonzero((self._labels != 0) & (self._labels != 1))).size:
            told = f"image {wrong[0]} has {self._labels[wrong[0]]}; expected 0 (normal) or 1 (anomalous)"
            raise InputError(f"labels: {told}")
        if self._scores is not None:
            self._require_finite("image_scores", "the score", np.isfinite(self._scores), 0)
        if labels is None and (masks is None or (self._has_mask is not None and not self._has_mask.all())):
            raise InputError("labels: are required where an image has no mask")

    def _column(self, name: str, values: PerImage, kinds: str) -> np.ndarray | None:
        if values is None:
            return None
        try:
            array = np.asarray(list(values) if kinds == "U" and not isinstance(values, str) else values)
        except ValueError:
            array = np.empty(())
        if array.shape != (self.count,):
            raise InputError(f"{name}: expected {self.count} values, one for each image, got shape {array.shape}")
        return _of_kind(array, name, kinds)

    def _require_finite(self, argument: str, what: str, finite: np.ndarray, first: int) -> None:
        """Raise `InputError` for the first of some images, of which number `first` is the first, that is not `finite` (n,)."""
        if not finite.all():
            i = first + int(np.argmin(finite))
            name = "all" if self.names is None else str(self.names[i])
            raise InputError(
                f"{argument}: {what} of image {i} (class {name!r}) holds NaN or infinity; scores must be finite"
            )

    @property
    def has_samples(self) -> bool:
        """Whether any object is seen in several images."""
        if self._groups is None:
            return False
        names = ["all"] * len(self._groups) if self.names is None else self.names.tolist()
        known = [pair for pair in zip(names, self._groups.tolist(), strict=True) if pair[1]]
        return len(set(known)) < len(known)

    def class_sizes(self) -> dict[str, int]:
        """The number of images of each class; empty where that is not known."""
        names = np.full(self.count or 0, "all") if self.names is None else self.names
        return dict(zip(*(column.tolist() for column in np.unique(names, return_counts=True)), strict=True))

    def blocks(self) -> Iterator[Block]:
        """Read the images in their order.

        `InputError`: shapes, kinds of numbers or lengths do not fit, or there is no image.
        """
        done, block = 0, []
        for pair in chain(self._pairs(), [None]):
            full = block and len(block) >= BLOCK_PIXELS // block[0][0].size
            if block and (full or pair is None or [one.dtype for one in pair] != [one.dtype for one in block[0]]):
                maps, masks = (
                    stack[done : done + len(block)] if isinstance(stack, np.ndarray) else np.stack(images)
                    for stack, images in zip((self._maps, self._masks), zip(*block, strict=True), strict=True)
                )
                yield done, maps, masks
                done, block = done + len(block), []
            is_more = pair is not None and done + len(block) == self.count
            if is_more or (pair is None and done and self.count not in (None, done)):
                given = f"classes, labels, image_scores, has_mask, groups: given for {self.count} images"
                raise InputError(f"{given}, but there are {'more' if is_more else done} anomaly_maps")
            block.append(pair)
        if not done:
            raise InputError("anomaly_maps: empty; expected at least one image of at least one pixel")

    def _pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Maps (H, W) with their masks, whatever the lengths of their batches."""
        maps = _images(self._maps, "anomaly_maps")
        if self._masks is None:
            yield from ((image, np.zeros(image.shape, bool)) for image in maps)
            return
        for seen, (image, mask) in enumerate(zip_longest(maps, _images(self._masks, "masks"))):
            if image is None:
                if not seen:
                    return
                raise InputError(f"masks: there are more of them than anomaly_maps, {seen}")
            if mask is None:
                raise InputError(f"masks: end after {seen} images, but there are more anomaly_maps")
            if mask.shape != image.shape:
                told = f"height and width {mask.shape} differ from those of anomaly_maps, {image.shape}"
                raise InputError(f"masks: {told}")
            yield image, mask

    def prepared(self, block: Block) -> list[Images]:
        """Check a block and sort out its classes, pixels and labels."""
        first, maps, all_masks = block
        images = slice(first, first + len(maps))
        maps = working(maps)
        flat = maps.reshape(len(maps), -1)
        highest = flat.max(axis=1)
        self._require_finite("anomaly_maps", "the map", np.isfinite(flat.min(axis=1)) & np.isfinite(highest), first)
        names = np.full(len(maps), "all") if self.names is None else self.names[images]
        scores = highest if self._scores is None else self._scores[images]
        has_mask = np.full(len(maps), self._masks is not None) if self._has_mask is None else self._has_mask[images]
        classes = []
        for name in sorted(set(names.tolist())):
            at = np.flatnonzero(names == name)
            known = has_mask[at]
            masks = np.zeros((at.size, *maps.shape[1:]), bool)
            masks[known] = _binary_masks(all_masks[at[known]], first + at[known], name)
            with_pixels = np.any(masks, axis=(1, 2))
            labels = with_pixels if self._labels is None else self._labels[images][at].astype(bool)
            unknown = labels & ~known
            normal = ~masks  # an image that is normal needs no mask: its own is empty
            normal[unknown] = False
            of_class, marked = maps if at.size == len(maps) else maps[at], masks[with_pixels]
            pixels = Run.of(of_class[normal], of_class[masks], *region_areas(marked))
            empty = of_class[[]] if self._empty is None else of_class[unknown & self._empty[images][at]]
            of_empty = Run.of(empty.ravel(), flat[:0, 0], *np.empty((2, 0), np.int32))
            groups = np.empty(0, str) if self._groups is None else self._groups[images][at]
            classes.append(Images(name, pixels, scores[at], labels, with_pixels, unknown, of_empty, groups))
        return classes


def _batches(stack: Stack, name: str) -> Stack:
    if hasattr(stack, "__array__"):
        return _three_dimensional(stack, name)
    if not isinstance(stack, Iterable):
        raise InputError(f"{name}: expected an array (N, H, W) or batches of arrays, got {type(stack).__name__}")
    return stack


def _images(stack: Stack, name: str) -> Iterator[np.ndarray]:
    """The images of an array, or of all batches, which are of one size; these are copied, since a reader may fill the same array again."""
    if isinstance(stack, np.ndarray):
        yield from stack if stack.size else ()
        return
    size: tuple[int, ...] = ()
    for i, value in enumerate(stack):
        batch = _three_dimensional(value, f"{name}, batch {i}")
        if not batch.size:
            continue
        size = size or batch.shape[1:]
        if batch.shape[1:] != size:
            raise InputError(f"{name}: all must have one height and width, got {sorted({size, batch.shape[1:]})}")
        yield from map(np.copy, batch)


def _three_dimensional(value: Any, name: str) -> np.ndarray:  # noqa: ANN401  (whatever it is given)
    """`value` as (n, H, W), not copied; `InputError`, which calls it `name`, for another shape or other kinds of numbers."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        array = np.empty(())
    if array.ndim != 3:
        raise InputError(f"{name}: expected three dimensions (n, H, W), got shape {array.shape}")
    return _of_kind(array, name, "fiu" if name.startswith("anomaly_maps") else "biuf")


def _of_kind(array: np.ndarray, name: str, kinds: str) -> np.ndarray:
    """The array; `InputError`, which calls it `name`, for other `kinds` of numbers than these, named as in numpy."""
    if array.dtype.kind not in kinds:
        names = {"b": "bool", "i": "integers", "u": "unsigned integers", "f": "floating point", "U": "text"}
        expected = ", ".join(names[kind] for kind in kinds)
        raise InputError(f"{name}: unexpected type {array.dtype}; expected {expected}")
    return array


def _binary_masks(masks_nhw: np.ndarray, index: np.ndarray, name: str) -> np.ndarray:
    """The masks (n, H, W) of a class as bool, True where anomalous.

    Accepted: bool; integers that in an image are only 0 and 1, or only 0 and 255 (anomalous where not 0); floating point in [0, 1]
    (anomalous where above 0.5). Anything else is an `InputError`. `index` (n,): the masks' positions among all images.
    """
    kind = masks_nhw.dtype.kind
    if kind == "b":
        return masks_nhw
    if kind == "f":
        accepted = "floating point values must lie in [0, 1]"
        allowed, anomalous = (masks_nhw >= 0) & (masks_nhw <= 1), masks_nhw > 0.5
    else:
        accepted = "integers within an image must be only 0 and 1, or only 0 and 255"
        highest = masks_nhw.max(axis=(1, 2), keepdims=True)
        anomalous = masks_nhw != 0
        allowed = ~anomalous | (masks_nhw == np.where(highest == 255, highest, 1))
    if not allowed.all():
        image, row, column = (int(i) for i in np.argwhere(~allowed)[0])
        found = masks_nhw[image, row, column]
        raise InputError(f"masks: image {int(index[image])} (class {name!r}) holds {found}; {accepted}")
    return anomalous
