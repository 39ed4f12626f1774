"""The images that `evaluate` is given, block by block and as often as they can be read; a block is made ready on any thread."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np

from invad.errors import InputError
from invad.metrics import inputs
from invad.metrics.class_scores import ClassBlock, ImageScores
from invad.metrics.part import Part
from invad.metrics.regions import region_areas

BLOCK_PIXELS = 1 << 21
"""A block has so many pixels, or one image."""

PerImage = Sequence[Any] | np.ndarray | None


@dataclass(frozen=True)
class Block:
    """Some images: their positions (n,) among all, maps and masks (n, H, W), class names (n,), the data set's own labels bool (n,)
    and image scores (n,), where given, and bool (n,) which images have a mask."""

    index: np.ndarray
    maps: np.ndarray
    masks: np.ndarray
    names: np.ndarray
    labels: np.ndarray | None
    scores: np.ndarray | None
    has_mask: np.ndarray


class ImageTable:
    """What is known of each image beside its map and mask; checked against the number of images as soon as that is known.

    Args:
        count: number of images; None while that is not known, then the first of the other arguments says it.
        classes, labels, image_scores, has_mask: as for `evaluate`.
        no_masks: there are none, of any image.

    Raises:
        InputError: What is given contradicts itself, or an image without a mask has no label.
    """

    def __init__(
        self,
        count: int | None,
        classes: PerImage,
        labels: PerImage,
        image_scores: PerImage,
        has_mask: PerImage,
        *,
        no_masks: bool,
    ) -> None:
        if no_masks and has_mask is not None:
            raise InputError("has_mask: must be left out where masks is None")
        given = [value for value in (classes, labels, image_scores, has_mask) if isinstance(value, Sized)]
        self.count = len(given[0]) if count is None and given else count
        n = self.count or 0
        self.names = None if classes is None and count is None else inputs.class_names(classes, n)
        self._labels = None if labels is None else inputs.image_labels(labels, n)
        names = np.full(n, "all") if self.names is None else self.names
        self._scores = None if image_scores is None else inputs.scores_of_images(image_scores, names)
        self._has_mask = None if has_mask is None else inputs.images_with_mask(has_mask, n)
        self._no_masks = no_masks
        if labels is None and (no_masks or (self._has_mask is not None and not self._has_mask.all())):
            raise InputError("labels: are required where an image has no mask")

    def block(self, index: np.ndarray, maps: np.ndarray, masks: np.ndarray) -> Block:
        """Those images with their maps and masks; `InputError` where there are more than the table knows."""
        if self.count is not None and index.size and index[-1] >= self.count:
            raise InputError(
                f"classes, labels, image_scores, has_mask: given for {self.count} images, but there are more anomaly_maps"
            )
        with_mask = np.full(index.size, not self._no_masks) if self._has_mask is None else self._has_mask[index]
        names = np.full(index.size, "all") if self.names is None else self.names[index]
        labels, scores = (None if value is None else value[index] for value in (self._labels, self._scores))
        return Block(index, maps, masks, names, labels, scores, with_mask)

    def class_sizes(self) -> dict[str, int]:
        """The number of images of each class; empty where that is not known."""
        names = np.full(self.count or 0, "all") if self.names is None else self.names
        return dict(zip(*(column.tolist() for column in np.unique(names, return_counts=True)), strict=True))

    def require_count(self, count: int) -> None:
        """Raise `InputError` unless the table is one of `count` images."""
        if self.count is not None and count != self.count:
            raise InputError(
                f"classes, labels, image_scores, has_mask: given for {self.count} images, but there are {count} anomaly_maps"
            )


def array_blocks(
    maps: np.ndarray, masks: np.ndarray | None, table: ImageTable
) -> Callable[[str | None], Iterator[Block]]:
    """A function that reads arrays class by class, all of them or one; a memory map is never in memory as a whole."""
    masks = np.broadcast_to(False, maps.shape) if masks is None else masks
    step = max(BLOCK_PIXELS // (maps.shape[1] * maps.shape[2]), 1)

    def blocks(only: str | None = None) -> Iterator[Block]:
        for name in sorted(table.class_sizes()) if only is None else [only]:
            of_class = np.flatnonzero(table.names == name)
            for start in range(0, of_class.size, step):
                index = of_class[start : start + step]
                # neighbours are a view, others a copy
                where = slice(index[0], index[-1] + 1) if index[-1] - index[0] == index.size - 1 else index
                yield table.block(index, maps[where], masks[where])

    return blocks


def stream_blocks(
    maps: inputs.Stack, masks: inputs.Stack | None, table: ImageTable
) -> Callable[[str | None], Iterator[Block]]:
    """A function that reads batches in their order, from their beginning where they can be read again."""

    def blocks(only: str | None = None) -> Iterator[Block]:
        start = 0
        for some_maps, some_masks in _in_step(_batches(maps, "anomaly_maps"), masks):
            block = table.block(np.arange(start, start + len(some_maps)), some_maps, some_masks)
            start += len(some_maps)
            if only is None or only in block.names:
                yield block
        inputs.require_images((start,))
        table.require_count(start)

    return blocks


def can_be_read_again(*stacks: inputs.Stack | None) -> bool:
    """Whether none of them is an iterator, which is used up when it has been read."""
    return not any(isinstance(stack, Iterator) for stack in stacks)


def _batches(stack: inputs.Stack, name: str) -> Iterator[np.ndarray]:
    """Checked batches of one image size, cut to blocks.

    They are copied unless they exist side by side: several blocks are in work at a time, and a reader may fill the same array again.
    """
    check = inputs.map_array if name == "anomaly_maps" else inputs.mask_array
    size, lasting = None, isinstance(stack, (list, tuple)) or inputs.is_at_once(stack)
    batches: Iterable[np.ndarray] = [stack] if inputs.is_at_once(stack) else stack
    for i, value in enumerate(batches):
        batch = check(value, f"{name}, batch {i}")
        if not batch.size:
            continue
        size = size or batch.shape[1:]
        if batch.shape[1:] != size:
            raise InputError(f"{name}: all must have one height and width, got {sorted({size, batch.shape[1:]})}")
        step = max(BLOCK_PIXELS // (size[0] * size[1]), 1)
        blocks = (batch[start : start + step] for start in range(0, len(batch), step))
        yield from blocks if lasting else (block.copy() for block in blocks)


def _in_step(maps: Iterator[np.ndarray], masks: inputs.Stack | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Maps and masks of the same images, whatever the lengths of their batches."""
    if masks is None:
        yield from ((some, np.broadcast_to(False, some.shape)) for some in maps)
        return
    some_masks, mask_batches, seen = np.empty((0, 0, 0)), _batches(masks, "masks"), 0
    for some_maps in maps:
        while len(some_maps):
            if not len(some_masks):
                some_masks = next(mask_batches, None)
                if some_masks is None:
                    raise InputError(f"masks: end after {seen} images, but there are more anomaly_maps")
                if some_masks.shape[1:] != some_maps.shape[1:]:
                    raise InputError(
                        f"masks: height and width {some_masks.shape[1:]} differ from those of anomaly_maps, {some_maps.shape[1:]}"
                    )
            n = min(len(some_maps), len(some_masks))
            yield some_maps[:n], some_masks[:n]
            some_maps, some_masks, seen = some_maps[n:], some_masks[n:], seen + n
    if seen and (len(some_masks) or next(mask_batches, None) is not None):
        raise InputError(f"masks: there are more of them than anomaly_maps, {seen}")


