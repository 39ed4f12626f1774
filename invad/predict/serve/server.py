"""The process around the service: address, connections, signals."""

import asyncio
import errno
import ipaddress
import json
import logging
import math
import os
import resource
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from invad.errors import InputError
from invad.predict.serve.app import create_app
from invad.predict.serve.batching import THREADS
from invad.predict.serve.service import Service

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_BACKLOG = 128  # connections that are accepted at once, before any of them can be refused
_SPARE_FILES = 16  # for what else is opened: libraries, threads, the selector
_QUIET_SECONDS = 60  # between two lines about the same trouble
_LOG = logging.getLogger(__name__)
_END_SECONDS = 5  # for answers on their way, after the last one has been computed


class _Protocol(H11Protocol):
    """uvicorn's, which has no time limit for clients that do not go on with what they began, and no end of connections.

    Where there are more than `most`, the one that has been idle for longest goes; where none is idle, the new one is refused.
    """

    seconds: float
    most: int

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **named)
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self._set_timer("request", self._drop_without_request, self.cycle)
        standing = [other for other in self.connections if not other.transport.is_closing()]
        if len(standing) > self.most:
            idle = [
                other for other in standing if other is not self and isinstance(other, _Protocol) and other.is_idle()
            ]
            if idle:
                min(idle, key=lambda other: other._idle_since).transport.abort()
            else:
                self._refuse(503, "Service Unavailable", "too many connections; try again later", {"Retry-After": "5"})

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for name in tuple(self._timers):
            self._stop_timer(name)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._idle_since = self.loop.time()
        self._set_timer("request", self._drop_without_request, self.cycle)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._set_timer("answer", self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_timer("answer")

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP like all other mistakes."""
        self._refuse(400, "Bad Request", msg, {})

    def is_idle(self) -> bool:
        """Return whether no request has come whole that is not answered."""
        return self.cycle is None or self.cycle.response_complete

    def _refuse(self, status: int, words: str, reason: str, extra: dict[str, str]) -> None:
        """Answer without a request, and close the connection."""
        body = json.dumps({"error": reason}).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"} | extra
        head = h11.Response(status_code=status, headers=list(headers.items()), reason=words)
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()

    def _drop_without_request(self, last: RequestResponseCycle | None) -> None:
        if self.cycle is last and (last is None or last.response_complete):
            self.transport.abort()

    def _set_timer(self, name: str, function: Callable[..., object], *arguments: object) -> None:
        self._stop_timer(name)
        self._timers[name] = self.loop.call_later(self.seconds, function, *arguments)

    def _stop_timer(self, name: str) -> None:
        if name in self._timers:
            self._timers.pop(name).cancel()


class Server(uvicorn.Server):
    """uvicorn's server, which would refuse connections as soon as a signal comes: this one answers 503 until what was taken is done."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service, self._end, self._told = service, 0.0, -math.inf

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen; that no more files may be opened is one line then, where asyncio would write thousands."""
        asyncio.get_running_loop().set_exception_handler(self._tell)
        await super().startup(sockets)

    def _tell(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)):
            loop.default_exception_handler(context)
        elif monotonic() > self._told + _QUIET_SECONDS:
            self._told = monotonic()
            _LOG.error("a connection has to wait: %s; raise the limit (`ulimit -n`)", (error.strerror or "").lower())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end with the first signal; end at once with the second."""
        if self._service.draining:
            super().handle_exit(sig, frame)
        self._service.draining, self._end = True, monotonic() + self._service.limits.timeout + _END_SECONDS

    async def on_tick(self, counter: int) -> bool:
        """Say whether it is time to end; called ten times a second."""
        if self._service.draining:
            self.should_exit |= self._service.taken == 0 or monotonic() > self._end
        return await super().on_tick(counter)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens; who connects before the model is loaded waits.

    Raises:
        InputError: The port is taken or not allowed, or `host` is no address of this machine.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError):
        raise InputError(f"--host {host}: not an address or a name of this machine") from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier run may linger
    try:
        listener.bind(place)
        listener.listen()
    except OSError as error:
        listener.close()
        raise InputError(
            f"--host {host} --port {port}: {(error.strerror or str(error)).lower()}; choose another port with --port"
        ) from None
    return listener


def is_local(listener: socket.socket) -> bool:
    """Return whether only this machine can connect."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def address(listener: socket.socket) -> str:
    """Return where the page is."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def make_server(service: Service, hosts: frozenset[str] | None) -> Server:
    """Return the server of a service, ready to `run(sockets=[...])`. `hosts`: as for `create_app`."""

    class Protocol(_Protocol):
        seconds = service.limits.timeout
        most = _most_connections(service.limits.connections)

    config = uvicorn.Config(
        create_app(service, hosts),
        http=Protocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        log_level=logging.ERROR,  # a warning for every malformed request would fill the log
        access_log=False,
        backlog=_backlog(),
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_END_SECONDS,
    )
    return Server(config, service)


def _most_connections(wanted: int) -> int:
    """Return how many connections may stand at a time: as many as wanted, or as the files that the process may open leave room for."""
    files = _most_files()
    opened = sum(1 for _ in Path("/dev/fd").iterdir())
    # Some have been accepted that nobody has looked at yet, and some dropped that are not closed yet.
    return max(1, wanted if files is None else min(wanted, files - opened - 3 * _backlog() - _SPARE_FILES))


def _backlog() -> int:
    files = _most_files()
    return _BACKLOG if files is None else max(1, min(_BACKLOG, files // 8))


def _most_files() -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def run(service: Service, listener: socket.socket, hosts: frozenset[str] | None) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was taken; the process may end here."""
    make_server(service, hosts).run(sockets=[listener])
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(THREADS)]
    for thread in threads:
        thread.join(1)
    if any(thread.is_alive() for thread in threads):  # in a hostile file, for a request that was answered long ago
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
