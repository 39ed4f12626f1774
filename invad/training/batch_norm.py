"""Batch normalisation over the global batch of several workers, on any device (torch's own `SyncBatchNorm` refuses the CPU)."""

from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce  # whose gradient is the sum over all workers too

Network = TypeVar("Network", bound=nn.Module)


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose statistics, in training, are those of the batches of all workers together.

    It has the same parameters and buffers. In eval mode, and where there is one worker only, it is `nn.BatchNorm2d`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, H, W); B, H and W may differ between the workers."""
        if not (self.training and _workers() > 1):
            return super().forward(input)
        self._check_input_dim(input)
        x = input.float()
        # Sums in float64: one of all workers is then rounded as that of one, whatever their number.
        here = x.new_full((1,), x.numel() / x.shape[1], dtype=torch.float64)  # values of each channel
        total, count = all_reduce(torch.cat([_sums(x), here])).split([x.shape[1], 1])
        mean = total / count
        # In two passes: the mean of squares less the square of the mean would lose the digits of a small variance.
        deviation = x - mean.float()[:, None, None]
        variance = all_reduce(_sums(deviation.square())) / count
        self._track(mean.detach(), variance.detach(), count.detach())
        scale = torch.rsqrt(variance + self.eps).float()
        if self.weight is not None:
            scale = scale * self.weight
        output = deviation * scale[:, None, None]
        if self.bias is not None:
            output = output + self.bias[:, None, None]
        return output.to(input.dtype)

    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics as `nn.BatchNorm2d` does, with the unbiased variance."""
        if self.num_batches_tracked is None or self.running_mean is None or self.running_var is None:
            return  # `track_running_stats` is false
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.float(), share)
        self.running_var.lerp_((variance * count / (count - 1)).float(), share)


class SynchronisedBatchNormAct2d(SynchronisedBatchNorm2d):
    """The same of timm's `BatchNormAct2d`, which has dropout and activation inside."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, H, W), then drop and activate."""
        return self.act(self.drop(super().forward(input)))


def synchronised(network: Network) -> Network:
    """Make every batch normalisation of `network`, torch's or timm's, a synchronised one, in place; parameters, buffers and names stay."""
    from timm.layers import BatchNormAct2d  # slow to import

    kinds: dict[type, type] = {nn.BatchNorm2d: SynchronisedBatchNorm2d, BatchNormAct2d: SynchronisedBatchNormAct2d}
    for module in network.modules():
        if type(module) in kinds:
            module.__class__ = kinds[type(module)]
            module.forward = torch.compiler.disable(module.forward)  # a collective is no part of a compiled graph
    return network


def _workers() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def _sums(x: Tensor) -> Tensor:
    """Return the sum of each channel of (B, C, H, W)."""
    return x.sum((0, 2, 3), dtype=torch.float64)
