"""What the generators of the embedded data sets will make, without drawing anything; a test compares it with what they make.

The sizes were measured on what they draw at 64 to 1024 pixels.
"""

from collections.abc import Collection

from invad.config import DownloadConfig
from invad.datasets.counts import Counts
from invad.datasets.embedded import coco, mvtec, visa
from invad.datasets.embedded.drawing import image_rng

# Bytes of an image file: constant, for each pixel of the longer edge, and for each pixel of the square of that edge.
_IMAGE_BYTES = {"coco": (-700, 31.5, 0.107), "mvtec": (0, 18, 1.84), "visa": (-200, 33, 0.1435)}
_MASK_BYTES = {"mvtec": (0, 2.5, 0.004), "visa": (30, 1.3, 0)}
_ANNOTATION_BYTES = (550, 13.5, 0)  # of an image of coco
_TABLE_BYTES = {
    "coco": 14_000,
    "mvtec": 0,
    "visa": 200,
}  # what the annotation files or the CSV have apart from their rows
_CSV_ROW_BYTES = 55
_OBJECTS = {1: 0.3, 2: 0.35, 3: 0.22, 4: 0.13}  # how often a scene of coco has so many


def class_counts(dataset: str, config: DownloadConfig) -> dict[str, Counts]:
    """Return the images of each class of the generated "mvtec" or "visa", exactly."""
    if dataset == "mvtec":
        anomalous, classes = 2 * (config.test_images // 3), mvtec.DEFECTS
    else:
        anomalous, classes = config.test_images // 2, visa.DEFECTS
    return {name: Counts(config.train_images, config.test_images - anomalous, anomalous) for name in sorted(classes)}


def fold_counts(held_out: Collection[int], config: DownloadConfig) -> Counts:
    """Return about how many images of the generated "coco" a fold has that holds out the category ids `held_out`.

    Which scene an image shows is known without drawing it; what the scene shows is taken by its probability.
    """
    normal = [_normal_probability(scene, frozenset(held_out)) for scene in coco.SCENES]

    def expected(phase: str, images: int) -> tuple[int, int]:
        shown = [index for index in range(images) if index % coco.EMPTY_EVERY != coco.EMPTY_OFFSET]
        return round(sum(normal[_scene(config.seed, phase, index)] for index in shown)), len(shown)

    train, _ = expected("train", config.train_images)
    test_normal, test = expected("val", config.test_images)
    return Counts(train, test_normal, test - test_normal)


def image_files(dataset: str, config: DownloadConfig) -> int:
    """Return the number of images that are generated, COCO's without any annotation too."""
    classes = {"coco": 1, "mvtec": len(mvtec.DEFECTS), "visa": len(visa.DEFECTS)}[dataset]
    return classes * (config.train_images + config.test_images)


def raw_bytes(dataset: str, config: DownloadConfig) -> int:
    """Return about how many bytes the generated files have."""
    images, edge = image_files(dataset, config), config.image_size
    size = images * _bytes(_IMAGE_BYTES[dataset], edge) + _TABLE_BYTES[dataset]
    if dataset == "coco":
        return round(size + images * _bytes(_ANNOTATION_BYTES, edge))
    masks = sum(counts.test_anomalous for counts in class_counts(dataset, config).values())
    rows = images * _CSV_ROW_BYTES if dataset == "visa" else 0
    return round(size + masks * _bytes(_MASK_BYTES[dataset], edge) + rows)


def _bytes(coefficients: tuple[float, float, float], edge: int) -> float:
    constant, linear, square = coefficients
    return constant + linear * edge + square * edge**2


def _scene(seed: int, phase: str, index: int) -> int:
    """Return which of `SCENES` an image shows: the third draw of its generator."""
    rng = image_rng(seed, "coco", "scene", phase, index)
    rng.uniform()
    rng.uniform()
    weights = [scene.weight for scene in coco.SCENES]
    return int(rng.choice(len(weights), p=[weight / sum(weights) for weight in weights]))


def _normal_probability(scene: coco.Scene, held_out: frozenset[int]) -> float:
    """Return the probability that nothing in a scene is of a held-out category; what is hidden wholly by others is not thought of."""
    ids = {category["name"]: category["id"] for category in coco.CATEGORIES}

    def share(names: tuple[str, ...]) -> float:
        return sum(ids[name] not in held_out for name in names) / len(names)

    member = share(scene.members)
    last = member  # a guest takes the place of the last object
    if scene.guests:
        last += scene.guest_probability * (share(scene.guests) - member)
    normal = sum(probability * member ** (count - 1) * last for count, probability in _OBJECTS.items())
    crowd_held_out = scene.crowd is not None and ids[scene.crowd] in held_out
    return normal * (1 - coco.CROWD_PROBABILITY if crowd_held_out else 1)
