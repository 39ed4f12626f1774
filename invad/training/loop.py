"""The training loop: plain torch, one process among `world_size`; Ray is nowhere in here.

Every worker walks the same seeded order of images and takes its share of each global batch, so the recipe does not depend on how
many there are.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from invad.config import TrainConfig
from invad.errors import InputError
from invad.features import FeatureStore

MAX_GRADIENT_NORM = 5.0
DECAY_AT, DECAY = 0.8, 0.1  # the learning rate is multiplied by DECAY after the fraction DECAY_AT of the epochs


@dataclass(frozen=True)
class Step:
    """What one optimiser step did: counted from 1, loss of the global batch before the step."""

    step: int
    epoch: int
    loss: float
    learning_rate: float


@dataclass(frozen=True)
class Share:
    """Which of `world_size` workers this process is."""

    rank: int = 0
    world_size: int = 1


def steps_per_epoch(images: int, config: TrainConfig) -> int:
    """Return the number of whole batches in an epoch; `InputError` when there is none (the last incomplete one is dropped)."""
    steps = images // config.batch_size
    if steps == 0:
        raise InputError(f"batch_size: {config.batch_size} is more than the {images} training images")
    return steps


def learning_rate(epoch: int, config: TrainConfig) -> float:
    """Return the learning rate of `epoch`, counted from 0."""
    return config.learning_rate * (DECAY if epoch >= int(DECAY_AT * config.epochs) else 1.0)


def epoch_batches(images: int, epoch: int, config: TrainConfig, share: Share) -> Iterator[np.ndarray]:
    """Yield this worker's image indices of every batch of `epoch`; the order depends on the seed and the epoch alone."""
    order = np.random.default_rng((config.seed, epoch)).permutation(images)
    for step in range(steps_per_epoch(images, config)):
        yield order[step * config.batch_size : (step + 1) * config.batch_size][share.rank :: share.world_size]


def train_epoch(
    model: nn.Module,
    method: nn.Module,
    optimizer: Optimizer,
    store: FeatureStore,
    config: TrainConfig,
    epoch: int,
    share: Share,
    mean_over_workers: Callable[[Tensor], float],
) -> Iterator[Step]:
    """Train one epoch, yielding after every step.

    Args:
        model: The method, possibly wrapped for data-parallel training.
        method: The method itself, for its loss.
        optimizer: Over the method's parameters.
        store: Features of the training images.
        config: The recipe.
        epoch: Counted from 0.
        share: Which worker this is.
        mean_over_workers: Averages a scalar over all workers.

    Raises:
        InputError: The loss is NaN or infinite; names the step and the images.
    """
    device = next(method.parameters()).device
    rate = learning_rate(epoch, config)
    for group in optimizer.param_groups:
        group["lr"] = rate
    first = epoch * steps_per_epoch(len(store), config) + 1
    model.train()
    for step, indices in enumerate(epoch_batches(len(store), epoch, config, share), start=first):
        features = [level.to(device) for level in store.batch(indices)]
        loss = method.loss(features, model(features))
        value = mean_over_workers(loss.detach())
        if not np.isfinite(value):
            raise InputError(
                f"the loss is {value} at step {step} (epoch {epoch + 1}, training images {indices.tolist()}); "
                "try a lower learning_rate"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        yield Step(step, epoch, value, rate)
