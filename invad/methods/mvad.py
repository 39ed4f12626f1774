"""MVAD (IEEE Transactions on Multimedia 2025, arXiv:2407.11935): each view of an object is reconstructed with the help of the others.

A defect may be invisible from one side. So the features of each view are mixed with those of the object's other views, before a
bottleneck and a decoder as of Reverse Distillation reproduce them. Values and quirks are those of the authors' code.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW

from invad.config import MVADConfig, ScoreConfig
from invad.errors import InputError
from invad.methods.base import (
    Batch,
    EncoderOutput,
    Method,
    Position,
    Prediction,
    TrainingPhase,
    decay_groups,
    one_phase,
)
from invad.methods.maps import reconstruction_loss, summed_distances
from invad.methods.mvas import Dropped, MixedLevel
from invad.methods.resnet import (
    DECODER_BLOCKS,
    EMBEDDING_BLOCKS,
    EMBEDDING_DIVISOR,
    Decoder,
    Resampling,
    ResidualBlock,
    residual_blocks,
    residual_stage,
)

DROPOUT = 0.1  # of values in the MLPs, and of the attention of whole images
LOSS_WEIGHT = 5.0
MAP_DIVISOR = 9.0
DECAY, CLIP, STEPS = 1e-4, 5.0, ((0.8, 0.1),)
# Of the authors' checkpoints: prefixes of their names, and the layers that no forward pass calls.
PREFIXES = ("net_t.", "mff_oce.", "net_s.")
UNUSED = re.compile(r"\.(cv|mv)_linear\.")
SIZED = "mff_oce.convf.weight"


class MVAD(Method):
    """`MultiViewNetwork`, its mean squared error and, as map, the sum of the levels' cosine distances over 9.

    Dropout and DropPath draw from seed, epoch and image alone.
    """

    def __init__(self, output: EncoderOutput, config: MVADConfig) -> None:
        super().__init__(output, config)
        self.config = config
        # As for RD: what is no ResNet may have negative features, and is mirrored by basic blocks.
        block = residual_blocks(output.encoder)
        self.network = MultiViewNetwork(output, config, block or "basic", signed=block is None)

    def phases(self) -> Sequence[TrainingPhase]:
        """Return one: AdamW, which decays weights alone, with a tenth of the rate after 80 % of the epochs."""
        rate = self.config.learning_rate
        return one_phase(
            lambda: AdamW(decay_groups(self.parameters(), DECAY, weights_alone=True), lr=rate),
            self.config.epochs,
            STEPS,
            CLIP,
        )

    def loss(self, batch: Batch, position: Position) -> Tensor:
        """Return 5 times the sum over levels of the mean squared error, or of another loss where the settings say so."""
        kept = batch.kept(1 - DROPOUT, self.network.draws) if DROPOUT else None
        reconstructions = self.network(batch.features, batch.views, Dropped(kept, DROPOUT))
        return reconstruction_loss(batch.features, reconstructions, LOSS_WEIGHT, self.config.loss)

    def predict(self, batch: Batch, score: ScoreConfig) -> Prediction:
        """Return maps in [0, 2 * levels / 9]: the levels' cosine distances, resized to the image and summed, over 9."""
        reconstructions = self.network(batch.features, batch.views, Dropped())
        return Prediction(summed_distances(batch.features, reconstructions, self.output.image_size) / MAP_DIVISOR)


