"""MVAS, multi-view adaptive selection (arXiv:2407.11935): windows of one view attend to the most similar windows of the others.

It has no parameters: queries, keys and values are the features themselves. What is trained in a block are two norms and an MLP.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from invad.config import MVADConfig
from invad.devices import full_precision
from invad.errors import InputError

NORM_EPS = 1e-6
EXPANSION = 4  # of the MLP


def windows_a_side(grid: int, chosen: int) -> int:
    """Return the number of windows a side for a grid: what makes selection and attention cheapest for five views."""
    return max(1, round((chosen / 8) ** (1 / 6) * grid ** (2 / 3)))


class Dropped:
    """Dropout and DropPath whose draws are given: bool (B, draws), true where a value stays, handed out in order; None: all stay."""

    def __init__(self, kept: Tensor | None = None, share: float = 0.0) -> None:
        self._kept, self._share, self._used = kept, share, 0

    def values(self, x: Tensor) -> Tensor:
        """Return `x` (B, ...) without the values that are dropped, the others scaled up."""
        return self._dropped(x, x.shape)

    def images(self, x: Tensor) -> Tensor:
        """Return `x` (B, ...) without the images that are dropped, the others scaled up."""
        return self._dropped(x, torch.Size((len(x), *(1 for _ in x.shape[1:]))))

    def _dropped(self, x: Tensor, shape: torch.Size) -> Tensor:
        if self._kept is None:
            return x
        start, self._used = self._used, self._used + shape[1:].numel()
        return x * self._kept[:, start : self._used].reshape(shape) / (1 - self._share)


def position(grid: int, channels: int) -> Tensor:
    """Return sines and cosines of each cell's row, then of its column, float32 (grid, grid, channels)."""
    half = channels // 2
    index = torch.arange(half)
    frequencies = 10_000.0 ** (2 * (index // 2).double() / half)
    angles = 2 * math.pi * torch.arange(1, grid + 1, dtype=torch.float64) / (grid + 1e-6)
    angles = angles[:, None] / frequencies
    waves = torch.where(index % 2 == 0, angles.sin(), angles.cos())
    rows, columns = waves[:, None].expand(-1, grid, -1), waves.expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=2).float()


def cut(x: Tensor, side: int) -> Tensor:
    """Cut grids (..., H, W, C) into side x side windows, row by row: (..., side * side, p, C); zeros fill the last ones up."""
    height, width = x.shape[-3:-1]
    h, w = -(-height // side), -(-width // side)
    padded = functional.pad(x, (0, 0, 0, side * w - width, 0, side * h - height))
    tiles = padded.unflatten(-2, (side, w)).unflatten(-4, (side, h)).transpose(-4, -3)
    return tiles.flatten(-3, -2).flatten(-4, -3)


def joined(windows: Tensor, height: int, width: int) -> Tensor:
    """Put windows (..., side * side, p, C) together again as a grid (..., height, width, C)."""
    side = math.isqrt(windows.shape[-3])
    h, w = -(-height // side), -(-width // side)
    tiles = windows.unflatten(-2, (h, w)).unflatten(-4, (side, side)).transpose(-4, -3)
    return tiles.flatten(-3, -2).flatten(-4, -3)[..., :height, :width, :]


def adaptive_selection(
    query: Tensor, views: Tensor, side: int, chosen: int, heads: int, *, masked: bool = False
) -> Tensor:
    """Return what a view (N, H, W, C) finds in `views`, the windows of the other ones: (N, H, W, C).

    `views`: (N, V - 1, side * side, p, C), from `cut`. Each window of the query attends, in `heads` heads, to the cells of those `chosen`
    windows whose means are most similar to its own. As published, windows of nothing but padding can be chosen, and padding is attended
    to; `masked`: neither, and it enters no mean.
    """
    height, width, channels = query.shape[1:]
    queries, keys = cut(query, side), views.flatten(1, 2)
    real = cut(query.new_ones(height, width, 1), side) if masked else query.new_ones(side**2, queries.shape[2], 1)
    real_keys = real.repeat(views.shape[1], 1, 1)
    index = _chosen(queries, keys, real, real_keys, chosen)
    # (N, windows of the query, cells of the chosen windows, C)
    found = keys.flatten(0, 1)[_of_batch(index, keys.shape[1])].flatten(2, 3)
    mask = real_keys[index].flatten(2).bool()[:, :, None, None].flatten(0, 1) if masked else None
    of_heads = (x.flatten(0, 1).unflatten(2, (heads, -1)).transpose(1, 2) for x in (queries, found))
    q, kv = of_heads
    mixed = functional.scaled_dot_product_attention(q, kv, kv, attn_mask=mask, scale=channels**-0.5)
    return joined(mixed.transpose(1, 2).flatten(2).unflatten(0, index.shape[:2]), height, width)


@torch.no_grad()
def _chosen(queries: Tensor, keys: Tensor, real: Tensor, real_keys: Tensor, count: int) -> Tensor:
    """Return which key windows each query window takes, int64 (N, windows, count); `real`: 1 for cells that enter the means."""
    with full_precision(queries.device):
        of_queries, of_keys = (
            x.float().sum(dim=2) / cells.sum(dim=1).clamp_min(1)  # padding is 0
            for x, cells in ((queries, real), (keys, real_keys))
        )
        scores = of_queries @ of_keys.transpose(1, 2) * queries.shape[-1] ** -0.5
    scores = scores.masked_fill(real_keys.sum(dim=(1, 2)) == 0, -torch.inf)
    return scores.topk(min(count, keys.shape[1]), dim=2).indices


def _of_batch(index: Tensor, windows: int) -> Tensor:
    """Return indices (N, ...) of the windows of each of N images as indices of all windows in a row."""
    first = torch.arange(len(index), device=index.device) * windows
    return index + first[:, None, None]


class MixedLevel(nn.Module):
    """One level of the encoder, (B, C, G, G), whose views see each other in a number of blocks.

    Raises `InputError` for channels that the heads do not divide evenly.
    """

    position: Tensor

    def __init__(self, channels: int, grid: int, config: MVADConfig, level: int) -> None:
        super().__init__()
        if channels % math.lcm(2, config.heads):
            raise InputError(f"heads: {config.heads} do not divide the {channels} channels of a level evenly")
        self.config, self.chosen = config, config.chosen[level]
        self.side = windows_a_side(grid, self.chosen) if config.windows is None else config.windows[level]
        self.blocks = nn.ModuleList(Block(channels) for _ in range(config.attention_blocks[level]))
        self.draws = len(self.blocks) * (1 + grid**2 * channels * (EXPANSION + 1))
        at = position(grid, channels) if config.position else torch.zeros(1)
        self.register_buffer("position", at, persistent=False)

    def forward(self, x_bchw: Tensor, views: int, dropped: Dropped) -> Tensor:
        """Mix; so many images in a row are views of one object."""
        x = x_bchw.permute(0, 2, 3, 1)
        others = [[other for other in range(views) if other != view] for view in range(views)]
        windows = cut(x.unflatten(0, (-1, views)), self.side)[:, others].flatten(0, 1)
        for block in self.blocks:
            mixed = None
            if self.config.attention:
                masked = self.config.padding == "masked"
                of = x + self.position.to(x.dtype)
                mixed = adaptive_selection(of, windows, self.side, self.chosen, self.config.heads, masked=masked)
            x = block(x, mixed, dropped)
        return x.permute(0, 3, 1, 2)


class Block(nn.Module):
    """Cells (B, G, G, C) with what they have found in other views -> cells, each norm behind a sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(channels, eps=NORM_EPS) for _ in range(2))
        self.wide = nn.Linear(channels, EXPANSION * channels)
        self.narrow = nn.Linear(EXPANSION * channels, channels)

    def forward(self, x: Tensor, mixed: Tensor | None, dropped: Dropped) -> Tensor:
        """Add, and feed forward."""
        x = self.norm1(x if mixed is None else x + dropped.images(mixed))
        hidden = dropped.values(functional.relu(self.wide(x)))
        return self.norm2(x + dropped.values(self.narrow(hidden)))
