"""What happens to a request: taken or not, read, decoded, computed, answered."""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from time import perf_counter
from typing import Any, TypeVar

from fastapi import Request

from invad import __version__
from invad.errors import InputError
from invad.metrics.calibration import NOT_CALIBRATED, Thresholds
from invad.predict.inputs import PreparedImage
from invad.predict.predictor import ImagePrediction, Predictor
from invad.predict.serve import Limits
from invad.predict.serve.answers import HealthAnswer, LimitsAnswer
from invad.predict.serve.batching import THREADS, Batcher
from invad.predict.serve.limits import CONTENT_TYPES, RefusalError, check_head, read_body
from invad.predict.serve.metrics import Metrics
from invad.predict.serve.pictures import answer, decode

# Each may hold the pixels of a whole image. Answers have threads of their own: they are quick, and a client waits for no other's picture.
_DECODERS = max(2, min(4, os.cpu_count() or 1))
_ANSWERERS = 2
_Result = TypeVar("_Result")
_LOG = logging.getLogger(__name__)


class Service:
    """A model that answers requests within limits.

    Attributes:
        limits: What is refused.
        metrics: What has happened.
        taken: How many requests are being read, waiting or computed.
        draining: Whether new requests are turned away, because the service is about to end.
    """

    def __init__(
        self,
        predictor: Predictor,
        model: str,
        limits: Limits,
        class_name: str | None = None,
        fixed: Thresholds = NOT_CALIBRATED,
    ) -> None:
        """Serve `predictor` under the name `model`.

        Args:
            predictor: With the thresholds of `class_name`.
            model: Its name in answers.
            limits: What is refused.
            class_name: Whose thresholds are used where a request names no class.
            fixed: Thresholds that take the place of the calibrated ones of every class.
        """
        self.limits, self.metrics = limits, Metrics(model, __version__, str(predictor.device))
        self.draining, self.taken = False, 0
        self._predictor, self._model, self._class_name = predictor, model, class_name
        self._thresholds = _by_class(predictor, fixed)
        self._batcher = Batcher(self._network, limits.batch_size, limits.batch_wait, self.metrics.batch)
        self._decoders = ThreadPoolExecutor(_DECODERS, f"{THREADS}decode")
        self._answerers = ThreadPoolExecutor(_ANSWERERS, f"{THREADS}answer")
        self.metrics.gauges(lambda: self.taken, lambda: self._batcher.waiting)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Compute what is taken, as long as the context lasts."""
        task = asyncio.create_task(self._batcher.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self._batcher.close()
            for pool in (self._decoders, self._answerers):
                pool.shutdown(wait=False, cancel_futures=True)

    def health(self) -> HealthAnswer:
        """Return what the service and its model are."""
        max_bytes, max_pixels = self.limits.max_bytes, self.limits.max_pixels
        return HealthAnswer(
            status="draining" if self.draining else "ok",
            model=self._model,
            version=__version__,
            device=str(self._predictor.device),
            image_size=self._predictor.image_size,
            classes=list(self._thresholds),
            class_name=self._class_name,
            limits=LimitsAnswer(max_bytes=max_bytes, max_pixels=max_pixels, content_types=list(CONTENT_TYPES)),
        )

    async def predict(self, request: Request, class_name: str | None, heatmap: bool) -> bytes:
        """Return a `PredictionAnswer` as JSON.

        Raises:
            RefusalError: The request is not as it should be, or there is no room or no time for it.
        """
        start, deadline = perf_counter(), asyncio.get_running_loop().time() + self.limits.timeout
        thresholds = self._thresholds_of(class_name)
        with self._taking():
            check_head(request, self.limits)
            late = RefusalError(408, f"the body did not arrive within {self.limits.timeout:g} s")
            async with _until(deadline, late):
                data = await read_body(request, self.limits)
            late = RefusalError(
                503, f"no answer within {self.limits.timeout:g} s; try again later", {"Retry-After": "5"}
            )
            async with _until(deadline, late):
                size, max_pixels = self._predictor.image_size, self.limits.max_pixels
                content_type, reading = request.headers.get("content-type", ""), self._predictor.config.reading
                decoded = await _in_pool(self._decoders, decode, data, content_type, size, max_pixels, heatmap, reading)
                del data
                computed = await self._batcher.predict(decoded.image)
                prediction = replace(computed.prediction, thresholds=thresholds)
                computed, name = replace(computed, prediction=prediction), class_name or self._class_name
                try:
                    result = await _in_pool(self._answerers, answer, computed, decoded, self._model, name, start)
                except InputError as error:  # no score: the model's fault, not the image's
                    _LOG.error("POST /predict: %s", error)
                    raise RefusalError(500, f"image: {error}") from None
        self.metrics.image(prediction.anomalous)
        return result

    @contextmanager
    def _taking(self) -> Generator[None]:
        """Count a request as taken, if there is room."""
        if self.draining:
            raise RefusalError(503, "the service is shutting down", {"Retry-After": "5"})
        if self.taken >= self.limits.queue:
            raise RefusalError(429, f"{self.taken} requests are waiting; try again later", {"Retry-After": "1"})
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    def _network(self, images: list[PreparedImage]) -> list[ImagePrediction]:
        return list(self._predictor.stream(images, len(images)))

    def _thresholds_of(self, class_name: str | None) -> Thresholds:
        if class_name is None:
            return self._predictor.thresholds
        if class_name not in self._thresholds:
            has = f"has the classes {', '.join(self._thresholds)}" if self._thresholds else "knows no classes"
            raise RefusalError(400, f"class: the model {has}, not {class_name[:100]!r}")
        return self._thresholds[class_name]


async def _in_pool(pool: ThreadPoolExecutor, function: Callable[..., _Result], *arguments: Any) -> _Result:  # noqa: ANN401
    """Call a function in one of the threads, unless nobody waits for it any more when one is free."""
    return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)


def _by_class(predictor: Predictor, fixed: Thresholds) -> dict[str, Thresholds]:
    """Return the thresholds of every class."""
    if predictor.calibration is None:
        return dict.fromkeys(predictor.config.classes, fixed)
    return {name: fixed.over(held_out.thresholds) for name, held_out in predictor.calibration.per_class.items()}


@asynccontextmanager
async def _until(deadline: float, late: RefusalError) -> AsyncGenerator[None]:
    """Raise `late` where the context lasts longer than to `deadline`, on the clock of the event loop."""
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        raise late from None
