"""Work on many files at once: a pool of processes behind one function."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

SERIAL = 256  # fewer items than this are done before a pool has started


def parallel_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    label: str,
    *,
    unit: str = "image",
    workers: int | None = None,
) -> Iterator[Result]:
    """Yield `function(item)` for all items, in their order, computed by several processes, with a progress bar on stderr.

    `function` is defined at the top of a module, and it, its items and results can be pickled; what it raises is raised here. `workers`:
    by default one for each core that this process may use.
    """
    workers = min(workers or len(os.sched_getaffinity(0)), len(items))
    bar = partial(tqdm, total=len(items), desc=label, unit=unit, mininterval=1)
    if workers <= 1 or len(items) < SERIAL:
        yield from bar(map(function, items))
        return
    # spawn: a fork of a process that has threads (torch, Arrow) may hang
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from bar(pool.map(function, items, chunksize=max(1, min(64, len(items) // (4 * workers)))))
