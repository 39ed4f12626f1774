"""Methods that see images, trained for a minute or two on the generated MVTec AD: they find its defects, and untrained ones do not."""

from dataclasses import dataclass

import pytest
import torch
from floors import below
from toys import CPU

from invad.config import DeSTSegConfig, DRAEMConfig, FeaturesConfig, FolderSplitConfig, TrainConfig
from invad.data.embedded import GENERATORS
from invad.data.mvtec import build_mvtec
from invad.data.split_table import Split
from invad.features import extract_features
from invad.methods import build_method
from invad.training.job import TrainJob, run_job

pytestmark = pytest.mark.slow
LIVE = FeaturesConfig("mobilenetv2_100", image_size=128, mode="live")


@dataclass(frozen=True)
class Quick:
    """Quick settings of a method, on so many images of each class; `floors`: of its metrics in percent, and what was measured above them.

    `image_size`: of the generated files.
    """

    features: FeaturesConfig
    train: TrainConfig
    images: tuple[int, int]
    image_size: int
    floors: dict[str, float]


QUICK = {
    # Measured were 79.5, 83.3 and 26.6 in 60 s on a core; maps of other images give 63, 61 and 2, an untrained one 46, 51 and 1.
    "draem": Quick(
        FeaturesConfig("none", "none", 64, mode="live"),
        DRAEMConfig(epochs=27, learning_rate=2e-3, width=8, segmentation_width=8),
        (40, 30),
        192,
        {"image_auroc": 70, "pixel_auroc": 75, "pixel_ap": 12},
    ),
    "destseg": Quick(
        LIVE,
        DeSTSegConfig(epochs=20, batch_size=4, learning_rate=0.2, width=32),
        (16, 10),
        128,
        {"pixel_auroc": 80},
    ),
}


@pytest.mark.parametrize("name", QUICK)
def test_a_quick_training_finds_defects_and_none_does_not(name, tmp_path):
    quick, root = QUICK[name], tmp_path / "images"
    train_images, test_images = quick.images
    GENERATORS["mvtec"](root, seed=0, train_images=train_images, test_images=test_images, image_size=quick.image_size)
    split = Split(tuple(build_mvtec(root, FolderSplitConfig())), root, root)
    key = extract_features(split, quick.features, tmp_path / "features")
    (tmp_path / "storage").mkdir()
    job = TrainJob(
        str(tmp_path / "features"), split, quick.features, str(tmp_path / "storage"), quick.train, 10_000, threads=1
    )
    method, _ = run_job(job, CPU)
    assert below(quick.floors, method, split, tmp_path / "features", quick.features) == set()
    torch.manual_seed(0)
    untrained = build_method(key.output, quick.train)
    assert below(quick.floors, untrained, split, tmp_path / "features", quick.features) == set(quick.floors)
