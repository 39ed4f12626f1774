"""Downloads over HTTP: large files, resumable and verified, and folders of small ones; several at once, with a progress bar on stderr."""

import queue
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

import requests
from tqdm import tqdm

from invad.data.official.attempts import (
    DEFAULT_POLICY,
    Context,
    RetryPolicy,
    Stopped,
    body,
    get,
    insist,
    knows_its_end,
)
from invad.data.official.resume import Download, download, partial_path
from invad.data.official.verify import Remote, file_sha256, is_complete, verify_local
from invad.disk import free_bytes
from invad.files import atomic_path

__all__ = [
    "Remote",
    "RetryPolicy",
    "download",
    "download_all",
    "download_small",
    "file_sha256",
    "is_complete",
    "verify_local",
]

Item = TypeVar("Item")

LONGEST_GOODBYE = 2.0  # seconds that an error waits for the other threads; one of them may be waiting for a slow server


def download_all(
    remotes: Sequence[tuple[Remote, Path]],
    *,
    label: str,
    workers: int = 4,
    policy: RetryPolicy = DEFAULT_POLICY,
    hint: str = "",
) -> None:
    """Leave every file, verified, at its path, `workers` of them at a time; see `download`.

    One progress bar counts the bytes of all. After the first error the others stop; what they have is continued by the next call.

    Raises:
        InputError: Of the first file that fails.
    """
    if not remotes:
        return
    sizes = {path: remote.size for remote, path in remotes}
    there = {path: _bytes_there(path) for path in sizes}
    for folder in {path.parent for path in sizes}:
        folder.mkdir(parents=True, exist_ok=True)
        missing = sum((size or 0) - there[path] for path, size in sizes.items() if path.parent == folder)
        free_bytes(folder, missing, label)
    with tqdm(desc=label, unit="B", unit_scale=True, initial=sum(there.values())) as progress:
        lock = threading.Lock()

        def show(new_bytes: int = 0) -> None:
            with lock:
                known = [size for size in sizes.values() if size is not None]
                progress.total = sum(known) if len(known) == len(sizes) else None
                progress.update(new_bytes)

        def fetch(item: tuple[Remote, Path], context: Context) -> None:
            remote, path = item

            def learn(total: int) -> None:
                sizes[path] = total

            Download(remote, path, context, show, learn).run()
            sizes[path] = path.stat().st_size
            show()

        show()
        _in_threads(fetch, remotes, workers, policy, hint)


def download_small(
    urls: Sequence[tuple[str, Path]],
    *,
    label: str,
    workers: int = 16,
    policy: RetryPolicy = DEFAULT_POLICY,
    hint: str = "",
) -> int:
    """Fetch many small files, given as (address, path); those that are there are left. Return how many were fetched.

    Each is written whole or not at all, as long as the server announced. After the first error the others stop; a later call goes on.

    Raises:
        InputError: Of the first file that fails.
    """
    missing = {path: url for url, path in urls if not path.exists()}
    there = len({path for _, path in urls}) - len(missing)
    with tqdm(desc=label, unit="image", total=there + len(missing), initial=there, mininterval=1) as progress:
        lock = threading.Lock()

        def fetch(item: tuple[Path, str], context: Context) -> None:
            path, url = item
            insist(lambda: _fetch_small(path, url, context), lambda: 0, context, path.name, url)
            with lock:
                progress.update()

        _in_threads(fetch, missing.items(), workers, policy, hint)
    return len(missing)


def _fetch_small(path: Path, url: str, context: Context) -> None:
    with get(context, path.name, url, {}) as response:
        if not knows_its_end(response):
            raise context.error(path.name, url, "the server does not say how long the file is")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise context.error(path.name, url, "the server sends it encoded, the plain file was asked for")
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            for block in body(response, context.stop):  # raises when it is shorter than announced
                file.write(block)


def _bytes_there(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, partial_path(path)) if file.is_file())


def _in_threads(
    function: Callable[[Item, Context], None], items: Collection[Item], workers: int, policy: RetryPolicy, hint: str
) -> None:
    """Call `function(item, context)` for all items. The first error, or Ctrl-C, stops the other threads and is raised.

    The threads are daemons: one that waits for a slow server must not keep the process alive. When it wakes up it writes nothing.
    """
    todo, lock = iter(items), threading.Lock()
    ends: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
    stop = threading.Event()

    def work() -> None:
        try:
            with requests.Session() as session:
                context = Context(session, policy, hint, stop)
                while not stop.is_set():
                    with lock:
                        item = next(todo, None)
                    if item is None:
                        break
                    function(item, context)
            ends.put(None)
        except Exception as error:  # whatever it is, the caller raises it
            ends.put(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(workers, len(items)))]
    try:
        for thread in threads:
            thread.start()
        for _ in threads:
            error = ends.get()
            if error is not None and not isinstance(error, Stopped):
                raise error
    finally:
        stop.set()
        latest = time.monotonic() + LONGEST_GOODBYE
        while any(thread.is_alive() for thread in threads) and time.monotonic() < latest:
            time.sleep(0.01)
