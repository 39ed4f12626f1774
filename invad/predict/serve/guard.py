"""What surrounds the routes: who may call, what every answer carries, what is counted, and what a mistake of ours becomes."""

import logging
import re
import traceback
from time import perf_counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from invad.predict.serve.metrics import Metrics

PATHS = frozenset({"/", "/predict", "/health", "/metrics", "/openapi.json"})
_OPEN = frozenset({"/health", "/metrics"})
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::\d+)?")
_UNKNOWN_HOST = JSONResponse({"error": "Host: no name of this service; --allow-host adds one"}, 400)
_LOG = logging.getLogger(__name__)


class Guard:
    """An ASGI application around another one.

    A page of somebody else's may have its name point to 127.0.0.1 and then read what is served there (DNS rebinding), but its browser
    still sends that name as Host: `hosts` are the ones that are answered, None for any. Health and metrics are answered by any name,
    because who watches a service often calls it by its address. HEAD is GET, the body of which the server leaves out.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, hosts: frozenset[str] | None) -> None:
        self.app, self._metrics, self._hosts = app, metrics, hosts

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
                self._metrics.answered(path, message["status"], perf_counter() - start)
            await send(message)

        app = self.app if path in _OPEN or self._is_known(scope) else _UNKNOWN_HOST
        try:
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            await app({**scope, "method": method}, receive, send_with_headers)
        except Exception as error:  # it has been answered
            place = traceback.extract_tb(error.__traceback__)[-1]
            words = f"{type(error).__name__}: {' '.join(str(error).split())} ({place.filename}:{place.lineno})"
            _LOG.error("%s %s: %s", scope["method"], path, words)

    def _is_known(self, scope: Scope) -> bool:
        match = _HOST.fullmatch(Headers(scope=scope).get("host", "").lower())
        return self._hosts is None or (match is not None and match[1] in self._hosts)
