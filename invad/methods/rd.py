"""RD, Reverse Distillation (CVPR 2022): what a decoder cannot recover of an encoder's features from a narrow embedding is anomalous.

Trained on normal images, the embedding has no room for what is anomalous. Public lists of levels run from fine to coarse; the decoder
counts them from coarse to fine, the order in which it runs.
"""

import functools
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from invad.config import RDConfig, ScoreConfig
from invad.devices import full_precision
from invad.errors import InputError
from invad.methods.base import Batch, EncoderOutput, Method, Position, Prediction, TrainingPhase, one_phase
from invad.methods.maps import float32_pairs, reconstruction_loss, resized

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
                *_resampling_conv(in_channels, out_channels, 3, resampling),
                nn.ReLU(),
                *_resampling_conv(out_channels, out_channels, 3, "none"),
            )
        else:
            self.body = nn.Sequential(
                *_resampling_conv(in_channels, width, 1, "none"),
                nn.ReLU(),
                *_resampling_conv(width, width, 3, resampling),
                nn.ReLU(),
                *_resampling_conv(width, out_channels, 1, "none"),
            )
        self.shortcut: nn.Module = nn.Identity()
        if resampling != "none":
            self.shortcut = nn.Sequential(*_resampling_conv(in_channels, out_channels, 1, resampling))
        self.activation: nn.Module = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W), (B, out, H / 2, W / 2) or (B, out, 2H, 2W)."""
        return self.activation(self.body(x) + self.shortcut(x))


class ReverseDistillation(nn.Module):
    """The network of RD without its encoder: features in, their reconstructions out.

    channels: of the encoder's levels, fine to coarse. strides: of the levels, each the one before or twice it; a level on the grid of
    the coarser one is brought to it by a convolution that does not stride, and decoded without doubling.
    block: of the ResNet that the encoder is, which the decoder mirrors: "basic" (resnet18, resnet34), "bottleneck"
    (resnet50) or "wide-bottleneck" (wide_resnet50_2).
    signed: the features can be negative, which a ResNet's cannot: the last block of each level ends without its ReLU.

    Levels meet on the coarsest grid (fusion), a further ResNet stage embeds them on half of that grid (embedding), and
    every stage of the decoder doubles the grid; its output is the reconstruction of a level.

    Raises `InputError` where a stride is neither that of the level before nor twice it.
    """

    def __init__(
        self,
        channels: Sequence[int],
        block: ResidualBlock = "bottleneck",
        *,
        signed: bool = False,
        strides: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.strides = tuple(strides or (2**level for level in range(len(channels))))
        steps: list[Resampling] = ["halve" if coarse > fine else "none" for fine, coarse in pairwise(self.strides)]
        if any(coarse not in (fine, 2 * fine) for fine, coarse in pairwise(self.strides)):
            raise InputError(f"levels: each stride must be that of the one before or twice it, got {self.strides}")
        coarsest = self.channels[-1]
        self.fusion = nn.ModuleList(
            _downsampler(self.channels[level:], steps[level:]) for level in range(len(channels))
        )
        divisor = None if block == "basic" else EMBEDDING_DIVISOR
        self.embedding = residual_stage(len(channels) * coarsest, 2 * coarsest, EMBEDDING_BLOCKS, divisor, "halve")
        self.decoder = Decoder(self.channels, block, signed=signed, steps=steps)
        self.apply(initialise)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features float (B, C_l, H_l, W_l), fine to coarse, coarsest height and width even -> reconstructions of the same shapes."""
        fused = torch.cat([downsampler(x) for downsampler, x in zip(self.fusion, features, strict=True)], dim=1)
        return self.decoder(self.embedding(fused))


class Decoder(nn.ModuleList):
    """A ResNet mirrored: from the embedding, (B, 2 C, H / 2, W / 2) for a coarsest level (B, C, H, W), to all levels, fine to coarse.

    `channels`, `block`, `signed`: see `ReverseDistillation`. `steps`: from each level to the next coarser one. `blocks`: see
    `inverted_stages`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        block: ResidualBlock,
        *,
        signed: bool,
        steps: Sequence[Resampling],
        blocks: tuple[int, ...] = DECODER_BLOCKS,
    ) -> None:
        doubling: list[Resampling] = ["double" if step == "halve" else "none" for step in reversed(steps)]
        stages = inverted_stages((2 * channels[-1], *reversed(channels)), ["double", *doubling], block, blocks)
        for stage in stages if signed else ():
            stage[-1].activation = nn.Identity()
        super().__init__(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Reconstruct the levels."""
        outputs = []
        for stage in self:
            x = stage(x)
            outputs.append(x)
        return outputs[::-1]


