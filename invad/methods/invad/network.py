"""InvAD's trainable network: it learns to reproduce an encoder's features from a learned constant (arXiv:2404.10760).

What it cannot reproduce is anomalous. The frozen encoder is not part of it. Public lists of levels run from fine to
coarse; inside, the generating parts (upsampler, style translator, decoder) count levels from coarse to fine, the order
in which they run.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import get_args

import torch
from torch import Tensor, nn

from invad.config.types import AggregationKind, Modulation, ModulationTerms, Normalisation, Upsampler
from invad.errors import InputError
from invad.methods.invad.layers import ActivatedConv, ResidualBlock, StyleSettings
from invad.methods.invad.style import (
    Aggregation,
    DirectResize,
    PerLevelAggregation,
    RescalingUpsampler,
    StyleTranslator,
)

# Every ablation switch: its choices, the paper's value first.
ABLATIONS: dict[str, tuple[object, ...]] = {
    "modulation": get_args(Modulation),
    "modulation_terms": get_args(ModulationTerms),
    "normalisation": get_args(Normalisation),
    "upsampler": get_args(Upsampler),
    "style_translator": (True, False),
    "aggregation": get_args(AggregationKind),
}


class Decoder(nn.Module):
    """phi^O: from a learned constant through residual blocks, all blocks of a level steered by its one style map."""

    def __init__(
        self,
        channels: Sequence[int],
        styles: Sequence[StyleSettings],
        blocks: int,
        constant_size: int,
        doubles: Sequence[bool],
    ) -> None:
        """`channels`, `styles` and `doubles` coarse to fine; `blocks` per level."""
        super().__init__()
        previous = channels[0]
        self.constant = nn.Parameter(torch.randn(1, previous, constant_size, constant_size))
        self.stem = ActivatedConv(previous, previous)
        self.levels = nn.ModuleList()
        for level, (width, style) in enumerate(zip(channels, styles, strict=True)):
            first = ResidualBlock(previous, width, style, upsample=doubles[level])
            self.levels.append(nn.ModuleList([first, *(ResidualBlock(width, width, style) for _ in range(blocks - 1))]))
            previous = width

    def forward(self, styles: Sequence[Tensor | None], batch: int) -> list[Tensor]:
        """Style maps coarse to fine -> reconstructions (B, C_l, H_l, W_l) coarse to fine."""
        x = self.stem(self.constant).expand(batch, -1, -1, -1)  # the same for every sample, so computed once
        outputs = []
        for blocks, style in zip(self.levels, styles, strict=True):
            for block in blocks.children():
                x = block(x, style)
            outputs.append(x)
        return outputs


class FeatureInversion(nn.Module):
    """The network of InvAD without its encoder: features in, their reconstructions out.

    channels: of the encoder's levels, fine to coarse.
    style_channels: a level's style has `min(channels[l], style_channels)` channels before the style translator.
    latent_channels: channels of the style codes. blocks: residual blocks per level.
    grids: height and width of each level, fine to coarse: those of the one before or half of them. A level on the grid of the
    coarser one is generated from it without upsampling.
    constant_size: without `grids`, height and width of the coarsest level, where each level halves the one before.

    The keyword-only arguments are the ablations of the paper, its own choice as default:
    modulation: "space-aware"; "global" has one style per channel; "none" drops the style altogether, so that the output
    ignores the input.
    modulation_terms: "both" gamma and beta, or one of them.
    normalisation: of the input of a modulated convolution: "layer", "instance", "batch", "group" or "none".
    upsampler: "rescaling" by learned convolutions, or "resize" of the aggregated features.
    style_translator: without it the upsampled features themselves are the style, and there are no latent channels.
    aggregation: "strided" convolutions, "average" pooling, or "per-level" without aggregation.

    Raises `InputError` that names the argument.
    """

    def __init__(
        self,
        channels: Sequence[int],
        style_channels: int = 64,
        latent_channels: int = 16,
        blocks: int = 2,
        constant_size: int = 16,
        *,
        grids: Sequence[int] | None = None,
        modulation: Modulation = "space-aware",
        modulation_terms: ModulationTerms = "both",
        normalisation: Normalisation = "layer",
        upsampler: Upsampler = "rescaling",
        style_translator: bool = True,
        aggregation: AggregationKind = "strided",
    ) -> None:
        super().__init__()
        sizes = {"style_channels": style_channels, "latent_channels": latent_channels}
        _check_sizes(channels, {**sizes, "blocks": blocks, "constant_size": constant_size})
        switches = {
            "modulation": modulation,
            "modulation_terms": modulation_terms,
            "normalisation": normalisation,
            "upsampler": upsampler,
            "style_translator": style_translator,
            "aggregation": aggregation,
        }
        _check_switches(switches)
        #: the switches that are not the paper's
        self.ablations = {name: value for name, value in switches.items() if value != ABLATIONS[name][0]}
        self.channels = tuple(channels)
        doubled = (constant_size * 2**level for level in reversed(range(len(channels))))
        self.sizes = tuple(doubled if grids is None else grids)  # fine to coarse
        doubles = doublings(self.sizes)

        levels = self.channels[::-1]  # coarse to fine, as everything below
        widths = [min(width, style_channels) for width in levels]
        per_level = aggregation == "per-level"
        self.aggregation: Aggregation | PerLevelAggregation | None = None
        self.upsampler: RescalingUpsampler | DirectResize | None = None
        self.style_translator: StyleTranslator | None = None
        style_widths = [0] * len(levels)
        if modulation != "none":  # else nothing would use these parts
            self.aggregation = (
                PerLevelAggregation(self.channels, widths[::-1])
                if per_level
                else Aggregation(self.channels, widths[0], aggregation, [size // self.sizes[-1] for size in self.sizes])
            )
            if upsampler == "rescaling":
                self.upsampler = RescalingUpsampler(widths, doubles, per_level=per_level)
                style_widths = widths
            else:
                self.upsampler = DirectResize(self.sizes[::-1])
                style_widths = widths if per_level else [widths[0]] * len(levels)
            if style_translator:
                self.style_translator = StyleTranslator(style_widths, widths, latent_channels)
                style_widths = [latent_channels] * len(levels)
        styles = [StyleSettings(width, modulation, modulation_terms, normalisation) for width in style_widths]
        self.decoder = Decoder(levels, styles, blocks, self.sizes[-1], doubles)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Reconstruct an encoder's features.

        `features` float (B, C_l, H_l, W_l), fine to coarse; the reconstructions have the same shapes and order. Raises
        `InputError` when the shapes are not those the network was built for.
        """
        self._check_features(features)
        styles: list[Tensor] | list[None] = [None] * len(features)
        if self.aggregation is not None and self.upsampler is not None:
            styles = self.upsampler(self.aggregation(features))
            if self.style_translator is not None:
                styles = self.style_translator(styles)
        return self.decoder(styles, features[0].shape[0])[::-1]

    def _check_features(self, features: Sequence[Tensor]) -> None:
        if len(features) != len(self.channels):
            raise InputError(f"features: expected {len(self.channels)} levels, fine to coarse, got {len(features)}")
        for level, (x, width, size) in enumerate(zip(features, self.channels, self.sizes, strict=True)):
            expected = (features[0].shape[0], width, size, size)
            if tuple(x.shape) != expected:
                raise InputError(f"features[{level}]: expected shape {expected}, got {tuple(x.shape)}")


