"""The network of InvAD as code in the style of StyleGAN2 writes it: the yardstick of the benchmarks.

A modulated convolution repeats its weight for every sample and folds the batch into the groups of one convolution, as if each sample
had a weight of its own. Everything else are plain out-of-place torch operations, written here once more, so that a faster
`invad.models` does not make its own yardstick faster. The aggregation, ordinary strided convolutions, is shared.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from invad.models import FeatureInversion
from invad.models.style import UPSAMPLER_LR_MULTIPLIER


class NaiveFeatureInversion(nn.Module):
    """Same parameters, inputs and outputs as the `FeatureInversion` it is made from, whose modules it takes over.

    Raises `ValueError` for a network with ablations.
    """

    def __init__(self, network: FeatureInversion) -> None:
        super().__init__()
        if network.ablations:
            raise ValueError(f"only the paper's network has a naive form, not one with {network.ablations}")
        for name, part in network.named_children():
            self.add_module(name, part)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features (B, C_l, H_l, W_l), fine to coarse -> their reconstructions in the same shapes and order."""
        [x] = self.aggregation(features)
        styles = []
        for level, ((first, second), translator) in enumerate(
            zip(self.upsampler.stages, self.style_translator.levels, strict=True)
        ):
            x = activated(x, first, UPSAMPLER_LR_MULTIPLIER if level > 0 else None)
            x = activated(x, second)
            style = x
            for layer in translator:
                style = activated(style, layer)
            styles.append(style)
        return self.decode(styles, features[0].shape[0])[::-1]

    def decode(self, styles: Sequence[Tensor], batch: int) -> list[Tensor]:
        """Style maps -> reconstructions, both coarse to fine."""
        x = activated(self.decoder.constant.repeat(batch, 1, 1, 1), self.decoder.stem)
        outputs = []
        for level, (blocks, style) in enumerate(zip(self.decoder.levels, styles, strict=True)):
            for number, block in enumerate(blocks):
                x = residual_block(x, style, block, upsample=level > 0 and number == 0)
            outputs.append(x)
        return outputs


def residual_block(x: Tensor, style: Tensor, block: nn.Module, *, upsample: bool) -> Tensor:
    """(B, in, H, W) -> (B, out, H, W), or (B, out, 2H, 2W) with `upsample`; the style is on the output's grid."""
    y = modulated_convolution(x, None if upsample else style, block.ssm1)
    y = modulated_convolution(y, style, block.ssm2)
    skip = upsampling_convolution(x, block.skip) if upsample else convolution(x, block.skip)
    return (y + skip) / math.sqrt(2)


def modulated_convolution(x: Tensor, style: Tensor | None, layer: nn.Module) -> Tensor:
    """Normalise, modulate, convolve with one weight per sample, activate; without a style it upsamples instead."""
    batch, channels, height, width = x.shape
    x = functional.layer_norm(x, x.shape[1:])
    if style is not None:
        x = x * convolution(style, layer.modulation.gamma) + convolution(style, layer.modulation.beta)
    x = x.reshape(1, batch * channels, height, width)
    weight = scaled(layer.convolution.weight).repeat(batch, 1, 1, 1)  # (B * out, in, 3, 3)
    if style is not None:
        y = functional.conv2d(x, weight, padding=1, groups=batch)
        y = y.reshape(batch, -1, height, width)
    else:
        weight = weight.reshape(batch, -1, channels, 3, 3).transpose(1, 2).reshape(batch * channels, -1, 3, 3)
        y = functional.conv_transpose2d(x, weight, stride=2, groups=batch)
        y = blur(y.reshape(batch, -1, *y.shape[2:]), layer.convolution.blur.kernel, padding=1)
    return activation(y, layer.activation)


def activated(x: Tensor, layer: nn.Module, upsample_lr_multiplier: float | None = None) -> Tensor:
    """An ordinary 3x3 convolution, upsampling where it has a learning-rate multiplier, and its activation."""
    if upsample_lr_multiplier is None:
        y = convolution(x, layer.convolution)
    else:
        y = upsampling_convolution(x, layer.convolution, upsample_lr_multiplier)
    return activation(y, layer.activation)


def convolution(x: Tensor, layer: nn.Module) -> Tensor:
    """(B, in, H, W) -> (B, out, H, W)."""
    return functional.conv2d(x, scaled(layer.weight), layer.bias, padding=layer.weight.shape[-1] // 2)


def upsampling_convolution(x: Tensor, layer: nn.Module, lr_multiplier: float = 1.0) -> Tensor:
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


def activation(x: Tensor, layer: nn.Module) -> Tensor:
    """Add the bias, leaky ReLU, times sqrt(2)."""
    x = x + layer.bias[:, None, None]
    x = functional.leaky_relu(x, negative_slope=0.2)
    return x * math.sqrt(2)
