"""The images that `evaluate` is given, block by block; a block is made ready on any thread."""

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from invad.errors import InputError
from invad.metrics import inputs
from invad.metrics.regions import region_areas
from invad.metrics.runs import Run, working_type

BLOCK_PIXELS = 1 << 21
"""A block has at most so many pixels, or one image."""

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


@dataclass(frozen=True)
class ClassBlock:
    """Some images of one class, (n,) each but for the pixels.

    Attributes:
        pixels: of the images whose mask is known.
        scores, labels: the image scores and the data set's own labels.
        with_pixels: whether the mask has an anomalous pixel.
        unknown: whether the image is anomalous and its mask not known.
        mask_values: the integers that stand for anomalous in the masks, 1 or 255; none in bool and floating-point masks.
    """

    name: str
    pixels: Run
    scores: np.ndarray
    labels: np.ndarray
    with_pixels: np.ndarray
    unknown: np.ndarray
    mask_values: frozenset[int]


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


def array_blocks(maps: np.ndarray, masks: np.ndarray | None, table: ImageTable) -> Iterator[Block]:
    """Read arrays class by class; a memory map is never in memory as a whole."""
    masks = np.broadcast_to(False, maps.shape) if masks is None else masks
    step = _images_of_a_block(maps)
    for name in sorted(table.class_sizes()):
        of_class = np.flatnonzero(table.names == name)
        for start in range(0, of_class.size, step):
            index = of_class[start : start + step]
            # neighbours are a view, others a copy
            where = slice(index[0], index[-1] + 1) if index[-1] - index[0] == index.size - 1 else index
            yield table.block(index, maps[where], masks[where])


def stream_blocks(maps: inputs.Stack, masks: inputs.Stack | None, table: ImageTable) -> Iterator[Block]:
    """Read batches in their order; they are copied, since a reader may fill the same array again."""
    done, block = 0, []
    for pair in _pairs(maps, masks):
        types = [image.dtype for image in pair]
        if block and (len(block) == _images_of_a_block(block[0][0]) or types != [image.dtype for image in block[0]]):
            yield table.block(np.arange(done, done + len(block)), *map(np.stack, zip(*block, strict=True)))
            done, block = done + len(block), []
        block.append([image.copy() for image in pair])
    inputs.require_images((done + len(block),))
    yield table.block(np.arange(done, done + len(block)), *map(np.stack, zip(*block, strict=True)))
    table.require_count(done + len(block))


def _images_of_a_block(maps: np.ndarray) -> int:
    return max(BLOCK_PIXELS // (maps.shape[-2] * maps.shape[-1]), 1)


def _pairs(maps: inputs.Stack, masks: inputs.Stack | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Maps (H, W) with their masks, whatever the lengths of their batches."""
    if masks is None:
        yield from ((image, np.broadcast_to(False, image.shape)) for image in _images(maps, "anomaly_maps"))
        return
    for seen, (image, mask) in enumerate(zip_longest(_images(maps, "anomaly_maps"), _images(masks, "masks"))):
        if image is None:
            if seen:
                raise InputError(f"masks: there are more of them than anomaly_maps, {seen}")
            return
        if mask is None:
            raise InputError(f"masks: end after {seen} images, but there are more anomaly_maps")
        if mask.shape != image.shape:
            raise InputError(f"masks: height and width {mask.shape} differ from those of anomaly_maps, {image.shape}")
        yield image, mask


def _images(stack: inputs.Stack, name: str) -> Iterator[np.ndarray]:
    """The images of checked batches, of one size."""
    size: tuple[int, ...] = ()
    for i, value in enumerate([stack] if inputs.is_at_once(stack) else stack):
        batch = inputs.three_dimensional(value, f"{name}, batch {i}", inputs.KINDS[name])
        if not batch.size:
            continue
        size = size or batch.shape[1:]
        if batch.shape[1:] != size:
            raise InputError(f"{name}: all must have one height and width, got {sorted({size, batch.shape[1:]})}")
        yield from batch


def prepare(block: Block) -> list[ClassBlock]:
    """Check a block and sort out its classes, pixels and labels."""
    maps = block.maps.astype(working_type(block.maps.dtype), copy=False)
    flat = maps.reshape(len(maps), -1)
    lowest, highest = flat.min(axis=1), flat.max(axis=1)
    inputs.require_finite_maps(lowest, highest, block.index, block.names)
    scores = highest if block.scores is None else block.scores
    classes = []
    for name in sorted(set(block.names.tolist())):
        at = np.flatnonzero(block.names == name)
        known = at[block.has_mask[at]]
        masks, mask_values = inputs.binary_masks(_chosen(block.masks, known), block.index[known], name)
        marked = masks.any(axis=(1, 2))
        with_pixels = np.zeros(len(maps), dtype=bool)
        with_pixels[known] = marked
        labels = with_pixels if block.labels is None else block.labels
        unknown = labels & ~block.has_mask
        # a normal image needs no mask: its own is empty
        normal = at[~with_pixels[at] & ~unknown[at]]
        pixels = _pixels([flat[i] for i in normal], _chosen(maps, known[marked]), masks[marked])
        classes.append(ClassBlock(name, pixels, scores[at], labels[at], with_pixels[at], unknown[at], mask_values))
    return classes


def _pixels(normal: list[np.ndarray], maps: np.ndarray, masks: np.ndarray) -> Run:
    """The pixels of normal images, and of others with their masks."""
    return Run.of(np.concatenate([*normal, maps[~masks]]), maps[masks], *region_areas(masks))


def _chosen(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Those images; not copied where they are all."""
    return values if at.size == len(values) else values[at]
