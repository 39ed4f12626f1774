"""Which device to compute on, how to compute fast there, and how to compute the same twice."""

import torch
from torch import nn


def best_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """Move `network` to `device`, its convolutions with the channels last: on a CPU that halves the time of a training step."""
    return network.to(device).to(memory_format=torch.channels_last)


def make_deterministic(seed: int, device: torch.device) -> None:
    """Seed torch and, on the CPU, insist on deterministic algorithms (a GPU is seeded, but may round differently)."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(device.type == "cpu")
    # Nothing here reads uninitialised memory; filling it with NaN would cost a tenth of every step.
    torch.utils.deterministic.fill_uninitialized_memory = False
