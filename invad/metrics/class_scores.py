"""All that is kept of one class while its images come in, and its metrics when they have come."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from invad.metrics.exact import SortedScores
from invad.metrics.histogram import ScoreHistogram
from invad.metrics.measure import Measured, measure
from invad.metrics.part import WEIGHT_BITS, Part
from invad.metrics.ranking import Ranked, Totals

EXACT_PIXELS = 1 << 25
"""So many pixels of a class are kept as they are, 4 bytes each and 4 more where anomalous (float32); more become a histogram."""


@dataclass(frozen=True)
class ImageScores:
    """Of some images of one class, (n,) each: the score, the data set's own label, whether the mask has an anomalous pixel,
    and whether the image is anomalous and its mask not known."""

    scores: np.ndarray
    labels: np.ndarray
    with_pixels: np.ndarray
    unknown: np.ndarray

    @classmethod
    def joined(cls, parts: "list[ImageScores]") -> "ImageScores":
        """All images of `parts`."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


@dataclass(frozen=True)
class ClassBlock:
    """Some images of one class, and the pixels of those whose mask is known.

    `mask_values`: the integers that stand for anomalous in the masks, 1 or 255; none in bool and floating-point masks.
    """

    name: str
    pixels: Part
    images: ImageScores
    mask_values: frozenset[int]


class ClassScores:
    """The scores of one class: its pixels, as they are or as a histogram, and its images."""

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._pixels = 0
        self._histogram: ScoreHistogram | None = None
        self._images: list[ImageScores] = []
        self.mask_values: set[int] = set()

    @property
    def count(self) -> int:
        """The number of images so far."""
        return sum(images.labels.size for images in self._images)

    @property
    def counted(self) -> bool:
        """Whether it has become a histogram."""
        return self._histogram is not None

    def add(self, block: ClassBlock) -> None:
        """Take in some images."""
        self._images.append(block.images)
        self.mask_values |= block.mask_values
        self._pixels += block.pixels.size
        self._parts.append(block.pixels)
        self._keep_few()

    def merge(self, other: "ClassScores") -> None:
        """Take in what `other` has taken in; that is not changed."""
        self._images += other._images
        self.mask_values |= other.mask_values
        self._pixels += other._pixels
        self._parts += other._parts
        self._keep_few()
        if other._histogram is not None:
            self._histogram = self._histogram or ScoreHistogram()
            self._histogram.merge(other._histogram)

    def _keep_few(self) -> None:
        """Count what was kept in a histogram when it has become too much."""
        if self._pixels > EXACT_PIXELS:
            if self._histogram is None:
                self._histogram = ScoreHistogram()
            while self._parts:
                self._histogram.add(self._parts.pop())

    def images(self) -> ImageScores:
        """All images so far."""
        return ImageScores.joined(self._images)

    def measured(self, *, curves: bool = False) -> Measured | None:
        """The metrics of the pixels so far; None when no image has a known mask."""
        if not self._pixels:
            return None
        if self._histogram is not None:
            return measure([self._histogram], self._histogram.totals(), curves=curves)
        pixels = SortedScores(self._parts)
        return measure([pixels], pixels.totals("pixel"), curves=curves)

    def measured_again(self, read: Callable[[], Iterator[Part]], *, curves: bool = False) -> Measured:
        """The same from scores that are not rounded: `read` yields those of all images again, once for every range of scores
        that fits in memory. The histogram is given up."""
        histogram, self._histogram = self._histogram, None
        if histogram is None:
            raise ValueError("no score has been rounded")
        totals, ranges = histogram.totals(), list(histogram.ranges(EXACT_PIXELS))
        del histogram
        return measure(self._exact_ranges(read, ranges), totals, curves=curves)

    def _exact_ranges(
        self, read: Callable[[], Iterator[Part]], ranges: list[tuple[float, float, int]]
    ) -> Iterator[Ranked]:
        for low, high, count in ranges:
            parts = (part.between(low, high) for part in read())
            if count <= EXACT_PIXELS:
                yield SortedScores(list(parts), WEIGHT_BITS)
            else:  # a single bin, so only its finest bits tell its scores apart
                zoomed = ScoreHistogram(dropped_bits=0)
                for part in parts:
                    zoomed.add(part)
                yield zoomed


def image_ranking(scores: np.ndarray, anomalous: np.ndarray) -> tuple[SortedScores, Totals]:
    """The ranking of image scores (n,) by bool labels (n,)."""
    count = int(anomalous.sum())
    ranked = SortedScores([Part(scores[~anomalous], scores[anomalous], np.ones(count, dtype=np.int32), count)])
    return ranked, ranked.totals("image")
