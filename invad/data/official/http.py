"""Downloads over HTTP: one large file, resumed and verified, and folders of small ones.

urllib3 sends a request again where that may help (no connection, 429, 5xx, Retry-After); what is own is that a broken body is continued.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from invad.errors import InputError
from invad.files import atomic_path

logger = logging.getLogger(__name__)

LONGEST_BACKOFF = 60.0  # seconds
LONGEST_RETRY_AFTER = 300  # seconds
BLOCK = 1 << 18  # bytes read at most at once


@dataclass(frozen=True)
class Remote:
    """A published file: its name for messages, address, size in bytes, SHA-256 in hexadecimal digits."""

    name: str
    url: str
    size: int
    sha256: str


@dataclass(frozen=True)
class RetryPolicy:
    """How long to insist: `attempts` in a row without a new byte, after seconds of `backoff` that double, `timeout` between two bytes."""

    attempts: int = 8
    backoff: float = 1.0
    timeout: float = 30.0


class Client:
    """A session that insists as `policy` says, keeps up to `connections` open, and says with each error what to do, the `hint`."""

    def __init__(self, policy: RetryPolicy, hint: str, connections: int = 1) -> None:
        self.policy, self.hint, self.session = policy, hint, requests.Session()
        retries = Retry(
            policy.attempts - 1,
            other=0,  # such as a certificate that is not valid
            status_forcelist=(429, *range(500, 600)),
            raise_on_status=False,
            backoff_factor=policy.backoff,
            backoff_max=LONGEST_BACKOFF,
            retry_after_max=LONGEST_RETRY_AFTER,
        )
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(pool_maxsize=connections, max_retries=retries))

    def error(self, name: str, url: str, problem: str) -> InputError:
        """Return the exception to raise: one line that names the file, the address, and what to do."""
        return InputError("; ".join(filter(None, (f"{name}: {url}: {problem}", self.hint))))

    @contextmanager
    def get(
        self, name: str, url: str, headers: Mapping[str, str], accept: tuple[int, ...] = (200,)
    ) -> Generator[requests.Response]:
        """Send a GET and yield the response, its body not yet read. Redirects are followed to http and https only.

        Where the connection breaks while the body is read, the `with` block ends there. `InputError`: no server, or another answer.
        """
        headers = {"Accept-Encoding": "identity", **headers}  # offsets and lengths count the bytes of the file
        try:
            response = self.session.get(url, headers=headers, stream=True, timeout=self.policy.timeout)
        except requests.RequestException as error:
            raise self.error(name, url, f"no answer ({_innermost(error)})") from error
        with response, suppress(urllib3.exceptions.HTTPError):
            if response.status_code not in accept:
                answer = f"the server answers {response.status_code} {response.reason or ''}".rstrip()
                raise self.error(name, url, answer)
            if response.headers.get("Content-Type", "").lower().startswith("text/html"):
                raise self.error(name, url, "the server sends a web page, not the file")
            yield response

    def insist(self, attempt: Callable[[], bool], reached: Callable[[], int], name: str, url: str) -> None:
        """Call `attempt` until it returns True; `InputError` when `policy.attempts` in a row got no further, in bytes, than `reached`."""
        farthest, failures = reached(), 0
        while not attempt():
            failures = 0 if reached() > farthest else failures + 1
            farthest = max(farthest, reached())
            if failures >= self.policy.attempts:
                text = f"the connection broke, {failures} attempts without a new byte; what is there is kept, try again later"
                raise self.error(name, url, text)
            logger.info("%s: the connection broke; it is continued", name)
            time.sleep(min(LONGEST_BACKOFF, self.policy.backoff * 2**failures) if failures else 0)


def download(
    remote: Remote, path: Path, *, label: str = "", policy: RetryPolicy = RetryPolicy(), hint: str = ""
) -> None:
    """Leave the verified file at `path`; one that is there is verified only.

    Until then its bytes are in `<path>.part`, and a later call continues them with an HTTP range. They are thrown away when the file
    turns out damaged, or another one than is published. A bar on stderr counts bytes. `InputError`, with `hint` at its end: the server
    refuses, is out of reach for too long or has another file; or another file lies at `path`, which is left as it is.
    """
    if path.exists():
        verify(remote, path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    client, part = Client(policy, hint), partial_path(path)
    with client.session, tqdm(desc=label or remote.name, unit="B", unit_scale=True, total=remote.size) as progress:
        client.insist(lambda: _continue(remote, part, client, progress), lambda: _size(part), remote.name, remote.url)
    if problem := _problem(remote, part):
        part.unlink()
        raise client.error(remote.name, remote.url, f"{problem}; the damaged file was removed")
    part.replace(path)


def verify(remote: Remote, path: Path) -> None:
    """Raise `InputError` where a file is missing, or its size or SHA-256 is not the published one."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected {remote.name}")
    if problem := _problem(remote, path):
        raise InputError(f"{path}: not the {remote.name} expected: {problem}; move it away or give the right one")


