"""PatchCore (CVPR 2022): what is far from every vector in a memory of normal ones is anomalous. Nothing is trained.

Values and quirks are those of the authors' code; the paper's image score, which the code lacks, is a choice.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from invad.config import PatchCoreConfig, ScoreConfig
from invad.methods.base import Batch, EncoderOutput, Method, Needs, Prediction
from invad.methods.patches import patch_vectors

LEVELS = 2  # the coarsest ones of the encoder
PROJECTED = 128  # dimensions in which distances decide what the memory keeps
STARTS = 10  # vectors that the first distances are measured from
REWEIGHTED_OVER = 9  # vectors of the memory around the nearest one
BLOCK = 4096  # vectors that are compared at a time, on either side


class PatchCore(Method):
    """The authors' method over the two coarsest levels: squared distances to a coreset of the training images' vectors."""

    align_corners = False
    fitted = ("memory",)
    memory: Tensor

    def __init__(self, output: EncoderOutput, config: PatchCoreConfig) -> None:
        super().__init__(output, config)
        self.config = config
        self.needs = Needs(output.levels[-LEVELS:])
        self.register_buffer("memory", torch.empty(0, config.dimensions))

    def vectors(self, batch: Batch) -> Tensor:
        """Return float32 (B, H W, dimensions), a vector for each location."""
        return patch_vectors(batch.features, self.config.dimensions, self.config.dimensions)

    def fit(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Keep a coreset of the vectors of all training images, or of `most_vectors` of them, in memory."""
        rng = np.random.default_rng(self.config.seed)
        vectors = _sample(
            (self.vectors(batch).flatten(0, 1).cpu() for batch in batches()), self.config.most_vectors, rng
        )
        count = max(1, int(self.config.share * len(vectors)))
        if count == len(vectors):  # all are kept: there is nothing to choose
            self.memory = vectors.to(self.memory.device)
            return
        chosen = greedy_coreset(
            self._projected(vectors, rng), rng.choice(len(vectors), min(STARTS, len(vectors)), replace=False), count
        )
        self.memory = vectors[chosen].to(self.memory.device)

    def _projected(self, vectors: Tensor, rng: np.random.Generator) -> Tensor:
        """Return vectors in fewer dimensions, by weights as torch's linear layers begin with."""
        bound = vectors.shape[1] ** -0.5
        weights = rng.uniform(-bound, bound, (vectors.shape[1], PROJECTED)).astype(np.float32)
        return vectors @ torch.from_numpy(weights)

    def predict(self, batch: Batch, score: ScoreConfig) -> Prediction:
        """Return the mean squared distance to the nearest vectors of the memory on the grid, and as image score its maximum."""
        vectors = self.vectors(batch)
        distances, nearest = nearest_vectors(vectors.flatten(0, 1), self.memory, self.config.neighbours)
        side = self.output.grids[self.needs.levels[0]]
        maps = distances.mean(dim=1).unflatten(0, (-1, side, side))
        if not self.config.reweighted:
            return Prediction(maps, maps.amax(dim=(1, 2)))
        return Prediction(
            maps, self._reweighted(vectors, distances[:, 0].unflatten(0, (-1, side * side)), nearest[:, 0])
        )

    def _reweighted(self, vectors: Tensor, distances: Tensor, nearest: Tensor) -> Tensor:
        """Return the paper's image scores (B,): the largest distance, less where its nearest vector has near neighbours itself."""
        largest, location = distances.sqrt().max(dim=1)
        rows = torch.arange(vectors.shape[0], device=vectors.device)
        own = self.memory[nearest.unflatten(0, (-1, distances.shape[1]))[rows, location]]
        _, around = nearest_vectors(own, self.memory, min(REWEIGHTED_OVER, len(self.memory)))
        lengths = (self.memory[around] - vectors[rows, location].unsqueeze(1)).norm(dim=2)
        return (1 - torch.softmax(lengths, dim=1)[:, 0]) * largest


def _sample(parts: Iterable[Tensor], most: int, rng: np.random.Generator) -> Tensor:
    """Return all rows of `parts`, or `most` of them drawn evenly, in their order; at most two times `most` are held."""
    kept, keys = None, np.empty(0)
    for part in parts:
        kept = part if kept is None else torch.cat([kept, part])
        keys = np.concatenate([keys, rng.random(len(part))])
        if len(keys) > 2 * most:
            kept, keys = _smallest(kept, keys, most)
    if kept is None:
        raise ValueError("no vectors to choose from")
    return _smallest(kept, keys, most)[0]


def _smallest(rows: Tensor, keys: np.ndarray, most: int) -> tuple[Tensor, np.ndarray]:
    if len(keys) <= most:
        return rows, keys
    chosen = np.sort(np.argpartition(keys, most)[:most])
    return rows[torch.from_numpy(chosen)], keys[chosen]


def greedy_coreset(vectors: Tensor, starts: np.ndarray, count: int) -> Tensor:
    """Return the indices of `count` rows of `vectors`, float32 (N, D), each of which is the farthest from those before it.

    The first distance of a row is the mean of those to the rows `starts`, which are not chosen by themselves.
    """
    squares = vectors.square().sum(dim=1)

    def distances(row: int | Tensor) -> Tensor:
        return (squares + squares[row] - 2 * (vectors @ vectors[row])).clamp_min_(0).sqrt_()

    nearest = torch.stack([distances(int(row)) for row in starts]).mean(dim=0)
    chosen = torch.empty(count, dtype=torch.int64)
    for index in range(count):
        chosen[index] = nearest.argmax()
        torch.minimum(nearest, distances(chosen[index]), out=nearest)
    return chosen


def nearest_vectors(queries: Tensor, memory: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return squared distances, float32 (Q, count), nearest first, and indices of the nearest rows of `memory`, block by block.

    An empty memory, as that of a model that is not fitted, is at distance 0.
    """
    if not len(memory):
        return queries.new_zeros(len(queries), count), torch.zeros(
            len(queries), count, dtype=torch.int64, device=queries.device
        )
    best: tuple[Tensor, Tensor] | None = None
    squares = queries.square().sum(dim=1, keepdim=True)
    for start in range(0, len(memory), BLOCK):
        block = memory[start : start + BLOCK]
        distances = squares + block.square().sum(dim=1) - 2 * queries @ block.T
        values, indices = distances.topk(min(count, len(block)), dim=1, largest=False)
        if best is None:
            best = values, indices + start
            continue
        values, indices = torch.cat([best[0], values], dim=1), torch.cat([best[1], indices + start], dim=1)
        values, order = values.topk(min(count, values.shape[1]), dim=1, largest=False)
        best = values, indices.gather(1, order)
    assert best is not None
    return best[0].clamp_min(0), best[1]
