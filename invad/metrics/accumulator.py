"""The streaming form of `evaluate`: images come in any order and on any worker, the result is the same to the last bit."""

from collections.abc import Sequence

import numpy as np

from invad.metrics import inputs
from invad.metrics.class_scores import ClassScores
from invad.metrics.protocol import PROTOCOLS, Protocol, checked_protocols
from invad.metrics.reading import ImageTable, array_blocks, prepare
from invad.metrics.results import Evaluation, class_result, evaluation


class Accumulator:
    """Takes in anomaly maps batch by batch and computes what `evaluate` computes.

    Several may be filled on different workers (they can be pickled) and merged, in any order. Memory does not grow with the number of
    images: a class needs at most 8 bytes for each of its first 2 ** 25 pixels (float32), and at most 0.7 GB whatever comes after
    (`invad.metrics.histogram` says what is rounded then; `compute` adds a note where that may show).

    Args:
        protocol: one or both of "paper" and "exact".
    """

    def __init__(self, protocol: Protocol | Sequence[Protocol] = PROTOCOLS) -> None:
        self._protocols = checked_protocols(protocol)
        self._classes: dict[str, ClassScores] = {}
        self._images = 0

    def update(
        self,
        anomaly_maps: np.ndarray,
        masks: np.ndarray | None,
        classes: Sequence[str] | np.ndarray | None = None,
        labels: Sequence[int] | np.ndarray | None = None,
        image_scores: Sequence[float] | np.ndarray | None = None,
        has_mask: Sequence[bool] | np.ndarray | None = None,
    ) -> None:
        """Take in a batch of images; arguments and errors as for `evaluate`, of these images. A batch that is wrong changes nothing.

        Errors count images from the first that this accumulator was given.
        """
        maps, masks = inputs.maps_and_masks(anomaly_maps, masks)
        table = ImageTable(len(maps), classes, labels, image_scores, has_mask, no_masks=masks is None)
        prepared = [part for block in array_blocks(maps, masks, table)(None) for part in prepare(block, self._images)]
        values: dict[str, set[int]] = {}
        for part in prepared:
            known = self._classes[part.name].mask_values if part.name in self._classes else set()
            values.setdefault(part.name, set(known)).update(part.mask_values)
            inputs.one_mask_value(values[part.name], part.name)
        for part in prepared:
            self._classes.setdefault(part.name, ClassScores()).add(part)
        self._images += len(maps)

    def merge(self, other: "Accumulator") -> None:
        """Take in what `other` has taken in; that is not changed.

        Raises:
            InputError: The masks of one class hold 1 here and 255 there.
        """
        for name, scores in other._classes.items():
            mine = self._classes.get(name)
            inputs.one_mask_value(scores.mask_values | (mine.mask_values if mine else set()), name)
        for name, scores in other._classes.items():
            self._classes.setdefault(name, ClassScores()).merge(scores)
        self._images += other._images

    def compute(self, *, curves: bool = False) -> Evaluation:
        """Return what `evaluate` returns for all images so far; more may follow.

        Raises:
            InputError: There is no image yet.
        """
        inputs.require_images((self._images,))
        results = {}
        for name, scores in self._classes.items():
            pixels = scores.measured(curves=curves)
            results[name] = class_result(name, pixels, scores.images(), self._protocols, curves=curves)
        return evaluation(results, self._protocols, curves=curves)
