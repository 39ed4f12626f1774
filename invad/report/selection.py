"""Which test images the report shows: stated rules, so that nobody has to trust a choice made by hand."""

from collections.abc import Mapping

import numpy as np

from invad.report.results import TestImages
from invad.scoring.store import Scores

OUTCOMES = ("true positive", "false positive", "false negative", "true negative", "undecided")

SELECTION_RULE = (
    "Images are chosen by rule, not by hand. Of each class: the anomalous images at evenly spaced ranks from the highest to the lowest "
    "image score (with three of them, the highest, the median and the lowest), then the normal image with the highest score, "
    "which is the most likely false alarm. Images with equal scores rank by defect type, then in the order of the test set."
)

GALLERY_LIMIT = 120
GALLERY_SIDE = 224  # pixels, the height of a picture; smaller ones keep theirs
GALLERY_RULE = (
    f"All test images of a benchmark that has at most {GALLERY_LIMIT}. Of a larger one about that many, the same number of each class and "
    "outcome where it has so many, at evenly spaced ranks from the highest to the lowest image score, and those of the heat-map sheet."
)


def select_samples(tests: TestImages | Scores, per_class: int = 3) -> list[int]:
    """Positions of the images to show, by `SELECTION_RULE`: class by class in alphabetical order, the normal one last.

    per_class: anomalous images, all of them when a class has fewer.
    """
    ranking = sorted(range(len(tests)), key=lambda i: (-tests.image_scores[i], tests.defect_types[i], i))
    chosen = []
    for name in sorted(set(tests.classes)):
        members = [index for index in ranking if tests.classes[index] == name]
        anomalous, normal = ([index for index in members if tests.labels[index] == label] for label in (1, 0))
        chosen += [anomalous[rank] for rank in evenly_spaced(len(anomalous), per_class)] + normal[:1]
    return chosen


def outcomes(tests: TestImages | Scores, thresholds: Mapping[str, float]) -> list[str]:
    """Which of `OUTCOMES` each image is; strictly above the threshold is positive.

    thresholds: class -> calibrated threshold on the image score; the images of a class without one are undecided.
    """
    decided = []
    for label, score, name in zip(tests.labels.tolist(), tests.image_scores.tolist(), tests.classes, strict=True):
        positive = score > thresholds.get(name, 0.0)
        words = f"{'true' if positive == bool(label) else 'false'} {'positive' if positive else 'negative'}"
        decided.append(words if name in thresholds else "undecided")
    return decided


def shown_images(tests: TestImages | Scores, thresholds: Mapping[str, float], limit: int = GALLERY_LIMIT) -> list[int]:
    """Ascending positions of the images of the gallery, by `GALLERY_RULE` (those of the heat-map sheet are not added)."""
    if len(tests) <= limit:
        return list(range(len(tests)))
    cells: dict[tuple[str, str], list[int]] = {}
    decided = outcomes(tests, thresholds)
    for index in sorted(range(len(tests)), key=lambda index: (-tests.image_scores[index], index)):
        cells.setdefault((tests.classes[index], decided[index]), []).append(index)
    share = max(1, limit // len(cells))
    return sorted(members[rank] for members in cells.values() for rank in evenly_spaced(len(members), share))


def evenly_spaced(total: int, count: int) -> list[int]:
    """`count` positions evenly spaced over 0 .. total - 1, ends included; the lower of two middle ranks; no rank twice."""
    if count >= total:
        return list(range(total))
    return [int(rank) for rank in np.floor(np.linspace(0, total - 1, count))]
