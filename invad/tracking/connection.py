"""What a process says to MLflow while it works: an MLflow that is down or slow costs it seconds and one warning."""

import logging
import time
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from invad.errors import InputError
from invad.tracking.store import answering, connect, is_local, reason, why, without_password
from invad.workspace import Workspace

PATIENCE = (
    10.0  # seconds that a process waits for the answers of a server, and besides a tenth of the time that it runs
)
_REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")  # what the same request will always get

Answer = TypeVar("Answer")
logger = logging.getLogger(__name__)


class Connection:
    """To one MLflow, of one process. After the first failure nothing more is asked: `invad-pipe runs sync` logs what is missing."""

    def __init__(self, uri: str, workspace: Workspace) -> None:
        self.uri = uri
        self._workspace = workspace
        self._client: MlflowClient | None = None
        self._began, self._waited = time.monotonic(), 0.0
        self.is_down = False

    def ask(self, question: Callable[[MlflowClient], Answer]) -> Answer:
        """Return MLflow's answer; `InputError` when there is none."""
        with answering(self.uri):
            return question(self._connected())

    def tell(self, action: Callable[[MlflowClient], Answer], *, upload: bool = False) -> Answer | None:
        """Do something with MLflow and return its answer, or None where that failed.

        upload: It may take as long as it takes, once the server answers.
        """
        if self.is_down:
            return None
        started = time.monotonic()
        try:
            answer = action(self._connected())
        except InputError:  # no failure of MLflow's
            raise
        except Exception as error:  # requests, sqlalchemy, MLflow and the file system raise whatever they like
            if isinstance(error, MlflowException) and error.error_code in _REFUSED:
                logger.warning("MLflow refuses a part of a run: %s", reason(error))
            else:
                self._give_up(*why(error, self.uri))
            return None
        if not (upload or is_local(self.uri)):
            self._waited += time.monotonic() - started
            if self._waited > PATIENCE + (time.monotonic() - self._began) / 10:
                self._give_up(f"its answers took {self._waited:.0f} s")
        return answer

    def _connected(self) -> MlflowClient:
        if self._client is None:
            self._client = connect(self.uri, self._workspace)
        return self._client

    def _give_up(self, problem: str, advice: str = "") -> None:
        self.is_down = True
        advice = f"{advice}; " if advice and is_local(self.uri) else ""
        shown = without_password(self.uri)
        logger.warning(
            "MLflow at %s: %s; %snothing is lost, `invad-pipe runs sync` logs it later", shown, problem, advice
        )


@cache
def connection(uri: str, workspace: Workspace) -> Connection:
    """Return this process's connection to the MLflow at `uri`."""
    return Connection(uri, workspace)
