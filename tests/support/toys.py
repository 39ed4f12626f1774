"""Toy images, features and a toy method, for the tests of extraction, training and scoring."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD

from invad.cluster.train import trained
from invad.config import FeaturesConfig, ScoreConfig, TrainConfig
from invad.data.split_table import Phase, Split, SplitRow
from invad.features.batches import Batch
from invad.features.encoder import EncoderOutput
from invad.features.source import FeatureKey, split_sha256
from invad.features.store import images_per_shard, shard_name, write_shard
from invad.methods.base import Method, Optimisation, Position, Prediction, TrainingPhase
from invad.training.curve import Step

CPU = torch.device("cpu")
CHANNELS = (6, 8, 12)
SIZE = 64  # accepted by every method
KEY = FeatureKey("mobilenetv2_100", "weights", CHANNELS, SIZE, "float32", "float32", "train", "split")
FEATURES = FeaturesConfig("mobilenetv2_100", image_size=SIZE, dtype="float32")  # that `KEY` belongs to


def split_of(root: Path, train: int, test: int, size: int = 40, views: int = 1) -> Split:
    """A split whose images need not exist: 000.png, 001.png, ..., those of the phase `test` at the end; so many views are one object."""
    rows = [
        SplitRow(
            f"{index:03d}.png", "bottle", "train" if index < train else "test", 0, "good", None, size, size, "mvtec",
            *((f"{index // views:03d}", f"C{index % views + 1}") if views > 1 else ()),
        )
        for index in range(train + test)
    ]  # fmt: skip
    return Split(tuple(rows), root / "images", root / "images")


def image_split(root: Path, train: int, test: int, size: int = 40, views: int = 1) -> Split:
    """A split of images of noise, `size` pixels wide."""
    split = split_of(root, train, test, size, views)
    rng = np.random.default_rng(0)
    split.image_root.mkdir(parents=True)
    for row in split.rows:
        Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8)).save(split.image_path(row))
    return split


def random_levels(images: int, key: FeatureKey = KEY) -> list[Tensor]:
    """Features of noise, float32 (images, C_l, H_l, W_l)."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(images, *shape, generator=generator) for shape in key.output.shapes]


def write_features(
    folder: Path, key: FeatureKey, images: Sequence[str], levels: Sequence[Tensor], batch: int = 16
) -> None:
    """Write the shards of a phase as an extraction with that batch size does."""
    size = images_per_shard(key)
    for number, start in enumerate(range(0, len(images), size)):
        stop = min(start + size, len(images))
        batches = [[level[first : min(first + batch, stop)] for level in levels] for first in range(start, stop, batch)]
        write_shard(folder / shard_name(key.phase, number), key, images[start:stop], batches)


def write_toy_store(folder: Path, split: Split, phase: Phase = "train") -> FeatureKey:
    """Write random features as those of a phase of `split` with the settings `FEATURES`; return their key."""
    rows = split.phase(phase)
    key = replace(KEY, phase=phase, split_sha256=split_sha256(rows))
    write_features(folder, key, [row.image for row in rows], random_levels(len(rows), key))
    return key


class MemoryFeatures:
    """A feature source in memory."""

    def __init__(self, levels: list[Tensor], key: FeatureKey = KEY) -> None:
        self.key = key
        self.levels = levels
        self.images = [f"{index:03d}.png" for index in range(len(levels[0]))]

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, batches: Iterable[Sequence[int] | np.ndarray], device: torch.device) -> Iterator[list[Tensor]]:
        for rows in batches:
            yield [level[torch.as_tensor(rows)].to(device) for level in self.levels]


class ToyMethod(Method):
    """The least that a method with gradients is: a linear layer per level."""

    def __init__(self, output: EncoderOutput, config: TrainConfig) -> None:
        super().__init__(output, config)
        self.rate, self.epochs = config.learning_rate, config.epochs
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 1) for width in output.channels)

    def phases(self) -> list[TrainingPhase]:
        def optimisations() -> list[Optimisation]:
            return [Optimisation(SGD(self.parameters(), lr=self.rate), lambda position: self.rate, 100.0)]

        return [TrainingPhase(optimisations, epochs=self.epochs)]

    def loss(self, batch: Batch, position: Position) -> Tensor:
        pairs = zip(batch.features, self.reconstructions(batch), strict=True)
        return torch.stack([functional.mse_loss(y.float(), x.float()) for x, y in pairs]).sum()

    def reconstructions(self, batch: Batch) -> list[Tensor]:
        return [layer(x) for layer, x in zip(self.layers, batch.features, strict=True)]

    def predict(self, batch: Batch, score: ScoreConfig) -> Prediction:
        return Prediction((batch.features[0].float() - self.reconstructions(batch)[0].float()).abs().mean(1))


def train_model(
    folder: Path, split: Split, features: FeaturesConfig, key: FeatureKey, config: TrainConfig, *, on_progress, **how
) -> tuple[Method, list[Step]]:
    """Train once as the stage does; return the method and its loss curve."""
    with trained(folder, split, features, key, [config], on_progress=[on_progress], **how) as (training,):
        return training.method(), training.steps()


def batch_of(levels: Sequence[Tensor]) -> Batch:
    """What a method gets of features (B, C_l, H_l, W_l)."""
    return Batch(tuple(levels))
