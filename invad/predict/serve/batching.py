"""Images of concurrent requests go through the network together, on one thread."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

from invad.predict.inputs import PreparedImage
from invad.predict.predictor import ImagePrediction

Network = Callable[[list[PreparedImage]], Sequence[ImagePrediction]]


@dataclass(frozen=True)
class _Waiting:
    image: PreparedImage
    result: asyncio.Future[ImagePrediction]
    since: float


class Batcher:
    """A queue before the network.

    A batch is whatever waits, up to `size` images; one that is not full waits until its first image has waited for `wait` seconds. While
    the network computes, the next batch fills up. `on_batch` is told the size of every batch.
    """

    def __init__(self, network: Network, size: int, wait: float, on_batch: Callable[[int], object]) -> None:
        self._network, self._size, self._wait, self._on_batch = network, size, wait, on_batch
        self._queue: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1)

    def __len__(self) -> int:
        return len(self._queue)

    async def predict(self, image: PreparedImage) -> ImagePrediction:
        """Return the prediction of one image; whoever stops waiting for it before its batch begins takes it out of the queue.

        Raises:
            Exception: Whatever the network raises for this image by itself.
        """
        waiting = _Waiting(image, asyncio.get_running_loop().create_future(), perf_counter())
        self._queue.append(waiting)
        self._arrived.set()
        return await waiting.result

    async def run(self) -> None:
        """Compute batch after batch until cancelled."""
        try:
            while True:
                await self._until(1)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._queue[0].since + self._wait - perf_counter()):
                        await self._until(self._size)
                collected, self._queue = self._queue[: self._size], self._queue[self._size :]
                if batch := [each for each in collected if not each.result.done()]:
                    await self._compute(batch)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _until(self, count: int) -> None:
        while len(self._queue) < count:
            self._arrived.clear()
            await self._arrived.wait()

    async def _compute(self, batch: list[_Waiting]) -> None:
        self._on_batch(len(batch))
        images = [each.image for each in batch]
        outcomes = await asyncio.get_running_loop().run_in_executor(self._thread, self._outcomes, images)
        for each, outcome in zip(batch, outcomes, strict=True):
            if each.result.done():
                continue
            if isinstance(outcome, Exception):
                each.result.set_exception(outcome)
            else:
                each.result.set_result(outcome)

    def _outcomes(self, images: list[PreparedImage]) -> Sequence[ImagePrediction | Exception]:
        try:
            return self._network(images)
        except Exception as error:
            if len(images) == 1:
                return [error]
        return [self._outcomes([image])[0] for image in images]  # one image must not cost the others their answers
