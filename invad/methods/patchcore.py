"""PatchCore (CVPR 2022): what is far from every vector in a memory of normal ones is anomalous. Nothing is trained.

Values and quirks are those of the authors' code; the paper's image score, which the code lacks, is a choice.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from invad.config import PatchCoreConfig, ScoreConfig
from invad.methods.base import Batch, EncoderOutput, Prediction
from invad.methods.coreset import coreset, even_sample, nearest_vectors
from invad.methods.patches import PatchMethod

REWEIGHTED_OVER = 9  # vectors of the memory around the nearest one


class PatchCore(PatchMethod):
    """The authors' method: squared distances to a coreset of the training images' vectors."""

    fitted = ("memory",)
    memory: Tensor

    def __init__(self, output: EncoderOutput, config: PatchCoreConfig) -> None:
        super().__init__(output, config)
        self.config = config
        self.register_buffer("memory", torch.empty(0, config.dimensions))

    def fit(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Keep a coreset of the vectors of all training images, or of `most_vectors` of them, drawn evenly.

        At most 1.25 `most_vectors` vectors and those of a batch are held, on the CPU, and then the memory: by default 0.6 GB. The choice
        holds their projections, 0.05 GB, on the method's device.
        """
        rng = np.random.default_rng(self.config.seed)
        parts, _ = even_sample((self.vectors(batch).cpu() for batch in batches()), self.config.most_vectors, rng)
        count = max(1, int(self.config.share * sum(map(len, parts))))
        self.memory = coreset(parts, count, rng, self.memory.device)

    def predict(self, batch: Batch, score: ScoreConfig) -> Prediction:
        """Return the mean squared distance to the nearest vectors of the memory on the grid, and as image score its maximum."""
        vectors = self.vectors(batch)
        distances, nearest = nearest_vectors(vectors, self.memory, self.config.neighbours)
        maps = self.on_grid(distances.mean(dim=1))
        if not self.config.reweighted:
            return Prediction(maps, maps.amax(dim=(1, 2)))
        vectors, squares, nearest = (self.on_grid(x).flatten(1, 2) for x in (vectors, distances[:, 0], nearest[:, 0]))
        return Prediction(maps, reweighted_scores(vectors, squares, nearest, self.memory))


def reweighted_scores(vectors: Tensor, squares: Tensor, nearest: Tensor, memory: Tensor) -> Tensor:
    """Return the paper's image scores (B,): the largest distance, less where its nearest vector has near neighbours itself (eq. 7).

    vectors: (B, N, D). squares, nearest: (B, N), the squared distance to the nearest row of `memory`, and which it is.
    """
    largest, location = squares.sqrt().max(dim=1)
    images = torch.arange(vectors.shape[0], device=vectors.device)
    own = memory[nearest[images, location]]
    _, around = nearest_vectors(own, memory, min(REWEIGHTED_OVER, len(memory)))
    lengths = (memory[around] - vectors[images, location].unsqueeze(1)).norm(dim=2)
    return (1 - torch.softmax(lengths, dim=1)[:, 0]) * largest