def prepare(block: Block, first: int = 0) -> list[ClassBlock]:
    """Check a block and sort out its classes, pixels and labels; `first`: the position that errors count images from."""
    index = block.index + first
    maps = _working_type(block.maps)
    flat = maps.reshape(len(maps), -1)
    lowest, highest = flat.min(axis=1), flat.max(axis=1)
    inputs.require_finite_maps(lowest, highest, index, block.names)
    scores = highest if block.scores is None else block.scores
    classes = []
    for name in sorted(set(block.names.tolist())):
        at = np.flatnonzero(block.names == name)
        known = at[block.has_mask[at]]
        masks, mask_values = inputs.binary_masks(_images(block.masks, known), index[known], name)
        with_pixels = np.zeros(len(maps), dtype=bool)
        with_pixels[known] = masks.any(axis=(1, 2))
        labels = with_pixels if block.labels is None else block.labels
        unknown = labels & ~block.has_mask
        # a normal image needs no mask: its own is empty
        normal = at[~block.has_mask[at] & ~labels[at]]
        pixels = _pixels(_images(maps, known), masks, _images(maps, normal))
        images = ImageScores(scores[at], labels[at], with_pixels[at], unknown[at])
        classes.append(ClassBlock(name, pixels, images, mask_values))
    return classes


def _pixels(maps: np.ndarray, masks: np.ndarray, normal_maps: np.ndarray) -> Part:
    areas, regions = region_areas(masks)
    normal = maps[~masks] if regions else maps.reshape(-1).copy()
    anomalous = maps[masks] if regions else np.empty(0, maps.dtype)
    return Part(
        np.concatenate((normal, normal_maps.ravel())) if len(normal_maps) else normal, anomalous, areas, regions
    )


def _images(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Those images; not copied where they are all."""
    return values if at.size == len(values) else values[at]


def _working_type(maps: np.ndarray) -> np.ndarray:
    """float16 as float32, in which sorting is fast, and what is longer than a double as a double."""
    if maps.dtype.kind == "f" and maps.dtype.itemsize not in (4, 8):
        return maps.astype(np.float32 if maps.dtype.itemsize < 4 else np.float64)
    return maps
