"""The training loop: plain torch, one process among `world_size`; Ray is nowhere in here.

Every worker walks the same seeded order of images and takes its share of each global batch, so the recipe does not depend on how
many there are.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from invad.config import TrainConfig
from invad.data.split_table import SplitRow, view_count
from invad.devices import autocast, compiled
from invad.errors import InputError
from invad.features.batches import Batch, BatchSource
from invad.methods import EncoderOutput, Method, build_method
from invad.methods.base import Optimisation, Position, load_fitted
from invad.training.curve import Step


@dataclass(frozen=True)
class Share:
    """Which of `world_size` workers this process is; how a method is made data-parallel, and a scalar averaged over all workers."""

    rank: int = 0
    world_size: int = 1
    wrap: Callable[[nn.Module], nn.Module] = lambda method: method
    mean: Callable[[Tensor], float] = float

    def of(self, batch: np.ndarray, views: int = 1) -> np.ndarray:
        """Return this worker's part of a global batch, in which so many images in a row are one object."""
        return batch.reshape(-1, views)[self.rank :: self.world_size].ravel()


ALONE = Share()


class NotFiniteError(InputError):
    """The loss or the gradient has become NaN or infinite."""


def views_of(rows: Sequence[SplitRow], config: TrainConfig) -> int:
    """Return how many images in a row a method takes as one object: 1 unless it asks for views; `InputError` as `view_count`."""
    return view_count(rows) if config.VIEWS else 1


def steps_per_epoch(images: int, config: TrainConfig, views: int = 1) -> int:
    """Return the number of whole batches in an epoch; `InputError` when there is none (the last incomplete one is dropped).

    `views`: so many images are one object; `InputError` for a batch size that splits one.
    """
    steps = images // config.batch_size
    if steps == 0:
        raise InputError(f"batch_size: {config.batch_size} is more than the {images} training images")
    if config.batch_size % views:
        raise InputError(f"batch_size: {config.batch_size} images are no whole number of objects of {views} views")
    return steps


