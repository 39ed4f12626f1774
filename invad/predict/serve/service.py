"""What happens to a request: read, taken or not, decoded, computed in a batch with others, answered."""

import asyncio
import base64
import logging
import os
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from io import BytesIO

from fastapi import FastAPI, HTTPException, Request
from PIL import Image
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from invad import __version__
from invad.data.images import TooManyPixelsError, image_of_bytes
from invad.errors import InputError
from invad.predict.inputs import PreparedImage, prepared
from invad.predict.predictions import ImagePrediction, Region, draw_overlay, overlay_picture
from invad.predict.predictor import Predictor
from invad.predict.serve import Limits

FORM = "multipart/form-data"  # `curl -F`
CONTENT_TYPES = ("image/*", "application/octet-stream", FORM)
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
# Each may hold the pixels of a whole image. Answers have threads of their own: they are quick, and a client waits for no other's picture.
_DECODERS = max(2, min(4, os.cpu_count() or 1))
_ANSWERERS = 2
_DECISIONS = {True: "anomalous", False: "normal", None: "undecided"}
_LOG = logging.getLogger(__name__)


class PredictionAnswer(BaseModel):
    """What the model says of the image, as `/openapi.json` describes it."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)
    score: float = Field(description="Of no fixed range, larger where more anomalous.")
    image_threshold: float | None = Field(description="What the score is compared with; null without calibration.")
    anomalous: bool | None = Field(description="Whether the score lies above the image threshold; null without one.")
    pixel_threshold: float | None = Field(description="What the map is compared with to find regions.")
    regions: list[Region] = Field(description="The highest score first; none without a pixel threshold.")
    width: int  # of the image in pixels
    height: int
    model: str
    class_name: str | None = Field(alias="class", description="Whose thresholds were used; null: of all together.")
    runtime: str = Field(description="What computed it: torch or onnx.")
    heatmap: str | None = Field(description="With `?heatmap=true`: the map over the image, a PNG, as base64.")


class Service:
    """A model that answers requests within limits.

    A batch is whatever waits when the network is free, up to `limits.batch_size` images. While it computes, the next one fills up.

    Attributes:
        taken: How many requests are waiting or computed: those whose body has come, so that a slow client holds no place.
        registry, requests, seconds: What `/metrics` shows; the latter two are counted by whoever sends the answer.
    """

    def __init__(self, predictor: Predictor, model: str, limits: Limits) -> None:
        """Serve `predictor` under the name `model`; requests that name no class get its thresholds."""
        self.limits, self.taken, self._held = limits, 0, 0
        self._predictor, self._model = predictor, model
        self._waiting: asyncio.Queue[tuple[PreparedImage, asyncio.Future[ImagePrediction]]] = asyncio.Queue()
        self._network, self._decoders = ThreadPoolExecutor(1), ThreadPoolExecutor(_DECODERS)
        self._answerers = ThreadPoolExecutor(_ANSWERERS)
        self.registry = of = CollectorRegistry()
        ProcessCollector(registry=of)
        described = {"model": model, "version": __version__, "device": str(predictor.device)}
        Info("invad_model", "What is served.", registry=of).info(described)
        taken = Gauge("invad_requests_in_progress", "Taken and not answered.", registry=of)
        taken.set_function(lambda: self.taken)
        Gauge("invad_queue_images", "Images waiting for the network.", registry=of).set_function(self._waiting.qsize)
        self.requests = Counter("invad_requests", "Requests that were answered.", ("path", "status"), registry=of)
        self.seconds = Histogram("invad_request_seconds", "From head to answer.", ("path",), registry=of)
        buckets = (1, 2, 4, 8, 16, 32, 64)
        self._batches = Histogram("invad_batch_images", "Images in the network together.", buckets=buckets, registry=of)
        self._images = Counter("invad_images", "Images that were predicted.", ("decision",), registry=of)
        for decision in _DECISIONS.values():  # a rate needs a 0 to begin from
            self._images.labels(decision)

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncGenerator[None]:
        """Compute what is taken, as long as the context lasts."""
        task = asyncio.create_task(self._compute())
        try:
            yield
        finally:
            task.cancel()
            for pool in (self._network, self._decoders, self._answerers):
                pool.shutdown(wait=False, cancel_futures=True)

    def health(self) -> dict[str, object]:
        """Return what the service and its model are."""
        return {
            "status": "ok",
            "model": self._model,
            "version": __version__,
            "device": str(self._predictor.device),
            "runtime": self._predictor.runtime,
            "image_size": self._predictor.image_size,
            "classes": self._predictor.classes,
            "class": self._predictor.class_name,
            "limits": {"max_bytes": self.limits.max_bytes, "max_pixels": self.limits.max_pixels},
        }

    async def predict(self, request: Request, class_name: str | None, heatmap: bool) -> bytes:
        """Return a `PredictionAnswer` as JSON; `HTTPException` where the request is wrong, or there is no room or no time for it."""
        loop, limit, predictor = asyncio.get_running_loop(), self.limits.timeout, self._predictor
        name = predictor.class_name if class_name is None else class_name
        try:
            thresholds = predictor.thresholds_of(name)
        except InputError as error:
            raise HTTPException(400, str(error)) from None
        late, held = HTTPException(408, f"the body did not arrive within {limit:g} s"), 0

        def hold(size: int) -> None:  # bodies that are coming count too: slow clients must not fill the memory
            nonlocal held
            if self._held + size > self.limits.queue * self.limits.max_bytes:
                raise HTTPException(429, "too many images are on their way; try again later", {"Retry-After": "1"})
            self._held, held = self._held + size, held + size

        try:
            async with asyncio.timeout(limit):
                self._check_room()  # before the body comes, and after
                body = await read_body(request, self.limits.max_bytes, hold)
                late = HTTPException(503, f"no answer within {limit:g} s; try again later", {"Retry-After": "5"})
                self._check_room()
                self.taken += 1
                try:
                    kind = request.headers.get("content-type", "")
                    image, picture = await loop.run_in_executor(self._decoders, self._decode, body, kind, heatmap)
                    del body
                    result: asyncio.Future[ImagePrediction] = loop.create_future()
                    self._waiting.put_nowait((image, result))
                    prediction = replace(await result, thresholds=thresholds)
                    return await loop.run_in_executor(self._answerers, self._answer, prediction, picture, name)
                finally:
                    self.taken -= 1
        except TimeoutError:
            raise late from None
        except InputError as error:  # no score: the model's fault, not the image's
            _LOG.error("POST /predict: %s", error)
            raise HTTPException(500, f"image: {error}") from None
        finally:
            self._held -= held

    def _check_room(self) -> None:
        if self.taken >= self.limits.queue:
            raise HTTPException(429, f"{self.taken} requests are waiting; try again later", {"Retry-After": "1"})

    def _decode(self, body: bytes, content_type: str, heatmap: bool) -> tuple[PreparedImage, Image.Image | None]:
        """Return an image as the network takes it, and what its heat map needs."""
        data, reading = image_of_form(body, content_type), self._predictor.config.reading
        try:
            picture = image_of_bytes(data, "image", self.limits.max_pixels, reading)
        except InputError as error:
            raise HTTPException(413 if isinstance(error, TooManyPixelsError) else 422, str(error)) from None
        return prepared(picture, self._predictor.image_size), overlay_picture(picture) if heatmap else None

    def _answer(self, prediction: ImagePrediction, picture: Image.Image | None, class_name: str | None) -> bytes:
        """Return a `PredictionAnswer` as JSON, with a heat map where there is a picture to draw it on."""
        regions, heatmap = prediction.regions(), None
        if picture is not None:
            buffer = BytesIO()
            # Of a megapixel in a quarter of the time, 1.3 times as large. Words would be numbers of the answer.
            draw_overlay(picture, prediction, words=False).save(buffer, "PNG", compress_level=1)
            heatmap = base64.b64encode(buffer.getvalue()).decode("ascii")
        self._images.labels(_DECISIONS[prediction.anomalous]).inc()
        whole = PredictionAnswer(
            score=prediction.score,
            image_threshold=prediction.thresholds.image,
            anomalous=prediction.anomalous,
            pixel_threshold=prediction.thresholds.pixel,
            regions=regions,
            width=prediction.width,
            height=prediction.height,
            model=self._model,
            class_name=class_name,
            runtime=prediction.runtime,
            heatmap=heatmap,
        )
        return whole.model_dump_json().encode()

    async def _compute(self) -> None:
        """Compute batch after batch. Whoever stops waiting before a batch begins is left out of it."""
        loop = asyncio.get_running_loop()
        while True:
            collected = [await self._waiting.get()]
            while len(collected) < self.limits.batch_size and not self._waiting.empty():
                collected.append(self._waiting.get_nowait())
            batch = [(image, result) for image, result in collected if not result.done()]
            if not batch:
                continue
            self._batches.observe(len(batch))
            outcomes = await loop.run_in_executor(self._network, self._outcomes, [image for image, _ in batch])
            for (_, result), outcome in zip(batch, outcomes, strict=True):
                if result.done():
                    continue
                if isinstance(outcome, Exception):
                    result.set_exception(outcome)
                else:
                    result.set_result(outcome)

    def _outcomes(self, images: list[PreparedImage]) -> Sequence[ImagePrediction | Exception]:
        try:
            return list(self._predictor.stream(images, len(images)))
        except Exception as error:
            if len(images) == 1:
                return [error]
        return [self._outcomes([image])[0] for image in images]  # one image must not cost the others their answers


async def read_body(request: Request, max_bytes: int, hold: Callable[[int], None]) -> bytes:
    """Return the body, of which no more than the limit is kept, whatever its headers say. `hold` is told of the bytes that have come.

    `HTTPException`: 415 for a content type that a page of another site could send, 413 for a body that is too long, 400 for an empty one
    or one that breaks off.
    """
    kind = request.headers.get("content-type", "").lower()
    # A page of another site can send forms and text without asking first; but its browser adds `Origin` then.
    if "origin" in request.headers and not kind.startswith(("image/", CONTENT_TYPES[1])):
        raise HTTPException(415, f"Content-Type: from a page, expected one of {', '.join(CONTENT_TYPES[:2])}")
    too_long = HTTPException(413, f"the body is too long; at most {max_bytes} bytes are accepted")
    if int(request.headers.get("content-length", 0)) > max_bytes:  # the HTTP parser lets nothing but digits pass
        raise too_long
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise too_long
            hold(len(chunk))
    except ClientDisconnect:
        raise HTTPException(400, "the body broke off") from None
    if not body:
        raise HTTPException(400, "the body is empty; expected an image")
    return bytes(body)


def image_of_form(body: bytes, content_type: str) -> bytes:
    """Return the image that a body is: that of its only field where it is a form (RFC 7578), otherwise the body itself.

    `HTTPException`: 400 for a form that is damaged, or holds anything else than one file.
    """
    if not content_type.lower().startswith(FORM):
        return body
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise HTTPException(400, f"Content-Type: {FORM} has no boundary")
    boundary = b"\r\n--" + (match[1] or match[2]).encode("latin-1")
    pieces = (b"\r\n" + body).split(boundary, 3)  # before the first field, fields, the end
    if len(pieces) > 2 and not pieces[2].startswith(b"--"):
        raise HTTPException(400, "the form has several fields; expected an image alone, and parameters in the address")
    data = pieces[1].partition(b"\r\n\r\n")[2] if len(pieces) > 2 else b""
    if not data:
        raise HTTPException(400, "the form is damaged, or empty; expected an image as its only field")
    return data
