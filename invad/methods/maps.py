"""From features and their reconstructions to losses and anomaly maps (arXiv:2404.10760; steps as in the authors' code)."""

import functools
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from invad.config.types import Loss, MapDistance, MapLevels
from invad.devices import full_precision
from invad.errors import InputError

TRUNCATE = 4.0  # radius of the blur in sigmas
Pair = tuple[Tensor, Tensor]  # a level's features and their reconstruction
LEVEL_INDEX: dict[MapLevels, int] = {"fine": 0, "middle": 1, "coarse": -1}


def reconstruction_loss(
    features: Sequence[Tensor], reconstructions: Sequence[Tensor], weight: float = 1.0, kind: Loss = "l2"
) -> Tensor:
    """`weight` times the sum over levels of the mean squared error, a scalar (weight 1 for InvAD, 5 for InvAD-lite).

    Both lists hold (B, C_l, H_l, W_l); half precision is widened to float32 first. kind: "l1" is the mean absolute error,
    "cosine" one minus the cosine of each level, flattened, as Reverse Distillation has it, "local-cosine" the mean of one
    minus the cosine at each place. Raises `InputError` when their shapes differ, which broadcasting would hide.
    """
    return weight * torch.stack([LEVEL_LOSSES[kind](x, y) for x, y in float32_pairs(features, reconstructions)]).sum()