def epoch_batches(images: int, epoch: int, config: TrainConfig, views: int = 1) -> list[np.ndarray]:
    """Return the image indices of every global batch of `epoch`; the order of objects depends on the seed and the epoch alone."""
    steps = steps_per_epoch(images, config, views)
    objects = np.random.default_rng((config.seed, epoch)).permutation(images // views)
    order = (objects[:, None] * views + np.arange(views)).ravel()
    return np.split(order[: steps * config.batch_size], steps)


def training_steps(images: int, output: EncoderOutput, config: TrainConfig, views: int = 1) -> int:
    """Return the number of steps of a training: those of all phases, and one for what is learned without gradients.

    `InputError`: there are too few images for a batch, it splits objects of so many views, or the method does not take such an encoder.
    """
    with torch.device("meta"):  # shapes without values
        method = build_method(output, config)
    phases = method.phases()
    per_epoch = steps_per_epoch(images, config, views) if phases else 0
    return sum(phase.length(per_epoch) for phase in phases) + method.fits


class Trainer:
    """A method in training: with its optimisers and the scale of its loss, all that a checkpoint has to hold."""

    def __init__(self, method: Method, source: BatchSource, config: TrainConfig, share: Share = ALONE) -> None:
        """Train `method`, which is on its device already, on `source`: what it asks for of the training images."""
        self.method = method
        self.source = source
        self.config = config
        self._share = share
        self._device = method.device
        self._phases = method.phases()
        self._per_epoch = steps_per_epoch(len(source), config, source.views) if self._phases else 0
        lengths = (phase.length(self._per_epoch) for phase in self._phases)
        self._starts = [0, *accumulate(lengths)]
        self._running: int | None = None  # the phase whose optimisers these are
        self._still: list[nn.Parameter] = []  # what moves in other phases
        self._optimisations: Sequence[Optimisation] = ()
        self._model: Callable[[Batch, Position], Tensor] = method
        # float16 gradients underflow unless the loss is scaled up; otherwise the scaler does nothing.
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=config.precision == "float16")
        if self._phases:
            self._begin(0)

    @property
    def total(self) -> int:
        """The number of steps of all phases."""
        return self._starts[-1]

    def steps(self, done: int = 0) -> Iterator[Step]:
        """Train from the first step behind `done` steps to the end of the last phase, yielding after every step.

        `NotFiniteError` names step and images where the loss or a gradient is NaN or infinite. The parameters are still those of the step
        before (BatchNorm's statistics have seen the batch).
        """
        while done < self.total:
            phase = self._phase_of(done)
            self._begin(phase)
            # To the end of the epoch, or of the phase where that comes first.
            epoch, position = divmod(done, self._per_epoch)
            end = min((epoch + 1) * self._per_epoch, self._starts[phase + 1])
            yield from self._part(phase, epoch, position, end - done)
            done = end
        self._release()

    def _phase_of(self, done: int) -> int:
        """Return the phase of the step behind `done` steps; behind the last step the last phase."""
        return min(bisect_right(self._starts, done), len(self._phases)) - 1

    def _begin(self, phase: int) -> None:
        """Make the optimisers of a phase, unless it has begun; what the phase before kept still may move again."""
        if phase == self._running:
            return
        self._release()
        parts = [self.method.get_submodule(name) for name in self._phases[phase].frozen]
        # Some parts, such as a pretrained encoder, never move.
        self._still = [each for part in parts for each in part.parameters() if each.requires_grad]
        for parameter in self._still:
            parameter.requires_grad_(False)
        self._running = phase
        self._optimisations = self._phases[phase].optimisations()
        for group in (group for each in self._optimisations for group in each.optimizer.param_groups):
            if "foreach" in group:  # all tensors of a parameter group in one call: the same bits in half the time
                group["foreach"] = True
        self._model = compiled(self._share.wrap(self.method), self.config)

    def _release(self) -> None:
        """Let what a phase kept still move again."""
        for parameter in self._still:
            parameter.requires_grad_(True)

    def _part(self, phase: int, epoch: int, position: int, length: int) -> Iterator[Step]:
        """Make `length` steps of an epoch from its batch `position` on."""
        self.method.train()
        for name in self._phases[phase].frozen:
            self.method.get_submodule(name).eval()
        views = self.source.views
        batches = epoch_batches(len(self.source), epoch, self.config, views)[position : position + length]
        first = epoch * self._per_epoch + position
        mine = (self._share.of(batch, views) for batch in batches)
        wanted = self.source.batches(mine, self._device, (self.config.seed, epoch))
        for done, (rows, batch) in enumerate(zip(batches, wanted, strict=True), start=first):
            at = self._position(phase, done)
            try:
                loss = self._step(batch, at)
            except NotFiniteError as error:
                names = ", ".join(self.source.images[row] for row in rows)
                raise NotFiniteError(f"{error} at step {done + 1} (epoch {epoch + 1}); its batch: {names}") from None
            yield Step(done + 1, epoch, loss, self._optimisations[0].rate(at))

    def _position(self, phase: int, done: int) -> Position:
        start, end = self._starts[phase], self._starts[phase + 1]
        epochs = -(-(end - start) // self._per_epoch)
        return Position(phase, done - start, end - start, (done - start) // self._per_epoch, epochs)

    def _step(self, batch: Batch, position: Position) -> float:
        """Make one step and return the loss of the global batch."""
        batch = batch.formatted(self.config)
        for optimisation in self._optimisations:
            for group in optimisation.optimizer.param_groups:
                group["lr"] = optimisation.rate(position) * group.get("factor", 1.0)
        with autocast(self._device, self.config.precision):
            loss = self._model(batch, position)
        value = self._share.mean(loss.detach().clone())
        if not math.isfinite(value):
            raise NotFiniteError(f"the loss is {value}")
        for optimisation in self._optimisations:
            optimisation.optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        for optimisation in self._optimisations:
            self._clip(optimisation)
        for optimisation in self._optimisations:
            self._scaler.step(optimisation.optimizer)
        self._scaler.update()
        return value

    def _clip(self, optimisation: Optimisation) -> None:
        self._scaler.unscale_(optimisation.optimizer)
        parameters = [parameter for group in optimisation.optimizer.param_groups for parameter in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, optimisation.clip, foreach=True)
        # A scaler skips such a step and lowers its scale; at 1 (as where there is none) it is the gradient's own fault.
        if not math.isfinite(norm) and self._scaler.get_scale() <= 1:
            raise NotFiniteError(f"the gradient is {float(norm)}")

    def fit(self) -> None:
        """Let the method learn what it learns without gradients, from all training images in their order."""
        self.method.eval()
        with torch.no_grad(), autocast(self._device, self.config.precision):
            size = self.config.batch_size
            self.method.fit(
                lambda: (batch.formatted(self.config) for batch in self.source.in_order(size, self._device))
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds: tensors and plain values.

        The state of torch's random numbers is that of this worker. It serves all: they are seeded alike and draw alike. The phase, the
        position in the order of the images and the learning rate follow from the number of steps.
        """
        random = {"cpu": torch.get_rng_state()}
        if self._device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self._device)
        return {
            "method": self.method.state_dict(),
            "optimizers": [optimisation.optimizer.state_dict() for optimisation in self._optimisations],
            "scaler": self._scaler.state_dict(),
            "random": random,
        }

    def load_state_dict(self, state: dict[str, Any], done: int) -> None:
        """Go on from a checkpoint, which lies on the CPU and was written after `done` steps."""
        load_fitted(self.method, state["method"])
        if self._phases:
            # A checkpoint at the end of a phase holds that phase's optimisers; the next one begins with its own.
            self._begin(self._phase_of(max(done - 1, 0)))
        for optimisation, saved in zip(self._optimisations, state["optimizers"], strict=True):
            optimisation.optimizer.load_state_dict(saved)
        self._scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"]["cpu"])
        if self._device.type == "cuda" and "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"], self._device)
