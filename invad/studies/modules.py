"""What `invad-pipe ablate` compares: the modules of the paper, and for each the variants of it.

Keys are those of a benchmark's sections in params.yaml. Every variant says the values of all keys that its module touches, also those
that are defaults, so that it means the same whatever the benchmark's own settings are; all other settings stay the benchmark's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from invad.errors import InputError
from invad.report.ablations import VariantRow

PAPER = "paper"  # names the paper's variant of any module


@dataclass(frozen=True)
class Module:
    """A part of the method and what can stand in its place. `only_named`: variants that are too dear to run unless they are named."""

    name: str
    description: str
    variants: tuple[VariantRow, ...]
    only_named: tuple[str, ...] = ()

    def choose(self, names: Sequence[str]) -> tuple[VariantRow, ...]:
        """Return the variants `names` in this module's order, all that are not `only_named` by default; `InputError` for another name."""
        known = [variant.name for variant in self.variants]
        for name in names:
            if name not in (*known, PAPER):
                raise InputError(f"unknown variant {name!r} of the module {self.name}; known are {', '.join(known)}")
        default = [name for name in known if name not in self.only_named]
        return tuple(
            one for one in self.variants if one.name in (names or default) or (one.is_paper and PAPER in names)
        )


def module_named(name: str) -> Module:
    """Return a module; `InputError` that lists all when there is none of that name."""
    if name not in MODULES:
        raise InputError(f"unknown module {name!r}; known are {', '.join(MODULES)}")
    return MODULES[name]


def _module(name: str, description: str, keys: str, paper: Any, variants: Mapping[Any, Any]) -> Module:  # noqa: ANN401
    """Return a module; variants have values of `keys` and a note, of a single key the note alone; `paper` names the paper's."""
    rows = {name: (name, note) if isinstance(note, str) else note for name, note in variants.items()}
    return Module(
        name,
        description,
        tuple(
            VariantRow(str(variant), note, variant == paper, dict(zip(keys.split(), values, strict=True)))
            for variant, (*values, note) in rows.items()
        ),
    )


