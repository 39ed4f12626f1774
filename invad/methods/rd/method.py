"""RD: what a decoder cannot recover of the encoder's features from a narrow embedding is anomalous (Reverse Distillation, CVPR 2022)."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from invad.config import RDConfig, check_image_size
from invad.errors import InputError
from invad.methods.base import EncoderOutput, Method
from invad.methods.invad.network import float32_pairs, reconstruction_loss
from invad.methods.maps import gaussian_blur
from invad.methods.rd.network import BlockKind, ReverseDistillation

# The decoder mirrors a ResNet encoder. Features of any other encoder may be negative and are mirrored by basic blocks.
RESNET_BLOCKS: dict[str, BlockKind] = {
    "resnet18": "basic",
    "resnet34": "basic",
    "resnet50": "bottleneck",
    "wide_resnet50_2": "wide-bottleneck",
}


class RD(Method):
    """The paper's method: `ReverseDistillation`, its loss of one cosine per level and its map, the sum of the levels' cosine distances.

    The learning rate is constant and the gradient is not clipped, as in the RD paper, which names neither a schedule nor clipping;
    what InvAD's authors used for their comparison is not known here.

    Raises `InputError` for an image size that is no multiple of 32: the embedding halves the coarsest grid once more.
    """

    max_gradient_norm = float("inf")

    def __init__(self, output: EncoderOutput, config: RDConfig) -> None:
        super().__init__(output, config)
        try:
            check_image_size(output.image_size, config.SIZE_MULTIPLE)
        except ValueError as error:
            raise InputError(str(error)) from None
        self.config = config
        self.network = ReverseDistillation(
            output.channels,
            RESNET_BLOCKS.get(output.encoder, "basic"),
            signed=output.encoder not in RESNET_BLOCKS,
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Reconstruct the features, fine to coarse, in the shapes of the input (B, C_l, H_l, W_l)."""
        return self.network(features)

    def loss(self, features: Sequence[Tensor], reconstructions: Sequence[Tensor]) -> Tensor:
        """Return the sum over levels of one minus the cosine of the whole level, flattened; in [0, 2 * levels]."""
        return reconstruction_loss(features, reconstructions, kind="cosine")

    def anomaly_map(
        self, features: Sequence[Tensor], reconstructions: Sequence[Tensor], size: int, sigma: float
    ) -> Tensor:
        """Return float32 maps (B, size, size) in [0, 2 * levels]: the levels' cosine distances, resized, summed and blurred."""
        pairs = float32_pairs(features, reconstructions)
        distances = [1 - functional.cosine_similarity(x, y, dim=1).unsqueeze(1) for x, y in pairs]
        resized = [
            functional.interpolate(d_b1hw, (size, size), mode="bilinear", align_corners=True) for d_b1hw in distances
        ]
        return gaussian_blur(torch.cat(resized, dim=1).sum(dim=1), sigma)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Return Adam with betas (0.5, 0.999) and no weight decay."""
        return Adam(parameters, lr=self.config.learning_rate, betas=(0.5, 0.999))

    def learning_rate(self, epoch: int) -> float:
        """Return the learning rate of `epoch`: the same for all."""
        return self.config.learning_rate
