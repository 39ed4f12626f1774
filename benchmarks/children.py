"""Objects that live in a process of their own, so that each has its memory to itself and all can be asked in turn."""

import multiprocessing
import re
import textwrap
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class Child:
    """A process that holds `build(*arguments)`; once something failed, `failure` says what and nothing is answered any more."""

    def __init__(self, build: Callable[..., object], *arguments: object) -> None:
        self.failure: str | None = None
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, build, arguments))
        self._process.start()
        other.close()

    def ask(self, method: str, limit: float) -> Any:  # noqa: ANN401  (whatever the method returns)
        """Return what the object's method returns, or None after a failure, such as no answer within `limit` seconds."""
        if self.failure is not None:
            return None
        try:
            self._connection.send(method)
            if self._connection.poll(limit):
                answer, self.failure = self._connection.recv()
                return answer
            self.failure = f"not done within {limit:g} s"
            self._process.terminate()
        except (EOFError, OSError):
            self._process.join()
            self.failure = f"its process ended with exit code {self._process.exitcode}"
        return None

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join()


def serve(connection: Connection, build: Callable[..., object], arguments: tuple[object, ...]) -> None:
    """In the child: answer each method's name with (what it returns, None) or (None, why it failed) until the pipe is closed."""
    held: object | None = None
    try:
        while True:
            method = connection.recv()
            try:
                held = held or build(*arguments)
                answer = (getattr(held, method)(), None)
            except Exception as error:  # whatever it is, it belongs into the results
                answer = (None, reason(error))
            connection.send(answer)
    except (EOFError, OSError):
        return


def reason(error: Exception) -> str:
    """Return kind and message of an error in one short line, of paths only the file's name."""
    message = re.sub(r"/\S*/", "", str(error))
    return textwrap.shorten(f"{type(error).__name__}: {message}", 120, placeholder=" ...")
