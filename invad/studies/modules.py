"""What `invad-pipe ablate` compares: the modules of the paper, and for each the variants of it.

Keys are those of a benchmark's sections in params.yaml. Every variant says the values of all keys that its module touches, also those
that are defaults, so that it means the same whatever the benchmark's own settings are; all other settings stay the benchmark's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from invad.errors import InputError

PAPER = "paper"  # names the paper's variant of any module


@dataclass(frozen=True)
class Variant:
    """One setting of a module.

    `changes`: values by dotted key, such as `train.blocks`. `is_paper`: the paper trained its own results with it. `note`: what it is, in
    a few words.
    """

    name: str
    changes: Mapping[str, Any]
    is_paper: bool = False
    note: str = ""


@dataclass(frozen=True)
class Module:
    """A part of the method and what can stand in its place."""

    name: str
    description: str
    variants: tuple[Variant, ...]

    def choose(self, names: Sequence[str], where: str = "--variants") -> tuple[Variant, ...]:
        """Return the variants `names` in this module's order, all of them when none is named; `paper` is the paper's.

        Raises:
            InputError: There is none of that name; `where` is what the message names.
        """
        known = [variant.name for variant in self.variants]
        wanted = set()
        for name in names:
            variants = [one.name for one in self.variants if one.name == name or (name == PAPER and one.is_paper)]
            if not variants:
                raise InputError(f"{where}: unknown variant {name!r} of {self.name}; known are {', '.join(known)}")
            wanted.update(variants)
        return tuple(one for one in self.variants if not names or one.name in wanted)


def module_named(name: str, where: str = "--module") -> Module:
    """Return a module; `InputError` that lists all when there is none of that name."""
    if name not in MODULES:
        raise InputError(f"{where}: unknown module {name!r}; known are {', '.join(MODULES)}")
    return MODULES[name]


def _ssm(name: str, modulation: str, terms: str, note: str, *, is_paper: bool = False) -> Variant:
    return Variant(name, {"train.modulation": modulation, "train.modulation_terms": terms}, is_paper, note)


def _style(name: str, channels: int, note: str, *, translator: bool = True, is_paper: bool = False) -> Variant:
    return Variant(name, {"train.style_channels": channels, "train.style_translator": translator}, is_paper, note)


def _value(key: str, value: Any, note: str = "", *, is_paper: bool = False) -> Variant:  # noqa: ANN401
    return Variant(str(value), {key: value}, is_paper, note)


def _encoder(name: str, weights: str, note: str, *, is_paper: bool = False) -> Variant:
    return Variant(name, {"features.encoder": name, "features.weights": weights}, is_paper, note)


def _size(side: int, *, is_paper: bool = False) -> Variant:
    """The blur grows with the image: the paper's 4 pixels at 256."""
    changes = {"features.image_size": side, "score.sigma": side / 64}
    return Variant(str(side), changes, is_paper, f"{side} px, blur of {side / 64:g} px")


def _batch(size: int, *, is_paper: bool = False) -> Variant:
    """The paper's rule for the learning rate: 0.001 for each 8 images of a batch."""
    rate = 0.001 * size / 8
    return Variant(
        str(size), {"train.batch_size": size, "train.learning_rate": rate}, is_paper, f"learning rate {rate:g}"
    )


def _map(name: str, levels: str, distance: str, note: str, *, is_paper: bool = False) -> Variant:
    return Variant(name, {"score.map_levels": levels, "score.map_distance": distance}, is_paper, note)


