"""A real HTTP server on 127.0.0.1 that misbehaves as told, request by request."""

import re
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass(frozen=True)
class Answer:
    """How the server answers one request for a file; by default as it should."""

    status: int = 200
    body: bytes | None = None  # in place of the file
    ranges: bool = True  # respect Range
    length: int | None = None  # a wrong Content-Length
    framing: str = "length"  # or `chunked`, or `close`: the end of the body is the end of the connection
    cut: int | None = None  # end the connection after so many bytes of the body
    stall: int | None = None  # send nothing more after so many bytes, the connection stays open
    dribble: int | None = None  # send so many bytes at a time, 10 ms apart
    shift: int = 0  # the Content-Range of a 206 starts so many bytes too late
    headers: dict[str, str] = field(default_factory=dict)


class FileServer(ThreadingHTTPServer):
    """Serves `files`, name -> bytes. `script`: name -> answers, one a request; the last one is for all further requests."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.script: dict[str, list[Answer]] = defaultdict(list)
        self.seen: list[tuple[str, dict[str, str]]] = []  # of every request: the name, the headers
        self.connections = 0
        self.closing = threading.Event()
        self.lock = threading.Lock()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def requests(self, name: str) -> int:
        return sum(seen == name for seen, _ in self.seen)

    def ranges(self, name: str) -> list[str | None]:
        """Return the Range header of every request for the file."""
        return [headers.get("Range") for seen, headers in self.seen if seen == name]

    def next_answer(self, name: str) -> Answer:
        with self.lock:
            answers = self.script[name]
            if len(answers) > 1:
                return answers.pop(0)
            return answers[0] if answers else Answer(200 if name in self.files else 404)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FileServer

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections += 1

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client may leave at any time
            super().handle()

    def do_GET(self) -> None:
        name = self.path[1:]
        with self.server.lock:
            self.server.seen.append((name, dict(self.headers)))
        answer = self.server.next_answer(name)
        whole = answer.body if answer.body is not None else self.server.files.get(name, b"")
        status, first = self._range(answer, whole)
        body = b"" if status == 416 else whole[first:]
        self._send_head(answer, status, first, len(whole), len(body))
        self._send_body(answer, body)

    def _range(self, answer: Answer, whole: bytes) -> tuple[int, int]:
        """Return the status and the first byte to send."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if answer.status != 200 or not answer.ranges or not asked:
            return answer.status, 0
        first = int(asked[1])
        return (206, first) if first < len(whole) else (416, 0)

    def _send_head(self, answer: Answer, status: int, first: int, total: int, length: int) -> None:
        self.send_response(status)
        if answer.framing == "length":
            self.send_header("Content-Length", str(length if answer.length is None else answer.length))
        elif answer.framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        if status == 206:
            self.send_header("Content-Range", f"bytes {first + answer.shift}-{total - 1}/{total}")
        if status == 416:
            self.send_header("Content-Range", f"bytes */{total}")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_body(self, answer: Answer, body: bytes) -> None:
        end = min(len(body) if limit is None else limit for limit in (answer.cut, answer.stall))
        step = answer.dribble or max(end, 1)
        for start in range(0, end, step):
            block = body[start : min(start + step, end)]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block) if answer.framing == "chunked" else block)
            if answer.dribble:
                time.sleep(0.01)
        if answer.stall is not None:
            self.server.closing.wait(10)
        if answer.framing == "chunked" and answer.cut is None:
            self.wfile.write(b"0\r\n\r\n")
        if answer.framing == "close" or answer.cut is not None or answer.stall is not None or answer.length is not None:
            self.close_connection = True

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@pytest.fixture(name="server")
def http_server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()
