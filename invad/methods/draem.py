"""DRAEM (ICCV 2021): one network restores a clean image, another sees both and marks what was painted in.

Both are trained from scratch on images with synthetic anomalies; there is no encoder. Values are those of the authors' code. The published
re-run of the comparison trained it without anomalies; this one has them.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from invad.config import DRAEMConfig, ScoreConfig
from invad.devices import full_precision
from invad.features.synthesis import Corruption
from invad.methods.base import (
    Batch,
    EncoderOutput,
    Method,
    Needs,
    Position,
    Prediction,
    TrainingPhase,
    one_phase,
)
from invad.methods.maps import mean_filtered_maximum

SCORE_FILTER = 21  # of the map, before its maximum is the image's score
SCORE_PADDING = {"paper": 10, "re-run": 0}  # whose zeros count
WINDOW, WINDOW_SIGMA = 11, 1.5  # of SSIM, in pixels
FOCUS, SMOOTH = 2, 1e-5  # of the focal loss
# After this share of the epochs the rate is times.
STEPS = {"paper": ((0.8, 0.2), (0.9, 0.2)), "re-run": ((0.8, 0.1),)}
CLIP = {"paper": float("inf"), "re-run": 5.0}


class DRAEM(Method):
    """The authors' method. Its map is a probability, which is not blurred."""

    sigma = 0.0

    def __init__(self, output: EncoderOutput, config: DRAEMConfig) -> None:
        super().__init__(output, config)
        self.config = config
        self.needs = Needs(images=True, corruption=Corruption(textures=config.textures))
        self.reconstructive = Reconstructive(config.width)
        self.discriminative = Discriminative(config.segmentation_width)
        self.apply(_initialise)

    def phases(self) -> Sequence[TrainingPhase]:
        """Return one: Adam with torch's betas, a rate that falls in steps, clipped in the recipe of the re-run alone."""
        rate, recipe = self.config.learning_rate, self.config.recipe
        return one_phase(lambda: Adam(self.parameters(), lr=rate), self.config.epochs, STEPS[recipe], CLIP[recipe])

    def loss(self, batch: Batch, position: Position) -> Tensor:
        """Return the sum of the squared error and of one minus the SSIM of the restored image, and of the focal loss of the marks."""
        if batch.images is None or batch.corrupted is None or batch.masks is None:
            raise ValueError("DRAEM trains on images with synthetic anomalies")
        restored, probabilities = self.restored_and_marked(batch.corrupted)
        with full_precision(restored.device):
            restored, probabilities = restored.float(), probabilities.float()
            clean = functional.mse_loss(restored, batch.images) + ssim_loss(restored, batch.images)
            return clean + focal_loss(probabilities, batch.masks)

    def restored_and_marked(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the restored images (B, 3, H, W), and the probabilities that a pixel is normal and anomalous (B, 2, H, W)."""
        restored = self.reconstructive(images)
        return restored, self.discriminative(torch.cat([restored, images], dim=1)).softmax(dim=1)

    def predict(self, batch: Batch, score: ScoreConfig) -> Prediction:
        """Return the probability that a pixel is anomalous, and as image score the maximum of its means over 21 x 21 pixels."""
        if batch.images is None:
            raise ValueError("DRAEM predicts images")
        maps = self.restored_and_marked(batch.images)[1][:, 1].float()
        return Prediction(maps, mean_filtered_maximum(maps, SCORE_FILTER, SCORE_PADDING[self.config.recipe]))


def _block(*channels: int) -> nn.Sequential:
    """Convolutions 3x3 with bias from one number of channels to the next, each with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


def _up(before: int, after: int) -> nn.Sequential:
    """Twice the size, then a convolution."""
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), *_block(before, after))


class Reconstructive(nn.Module):
    """Images (B, 3, H, W) -> restored images, through a sixteenth of the grid; H and W are multiples of 16."""

    def __init__(self, width: int) -> None:
        super().__init__()
        w = [width, 2 * width, 4 * width, 8 * width, 8 * width]
        self.encoder = nn.ModuleList(_block(before, after, after) for before, after in zip([3, *w], w, strict=False))
        self.decoder = nn.ModuleList()
        for before, after in ((w[4], w[2]), (w[2], w[1]), (w[1], w[0]), (w[0], w[0])):
            self.decoder += [_up(before, before), _block(before, before, after)]
        self.tail = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Restore images."""
        x = images
        for depth, block in enumerate(self.encoder):
            x = block(functional.max_pool2d(x, 2) if depth else x)
        for block in self.decoder:
            x = block(x)
        return self.tail(x)


class Discriminative(nn.Module):
    """A restored image and the image itself (B, 6, H, W) -> two logits a pixel, by a U-Net; H and W are multiples of 32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        w = [width, 2 * width, 4 * width, 8 * width, 8 * width, 8 * width]
        self.encoder = nn.ModuleList(_block(before, after, after) for before, after in zip([6, *w], w, strict=False))
        self.decoder = nn.ModuleList()
        below = w[5]
        for skipped, after in zip(w[4::-1], (w[4], w[2], w[1], w[0], w[0]), strict=True):
            self.decoder += [_up(below, after), _block(after + skipped, after, after)]
            below = after
        self.tail = nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of normal and anomalous, (B, 2, H, W)."""
        x, skipped = images, []
        for depth, block in enumerate(self.encoder):
            x = block(functional.max_pool2d(x, 2) if depth else x)
            skipped.append(x)
        for index in range(0, len(self.decoder), 2):
            up, block = self.decoder[index], self.decoder[index + 1]
            x = block(torch.cat([up(x), skipped[-2 - index // 2]], dim=1))
        return self.tail(x)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def ssim_loss(restored: Tensor, clean: Tensor) -> Tensor:
    """Return one minus the mean SSIM of images (B, C, H, W); the range of values is read off `restored`, as in the authors' code."""
    high = torch.where(restored.max() > 128, 255.0, 1.0)
    span = high - torch.where(restored.min() < -0.5, -1.0, 0.0)
    window = ssim_window(restored.shape[1]).to(restored)

    def mean(x: Tensor) -> Tensor:
        return functional.conv2d(x, window, padding=WINDOW // 2, groups=x.shape[1])

    a, b = mean(restored), mean(clean)
    variance_a, variance_b = mean(restored * restored) - a * a, mean(clean * clean) - b * b
    covariance = mean(restored * clean) - a * b
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    values = (2 * a * b + c1) * (2 * covariance + c2) / ((a * a + b * b + c1) * (variance_a + variance_b + c2))
    return 1 - values.mean()


def ssim_window(channels: int) -> Tensor:
    """Return a Gaussian window for each channel, float32 (channels, 1, 11, 11), of the sum 1."""
    offsets = torch.arange(WINDOW) - WINDOW // 2
    line = torch.exp(-(offsets**2) / (2 * WINDOW_SIGMA**2))
    line = line / line.sum()
    return torch.outer(line, line).expand(channels, 1, WINDOW, WINDOW).contiguous()


def focal_loss(probabilities: Tensor, masks: Tensor) -> Tensor:
    """Return the focal loss of probabilities (B, 2, H, W) for masks (B, 1, H, W) of 0 and 1."""
    target = torch.cat([1 - masks, masks], dim=1).clamp(SMOOTH, 1 - SMOOTH)
    p = (target * probabilities).sum(dim=1) + SMOOTH
    return (-((1 - p) ** FOCUS) * p.log()).mean()
