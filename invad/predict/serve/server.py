"""The process around the service: address, connections, signals."""

import asyncio
import ipaddress
import json
import logging
import os
import resource
import socket
import sys
from collections.abc import Callable
from time import monotonic
from types import FrameType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from invad.errors import InputError
from invad.predict.serve.app import create_app
from invad.predict.serve.service import Service

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_END_SECONDS = 5  # for answers on their way, after the last one has been computed


class _Protocol(H11Protocol):
    """uvicorn's, which has no time limit for clients that do not go on with what they began, and no end of connections.

    Where there are more than `most`, one that is idle goes; where none is, the new one is refused.
    """

    seconds: float
    most: int

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._set_timer("request", self._drop_without_request)
        standing = [each for each in self.connections if not each.transport.is_closing()]
        if len(standing) > self.most:
            idle = (each for each in standing if each is not self and isinstance(each, _Protocol) and each.is_idle())
            if other := next(idle, None):
                other.transport.abort()
            else:
                self._refuse("503 Service Unavailable", "too many connections; try again later")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in self._timers.values():
            timer.cancel()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._set_timer("request", self._drop_without_request)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._set_timer("answer", self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._timers["answer"].cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP like all other mistakes."""
        self._refuse("400 Bad Request", msg)

    def is_idle(self) -> bool:
        """Return whether no request has come whole that is not answered."""
        return self.cycle is None or self.cycle.response_complete

    def _refuse(self, status: str, reason: str) -> None:
        """Answer without a request, and close the connection."""
        body = json.dumps({"error": reason})
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.transport.write((head + body).encode())
        self.transport.close()

    def _drop_without_request(self) -> None:
        if self.is_idle():
            self.transport.abort()

    def _set_timer(self, name: str, function: Callable[[], object]) -> None:
        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = self.loop.call_later(self.seconds, function)


class Server(uvicorn.Server):
    """uvicorn's server, which would refuse connections as soon as a signal comes: this one answers 503 until what was taken is done."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service, self._end = service, 0.0

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
        family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise InputError(f"--host {host}: not an address or a name of this machine") from None
    try:
        return socket.create_server(place[:2], family=family)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise InputError(f"--host {host} --port {port}: {reason}; choose another port with --port") from None


def is_local(listener: socket.socket) -> bool:
    """Return whether only this machine can connect."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def address(listener: socket.socket) -> str:
    """Return where the page is."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def make_server(service: Service, hosts: frozenset[str] | None) -> Server:
    """Return the server of a service, ready to `run(sockets=[...])`. `hosts`: as for `create_app`."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = service.limits.connections if files == resource.RLIM_INFINITY else max(1, files // 2)

    class Protocol(_Protocol):
        seconds = service.limits.timeout
        most = min(service.limits.connections, room)

    config = uvicorn.Config(
        create_app(service, hosts),
        http=Protocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        log_level=logging.ERROR,  # a warning for every malformed request would fill the log
        access_log=False,
        backlog=128,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_END_SECONDS,
    )
    return Server(config, service)


def run(service: Service, listener: socket.socket, hosts: frozenset[str] | None) -> None:
    """Serve until SIGTERM or SIGINT, finish what was taken, and end the process: a thread may be in a hostile file for minutes."""
    make_server(service, hosts).run(sockets=[listener])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