def float32_pairs(features: Sequence[Tensor], reconstructions: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Pair the levels, widened from half precision; `InputError` when their shapes differ, which broadcasting would hide."""
    if not features or [x.shape for x in features] != [y.shape for y in reconstructions]:
        raise InputError("reconstructions: expected one per level of features, in the same shapes")
    return [(_widened(x), _widened(y)) for x, y in zip(features, reconstructions, strict=True)]


def _widened(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def cosine_loss(x: Tensor, y: Tensor) -> Tensor:
    """One minus the cosine of the whole level (B, C, H, W), flattened; a scalar in [0, 2], the mean over the batch."""
    return (1 - functional.cosine_similarity(x.flatten(1), y.flatten(1), dim=1)).mean()


def local_cosine_loss(x: Tensor, y: Tensor) -> Tensor:
    """One minus the cosine at each place of a level (B, C, H, W); a scalar in [0, 2], the mean over batch and places."""
    return (1 - functional.cosine_similarity(x, y, dim=1)).mean()


LEVEL_LOSSES: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "l2": lambda x, y: functional.mse_loss(y, x),
    "l1": lambda x, y: functional.l1_loss(y, x),
    "cosine": cosine_loss,
    "local-cosine": local_cosine_loss,
}


def reconstruction_map(
    features: Sequence[Tensor],
    reconstructions: Sequence[Tensor],
    size: int | tuple[int, int],
    levels: MapLevels = "concatenated",
    distance: MapDistance = "cosine",
) -> Tensor:
    """Maps float32 (B, height, width) of features and reconstructions, float (B, C_l, H_l, W_l), fine to coarse.

    size: in pixels, one number or (height, width).
    levels: all concatenated (the paper's), the sum of the levels' maps, or one level: the finest, second finest or coarsest.
    distance: 1 - cosine of the levels' unit vectors (the paper's), in [0, 2] up to rounding, or the length of the features' difference
    ("l2"). Raises `InputError` when the shapes of features and reconstructions differ.
    """
    pairs = float32_pairs(features, reconstructions)
    if levels in LEVEL_INDEX:
        pairs = [pairs[LEVEL_INDEX[levels]]]
    with full_precision(features[0].device):
        groups = [[pair] for pair in pairs] if levels == "sum" else [pairs]
        maps_bhw = [resized(DISTANCES[distance](group), size) for group in groups]
    return torch.stack(maps_bhw).sum(dim=0)


def resized(maps_bhw: Tensor, size: int | tuple[int, int], *, align_corners: bool = True) -> Tensor:
    """Return maps (B, H, W) resized bilinearly to `size` in pixels, one number or (height, width)."""
    height_width = (size, size) if isinstance(size, int) else size
    if maps_bhw.shape[-2:] == height_width:
        return maps_bhw
    resized_b1hw = functional.interpolate(
        maps_bhw.unsqueeze(1), size=height_width, mode="bilinear", align_corners=align_corners
    )
    return resized_b1hw.squeeze(1)


def mean_filtered_maximum(maps_bhw: Tensor, side: int, padding: int = 0) -> Tensor:
    """Return (B,) the maxima of maps after a mean filter of `side` x `side`, stride 1, with `padding` zeros that count."""
    return functional.avg_pool2d(maps_bhw.unsqueeze(1), side, stride=1, padding=padding).amax(dim=(1, 2, 3))


def _cosine_distances(pairs: Sequence[Pair]) -> Tensor:
    """One minus the cosine of the levels' unit vectors concatenated, (B, H, W) on the grid of the first, the finest level.

    The sums run level by level, which saves the concatenated copy.
    """
    grid = pairs[0][0].shape[-2:]
    products, x_squares, y_squares = [], [], []
    for pair in pairs:
        x, y = (on_grid(functional.normalize(z.float(), dim=1), grid) for z in pair)
        products.append((x * y).sum(dim=1))
        x_squares.append(x.square().sum(dim=1))
        y_squares.append(y.square().sum(dim=1))
    lengths = _summed(x_squares).sqrt() * _summed(y_squares).sqrt()
    return 1 - _summed(products) / lengths.clamp_min(1e-8)


def _l2_distances(pairs: Sequence[Pair]) -> Tensor:
    """The length of the difference of the levels concatenated, as they are, (B, H, W) on the grid of the first."""
    grid = pairs[0][0].shape[-2:]
    return _summed(on_grid(x.float() - y.float(), grid).square().sum(dim=1) for x, y in pairs).sqrt()


def _summed(parts: Iterable[Tensor]) -> Tensor:
    return functools.reduce(torch.add, parts)


DISTANCES: dict[MapDistance, Callable[[Sequence[Pair]], Tensor]] = {"cosine": _cosine_distances, "l2": _l2_distances}


def on_grid(x: Tensor, grid: torch.Size) -> Tensor:
    """Return (B, C, H, W) on another grid: bilinear samples of it, corners on corners."""
    return x if x.shape[-2:] == grid else functional.interpolate(x, size=grid, mode="bilinear", align_corners=True)


def gaussian_blur(maps_bhw: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (B, H, W) maps, within 1e-5 of `scipy.ndimage.gaussian_filter(map, sigma, mode="reflect")`.

    sigma in pixels, 0 for none. Runs on the maps' device and returns float32.
    """
    if sigma == 0:
        return maps_bhw.float()
    # One matrix product per axis: several times faster than convolving one channel, and any radius is the same case. In
    # float64, which neither autocast nor TF32 touches.
    height, width = (blur_matrix(length, sigma).to(maps_bhw.device) for length in maps_bhw.shape[1:])
    return (height @ maps_bhw.double() @ width.T).float()


def blur_matrix(length: int, sigma: float) -> Tensor:
    """(length, length) float64: row i holds the weights with which the samples of a line enter its blurred sample i."""
    radius = int(TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    taps = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    # Reflection about the outer edges of the border samples (d c b a | a b c d | d c b a) repeats every 2 * length
    # samples.
    sources = (torch.arange(length)[:, None] + offsets) % (2 * length)
    sources = torch.minimum(sources, 2 * length - 1 - sources)
    matrix = torch.zeros(length, length, dtype=torch.float64)
    return matrix.scatter_add_(1, sources, (taps / taps.sum()).expand(length, -1))


def summed_distances(features: Sequence[Tensor], reconstructions: Sequence[Tensor], size: int) -> Tensor:
    """Return the levels' cosine distances, resized and summed, float32 (B, size, size); `InputError` for shapes that differ."""
    pairs = float32_pairs(features, reconstructions)
    with full_precision(pairs[0][0].device):
        distances = [1 - functional.cosine_similarity(x, y, dim=1) for x, y in pairs]
        return torch.stack([resized(distance, size) for distance in distances], dim=1).sum(dim=1)
