"""A toy training of `mvtec` with two steps in an epoch, through Ray or without it, and what becomes of a NaN in its features."""

from pathlib import Path

import torch
from toys import FEATURES, KEY, random_levels, train_model, write_features

from invad.config import InvADConfig, ResourcesConfig, TrainConfig, TrainingConfig
from invad.data.split_table import Split
from invad.features import FeatureStore
from invad.methods import build_method
from invad.training.loop import epoch_batches

CONFIG = InvADConfig(epochs=4, batch_size=4, style_channels=8, latent_channels=4, blocks=1)
ALONE = TrainingConfig(resources_per_worker=ResourcesConfig(cpu=1, gpu=0), checkpoint_steps=4)
TWO = TrainingConfig(2, ResourcesConfig(cpu=0.5, gpu=0), checkpoint_steps=2)


def run(split: Split, tmp_path: Path, config: TrainConfig = CONFIG, workers: TrainingConfig = ALONE, on_progress=None):
    return train_model(
        tmp_path / "features",
        split,
        FEATURES,
        FeatureStore(tmp_path / "features", "train").key,
        config,
        name="mvtec",
        workers=workers,
        storage=tmp_path / "ray",
        on_progress=on_progress or (lambda *_: None),
    )


def storages(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "ray").glob("mvtec-*"))


def spoil(split: Split, tmp_path: Path, image: int) -> None:
    """Make a NaN of one value of the features of `image`."""
    key = FeatureStore(tmp_path / "features", "train").key
    levels = random_levels(10, key)
    levels[0][image, 0, 0, 0] = float("nan")
    write_features(tmp_path / "features", key, [row.image for row in split.phase("train")], levels)


def first_used_in_epoch(epoch: int) -> int:
    """Return an image that training meets in `epoch` for the first time."""
    used = [
        {int(image) for batch in epoch_batches(10, number, CONFIG) for image in batch} for number in range(epoch + 1)
    ]
    return min(used[epoch].difference(*used[:epoch]))


def check_not_finite(message: str, image: int, storage: Path) -> None:
    """Check the message of a training that met a NaN of `image` in its second epoch, and the checkpoint of step 2 before it."""
    batches = [*epoch_batches(10, 0, CONFIG), *epoch_batches(10, 1, CONFIG)]
    step = next(number for number, batch in enumerate(batches) if image in batch)
    names = ", ".join(f"{index:03d}.png" for index in batches[step])
    assert message == (
        f"the loss is nan at step {step + 1} (epoch 2); its batch: {names}; "
        f"the last good checkpoint is {storage / 'checkpoint-00000002.pt'}; try a lower learning_rate"
    )
    state = torch.load(storage / "checkpoint-00000002.pt", weights_only=True)
    assert state["step"] == 2
    method = build_method(KEY.output, CONFIG)
    method.load_state_dict(state["trainer"]["method"])
    assert all(torch.isfinite(tensor).all() for tensor in method.state_dict().values())
