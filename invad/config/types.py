"""The types of the values in `params.yaml`: names, ranges and choices; and what all sections of networks share."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)  # of every section

DatasetKind = Literal["coco", "mvtec", "visa", "btad", "vad", "realiad", "table"]
EncoderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", max_length=100)]  # timm knows which there are
# Strides, fine to coarse; or groups of a ViT's blocks, counted from 0, whose outputs are averaged.
Levels = tuple[Annotated[int, Field(ge=1, le=64)], ...] | tuple[tuple[Annotated[int, Field(ge=0, le=255)], ...], ...]
Precision = Literal["float32", "bfloat16", "float16"]
# Switches of InvAD, the paper's choice first.
Loss = Literal["l2", "l1", "cosine", "local-cosine"]
Modulation = Literal["space-aware", "global", "none"]
ModulationTerms = Literal["both", "gamma", "beta"]
Normalisation = Literal["layer", "instance", "batch", "group", "none"]
Upsampler = Literal["rescaling", "resize"]
AggregationKind = Literal["strided", "average", "per-level"]
MapLevels = Literal["concatenated", "sum", "fine", "middle", "coarse"]
MapDistance = Literal["cosine", "l2"]

Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]
# Above these bounds nothing has been tried, and a typo would fill the memory.
BatchSize = Annotated[int, Field(ge=1, le=4096)]
Channels = Annotated[int, Field(ge=1, le=4096)]
Dimensions = Annotated[int, Field(ge=2, le=4096, multiple_of=2)]  # of vectors, half of which are a level's
Blocks = Annotated[int, Field(ge=1, le=64)]
Share = Annotated[float, Field(gt=0, le=1)]
Sigma = Annotated[float, Field(ge=0, le=1024)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Segments = Literal["none", "foreground", "vad", "folder"]  # what SegAD cuts a map along
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]


def check_image_size(size: int, multiple: int) -> None:
    """Raise `ValueError` that names the nearest accepted sizes unless `size` is a multiple of `multiple`."""
    if size % multiple:
        below = size // multiple * multiple
        raise ValueError(
            f"image_size: must be a multiple of {multiple}, such as {below} or {below + multiple}, not {size}"
        )


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ComputeConfig:
    """How a network runs. None of it is part of the recipe, but each changes how results are rounded (docs/speed.md has by how much).

    `precision`: of convolutions, by torch's autocast; weights, losses and maps stay float32. `channels_last`: the memory format of
    convolutions. `compile`: by torch.compile, which takes a minute at the start and needs a C++ compiler on a CPU.
    """

    precision: Precision = "float32"
    channels_last: bool = True
    compile: bool = False
