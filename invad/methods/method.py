"""What the trainer and the scorer ask of a method."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from invad.encoders import EncoderOutput

__all__ = ["EncoderOutput", "Method"]


class Method(Protocol):
    """An anomaly-detection method that learns to reconstruct features; implementations are `nn.Module`s.

    Attributes:
        max_gradient_norm: The gradient of all parameters is clipped to this length; infinity for none.
    """

    max_gradient_norm: float

    def __call__(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Reconstruct the encoder's features, fine to coarse, in the shapes of the input (B, C_l, H_l, W_l)."""

    def loss(self, features: Sequence[Tensor], reconstructions: Sequence[Tensor]) -> Tensor:
        """Return the training loss, a float32 scalar averaged over the batch."""

    def anomaly_map(
        self, features: Sequence[Tensor], reconstructions: Sequence[Tensor], size: int, sigma: float
    ) -> Tensor:
        """Return float32 maps (B, size, size), larger where more anomalous.

        A method whose map can be chosen takes `levels` and `distance` as further keywords, as `map_levels` and `map_distance` of
        params.yaml say.
        """

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Return the optimiser of the method's recipe."""

    def learning_rate(self, epoch: int) -> float:
        """Return the learning rate of `epoch`, counted from 0."""
