"""Who sends while a process works: a thread for a server, so that nobody waits for it; the caller itself for a database file."""

import atexit
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from mlflow import MlflowClient

from invad.tracking.outbox import Journal
from invad.tracking.send import send_journal
from invad.tracking.store import connect, is_local, reason, without_password
from invad.workspace import Workspace

PATIENCE = 3.0  # seconds that a process waits for a server, all in all
KEPT = "what could not be sent is kept in .invad/mlflow; `invad-pipe runs sync` sends it"

Answer = TypeVar("Answer")
logger = logging.getLogger(__name__)


class Sender:
    """Sends the journals of one process to one MLflow, in the order in which they are submitted.

    After the first failure it sends nothing more: one warning, and no waiting for what is down.
    """

    def __init__(self, uri: str, workspace: Workspace) -> None:
        self._uri = uri
        self._workspace = workspace
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._waiting: set[str] = set()  # runs that are in the queue already
        self._client: MlflowClient | None = None
        self._thread: threading.Thread | None = None
        self._failed = False
        self._patience = PATIENCE

    def submit(self, journal: Journal) -> None:
        """Send what is new in `journal`: now to a database, soon to a server."""
        if self._failed or journal.id in self._waiting:
            return
        self._waiting.add(journal.id)

        def job() -> None:
            self._waiting.discard(journal.id)  # before: what is added meanwhile is a job of its own
            if self._failed:
                return
            refused = send_journal(journal, self._connected(), self._workspace)
            if refused:
                names = ", ".join(sorted({entry["op"] for entry in refused}))
                logger.warning("MLflow refuses a part of run %s (%s), kept in %s", journal.id, names, journal.folder)

        self._do(job)

    def ask(self, question: Callable[[MlflowClient], Answer], otherwise: Answer) -> Answer:
        """Return MLflow's answer, or `otherwise` where it does not come in time."""
        answers: list[Answer] = []
        done = threading.Event()

        def job() -> None:
            try:
                if not self._failed:
                    answers.append(question(self._connected()))
            finally:
                done.set()

        if not self._failed:
            self._do(job)
            self._wait_for(done)
        return answers[0] if answers else otherwise

    def wait(self) -> None:
        """Wait until all is sent, as long as the process's patience lasts."""
        if self._thread is None or self._failed:
            return
        done = threading.Event()
        self._jobs.put(done.set)
        if not self._wait_for(done) and not self._failed:
            self._fail(f"not done within {PATIENCE:g} s")

    def _connected(self) -> MlflowClient:
        if self._client is None:
            self._client = connect(self._uri, self._workspace)
        return self._client

    def _do(self, job: Callable[[], None]) -> None:
        if is_local(self._uri):
            self._attempt(job)
            return
        self._jobs.put(job)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="invad-mlflow", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            self._attempt(self._jobs.get())

    def _attempt(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception as error:  # requests, sqlalchemy and MLflow raise whatever they like
            self._fail(reason(error))

    def _fail(self, why: str) -> None:
        if not self._failed:
            self._failed = True
            logger.warning("MLflow at %s: %s; %s", without_password(self._uri), why, KEPT)

    def _wait_for(self, done: threading.Event) -> bool:
        started = time.monotonic()
        arrived = done.wait(max(self._patience, 0.0))
        if not is_local(self._uri):
            self._patience -= time.monotonic() - started
        return arrived


_senders: dict[tuple[int, str, str], Sender] = {}


def sender_for(uri: str, workspace: Workspace) -> Sender:
    """Return this process's sender to the MLflow at `uri`."""
    key = (os.getpid(), uri, str(workspace.root.absolute()))
    if key not in _senders:
        _senders[key] = Sender(uri, workspace)
        atexit.register(_senders[key].wait)
    return _senders[key]
