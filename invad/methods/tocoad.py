"""ToCoAD (IEEE TIM 2025): a memory bank of an extractor that a contrast has moved away from synthetic anomalies.

Stage I trains a discriminative network to find synthetic anomalies in the features of the frozen extractor. Stage II freezes it and trains
the extractor: two views of a normal image attract each other, and are pushed from where the discriminative network points. Then PatchCore's
vectors of the normal images go into a bank. The paper reports few settings; what it says and what is this project's own: docs/methods.md.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from operator import itemgetter

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, AdamW

from invad.config import ScoreConfig, ToCoADConfig
from invad.devices import full_precision
from invad.errors import InputError
from invad.features.encoder import Encoder, like, normalized, take_over
from invad.features.synthesis import Corruption
from invad.methods.base import (
    Batch,
    EncoderOutput,
    Method,
    Needs,
    Optimisation,
    Position,
    Prediction,
    TrainingPhase,
    one_phase,
)
from invad.methods.coreset import coreset, even_sample, nearest_vectors
from invad.methods.patches import patch_vectors
from invad.methods.resnet import Resampling, initialise, inverted_stages, residual_blocks

LEVELS = 4
BANK_LEVELS = (1, 2)  # those of the vectors
CONTRAST_LEVELS = (2, 3)
STEPS = ((0.8, 0.2),)  # after this share of stage I its rate is times
ALPHA, GAMMA = 0.5, 2  # of the focal loss
WIDTH, BOTTLENECK = 512, 128  # of the heads
DECAY = 1e-4
AREA = (0.002, 0.3)  # of an anomaly, as shares of the image
LEAST_WEIGHT = 0.001  # of an image's places on average; below it has no anomaly
VIEW = 0.2  # brightness and contrast of a view are 1 +- so much
NOISE = 5 / 255  # the most standard deviation of a view's noise


def _generator(textures: str) -> Corruption:
    """Return how anomalies are painted: always, and large enough for the coarsest grid; the coin of stage I is the method's own."""
    return Corruption(1.0, 0.0, operations=3 if textures else 0, textures=textures, area=AREA, shuffled=not textures)


