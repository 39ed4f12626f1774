"""Which test images a heat-map sheet shows: a stated rule, so that nobody has to trust a choice made by hand."""

from collections.abc import Sequence

import numpy as np

SELECTION_RULE = (
    "Images are chosen by rule, not by hand. Of each class: the anomalous images at evenly spaced ranks from the highest to the lowest "
    "image score (with three of them, the highest, the median and the lowest), then the normal image with the highest score, "
    "which is the most likely false alarm. Images with equal scores rank by defect type, then in the order of the test set."
)


def select_samples(
    classes: Sequence[str],
    labels: Sequence[int],
    image_scores: Sequence[float],
    defect_types: Sequence[str],
    per_class: int = 3,
) -> list[int]:
    """Positions of the images to show, by `SELECTION_RULE`.

    All sequences have one entry per test image: class, label (0 normal, 1 anomalous), image score (higher is more anomalous), defect type.
    per_class: anomalous images per class, at least 1; all of them when a class has fewer.
    Result: class by class in alphabetical order, anomalous images from the highest score down, the normal one last.
    """
    if per_class < 1:
        raise ValueError(f"per_class is {per_class}, it has to be at least 1")
    if not len(classes) == len(labels) == len(image_scores) == len(defect_types):
        raise ValueError("classes, labels, image_scores and defect_types must have the same length")
    ranking = sorted(range(len(classes)), key=lambda index: (-image_scores[index], defect_types[index], index))
    chosen = []
    for class_name in sorted(set(classes)):
        ranked = [index for index in ranking if classes[index] == class_name]
        anomalous = [index for index in ranked if labels[index]]
        normal = [index for index in ranked if not labels[index]]
        chosen += [anomalous[rank] for rank in _spaced_ranks(len(anomalous), per_class)] + normal[:1]
    return chosen


def _spaced_ranks(total: int, count: int) -> list[int]:
    """`count` ranks evenly spaced over 0 .. total - 1, ends included; the lower of two middle ranks; no rank twice."""
    if count >= total:
        return list(range(total))
    return [int(rank) for rank in np.floor(np.linspace(0, total - 1, count))]
