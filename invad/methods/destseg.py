"""DeSTSeg (CVPR 2023): a student learns to remove anomalies, then a segmentation network where teacher and student disagree.

The frozen teacher shows the student the features of the clean image, which it has to give of one with a synthetic anomaly. In a second
phase the student is frozen too; both see the corrupted image, and where it was corrupted is known. Values are those of the authors' code.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD

from invad.config import DeSTSegConfig, ScoreConfig
from invad.devices import full_precision
from invad.features.encoder import Encoder, like, normalized, take_over, untrained_network
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
    decay_groups,
)
from invad.methods.maps import resized
from invad.methods.resnet import residual_blocks

STUDENT_SHARE = 5  # the student's phase is the training divided by this
MOMENTUM, DECAY = 0.9, 1e-4
CLIP = {"paper": float("inf"), "re-run": 5.0}  # of the gradient of the network that a phase trains
STAGE_FACTOR = 10.0  # of the rate, in the first stage of the segmentation network
DILATIONS = (6, 12, 18)
FOCUS = 4  # of the focal loss
LARGEST = 100  # pixels of a map, whose mean is the image's score


class DeSTSeg(Method):
    """The authors' method. Its map is a probability, which is not blurred.

    Raises `InputError` for an encoder without features at twice the coarsest stride, where the student's encoder ends.
    """

    sigma = 0.0
    align_corners = False

    def __init__(self, output: EncoderOutput, config: DeSTSegConfig) -> None:
        super().__init__(output, config)
        self.config = config
        corruption = Corruption(probability=1.0, rotation=0.0, operations=0, textures=config.textures)
        self.needs = Needs(images=True, corruption=corruption)
        self.teacher = like(output)
        self.student = Student(output)
        self.segmentation = Segmentation(output, config.width)

    def adopt(self, encoder: Encoder) -> None:
        """Make a pretrained encoder the teacher."""
        take_over(self.teacher, encoder)

    def phases(self) -> Sequence[TrainingPhase]:
        """Return that of the student, a fifth of all and at least one epoch or step, and that of the segmentation network."""
        config, clip = self.config, CLIP[self.config.recipe]

        def of_student() -> list[Optimisation]:
            groups = decay_groups(self.student.parameters(), DECAY, weights_alone=config.recipe == "re-run")
            optimizer = SGD(groups, lr=config.learning_rate, momentum=MOMENTUM)
            return [Optimisation(optimizer, lambda position: config.learning_rate, clip)]

        def of_segmentation() -> list[Optimisation]:
            groups = [
                {"params": list(self.segmentation.stage.parameters()), "factor": STAGE_FACTOR},
                {"params": [*self.segmentation.pyramid.parameters(), *self.segmentation.head.parameters()]},
            ]
            optimizer = SGD(groups, lr=config.segmentation_rate, momentum=MOMENTUM, weight_decay=DECAY)
            return [Optimisation(optimizer, lambda position: config.segmentation_rate, clip)]

        whole, unit = (config.steps, "steps") if config.steps else (config.epochs, "epochs")
        first = -(-whole // STUDENT_SHARE)
        return [
            TrainingPhase(of_student, frozen=("teacher", "segmentation"), **{unit: first}),
            TrainingPhase(of_segmentation, frozen=("teacher", "student"), **{unit: whole - first}),
        ]

    def loss(self, batch: Batch, position: Position) -> Tensor:
        """Return the student's loss in the first phase, that of the segmentation network in the second."""
        if batch.images is None or batch.corrupted is None or batch.masks is None:
            raise ValueError("DeSTSeg trains on images with synthetic anomalies")
        corrupted = normalized(batch.corrupted)
        student = self.student(corrupted)
        if position.phase == 0:
            # As published a sum over the batch, which all workers share; what is averaged is their part of it.
            return self.config.batch_size * feature_loss(self.teacher(normalized(batch.images)), student)
        return segmentation_loss(self.segmentation(self.teacher(corrupted), student), batch.masks)

    def predict(self, batch: Batch, score: ScoreConfig) -> Prediction:
        """Return the probability that a pixel is anomalous, (B, H, W) of the image's size, and the means of the 100 largest."""
        if batch.images is None:
            raise ValueError("DeSTSeg predicts images")
        images = normalized(batch.images)
        probabilities = self.segmentation(self.teacher(images), self.student(images))
        maps = resized(probabilities.squeeze(1), self.output.image_size, align_corners=False)
        return Prediction(maps, maps.flatten(1).topk(LARGEST).values.mean(dim=1))


