"""The settings of the methods, the papers' by default; apart from the networks, for stages that must not import torch."""

from dataclasses import fields
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from invad.config.types import (
    STRICT,
    AggregationKind,
    BatchSize,
    Blocks,
    Channels,
    ComputeConfig,
    Dimensions,
    Loss,
    Modulation,
    ModulationTerms,
    Normalisation,
    Positive,
    PositiveFloat,
    Seed,
    Share,
    Upsampler,
)


@dataclass(frozen=True, config=STRICT)
class TrainConfig(ComputeConfig):
    """What every method has."""

    GRID_MULTIPLE: ClassVar[int] = 1  # what the method divides the coarsest grid by
    # Whose features the method sees: those of the frozen encoder; none, but images; or those of an encoder that becomes a part of it.
    ENCODER: ClassVar[Literal["frozen", "none", "own"]] = "frozen"
    TAKES_BLOCKS: ClassVar[bool] = False  # groups of a ViT's blocks alone, as levels
    SYNTHETIC_ANOMALIES: ClassVar[bool] = False  # whether it trains on images with some
    VIEWS: ClassVar[bool] = False  # whether it sees objects in several views at a time, and no image alone
    MAP_CHOICES: ClassVar[bool] = False  # whether it heeds `map_levels` and `map_distance` of `score`
    # Where nothing is trained by gradients, the images are gone through once.
    epochs: ClassVar[int] = 1
    learning_rate: ClassVar[float] = 0.0

    model: str = "invad"
    batch_size: BatchSize = 32
    seed: Seed = 42

    @property
    def length(self) -> str:
        """How long is trained by gradients, in words; "" for not at all."""
        known = {field.name for field in fields(self)}
        own = (unit for unit in ("steps", "epochs") if unit in known and getattr(self, unit))
        return next((f"{getattr(self, unit):,} {unit}" for unit in own), "")


@dataclass(frozen=True, config=STRICT)
class GradientConfig(TrainConfig):
    """What every method has that is trained by gradients."""

    epochs: Positive = 100  # pyrefly: ignore[bad-override]
    learning_rate: PositiveFloat = 0.004  # pyrefly: ignore[bad-override]


@dataclass(frozen=True, config=STRICT)
class InvADConfig(GradientConfig):
    """InvAD; the defaults are the paper's. InvAD-lite has a `loss_weight` of 5 and 4 `blocks` per level.

    `loss`: mean squared (l2) or absolute (l1) error of each level, one minus the cosine of each level as RD has it, or that at each place.
    `standardised`: the network reproduces each channel less its mean, over its standard deviation; loss and maps are of these. The
    switches from `modulation` on are the paper's ablations, explained with `invad.methods.invad.network.FeatureInversion`.
    """

    MAP_CHOICES: ClassVar[bool] = True

    loss: Loss = "l2"
    loss_weight: PositiveFloat = 1.0
    standardised: bool = False
    style_channels: Channels = 64
    latent_channels: Channels = 16
    blocks: Blocks = 2
    modulation: Modulation = "space-aware"
    modulation_terms: ModulationTerms = "both"
    normalisation: Normalisation = "layer"
    upsampler: Upsampler = "rescaling"
    style_translator: bool = True
    aggregation: AggregationKind = "strided"


# What they have instead of the defaults; the second is for few steps of batches of 8, with a `learning_rate` of 0.016.
INVAD_LITE = {"loss_weight": 5.0, "blocks": 4}
INVAD_QUICK = {"loss": "local-cosine", "standardised": True, "style_channels": 32, "blocks": 1}


@dataclass(frozen=True, config=STRICT)
class RDConfig(GradientConfig):
    """RD with its paper's defaults. `recipe` `re-run`: gradients clipped at 5, a tenth of the rate after 80 % of the epochs."""

    GRID_MULTIPLE: ClassVar[int] = 2  # its bottleneck strides once more

    model: str = "rd"
    batch_size: BatchSize = 16
    learning_rate: PositiveFloat = 0.005
    recipe: Literal["paper", "re-run"] = "paper"


@dataclass(frozen=True, config=STRICT)
class PatchCoreConfig(TrainConfig):
    """PatchCore; the defaults are those of its authors' code for 10 % of the vectors.

    `share`: of the vectors that the memory keeps. `most_vectors`: so many at most, drawn evenly by `seed`, are looked through for it.
    `dimensions`: of a vector, even. `neighbours`: whose squared distances are averaged. `reweighted`: the paper's image score, which the
    authors' code does not have, over `b` = 9 neighbours.
    """

    model: str = "patchcore"
    batch_size: BatchSize = 16
    share: Share = 0.1
    most_vectors: Positive = 100_000
    dimensions: Dimensions = 1024
    neighbours: Positive = 1
    reweighted: bool = False


