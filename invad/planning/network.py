"""Sizes of the network that is trained, from one that exists in shapes alone (torch's meta device)."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from invad.config import STRIDES, FeaturesConfig, TrainConfig
from invad.methods import EncoderOutput, build_method
from invad.planning.encoders import ENCODERS

_HEADER_BYTES = 118  # of each tensor in a safetensors file: name, type, shape, offsets


@dataclass(frozen=True)
class NetworkSize:
    """weight_bytes: all tensors. file_bytes: of `model.safetensors`. kept_bytes: what the forward pass keeps for the backward pass."""

    weight_bytes: int
    file_bytes: int
    kept_bytes: int


@cache
def network_size(features: FeaturesConfig, train: TrainConfig, batch_size: int) -> NetworkSize:
    """Return the sizes of the network that `train` builds for such features, with `batch_size` images in a process."""
    output = EncoderOutput(features.encoder, ENCODERS[features.encoder].channels, features.image_size)
    shapes = [
        (batch_size, width, features.image_size // stride, features.image_size // stride)
        for width, stride in zip(output.channels, STRIDES, strict=True)
    ]
    with torch.device("meta"):
        method = build_method(output, train)
        batch = [torch.empty(shape) for shape in shapes]
    state = method.state_dict()
    weights = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    kept: dict[int, Tensor] = {}  # by storage, because several may be views of the same one

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        method.loss(batch, method(batch))
    for tensor in state.values():
        kept.pop(tensor.untyped_storage()._cdata, None)
    activations = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    return NetworkSize(weights, weights + _HEADER_BYTES * len(state), activations)