class Student(nn.Module):
    """Normalised images (B, 3, H, W) -> features in the shapes of the teacher's levels, fine to coarse.

    An untrained encoder of the teacher's architecture, one stride deeper, and a stage for it and for each level; nothing skips them. Where
    the teacher is no ResNet its features may be negative, and so may the student's: levels end without their ReLU.
    """

    def __init__(self, output: EncoderOutput) -> None:
        super().__init__()
        self.grids = output.grids
        self.encoder = untrained_network(output.encoder, (2 * output.strides[-1],))
        deepest = vars(self.encoder)["feature_info"].channels()[0]
        widths, signed = [deepest, *reversed(output.channels)], residual_blocks(output.encoder) is None
        of_levels = (_stage(before, after, signed=signed) for before, after in pairwise(widths))
        self.decoder = nn.ModuleList([_stage(deepest, deepest), *of_levels])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the levels."""
        x = self.decoder[0](self.encoder(images)[0])
        levels = []
        for stage, grid in zip(self.decoder[1:], reversed(self.grids), strict=True):
            x = stage(_on_grid(x, grid))
            levels.append(x)
        return levels[::-1]


class Segmentation(nn.Module):
    """Features of teacher and student -> the probability (B, 1, H, W) that a place on the finest grid is anomalous."""

    def __init__(self, output: EncoderOutput, width: int) -> None:
        super().__init__()
        self.grid = output.grids[0]
        self.stage = _stage(sum(output.channels), width)
        self.pyramid = Pyramid(width)
        self.head = nn.Sequential(_convolution(width, width), nn.Conv2d(width, 1, 1))

    def forward(self, teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
        """Return the probabilities; the levels, fine to coarse, are compared channel by channel."""
        products = [-x * y for x, y in map(_unit_vectors, teacher, student)]
        logits = self.head(self.pyramid(self.stage(torch.cat([_on_grid(x, self.grid) for x in products], dim=1))))
        return logits.float().sigmoid()


def _convolution(in_channels: int, out_channels: int, kernel_size: int = 3, dilation: int = 1) -> nn.Sequential:
    """A convolution that keeps the grid, BatchNorm and ReLU."""
    padding = kernel_size // 2 * dilation
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class Pyramid(nn.Module):
    """ASPP, (B, C, H, W) -> the same shape: the mean of each channel beside dilated convolutions, and their fusion."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean = _convolution(width, width, kernel_size=1)
        self.dilated = nn.ModuleList(_convolution(width, width, dilation=dilation) for dilation in DILATIONS)
        self.fusion = _convolution(width * (1 + len(DILATIONS)), width)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the branches see, fused."""
        mean = self.mean(x.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        return self.fusion(torch.cat([mean, *(branch(x) for branch in self.dilated)], dim=1))


def _stage(before: int, after: int, *, signed: bool = False) -> nn.Sequential:
    """Two basic blocks of a ResNet, which do not stride; the first changes the number of channels. `signed`: without the last ReLU."""
    from timm.models.resnet import BasicBlock

    shortcut = None
    if before != after:
        shortcut = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))
    blocks = nn.Sequential(BasicBlock(before, after, downsample=shortcut), BasicBlock(after, after))
    for module in blocks.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if signed:
        blocks[-1].act2 = nn.Identity()
    return blocks


def _on_grid(x: Tensor, side: int) -> Tensor:
    return functional.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)


def _unit_vectors(teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
    """Return both (B, C, H, W) with vectors of length 1 at each place; `normalize` has a gradient where one is 0, and a root has none."""
    with full_precision(student.device):
        return functional.normalize(teacher.float(), dim=1), functional.normalize(student.float(), dim=1)


def feature_loss(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """Return the sum over levels of the mean over images and places of one minus the cosine; in [0, 2 * levels]."""
    products = [(x * y).sum(dim=1) for x, y in map(_unit_vectors, teacher, student)]
    return torch.stack([(1 - product).mean() for product in products]).sum()


def segmentation_loss(probabilities: Tensor, masks: Tensor) -> Tensor:
    """Return the focal loss plus the mean absolute error of probabilities (B, 1, h, w) for masks (B, 1, H, W) of 0 and 1."""
    target = (_on_grid(masks, probabilities.shape[2]) >= 0.5).float()
    with full_precision(probabilities.device):
        error = (probabilities - target).abs()
        entropy = functional.binary_cross_entropy(probabilities, target, reduction="none")
        return (error**FOCUS * entropy).mean() + error.mean()
