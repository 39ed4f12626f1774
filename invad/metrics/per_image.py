"""What is counted of each image by itself, in two readings: the first looks for the edges of each class's bins, the second counts."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from invad.metrics.binning import Bins, Counts, bins_of, sample
from invad.metrics.ranking import in_order
from invad.metrics.reading import Block, ImageTable, PerImage, Stack, working


class Columns(NamedTuple):
    """Of images, (n,): scores; labels, the data set's own, and whether a pixel is known to be anomalous, both bool; the objects shown.

    groups: as given to `evaluate`; "" where none are.
    """

    scores: np.ndarray
    labels: np.ndarray
    with_pixels: np.ndarray
    groups: np.ndarray


class ClassImages(NamedTuple):
    """All images of a class in their order, with their pixels where these are asked for."""

    columns: Columns
    pixels: tuple[Bins, Counts] | None


class _Part(NamedTuple):
    """The images of one class in a block, (n,): maps and masks, (n, H, W), and whether their pixels take part."""

    name: str
    places: np.ndarray
    maps: np.ndarray
    masks: np.ndarray
    labels: np.ndarray
    known: np.ndarray


class _Look(NamedTuple):
    """What the first reading keeps of a part: some normal and some anomalous pixels, and the extremes of all, of those that take part."""

    columns: Columns
    normal: np.ndarray
    anomalous: np.ndarray
    extremes: np.ndarray


class ImageReader:
    """Images as `evaluate` takes them, and has found to be right; maps and masks are read anew each time."""

    def __init__(
        self,
        maps: Stack,
        masks: Stack | None,
        classes: PerImage,
        labels: PerImage,
        scores: PerImage,
        has_mask: PerImage,
        groups: PerImage,
    ) -> None:
        self._table = ImageTable(maps, masks, classes, labels, scores, has_mask, groups=groups)
        self._labels = None if labels is None else np.asarray(labels).astype(bool)
        self._scores = None if scores is None else np.asarray(scores)
        self._has_mask = None if has_mask is None else np.asarray(has_mask)
        self._groups = None if groups is None else np.array(list(groups))
        self._any_mask = masks is not None

    def classes(self, with_pixels: Collection[str]) -> Iterator[tuple[str, ClassImages]]:
        """Yield each class by name, those of `with_pixels` with their pixels and as soon as the last of their images is read."""
        looks: dict[str, list[_Look]] = {}
        for name, look in (item for found in in_order(self._look, self._table.blocks()) for item in found):
            looks.setdefault(name, []).append(look)
        columns = {name: Columns(*_joined([look.columns for look in of_class])) for name, of_class in looks.items()}
        bins = {}
        for name in with_pixels:
            normal, anomalous, extremes = _joined([look[1:] for look in looks[name]])
            bins[name] = bins_of(normal, anomalous, float(extremes.min()), float(extremes.max()))
        del looks
        yield from ((name, ClassImages(of_class, None)) for name, of_class in columns.items() if name not in bins)

        def counted(block: Block) -> list[tuple[str, Counts]]:
            return [(part.name, _counts(part, bins[part.name])) for part in self._parts(block) if part.name in bins]

        waiting: dict[str, list[Counts]] = {}
        blocks = self._table.blocks() if bins else ()
        for name, part in (item for found in in_order(counted, blocks) for item in found):
            waiting.setdefault(name, []).append(part)
            if sum(len(each.normal) for each in waiting[name]) == columns[name].scores.size:
                counts = Counts(*_joined(waiting.pop(name)))
                yield name, ClassImages(columns[name], (bins[name], counts))

    def _look(self, block: Block) -> list[tuple[str, _Look]]:
        found = []
        for part in self._parts(block):
            flat, masks = (pixels.reshape(len(pixels), -1) for pixels in (part.maps, part.masks))
            scores = flat.max(axis=1) if self._scores is None else self._scores[part.places]
            groups = np.full(scores.size, "") if self._groups is None else self._groups[part.places]
            columns = Columns(scores, part.labels, np.any(masks, axis=1), groups)
            flat, masks = flat[part.known], masks[part.known]
            extremes = np.array([flat.min(), flat.max()] if flat.size else [], flat.dtype)
            found.append((part.name, _Look(columns, *sample(flat, masks), extremes)))
        return found

    def _parts(self, block: Block) -> list[_Part]:
        first, maps, masks = block
        places = np.arange(first, first + len(maps))
        maps = working(maps)
        masks = masks > 0.5 if masks.dtype.kind == "f" else masks.astype(bool)
        has_mask = np.full(len(maps), self._any_mask) if self._has_mask is None else self._has_mask[places]
        masks &= has_mask[:, None, None]
        labels = np.any(masks, axis=(1, 2)) if self._labels is None else self._labels[places]
        names = np.full(len(maps), "all") if self._table.names is None else self._table.names[places]
        columns = [places, maps, masks, labels, has_mask | ~labels]
        chosen = ((name, names == name) for name in sorted(set(names.tolist())))
        return [_Part(name, *(column[at] for column in columns)) for name, at in chosen]


def _joined(parts: Sequence[Iterable[np.ndarray]]) -> Iterator[np.ndarray]:
    """Each column of all parts."""
    return map(np.concatenate, zip(*parts, strict=True))


def _counts(part: _Part, bins: Bins) -> Counts:
    """Those of the images, which are 0 where the pixels take no part."""
    return Counts(*(column * part.known[:, None] for column in bins.counts(part.maps, part.masks)))
