"""Dinomaly (CVPR 2025): what a transformer with noisy input and unfocused attention cannot reconstruct of a ViT's features is anomalous.

Values and quirks are those of the authors' code. Tokens are float (B, T, C): prefix tokens first, then patches row by row.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from invad.config import DinomalyConfig, ScoreConfig
from invad.devices import full_precision
from invad.errors import InputError
from invad.methods.base import Batch, EncoderOutput, Method, Needs, Optimisation, Position, Prediction, TrainingPhase
from invad.methods.maps import reconstruction_loss, reconstruction_map, resized

EXPANSION = 4  # of the hidden layers
NORM_EPS = 1e-8
INITIAL_STD = 0.01  # of all weights, cut at three times that
MOST_DISCARDED = 0.9  # the share of places that are reconstructed already
DISCARDING_STEPS = 1000  # until it is reached
DISCARDED_WEIGHT = 0.1  # of their gradient
CLIP = 0.1
TAPS = [math.exp(-0.5 * (offset / 4) ** 2) for offset in range(-2, 3)]  # of the map's blur of 4 pixels, cut after two
TOP_SHARE = 0.01  # of the pixels, whose mean is the score of an image


class Mlp(nn.Module):
    """Two linear layers with a GELU in between, (B, T, C) -> (B, T, C), each of the three tensors times a mask, if there are any."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, EXPANSION * width)
        self.fc2 = nn.Linear(EXPANSION * width, width)

    def forward(self, x: Tensor, masks: Sequence[Tensor] = ()) -> Tensor:
        """`masks`: of dropout, for input, hidden layer and output."""
        if not masks:
            return self.fc2(functional.gelu(self.fc1(x)))
        return self.fc2(functional.gelu(self.fc1(x * masks[0])) * masks[1]) * masks[2]


class LinearAttention(nn.Module):
    """Attention with `elu + 1` of queries and keys in place of softmax, (B, T, C) -> (B, T, C); it cannot focus on one place.

    `epsilon`: added to the sums that it divides by. They run in float32 whatever the precision around them.
    """

    def __init__(self, width: int, heads: int, epsilon: float) -> None:
        super().__init__()
        self.heads, self.epsilon = heads, epsilon
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return what each token gets of all tokens."""
        # Each (B, heads, T, C / heads).
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        with full_precision(x.device):
            q, k = functional.elu(q.float()) + 1, functional.elu(k.float()) + 1
            summed = q @ k.sum(dim=2).unsqueeze(3)
            found = q @ (k.transpose(2, 3) @ v.float()) / (summed + self.epsilon)
        return self.proj(found.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A transformer block with linear attention, without scales and dropout."""

    def __init__(self, width: int, heads: int, epsilon: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = LinearAttention(width, heads, epsilon)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class StableAdamW(Optimizer):
    """AdamW with the largest second moment (AMSGrad) and a rate that is divided by the RMS of `gradient / denominator` above 1.

    Betas (0.9, 0.999), eps 1e-10, weight decay 1e-4.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr, "betas": (0.9, 0.999), "eps": 1e-10, "weight_decay": 1e-4})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyrefly: ignore[bad-override]  (no closure is called)
        """Make a step of all parameters that have gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)

    def _move(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2), rate = self.state[parameter], group["betas"], group["lr"]
        if not state:
            state["step"] = 0
            state |= {name: torch.zeros_like(parameter) for name in ("mean", "square", "largest")}
        state["step"] += 1
        parameter.mul_(1 - rate * group["weight_decay"])
        state["mean"].lerp_(gradient, 1 - beta1)
        state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        torch.maximum(state["largest"], state["square"], out=state["largest"])
        denominator = state["largest"].sqrt().div_(math.sqrt(1 - beta2 ** state["step"])).add_(group["eps"])
        clipped = (gradient / denominator).square_().mean().sqrt_().clamp_min_(1)
        parameter.addcdiv_(state["mean"], denominator * clipped, value=-rate / (1 - beta1 ** state["step"]))


