"""Downloads over HTTP: a large file, continued where it broke off, and verified.

urllib3 sends a request again where that may help (no connection, 429, 5xx, Retry-After); what is own is that a broken body is continued.
"""

import hashlib
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from invad.errors import InputError

logger = logging.getLogger(__name__)

LONGEST_BACKOFF = 60.0  # seconds
LONGEST_RETRY_AFTER = 300  # seconds
BLOCK = 1 << 18  # bytes read at most at once


@dataclass(frozen=True)
class Remote:
    """A published file: its name for messages, address, size in bytes, SHA-256 in hexadecimal digits; `hint`: what to do without it.

    Where `size_is_known` is False, `size` is an estimate: the server says how much it is, and twice the estimate is too much.
    """

    name: str
    url: str
    size: int
    sha256: str
    hint: str = ""
    size_is_known: bool = True

    def refused(self, problem: str) -> InputError:
        """Return the exception to raise: one line that names the file, the address, and what to do."""
        return InputError("; ".join(filter(None, (f"{self.name}: {self.url}: {problem}", self.hint))))


@dataclass(frozen=True)
class RetryPolicy:
    """How long to insist: `attempts` in a row without a new byte, after seconds of `backoff` that double, `timeout` between two bytes."""

    attempts: int = 8
    backoff: float = 1.0
    timeout: float = 30.0


def download(remote: Remote, path: Path, *, label: str = "", policy: RetryPolicy = RetryPolicy()) -> None:
    """Leave the verified file at `path`; one that is there is verified only.

    Until then its bytes are in `<path>.part`, and a later call continues them with an HTTP range. They are thrown away when the file
    turns out damaged, or another one than is published. A bar on stderr counts bytes. `InputError`: the server refuses, is out of reach
    for too long or has another file; or another file lies at `path`, which is left as it is.
    """
    if path.exists():
        verify(remote, path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part, failures = path.with_name(f"{path.name}.part"), 0
    farthest = _size(part)
    with (
        _session(policy) as session,
        tqdm(desc=label or remote.name, unit="B", unit_scale=True, total=remote.size) as bar,
    ):
        while not _continue(remote, part, session, policy.timeout, bar):
            failures = 0 if _size(part) > farthest else failures + 1
            farthest = max(farthest, _size(part))
            if failures >= policy.attempts:
                text = f"the connection broke, {failures} attempts without a new byte; what is there is kept, try again later"
                raise remote.refused(text)
            logger.info("%s: the connection broke; it is continued", remote.name)
            time.sleep(min(LONGEST_BACKOFF, policy.backoff * 2**failures) if failures else 0)
    if problem := _problem(remote, part):
        part.unlink()
        raise remote.refused(f"{problem}; the damaged file was removed")
    part.replace(path)


def verify(remote: Remote, path: Path) -> None:
    """Raise `InputError` where a file is missing, or its size or SHA-256 is not the published one."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected {remote.name}")
    if problem := _problem(remote, path):
        raise InputError(f"{path}: not the {remote.name} expected: {problem}; move it away or give the right one")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _problem(remote: Remote, path: Path) -> str:
    """Return why a file is not the published one; empty where it is."""
    if (size := path.stat().st_size) != remote.size and remote.size_is_known:
        return f"{size} bytes, {remote.size} are right"
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return "" if sha256 == remote.sha256 else f"sha256 {sha256}, {remote.sha256} is right"


def _session(policy: RetryPolicy) -> requests.Session:
    retries = Retry(
        policy.attempts - 1,
        other=0,  # such as a certificate that is not valid
        status_forcelist=(429, *range(500, 600)),
        raise_on_status=False,
        backoff_factor=policy.backoff,
        backoff_max=LONGEST_BACKOFF,
        retry_after_max=LONGEST_RETRY_AFTER,
    )
    session = requests.Session()
    for scheme in ("http://", "https://"):  # also redirects go to these only
        session.mount(scheme, HTTPAdapter(max_retries=retries))
    return session


def _continue(remote: Remote, part: Path, session: requests.Session, timeout: float, bar: "tqdm[Any]") -> bool:
    """Fetch what is missing in `part`, and return whether that is all now; from the start, where the server sends another range."""
    have, most = _size(part), remote.size if remote.size_is_known else 2 * remote.size
    if have == remote.size and remote.size_is_known:  # but the process ended before it was verified
        return True
    have = have if have < most else 0
    headers = {"Accept-Encoding": "identity"}  # offsets and lengths count the bytes of the file
    headers |= {"Range": f"bytes={have}-"} if have else {}
    try:
        response = session.get(remote.url, headers=headers, stream=True, timeout=timeout)
    except requests.RequestException as error:
        raise remote.refused(f"no answer ({_innermost(error)})") from error
    with response, suppress(urllib3.exceptions.HTTPError):  # of a connection that breaks in the body
        if response.status_code not in ((200, 206, 416) if have else (200,)):
            raise remote.refused(f"the server answers {response.status_code} {response.reason or ''}".rstrip())
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise remote.refused("the server sends a web page, not the file")
        sent, length = response.headers.get("Content-Range", ""), response.headers.get("Content-Length", "")
        announced = length if response.status_code == 200 else sent.rpartition("/")[2]
        size = str(remote.size) if remote.size_is_known else announced
        if response.status_code != 200:
            if sent == f"bytes */{have}" == f"bytes */{size}":  # there is no more of it
                return True
            if not (sent.startswith(f"bytes {have}-") and sent.endswith(f"/{size}") and size.isdigit()):
                part.unlink()
                return False
        elif announced not in ("", size) or (size.isdigit() and int(size) > most):
            right = f"{size} are right" if remote.size_is_known else f"about {remote.size} are expected"
            raise remote.refused(f"the server has {announced} bytes, {right}")
        else:
            have = 0
        bar.update(have - bar.n)
        with part.open("ab" if have else "wb") as file:
            # Those of `iter_content` are lost where the connection breaks.
            while block := response.raw.read1(BLOCK, decode_content=False):
                file.write(block)
                file.flush()  # a killed process loses nothing
                bar.update(len(block))
                if file.tell() > most:
                    break
            return not size.isdigit() or file.tell() >= int(size)
    return False


def _innermost(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:  # it is the short one
        error = cause
    return error
