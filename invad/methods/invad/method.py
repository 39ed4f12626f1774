"""InvAD: what a generator, steered by Space-aware Style Modulation, cannot reproduce of the encoder's features is anomalous."""

from collections.abc import Iterable, Sequence

from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from invad.config import InvADConfig
from invad.config.constants import STRIDES
from invad.methods.base import EncoderOutput, Method
from invad.methods.invad.network import FeatureInversion, reconstruction_loss
from invad.methods.maps import anomaly_map

DECAY_AT, DECAY = 0.8, 0.1  # the learning rate is multiplied by DECAY after the fraction DECAY_AT of the epochs


class InvAD(Method):
    """The paper's method: `FeatureInversion`, its L2 loss over raw features and its cosine map over all levels (paper, section 3)."""

    max_gradient_norm = 5.0

    def __init__(self, output: EncoderOutput, config: InvADConfig) -> None:
        super().__init__(output, config)
        self.config = config
        self.network = FeatureInversion(
            output.channels,
            style_channels=config.style_channels,
            latent_channels=config.latent_channels,
            blocks=config.blocks,
            constant_size=output.image_size // STRIDES[-1],
            modulation=config.modulation,
            modulation_terms=config.modulation_terms,
            normalisation=config.normalisation,
            upsampler=config.upsampler,
            style_translator=config.style_translator,
            aggregation=config.aggregation,
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Reconstruct the features, fine to coarse, in the shapes of the input (B, C_l, H_l, W_l)."""
        return self.network(features)

    def loss(self, features: Sequence[Tensor], reconstructions: Sequence[Tensor]) -> Tensor:
        """Return `loss_weight` times the sum over levels of the mean squared error, or of the ablation's loss."""
        return reconstruction_loss(features, reconstructions, self.config.loss_weight, self.config.loss)

    def anomaly_map(
        self, features: Sequence[Tensor], reconstructions: Sequence[Tensor], size: int, sigma: float
    ) -> Tensor:
        """Return float32 maps (B, size, size): one minus the cosine over the concatenated levels, blurred."""
        return anomaly_map(features, reconstructions, size, sigma)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Return Adam with betas (0.0, 0.99) and no weight decay."""
        return Adam(parameters, lr=self.config.learning_rate, betas=(0.0, 0.99))

    def learning_rate(self, epoch: int) -> float:
        """Return the learning rate of `epoch`, counted from 0: a tenth in the last fifth of the epochs."""
        return self.config.learning_rate * (DECAY if epoch >= int(DECAY_AT * self.config.epochs) else 1.0)