def _check_sizes(channels: Sequence[int], sizes: dict[str, int]) -> None:
    levels_fit = isinstance(channels, Sequence) and len(channels) >= 2
    if not levels_fit or not all(_is_positive_integer(width) for width in channels):
        raise InputError(f"channels: expected two or more positive integers, fine to coarse, got {channels!r}")
    for name, value in sizes.items():
        if not _is_positive_integer(value):
            raise InputError(f"{name}: expected a positive integer, got {value!r}")


def doublings(grids: Sequence[int]) -> list[bool]:
    """Return of each level, coarse to fine, whether its grid doubles that of the one before; `InputError` where it is another one."""
    coarse_to_fine = grids[::-1]
    for coarse, fine in pairwise(coarse_to_fine):
        if fine not in (coarse, 2 * coarse):
            raise InputError(
                f"levels: each must have the grid of the next coarser one, or twice that, got {tuple(grids)}"
            )
    return [False, *(fine != coarse for coarse, fine in pairwise(coarse_to_fine))]


def _is_positive_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _check_switches(switches: Mapping[str, object]) -> None:
    for name, value in switches.items():
        if value not in ABLATIONS[name]:
            raise InputError(f"{name}: expected one of {', '.join(map(repr, ABLATIONS[name]))}, got {value!r}")
    if switches["modulation"] == "none":
        for name in ("modulation_terms", "upsampler", "style_translator", "aggregation"):
            if switches[name] != ABLATIONS[name][0]:
                raise InputError(f"{name}: has no effect with modulation 'none', expected {ABLATIONS[name][0]!r}")
