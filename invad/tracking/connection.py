"""What a process says to MLflow while it works: an MLflow that is down or slow costs it seconds and one warning."""

import logging
import time
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from invad.errors import InputError
from invad.tracking.store import connect, is_local, reason, tracking_uri, why, without_password
from invad.workspace import Workspace

PATIENCE = 10.0  # seconds that a process waits for answers of a server, and besides a tenth of the time that it runs
_REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")  # what the same request will always get
Answer = TypeVar("Answer")
logger = logging.getLogger(__name__)


class Connection:
    """To one MLflow, of one process. After the first failure nothing more is asked: `invad-pipe runs sync` logs what is missing."""

    def __init__(self, uri: str, workspace: Workspace) -> None:
        self.uri, self.is_down = uri, False
        self._workspace = workspace
        self._client: MlflowClient | None = None
        self._began, self._waited = time.monotonic(), 0.0

    def tell(self, action: Callable[[MlflowClient], Answer], *, upload: bool = False) -> Answer | None:
        """Do something with MLflow and return its answer, or None where that failed.

        upload: It may take as long as it takes, once the server answers.
        """
        if self.is_down:
            return None
        started = time.monotonic()
        try:
            self._client = self._client or connect(self.uri, self._workspace)
            answer = action(self._client)
        except InputError:  # no failure of MLflow's
            raise
        except Exception as error:  # requests, sqlalchemy, MLflow and the file system raise whatever they like
            if isinstance(error, MlflowException) and error.error_code in _REFUSED:
                logger.warning("MLflow refuses a part of a run: %s", reason(error))
            else:
                problem, advice = why(error, self.uri)
                self._give_up(f"{problem}; {advice}" if is_local(self.uri) else problem)
            return None
        if not (upload or is_local(self.uri)):
            self._waited += time.monotonic() - started
            if self._waited > PATIENCE + (time.monotonic() - self._began) / 10:
                self._give_up(f"its answers took {self._waited:.0f} s")
        return answer

    def _give_up(self, problem: str) -> None:
        self.is_down = True
        later = "nothing is lost, `invad-pipe runs sync` logs it later"
        logger.warning("MLflow at %s: %s; %s", without_password(self.uri), problem, later)


@cache
def _connection(uri: str, workspace: Workspace) -> Connection:
    return Connection(uri, workspace)


def connection(workspace: Workspace) -> Connection:
    """Return this process's connection to the workspace's MLflow; `InputError` where that is malformed."""
    return _connection(tracking_uri(workspace), workspace)