def partial_path(path: Path) -> Path:
    """Return where the bytes of an unfinished file are."""
    return path.with_name(f"{path.name}.part")


def download_small(
    urls: Sequence[tuple[str, Path]],
    *,
    label: str,
    workers: int = 16,
    policy: RetryPolicy = RetryPolicy(),
    hint: str = "",
) -> int:
    """Fetch many small files, given as (address, path); those that are there are left. Return how many were fetched.

    Each is written whole, as long as the server announced, or not at all. After the first `InputError` the others stop.
    """
    missing = {path: url for url, path in urls if not path.exists()}
    there = len({path for _, path in urls}) - len(missing)
    client, stop = Client(policy, hint, workers), threading.Event()

    def attempt(path: Path, url: str) -> bool:
        with client.get(path.name, url, {}) as response:
            if "Content-Length" not in response.headers:
                raise client.error(path.name, url, "the server does not say how long the file is")
            content = b"".join(_body(response))  # raises when it is shorter than announced
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
            return True
        return False

    def fetch(item: tuple[Path, str]) -> None:
        path, url = item
        client.insist(lambda: stop.is_set() or attempt(path, url), lambda: 0, path.name, url)

    with (
        client.session,
        tqdm(desc=label, unit="image", total=there + len(missing), initial=there, mininterval=1) as progress,
        ThreadPool(workers) as pool,  # of daemons: one that waits for a slow server keeps nobody
    ):
        try:
            for _ in pool.imap_unordered(fetch, missing.items()):
                progress.update()
        finally:
            stop.set()
    return len(missing)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _problem(remote: Remote, path: Path) -> str:
    """Return why a file is not the published one; empty where it is."""
    if (size := path.stat().st_size) != remote.size:
        return f"{size} bytes, {remote.size} are right"
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return "" if sha256 == remote.sha256 else f"sha256 {sha256}, {remote.sha256} is right"


def _continue(remote: Remote, part: Path, client: Client, progress: "tqdm[Any]") -> bool:
    """Fetch what is missing in `part`, and return whether that is all now; from the start, where the server sends another range."""
    have = _size(part)
    if have == remote.size:  # but the process ended before it was verified
        return True
    have = have if have < remote.size else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with client.get(remote.name, remote.url, headers, (200, 206, 416) if have else (200,)) as response:
        if response.status_code != 200:
            sent = response.headers.get("Content-Range", "")
            if not (sent.startswith(f"bytes {have}-") and sent.endswith(f"/{remote.size}")):
                part.unlink()
                return False
        elif (length := response.headers.get("Content-Length", str(remote.size))) != str(remote.size):
            raise client.error(remote.name, remote.url, f"the server has {length} bytes, {remote.size} are right")
        else:
            have = 0
        progress.update(have - progress.n)
        with part.open("ab" if have else "wb") as file:
            for block in _body(response):
                file.write(block)
                file.flush()  # a killed process loses nothing
                progress.update(len(block))
                if file.tell() > remote.size:
                    break
            return file.tell() >= remote.size
    return False


def _body(response: requests.Response) -> Iterator[bytes]:
    """Yield the body in blocks as they come; those of `iter_content` are lost where the connection breaks."""
    while block := response.raw.read1(BLOCK, decode_content=False):
        yield block


def _innermost(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:  # it is the short one
        error = cause
    return error
