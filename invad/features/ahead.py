"""A device that waits for nothing: threads read ahead of it and write behind it, and hold few batches."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import chain, islice, repeat, takewhile
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCHES = 2  # that are ready or in work beyond the one in use


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def leaves_cores(device: torch.device) -> bool:
    """Return whether others can work while `device` computes: a GPU, or a CPU that has more cores than torch has threads.

    Where torch has them all, one thread more makes those of torch wait for each other.
    """
    return device.type != "cpu" or torch.get_num_threads() < cores()


def ahead(pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], most: int) -> Iterator[Result]:
    """Yield `function(item)` of each item, in order; the pool has always `most` items beyond the one in use, and never more."""
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > most:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


@contextmanager
def read_ahead(
    read: Callable[[Item], Result], items: Iterable[Item], device: torch.device
) -> Generator[Iterator[Result]]:
    """Give `read(item)` of each item, in order, which a thread reads while `device` computes, if that leaves it a core.

    In the end the thread is gone: it finishes the item that it is reading, and no other.
    """
    if not leaves_cores(device):
        yield map(read, items)
        return
    pool = ThreadPoolExecutor(1)
    try:
        yield ahead(pool, read, items, BATCHES)
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def computed_ahead(results: Iterable[Result], device: torch.device) -> Generator[Iterator[Result]]:
    """Give `results`, in order, which a thread computes on `device` while those before are written; in the end they are closed."""
    running = iter(results)
    with ExitStack() as stack:
        stack.callback(getattr(running, "close", lambda: None))
        parts = stack.enter_context(read_ahead(lambda _: list(islice(running, 1)), repeat(None), device))
        yield chain.from_iterable(takewhile(bool, parts))


def landed(batches: Iterable[Sequence[Tensor]], device: torch.device) -> Iterator[Sequence[Tensor]]:
    """Yield the tensors of each batch on the CPU; a GPU has the next batch to compute before the copies of one are waited for."""
    if device.type == "cpu":
        yield from batches
        return
    flying: deque[tuple[list[Tensor], torch.Event]] = deque()
    for tensors in batches:
        copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]  # into pinned memory
        flying.append((copies, torch.cuda.current_stream(device).record_event()))
        if len(flying) > 1:
            yield _landed(*flying.popleft())
    while flying:
        yield _landed(*flying.popleft())


def _landed(copies: list[Tensor], done: torch.Event) -> list[Tensor]:
    done.synchronize()
    return copies
