"""The process around the service: address, connections, signals."""

import asyncio
import logging
import math
import os
import signal
import socket

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from invad.errors import InputError
from invad.predict.serve.app import create_app
from invad.predict.serve.service import Service

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
CONNECTIONS = 512  # with more, uvicorn refuses requests with a 503
_END_SECONDS = 5  # for answers on their way, after the last one has been computed


class _Protocol(H11Protocol):
    """uvicorn's, which has no time limit for clients that do not go on with a request that they began, or do not read an answer."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP like all other mistakes, whatever state it has left the connection in."""
        head = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
        self.transport.write(f'{head}{{"error": "{msg}"}}'.encode())
        self.transport.close()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(self.timeout_keep_alive, self._drop)

    def _drop(self) -> None:
        """Close the connection, unless it is our turn: a request has come whole and is not answered."""
        if self.flow.write_paused or self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens; `InputError` where it cannot. Who connects before the model is loaded waits."""
    try:
        family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(place[:2], family=family)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"--host {host} --port {port}: {reason}; choose another address") from None


def address(listener: socket.socket) -> str:
    """Return where the page is."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def make_server(service: Service, hosts: frozenset[str] | None) -> uvicorn.Server:
    """Return the server of a service, ready to `run(sockets=[...])`. `hosts`: as for `create_app`."""
    timeout = math.ceil(service.limits.timeout)
    config = uvicorn.Config(
        create_app(service, hosts),
        http=_Protocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        log_level=logging.ERROR,  # a warning for every malformed request would fill the log
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=timeout,
        timeout_graceful_shutdown=timeout + _END_SECONDS,
    )
    return uvicorn.Server(config)


def run(service: Service, listener: socket.socket, hosts: frozenset[str] | None) -> None:
    """Serve until SIGTERM or SIGINT, finish what was taken, and end the process: a thread may be in a hostile file for minutes."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: os._exit(0))  # uvicorn raises the signal again when it has finished
    make_server(service, hosts).run(sockets=[listener])
