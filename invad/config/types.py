"""The types of the values in `params.yaml`: names, ranges and choices."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)  # of every section

DatasetKind = Literal["coco", "mvtec", "visa", "table"]
EncoderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", max_length=100)]  # timm knows which there are
# Strides, fine to coarse; or groups of a ViT's blocks, counted from 0, whose outputs are averaged.
Levels = tuple[Annotated[int, Field(ge=1, le=64)], ...] | tuple[tuple[Annotated[int, Field(ge=0, le=255)], ...], ...]
Precision = Literal["float32", "bfloat16", "float16"]
# Switches of InvAD, the paper's choice first.
Loss = Literal["l2", "l1", "cosine"]
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
Blocks = Annotated[int, Field(ge=1, le=64)]
Share = Annotated[float, Field(gt=0, le=1)]
Sigma = Annotated[float, Field(ge=0, le=1024)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
