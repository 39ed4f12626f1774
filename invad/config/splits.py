"""The settings of the section `splits` of `params.yaml`: how a data set becomes a split table, and how its images are read."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from invad.config.constants import COCO_CATEGORIES
from invad.config.types import STRICT, DatasetKind, Seed


@dataclass(frozen=True, config=STRICT)
class CocoAdSplitConfig:
    """COCO-AD: fold `fold` holds out the categories `held_out * fold` to `held_out * (fold + 1) - 1`, counted by category id."""

    fold: Annotated[int, Field(ge=0)]
    held_out: Annotated[int, Field(ge=1, le=COCO_CATEGORIES - 1)] = 20

    def __post_init__(self) -> None:
        folds = COCO_CATEGORIES // self.held_out
        if self.fold >= folds:
            raise ValueError(f"fold: must be less than {folds} with held_out {self.held_out}")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ReadingConfig:
    """How the pixels of image files become those of images. Masks are read as they are stored.

    `exif_rotation`: images are turned as EXIF says, and masks have to fit the turned ones. `grey16_white`: images of 16-bit grey are
    taken, and scaled: 0 stays black, this value and all above it become white, 65535 for the whole range, 4095 for 12 bits.
    """

    exif_rotation: bool = False
    grey16_white: Annotated[int, Field(ge=255, le=65535)] | None = None


AS_STORED = ReadingConfig()


@dataclass(frozen=True, config=STRICT, kw_only=True)
class LabelledConfig:
    """The images that only a supervised method may see, of each class; chosen by `seed`, after those of the calibration.

    `anomalous`: so many anomalous test images, which are no test images then. `normal_share`: of the normal images to train on.
    `rule`: `hash` chooses by a hash of the seed and their names; `segad` as SegAD's authors do on VisA, by numpy's permutation.
    """

    anomalous: Annotated[int, Field(ge=0)] = 0
    normal_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seed: Seed = 0
    rule: Literal["hash", "segad"] = "hash"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class LabelledSplitConfig(ReadingConfig):
    """Splits that may set images with labels apart; None where all normal images are trained on and all anomalous ones tested."""

    labelled: LabelledConfig | None = None


@dataclass(frozen=True, config=STRICT)
class FolderSplitConfig(LabelledSplitConfig):
    """MVTec AD, VisA, BTAD. `strict`: images or masks without their partner, and unpublished numbers of images, are errors, no warnings."""

    strict: bool = True


@dataclass(frozen=True, config=STRICT)
class VadSplitConfig(FolderSplitConfig):
    """VAD. `protocol`: which defective images of `train/bad` a supervised method may see: none, all, or those of the key `low_shot`.

    `low_shot` is a key of the data set's `low_shot_train.json`.
    """

    protocol: Literal["one-class", "high-shot", "low-shot"] = "one-class"
    low_shot: str | None = None

    def __post_init__(self) -> None:
        if (self.protocol == "low-shot") != (self.low_shot is not None):
            raise ValueError("low_shot: is needed with `protocol: low-shot`, and only there")


@dataclass(frozen=True, config=STRICT)
class RealIadSplitConfig(FolderSplitConfig):
    """Real-IAD. `variant`: the folder of JSON tables that is the split; `resolution`: the folder of images, where there are several."""

    variant: Literal[
        "realiad_jsons",
        "realiad_jsons_sv",
        "realiad_jsons_fuiad_0.0",
        "realiad_jsons_fuiad_0.1",
        "realiad_jsons_fuiad_0.2",
        "realiad_jsons_fuiad_0.4",
    ] = "realiad_jsons"
    resolution: Literal["realiad_256", "realiad_512", "realiad_1024", "realiad_raw"] | None = None


@dataclass(frozen=True, config=STRICT)
class TableSplitConfig(LabelledSplitConfig):
    """Data of one's own: of the normal images without a phase, `test_share` are kept for the test, chosen by `seed` in each class."""

    seed: Seed = 0
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2


SplitConfig = CocoAdSplitConfig | FolderSplitConfig | TableSplitConfig


def reading_of(config: SplitConfig) -> ReadingConfig:
    """Return how the images of a benchmark with these splits are read."""
    if not isinstance(config, ReadingConfig):
        return AS_STORED
    return ReadingConfig(exif_rotation=config.exif_rotation, grey16_white=config.grey16_white)


SPLIT_CONFIGS: dict[DatasetKind, type[SplitConfig]] = {
    "coco": CocoAdSplitConfig,
    "mvtec": FolderSplitConfig,
    "visa": FolderSplitConfig,
    "btad": FolderSplitConfig,
    "vad": VadSplitConfig,
    "realiad": RealIadSplitConfig,
    "table": TableSplitConfig,
}
