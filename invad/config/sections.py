"""The sections of `params.yaml` as frozen dataclasses: keys, types, ranges and defaults."""

import re
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from invad.config.constants import NO_ENCODER, PACKAGED_ENCODERS, PUBLISHED_DATASETS, STRIDES
from invad.config.methods import TrainConfig
from invad.config.splits import SplitConfig
from invad.config.types import (
    STRICT,
    BatchSize,
    Blocks,
    Channels,
    ComputeConfig,
    DatasetKind,
    EncoderName,
    Levels,
    MapDistance,
    MapLevels,
    Name,
    Positive,
    PositiveFloat,
    Seed,
    Segments,
    Share,
    Sigma,
    check_image_size,
)
from invad.errors import InputError

T = TypeVar("T")


def dataset_kind(dataset: str) -> DatasetKind:
    """Return what a data set's folder looks like: that of one of the published sets, or whatever a `table` says."""
    return dataset if dataset in PUBLISHED_DATASETS else "table"


@dataclass(frozen=True, config=STRICT)
class DownloadConfig:
    """Where a data set comes from.

    `path`: the user's folder (`source: path`), and `table` the table of its images, which only a data set of one's own has.
    `official`: `accept_license` for the sets that ask for it; `files`: other addresses or local files, by the official name; `store`: the
    folder of archives and images, by default `data/store/<data set>`; `keep_archives` after they are unpacked.
    `embedded`: `seed`, images (coco: in all, else of each class) and their side in pixels.
    """

    source: Literal["embedded", "path", "official"]
    path: str | None = None
    table: str | None = None
    accept_license: bool = False
    files: dict[str, str] = field(default_factory=dict)
    store: str | None = None
    keep_archives: bool = True
    seed: Seed = 0
    train_images: Annotated[int, Field(ge=4)] = 40
    test_images: Annotated[int, Field(ge=6)] = 30
    image_size: Annotated[int, Field(ge=64, le=1024)] = 192

    def __post_init__(self) -> None:
        if (self.source == "path") != (self.path is not None):
            raise ValueError("path: is needed with `source: path`, and only there")


@dataclass(frozen=True, config=STRICT)
class CalibrationConfig:
    """The normal training images that thresholds are taken from; no key has a default, because dvc.yaml names each.

    `share` of each class's, chosen by `seed`, is kept from training. `false_positive_rate`: of these images, and of their pixels.
    """

    share: Annotated[float, Field(ge=0, lt=1)]
    false_positive_rate: Annotated[float, Field(gt=0, lt=1)]
    seed: Seed


NOT_CALIBRATED = CalibrationConfig(share=0.0, false_positive_rate=0.01, seed=0)


@dataclass(frozen=True, config=STRICT)
class FeaturesConfig(ComputeConfig):
    """The frozen encoder and what becomes of its features. `image_size` is the side of the square input in pixels.

    `encoder`: a network of timm; `none` for methods that see images alone. `levels`: the strides of its features, fine to coarse, or of
    a ViT groups of blocks, counted from 0, whose outputs are averaged, such as `[[2, 3, 4, 5], [6, 7, 8, 9]]`.
    `weights`: `packaged` (of an installed package, for `PACKAGED_ENCODERS`), `none` (random), a timm tag such as
    `wide_resnet50_2.racm_in1k`, or the path of a `.safetensors` or `.pth` file.
    `mode`: `store` writes every image's features to the disk once, as `dtype`; `live` writes none and runs the encoder while training
    and scoring, for data whose features would not fit.
    """

    encoder: EncoderName
    weights: str = "packaged"
    image_size: Annotated[int, Field(ge=32, le=1024)] = 256
    dtype: Literal["float16", "float32"] = "float16"
    batch_size: BatchSize = 16
    mode: Literal["store", "live"] = "store"
    levels: Levels = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if not self.levels:
            object.__setattr__(self, "levels", STRIDES)
        if () in self.levels or list(self.levels) != sorted(set(self.levels)):
            raise ValueError("levels: must be strides, fine to coarse, or groups of a ViT's blocks in their order")
        check_image_size(self.image_size, self.stride)
        if self.encoder == NO_ENCODER and (self.mode, self.weights, self.levels) != ("live", "none", STRIDES):
            raise ValueError(
                f"encoder: {NO_ENCODER} has no features; it takes `mode: live`, `weights: none` and no levels"
            )
        if self.weights == "packaged" and self.encoder not in PACKAGED_ENCODERS:
            tag = f"a timm tag ({self.encoder}.<tag>), a file, or none"
            raise ValueError(
                f"weights: packaged exists for {' and '.join(PACKAGED_ENCODERS)} only; {self.encoder} takes {tag}"
            )

    @property
    def stride(self) -> int:
        """The stride of the coarsest level; that of a ViT is the side of its patches, if its name has it, and otherwise 1."""
        last = self.levels[-1]
        patch = re.search(r"patch(\d+)", self.encoder)
        return last if isinstance(last, int) else int(patch[1]) if patch else 1

    def absolute(self) -> "FeaturesConfig":
        """Return the same with the absolute path of a weights file, for who works in another folder."""
        path = Path(self.weights)
        return replace(self, weights=str(path.absolute())) if path.is_file() else self


