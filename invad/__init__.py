"""Reproducible multi-class visual anomaly detection: InvAD, COCO-AD and the metrics of arXiv:2404.10760, as one pipeline.

`invad.train(images)` is a model of normal images and `invad.load(folder)` a trained one, both ready for images. `invad.metrics.evaluate`
has all metrics for anybody's anomaly maps, `invad.methods.METHODS` the methods that can be trained, and `invad.config` their settings.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invad.pipeline.in_process import train
    from invad.predict.predictor import load_predictor as load

__all__ = ["__version__", "load", "train"]
__version__ = "0.1.0"

_MODULES = ("config", "errors", "methods", "metrics")
_FUNCTIONS = {"load": ("invad.predict.predictor", "load_predictor"), "train": ("invad.pipeline.in_process", "train")}


def __getattr__(name: str) -> Any:  # noqa: ANN401  (a module or a function)
    """Import what is asked for: importing this package imports neither torch nor anything else that is slow."""
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in _FUNCTIONS:
        module, function = _FUNCTIONS[name]
        return getattr(import_module(module), function)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_FUNCTIONS})
