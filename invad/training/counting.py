"""Counting what a model costs: its parameters, and the multiply-adds for one image."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from invad.config import BenchmarkConfig, ScoreConfig
from invad.features.batches import Batch
from invad.features.encoder import EncoderOutput, build_encoder
from invad.methods import Method, build_method
from invad.methods.base import load_fitted
from invad.methods.invad.layers import FirBlur
from invad.training.cost import Cost


def model_cost(benchmark: BenchmarkConfig, method: Method | None = None) -> Cost:
    """Return the cost of a benchmark's encoder and method at its image size; `method` tells how much it has fitted."""
    found = networks(benchmark, method)
    total = sum(parameter_count(network, trainable=False) for network in (found.encoder, found.method))
    return Cost(total, parameter_count(found.method), networks_multiply_adds(found))


class Networks(NamedTuple):
    """Encoder and method of a benchmark on torch's meta device: shapes without values."""

    encoder: nn.Module
    method: Method
    image: Tensor
    batch: Batch


def networks(benchmark: BenchmarkConfig, trained: Method | None = None) -> Networks:
    """Return the networks of a benchmark, the method's as large as that of `trained`, and one image and its features to count with."""
    side = benchmark.features.image_size
    encoder = build_encoder(benchmark.features.encoder, "none").to("meta")
    output = EncoderOutput(encoder.name, encoder.channels, side)
    with torch.device("meta"):
        method = build_method(output, benchmark.train).eval()
        if trained is not None:
            load_fitted(method, {name: tensor.to("meta") for name, tensor in trained.state_dict().items()})
        image = torch.empty(1, 3, side, side)
        features = tuple(torch.empty(1, *output.shapes[level]) for level in method.needs.levels(output))
    return Networks(encoder, method, image, Batch(features, image if method.needs.images else None))


def parameter_count(network: nn.Module, *, trainable: bool = True) -> int:
    """Return how many numbers a training changes, or how many there are at all."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad or not trainable)


def multiply_adds(benchmark: BenchmarkConfig, method: Method | None = None) -> int:
    """Return the multiply-adds of encoder and method for one image, of convolutions and matrix products alone, without the blur."""
    return networks_multiply_adds(networks(benchmark, method))


def networks_multiply_adds(found: Networks) -> int:
    """Return the same of networks at hand."""
    method = count_multiply_adds(found.method, lambda: found.method.predict(found.batch, ScoreConfig()))
    return method + (
        count_multiply_adds(found.encoder, lambda: found.encoder(found.image)) if found.batch.features else 0
    )


def count_multiply_adds(network: nn.Module, run: Callable[[], object]) -> int:
    """Return the multiply-adds of `run()`, which calls `network`, without those of `FirBlur`, which the published numbers leave out."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        run()
    flops = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    blurs = {
        f"{type(root).__name__}.{name}"
        for root in network.modules()
        for name, module in root.named_modules()
        if isinstance(module, FirBlur)
    }
    return (flops["Global"] - sum(flops.get(name, 0) for name in blurs)) // 2
