"""Small generated data sets, laid out on disk exactly as COCO 2017, MVTec AD and VisA, so that nothing need be downloaded."""

from pathlib import Path

from invad.data.embedded.coco import generate_coco
from invad.data.embedded.products import generate_mvtec, generate_visa
from invad.errors import InputError

_GENERATORS = {"coco": generate_coco, "mvtec": generate_mvtec, "visa": generate_visa}


def generate(dataset: str, root: Path, *, seed: int, train_images: int, test_images: int, image_size: int) -> None:
    """Write the generated version of `dataset` ("coco", "mvtec" or "visa") below `root`; `InputError` when it is another one."""
    if dataset not in _GENERATORS:
        raise InputError(f"embedded data set {dataset!r} is unknown; there are {', '.join(_GENERATORS)}")
    _GENERATORS[dataset](root, seed=seed, train_images=train_images, test_images=test_images, image_size=image_size)
