"""RD, Reverse Distillation (CVPR 2022): what a decoder cannot recover of an encoder's features from a narrow embedding is anomalous.

Trained on normal images, the embedding has no room for what is anomalous. Public lists of levels run from fine to coarse; the decoder
counts them from coarse to fine, the order in which it runs.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.optim import Adam

from invad.config import RDConfig, ScoreConfig
from invad.errors import InputError
from invad.methods.base import Batch, EncoderOutput, Method, Position, Prediction, TrainingPhase, one_phase
from invad.methods.maps import reconstruction_loss, summed_distances
from invad.methods.resnet import (
    EMBEDDING_BLOCKS,
    EMBEDDING_DIVISOR,
    Decoder,
    Resampling,
    ResidualBlock,
    initialise,
    resampling_conv,
    residual_blocks,
    residual_stage,
)


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


def _downsampler(channels: Sequence[int], steps: Sequence[Resampling]) -> nn.Sequential:
    """(B, channels[0], H, W) -> (B, channels[-1], H / 2**n, W / 2**n), n the number of steps that halve; no step is the identity."""
    pairs = zip(pairwise(channels), steps, strict=True)
    return nn.Sequential(*(layer for pair, step in pairs for layer in (*resampling_conv(*pair, 3, step), nn.ReLU())))


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
