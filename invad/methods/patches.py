"""Methods over vectors of the neighbourhoods of features, as PatchCore and SimpleNet are (steps as in the authors' code of both)."""

from abc import ABC
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from invad.config import PatchCoreConfig, SimpleNetConfig
from invad.methods.base import Batch, EncoderOutput, Method, Needs

LEVELS = 2  # the coarsest ones of the encoder
NEIGHBOURHOOD = 3  # side, stride 1, zeros beyond the border


class PatchMethod(Method, ABC):
    """What both methods are: a score for each vector of the two coarsest levels, on the grid of the finer one."""

    align_corners = False

    def __init__(self, output: EncoderOutput, config: PatchCoreConfig | SimpleNetConfig) -> None:
        super().__init__(output, config)
        self.needs = Needs(output.levels[-LEVELS:])
        self.dimensions = config.dimensions
        self.side = output.grids[self.needs.levels[0]]

    def vectors(self, batch: Batch) -> Tensor:
        """Return float32 (B H W, dimensions), a vector for each location, image by image and row by row."""
        return patch_vectors(batch.features, self.dimensions, self.dimensions).flatten(0, 1)

    def on_grid(self, rows: Tensor) -> Tensor:
        """Return what belongs to vectors, (B H W, ...), as (B, H, W, ...)."""
        return rows.unflatten(0, (-1, self.side, self.side))


def patch_vectors(levels: Sequence[Tensor], per_level: int, dimensions: int) -> Tensor:
    """Return a vector for each location of the finest level: float32 (B, H W, dimensions), row by row.

    levels: float (B, C_l, H_l, W_l), fine to coarse. per_level: values that each level's neighbourhoods are averaged to, over bins of
    neighbouring channels and positions, before the levels are concatenated and averaged to `dimensions` values. These are a multiple of
    the number of levels, so that no bin lies in two of them.
    """
    grid = levels[0].shape[-2:]
    parts = []
    for level in levels:  # the neighbourhood of each location, in the order channel, row, column, averaged over bins
        neighbourhoods = functional.unfold(level.float(), NEIGHBOURHOOD, padding=NEIGHBOURHOOD // 2)
        bins = functional.adaptive_avg_pool1d(neighbourhoods.transpose(1, 2), per_level)
        bins = functional.adaptive_avg_pool1d(bins, dimensions // len(levels))
        parts.append(_resized(bins, level, (grid[0], grid[1])))
    return torch.cat(parts, dim=2)


def _resized(vectors: Tensor, level: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize vectors (B, h w, count) of a level to a grid; averaging first is the same, as both are linear, and has fewer planes."""
    height, width = level.shape[-2:]
    if (height, width) == grid:
        return vectors
    planes = vectors.contiguous().transpose(1, 2).unflatten(2, (height, width))  # channels last: resized without a copy
    return functional.interpolate(planes, grid, mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
