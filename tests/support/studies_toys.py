"""A tiny workspace with generated data, in which studies run in seconds."""

from pathlib import Path

import yaml
from conftest import repository_params

from invad.config import Params, load_params
from invad.data.download import prepare_dataset
from invad.data.splits import build_split
from invad.workspace import Workspace

SIZE = 32


def tiny_params(**train: object) -> dict:
    """The repository's params.yaml with one benchmark of generated data: 16 training and 6 test images in each class."""
    params = repository_params("mvtec")
    params["download"]["mvtec"] |= {"train_images": 12, "test_images": 6, "image_size": 64}
    params["calibration"]["mvtec"]["share"] = 0.0
    params["features"]["mvtec"] |= {"weights": "none", "image_size": SIZE}
    params["train"]["resources_per_worker"]["cpu"] = 1
    params["train"]["checkpoint_steps"] = 2
    params["train"]["mvtec"] |= {
        "epochs": 2,
        "batch_size": 8,
        "style_channels": 8,
        "latent_channels": 4,
        "blocks": 1,
    } | train
    params["score"]["mvtec"]["sigma"] = 0.5
    return params


def tiny_workspace(root: Path, params: dict | None = None) -> tuple[Params, Workspace]:
    """Write params.yaml, raw data and split of the benchmark into `root`."""
    (root / "params.yaml").write_text(yaml.safe_dump(params or tiny_params(), sort_keys=False))
    settings, workspace = load_params(root / "params.yaml"), Workspace(root)
    prepare_dataset("mvtec", settings.dataset("mvtec"), workspace)
    build_split(settings.benchmark("mvtec"), workspace)
    return settings, workspace