class ToCoAD(Method):
    """An extractor that is trained, and the bank of its vectors. The map is the distance to the nearest of them, not squared."""

    align_corners = False
    fitted = ("memory",)
    memory: Tensor

    def __init__(self, output: EncoderOutput, config: ToCoADConfig) -> None:
        """`InputError`: the encoder has not four levels, each at twice the stride of the one before."""
        super().__init__(output, config)
        strides = output.strides[: len(output.channels)]
        if len(strides) != LEVELS or any(coarse != 2 * fine for fine, coarse in pairwise(strides)):
            wanted = "four strides, each twice the one before, such as [4, 8, 16, 32]"
            raise InputError(f"levels: `model: tocoad` takes {wanted}, not {list(strides)}")
        self.config = config
        self.needs = Needs(images=True, corruption=_generator(config.textures))
        self.extractor = like(output).requires_grad_(True)
        self.discriminator = Discriminator(output, lateral=config.lateral)
        self.heads = nn.ModuleList(Heads(output.channels[level]) for level in CONTRAST_LEVELS)
        self.register_buffer("memory", torch.empty(0, config.dimensions, dtype=torch.float16))
        first, second = (self._discrimination, self.discrimination_loss), (self._contrast, self.contrast_loss)
        self._stages = {"both": (first, second), "second": (second,), "none": ()}[config.stages]

    def adopt(self, encoder: Encoder) -> None:
        """Start from the pretrained weights of `encoder`."""
        take_over(self.extractor, encoder)

    def phases(self) -> Sequence[TrainingPhase]:
        """Return the stages: Adam for the discriminative network, then AdamW for the extractor and, with its own rate, the heads."""
        return [phase() for phase, _ in self._stages]

    def _discrimination(self) -> TrainingPhase:
        rate = self.config.learning_rate
        [phase] = one_phase(lambda: Adam(self.discriminator.parameters(), lr=rate), self.config.epochs, STEPS)
        return replace(phase, frozen=("extractor", "heads"))

    def _contrast(self) -> TrainingPhase:
        def optimisation(part: nn.Module, rate: float) -> Optimisation:
            def falling(position: Position) -> float:
                return 0.5 * rate * (1 + math.cos(math.pi * position.step / position.steps))

            return Optimisation(AdamW(part.parameters(), lr=rate, weight_decay=DECAY), falling)

        def optimisations() -> list[Optimisation]:
            rates = self.config.extractor_rate, self.config.learning_rate
            return [optimisation(*each) for each in zip((self.extractor, self.heads), rates, strict=True)]

        return TrainingPhase(optimisations, epochs=self.config.contrast_epochs, frozen=("discriminator",))

    def loss(self, batch: Batch, position: Position) -> Tensor:
        """Return that of the stage that the training is in."""
        return self._stages[position.phase][1](batch)

    def levels(self, images: Tensor) -> list[Tensor]:
        """Return the extractor's features (B, C_l, H_l, W_l) of images (B, 3, H, W) in [0, 1]."""
        return self.extractor.levels(normalized(images))

    def marks(self, levels: Sequence[Tensor]) -> Tensor:
        """Return a logit for each pixel, float32 (B, 1, H, W), larger where the discriminative network sees an anomaly."""
        size = self.output.image_size
        logits = self.discriminator(levels).float()
        return functional.interpolate(logits, (size, size), mode="bilinear", align_corners=False)

    def discrimination_loss(self, batch: Batch) -> Tensor:
        """Return how far the marks are from the masks, the mean over pixels; each image has its anomaly with the probability 1/2."""
        clean, corrupted, masks = _painted(batch)
        chosen = (batch.normal(1, 1, 1) > 0).to(clean)
        marks = self.marks(self.levels(chosen * corrupted + (1 - chosen) * clean))
        with full_precision(marks.device):
            return focal_loss(marks, chosen * masks, GAMMA if self.config.loss == "focal" else 0)

    def contrast_loss(self, batch: Batch) -> Tensor:
        """Return the attraction of two views of each clean image plus `repulsion` times the repulsion, the mean over levels."""
        clean, corrupted, masks = _painted(batch)
        draws = batch.normal(2, 3 + clean[0].numel()).to(clean).unbind(1)
        views = [self.heads_of(self.levels(photometric(clean, each))) for each in draws]
        negatives = self.negatives(corrupted, masks)
        losses = []
        with full_precision(clean.device):
            for index, ((z1, p1), (z2, p2)) in enumerate(zip(*views, strict=True)):
                loss = attraction(p1, p2, z1, z2)
                if negatives:
                    loss = loss + self.config.repulsion * repulsion(p1, p2, *negatives[index])
                losses.append(loss)
        return torch.stack(losses).mean()

    @torch.no_grad()
    def negatives(self, corrupted: Tensor, masks: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return for each level of the contrast what `negative_features` says of the corrupted images; none where nothing is pushed."""
        if self.config.negatives == "none":
            return []
        levels = self.levels(corrupted)
        weights = masks if self.config.negatives == "mask" else self.marks(levels).sigmoid()
        with full_precision(corrupted.device):
            return [negative_features(z, weights) for z, _ in self.heads_of(levels)]

    def heads_of(self, levels: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return projections and predictions of the contrast's levels, float32 (B, 512, H_l, W_l) each."""
        return [head(levels[index]) for head, index in zip(self.heads, CONTRAST_LEVELS, strict=True)]

    def vectors(self, images: Tensor) -> Tensor:
        """Return float32 (B, H W, dimensions), a vector for each location of the grid of level 2, row by row."""
        levels, dimensions = self.levels(images), self.config.dimensions
        return patch_vectors([levels[index] for index in BANK_LEVELS], dimensions, dimensions)

    def fit(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Keep a coreset of each class's vectors, of `most_vectors` of them, drawn evenly; the images of a class follow each other.

        Of one class at a time at most 1.25 `most_vectors` vectors are held, on the CPU.
        """
        rng, bank = np.random.default_rng(self.config.seed), []
        for _, images in groupby(self._of_classes(batches()), key=itemgetter(0)):
            parts, total = even_sample((vectors for _, vectors in images), self.config.most_vectors, rng)
            bank.append(coreset(parts, max(1, int(self.config.share * total)), rng, self.memory.device))
        self.memory = torch.cat(bank).half()

    def _of_classes(self, batches: Iterable[Batch]) -> Iterator[tuple[str, Tensor]]:
        """Yield the class and the vectors (H W, dimensions) of one image after the other."""
        for batch in batches:
            vectors = self.vectors(_images(batch)).cpu()
            yield from zip(batch.classes or ("",) * len(vectors), vectors, strict=True)

    def predict(self, batch: Batch, score: ScoreConfig) -> Prediction:
        """Return the distance to the nearest vector of the bank on the grid of level 2."""
        vectors = self.vectors(_images(batch))
        squares, _ = nearest_vectors(vectors.flatten(0, 1), self.memory, 1)
        side = self.output.grids[BANK_LEVELS[0]]
        return Prediction(squares.sqrt().reshape(-1, side, side))


class Discriminator(nn.Module):
    """An inverted ResNet from the coarsest level to the finest, with a logit for each place of that.

    `lateral`: each stage's output is joined by the extractor's own level through a 1x1 convolution.
    """

    def __init__(self, output: EncoderOutput, *, lateral: bool) -> None:
        super().__init__()
        channels: tuple[int, ...] = output.channels[::-1]
        steps: list[Resampling] = ["double"] * (LEVELS - 1)
        self.stages = nn.ModuleList(inverted_stages(channels, steps, residual_blocks(output.encoder) or "basic"))
        self.lateral = nn.ModuleList(nn.Conv2d(width, width, 1) for width in channels[1:] if lateral)
        self.head = nn.Conv2d(channels[-1], 1, 1)
        self.stages.apply(initialise)  # as in RD; so begun, a head of one channel would give logits of 7 and learn late

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels (B, C_l, H_l, W_l), fine to coarse -> logits (B, 1, H_0, W_0)."""
        x = levels[-1]
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if self.lateral:
                x = x + self.lateral[index](levels[-2 - index])
        return self.head(x)


class Heads(nn.Module):
    """Projector and predictor of one level, as in SimSiam (CVPR 2021), place by place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.projector = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 1, bias=False),
            nn.BatchNorm2d(WIDTH, affine=False),
        )
        self.predictor = nn.Sequential(
            nn.Conv2d(WIDTH, BOTTLENECK, 1, bias=False),
            nn.BatchNorm2d(BOTTLENECK),
            nn.ReLU(),
            nn.Conv2d(BOTTLENECK, WIDTH, 1),
        )

    def forward(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> projection and prediction, float32 (B, 512, H, W) each."""
        projection = self.projector(level)
        return projection.float(), self.predictor(projection).float()


def _images(batch: Batch) -> Tensor:
    if batch.images is None:
        raise ValueError("ToCoAD sees images")
    return batch.images


def _painted(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    if batch.images is None or batch.corrupted is None or batch.masks is None:
        raise ValueError("ToCoAD trains on images with synthetic anomalies")
    return batch.images, batch.corrupted, batch.masks


def photometric(images: Tensor, draws: Tensor) -> Tensor:
    """Return images (B, 3, H, W) in [0, 1] with another brightness and contrast, and with noise, by draws (B, 3 + 3 H W).

    draws: standard normal. The first three of an image become uniform numbers: its factors, in [0.8, 1.2], and the standard deviation of
    its noise, up to 5 of 255.
    """
    uniform = torch.special.ndtr(draws[:, :3])[:, :, None, None, None]
    brightness, contrast = 1 - VIEW + 2 * VIEW * uniform[:, 0], 1 - VIEW + 2 * VIEW * uniform[:, 1]
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    noise = NOISE * uniform[:, 2] * draws[:, 3:].reshape(images.shape)
    return (brightness * (mean + contrast * (images - mean)) + noise).clamp(0, 1)


def focal_loss(logits: Tensor, masks: Tensor, gamma: float) -> Tensor:
    """Return the mean of `-alpha (1 - p)^gamma log p` over pixels, alpha 0.5, where p is the probability of what the mask of 0 and 1 says.

    A `gamma` of 0 is half of the cross-entropy.
    """
    logarithm = functional.logsigmoid(torch.where(masks > 0.5, logits, -logits))
    return (-ALPHA * (1 - logarithm.exp()) ** gamma * logarithm).mean()


def attraction(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> Tensor:
    """Return the negative cosine of the predictions of each view and the projections of the other, which get no gradient; in [-1, 1].

    All (B, C, H, W); the cosine is that of a place, the mean over places and images.
    """
    pairs = (p1, z2), (p2, z1)
    return -torch.stack([functional.cosine_similarity(p, z.detach(), dim=1).mean() for p, z in pairs]).mean()


def negative_features(z: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of projections (B, C, h, w) over places, weighted, (B, C, 1, 1), and whether the image has an anomaly at all (B,).

    weights: (B, 1, H, W) in [0, 1], averaged over the pixels of a place.
    """
    on_grid = functional.adaptive_avg_pool2d(weights, (z.shape[2], z.shape[3]))
    total = on_grid.sum(dim=(2, 3), keepdim=True)
    negative = (on_grid * z).sum(dim=(2, 3), keepdim=True) / total.clamp_min(torch.finfo(z.dtype).tiny)
    return negative, on_grid.mean(dim=(1, 2, 3)) >= LEAST_WEIGHT


def repulsion(p1: Tensor, p2: Tensor, negative: Tensor, counts: Tensor) -> Tensor:
    """Return how far the predictions of both views point towards their image's negative, in [0, 1]; orthogonal ones do not at all.

    p1, p2: (B, C, H, W). negative: (B, C, 1, 1). counts: (B,); an image without an anomaly adds 0.
    """
    cosines = torch.stack([functional.cosine_similarity(p, negative, dim=1) for p in (p1, p2)]).mean(dim=0)
    return (cosines.relu().mean(dim=(1, 2)) * counts).mean()
