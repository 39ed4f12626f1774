"""The network of InvAD as code in the style of StyleGAN2 writes it: the yardstick of the benchmarks.

A modulated convolution repeats its weight for every sample and folds the batch into the groups of one convolution, as if each sample
had a weight of its own. Everything else are plain out-of-place torch operations, written here once more, so that a faster
`invad.methods.invad` does not make its own yardstick faster. The aggregation, ordinary strided convolutions, is shared.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional

from invad.methods.invad.layers import (
    ActivatedConv,
    EqualisedConv2d,
    FusedLeakyReLU,
    ResidualBlock,
    SpaceAwareConv2d,
    UpsamplingConv2d,
)
from invad.methods.invad.network import UPSAMPLER_LR_MULTIPLIER, FeatureInversion, RescalingUpsampler

Kind = TypeVar("Kind", bound=nn.Module)


def of_kind(kind: type[Kind], modules: Iterable[nn.Module]) -> Iterator[Kind]:
    """Yield modules that are all of one kind, of which torch's containers know nothing; `TypeError` for another one."""
    for module in modules:
        if not isinstance(module, kind):
            raise TypeError(f"expected a {kind.__name__}, got {type(module).__name__}")
        yield module


class NaiveFeatureInversion(nn.Module):
    """Same parameters, inputs and outputs as the `FeatureInversion` it is made from, whose modules it takes over.

    Raises `ValueError` for a network with ablations.
    """

    def __init__(self, network: FeatureInversion) -> None:
        super().__init__()
        if not all(layer.is_the_papers for layer in network.modules() if isinstance(layer, SpaceAwareConv2d)):
            raise ValueError("only the paper's network has a naive form, not one with ablations")
        if network.aggregation is None or not isinstance(network.upsampler, RescalingUpsampler):
            raise TypeError("a network without ablations has an aggregation and the re-scaling upsampler")
        if network.style_translator is None:
            raise TypeError("a network without ablations has a style translator")
        self.aggregation, self.upsampler = network.aggregation, network.upsampler
        self.style_translator, self.decoder = network.style_translator, network.decoder

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features (B, C_l, H_l, W_l), fine to coarse -> their reconstructions in the same shapes and order."""
        [x] = self.aggregation(features)
        styles = []
        for stage, translator in zip(self.upsampler.stages, self.style_translator.levels, strict=True):
            for layer in of_kind(ActivatedConv, stage.children()):
                x = activated(x, layer, UPSAMPLER_LR_MULTIPLIER)
            style = x
            for layer in of_kind(ActivatedConv, translator.children()):
                style = activated(style, layer)
            styles.append(style)
        return self.decode(styles, features[0].shape[0])[::-1]

    def decode(self, styles: Sequence[Tensor], batch: int) -> list[Tensor]:
        """Style maps -> reconstructions, both coarse to fine."""
        x = activated(self.decoder.constant.repeat(batch, 1, 1, 1), self.decoder.stem)
        outputs = []
        for blocks, style in zip(self.decoder.levels, styles, strict=True):
            for block in of_kind(ResidualBlock, blocks.children()):
                x = residual_block(x, style, block)
            outputs.append(x)
        return outputs


def residual_block(x: Tensor, style: Tensor, block: ResidualBlock) -> Tensor:
    """(B, in, H, W) -> (B, out, H, W), or (B, out, 2H, 2W) where the block upsamples; the style is on the output's grid."""
    y = modulated_convolution(x, style, block.ssm1)
    y = modulated_convolution(y, style, block.ssm2)
    return (y + convolution(x, block.skip)) / math.sqrt(2)


def modulated_convolution(x: Tensor, style: Tensor, layer: SpaceAwareConv2d) -> Tensor:
    """Normalise, modulate, convolve with one weight per sample, activate; a layer that upsamples does not modulate."""
    batch, channels, height, width = x.shape
    x = functional.layer_norm(x, x.shape[1:])
    modulation = layer.modulation
    if modulation is not None and modulation.gamma is not None and modulation.beta is not None:
        x = x * convolution(style, modulation.gamma) + convolution(style, modulation.beta)
    x = x.reshape(1, batch * channels, height, width)
    weight = scaled(layer.convolution.weight).repeat(batch, 1, 1, 1)  # (B * out, in, 3, 3)
    if isinstance(layer.convolution, EqualisedConv2d):
        y = functional.conv2d(x, weight, padding=1, groups=batch)
        y = y.reshape(batch, -1, height, width)
    else:
        weight = weight.reshape(batch, -1, channels, 3, 3).transpose(1, 2).reshape(batch * channels, -1, 3, 3)
        y = functional.conv_transpose2d(x, weight, stride=2, groups=batch)
        y = blur(y.reshape(batch, -1, *y.shape[2:]), layer.convolution.blur.kernel, padding=1)
    return activation(y, layer.activation)


def activated(x: Tensor, layer: ActivatedConv, upsample_lr_multiplier: float = 1.0) -> Tensor:
    """An ordinary 3x3 convolution, with a learning-rate multiplier where it upsamples, and its activation."""
    return activation(convolution(x, layer.convolution, upsample_lr_multiplier), layer.activation)


def convolution(x: Tensor, layer: EqualisedConv2d | UpsamplingConv2d, upsample_lr_multiplier: float = 1.0) -> Tensor:
    """(B, in, H, W) -> (B, out, H, W), or (B, out, 2H, 2W) where the layer upsamples."""
    if isinstance(layer, UpsamplingConv2d):
        return upsampling_convolution(x, layer, upsample_lr_multiplier)
    return functional.conv2d(x, scaled(layer.weight), layer.bias, padding=layer.weight.shape[-1] // 2)


def upsampling_convolution(x: Tensor, layer: UpsamplingConv2d, lr_multiplier: float = 1.0) -> Tensor:
    """(B, in, H, W) -> (B, out, 2H, 2W)."""
    y = functional.conv_transpose2d(x, scaled(layer.weight, lr_multiplier).transpose(0, 1), stride=2)
    return blur(y, layer.blur.kernel, padding=(5 - layer.weight.shape[-1]) // 2)


def scaled(weight: Tensor, lr_multiplier: float = 1.0) -> Tensor:
    """The equalised weight as it is used, (out, in, k, k)."""
    return weight * (lr_multiplier / math.sqrt(weight[0].numel()))


def blur(x: Tensor, kernel: Tensor, padding: int) -> Tensor:
    """(B, C, H, W) -> (B, C, H + 2 * padding - 3, W + 2 * padding - 3), every channel with the 4x4 kernel."""
    channels = x.shape[1]
    return functional.conv2d(x, kernel.expand(channels, 1, 4, 4), padding=padding, groups=channels)


def activation(x: Tensor, layer: FusedLeakyReLU) -> Tensor:
    """Add the bias, leaky ReLU, times sqrt(2)."""
    x = x + layer.bias[:, None, None]
    x = functional.leaky_relu(x, negative_slope=0.2)
    return x * math.sqrt(2)
