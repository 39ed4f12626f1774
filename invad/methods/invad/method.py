"""InvAD: what a generator, steered by Space-aware Style Modulation, cannot reproduce of the encoder's features is anomalous."""

from collections.abc import Sequence

from torch import Tensor
from torch.optim import Adam

from invad.config import InvADConfig, ScoreConfig
from invad.methods.base import Batch, EncoderOutput, Method, Optimisation, Position, Prediction, TrainingPhase, stepped
from invad.methods.invad.network import FeatureInversion
from invad.methods.losses import reconstruction_loss
from invad.methods.maps import reconstruction_map

STEPS = ((0.8, 0.1),)  # of the learning rate: a tenth after 80 % of the epochs
CLIP = 5.0


class InvAD(Method):
    """The paper's method: `FeatureInversion`, its L2 loss over raw features and its cosine map over all levels (paper, section 3)."""

    def __init__(self, output: EncoderOutput, config: InvADConfig) -> None:
        super().__init__(output, config)
        self.config = config
        self.network = FeatureInversion(
            output.channels,
            style_channels=config.style_channels,
            latent_channels=config.latent_channels,
            blocks=config.blocks,
            grids=output.grids,
            modulation=config.modulation,
            modulation_terms=config.modulation_terms,
            normalisation=config.normalisation,
            upsampler=config.upsampler,
            style_translator=config.style_translator,
            aggregation=config.aggregation,
        )

    def phases(self) -> Sequence[TrainingPhase]:
        """Return one: Adam with betas (0.0, 0.99) and no weight decay, a tenth of the rate in the last fifth, clipped at 5."""
        rate = self.config.learning_rate

        def optimisations() -> list[Optimisation]:
            adam = Adam(self.parameters(), lr=rate, betas=(0.0, 0.99))
            return [Optimisation(adam, lambda position: stepped(rate, position, STEPS), CLIP)]

        return [TrainingPhase(optimisations, epochs=self.config.epochs)]

    def loss(self, batch: Batch, position: Position) -> Tensor:
        """Return `loss_weight` times the sum over levels of the mean squared error, or of the ablation's loss."""
        return reconstruction_loss(
            batch.features, self.network(batch.features), self.config.loss_weight, self.config.loss
        )

    def predict(self, batch: Batch, score: ScoreConfig) -> Prediction:
        """Return one minus the cosine over the concatenated levels, in [0, 2], or what `score` has in its place."""
        levels = "concatenated" if score.map_levels == "method" else score.map_levels
        distance = "cosine" if score.map_distance == "method" else score.map_distance
        size = self.output.image_size
        return Prediction(reconstruction_map(batch.features, self.network(batch.features), size, levels, distance))
