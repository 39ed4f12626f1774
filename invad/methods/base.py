"""What the trainer and the scorer ask of a method."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn
from torch.optim import Optimizer

from invad.config import TrainConfig
from invad.features.encoder import EncoderOutput

__all__ = ["EncoderOutput", "Method"]


class Method(nn.Module, ABC):
    """An anomaly-detection method that learns to reconstruct features.

    Attributes:
        max_gradient_norm: The gradient of all parameters is clipped to this length; infinity for none.
    """

    max_gradient_norm: float
    __call__: Callable[[Sequence[Tensor]], list[Tensor]]  # torch's own, which calls `forward`

    def __init__(self, output: EncoderOutput, config: TrainConfig) -> None:
        """Build the method for the features of an encoder; a method names its own kind of `config`."""
        super().__init__()

    @abstractmethod
    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Reconstruct the encoder's features, fine to coarse, in the shapes of the input (B, C_l, H_l, W_l)."""

    @abstractmethod
    def loss(self, features: Sequence[Tensor], reconstructions: Sequence[Tensor]) -> Tensor:
        """Return the training loss, a float32 scalar averaged over the batch."""

    @abstractmethod
    def anomaly_map(
        self, features: Sequence[Tensor], reconstructions: Sequence[Tensor], size: int, sigma: float
    ) -> Tensor:
        """Return float32 maps (B, size, size), larger where more anomalous."""

    @abstractmethod
    def optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Return the optimiser of the method's recipe."""

    @abstractmethod
    def learning_rate(self, epoch: int) -> float:
        """Return the learning rate of `epoch`, counted from 0."""
