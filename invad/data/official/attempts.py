"""One HTTP request, and when to send it again: what may pass is tried again, what will not pass is an `InputError` at once."""

import logging
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import requests
import urllib3
from urllib3.util import Retry

from invad.errors import InputError

logger = logging.getLogger(__name__)

LONGEST_BACKOFF = 60.0  # seconds
LONGEST_RETRY_AFTER = 300  # seconds
BLOCK = 1 << 18  # bytes read at most at once

# What a network does now and then. urllib3's own exceptions come from reading the body.
_PASSING = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.ProtocolError,
    urllib3.exceptions.TimeoutError,
    urllib3.exceptions.SSLError,
)


@dataclass(frozen=True)
class RetryPolicy:
    """How long to insist.

    `attempts`: consecutive ones without a new byte, then it is given up. `backoff`: seconds before the second one, doubled each time, at
    most 60; a server's Retry-After is respected up to 300 seconds. `timeout`: seconds to connect, and between two bytes.
    """

    attempts: int = 8
    backoff: float = 1.0
    timeout: float = 30.0


DEFAULT_POLICY = RetryPolicy()


class Transient(Exception):  # noqa: N818  (never leaves this package)
    """Another attempt may do better. `retry_after`: seconds that the server asks to wait."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Stopped(Exception):  # noqa: N818  (never leaves this package)
    """Another thread failed, or the user has pressed Ctrl-C."""


@dataclass(frozen=True)
class Context:
    """What the attempts of one download share. `hint`: appended to what is raised, says what the user can do."""

    session: requests.Session
    policy: RetryPolicy
    hint: str
    stop: threading.Event

    def error(self, name: str, url: str, problem: str) -> InputError:
        """Return the exception to raise: one line that names the file, the address, and what to do."""
        return InputError("; ".join(filter(None, (f"{name}: {url}: {problem}", self.hint))))


def insist(attempt: Callable[[], None], reached: Callable[[], int], context: Context, name: str, url: str) -> None:
    """Call `attempt` until it does not raise `Transient`. `reached`: the bytes so far; an attempt that gets further is no failure.

    Raises:
        InputError: `context.policy.attempts` in a row got no further.
        Stopped: Meanwhile `context.stop` was set.
    """
    policy = context.policy
    farthest, failures = reached(), 0
    while True:
        try:
            return attempt()
        except Transient as problem:
            failures = 0 if reached() > farthest else failures + 1
            farthest = max(farthest, reached())
            if failures >= policy.attempts:
                text = f"{problem}, {failures} attempts without a new byte; what is there is kept, try again later"
                raise context.error(name, url, text) from None
            wait = max(backoff(policy, failures), problem.retry_after)
            if failures > 1:
                logger.warning("%s: %s; attempt %d of %d in %.0f s", name, problem, failures + 1, policy.attempts, wait)
        if context.stop.wait(wait):
            raise Stopped


def backoff(policy: RetryPolicy, failures: int) -> float:
    """Return the seconds to wait after so many failures in a row."""
    return min(LONGEST_BACKOFF, policy.backoff * 2 ** min(max(failures - 1, 0), 16))


@contextmanager
def get(
    context: Context, name: str, url: str, headers: Mapping[str, str], accept: tuple[int, ...] = (200,)
) -> Generator[requests.Response]:
    """Send a GET and yield the response, its body not yet read; what the network does in the `with` body is judged as well.

    Redirects are followed to http and https only.

    Raises:
        Transient: No connection, a broken one, too slow a one, 429 or 5xx.
        InputError: Any other status that is not in `accept`, an address that cannot be, a web page in place of the file.
    """
    # identity: offsets and lengths count the bytes of the file, not of a compressed form
    headers = {"Accept-Encoding": "identity", **headers}
    timeout = context.policy.timeout
    try:
        with context.session.get(url, headers=headers, stream=True, timeout=timeout) as response:
            problem = _judge(response, accept)
            if problem:
                raise context.error(name, url, problem)
            yield response
    except _PASSING as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise context.error(name, url, "the server's certificate is not valid") from error
        raise Transient(_reason(error, timeout)) from error
    except (
        requests.RequestException
    ) as error:  # a scheme other than http and https, an address that is none, redirects in a circle
        raise context.error(name, url, str(error)) from error


def body(response: requests.Response, stop: threading.Event) -> Iterator[bytes]:
    """Yield the body as the server sent it, in blocks as they come, not decoded."""
    while block := response.raw.read1(BLOCK, decode_content=False):
        if stop.is_set():
            raise Stopped
        yield block


def content_length(response: requests.Response) -> int | None:
    """Return the length of the body that the server announced, None without one."""
    value = response.headers.get("Content-Length", "")
    return int(value) if value.isdecimal() else None


def knows_its_end(response: requests.Response) -> bool:
    """Return whether a body that is cut off can be told from a complete one."""
    return content_length(response) is not None or response.headers.get("Transfer-Encoding", "").lower() == "chunked"


def _judge(response: requests.Response, accept: tuple[int, ...]) -> str:
    """Return why the response is of no use for good; empty when it is of use."""
    status = f"the server answers {response.status_code} {response.reason or ''}".rstrip()
    if response.status_code == 429 or response.status_code >= 500:
        raise Transient(status, _retry_after(response))
    if response.status_code not in accept:
        return status
    if response.status_code == 200 and response.headers.get("Content-Type", "").lower().startswith("text/html"):
        return "the server sends a web page, not the file"
    return ""


def _retry_after(response: requests.Response) -> float:
    try:
        return Retry(retry_after_max=LONGEST_RETRY_AFTER).get_retry_after(response.raw) or 0.0
    except urllib3.exceptions.InvalidHeader:
        return 0.0


def _reason(error: BaseException, timeout: float) -> str:
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return f"no byte in {timeout:g} s"
    while (cause := error.__cause__ or error.__context__) is not None:  # the innermost one is the short one
        error = cause
    return f"the connection failed ({error})"