_ALL = (
    Module(
        "ssm",
        "how the style enters the generator",
        (
            _ssm("space-aware", "space-aware", "both", "a factor and an offset for each place", is_paper=True),
            _ssm("global", "global", "both", "one factor and one offset for each channel"),
            _ssm("none", "none", "both", "no modulation"),
            _ssm("gamma-only", "space-aware", "gamma", "factors for each place, no offset"),
            _ssm("beta-only", "space-aware", "beta", "offsets for each place, no factor"),
        ),
    ),
    Module(
        "style",
        "the style maps: their channels, and the translator that makes them",
        (
            _style("64", 64, "64 style channels", is_paper=True),
            _style("256", 256, "256 style channels"),
            _style("without-translator", 64, "without style translator", translator=False),
        ),
    ),
    Module(
        "upsampler",
        "how the aggregated features come onto the grid of each level",
        (
            _value("train.upsampler", "rescaling", "learned convolutions, level by level", is_paper=True),
            _value("train.upsampler", "resize", "a bilinear resize, nothing learned"),
        ),
    ),
    Module(
        "aggregation",
        "how the encoder's levels become the few channels that the style is made of",
        (
            _value("train.aggregation", "strided", "learned strided convolutions", is_paper=True),
            _value("train.aggregation", "average", "average pooling"),
            _value("train.aggregation", "per-level", "each level by itself"),
        ),
    ),
    Module(
        "norm",
        "the normalisation before the modulation",
        (
            _value("train.normalisation", "layer", is_paper=True),
            _value("train.normalisation", "instance"),
            _value("train.normalisation", "batch"),
            _value("train.normalisation", "group"),
            _value("train.normalisation", "none"),
        ),
    ),
    Module(
        "loss",
        "the distance of features and reconstructions in training",
        (
            _value("train.loss", "l2", "mean squared error", is_paper=True),
            _value("train.loss", "l1", "mean absolute error"),
            _value("train.loss", "cosine", "one minus the cosine, as in RD"),
        ),
    ),
    Module(
        "latent",
        "the channels of the style codes",
        (
            _value("train.latent_channels", 16, is_paper=True),
            _value("train.latent_channels", 64),
        ),
    ),
    Module(
        "blocks",
        "residual blocks of the generator on each level",
        (
            _value("train.blocks", 1),
            _value("train.blocks", 2, is_paper=True),
            _value("train.blocks", 4, "InvAD-lite's"),
        ),
    ),
    Module(
        "encoder",
        "the frozen encoder",
        (
            _encoder("wide_resnet50_2", "wide_resnet50_2.racm_in1k", "", is_paper=True),
            _encoder("resnet34", "resnet34.bt_in1k", "InvAD-lite's"),
            _encoder("resnet50", "resnet50.a1_in1k", ""),
            _encoder("resnet18", "resnet18.a1_in1k", ""),
            _encoder("mobilenetv2_100", "packaged", "needs no download"),
        ),
    ),
    # Multiples of 32, which every method accepts.
    Module("size", "the side of the input image in pixels", (_size(128), _size(192), _size(256, is_paper=True), _size(320))),
    Module(
        "batch", "the batch size, with the learning rate that goes with it",
        (_batch(8), _batch(16), _batch(32, is_paper=True), _batch(64)),
    ),
    Module(
        "epochs",
        "how long is trained",
        (
            _value("train.epochs", 10),
            _value("train.epochs", 30),
            _value("train.epochs", 100, "of COCO-AD and VisA", is_paper=True),
            _value("train.epochs", 300, "the paper's on MVTec AD"),
        ),
    ),
    Module(
        "map",
        "how features and reconstructions become an anomaly map",
        (
            _map("concatenated-cosine", "concatenated", "cosine", "all levels concatenated", is_paper=True),
            _map("fine", "fine", "cosine", "the finest level alone"),
            _map("middle", "middle", "cosine", "the middle level alone"),
            _map("coarse", "coarse", "cosine", "the coarsest level alone"),
            _map("sum", "sum", "cosine", "the sum of the levels' maps"),
            _map("concatenated-l2", "concatenated", "l2", "length of the difference instead of the cosine"),
        ),
    ),
)  # fmt: skip
MODULES: dict[str, Module] = {module.name: module for module in _ALL}
