"""The sections `ablations` and `tune`: what is trained to compare settings."""

from dataclasses import field
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from invad.config.types import STRICT, Blocks, Channels, Name, Positive, PositiveFloat, Seed


@dataclass(frozen=True, config=STRICT)
class AblationConfig:
    """One ablation of a `dvc repro`: the `variants` of a module (all where none are named), each trained `seeds` times.

    `set`: other values of the benchmark's settings, by dotted key such as `train.epochs`.
    """

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
    """What `invad-pipe tune` tries: `samples` settings from these ranges, chosen from `seed`.

    `validation_share`: of each class's normal training images, kept from training to judge the settings by, with defects drawn into them.
    """

    samples: Positive = 16
    seed: Seed = 0
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    learning_rate: RangeConfig = RangeConfig(0.0005, 0.02)
    style_channels: Annotated[tuple[Channels, ...], Field(min_length=1)] = (16, 32, 64, 128)
    latent_channels: Annotated[tuple[Channels, ...], Field(min_length=1)] = (8, 16, 32, 64)
    blocks: Annotated[tuple[Blocks, ...], Field(min_length=1)] = (1, 2, 4)