_MEMORY_BANK = {"train.model": "patchcore", "train.share": 1.0, "train.most_vectors": 30_000}
_NO_FEATURES = {"features.encoder": "none", "features.weights": "none", "features.mode": "live"}
_DINOMALY = {
    "train.model": "dinomaly",
    "features.encoder": "vit_base_patch14_reg4_dinov2",
    "features.weights": "vit_base_patch14_reg4_dinov2.lvd142m",
    "features.levels": ((2, 3, 4, 5), (6, 7, 8, 9)),
    "features.image_size": 252,
}
_TOCOAD = {"train.model": "tocoad", "features.mode": "live", "features.levels": (4, 8, 16, 32)}
_DESTSEG = {"train.model": "destseg", "features.mode": "live"}
_ALL = (
    Module(
        "method",
        "the method; all but the benchmark's own with its own defaults, and the benchmark's epochs where it has some",
        (
            VariantRow("invad", "", True, {"train.model": "invad"}),
            VariantRow("rd", "Reverse Distillation", False, {"train.model": "rd", "train.recipe": "re-run"}),
            VariantRow("patchcore", "nothing is trained", False, {"train.model": "patchcore"}),
            VariantRow("memory-bank", "PatchCore that keeps 30,000 vectors as they come", False, _MEMORY_BANK),
            VariantRow("simplenet", "", False, {"train.model": "simplenet", "train.recipe": "re-run"}),
            VariantRow("uniad", "", False, {"train.model": "uniad", "features.levels": (2, 4, 8, 16)}),
            VariantRow("dinomaly", "on DINOv2, which is downloaded; its own steps", False, _DINOMALY),
            VariantRow("draem", "sees images; hours without a GPU", False, {"train.model": "draem", **_NO_FEATURES}),
            VariantRow("destseg", "sees images; its encoder is the teacher", False, _DESTSEG),
            VariantRow("tocoad", "sees images; trains its encoder, hours without a GPU", False, _TOCOAD),
        ),
        only_named=("dinomaly", "draem", "destseg", "tocoad"),
    ),
    _module(
        "ssm", "how the style enters the generator", "train.modulation train.modulation_terms", "space-aware", {
            "space-aware": ("space-aware", "both", "a factor and an offset for each place"),
            "global": ("global", "both", "one factor and one offset for each channel"),
            "none": ("none", "both", "no modulation"),
            "gamma-only": ("space-aware", "gamma", "factors for each place, no offset"),
            "beta-only": ("space-aware", "beta", "offsets for each place, no factor"),
        },
    ),
    _module(
        "style", "the style maps: their channels, and the translator that makes them",
        "train.style_channels train.style_translator", "64", {
            "64": (64, True, "64 style channels"),
            "256": (256, True, "256 style channels"),
            "without-translator": (64, False, "without style translator"),
        },
    ),
    _module(
        "upsampler", "how the aggregated features come onto the grid of each level", "train.upsampler", "rescaling",
        {"rescaling": "learned convolutions, level by level", "resize": "a bilinear resize, nothing learned"},
    ),
    _module(
        "aggregation", "how the encoder's levels become the few channels that the style is made of",
        "train.aggregation", "strided",
        {"strided": "learned strided convolutions", "average": "average pooling", "per-level": "each level by itself"},
    ),
    _module(
        "norm", "the normalisation before the modulation", "train.normalisation", "layer",
        dict.fromkeys(("layer", "instance", "batch", "group", "none"), ""),
    ),
    _module(
        "mvad", "of MVAD: what a window of a view attends to in the other views",
        "train.attention train.position train.padding train.windows train.chosen", "selected", {
            "selected": (True, True, "counted", None, (4, 4, 4), "the four most similar windows"),
            "all": (True, True, "counted", (1, 1, 1), (64, 64, 64), "all cells of all other views; dear on fine grids"),
            "one": (True, True, "counted", None, (1, 1, 1), "the most similar window, out of fewer and larger ones"),
            "none": (False, True, "counted", None, (4, 4, 4), "no other view: norms and MLPs alone"),
            "without-position": (True, False, "counted", None, (4, 4, 4), "the query does not know where it is"),
            "masked": (True, True, "masked", None, (4, 4, 4), "padding is neither chosen nor attended to"),
        },
    ),
    _module(
        "loss", "the distance of features and reconstructions in training", "train.loss", "l2",
        {
            "l2": "mean squared error",
            "l1": "mean absolute error",
            "cosine": "one minus the cosine, as in RD",
            "local-cosine": "one minus the cosine at each place",
        },
    ),
    _module(
        "quick", "what makes InvAD good after few steps of batches of 8, one change more in each",
        "train.standardised train.loss train.learning_rate train.style_channels train.blocks score.map_levels", "paper", {
            "paper": (False, "l2", 0.004, 64, 2, "concatenated", ""),
            "standardised": (True, "l2", 0.004, 64, 2, "concatenated", "each channel over its standard deviation"),
            "local-cosine": (True, "local-cosine", 0.004, 64, 2, "concatenated", "the loss is that of the map"),
            "rate": (True, "local-cosine", 0.016, 64, 2, "concatenated", "four times the learning rate"),
            "small": (True, "local-cosine", 0.016, 32, 1, "concatenated", "half the style channels, one block a level"),
            "all": (True, "local-cosine", 0.016, 32, 1, "sum", "the sum of the levels' maps"),
        },
    ),
    _module("latent", "the channels of the style codes", "train.latent_channels", 16, {16: "", 64: ""}),
    _module(
        "blocks", "residual blocks of the generator on each level", "train.blocks", 2, {1: "", 2: "", 4: "InvAD-lite's"}
    ),
    _module(
        "encoder", "the frozen encoder", "features.encoder features.weights", "wide_resnet50_2", {
            "wide_resnet50_2": ("wide_resnet50_2", "wide_resnet50_2.racm_in1k", ""),
            "resnet34": ("resnet34", "resnet34.bt_in1k", "InvAD-lite's"),
            "resnet50": ("resnet50", "resnet50.a1_in1k", ""),
            "resnet18": ("resnet18", "resnet18.a1_in1k", ""),
            "mobilenetv2_100": ("mobilenetv2_100", "packaged", "needs no download"),
        },
    ),
    _module(  # multiples of 32, which every method accepts; the blur grows with the image, the paper's is 4 pixels at 256
        "size", "the side of the input image in pixels", "features.image_size score.sigma", "256",
        {str(side): (side, side / 64, f"{side} px, blur of {side / 64:g} px") for side in (128, 192, 256, 320)},
    ),
    _module(  # the paper's rule for the learning rate: 0.001 for each 8 images of a batch
        "batch", "the batch size, with the learning rate that goes with it", "train.batch_size train.learning_rate", "32",
        {str(size): (size, size / 8000, f"learning rate {size / 8000:g}") for size in (8, 16, 32, 64)},
    ),
    _module(
        "epochs", "how long is trained", "train.epochs", 100,
        {10: "", 30: "", 100: "of COCO-AD and VisA", 300: "the paper's on MVTec AD"},
    ),
    _module(
        "map", "how features and reconstructions become an anomaly map", "score.map_levels score.map_distance",
        "concatenated-cosine", {
            "concatenated-cosine": ("concatenated", "cosine", "all levels concatenated"),
            "fine": ("fine", "cosine", "the finest level alone"),
            "middle": ("middle", "cosine", "the middle level alone"),
            "coarse": ("coarse", "cosine", "the coarsest level alone"),
            "sum": ("sum", "cosine", "the sum of the levels' maps"),
            "concatenated-l2": ("concatenated", "l2", "length of the difference instead of the cosine"),
        },
    ),
    _module(  # for a benchmark of that method, as the next one
        "patchcore", "how many values PatchCore's vectors have, and which of them it keeps",
        "train.dimensions train.share train.most_vectors", "1024", {
            "1024": (1024, 0.1, 100_000, "a tenth of them, chosen"),
            "512": (512, 0.1, 100_000, ""),
            "256": (256, 0.1, 100_000, ""),
            "128": (128, 0.1, 100_000, "as many as two levels of mobilenetv2_100 have channels"),
            "bank": (1024, 1.0, 30_000, "30,000 of them as they come"),
            "bank-128": (128, 1.0, 30_000, "30,000 short ones as they come"),
        },
    ),
    _module(
        "tocoad", "what ToCoAD's extractor is adapted by; the bank is the same",
        "train.stages train.negatives train.loss train.lateral", "guided", {
            "guided": ("both", "guided", "focal", True, "both stages"),
            "frozen": ("none", "guided", "focal", True, "the extractor as it is"),
            "attraction": ("second", "none", "focal", True, "no negatives"),
            "mask": ("second", "mask", "focal", True, "negatives from the generator's masks"),
            "untrained-guide": ("second", "guided", "focal", True, "negatives from an untrained network"),
            "cross-entropy": ("both", "guided", "cross-entropy", True, "in place of the focal loss"),
            "without-lateral": ("both", "guided", "focal", False, "the guide sees the coarsest level alone"),
        },
    ),
)  # fmt: skip
MODULES: dict[str, Module] = {module.name: module for module in _ALL}
