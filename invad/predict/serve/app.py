"""The routes of the service and its page, who may call them, and what every answer carries."""

import base64
import hashlib
import logging
import re
from pathlib import Path
from time import perf_counter
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field
from starlette import exceptions
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from invad import __version__
from invad.predict.serve.service import CONTENT_TYPES, FORM, PredictionAnswer, Service

PATHS = frozenset({"/", "/predict", "/health", "/metrics", "/openapi.json"})
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_FILE = {"type": "string", "format": "binary"}
_SCHEMAS = {
    **{kind: {"schema": _FILE} for kind in CONTENT_TYPES},
    FORM: {"schema": {"type": "object", "properties": {"image": _FILE}, "required": ["image"]}},
}
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::\d+)?")
_UNKNOWN_HOST = JSONResponse({"error": "Host: no name of this service; --allow-host adds one"}, 400)
_LOG = logging.getLogger(__name__)


class Parameters(BaseModel):
    """Of /predict. Others are refused: they would leave an answer that was not asked for."""

    model_config = ConfigDict(extra="forbid")
    heatmap: bool = Field(default=False, description="Add the picture of the map.")
    class_name: str | None = Field(default=None, alias="class", description="Whose thresholds to use.")


class ErrorAnswer(BaseModel):
    """Why a request was refused or failed."""

    error: str


def create_app(service: Service, hosts: frozenset[str] | None) -> "Guard":
    """Return the ASGI application of a service. `hosts`: the names that it may be called by; None for any."""
    # FastAPI's own pages of documentation load scripts from elsewhere; /openapi.json does not.
    app = FastAPI(title="invad", version=__version__, lifespan=service.running, docs_url=None, redoc_url=None)
    for kind in (Exception, exceptions.HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _refuse)
    page, policy = read_page()

    @app.post(
        "/predict",
        response_model=PredictionAnswer,
        responses={status: {"model": ErrorAnswer, "description": "Refused or failed."} for status in ("4XX", "5XX")},
        openapi_extra={"requestBody": {"required": True, "content": _SCHEMAS}},
    )
    async def predict(request: Request, given: Annotated[Parameters, Query()]) -> Response:
        """Predict the image that the body is: PNG, JPEG, BMP, TIFF or WebP, whatever its type says; or the only field of a form."""
        answer = await service.predict(request, given.class_name, given.heatmap)
        return Response(answer, media_type="application/json")

    @app.get("/health")
    async def health() -> dict[str, object]:
        """Say what the model is, and what is refused."""
        return service.health()

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Count and time what happened, for Prometheus."""
        return Response(generate_latest(service.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": policy})

    return Guard(app, service, hosts)


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    """Make every error `{"error": reason}`."""
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        error = HTTPException(400, f"{first['loc'][-1]}: {first['msg']}")
    if not isinstance(error, exceptions.HTTPException):
        error = HTTPException(500, "an unexpected error of the service; its log says more")
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


class Guard:
    """An ASGI application around another one.

    A page of somebody else's may have its name point to 127.0.0.1 and then read what is served there (DNS rebinding), but its browser
    still sends that name as Host: `hosts` are the ones that are answered, None for any. Health and metrics are answered by any name,
    because who watches a service often calls it by its address.
    """

    def __init__(self, app: ASGIApp, service: Service, hosts: frozenset[str] | None) -> None:
        self.app, self._service, self._hosts = app, service, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, path = perf_counter(), scope["path"] if scope["path"] in PATHS else "other"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                self._service.requests.labels(path, str(message["status"])).inc()
                self._service.seconds.labels(path).observe(perf_counter() - start)
            await send(message)

        app = self.app if path in ("/health", "/metrics") or self._is_known(scope) else _UNKNOWN_HOST
        try:
            await app(scope, receive, send_with_headers)
        except Exception:  # it has been answered
            _LOG.exception("%s %s", scope["method"], path)

    def _is_known(self, scope: Scope) -> bool:
        match = _HOST.fullmatch(Headers(scope=scope).get("host", "").lower())
        return self._hosts is None or (match is not None and match[1] in self._hosts)


def read_page() -> tuple[bytes, str]:
    """Return the page to drop a picture on, and its Content-Security-Policy.

    The policy names the page's script and style by their digests, so that no other would run, and allows nothing else.
    """
    content = Path(__file__).with_name("page.html").read_bytes()
    script, style = (
        base64.b64encode(hashlib.sha256(content.partition(b"<%b>" % name)[2].partition(b"</%b>" % name)[0]).digest())
        for name in (b"script", b"style")
    )
    policy = f"script-src 'sha256-{script.decode()}'; style-src 'sha256-{style.decode()}'; img-src blob: data:"
    closed = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return content, f"default-src 'none'; {policy}; connect-src 'self'; {closed}"