@dataclass(frozen=True, config=STRICT)
class SimpleNetConfig(GradientConfig):
    """SimpleNet; the defaults are those of its authors' code.

    `dimensions`: of a vector, even. `hidden`: of the discriminator. `noise`: its standard deviation. `learning_rate`: of the adaptor,
    `discriminator_rate`: of the discriminator. `recipe`: that of the published comparison (`re-run`) clips the gradient of each at 5 and
    decays neither biases nor norms; it goes with 100 epochs of batches of 32 and `image_score: maximum` of `score`.
    """

    model: str = "simplenet"
    epochs: Positive = 160
    batch_size: BatchSize = 8
    learning_rate: PositiveFloat = 1e-4
    discriminator_rate: PositiveFloat = 2e-4
    dimensions: Dimensions = 1536
    hidden: Channels = 1024
    noise: PositiveFloat = 0.015
    margin: PositiveFloat = 0.5
    recipe: Literal["paper", "re-run"] = "paper"


@dataclass(frozen=True, config=STRICT)
class UniADConfig(GradientConfig):
    """UniAD; the defaults are those of the published comparison, whose `learning_rate` is 1e-4 for each 8 images of a batch.

    `recipe`: that of the authors' code (`paper`) clips at 0.1, decays biases and norms too and has the lower rate one epoch later; it
    goes with 1000 epochs at 224 pixels. `layers`: of encoder and of decoder. `mask`: the size of the neighbourhood that attention does
    not see, in tokens (an even one hides one more); by default half of the grid's side, which is the published size / 32 at stride 16; 0
    for none. `jitter`: the scale of the noise, 0 for none.
    """

    model: str = "uniad"
    batch_size: BatchSize = 8
    learning_rate: PositiveFloat = 1e-4
    recipe: Literal["paper", "re-run"] = "re-run"
    layers: Blocks = 4
    width: Channels = 256
    heads: Channels = 8
    feed_forward: Channels = 1024
    mask: Annotated[int, Field(ge=0)] | None = None
    jitter: Annotated[float, Field(ge=0)] = 20.0


@dataclass(frozen=True, config=STRICT)
class DinomalyConfig(TrainConfig):
    """Dinomaly; the defaults are those of its authors' code, for MVTec AD and VisA. It takes groups of a ViT's blocks as levels.

    `steps`: of the training, which has no epochs. `learning_rate`: the highest, reached by `warm_up` steps; it falls to `final_rate`.
    `dropout`: in the bottleneck, 0.4 on Real-IAD. `blocks`: of the decoder. `head_width`: of its attention. `map_size`: the side of maps
    when they are blurred and scored. As published, though it darkens the border: `zero_border` of the blur. As published, though it may
    divide by 0: an `epsilon` of 0 in attention's sums; the authors advise 1e-6 against NaN.
    """

    TAKES_BLOCKS: ClassVar[bool] = True

    model: str = "dinomaly"
    batch_size: BatchSize = 16
    steps: Positive = 10_000
    learning_rate: PositiveFloat = 2e-3  # pyrefly: ignore[bad-override]
    final_rate: PositiveFloat = 2e-4
    warm_up: Annotated[int, Field(ge=0)] = 100
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    blocks: Blocks = 8
    head_width: Channels = 64
    map_size: Annotated[int, Field(ge=8, le=1024)] = 256
    zero_border: bool = True
    epsilon: Annotated[float, Field(ge=0, le=1)] = 0.0


@dataclass(frozen=True, config=STRICT)
class DRAEMConfig(GradientConfig):
    """DRAEM; the defaults are those of its authors' code.

    `width`, `segmentation_width`: of the first convolutions of the two networks. `recipe`: the authors' learning rate falls to a fifth
    after 80 and 90 % of the epochs; that of the published comparison (`re-run`) to a tenth after 80 %, with gradients clipped at 5, and
    no border around the map for the image score. `textures`: a folder of images, such as DTD's; by default training images of other
    classes.
    """

    # Its networks halve the image five times, which has no levels but the default's strides.
    GRID_MULTIPLE: ClassVar[int] = 2
    ENCODER: ClassVar[Literal["frozen", "none", "own"]] = "none"
    SYNTHETIC_ANOMALIES: ClassVar[bool] = True

    model: str = "draem"
    epochs: Positive = 700
    batch_size: BatchSize = 8
    learning_rate: PositiveFloat = 1e-4
    width: Channels = 128
    segmentation_width: Channels = 64
    recipe: Literal["paper", "re-run"] = "paper"
    textures: str = ""


