"""What an export computes, beside what the model itself computes: no file is written before the two have been compared."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

TOLERANCE = 1e-4  # of scores and maps; times the largest value of the maps where that is above 1
RANDOM_BATCHES = (1, 3)  # images in each
Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]  # scores (B,) and maps (B, S, S)
Runtime = Callable[[NDArray[np.uint8]], Outputs]  # of images (B, S, S, 3)


@dataclass(frozen=True)
class Difference:
    """How far an export is from its model.

    Attributes:
        images: On how many images.
        maps, mean: The largest and the mean absolute difference of the maps' pixels.
        scores: The largest absolute difference of the scores.
        scale: The largest value of the model's maps, or 1 where that is larger.
        decisions: How many images are decided otherwise; None without an image threshold.
    """

    images: int
    maps: float
    mean: float
    scores: float
    scale: float
    decisions: int | None

    @property
    def is_rounding(self) -> bool:
        """Whether scores and maps differ by no more than `TOLERANCE`; never where one of them is no number."""
        return all(difference <= TOLERANCE * self.scale for difference in (self.maps, self.scores))


def compare(
    model: Runtime, export: Runtime, batches: Iterable[NDArray[np.uint8]], threshold: float | None = None
) -> Difference:
    """Run a model and its export on batches of images, uint8 (B, S, S, 3); `threshold` is that of the image score."""
    pairs = [(*model(batch), *export(batch)) for batch in batches]
    scores, maps, other_scores, other_maps = (
        np.concatenate(parts).astype(np.float64) for parts in zip(*pairs, strict=True)
    )
    of_maps = np.abs(maps - other_maps)
    return Difference(
        images=len(scores),
        maps=float(of_maps.max()),
        mean=float(of_maps.mean()),
        scores=float(np.abs(scores - other_scores).max()),
        scale=max(1.0, float(maps.max())),
        decisions=None if threshold is None else int(((scores > threshold) != (other_scores > threshold)).sum()),
    )


def random_batches(size: int) -> list[NDArray[np.uint8]]:
    """Return batches of noise, uint8 (B, size, size, 3), always the same, of more than one length."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (length, size, size, 3), np.uint8) for length in RANDOM_BATCHES]


def torch_runtime(module: nn.Module) -> Runtime:
    """Return a module that PyTorch runs on the CPU."""

    @torch.inference_mode()
    def run(images_bhwc: NDArray[np.uint8]) -> Outputs:
        scores, maps = module(torch.from_numpy(images_bhwc))
        return scores.numpy(), maps.numpy()

    return run
