"""Vectors of the neighbourhoods of features, as PatchCore and SimpleNet have them (steps as in the authors' code of both)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

NEIGHBOURHOOD = 3  # side, stride 1, zeros beyond the border


def patch_vectors(levels: Sequence[Tensor], per_level: int, dimensions: int) -> Tensor:
    """Return a vector for each location of the finest level: float32 (B, H W, dimensions), row by row.

    levels: float (B, C_l, H_l, W_l), fine to coarse. per_level: values that each level's neighbourhoods are averaged to, over bins of
    neighbouring channels and positions, before the levels are concatenated and averaged to `dimensions` values.
    """
    grid = levels[0].shape[-2:]
    pooled = [_pooled(level.float(), per_level) for level in levels]
    on_grid = [_on_grid(vectors, level, (grid[0], grid[1])) for vectors, level in zip(pooled, levels, strict=True)]
    return functional.adaptive_avg_pool1d(torch.cat(on_grid, dim=2), dimensions)


def _pooled(level: Tensor, count: int) -> Tensor:
    """Return (B, H W, count): the neighbourhood of each location, in the order channel, row, column, averaged over `count` bins."""
    neighbourhoods = functional.unfold(level, NEIGHBOURHOOD, padding=NEIGHBOURHOOD // 2)
    return functional.adaptive_avg_pool1d(neighbourhoods.transpose(1, 2), count)


def _on_grid(vectors: Tensor, level: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize vectors (B, h w, count) of a level to a grid; averaging first is the same, as both are linear, and much smaller."""
    height, width = level.shape[-2:]
    if (height, width) == grid:
        return vectors
    planes = vectors.transpose(1, 2).unflatten(2, (height, width))
    return functional.interpolate(planes, grid, mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
