"""Which test images the report shows: stated rules, so that nobody has to trust a choice made by hand."""

from collections.abc import Mapping, Sequence

import numpy as np

SELECTION_RULE = (
    "Images are chosen by rule, not by hand. Of each class: the anomalous images at evenly spaced ranks from the highest to the lowest "
    "image score (with three of them, the highest, the median and the lowest), then the normal image with the highest score, "
    "which is the most likely false alarm. Images with equal scores rank by defect type, then in the order of the test set."
)

GALLERY_LIMIT = 120
GALLERY_SIDE = 224  # pixels, the height of a picture; smaller ones keep theirs
GALLERY_RULE = (
    f"All test images of a benchmark that has at most {GALLERY_LIMIT}. Of a larger one that many, shared out evenly over classes and "
    "outcomes, in each at evenly spaced ranks from the highest to the lowest image score, and those of the heat-map sheet."
)


def select_samples(
    classes: Sequence[str],
    labels: Sequence[int],
    image_scores: Sequence[float],
    defect_types: Sequence[str],
    per_class: int = 3,
) -> list[int]:
    """Positions of the images to show, by `SELECTION_RULE`.

    All sequences have one entry per test image. per_class: anomalous images, all of them when a class has fewer. Result: class by class in
    alphabetical order, anomalous images from the highest score down, the normal one last.
    """
    ranking = sorted(range(len(classes)), key=lambda index: (-image_scores[index], defect_types[index], index))
    chosen = []
    for class_name in sorted(set(classes)):
        ranked = [index for index in ranking if classes[index] == class_name]
        anomalous = [index for index in ranked if labels[index]]
        normal = [index for index in ranked if not labels[index]]
        chosen += [anomalous[rank] for rank in evenly_spaced(len(anomalous), per_class)] + normal[:1]
    return chosen


def outcome(label: int, score: float, threshold: float | None) -> str:
    """Return `true positive`, `false positive`, `false negative` or `true negative`, strictly above is positive; else `undecided`."""
    if threshold is None:
        return "undecided"
    positive = score > threshold
    return f"{'true' if positive == bool(label) else 'false'} {'positive' if positive else 'negative'}"


def shown_images(
    classes: Sequence[str],
    labels: Sequence[int],
    image_scores: Sequence[float],
    thresholds: Mapping[str, float],
    limit: int = GALLERY_LIMIT,
) -> list[int]:
    """Ascending positions of the images of the gallery, by `GALLERY_RULE` (those of the heat-map sheet are not added).

    All sequences have one entry per test image. thresholds: class -> calibrated threshold on the image score.
    """
    if len(classes) <= limit:
        return list(range(len(classes)))
    cells: dict[tuple[str, str], list[int]] = {}
    for index in sorted(range(len(classes)), key=lambda index: (-image_scores[index], index)):
        name = classes[index]
        decided = outcome(labels[index], image_scores[index], thresholds.get(name))
        cells.setdefault((name, decided), []).append(index)
    shown: list[int] = []
    # The smallest cells first: what they do not use is left for the larger ones.
    for number, (_, members) in enumerate(sorted(cells.items(), key=lambda item: (len(item[1]), item[0]))):
        share = (limit - len(shown)) // (len(cells) - number)
        shown += [members[rank] for rank in evenly_spaced(len(members), share)] if share else []
    return sorted(shown)


def evenly_spaced(total: int, count: int) -> list[int]:
    """`count` positions evenly spaced over 0 .. total - 1, ends included; the lower of two middle ranks; no rank twice."""
    if count >= total:
        return list(range(total))
    return [int(rank) for rank in np.floor(np.linspace(0, total - 1, count))]
