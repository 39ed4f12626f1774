"""A trained SegAD: a forest for each class, and the file that keeps them, JSON without any code."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from invad.config import STRICT, parse
from invad.config.types import Name, Segments
from invad.errors import InputError
from invad.files import read_json, write_text
from invad.supervised.forest import from_plain, margins
from invad.supervised.segments import MOST_SEGMENTS
from invad.supervised.statistics import feature_names

if TYPE_CHECKING:
    from xgboost import Booster

FORMAT = "invad-segad-1"
MOST_BYTES = 500_000_000  # of the file; a class has about 1.4 MB


@dataclass(frozen=True, config=STRICT)
class ClassForest:
    """The forest of a class, in XGBoost's JSON, and the images that it has learnt from.

    `segments`: L of its label maps. `threshold`: the margin above which an image is called anomalous, from held-out normal images; None
    without any.
    """

    segments: Annotated[int, Field(ge=1, le=MOST_SEGMENTS)]
    features: tuple[str, ...]
    normal: Annotated[int, Field(ge=1)]
    anomalous: Annotated[int, Field(ge=1)]
    threshold: float | None
    forest: dict[str, Any]


@dataclass(frozen=True, config=STRICT)
class SegADModel:
    """What `segad.json` holds. `detectors`: the benchmarks whose maps are read, in this order; `image_size`: the side of their maps."""

    format: Literal["invad-segad-1"]
    detectors: Annotated[tuple[Name, ...], Field(min_length=1)]
    image_size: Annotated[int, Field(ge=1)]
    segments: Segments
    maxima: bool
    seed: int
    classes: dict[str, ClassForest]

    def scores(self, class_name: str, features: np.ndarray) -> np.ndarray:
        """Return the margins of a class's images, float32 (n,); features: (n, F) of `image_features`. `InputError`: an unknown class."""
        if class_name not in self.classes:
            raise InputError(f"class {class_name!r}: this model has {', '.join(self.classes)}")
        return margins(self._forests[class_name], features)

    def __post_init__(self) -> None:
        forests: dict[str, Booster] = {}
        for name, each in self.classes.items():
            if list(each.features) != feature_names(len(self.detectors), each.segments, maxima=self.maxima):
                raise ValueError(f"classes: the features of {name!r} are not those of its detectors and segments")
            forests[name] = from_plain(each.forest, len(each.features))
        object.__setattr__(self, "_forests", forests)


def write_model(model: SegADModel, path: Path) -> None:
    """Write the file that `read_model` reads."""
    write_text(path, json.dumps(asdict(model), ensure_ascii=False, allow_nan=False) + "\n")


def read_model(path: Path) -> SegADModel:
    """Read a trained SegAD; `InputError`: the file is missing or damaged, or of another version, or xgboost is not installed."""
    value = read_json(path, MOST_BYTES)
    try:
        return parse(SegADModel, value, "segad: ")
    except InputError as error:
        if (reason := str(error)).startswith("segad: "):
            reason = reason.removeprefix("segad: ").lstrip(".")[:200]
            raise InputError(f"{path}: damaged, or of another version ({reason})") from None
        raise
