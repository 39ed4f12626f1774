"""The anomaly-detection methods that can be trained: features of the frozen encoder in, loss and anomaly map out.

A method is one module with a class that follows `Method`, and one line in `METHODS`.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from invad.config import TrainConfig
from invad.methods.invad import InvAD


class Method(Protocol):
    """What the trainer and the scorer ask of a method; implementations are `nn.Module`s."""

    def __call__(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Reconstruct the encoder's features, fine to coarse, in the shapes of the input (B, C_l, H_l, W_l)."""

    def loss(self, features: Sequence[Tensor], reconstructions: Sequence[Tensor]) -> Tensor:
        """Return the training loss, a scalar averaged over the batch."""

    def anomaly_map(
        self, features: Sequence[Tensor], reconstructions: Sequence[Tensor], size: int, sigma: float
    ) -> Tensor:
        """Return float32 maps (B, size, size), larger where more anomalous."""

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Return the optimiser of the method's recipe."""


METHODS = {"invad": InvAD}


def build_method(channels: Sequence[int], image_size: int, config: TrainConfig) -> nn.Module:
    """Build the method that `config.model` names for features of `channels` (fine to coarse), initialised from torch's seed."""
    return METHODS[config.model](channels, image_size, config)