@dataclass(frozen=True, config=STRICT)
class ResourcesConfig:
    """What Ray reserves for each worker. `gpu: auto` takes one GPU for each worker where the cluster has enough of them."""

    cpu: PositiveFloat = 1
    gpu: Literal["auto"] | Annotated[float, Field(ge=0)] = "auto"


@dataclass(frozen=True, config=STRICT)
class WorkersConfig:
    """The processes that share a stage's work through Ray."""

    workers: Positive = 1
    resources_per_worker: ResourcesConfig = field(default_factory=ResourcesConfig)


@dataclass(frozen=True, config=STRICT)
class TrainingConfig(WorkersConfig):
    """The workers that share a training, and after how many steps a checkpoint is written."""

    checkpoint_steps: Positive = 200


@dataclass(frozen=True, config=STRICT)
class TrainingsConfig:
    """The trainings of a benchmark, and when each is looked at: keys of the section `train`, but no part of the recipe.

    `seeds`: one training for each; the model is that of the first. `evaluate_at`: shares of a training after which test images are scored
    as well, for curves of the metrics over epochs; nothing is chosen by them.
    """

    seeds: Annotated[tuple[Seed, ...], Field(max_length=1000)] = ()
    evaluate_at: Annotated[tuple[Share, ...], Field(max_length=1000)] = ()

    def __post_init__(self) -> None:
        for key in ("seeds", "evaluate_at"):
            if len(set(getattr(self, key))) < len(getattr(self, key)):
                raise ValueError(f"{key}: names one twice")


@dataclass(frozen=True, config=STRICT)
class ScoreConfig(ComputeConfig):
    """How anomaly maps and the scores of images are made.

    `sigma` of the Gaussian blur, in pixels of the input size; `method` is the method's own (most: 4 at 256 pixels).
    `image_score`: the method's own, or the maximum of the map.
    `map_levels`: the distance of all levels concatenated, the sum of the levels' distances, or that of one level.
    `map_distance`: one minus the cosine, or the length of the features' difference (l2). `method` leaves both to the method.
    """

    sigma: Literal["method"] | Sigma = "method"
    batch_size: BatchSize = 16
    image_score: Literal["method", "maximum"] = "method"
    map_levels: Literal["method"] | MapLevels = "method"
    map_distance: Literal["method"] | MapDistance = "method"


@dataclass(frozen=True, config=STRICT)
class SupervisedConfig:
    """SegAD on the maps of some benchmarks of one data set, `detectors`.

    `segments`: what a map is cut along: nothing (`none`), object and background as a recipe finds them (`foreground`), the parts of VAD's
    product (`vad`), or the label maps in `folder`. `seeds`: of the trees; the model is that of the first. `redraw`: whether each seed takes
    other anomalous images, as many as the splits do. `rounds` of so many `trees`, each round at this `learning_rate`; `maxima`: whether
    trees see those of whole maps.
    """

    detectors: Annotated[tuple[Name, ...], Field(min_length=1)]
    segments: Segments = "foreground"
    folder: str | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    redraw: bool = False
    rounds: Positive = 10
    trees: Positive = 200
    learning_rate: PositiveFloat = 0.3
    maxima: bool = True

    def __post_init__(self) -> None:
        if (self.segments == "folder") != (self.folder is not None):
            raise ValueError("folder: is needed with `segments: folder`, and only there")
        for key in ("detectors", "seeds"):
            if len(set(getattr(self, key))) < len(getattr(self, key)):
                raise ValueError(f"{key}: names one twice")