def inverted_stages(
    channels: Sequence[int],
    steps: Sequence[Resampling],
    block: ResidualBlock,
    blocks: tuple[int, ...] = DECODER_BLOCKS,
) -> list[nn.Sequential]:
    """Return the stages of an inverted ResNet, coarse to fine: from each number of channels to the next, the first block resamples.

    `blocks`: of each stage; any finer one has as many as the last.
    """
    counts = (*blocks, *blocks[-1:] * len(steps))
    return [
        residual_stage(before, after, count, DECODER_DIVISORS[block], step)
        for (before, after), step, count in zip(pairwise(channels), steps, counts, strict=False)
    ]


def _downsampler(channels: Sequence[int], steps: Sequence[Resampling]) -> nn.Sequential:
    """(B, channels[0], H, W) -> (B, channels[-1], H / 2**n, W / 2**n), n the number of steps that halve; no step is the identity."""
    pairs = zip(pairwise(channels), steps, strict=True)
    return nn.Sequential(*(layer for pair, step in pairs for layer in (*_resampling_conv(*pair, 3, step), nn.ReLU())))


def residual_stage(
    in_channels: int, out_channels: int, blocks: int, divisor: int | None, resampling: Resampling
) -> nn.Sequential:
    """Return blocks of a ResNet, of which the first resamples; bottlenecks as wide as the channels over `divisor`, None: basic blocks."""
    width = None if divisor is None else max(1, out_channels // divisor)
    further = (ResNetBlock(out_channels, out_channels, width) for _ in range(blocks - 1))
    return nn.Sequential(ResNetBlock(in_channels, out_channels, width, resampling), *further)


def _resampling_conv(
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


def initialise(module: nn.Module) -> None:
    """Start convolutions as ResNets do; BatchNorm starts at weight 1 and bias 0 by itself."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


# Of the learning rate, and of the gradient, by recipe.
STEPS = {"paper": (), "re-run": ((0.8, 0.1),)}
CLIP = {"paper": float("inf"), "re-run": 5.0}


class RD(Method):
    """The paper's method: `ReverseDistillation`, its loss of one cosine per level and its map, the sum of the levels' cosine distances.

    The learning rate is constant and the gradient is not clipped, as in the RD paper, which names neither a schedule nor clipping.
    `recipe: re-run` is that of the published comparison: clipped at 5, a tenth of the rate after 80 % of the epochs.
    """

    def __init__(self, output: EncoderOutput, config: RDConfig) -> None:
        super().__init__(output, config)
        self.config = config
        # The decoder mirrors a ResNet encoder. Features of any other encoder may be negative and are mirrored by basic blocks.
        block = residual_blocks(output.encoder)
        self.network = ReverseDistillation(
            output.channels, block or "basic", signed=block is None, strides=output.strides
        )

    def phases(self) -> Sequence[TrainingPhase]:
        """Return one: Adam with betas (0.5, 0.999) and no weight decay."""
        config = self.config
        return one_phase(
            lambda: Adam(self.parameters(), lr=config.learning_rate, betas=(0.5, 0.999)),
            config.epochs,
            STEPS[config.recipe],
            CLIP[config.recipe],
        )

    def loss(self, batch: Batch, position: Position) -> Tensor:
        """Return the sum over levels of one minus the cosine of the whole level, flattened; in [0, 2 * levels]."""
        return reconstruction_loss(batch.features, self.network(batch.features), kind="cosine")

    def predict(self, batch: Batch, score: ScoreConfig) -> Prediction:
        """Return maps in [0, 2 * levels]: the levels' cosine distances, resized to the image and summed."""
        return Prediction(summed_distances(batch.features, self.network(batch.features), self.output.image_size))


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