@dataclass(frozen=True, config=STRICT)
class DeSTSegConfig(GradientConfig):
    """DeSTSeg; the defaults are those of the published comparison. The first fifth of the training is the student's.

    `learning_rate`: of the student, whose loss is a sum over the batch. `segmentation_rate`: of the segmentation network, whose first
    stage has ten times that. `recipe`: that of the authors' code (`paper`) clips nothing and decays the student's biases and norms too.
    `steps`: the length in place of `epochs`, 5,000 in the authors' code. `width`: of the segmentation network. `textures`: as for DRAEM.
    """

    GRID_MULTIPLE: ClassVar[int] = 2  # the student strides once more than its teacher
    ENCODER: ClassVar[Literal["frozen", "none", "own"]] = "own"
    SYNTHETIC_ANOMALIES: ClassVar[bool] = True

    model: str = "destseg"
    epochs: Annotated[int, Field(ge=2, le=2**31 - 1)] = 100
    steps: Annotated[int, Field(ge=2, le=2**31 - 1)] | None = None
    # A mean over the grid has one value of each image to normalise.
    batch_size: Annotated[int, Field(ge=2, le=4096)] = 32
    learning_rate: PositiveFloat = 0.4
    segmentation_rate: PositiveFloat = 0.01
    recipe: Literal["paper", "re-run"] = "re-run"
    width: Channels = 256
    textures: str = ""


@dataclass(frozen=True, config=STRICT)
class MVADConfig(GradientConfig):
    """MVAD; the defaults are those of its authors' code. Its `learning_rate` is 0.005 for each 16 images of a batch.

    `batch_size`: in images, all views of each object among them: 40 are 8 objects of 5 views. Of each level, fine to coarse:
    `attention_blocks`; `windows` a side that its grid is cut into, by default what makes the attention cheapest; `chosen`: how many of the
    other views' windows a window attends to. `attention`: whether it does, or blocks have norms and MLPs alone. `position`: whether the
    query knows where it is. `padding`: the zeros that fill the grid up are cells like others (`counted`, as published) or not seen at all.
    """

    GRID_MULTIPLE: ClassVar[int] = 2  # its bottleneck strides once more
    VIEWS: ClassVar[bool] = True

    model: str = "mvad"
    batch_size: BatchSize = 40
    learning_rate: PositiveFloat = 0.0125
    attention_blocks: tuple[Blocks, ...] = (1, 2, 4)
    windows: tuple[Blocks, ...] | None = None
    chosen: tuple[Positive, ...] = (4, 4, 4)
    heads: Channels = 8
    attention: bool = True
    position: bool = True
    padding: Literal["counted", "masked"] = "counted"
    loss: Loss = "l2"


@dataclass(frozen=True, config=STRICT)
class ToCoADConfig(TrainConfig):
    """ToCoAD; its paper reports few settings, so most defaults are this project's own.

    `epochs`: of the discriminative network, `contrast_epochs`: of the extractor. `stages`: `second` leaves the first stage out, `none`
    both, which is a bank of the frozen extractor. `learning_rate`: of the discriminative network and the heads of the contrast,
    `extractor_rate`: of the extractor. `lateral`: the discriminative network sees the finer levels too. `negatives`: what anomalous
    features are weighted by, the discriminative network's probabilities (`guided`) or the generator's `mask`; `none` leaves the repulsion
    out, whose weight is `repulsion`. `share`: of a class's vectors that the bank keeps, chosen among `most_vectors` of them.
    `dimensions`: of a vector, even. `textures`: a folder of images, such as DTD's; by default training images, shuffled.
    """

    ENCODER: ClassVar[Literal["frozen", "none", "own"]] = "own"
    SYNTHETIC_ANOMALIES: ClassVar[bool] = True

    model: str = "tocoad"
    epochs: Positive = 100  # pyrefly: ignore[bad-override]
    contrast_epochs: Positive = 20
    stages: Literal["both", "second", "none"] = "both"
    batch_size: BatchSize = 16
    learning_rate: PositiveFloat = 1e-3  # pyrefly: ignore[bad-override]
    extractor_rate: PositiveFloat = 1e-5
    loss: Literal["focal", "cross-entropy"] = "focal"
    lateral: bool = True
    negatives: Literal["guided", "mask", "none"] = "guided"
    repulsion: PositiveFloat = 0.5
    share: Share = 0.01
    most_vectors: Positive = 100_000
    dimensions: Dimensions = 1024
    textures: str = ""

    @property
    def length(self) -> str:
        """Both stages, those that there are."""
        lengths = {"both": f"{self.epochs} + {self.contrast_epochs} epochs", "second": f"{self.contrast_epochs} epochs"}
        return lengths.get(self.stages, "")


TRAIN_CONFIGS: dict[str, type[TrainConfig]] = {
    "invad": InvADConfig,
    "rd": RDConfig,
    "patchcore": PatchCoreConfig,
    "simplenet": SimpleNetConfig,
    "uniad": UniADConfig,
    "dinomaly": DinomalyConfig,
    "draem": DRAEMConfig,
    "destseg": DeSTSegConfig,
    "mvad": MVADConfig,
    "tocoad": ToCoADConfig,
}
