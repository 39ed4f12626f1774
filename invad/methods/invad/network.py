"""InvAD (arXiv:2404.10760): what a generator, steered by Space-aware Style Modulation, cannot reproduce of features is anomalous.

The frozen encoder is no part of the network, which learns to reproduce its features from a learned constant. Public lists of levels run
from fine to coarse; inside, the generating parts (upsampler, style translator, decoder) count levels from coarse to fine, the order in
which they run.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from invad.config import InvADConfig, ScoreConfig
from invad.config.types import AggregationKind
from invad.errors import InputError
from invad.methods.base import Batch, EncoderOutput, Method, Position, Prediction, TrainingPhase, one_phase
from invad.methods.invad.layers import ActivatedConv, Bottleneck, ConvNorm, ResidualBlock
from invad.methods.maps import reconstruction_loss, reconstruction_map

STEPS = ((0.8, 0.1),)  # of the learning rate: a tenth after 80 % of the epochs
CLIP = 5.0
UPSAMPLER_LR_MULTIPLIER = 0.01  # of the upsampling convolutions of the re-scaling upsampler, and of no other layer
ENCODER_PREFIX = "net_encoder."  # of names in the authors' checkpoints
# What becomes of a name here, one after the other; digits of the authors count the layers of a block.
RENAMED = {
    r"^aggregation\.downsamplers\.": "net_fuser.downsamples.",
    r"^aggregation\.squeeze\.projection\.": "net_fuser.conv_cat.",
    r"^aggregation\.squeeze\.bottleneck\.": "net_fuser.conv_bottle.0.",
    r"^upsampler\.stages\.": "net_fuser.convs.",
    r"^style_translator\.levels\.": "net_decoder.convs_latent.",
    r"^decoder\.constant$": "net_decoder.input.input",
    r"^decoder\.stem\.": "net_decoder.conv1.0.",
    r"^decoder\.levels\.": "net_decoder.convs.",
    r"\.ssm(\d)\.(convolution|modulation)\.": r".conv\1.conv.",
    r"\.ssm(\d)\.activation\.": r".conv\1.activate.",
    r"\.skip\.weight$": ".skip.0.weight",
    r"\.skip\.blur\.": ".skip.1.",
    r"^(net_fuser\.convs\.[1-9]\d*\.0)\.activation\.": r"\1.2.",  # behind the blur of what upsamples
    r"\.(convolution\.blur|activation)\.": ".1.",
    r"\.convolution\.": ".0.",
}


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


class Decoder(nn.Module):
    """phi^O: from a learned constant through residual blocks, all blocks of a level steered by its one style map."""

    def __init__(
        self,
        channels: Sequence[int],
        style_channels: Sequence[int],
        constant_size: int,
        doubles: Sequence[bool],
        config: InvADConfig,
    ) -> None:
        """All lists coarse to fine."""
        super().__init__()
        previous = channels[0]
        self.constant = nn.Parameter(torch.randn(1, previous, constant_size, constant_size))
        self.stem = ActivatedConv(previous, previous)
        self.levels = nn.ModuleList()
        for width, style_width, upsample in zip(channels, style_channels, doubles, strict=True):
            blocks = [ResidualBlock(previous, width, style_width, config, upsample=upsample)]
            blocks += [ResidualBlock(width, width, style_width, config) for _ in range(config.blocks - 1)]
            self.levels.append(nn.ModuleList(blocks))
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
    grids: height and width of each level, fine to coarse: those of the one before or half of them. A level on the grid of the
    coarser one is generated from it without upsampling.

    The settings, of which the paper has the defaults:
    style_channels: a level's style has `min(channels[l], style_channels)` channels before the style translator.
    latent_channels: channels of the style codes. blocks: residual blocks per level.
    modulation: "space-aware"; "global" has one style per channel; "none" drops the style altogether, and with it all that makes it, so
    that the output ignores the input.
    modulation_terms: "both" gamma and beta, or one of them.
    normalisation: of the input of a modulated convolution: "layer", "instance", "batch", "group" or "none".
    upsampler: "rescaling" by learned convolutions, or "resize" of the aggregated features.
    style_translator: without it the upsampled features themselves are the style, and there are no latent channels.
    aggregation: "strided" convolutions, "average" pooling, or "per-level" without aggregation.
    """

    def __init__(self, channels: Sequence[int], grids: Sequence[int], config: InvADConfig) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.sizes = tuple(grids)  # fine to coarse
        doubles = doublings(self.sizes)

        levels = self.channels[::-1]  # coarse to fine, as everything below
        widths = [min(width, config.style_channels) for width in levels]
        per_level = config.aggregation == "per-level"
        self.aggregation: Aggregation | PerLevelAggregation | None = None
        self.upsampler: RescalingUpsampler | DirectResize | None = None
        self.style_translator: StyleTranslator | None = None
        style_widths = [0] * len(levels)
        if config.modulation != "none":  # else nothing would use these parts
            self.aggregation = (
                PerLevelAggregation(self.channels, widths[::-1])
                if config.aggregation == "per-level"
                else Aggregation(
                    self.channels, widths[0], config.aggregation, [size // self.sizes[-1] for size in self.sizes]
                )
            )
            if config.upsampler == "rescaling":
                self.upsampler = RescalingUpsampler(widths, doubles, per_level=per_level)
                style_widths = widths
            else:
                self.upsampler = DirectResize(self.sizes[::-1])
                style_widths = widths if per_level else [widths[0]] * len(levels)
            if config.style_translator:
                self.style_translator = StyleTranslator(style_widths, widths, config.latent_channels)
                style_widths = [config.latent_channels] * len(levels)
        self.decoder = Decoder(levels, style_widths, self.sizes[-1], doubles, config)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features float (B, C_l, H_l, W_l), fine to coarse -> their reconstructions in the same shapes and order."""
        styles: list[Tensor] | list[None] = [None] * len(features)
        if self.aggregation is not None and self.upsampler is not None:
            styles = self.upsampler(self.aggregation(features))
            if self.style_translator is not None:
                styles = self.style_translator(styles)
        return self.decoder(styles, features[0].shape[0])[::-1]


def doublings(grids: Sequence[int]) -> list[bool]:
    """Return of each level, coarse to fine, whether its grid doubles that of the one before; `InputError` where it is another one."""
    coarse_to_fine = grids[::-1]
    for coarse, fine in pairwise(coarse_to_fine):
        if fine not in (coarse, 2 * coarse):
            raise InputError(
                f"levels: each must have the grid of the next coarser one, or twice that, got {tuple(grids)}"
            )
    return [False, *(fine != coarse for coarse, fine in pairwise(coarse_to_fine))]


class InvAD(Method):
    """The paper's method: `FeatureInversion`, its L2 loss over raw features and its cosine map over all levels (paper, section 3).

    `standardised` has no source: channels of an encoder differ in size by orders of magnitude, and the largest ones alone decide on an L2
    loss. Their means and deviations are those of the batch while it trains, and of all batches afterwards.
    """

    def __init__(self, output: EncoderOutput, config: InvADConfig) -> None:
        super().__init__(output, config)
        self.config = config
        self.network = FeatureInversion(output.channels, output.grids, config)
        self.standards = nn.ModuleList(
            nn.BatchNorm2d(width, momentum=None, affine=False) if config.standardised else nn.Identity()
            for width in output.channels
        )

    def phases(self) -> Sequence[TrainingPhase]:
        """Return one: Adam with betas (0.0, 0.99) and no weight decay, a tenth of the rate in the last fifth, clipped at 5."""
        rate = self.config.learning_rate
        return one_phase(lambda: Adam(self.parameters(), lr=rate, betas=(0.0, 0.99)), self.config.epochs, STEPS, CLIP)

    def loss(self, batch: Batch, position: Position) -> Tensor:
        """Return `loss_weight` times the sum over levels of the mean squared error, or of the ablation's loss."""
        features = self._standardised(batch)
        return reconstruction_loss(features, self.network(features), self.config.loss_weight, self.config.loss)

    def predict(self, batch: Batch, score: ScoreConfig) -> Prediction:
        """Return one minus the cosine over the concatenated levels, in [0, 2], or what `score` has in its place."""
        features = self._standardised(batch)
        levels = "concatenated" if score.map_levels == "method" else score.map_levels
        distance = "cosine" if score.map_distance == "method" else score.map_distance
        return Prediction(
            reconstruction_map(features, self.network(features), self.output.image_size, levels, distance)
        )

    def _standardised(self, batch: Batch) -> list[Tensor]:
        return [standard(level) for standard, level in zip(self.standards, batch.features, strict=True)]


def load_reference_state(model: FeatureInversion, state: Mapping[str, Tensor]) -> None:
    """Load weights under the authors' names into `model`, the paper's network, whole or not at all.

    `net_encoder.*` is ignored; the `kernel` buffers of the fixed blur are compared, not loaded; a BatchNorm's `num_batches_tracked` may be
    absent, and a weight may have a leading 1 for the sample, as those of SSM convolutions have. `InputError` names a tensor that is
    missing, unexpected or of another shape.
    """
    targets = reference_tensors(model)
    sources = {name: tensor for name, tensor in state.items() if not name.startswith(ENCODER_PREFIX)}
    for name in sorted(targets.keys() ^ sources.keys()):
        if not name.endswith(".num_batches_tracked"):
            raise InputError(f"{'missing' if name in targets else 'unexpected'}: {name}")
    pairs = [(name, sources[name], target) for name, target in targets.items() if name in sources]
    for name, source, target in pairs:
        if source.squeeze(0).shape != target.squeeze(0).shape:
            raise InputError(f"{name} {tuple(source.shape)} instead of {tuple(target.shape)}")
        if name.endswith(".kernel") and not torch.allclose(source, target):
            raise InputError(f"not the blur [1, 3, 3, 1]: {name}")
    with torch.no_grad():
        for name, source, target in pairs:
            if not name.endswith(".kernel"):
                target.copy_(source.reshape(target.shape))


def reference_tensors(model: FeatureInversion) -> dict[str, Tensor]:
    """Every parameter and buffer of the paper's network `model` under its name in the authors' checkpoints."""
    tensors = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        for pattern, replacement in RENAMED.items():
            name = re.sub(pattern, replacement, name)
        tensors[name] = tensor
    return tensors
