"""What a network costs: its parameters, and the multiply-adds for one image."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from invad.config import BenchmarkConfig
from invad.encoders import EncoderOutput, build_encoder
from invad.methods import build_method
from invad.models.layers import FirBlur


def parameter_count(method: nn.Module) -> int:
    """Return how many numbers a training changes."""
    return sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)


def multiply_adds(benchmark: BenchmarkConfig) -> int:
    """Return the multiply-adds of encoder and method for one image, of convolutions and matrix products alone, without the blur."""
    side = benchmark.features.image_size
    encoder = build_encoder(benchmark.features.encoder, "none").to("meta")
    output = EncoderOutput(encoder.name, encoder.channels, side)
    with torch.device("meta"):  # shapes without values
        method = build_method(output, benchmark.train).eval()
        image = torch.empty(1, 3, side, side)
        features = [torch.empty(1, *shape) for shape in output.shapes]
    return count_multiply_adds(encoder, image) + count_multiply_adds(method, features)


def count_multiply_adds(network: nn.Module, argument: object) -> int:
    """Return the multiply-adds of `network(argument)`, without the blur, which the published numbers leave out."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(argument)
    flops = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    root = type(network).__name__
    blurs = [f"{root}.{name}" for name, module in network.named_modules() if isinstance(module, FirBlur)]
    return (flops[root] - sum(flops.get(name, 0) for name in blurs)) // 2
