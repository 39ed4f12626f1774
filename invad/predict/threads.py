"""Work that threads do ahead of who needs it, in order and never too far ahead."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def threads(count: int) -> Generator[ThreadPoolExecutor]:
    """Yield a pool of threads, which at the end, also an early one, finish what they have begun and nothing else."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], most: int
) -> Iterator[Result]:
    """Yield `function(item)` of each item, in order; the pool works on at most `most` items beyond the one that is waited for."""
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        while pending and (len(pending) > most or pending[0].done()):
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
