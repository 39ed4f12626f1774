"""Reproducible multi-class visual anomaly detection: InvAD, COCO-AD and the metrics of arXiv:2404.10760, as one pipeline.

`invad.train(images)` is a model of normal images and `invad.load(folder)` a trained one, both ready for images. `invad.metrics.evaluate`
has all metrics for anybody's anomaly maps, `invad.methods.METHODS` the methods that can be trained, and `invad.config` their settings.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # importing this package imports neither torch nor anything else that is slow
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import ModuleType

    from invad.config import CalibrationConfig, FeaturesConfig, ReadingConfig, ScoreConfig, TrainConfig
    from invad.data.split_table import Split
    from invad.predict.inputs import ImageInput
    from invad.predict.predictor import Predictor

__version__ = "0.1.0"

_MODULES = ("config", "errors", "methods", "metrics")  # imported when they are asked for


def __getattr__(name: str) -> "ModuleType":
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})


def load(folder: "str | Path", *, class_name: str | None = None, device: str | None = None) -> "Predictor":
    """Load a model folder, such as `models/mvtec`: `load(folder).predict(images)` gives scores, decisions, maps and regions.

    Args:
        folder: What the stages `train` and `evaluate`, or `Predictor.save`, have written. No pickle is read.
        class_name: Whose thresholds decide; by default those of all classes together.
        device: `cpu`, `cuda`, `cuda:1`; by default a GPU where there is one.

    Raises:
        InputError: The folder is missing, damaged or made by a version that this one cannot read; or class or device are unknown.
    """
    from invad.predict.predictor import load_predictor

    return load_predictor(folder, class_name=class_name, device=device)


def train(
    images: "str | Path | Iterable[ImageInput] | Mapping[str, str | Path | Iterable[ImageInput]] | Split",
    *,
    method: "str | TrainConfig" = "invad",
    features: "FeaturesConfig | None" = None,
    score: "ScoreConfig | None" = None,
    calibration: "CalibrationConfig | None" = None,
    reading: "ReadingConfig | None" = None,
    name: str = "model",
    device: str | None = None,
    threads: int | None = None,
    progress: bool = True,
    **settings: Any,  # noqa: ANN401
) -> "Predictor":
    """Train on normal images, set thresholds from some of them that are held out, and return the model, ready for images.

    It is what the stages `features`, `train`, `score` and `evaluate` do, in this process, without DVC, Ray and MLflow: the same split,
    settings and number of threads give the same bits. Nothing is kept on the disk; `Predictor.save` writes the model folder.

    Args:
        images: Normal ones: a folder, or paths, PIL images, arrays or tensors (of one class, called `name`); a dict of class -> those; or a
            `Split`, whose phases `train` and `calibration` are used.
        method: A name of `invad.methods.METHODS`, whose settings are keyword arguments, as in `epochs=20`; or its settings as a whole.
        features: The encoder and the size of its images; by default `FeaturesConfig("mobilenetv2_100")`, which takes 256 x 256 pixels.
        score: How maps are made; by default `ScoreConfig()`.
        calibration: How many images of each class are held out, and which share of them may lie above the thresholds; by default a
            tenth and 1 %. Of a `Split` the latter only counts.
        reading: Whether images are turned as EXIF says, and 16-bit grey is scaled: the model reads so ever after; by default neither. Of a
            `Split` its own counts.
        name: Of the model, as a benchmark has one.
        device: `cpu`, `cuda`, `cuda:1`; by default a GPU where there is one.
        threads: Of torch while it trains; by default as many as it uses already. The stage `train` has one for each CPU of its
            `resources_per_worker`.
        progress: Whether bars are shown.
        **settings: Of the method: the fields of its class in `invad.config.TRAIN_CONFIGS`.

    Raises:
        InputError: An image cannot be read, there are too few, a setting is unknown or wrong, or the loss is not finite.
    """
    from invad.pipeline.in_process import train_predictor

    return train_predictor(
        images,
        method=method,
        features=features,
        score=score,
        calibration=calibration,
        reading=reading,
        name=name,
        device=device,
        threads=threads,
        progress=progress,
        settings=settings,
    )
