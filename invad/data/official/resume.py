"""Download one large file: continued after any interruption, verified, and only then at its place."""

import re
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import requests

from invad.data.official.attempts import (
    DEFAULT_POLICY,
    Context,
    RetryPolicy,
    Transient,
    body,
    content_length,
    get,
    insist,
    knows_its_end,
)
from invad.data.official.verify import Mismatch, Remote, measure, record, verify
from invad.disk import free_bytes
from invad.errors import InputError
from invad.files import read_json, write_json


def ignore(_count: int) -> None:
    """Do nothing with a number of bytes."""


def download(
    remote: Remote,
    path: Path,
    *,
    policy: RetryPolicy = DEFAULT_POLICY,
    on_bytes: Callable[[int], None] = ignore,
    hint: str = "",
) -> None:
    """Leave the verified file at `path`; return at once when it is there.

    Until then its bytes are in `<path>.part`, and `<path>.part.json` says of which file they are; a later call continues them with an
    HTTP range. They are thrown away when the address, the file on the server or its size has changed, or when the file turns out
    damaged. `on_bytes` is given the number of new bytes, negative when bytes are thrown away.

    Raises:
        InputError: The server refuses, or is out of reach for too long; its file is not the published one; there is no room on the disk;
            or a file at `path` is not the published one (it is left as it is). `hint` is appended.
    """
    with requests.Session() as session:
        Download(remote, path, Context(session, policy, hint, threading.Event()), on_bytes).run()


def partial_path(path: Path) -> Path:
    """Return where the bytes of an unfinished file are."""
    return path.with_name(f"{path.name}.part")


@dataclass(frozen=True)
class Origin:
    """Of which file the bytes in `.part` are: its address, what tells its versions apart, and its length in bytes if known."""

    url: str
    etag: str | None
    last_modified: str | None
    total: int | None

    @property
    def validator(self) -> str | None:
        """What may stand in If-Range: an ETag that is not a weak one, else the time of the last change."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


class Download:
    """One file on its way."""

    def __init__(
        self,
        remote: Remote,
        path: Path,
        context: Context,
        on_bytes: Callable[[int], None] = ignore,
        on_total: Callable[[int], None] = ignore,
    ) -> None:
        """`on_total` is given the length of the file, in bytes, when the server has announced it."""
        self.remote, self.path, self.context = remote, path, context
        self.on_bytes, self.on_total = on_bytes, on_total
        self.part = partial_path(path)
        self.origin_file = path.with_name(f"{path.name}.part.json")

    def run(self) -> None:
        """See `download`."""
        if self.path.exists():
            record(self.path, verify(self.remote, self.path))
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        insist(self._attempt, self._size, self.context, self.remote.name, self.remote.url)
        self._finish()

    def _attempt(self) -> None:
        origin = self._origin()
        have = self._size()
        if origin and have == origin.total:  # complete, but the process ended before it was verified
            return
        headers = {"Range": f"bytes={have}-"} if have else {}
        if have and origin and origin.validator:
            headers["If-Range"] = origin.validator
        accept = (200, 206, 416) if have else (200,)
        with get(self.context, self.remote.name, self.remote.url, headers, accept) as response:
            unknown_total = origin is not None and origin.total is None
            if response.status_code == 416 and unknown_total and _content_range(response) == (None, have):
                return
            if response.status_code != 200 and not _continues(response, origin, have):
                self._discard()
                raise Transient("the server does not continue the file, it is fetched from its start")
            self._receive(response, have if response.status_code == 206 else 0)

    def _receive(self, response: requests.Response, have: int) -> None:
        """Append the body to the first `have` bytes."""
        announced = _content_range(response)[1] if response.status_code == 206 else content_length(response)
        total = announced if announced is not None else self.remote.size
        self._check_announced(response, total, have)
        self.on_bytes(have - self._size())
        if total is not None:
            self.on_total(total)
        headers = response.headers
        with self.part.open("ab" if have else "wb") as file:
            if not have:  # after the truncation: at no time do old bytes pass for those of a new file
                origin = Origin(self.remote.url, headers.get("ETag"), headers.get("Last-Modified"), total)
                write_json(self.origin_file, asdict(origin))
            for block in body(response, self.context.stop):
                file.write(block)
                file.flush()  # a killed process loses nothing
                have += len(block)
                self.on_bytes(len(block))
                if total is not None and have > total:
                    break
        if total is not None and have < total:
            raise Transient(f"the connection ended after {have} of {total} bytes")
        if total is not None and have > total:
            self._discard()
            raise self._error(f"sends more than the {total} bytes that are right")

    def _check_announced(self, response: requests.Response, total: int | None, have: int) -> None:
        if self.remote.size not in (None, total):
            raise self._error(f"the server has {total} bytes, {self.remote.size} are right")
        if total is None and not self.remote.checksum and not knows_its_end(response):
            raise self._error("the server does not say how long the file is, so a part of it would pass for the whole")
        free_bytes(self.path.parent, (total or 0) - have, self.remote.name)

    def _finish(self) -> None:
        try:
            found = measure(self.remote, self.part)
        except Mismatch as problem:
            self._discard()
            raise self._error(f"{problem}; the damaged file was removed") from None
        record(self.path, found)
        self.part.replace(self.path)
        self.origin_file.unlink(missing_ok=True)

    def _origin(self) -> Origin | None:
        """Return of which file the bytes in `.part` are; they are thrown away when it cannot be told, or is another file."""
        try:
            origin = Origin(**read_json(self.origin_file))
        except (InputError, TypeError):
            origin = None
        can_be_told = origin and (origin.validator or self.remote.checksum)
        if origin and can_be_told and origin.url == self.remote.url and self._size() <= (origin.total or self._size()):
            return origin
        self._discard()
        return None

    def _discard(self) -> None:
        self.on_bytes(-self._size())
        self.part.unlink(missing_ok=True)
        self.origin_file.unlink(missing_ok=True)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _error(self, problem: str) -> InputError:
        return self.context.error(self.remote.name, self.remote.url, problem)


def _continues(response: requests.Response, origin: Origin | None, have: int) -> bool:
    """Return whether a 206 goes on with the same file where the bytes so far end."""
    if response.status_code != 206 or origin is None:
        return False
    start, total = _content_range(response)
    same = all(
        known is None or sent is None or known == sent
        for known, sent in (
            (origin.etag, response.headers.get("ETag")),
            (origin.last_modified, response.headers.get("Last-Modified")),
            (origin.total, total),
        )
    )
    return same and start == have and total is not None


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """Return the first byte and the whole length of Content-Range, `bytes 5-9/10` or `bytes */10`; None for what is not there."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", response.headers.get("Content-Range", "").strip())
    start, total = match.groups() if match else (None, None)
    return (int(start) if start else None), (int(total) if total else None)
