"""Images of concurrent requests go through the network together, on one thread."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

from invad.predict.inputs import PreparedImage
from invad.predict.predictor import ImagePrediction

THREADS = "invad-"
"""What the names of all threads of the service begin with."""

Network = Callable[[list[PreparedImage]], Sequence[ImagePrediction]]


@dataclass(frozen=True)
class Computed:
    """A prediction, and how many seconds its image waited and its batch took."""

    prediction: ImagePrediction
    waited: float
    seconds: float


@dataclass(frozen=True)
class _Waiting:
    image: PreparedImage
    result: asyncio.Future[Computed]
    since: float


class Batcher:
    """A queue before the network.

    A batch is whatever waits, up to `size` images; one that is not full waits until its first image has waited for `wait` seconds. While
    the network computes, the next batch fills up. `on_batch` is told the size of every batch.

    Attributes:
        waiting: How many images wait.
    """

    def __init__(self, network: Network, size: int, wait: float, on_batch: Callable[[int], object]) -> None:
        self._network, self._size, self._wait, self._on_batch = network, size, wait, on_batch
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self.waiting = 0
        self._thread = ThreadPoolExecutor(1, f"{THREADS}network")

    async def predict(self, image: PreparedImage) -> Computed:
        """Return the prediction of one image; whoever stops waiting for it before its batch begins takes it out of the queue.

        Raises:
            Exception: Whatever the network raises for this image by itself.
        """
        waiting = _Waiting(image, asyncio.get_running_loop().create_future(), perf_counter())
        self._queue.put_nowait(waiting)
        self.waiting += 1
        return await waiting.result

    async def run(self) -> None:
        """Compute batch after batch until cancelled."""
        while True:
            collected = await self._collect()
            self.waiting -= len(collected)
            if batch := [each for each in collected if not each.result.done()]:
                await self._compute(batch)

    def close(self) -> None:
        """Let the thread end after the batch that it has begun."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _collect(self) -> list[_Waiting]:
        batch = [await self._queue.get()]
        try:
            async with asyncio.timeout(batch[0].since + self._wait - perf_counter()):
                while len(batch) < self._size:
                    batch.append(await self._queue.get())
        except TimeoutError:  # what was there by then has been taken: only an empty queue is waited for
            pass
        return batch

    async def _compute(self, batch: list[_Waiting]) -> None:
        start = perf_counter()
        self._on_batch(len(batch))
        images = [each.image for each in batch]
        outcomes = await asyncio.get_running_loop().run_in_executor(self._thread, self._outcomes, images)
        seconds = perf_counter() - start
        for each, outcome in zip(batch, outcomes, strict=True):
            if each.result.done():
                continue
            if isinstance(outcome, Exception):
                each.result.set_exception(outcome)
            else:
                each.result.set_result(Computed(outcome, start - each.since, seconds))

    def _outcomes(self, images: list[PreparedImage]) -> Sequence[ImagePrediction | Exception]:
        try:
            return self._network(images)
        except Exception as error:
            if len(images) == 1:
                return [error]
        return [self._outcomes([image])[0] for image in images]  # one image must not cost the others their answers
