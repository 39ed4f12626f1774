"""UniAD (NeurIPS 2022): a transformer reconstructs the features of many classes, and what it cannot reconstruct is anomalous.

Three measures keep it from copying its input: every layer of the decoder starts from a query of its own, attention does not see a
token's neighbourhood, and in training noise is put on the features. Values and quirks are those of the published comparison and of the
authors' code.
"""

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW

from invad.config import ScoreConfig, UniADConfig
from invad.devices import full_precision
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
from invad.methods.maps import mean_filtered_maximum, on_grid, resized

DROPOUT = 0.1
DECAY = 1e-4
SCORE_FILTER = 16  # pixels; side of the mean filter of the map, before its maximum is the image's score
CLIP = {"paper": 0.1, "re-run": 5.0}
# The scheduler of the authors' code is an epoch late: of 1000 epochs the 802nd is the first one with the lower rate.
STEPS = {"paper": ((0.801, 0.1),), "re-run": ((0.8, 0.1),)}
# Of the checkpoints of the published comparison: prefixes of their names, the tensor that tells the side of the grid, and what stands here
# for parts of their names.
PREFIXES = ("net_backbone.", "net_ad.")
SIZED = "net_ad.pos_embed.row_embed.weight"
CHECKPOINT_NAMES = (
    ("net_ad.", "network."),
    ("transformer.encoder.layers.", "encoder."),
    ("transformer.decoder.layers.", "decoder."),
    ("transformer.decoder.norm.", "norm."),
    ("pos_embed.row_embed.weight", "rows"),
    ("pos_embed.col_embed.weight", "columns"),
    ("learned_embed.weight", "query"),
)


class UniAD(Method):
    """The authors' method over all levels of the encoder, on the grid of the coarsest. Its map is not blurred.

    Dropout draws from torch's generator, whose state a checkpoint holds, and each of several workers for its own part of a batch: ten
    million numbers an image would take longer to seed by image than a step.
    """

    sigma = 0.0

    def __init__(self, output: EncoderOutput, config: UniADConfig) -> None:
        super().__init__(output, config)
        self.config = config
        self.side = output.grids[-1]
        self.network = Transformer(sum(output.channels), self.side, config)

    def tokens(self, batch: Batch) -> Tensor:
        """Return the levels, point-sampled on the coarsest grid and concatenated fine to coarse: float32 (B, G G, C), row by row."""
        size = torch.Size((self.side, self.side))
        return torch.cat([on_grid(level.float(), size) for level in batch.features], dim=1).flatten(2).transpose(1, 2)

    def phases(self) -> Sequence[TrainingPhase]:
        """Return one: AdamW, with a tenth of the rate after 80 % of the epochs."""
        rate, recipe = self.config.learning_rate, self.config.recipe

        def adamw() -> AdamW:
            return AdamW(decay_groups(self.parameters(), DECAY, weights_alone=recipe == "re-run"), lr=rate)

        return one_phase(adamw, self.config.epochs, STEPS[recipe], CLIP[recipe])

    def loss(self, batch: Batch, position: Position) -> Tensor:
        """Return the mean squared error of the features without noise and the reconstruction of those with it."""
        tokens = noisy = self.tokens(batch)
        if self.config.jitter:
            noise = batch.normal(*tokens.shape[1:]).to(tokens)
            noisy = tokens + noise * tokens.norm(dim=2, keepdim=True) * (self.config.jitter / tokens.shape[2])
        return functional.mse_loss(self.network(noisy).float(), tokens)

    def predict(self, batch: Batch, score: ScoreConfig) -> Prediction:
        """Return the length of the difference at the image's size, and as image score the maximum of its means over 16 x 16 pixels."""
        tokens = self.tokens(batch)
        difference = tokens - self.network(tokens).float()
        with full_precision(tokens.device):
            maps = difference.square().sum(dim=2).sqrt().unflatten(1, (self.side, self.side))
            maps = resized(maps, self.output.image_size)
            return Prediction(maps, mean_filtered_maximum(maps, SCORE_FILTER))


