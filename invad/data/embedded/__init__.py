"""Small generated data sets, laid out on disk exactly as the real ones, so that nothing need be downloaded."""

from invad.data.embedded.catalogue import DEFECTS
from invad.data.embedded.coco import generate_coco
from invad.data.embedded.products import generate_btad, generate_mvtec, generate_vad, generate_visa
from invad.data.embedded.real_iad import CODES, generate_real_iad, whole_samples

GENERATORS = {
    "coco": generate_coco,
    "mvtec": generate_mvtec,
    "visa": generate_visa,
    "btad": generate_btad,
    "vad": generate_vad,
    "realiad": generate_real_iad,
}


def generated_images(dataset: str, train_images: int, test_images: int) -> dict[str, tuple[int, int]]:
    """Return of each class the images to train and to test on that a generator makes of these settings; of COCO nothing is known before."""
    if dataset == "realiad":
        return dict.fromkeys(CODES, (whole_samples(train_images), whole_samples(test_images)))
    return dict.fromkeys(DEFECTS.get(dataset, ()), (train_images, test_images))
