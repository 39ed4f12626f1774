"""The parts of residual networks that reconstruct features: blocks, stages, and a decoder that mirrors an encoder."""

import functools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from invad.devices import full_precision
from invad.methods.maps import float32_pairs, resized

Resampling = Literal["none", "halve", "double"]
ResidualBlock = Literal["basic", "bottleneck", "wide-bottleneck"]

EMBEDDING_BLOCKS = 3
DECODER_BLOCKS = (3, 4, 6)  # coarse to fine; any finer level has as many as the last
EMBEDDING_DIVISOR = 4
# A bottleneck's width is its output channels divided by this; None stands for basic blocks, which have no width.
DECODER_DIVISORS: dict[ResidualBlock, int | None] = {"basic": None, "bottleneck": 4, "wide-bottleneck": 2}


class ResNetBlock(nn.Module):
    """`relu(body(x) + shortcut(x))`, where body is a bottleneck of `width` or, without one, a basic block of two convolutions.

    To halve the grid both paths stride; to double it both use a 2x2 transposed convolution of stride 2, the body in place
    of its (first) 3x3 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, width: int | None, resampling: Resampling = "none") -> None:
        super().__init__()
        if width is None:
            self.body = nn.Sequential(
                *resampling_conv(in_channels, out_channels, 3, resampling),
                nn.ReLU(),
                *resampling_conv(out_channels, out_channels, 3, "none"),
            )
        else:
            self.body = nn.Sequential(
                *resampling_conv(in_channels, width, 1, "none"),
                nn.ReLU(),
                *resampling_conv(width, width, 3, resampling),
                nn.ReLU(),
                *resampling_conv(width, out_channels, 1, "none"),
            )
        self.shortcut: nn.Module = nn.Identity()
        if resampling != "none":
            self.shortcut = nn.Sequential(*resampling_conv(in_channels, out_channels, 1, resampling))
        self.activation: nn.Module = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W), (B, out, H / 2, W / 2) or (B, out, 2H, 2W)."""
        return self.activation(self.body(x) + self.shortcut(x))


class Decoder(nn.ModuleList):
    """A ResNet mirrored: from the embedding, (B, 2 C, H / 2, W / 2) for a coarsest level (B, C, H, W), to all levels, fine to coarse.

    `channels`, `block`, `signed`: see `ReverseDistillation`. `steps`: from each level to the next coarser one. `blocks`: of each stage,
    coarse to fine; any finer one has as many as the last.
    """

    def __init__(
        self,
        channels: Sequence[int],
        block: ResidualBlock,
        *,
        signed: bool,
        steps: Sequence[Resampling],
        blocks: Sequence[int] = DECODER_BLOCKS,
    ) -> None:
        super().__init__()
        previous = 2 * channels[-1]
        for level, width in enumerate(reversed(channels)):
            doubles = level == 0 or steps[-level] == "halve"
            count, divisor = blocks[min(level, len(blocks) - 1)], DECODER_DIVISORS[block]
            stage = residual_stage(previous, width, count, divisor, "double" if doubles else "none")
            if signed:
                stage[-1].activation = nn.Identity()
            self.append(stage)
            previous = width

    def forward(self, x: Tensor) -> list[Tensor]:
        """Reconstruct the levels."""
        outputs = []
        for stage in self:
            x = stage(x)
            outputs.append(x)
        return outputs[::-1]


def residual_stage(
    in_channels: int, out_channels: int, blocks: int, divisor: int | None, resampling: Resampling
) -> nn.Sequential:
    """Return blocks of a ResNet, of which the first resamples; bottlenecks as wide as the channels over `divisor`, None: basic blocks."""
    width = None if divisor is None else max(1, out_channels // divisor)
    further = (ResNetBlock(out_channels, out_channels, width) for _ in range(blocks - 1))
    return nn.Sequential(ResNetBlock(in_channels, out_channels, width, resampling), *further)


def resampling_conv(
    in_channels: int, out_channels: int, kernel_size: int, resampling: Resampling
) -> tuple[nn.Module, nn.BatchNorm2d]:
    """Convolution without bias and BatchNorm; doubling takes a 2x2 kernel whatever `kernel_size`."""
    convolution: nn.Module
    if resampling == "double":
        convolution = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2, bias=False)
    else:
        stride = 2 if resampling == "halve" else 1
        convolution = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False
        )
    return convolution, nn.BatchNorm2d(out_channels)


def summed_distances(features: Sequence[Tensor], reconstructions: Sequence[Tensor], size: int) -> Tensor:
    """Return the levels' cosine distances, resized and summed, float32 (B, size, size); `InputError` for shapes that differ."""
    pairs = float32_pairs(features, reconstructions)
    with full_precision(pairs[0][0].device):
        distances = [1 - functional.cosine_similarity(x, y, dim=1) for x, y in pairs]
        return torch.stack([resized(distance, size) for distance in distances], dim=1).sum(dim=1)


@functools.cache
def residual_blocks(name: str) -> ResidualBlock | None:
    """Return of which blocks a ResNet of timm consists; None for any other architecture, and for a name that timm does not know."""
    import timm  # slow to import
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet

    with torch.device("meta"):
        network = timm.create_model(name) if timm.is_model(name) else None
    if not isinstance(network, ResNet):
        return None
    block = next(module for module in network.modules() if isinstance(module, BasicBlock | Bottleneck))
    if isinstance(block, BasicBlock):
        return "basic"
    if block.conv2.groups > 1:  # a ResNeXt
        return None
    return "bottleneck" if 4 * block.conv2.out_channels == block.conv3.out_channels else "wide-bottleneck"
