"""Which device to compute on, and how to make it compute the same twice."""

import torch


def best_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_deterministic(seed: int, device: torch.device) -> None:
    """Seed torch and, on the CPU, insist on deterministic algorithms (a GPU is seeded, but may round differently)."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(device.type == "cpu")
    # Nothing here reads uninitialised memory; filling it with NaN would cost a tenth of every step.
    torch.utils.deterministic.fill_uninitialized_memory = False
