"""The layers InvAD is built from (arXiv:2404.10760; constants as in the authors' released implementation).

All tensors are float (B, C, H, W). Equalised weights are drawn from N(0, 1) and scaled at run time, so that one
learning rate suits every layer.

Between its convolutions the network is bound by memory: factors and biases are moved into the convolutions, activations
are made in place, and the modulation keeps less for the backward pass than autograd would.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from invad.config import InvADConfig
from invad.config.types import Normalisation
from invad.errors import InputError

NORM_EPS = 1e-5
NEGATIVE_SLOPE = 0.2
MAX_GROUPS = 32  # of group normalisation, the usual number (Wu and He, 2018)


class EqualisedConv2d(nn.Module):
    """Convolution of stride 1 that keeps height and width; the weight is used as `weight / sqrt(in_channels * k * k)`.

    `bias_init` is the first value of the bias; None leaves the bias out.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, bias_init: float | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = None if bias_init is None else nn.Parameter(torch.full((out_channels,), bias_init))
        self.scale = 1 / math.sqrt(in_channels * kernel_size**2)
        self.padding = kernel_size // 2

    def forward(self, x: Tensor, bias: Tensor | None = None, gain: float = 1.0) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W), with `bias` (out,) in place of its own if given, all times `gain`."""
        bias = self.bias if bias is None else bias
        bias = None if bias is None else bias * gain
        return functional.conv2d(x, self.weight * (self.scale * gain), bias, padding=self.padding)


class SymmetricFilter(torch.autograd.Function):
    """A fixed kernel, the same for every channel and equal to its mirror images, so that its gradient is the same filter.

    That is five times faster on a CPU than the general gradient of a convolution by channels.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, padding: int) -> Tensor:  # noqa: ANN401
        """(B, C, H, W) and (k, k) -> (B, C, H + 2 * padding - k + 1, W + 2 * padding - k + 1)."""
        ctx.save_for_backward(kernel)
        ctx.padding = padding
        return _filtered(x, kernel, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401 # pyrefly: ignore[bad-override]
        """The gradient of the output -> that of x."""
        (kernel,) = ctx.saved_tensors
        return _filtered(gradient, kernel, len(kernel) - 1 - ctx.padding), None, None


def _filtered(x: Tensor, kernel: Tensor, padding: int) -> Tensor:
    channels = x.shape[1]
    return functional.conv2d(x, kernel.to(x.dtype).expand(channels, 1, *kernel.shape), padding=padding, groups=channels)


class FirBlur(nn.Module):
    """Low-pass filter, `[1, 3, 3, 1]` along both axes, after an upsampling convolution.

    Its sum is 4, since upsampling puts three zeros beside each sample.
    """

    kernel: Tensor

    def __init__(self, padding: int) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        kernel = torch.outer(taps, taps)
        self.register_buffer("kernel", kernel / kernel.sum() * 4, persistent=False)
        self.padding = padding

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H + 2 * padding - 3, W + 2 * padding - 3), plus `bias` (C,)."""
        blurred = SymmetricFilter.apply(x, self.kernel, self.padding)
        return blurred if bias is None else blurred.add_(bias[:, None, None])


class UpsamplingConv2d(nn.Module):
    """Equalised transposed convolution of stride 2 and a blur: twice the height and width. `kernel_size` is 1 or 3.

    The weight is drawn from N(0, 1) / `lr_multiplier` and scaled by it: same values, but Adam moves them that much
    slower.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, lr_multiplier: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size) / lr_multiplier)
        self.scale = lr_multiplier / math.sqrt(in_channels * kernel_size**2)
        self.blur = FirBlur(padding=(5 - kernel_size) // 2)

    def forward(self, x: Tensor, bias: Tensor | None = None, gain: float = 1.0) -> Tensor:
        """(B, in, H, W) -> (B, out, 2H, 2W), plus `bias` (out,), all times `gain`."""
        weight = (self.weight * (self.scale * gain)).transpose(0, 1)  # conv_transpose2d wants (in, out, k, k)
        return self.blur(functional.conv_transpose2d(x, weight, stride=2), None if bias is None else bias * gain)


class FusedLeakyReLU(nn.Module):
    """A bias per channel, leaky ReLU of slope 0.2, times sqrt(2) to keep the variance; the convolution before takes bias and factor."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, convolution: EqualisedConv2d | UpsamplingConv2d, x: Tensor, *, leaky_relu: bool = True) -> Tensor:
        """(B, in, H, W) -> (B, C, H', W') as the convolution does; without the leaky ReLU the factor, being positive, is in it already."""
        x = convolution(x, self.bias, gain=math.sqrt(2))
        return functional.leaky_relu_(x, NEGATIVE_SLOPE) if leaky_relu else x


class ActivatedSum(torch.autograd.Function):
    """`(leaky_relu(x) + y) / sqrt(2)`; for the backward pass it keeps the signs of x alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:  # noqa: ANN401
        """Both (B, C, H, W) -> (B, C, H, W)."""
        ctx.save_for_backward(x > 0)
        return functional.leaky_relu(x, NEGATIVE_SLOPE).add_(y).div_(math.sqrt(2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401 # pyrefly: ignore[bad-override]
        """The gradient of the output -> those of x and y."""
        (is_positive,) = ctx.saved_tensors
        of_y = gradient / math.sqrt(2)
        signs = is_positive.view(torch.uint8).to(of_y.dtype)  # torch.where takes ten times as long on a CPU
        return torch.ops.aten.leaky_relu_backward(of_y, signs, NEGATIVE_SLOPE, False), of_y


class ActivatedConv(nn.Module):
    """Equalised 3x3 convolution, x2 upsampling if asked for, and its activation."""

    def __init__(self, in_channels: int, out_channels: int, upsample_lr_multiplier: float | None = None) -> None:
        super().__init__()
        self.convolution: EqualisedConv2d | UpsamplingConv2d
        if upsample_lr_multiplier is None:
            self.convolution = EqualisedConv2d(in_channels, out_channels, 3)
        else:
            self.convolution = UpsamplingConv2d(in_channels, out_channels, 3, upsample_lr_multiplier)
        self.activation = FusedLeakyReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W), or (B, out, 2H, 2W) when upsampling."""
        return self.activation(self.convolution, x)


class ConvNorm(nn.Module):
    """Ordinary convolution with stride = kernel size, then BatchNorm."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=kernel_size, bias=bias)
        self.norm = nn.BatchNorm2d(out_channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / kernel_size, W / kernel_size)."""
        return self.norm(self.conv(x))


class Bottleneck(nn.Module):
    """ResNet bottleneck with identity shortcut; the width is a quarter of the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = max(1, channels // 4)
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        return functional.relu(self.bn3(self.conv3(y)) + x)


def normalisation_layer(kind: Normalisation, channels: int) -> nn.Module:
    """Normalisation without parameters, with `NORM_EPS`; "layer" is over (C, H, W) of each sample, which is one group.

    "group" has the most groups, up to `MAX_GROUPS`, that leave two channels or more in each: neither layer nor instance norm. `InputError`
    where there are none.
    """
    if kind == "none":
        return nn.Identity()
    if kind == "batch":
        return nn.BatchNorm2d(channels, eps=NORM_EPS, affine=False)
    divisors = [count for count in range(2, MAX_GROUPS + 1) if channels % count == 0 and channels >= 2 * count]
    groups = {"layer": 1, "instance": channels}.get(kind) or max(divisors, default=0)
    if not groups:
        raise InputError(
            f"normalisation: 'group' needs channels that divide into groups of two or more, got {channels} channels"
        )
    return nn.GroupNorm(groups, channels, eps=NORM_EPS, affine=False)


class StyleModulation(nn.Module):
    """gamma and beta of `x * gamma(style) + beta(style)`.

    "space-aware": gamma and beta are 3x3 convolutions of the style map, so that each position has a style of its own.
    "global": the style map is averaged over its positions first, so that each channel has one gamma and one beta.
    """

    def __init__(self, channels: int, style_channels: int, config: InvADConfig) -> None:
        super().__init__()
        self.pool = config.modulation == "global"
        kernel_size = 1 if self.pool else 3
        with_gamma, with_beta = config.modulation_terms != "beta", config.modulation_terms != "gamma"
        self.gamma = EqualisedConv2d(style_channels, channels, kernel_size, bias_init=1.0) if with_gamma else None
        self.beta = EqualisedConv2d(style_channels, channels, kernel_size, bias_init=0.0) if with_beta else None

    def forward(self, style: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Style (B, S, H, W) -> gamma and beta (B, C, H, W), or (B, C, 1, 1) for "global"; None for a term that is switched off."""
        if self.pool:
            style = style.mean(dim=(2, 3), keepdim=True)
        gamma = None if self.gamma is None else self.gamma(style)
        return gamma, None if self.beta is None else self.beta(style)


class LayerNormModulation(torch.autograd.Function):
    """Layer normalisation over (C, H, W) and modulation in one, for gamma and beta of the shape of x.

    For the backward pass it keeps x, which the previous layer keeps anyway, and gamma. Autograd would keep the normalised x
    as well; it is cheap to compute again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:  # noqa: ANN401
        """All (B, C, H, W) -> (B, C, H, W)."""
        batch, channels, height, width = x.shape
        normalised, mean, rstd = torch.native_group_norm(x, None, None, batch, channels, height * width, 1, NORM_EPS)
        ctx.save_for_backward(x, gamma, mean, rstd)
        return torch.addcmul(beta, normalised, gamma)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401 # pyrefly: ignore[bad-override]
        """The gradient of the output -> those of x, gamma and beta."""
        x, gamma, mean, rstd = ctx.saved_tensors
        batch, channels, height, width = x.shape
        of_x, _, _ = torch.ops.aten.native_group_norm_backward(
            gradient * gamma, x, mean, rstd, None, batch, channels, height * width, 1, [True, False, False]
        )
        mean, rstd = mean[..., None, None], rstd[..., None, None]
        of_gamma = torch.addcmul(-mean * rstd, x, rstd).mul_(gradient)
        return of_x, of_gamma, gradient


class SpaceAwareConv2d(nn.Module):
    """Convolution with space-aware style modulation (SSM): normalise, modulate, convolve (3x3), activate.

    The style acts on the input, not on the weight: all samples share one ordinary convolution. With `upsample` the
    output has twice the height and width and the input is normalised but not modulated.
    """

    def __init__(
        self, in_channels: int, out_channels: int, style_channels: int, config: InvADConfig, *, upsample: bool = False
    ) -> None:
        super().__init__()
        self.normalisation = normalisation_layer(config.normalisation, in_channels)
        modulated = config.modulation != "none" and not upsample
        self.modulation = StyleModulation(in_channels, style_channels, config) if modulated else None
        switches = (config.modulation, config.modulation_terms, config.normalisation)
        self.is_the_papers = switches == ("space-aware", "both", "layer")
        convolution = UpsamplingConv2d if upsample else EqualisedConv2d
        self.convolution = convolution(in_channels, out_channels, 3)
        self.activation = FusedLeakyReLU(out_channels)

    def forward(self, x: Tensor, style: Tensor | None, *, leaky_relu: bool = True) -> Tensor:
        """x (B, in, H, W) -> (B, out, H, W), or (B, out, 2H, 2W) with `upsample`; style (B, S, H, W) modulates x."""
        return self.activation(self.convolution, self._modulated(x, style), leaky_relu=leaky_relu)

    def _modulated(self, x: Tensor, style: Tensor | None) -> Tensor:
        if self.modulation is None:
            return self.normalisation(x)
        if style is None:
            raise TypeError("style: is needed, since it modulates x")
        gamma, beta = self.modulation(style)
        if self.is_the_papers:
            return LayerNormModulation.apply(x, gamma, beta)
        x = self.normalisation(x)
        x = x if gamma is None else x * gamma
        return x if beta is None else x + beta


class ResidualBlock(nn.Module):
    """`(ssm2(ssm1(x)) + skip(x)) / sqrt(2)`; with `upsample`, ssm1 and skip double height and width."""

    def __init__(
        self, in_channels: int, out_channels: int, style_channels: int, config: InvADConfig, *, upsample: bool = False
    ) -> None:
        super().__init__()
        self.ssm1 = SpaceAwareConv2d(in_channels, out_channels, style_channels, config, upsample=upsample)
        self.ssm2 = SpaceAwareConv2d(out_channels, out_channels, style_channels, config)
        skip = UpsamplingConv2d if upsample else EqualisedConv2d
        self.skip = skip(in_channels, out_channels, 1)

    def forward(self, x: Tensor, style: Tensor | None) -> Tensor:
        """x (B, in, H, W), style on the output's grid -> (B, out, H, W), or (B, out, 2H, 2W) with `upsample`."""
        return ActivatedSum.apply(self.ssm2(self.ssm1(x, style), style, leaky_relu=False), self.skip(x))