@dataclass(frozen=True, config=STRICT)
class BenchmarkEntry:
    """An entry of the section `benchmarks`. `settings`: their name, without a default, because dvc.yaml looks it up."""

    dataset: str
    settings: Name
    fold: Annotated[int, Field(ge=0)] | None = None


@dataclass(frozen=True, config=STRICT)
class AblationConfig:
    """The `variants` of a module (all where none are named), each trained `seeds` times; `set`: other settings, by dotted key."""

    benchmark: Name
    variants: tuple[str, ...] = field(default_factory=tuple)
    seeds: Positive = 1
    set: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, config=STRICT)
class RangeConfig:
    """From `low` to `high`, on a logarithmic scale."""

    low: PositiveFloat
    high: PositiveFloat

    def __post_init__(self) -> None:
        if self.high < self.low:
            raise ValueError(f"high: must be at least low ({self.low:g}), not {self.high:g}")


@dataclass(frozen=True, config=STRICT)
class TuneConfig:
    """What `invad-pipe tune` tries. `validation_share`: of each class's normal training images, kept to judge the settings by."""

    samples: Positive = 16
    seed: Seed = 0
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    learning_rate: RangeConfig = RangeConfig(0.0005, 0.02)
    style_channels: Annotated[tuple[Channels, ...], Field(min_length=1)] = (16, 32, 64, 128)
    latent_channels: Annotated[tuple[Channels, ...], Field(min_length=1)] = (8, 16, 32, 64)
    blocks: Annotated[tuple[Blocks, ...], Field(min_length=1)] = (1, 2, 4)


@dataclass(frozen=True)
class BenchmarkConfig:
    """All settings of one benchmark, and its data set. `settings`: what they are called in params.yaml; by default as the benchmark.

    `train.seed` is that of the model: the first of `trainings.seeds`, where these are given.
    """

    name: str
    dataset: str
    splits: SplitConfig
    features: FeaturesConfig
    train: TrainConfig
    score: ScoreConfig
    calibration: CalibrationConfig = NOT_CALIBRATED
    settings: str = ""
    trainings: TrainingsConfig = TrainingsConfig()

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", self.settings or self.name)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that are trained, that of the model first."""
        return self.trainings.seeds or (self.train.seed,)

    def of_seed(self, seed: int) -> "BenchmarkConfig":
        """Return the same with one training, of this seed."""
        return replace(self, train=replace(self.train, seed=seed), trainings=TrainingsConfig())


@dataclass(frozen=True)
class Params:
    """The whole of `params.yaml`. `extraction`, `training`, `scoring`: the workers of the sections `features`, `train` and `score`."""

    download: Mapping[str, DownloadConfig]
    benchmarks: Mapping[str, BenchmarkConfig]
    extraction: WorkersConfig
    training: TrainingConfig
    scoring: WorkersConfig
    ablations: Mapping[str, AblationConfig] = field(default_factory=dict)
    tune: TuneConfig = TuneConfig()
    supervised: Mapping[str, SupervisedConfig] = field(default_factory=dict)

    def benchmark(self, name: str) -> BenchmarkConfig:
        """Return the sections of benchmark `name`; `InputError` when there is none of that name."""
        return _lookup(self.benchmarks, name, "benchmark")

    def supervised_method(self, name: str) -> SupervisedConfig:
        """Return the entry `name` of the section `supervised`; `InputError` when there is none of that name."""
        return _lookup(self.supervised, name, "supervised method")

    def dataset(self, name: str) -> DownloadConfig:
        """Return the download section of data set `name`; `InputError` when there is none of that name."""
        return _lookup(self.download, name, "data set")


def _lookup(section: Mapping[str, T], name: str, kind: str) -> T:
    if name not in section:
        raise InputError(f"unknown {kind} {name!r}; params.yaml has {', '.join(section)}")
    return section[name]
