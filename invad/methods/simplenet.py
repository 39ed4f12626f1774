"""SimpleNet (CVPR 2023): a small network learns to tell adapted normal features from the same with noise.

Its negative output is the anomaly score of a location. Values and quirks are those of the authors' code.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW

from invad.config import ScoreConfig, SimpleNetConfig
from invad.methods.base import (
    Batch,
    EncoderOutput,
    Optimisation,
    ParameterGroup,
    Position,
    Prediction,
    TrainingPhase,
    decay_groups,
)
from invad.methods.patches import PatchMethod

ADAPTOR_DECAY, DISCRIMINATOR_DECAY = 0.01, 1e-5  # the second as part of the gradient
CLIP = {"paper": float("inf"), "re-run": 5.0}  # of the gradient of each


class Discriminator(nn.Module):
    """Two linear layers with a batch normalisation in between: vectors (N, D) -> (N,), larger where normal."""

    def __init__(self, dimensions: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(dimensions, hidden)
        self.norm = nn.BatchNorm2d(hidden)  # of rows; of this kind there is one over several workers
        self.activation = nn.LeakyReLU(0.2)
        self.tail = nn.Linear(hidden, 1, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return (N,) of vectors (N, D)."""
        rows = self.norm(self.hidden(vectors)[:, :, None, None]).flatten(1)
        return self.tail(self.activation(rows)).squeeze(1)


class SimpleNet(PatchMethod):
    """The authors' method. Both optimisers have a constant rate and clip by themselves."""

    def __init__(self, output: EncoderOutput, config: SimpleNetConfig) -> None:
        super().__init__(output, config)
        self.config = config
        self.adaptor = nn.Linear(config.dimensions, config.dimensions)
        self.discriminator = Discriminator(config.dimensions, config.hidden)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)

    def phases(self) -> Sequence[TrainingPhase]:
        """Return one: AdamW for the adaptor and Adam for the discriminator."""
        config, clip = self.config, CLIP[self.config.recipe]

        def groups(part: nn.Module, decay: float) -> list[ParameterGroup]:
            return decay_groups(part.parameters(), decay, weights_alone=config.recipe == "re-run")

        def optimisations() -> list[Optimisation]:
            adaptor = AdamW(groups(self.adaptor, ADAPTOR_DECAY), lr=config.learning_rate)
            discriminator = Adam(groups(self.discriminator, DISCRIMINATOR_DECAY), lr=config.discriminator_rate)
            return [
                Optimisation(adaptor, lambda position: config.learning_rate, clip),
                Optimisation(discriminator, lambda position: config.discriminator_rate, clip),
            ]

        return [TrainingPhase(optimisations, epochs=config.epochs)]

    def loss(self, batch: Batch, position: Position) -> Tensor:
        """Return how far the outputs of adapted vectors, and of the same with noise, are within the margin on either side of 0."""
        adapted = self.adaptor(self.vectors(batch))
        noise = batch.normal(self.side**2, self.dimensions).flatten(0, 1).to(adapted)
        noisy = adapted + self.config.noise * noise
        normal, anomalous = self.discriminator(torch.cat([adapted, noisy])).float().chunk(2)
        margin = self.config.margin
        return (margin - normal).clamp_min(0).mean() + (margin + anomalous).clamp_min(0).mean()

    def predict(self, batch: Batch, score: ScoreConfig) -> Prediction:
        """Return the negative output of each location on the grid, and as image score its maximum."""
        maps = -self.on_grid(self.discriminator(self.adaptor(self.vectors(batch))).float())
        return Prediction(maps, maps.amax(dim=(1, 2)))
