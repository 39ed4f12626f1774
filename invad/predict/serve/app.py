"""The routes of the service."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from invad import __version__
from invad.predict.serve.answers import ErrorAnswer, HealthAnswer, PredictionAnswer
from invad.predict.serve.guard import Guard
from invad.predict.serve.limits import FORM, IMAGE_TYPES, RefusalError, check_parameters
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
_BODY = {
    "required": True,
    "content": {
        **{name: {"schema": _FILE} for name in IMAGE_TYPES},
        FORM: {"schema": {"type": "object", "properties": {"image": _FILE}, "required": ["image"]}},
    },
}


def create_app(service: Service, hosts: frozenset[str] | None) -> Guard:
    """Return the ASGI application of a service. `hosts`: the names that it may be called by; None for any."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with service.running():
            yield

    # FastAPI's own pages of documentation load scripts from elsewhere; /openapi.json does not.
    app = FastAPI(title="invad", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    _add_errors(app)
    _add_routes(app, service)
    return Guard(app, service.metrics, hosts)


def _add_routes(app: FastAPI, service: Service) -> None:
    page = read_page()

    @app.post(
        "/predict",
        response_model=PredictionAnswer,
        responses={status: {"model": ErrorAnswer, "description": text} for status, text in _REFUSALS.items()},
        openapi_extra={"requestBody": _BODY},
    )
    async def predict(
        request: Request,
        heatmap: Annotated[bool, Query(description="Add the picture of the map.")] = False,
        class_name: Annotated[str | None, Query(alias="class", description="Whose thresholds to use.")] = None,
    ) -> Response:
        """Predict the image that the body is: PNG, JPEG, BMP, TIFF or WebP, whatever its type says; or the only field of a form."""
        check_parameters(request.query_params.multi_items())
        return Response(await service.predict(request, class_name, heatmap), media_type="application/json")

    @app.get("/health", response_model=HealthAnswer, responses={503: {"model": HealthAnswer}})
    async def health() -> Response:
        """Say whether requests are taken, and what the model is."""
        answer = service.health()
        return Response(answer.model_dump_json(), 200 if answer.status == "ok" else 503, media_type="application/json")

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Count and time what happened, for Prometheus."""
        return Response(service.metrics.text(), headers={"Content-Type": service.metrics.content_type})

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(page.content, media_type="text/html", headers={"Content-Security-Policy": page.policy})


def _add_errors(app: FastAPI) -> None:
    """Make every error `{"error": reason}`."""

    def answer(status: int, reason: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": reason}, status, headers)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        return answer(500, "an unexpected error of the service; its log says more")

    @app.exception_handler(RefusalError)
    async def refused(_: Request, error: RefusalError) -> JSONResponse:
        return answer(error.status, error.reason, error.headers)

    @app.exception_handler(HTTPException)
    async def no_route(_: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, error.detail, error.headers)

    @app.exception_handler(RequestValidationError)
    async def wrong_parameter(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return answer(400, f"{first['loc'][-1]}: {first['msg']}")