class MultiViewNetwork(nn.Module):
    """Features of objects, all views of each in a row, fine to coarse -> their reconstructions, alike.

    Each level is mixed across the views; the levels meet on the grid of the coarsest (fusion), and are embedded on half of that grid.
    `draws`: how many numbers dropout takes for an image. Raises `InputError` for levels whose strides do not double, and where a setting
    does not have a value for each level.
    """

    def __init__(
        self,
        output: EncoderOutput,
        config: MVADConfig,
        block: ResidualBlock = "basic",
        *,
        signed: bool = False,
        decoder_blocks: tuple[int, ...] = DECODER_BLOCKS,
    ) -> None:
        super().__init__()
        channels, strides = output.channels, output.strides
        if any(coarse != 2 * fine for fine, coarse in pairwise(strides)):
            raise InputError(f"levels: for mvad each stride must be twice the one before, got {strides}")
        for name in ("attention_blocks", "chosen", "windows"):
            values = getattr(config, name)
            if values is not None and len(values) != len(channels):
                raise InputError(f"{name}: expected {len(channels)} values, one for each level, got {len(values)}")
        levels = [
            MixedLevel(width, grid, config, level)
            for level, (width, grid) in enumerate(zip(channels, output.grids, strict=True))
        ]
        self.levels, self.draws = nn.ModuleList(levels), sum(level.draws for level in levels)
        self.fusion = Fusion(channels)
        coarsest = channels[-1]
        self.embedding = residual_stage(coarsest, 2 * coarsest, EMBEDDING_BLOCKS, EMBEDDING_DIVISOR, "halve")
        steps: list[Resampling] = ["halve"] * (len(channels) - 1)
        self.decoder = Decoder(channels, block, signed=signed, steps=steps, blocks=decoder_blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # the biases, transposed and linear layers keep torch's defaults
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, features: Sequence[Tensor], views: int, dropped: Dropped) -> list[Tensor]:
        """Features float (B, C_l, G_l, G_l), B a multiple of `views`, two or more -> reconstructions of the same shapes."""
        return self.decoder(self.embedded(features, views, dropped))

    def embedded(self, features: Sequence[Tensor], views: int, dropped: Dropped) -> Tensor:
        """Return what is left of the features in the bottleneck, (B, 2 C, G / 2, G / 2) for a coarsest level (B, C, G, G)."""
        mixed = [level(x, views, dropped) for level, x in zip(self.levels, features, strict=True)]
        return self.embedding(self.fusion(mixed))


class Fusion(nn.Module):
    """Levels (B, C_l, G_l, G_l), fine to coarse, each on half the grid of the one before -> (B, C, G, G), as the coarsest."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(fine, coarse, 3, 2, 1, bias=False), nn.BatchNorm2d(coarse))
            for fine, coarse in pairwise(channels)
        )
        self.lateral = nn.ModuleList(_pointwise(width) for width in channels[1:])
        self.last = _pointwise(channels[-1])

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Go down from the finest level, and add each coarser one."""
        x = levels[0]
        for down, lateral, level in zip(self.down, self.lateral, levels[1:], strict=True):
            x = functional.relu(down(x)) + functional.relu(lateral(level))
        return functional.relu(self.last(x))


def _pointwise(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))


_FUSION = {
    "1": "down.0", "2": "down.1", "21": "lateral.0", "31": "lateral.1", "f": "last"
}  # what their `conv` and `bn` of that name are here  # fmt: skip
_PART = {"conv1": "body.0", "bn1": "body.1", "conv2": "body.3", "bn2": "body.4", "conv3": "body.6", "bn3": "body.7"}
_MLP = {"0": "wide", "3": "narrow"}


def imported_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the authors' checkpoint under the names of `MVAD`, without the encoder and the fourteen layers that are never used."""
    trained = {name: tensor for name, tensor in state.items() if name.startswith(PREFIXES[1:])}
    return {own_name(name): tensor for name, tensor in trained.items() if not UNUSED.search(name)}


def own_name(name: str) -> str:
    """Return what stands here for a name in the authors' checkpoints; a name that they do not have stays as it is."""
    module, _, tensor = name.rpartition(".")
    if found := re.fullmatch(r"net_s\.layer(\d)\.(\d+)\.(.+)", module):
        stage, block, part = found.groups()
        return f"network.decoder.{int(stage) - 1}.{block}.{_part(part)}.{tensor}"
    if found := re.fullmatch(r"mff_oce\.bn_layer\.(\d+)\.(.+)", module):
        return f"network.embedding.{found[1]}.{_part(found[2])}.{tensor}"
    if found := re.fullmatch(r"mff_oce\.(conv|bn)(1|2|21|31|f)", module):
        return f"network.fusion.{_FUSION[found[2]]}.{0 if found[1] == 'conv' else 1}.{tensor}"
    # The first block of a level has no number.
    if found := re.fullmatch(r"mff_oce\.norm(\d)([12])(\d?)", module):
        return f"network.levels.{found[1]}.blocks.{found[3] or 0}.norm{found[2]}.{tensor}"
    if found := re.fullmatch(r"mff_oce\.mlp(\d)(\d?)\.([03])", module):
        return f"network.levels.{found[1]}.blocks.{found[2] or 0}.{_MLP[found[3]]}.{tensor}"
    return name


def _part(name: str) -> str:
    return _PART.get(name) or re.sub(r"^(downsample|upsample)\.", "shortcut.", name)
