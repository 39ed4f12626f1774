"""SimpleNet (CVPR 2023): a small network learns to tell adapted normal features from the same with noise.

Its negative output is the anomaly score of a location. Values and quirks are those of the authors' code.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW

from invad.config import ScoreConfig, SimpleNetConfig
from invad.methods.base import Batch, EncoderOutput, Method, Needs, Optimisation, Position, Prediction, TrainingPhase
from invad.methods.patches import patch_vectors

LEVELS = 2  # the coarsest ones of the encoder
ADAPTOR_DECAY, DISCRIMINATOR_DECAY = 0.01, 1e-5  # of the weights; the second as part of the gradient


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


class SimpleNet(Method):
    """The authors' method over the two coarsest levels. Both optimisers have a constant rate and clip by themselves."""

    align_corners = False

    def __init__(self, output: EncoderOutput, config: SimpleNetConfig) -> None:
        super().__init__(output, config)
        self.config = config
        self.needs = Needs(output.levels[-LEVELS:])
        self.adaptor = nn.Linear(config.dimensions, config.dimensions)
        self.discriminator = Discriminator(config.dimensions, config.hidden)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)

    def vectors(self, batch: Batch) -> Tensor:
        """Return float32 (B, H W, dimensions), a vector for each location."""
        return patch_vectors(batch.features, self.config.dimensions, self.config.dimensions)

    def phases(self) -> Sequence[TrainingPhase]:
        """Return one: AdamW for the adaptor and Adam for the discriminator."""
        config, clip = self.config, float("inf") if self.config.clip is None else self.config.clip

        def optimisations() -> list[Optimisation]:
            adaptor = AdamW(self.adaptor.parameters(), lr=config.learning_rate, weight_decay=ADAPTOR_DECAY)
            discriminator = Adam(
                self.discriminator.parameters(), lr=config.discriminator_rate, weight_decay=DISCRIMINATOR_DECAY
            )
            return [
                Optimisation(adaptor, lambda position: config.learning_rate, clip),
                Optimisation(discriminator, lambda position: config.discriminator_rate, clip),
            ]

        return [TrainingPhase(optimisations, epochs=config.epochs)]

    def loss(self, batch: Batch, position: Position) -> Tensor:
        """Return how far the outputs of adapted vectors, and of the same with noise, are within the margin on either side of 0."""
        vectors = self.vectors(batch)
        adapted = self.adaptor(vectors)
        noise = self.config.noise * batch.normal(*vectors.shape[1:]).to(adapted)
        normal, noisy = self.discriminator(torch.cat([adapted, adapted + noise]).flatten(0, 1)).float().chunk(2)
        margin = self.config.margin
        return (margin - normal).clamp_min(0).mean() + (margin + noisy).clamp_min(0).mean()

    def predict(self, batch: Batch, score: ScoreConfig) -> Prediction:
        """Return the negative output of each location on the grid, and as image score its maximum."""
        vectors = self.adaptor(self.vectors(batch))
        side = self.output.grids[self.needs.levels[0]]
        maps = -self.discriminator(vectors.flatten(0, 1)).float().unflatten(0, (-1, side, side))
        return Prediction(maps, maps.amax(dim=(1, 2)))