class Dinomaly(Method):
    """The authors' method: dropout, a bottleneck and a decoder, whose blocks reconstruct the means of groups of a ViT's blocks.

    Maps are blurred here, at `map_size`, unless `score.sigma` says how. Each of several workers mines its own part of a batch.

    Raises `InputError` for an encoder whose levels do not share a grid, or whose width `head_width` does not divide.
    """

    sigma = 0.0

    def __init__(self, output: EncoderOutput, config: DinomalyConfig) -> None:
        super().__init__(output, config)
        self.config = config
        self.needs = Needs(output.levels, prefix=True)
        if len(set(output.grids)) != 1 or len(set(output.channels)) != 1:
            raise InputError(
                "levels: dinomaly takes groups of a ViT's blocks, such as [[2, 3, 4, 5], [6, 7, 8, 9]] of a ViT-B, "
                f"but those of {output.encoder} have the strides {output.strides}"
            )
        width = output.channels[0]
        if width % config.head_width or config.blocks % len(output.levels):
            raise InputError(
                f"head_width: must divide the width {width} of {output.encoder}, and the number of levels the blocks, "
                f"not {config.head_width}, {len(output.levels)} and {config.blocks}"
            )
        self.bottleneck = Mlp(width)
        heads = width // config.head_width
        self.decoder = nn.ModuleList(Block(width, heads, config.epsilon) for _ in range(config.blocks))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INITIAL_STD, a=-3 * INITIAL_STD, b=3 * INITIAL_STD)
                nn.init.zeros_(module.bias)

    def targets(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return the levels without their prefix tokens, (B, C, H, W)."""
        return batch.features[: len(self.output.levels)]

    def reconstructions(self, batch: Batch) -> list[Tensor]:
        """Return the same of the decoder: the last blocks reconstruct the first level."""
        tokens = torch.stack(batch.features[: len(self.output.levels)]).mean(dim=0).flatten(2)
        if prefix := batch.features[len(self.output.levels) :]:
            tokens = torch.cat([torch.stack(prefix).mean(dim=0).flatten(2), tokens], dim=2)
        tokens = tokens.transpose(1, 2)
        x, states = self.bottleneck(tokens, self._masks(batch, tokens)), []
        for block in self.decoder:
            x = block(x)
            states.append(x)
        size = len(states) // len(self.output.levels)
        groups = (states[end - size : end] for end in range(len(states), 0, -size))
        return [self._grid(torch.stack(group).mean(dim=0)) for group in groups]

    def _masks(self, batch: Batch, tokens: Tensor) -> list[Tensor]:
        """Return the dropout of the bottleneck in training: 0, or what keeps the mean."""
        if not (self.training and self.config.dropout):
            return []
        kept, width = 1 - self.config.dropout, tokens.shape[2]
        draws = batch.kept(kept, tokens.shape[1], (2 + EXPANSION) * width)
        return [draw / kept for draw in draws.split([width, EXPANSION * width, width], dim=2)]

    def _grid(self, tokens: Tensor) -> Tensor:
        side = self.output.grids[0]
        return tokens[:, self.output.prefix_tokens :].transpose(1, 2).unflatten(2, (side, side))

    def phases(self) -> Sequence[TrainingPhase]:
        """Return one of `steps`: StableAdamW, clipped at 0.1, with a rate for each step."""

        def optimisations() -> list[Optimisation]:
            return [Optimisation(StableAdamW(self.parameters(), self.config.learning_rate), self.rate, CLIP)]

        return [TrainingPhase(optimisations, steps=self.config.steps)]

    def rate(self, position: Position) -> float:
        """Return the learning rate of a step: linear from 0 during `warm_up`, then along a cosine to `final_rate`."""
        config, step = self.config, position.step
        if step < config.warm_up:
            return config.learning_rate * step / max(1, config.warm_up - 1)
        share = (step - config.warm_up) / (position.steps - config.warm_up)
        return config.final_rate + 0.5 * (config.learning_rate - config.final_rate) * (1 + math.cos(math.pi * share))

    def loss(self, batch: Batch, position: Position) -> Tensor:
        """Return the loss at the share of places that is discarded in a step; it rises from 0."""
        return self.mined_loss(batch, MOST_DISCARDED * min(1.0, position.step / DISCARDING_STEPS))

    def mined_loss(self, batch: Batch, discarded: float) -> Tensor:
        """Return one minus the cosine of each whole level, the mean over levels, in [0, 2]; `discarded` changes gradients alone."""
        targets = self.targets(batch)
        mined = [hard_mined(x, y, discarded) for x, y in zip(targets, self.reconstructions(batch), strict=True)]
        return reconstruction_loss(targets, mined, 1 / len(targets), "cosine")

    def predict(self, batch: Batch, score: ScoreConfig) -> Prediction:
        """Return maps in [0, 2] of the side `map_size`, the mean of the levels' cosine distances, and the means of the largest pixels."""
        levels, size = len(self.output.levels), self.output.image_size
        maps = reconstruction_map(self.targets(batch), self.reconstructions(batch), size, "sum") / levels
        maps = resized(maps, self.config.map_size, align_corners=False)
        if score.sigma == "method":
            maps = blurred(maps, zeros=self.config.zero_border)
        count = max(1, int(TOP_SHARE * self.config.map_size**2))
        return Prediction(maps, maps.flatten(1).topk(count).values.mean(dim=1))


def hard_mined(target: Tensor, reconstruction: Tensor, discarded: float) -> Tensor:
    """Return the reconstruction (B, C, H, W), with a tenth of its gradient at that share of the batch's places that fit the target best."""
    with torch.no_grad(), full_precision(target.device):
        distances = 1 - functional.cosine_similarity(target.float(), reconstruction.float(), dim=1)
        hard = max(1, int(distances.numel() * (1 - discarded)))
        threshold = distances.flatten().sort(descending=True).values[hard - 1]
        weights = torch.where(distances < threshold, DISCARDED_WEIGHT, 1.0).unsqueeze(1)
    fixed = reconstruction.detach()
    return fixed + weights * (reconstruction - fixed)


def blurred(maps_bhw: Tensor, *, zeros: bool) -> Tensor:
    """Return maps (B, H, W) after a Gaussian of 5x5 pixels and sigma 4, beyond whose border are zeros, or the pixels at the border."""
    height, width = maps_bhw.shape[1:]
    border = [len(TAPS) // 2] * 4
    padded = functional.pad(maps_bhw.unsqueeze(1), border, mode="constant" if zeros else "replicate").squeeze(1)
    rows = torch.stack([tap * padded[:, place : place + height] for place, tap in enumerate(TAPS)]).sum(dim=0)
    both = torch.stack([tap * rows[:, :, place : place + width] for place, tap in enumerate(TAPS)]).sum(dim=0)
    return both / sum(TAPS) ** 2
