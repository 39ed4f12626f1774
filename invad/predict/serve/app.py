"""The routes of the service."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette import exceptions

from invad import __version__
from invad.predict.serve.answers import ErrorAnswer, HealthAnswer, Parameters, PredictionAnswer
from invad.predict.serve.guard import Guard
from invad.predict.serve.limits import CONTENT_TYPES, FORM
from invad.predict.serve.page import read_page
from invad.predict.serve.service import Service

_REFUSALS = {
    400: "No body, one that broke off, or a parameter that is wrong.",
    408: "The body did not arrive in time.",
    413: "Too many bytes or pixels.",
    415: "Another content type.",
    422: "Not an image, a damaged one, or one with an unsupported pixel format.",
    429: "Too many requests are waiting; `Retry-After` says when to try again.",
    500: "A mistake of the service; it goes on.",
    503: "Shutting down, or no answer in time.",
}
_FILE = {"type": "string", "format": "binary"}
_SCHEMAS = {
    **{kind: {"schema": _FILE} for kind in CONTENT_TYPES},
    FORM: {"schema": {"type": "object", "properties": {"image": _FILE}, "required": ["image"]}},
}


def create_app(service: Service, hosts: frozenset[str] | None) -> Guard:
    """Return the ASGI application of a service. `hosts`: the names that it may be called by; None for any."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with service.running():
            yield

    # FastAPI's own pages of documentation load scripts from elsewhere; /openapi.json does not.
    app = FastAPI(title="invad", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    _add_routes(app, service)
    for kind in (Exception, exceptions.HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _refuse)
    return Guard(app, service.metrics, hosts)


def _add_routes(app: FastAPI, service: Service) -> None:
    page, policy = read_page()

    @app.post(
        "/predict",
        response_model=PredictionAnswer,
        responses={status: {"model": ErrorAnswer, "description": text} for status, text in _REFUSALS.items()},
        openapi_extra={"requestBody": {"required": True, "content": _SCHEMAS}},
    )
    async def predict(request: Request, given: Annotated[Parameters, Query()]) -> Response:
        """Predict the image that the body is: PNG, JPEG, BMP, TIFF or WebP, whatever its type says; or the only field of a form."""
        answer = await service.predict(request, given.class_name, given.heatmap)
        return Response(answer, media_type="application/json")

    @app.get("/health", response_model=HealthAnswer, responses={503: {"model": HealthAnswer}})
    async def health(response: Response) -> HealthAnswer:
        """Say whether requests are taken, and what the model is."""
        response.status_code = 503 if service.draining else 200
        return service.health()

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Count and time what happened, for Prometheus."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": policy})


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    """Make every error `{"error": reason}`."""
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        error = HTTPException(400, f"{first['loc'][-1]}: {first['msg']}")
    if not isinstance(error, exceptions.HTTPException):
        error = HTTPException(500, "an unexpected error of the service; its log says more")
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
