"""Losses of methods that reconstruct an encoder's features."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from invad.config.types import Loss
from invad.errors import InputError


def reconstruction_loss(
    features: Sequence[Tensor], reconstructions: Sequence[Tensor], weight: float = 1.0, kind: Loss = "l2"
) -> Tensor:
    """`weight` times the sum over levels of the mean squared error, a scalar (weight 1 for InvAD, 5 for InvAD-lite).

    Both lists hold (B, C_l, H_l, W_l); half precision is widened to float32 first. kind: "l1" is the mean absolute error,
    "cosine" one minus the cosine of each level, flattened, as Reverse Distillation has it. Raises `InputError` when their
    shapes differ, which broadcasting would hide.
    """
    return weight * torch.stack([LEVEL_LOSSES[kind](x, y) for x, y in float32_pairs(features, reconstructions)]).sum()


def float32_pairs(features: Sequence[Tensor], reconstructions: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Pair the levels, widened from half precision; `InputError` when their shapes differ, which broadcasting would hide."""
    if [x.shape for x in features] != [y.shape for y in reconstructions]:
        raise InputError("reconstructions: expected the shapes of the features")
    return [(_widened(x), _widened(y)) for x, y in zip(features, reconstructions, strict=True)]


def _widened(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def cosine_loss(x: Tensor, y: Tensor) -> Tensor:
    """One minus the cosine of the whole level (B, C, H, W), flattened; a scalar in [0, 2], the mean over the batch."""
    return (1 - functional.cosine_similarity(x.flatten(1), y.flatten(1), dim=1)).mean()


LEVEL_LOSSES: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "l2": lambda x, y: functional.mse_loss(y, x),
    "l1": lambda x, y: functional.l1_loss(y, x),
    "cosine": cosine_loss,
}
