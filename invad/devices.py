"""Which device to compute on, how to compute fast there, and how to compute the same twice."""

import ctypes
import functools
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from invad.config import ComputeConfig, Precision
from invad.errors import InputError

Network = TypeVar("Network", bound=nn.Module)

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def best_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def named_device(name: str | None) -> torch.device:
    """Return the device of a name such as `cpu`, `cuda` or `cuda:1`, or the best one; `InputError` when there is none of that name."""
    if name is None:
        return best_device()
    try:
        device = torch.device(name)
        torch.empty(0, device=device).tolist()  # torch's device `meta` is there, but holds nothing
    except (RuntimeError, AssertionError):
        raise InputError(
            f"device: {name!r} is not to be had here; cpu always is, and the best one without a name"
        ) from None
    return device


def place(network: Network, device: torch.device, config: ComputeConfig) -> Network:
    """Move `network` to `device`, its convolutions in the memory format of `config`; for the CPU, see `keep_memory`."""
    if device.type == "cpu":
        keep_memory()
    return network.to(device).to(memory_format=_memory_format(config))


@functools.cache
def keep_memory() -> None:
    """Keep what large tensors leave for the next ones, where the C library is glibc, for the rest of this process.

    Otherwise each tensor above 32 MiB is asked of the system anew, which fills it with zeros: a fifth to a third of a step (docs/speed.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)  # never


def formatted(levels: Iterable[Tensor], config: ComputeConfig) -> list[Tensor]:
    """Return tensors (B, C, H, W) in the memory format of `config`: mixing formats is slow, and rounds otherwise."""
    return [level.contiguous(memory_format=_memory_format(config)) for level in levels]


def _memory_format(config: ComputeConfig) -> torch.memory_format:
    return torch.channels_last if config.channels_last else torch.contiguous_format


def compiled(network: Callable[..., Any], config: ComputeConfig) -> Callable[..., Any]:
    """Return a network, or a function of one, compiled where `config` asks for it; its parameters stay those of the network."""
    return torch.compile(network) if config.compile else network


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context in which convolutions run in `precision`; what is sensitive to rounding stays float32."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which nothing is rounded below float32, whatever the context around it."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def make_deterministic(seed: int, device: torch.device) -> None:
    """Seed torch and, on the CPU, insist on deterministic algorithms (a GPU is seeded, but may round differently)."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(device.type == "cpu")
    # Nothing here reads uninitialised memory; filling it with NaN would cost a tenth of every step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyrefly: ignore[missing-attribute]  (set when imported)