class Transformer(nn.Module):
    """Tokens (B, G G, C) of a grid of side G -> their reconstruction, alike.

    Raises `InputError` for a width that the heads do not divide evenly, and for a mask that hides all tokens from one.
    """

    mask: Tensor

    def __init__(self, channels: int, side: int, config: UniADConfig) -> None:
        super().__init__()
        width, hidden = config.width, side // 2 if config.mask is None else config.mask
        if width % math.lcm(2, config.heads):
            raise InputError(f"width: {width} is no even multiple of the {config.heads} heads")
        if hidden and side // 2 <= hidden // 2:
            raise InputError(f"mask: {hidden} hides all of a grid of {side}x{side} from its middle; use a smaller one")
        self.register_buffer("mask", neighbours(side, hidden), persistent=False)
        self.rows, self.columns = (nn.Parameter(torch.rand(side, width // 2)) for _ in range(2))
        self.input_proj, self.output_proj = nn.Linear(channels, width), nn.Linear(width, channels)
        # All layers of a stack begin as copies of one; only the linear maps are then drawn anew for each.
        encoder, decoder = EncoderLayer(config), DecoderLayer(side**2, config)
        self.encoder = nn.ModuleList(copy.deepcopy(encoder) for _ in range(config.layers))
        self.decoder = nn.ModuleList(copy.deepcopy(decoder) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Reconstruct tokens."""
        position, memory = self.position(), self.memory(tokens)
        x = memory
        for layer in self.decoder:
            x = layer(memory, x, position, self.mask)
        return self.output_proj(self.norm(x))

    def memory(self, tokens: Tensor) -> Tensor:
        """Return what the encoder makes of tokens, (B, G G, width)."""
        x, position = self.input_proj(tokens), self.position()
        for layer in self.encoder:
            x = layer(x, position, self.mask)
        return x

    def position(self) -> Tensor:
        """Return a vector for each token, (G G, width): of its column first, then of its row."""
        side = len(self.rows)
        columns, rows = self.columns.expand(side, -1, -1), self.rows.unsqueeze(1).expand(-1, side, -1)
        return torch.cat([columns, rows], dim=2).flatten(0, 1)


class _Layer(nn.Module):
    """What the layers of both stacks have: self-attention and a feed-forward network, each with dropout and a norm behind it."""

    def __init__(self, config: UniADConfig) -> None:
        super().__init__()
        self.self_attn, self.norm1 = _attention(config), nn.LayerNorm(config.width)
        self.linear1, self.linear2 = (
            nn.Linear(config.width, config.feed_forward),
            nn.Linear(config.feed_forward, config.width),
        )
        self.norm2 = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(DROPOUT)

    def feed(self, x: Tensor) -> Tensor:
        """Return `x` with what the feed-forward network adds to it."""
        return x + self.dropout(self.linear2(self.dropout(functional.relu(self.linear1(x)))))

    def attend(self, attention: nn.Module, query: Tensor, keys: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """Return `query` with what it finds in `keys`, whose values have no position."""
        found, _ = attention(query + position, keys + position, keys, attn_mask=mask, need_weights=False)
        return query + self.dropout(found)


class EncoderLayer(_Layer):
    """Tokens (B, N, width) -> tokens, from their own attention."""

    def forward(self, x: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """Attend and feed forward, with the norms behind."""
        return self.norm2(self.feed(self.norm1(self.attend(self.self_attn, x, x, position, mask))))


class DecoderLayer(_Layer):
    """The layer-wise query decoder: a query of its own attends the memory, then the output of the layer before."""

    def __init__(self, tokens: int, config: UniADConfig) -> None:
        super().__init__(config)
        self.query = nn.Parameter(torch.randn(tokens, config.width))
        self.multihead_attn, self.norm3 = _attention(config), nn.LayerNorm(config.width)

    def forward(self, memory: Tensor, before: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """Return (B, N, width); `before` enters as keys and values only."""
        query = self.query.expand(memory.shape[0], -1, -1)
        x = self.norm1(self.attend(self.self_attn, query, memory, position, mask))
        x = self.norm2(self.attend(self.multihead_attn, x, before, position, mask))
        return self.norm3(self.feed(x))


def _attention(config: UniADConfig) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(config.width, config.heads, dropout=DROPOUT, batch_first=True)


def neighbours(side: int, size: int) -> Tensor:
    """Return which token (row) may not attend which one, bool (N, N): itself and those at most size // 2 rows and columns away.

    An even size hides a square of side size + 1, as in the authors' code; 0 hides none.
    """
    away = (
        (torch.arange(side)[:, None] - torch.arange(side)).abs() <= size // 2 if size else torch.zeros(side, side) > 0
    )
    return (away[:, None, :, None] & away[None, :, None, :]).reshape(side**2, side**2)


def imported_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a checkpoint of the published comparison under the names of `UniAD`, without the encoder that it holds."""
    theirs = {name: tensor for name, tensor in state.items() if name.startswith(PREFIXES[1])}
    for old, own in CHECKPOINT_NAMES:
        theirs = {name.replace(old, own): tensor for name, tensor in theirs.items()}
    return theirs
