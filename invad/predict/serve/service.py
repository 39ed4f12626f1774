"""What happens to a request: taken or not, read, decoded, computed, answered."""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

from fastapi import HTTPException, Request

from invad import __version__
from invad.errors import InputError
from invad.predict.inputs import PreparedImage
from invad.predict.predictor import ImagePrediction, Predictor
from invad.predict.serve import Limits
from invad.predict.serve.answers import HealthAnswer
from invad.predict.serve.batching import Batcher
from invad.predict.serve.limits import CONTENT_TYPES, read_body
from invad.predict.serve.metrics import Metrics
from invad.predict.serve.pictures import answer, decode

# Each may hold the pixels of a whole image. Answers have threads of their own: they are quick, and a client waits for no other's picture.
_DECODERS = max(2, min(4, os.cpu_count() or 1))
_ANSWERERS = 2
_LOG = logging.getLogger(__name__)


class Service:
    """A model that answers requests within limits.

    Attributes:
        limits: What is refused.
        metrics: What has happened.
        taken: How many requests are being read, waiting or computed.
        draining: Whether new requests are turned away, because the service is about to end.
    """

    def __init__(self, predictor: Predictor, model: str, limits: Limits) -> None:
        """Serve `predictor` under the name `model`; requests that name no class get its thresholds."""
        self.limits, self.draining, self.taken = limits, False, 0
        self._predictor, self._model = predictor, model
        described = {"model": model, "version": __version__, "device": str(predictor.device)}
        self.metrics = Metrics(described, lambda: self.taken, lambda: len(self._batcher))
        self._batcher = Batcher(self._network, limits.batch_size, limits.batch_wait, self.metrics.batch)
        self._decoders, self._answerers = ThreadPoolExecutor(_DECODERS), ThreadPoolExecutor(_ANSWERERS)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Compute what is taken, as long as the context lasts."""
        task = asyncio.create_task(self._batcher.run())
        try:
            yield
        finally:
            task.cancel()
            for pool in (self._decoders, self._answerers):
                pool.shutdown(wait=False, cancel_futures=True)

    def health(self) -> HealthAnswer:
        """Return what the service and its model are."""
        return HealthAnswer(
            status="draining" if self.draining else "ok",
            model=self._model,
            version=__version__,
            device=str(self._predictor.device),
            image_size=self._predictor.image_size,
            classes=list(self._predictor.classes),
            class_name=self._predictor.class_name,
            limits={
                **{name: getattr(self.limits, name) for name in ("max_bytes", "max_pixels")},
                "content_types": CONTENT_TYPES,
            },
        )

    async def predict(self, request: Request, class_name: str | None, heatmap: bool) -> bytes:
        """Return a `PredictionAnswer` as JSON.

        Raises:
            HTTPException: The request is not as it should be, or there is no room or no time for it.
        """
        loop, limit = asyncio.get_running_loop(), self.limits.timeout
        predictor, name = self._predictor, class_name or self._predictor.class_name
        try:
            thresholds = predictor.thresholds if class_name is None else predictor.thresholds_of(class_name)
        except InputError as error:
            raise HTTPException(400, str(error)) from None
        late = HTTPException(408, f"the body did not arrive within {limit:g} s")
        with self._taking():
            try:
                async with asyncio.timeout(limit):
                    body, kind = await read_body(request, self.limits), request.headers.get("content-type", "")
                    late = HTTPException(503, f"no answer within {limit:g} s; try again later", {"Retry-After": "5"})
                    how = kind, predictor.image_size, self.limits.max_pixels, heatmap, predictor.config.reading
                    image, picture = await loop.run_in_executor(self._decoders, decode, body, *how)
                    del body
                    prediction = replace(await self._batcher.predict(image), thresholds=thresholds)
                    what = prediction, picture, self._model, name
                    result = await loop.run_in_executor(self._answerers, answer, *what)
            except TimeoutError:
                raise late from None
            except InputError as error:  # no score: the model's fault, not the image's
                _LOG.error("POST /predict: %s", error)
                raise HTTPException(500, f"image: {error}") from None
        self.metrics.image(prediction.anomalous)
        return result

    @contextmanager
    def _taking(self) -> Generator[None]:
        """Count a request as taken, if there is room."""
        if self.draining:
            raise HTTPException(503, "the service is shutting down", {"Retry-After": "5"})
        if self.taken >= self.limits.queue:
            raise HTTPException(429, f"{self.taken} requests are waiting; try again later", {"Retry-After": "1"})
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    def _network(self, images: list[PreparedImage]) -> list[ImagePrediction]:
        return list(self._predictor.stream(images, len(images)))
