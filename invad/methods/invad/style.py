"""From an encoder's features to one style map per level: aggregation, phi^R (upsampler) and phi^S (style translator).

Features come fine to coarse; everything behind the aggregation counts levels from coarse to fine, the order of
generation.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from invad.config.types import AggregationKind
from invad.methods.invad.layers import ActivatedConv, Bottleneck, ConvNorm

UPSAMPLER_LR_MULTIPLIER = 0.01  # of the upsampling convolutions of the re-scaling upsampler, and of no other layer


class Squeeze(nn.Module):
    """1x1 convolution, BatchNorm and ReLU, then one bottleneck: to few channels on the same grid."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.projection = ConvNorm(in_channels, out_channels, 1, bias=False)
        self.bottleneck = Bottleneck(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        return self.bottleneck(functional.relu(self.projection(x)))


class Aggregation(nn.Module):
    """Squeeze all levels onto the coarsest grid, so that no spatially consistent shortcut survives.

    Finer levels come down by a learned strided convolution (the paper's) or, as an ablation, by average pooling.
    """

    def __init__(
        self, channels: Sequence[int], out_channels: int, kind: AggregationKind, strides: Sequence[int]
    ) -> None:
        """`strides`: how many times as high and wide as the coarsest level each is."""
        super().__init__()
        self.downsamplers = nn.ModuleList(
            ConvNorm(width, width, stride, bias=True) if kind == "strided" else nn.AvgPool2d(stride)
            for width, stride in zip(channels, strides, strict=True)
        )
        self.squeeze = Squeeze(sum(channels), out_channels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features fine to coarse -> a list of one (B, out, H_coarsest, W_coarsest)."""
        reduced = [downsampler(x) for downsampler, x in zip(self.downsamplers, features, strict=True)]
        return [self.squeeze(torch.cat(reduced, dim=1))]


class PerLevelAggregation(nn.Module):
    """Ablation: every level is squeezed on its own grid and levels do not meet."""

    def __init__(self, channels: Sequence[int], out_channels: Sequence[int]) -> None:
        super().__init__()
        self.squeezes = nn.ModuleList(Squeeze(*pair) for pair in zip(channels, out_channels, strict=True))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features fine to coarse -> one (B, out_l, H_l, W_l) per level, coarse to fine."""
        return [squeeze(x) for squeeze, x in zip(self.squeezes, features, strict=True)][::-1]


class RescalingUpsampler(nn.Module):
    """phi^R: two convolutions per level, coarse to fine; a level that `doubles` starts by doubling the grid of the one before.

    With `per_level` each level starts from its own aggregated features instead and nothing is upsampled.
    """

    def __init__(self, style_channels: Sequence[int], doubles: Sequence[bool], *, per_level: bool) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        previous = style_channels[0]
        for level, width in enumerate(style_channels):
            doubled = doubles[level] and not per_level
            source = width if per_level else previous
            first = ActivatedConv(source, width, UPSAMPLER_LR_MULTIPLIER if doubled else None)
            self.stages.append(nn.Sequential(first, ActivatedConv(width, width)))
            previous = width

    def forward(self, aggregated: list[Tensor]) -> list[Tensor]:
        """One aggregated map, or one per level -> (B, S_l, H_l, W_l) per level, all lists coarse to fine."""
        outputs: list[Tensor] = []
        for level, stage in enumerate(self.stages):
            outputs.append(stage(aggregated[level] if level < len(aggregated) else outputs[-1]))
        return outputs


class DirectResize(nn.Module):
    """Ablation of phi^R: the aggregated features, resized bilinearly to each level's grid; nothing is learned."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)

    def forward(self, aggregated: list[Tensor]) -> list[Tensor]:
        """One aggregated map, or one per level -> one map per level on the level's grid, all lists coarse to fine."""
        sources = aggregated if len(aggregated) > 1 else aggregated * len(self.sizes)
        return [
            functional.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
            for x, size in zip(sources, self.sizes, strict=True)
        ]


class StyleTranslator(nn.Module):
    """phi^S: per level, two convolutions turn upsampled features into a map of style codes."""

    def __init__(self, in_channels: Sequence[int], hidden_channels: Sequence[int], latent_channels: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(ActivatedConv(width, hidden), ActivatedConv(hidden, latent_channels))
            for width, hidden in zip(in_channels, hidden_channels, strict=True)
        )

    def forward(self, upsampled: list[Tensor]) -> list[Tensor]:
        """(B, S_l, H_l, W_l) per level -> (B, latent, H_l, W_l) per level, in the given order."""
        return [level(x) for level, x in zip(self.levels, upsampled, strict=True)]
