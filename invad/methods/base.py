"""What a method is: what it asks for, what its training consists of, and how it predicts.

Trainer, scorer, model folder, export and service know nothing else of a method. A method is one file and one line in `METHODS`
(docs/extending.md).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from invad.config import ScoreConfig, TrainConfig
from invad.features.batches import Batch, Needs
from invad.features.encoder import Encoder, EncoderOutput

__all__ = [
    "Batch",
    "EncoderOutput",
    "Method",
    "Needs",
    "Optimisation",
    "ParameterGroup",
    "Position",
    "Prediction",
    "TrainingPhase",
    "decay_groups",
    "load_fitted",
    "one_phase",
]


class Position(NamedTuple):
    """Where a training is: in which of its phases, and there at which of how many steps and epochs, counted from 0."""

    phase: int
    step: int
    steps: int
    epoch: int
    epochs: int


ParameterGroup = dict[str, Any]  # of an optimiser of torch


def decay_groups(parameters: Iterable[nn.Parameter], decay: float, *, weights_alone: bool) -> list[ParameterGroup]:
    """Return parameters with their weight decay; `weights_alone`: none for tensors of one dimension, which are biases and norms."""
    mine = list(parameters)
    decayed = [parameter.ndim > 1 or not weights_alone for parameter in mine]
    return [
        {"params": [parameter for parameter, own in zip(mine, decayed, strict=True) if own == each]}
        | {"weight_decay": decay if each else 0.0}
        for each in (True, False)
    ]


@dataclass(frozen=True)
class Optimisation:
    """One optimiser of a phase: its parameters are what the phase trains.

    `rate`: the learning rate of a step, times the `factor` of a parameter group that has one. `clip`: the length that the gradient of its
    parameters is clipped to; infinity for none.
    """

    optimizer: Optimizer
    rate: Callable[[Position], float]
    clip: float = float("inf")


@dataclass(frozen=True)
class TrainingPhase:
    """A part of a training by gradients, as long as `epochs` or `steps` says.

    `optimisations`: makes the optimisers, whose state begins with the phase. `frozen`: the submodules that keep still meanwhile: in eval
    mode, without gradients.
    """

    optimisations: Callable[[], Sequence[Optimisation]]
    epochs: int = 0
    steps: int = 0
    frozen: tuple[str, ...] = ()

    def length(self, steps_per_epoch: int) -> int:
        """Return the number of steps."""
        return self.steps or self.epochs * steps_per_epoch


def one_phase(
    optimizer: Callable[[], Optimizer],
    epochs: int,
    steps: Sequence[tuple[float, float]] = (),
    clip: float = float("inf"),
) -> list[TrainingPhase]:
    """Return one phase with one optimiser, whose rate is times `factor` from the epoch on that each (share of the epochs, factor) names."""

    def optimisations() -> list[Optimisation]:
        made = optimizer()

        def rate(position: Position) -> float:
            passed = (factor for share, factor in steps if position.epoch >= int(share * position.epochs))
            return made.defaults["lr"] * math.prod(passed)

        return [Optimisation(made, rate, clip)]

    return [TrainingPhase(optimisations, epochs)]


class Prediction(NamedTuple):
    """`maps`: float32 (B, H, W) on any grid, larger where more anomalous, neither resized nor blurred. `scores`: float32 (B,), those of the
    images where the method has a rule of its own; None where they are the maxima of the finished maps.
    """

    maps: Tensor
    scores: Tensor | None = None


class Method(nn.Module, ABC):
    """An anomaly-detection method.

    sigma: of the Gaussian blur of its maps, in pixels of an image of 256 pixels; 0 for none.
    align_corners: of the bilinear resizing of its maps to the image.
    fitted: tensors of its state whose length is known only after `fit`.
    """

    sigma: ClassVar[float] = 4.0
    align_corners: ClassVar[bool] = True
    fitted: ClassVar[tuple[str, ...]] = ()

    def __init__(self, output: EncoderOutput, config: TrainConfig) -> None:
        """Build the method for an encoder, initialised from torch's seed; a method names its own kind of `config`.

        It asks for all levels, and for views where its settings say so, unless it sets `needs` itself.
        """
        super().__init__()
        self.output = output
        self.needs = Needs(output.levels, views=config.VIEWS)

    def adopt(self, encoder: Encoder) -> None:
        """Take over the weights of the pretrained encoder, where its settings have `ENCODER` "own": before its training."""
        raise NotImplementedError(f"{type(self).__name__} has no encoder of its own")

    def phases(self) -> Sequence[TrainingPhase]:
        """Return the phases of its training by gradients, in order; none by default."""
        return ()

    def loss(self, batch: Batch, position: Position) -> Tensor:
        """Return the loss of a batch in training, a float32 scalar averaged over it."""
        raise NotImplementedError(f"{type(self).__name__} has phases but no loss")

    def forward(self, batch: Batch, position: Position) -> Tensor:
        """Return the loss: what torch wraps and compiles for training."""
        return self.loss(batch, position)

    def fit(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Learn without gradients, after all phases; `batches()` goes once through the training images. By default nothing."""

    @property
    def fits(self) -> bool:
        """Whether it learns anything in `fit`."""
        return type(self).fit is not Method.fit

    @abstractmethod
    def predict(self, batch: Batch, score: ScoreConfig) -> Prediction:
        """Return maps of a batch, in eval mode."""

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return next(iter(self.state_dict().values())).device


def load_fitted(method: Method, state: Mapping[str, Tensor]) -> None:
    """Load a state into a method; its tensors whose length `fit` decides get that of the state."""
    for name in method.fitted:
        module, _, buffer = name.rpartition(".")
        owner = method.get_submodule(module)
        setattr(owner, buffer, torch.empty_like(state[name], device=getattr(owner, buffer).device))
    method.load_state_dict(state)
