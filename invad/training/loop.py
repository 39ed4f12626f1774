"""The training loop: plain torch, one process among `world_size`; Ray is nowhere in here.

Every worker walks the same seeded order of images and takes its share of each global batch, so the recipe does not depend on how
many there are.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from invad.config import TrainConfig
from invad.devices import autocast, compiled, formatted
from invad.errors import InputError
from invad.features import FeatureSource
from invad.methods import Method
from invad.training.curve import Step


@dataclass(frozen=True)
class Share:
    """Which of `world_size` workers this process is."""

    rank: int = 0
    world_size: int = 1

    def of(self, batch: np.ndarray) -> np.ndarray:
        """Return this worker's part of a global batch."""
        return batch[self.rank :: self.world_size]


class NotFiniteError(InputError):
    """The loss or the gradient has become NaN or infinite."""


def steps_per_epoch(images: int, config: TrainConfig) -> int:
    """Return the number of whole batches in an epoch; `InputError` when there is none (the last incomplete one is dropped)."""
    steps = images // config.batch_size
    if steps == 0:
        raise InputError(f"batch_size: {config.batch_size} is more than the {images} training images")
    return steps


def epoch_batches(images: int, epoch: int, config: TrainConfig) -> list[np.ndarray]:
    """Return the image indices of every global batch of `epoch`; the order depends on the seed and the epoch alone."""
    order = np.random.default_rng((config.seed, epoch)).permutation(images)
    return np.split(order[: steps_per_epoch(images, config) * config.batch_size], steps_per_epoch(images, config))


class Trainer:
    """A method in training: with its optimiser and the scale of its loss, all that a checkpoint has to hold."""

    def __init__(
        self,
        method: Method,
        features: FeatureSource,
        config: TrainConfig,
        *,
        share: Share = Share(),
        wrap: Callable[[nn.Module], nn.Module] = lambda method: method,
        mean_over_workers: Callable[[Tensor], float] = float,
    ) -> None:
        """Train `method`, which is on its device already, on `features`.

        Args:
            method: What learns.
            features: Of the training images.
            config: The recipe.
            share: Which worker this is.
            wrap: Makes the method data-parallel.
            mean_over_workers: Averages a scalar over all workers.
        """
        self.method = method
        self.features = features
        self.config = config
        self._share = share
        self._mean_over_workers = mean_over_workers
        self._device = next(method.parameters()).device
        self._model = compiled(wrap(method), config)
        self._optimizer = method.optimizer(method.parameters())
        # float16 gradients underflow unless the loss is scaled up; otherwise the scaler does nothing.
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=config.precision == "float16")

    def steps(self, done: int = 0) -> Iterator[Step]:
        """Train from the first step behind `done` steps to the end of the last epoch, yielding after every step.

        Raises:
            NotFiniteError: The loss or the gradient is NaN or infinite; names the step and the images. The parameters are still
                those of the step before (BatchNorm's statistics have seen the batch).
        """
        first_epoch, position = divmod(done, steps_per_epoch(len(self.features), self.config))
        for epoch in range(first_epoch, self.config.epochs):
            yield from self.epoch(epoch, position if epoch == first_epoch else 0)

    def epoch(self, epoch: int, position: int = 0) -> Iterator[Step]:
        """Train one epoch, counted from 0, but for its first `position` batches; yield, and raise `NotFiniteError`, as `steps` does."""
        rate = self.method.learning_rate(epoch)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self.method.train()
        batches = epoch_batches(len(self.features), epoch, self.config)
        first, batches = epoch * len(batches) + position + 1, batches[position:]
        features = self.features.batches(map(self._share.of, batches), self._device)
        for step, (batch, levels) in enumerate(zip(batches, features, strict=True), start=first):
            try:
                yield Step(step, epoch, self._step(levels), rate)
            except NotFiniteError as error:
                names = ", ".join(self.features.images[index] for index in batch)
                raise NotFiniteError(f"{error} at step {step} (epoch {epoch + 1}); its batch: {names}") from None

    def _step(self, features: list[Tensor]) -> float:
        """Make one step and return the loss of the global batch."""
        features = formatted(features, self.config)
        with autocast(self._device, self.config.precision):
            loss = self.method.loss(features, self._model(features))
        value = self._mean_over_workers(loss.detach().clone())
        if not math.isfinite(value):
            raise NotFiniteError(f"the loss is {value}")
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.method.parameters(), self.method.max_gradient_norm)
        # A scaler skips such a step and lowers its scale; at 1 (as where there is none) it is the gradient's own fault.
        if not math.isfinite(norm) and self._scaler.get_scale() <= 1:
            raise NotFiniteError(f"the gradient is {float(norm)}")
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return value

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds: tensors and plain values.

        The state of torch's random numbers is that of this worker. It serves all: they are seeded alike and draw alike. The position
        in the order of the images and the learning rate follow from the number of steps.
        """
        parts = {"method": self.method, "optimizer": self._optimizer, "scaler": self._scaler}
        random = {"cpu": torch.get_rng_state()}
        if self._device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self._device)
        return {**{name: part.state_dict() for name, part in parts.items()}, "random": random}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint, which lies on the CPU."""
        self.method.load_state_dict(state["method"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"]["cpu"])
        if self._device.type == "cuda" and "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"], self._device)
