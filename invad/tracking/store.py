"""Which MLflow is used, and how it is spoken to: one that is down, slow or locked costs a process seconds and one warning."""

import fcntl
import logging
import os
import re
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow would report to its makers
# Nothing is sent twice by the client itself: a request that was answered late may have been carried out.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")  # seconds
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a bar for each file
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from invad.errors import InputError
from invad.files import atomic_path
from invad.workspace import Workspace

VARIABLE = "MLFLOW_TRACKING_URI"
_SERVER = re.compile(r"https?://([^/@\s]*@)?(\[[\w:.]+\]|[\w.-]+)(:\d+)?(/\S*)?")
_DATABASE = re.compile(r"sqlite:///([^?]+)")
_LOCKED_SECONDS = 3.0  # MLflow would wait longer for a database that another process writes to
Answer = TypeVar("Answer")

# It would tell hints for models of another kind, retries, the tables of a new database.
logging.getLogger("mlflow").setLevel(logging.ERROR)
logger = logging.getLogger(__name__)


def tracking_uri(workspace: Workspace) -> str:
    """Return MLFLOW_TRACKING_URI (`InputError` unless it names a server or an SQLite file), or the database of the workspace."""
    uri = os.environ.get(VARIABLE, "").strip() or f"sqlite:///{home(workspace) / 'mlflow.db'}"
    if match := _DATABASE.fullmatch(uri):
        return f"sqlite:///{Path(match[1]).absolute()}"
    if not _SERVER.fullmatch(uri):
        raise InputError(
            f"{VARIABLE}: {without_password(uri)!r} is neither a server such as http://127.0.0.1:5000 "
            "nor a database such as sqlite:///mlflow.db"
        )
    return uri


def home(workspace: Workspace) -> Path:
    """Return the checkout whose database is used: of a temporary copy that DVC makes for an experiment, the one that owns it."""
    root = workspace.root.absolute()
    owners = (folder.parents[2] for folder in root.parents if folder.parts[-3:] == (".dvc", "tmp", "exps"))
    return next(owners, root)


def without_password(uri: str) -> str:
    """Return `uri`, or a text with such in it, as it may be shown and kept: without user and password."""
    return re.sub(r"(?<=://)[^\s'\"]*@", "", uri)


def connect(uri: str, workspace: Workspace) -> MlflowClient:
    """Return a client. A database file is created whole, by one process at a time. Raises whatever MLflow and a database do."""
    if match := _DATABASE.fullmatch(uri):
        lock = home(workspace) / ".invad" / "mlflow.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # a process that dies lets go of it
            _prepare(Path(match[1]), _artifacts(workspace))
    return MlflowClient(tracking_uri=uri)


def _prepare(path: Path, artifacts: str) -> None:
    """Make the database unless it is there; refuse one that was moved or copied here, whose artifacts belong to another folder."""
    if not path.exists() or not path.stat().st_size:
        with atomic_path(path) as temporary:
            MlflowClient(tracking_uri=f"sqlite:///{temporary}").search_experiments(max_results=1)
    with closing(sqlite3.connect(path, timeout=_LOCKED_SECONDS)) as database:
        places = {place for (place,) in database.execute("SELECT artifact_location FROM experiments")}
    others = [place for place in places if place.endswith("/mlruns") and place != artifacts]
    if others and artifacts == f"{path.parent.as_uri()}/mlruns":
        raise RuntimeError(
            f"it was made in another folder, its files lie in {others[0]}; move it away, and a new one is made"
        )


def _artifacts(workspace: Workspace) -> str:
    return (home(workspace) / "mlruns").as_uri()


def experiment_id(client: MlflowClient, name: str, workspace: Workspace) -> str:
    """Return the id of experiment `name`, which is created when it is not there."""
    if (experiment := client.get_experiment_by_name(name)) is not None:
        return experiment.experiment_id
    # A server knows by itself where its artifacts go.
    artifacts = _artifacts(workspace) if _DATABASE.fullmatch(client.tracking_uri) else None
    try:
        return client.create_experiment(name, artifact_location=artifacts)
    except MlflowException:  # another process was faster
        if (experiment := client.get_experiment_by_name(name)) is None:
            raise
        return experiment.experiment_id


def existing_run(client: MlflowClient, run_id: str) -> Run | None:
    """Return the run of an id, None where MLflow has no such run."""
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


class Connection:
    """To one MLflow, of one process. After the first failure nothing more is asked: `invad-pipe runs sync` logs what is missing."""

    def __init__(self, uri: str, workspace: Workspace) -> None:
        self.uri, self.is_down, self._workspace = uri, False, workspace
        self._client: MlflowClient | None = None

    def tell(self, action: Callable[[MlflowClient], Answer]) -> Answer | None:
        """Do something with MLflow and return its answer, or None where that failed."""
        if self.is_down:
            return None
        try:
            self._client = self._client or connect(self.uri, self._workspace)
            return action(self._client)
        except InputError:  # no failure of MLflow's
            raise
        except Exception as error:  # requests, sqlalchemy, MLflow and the file system raise whatever they like
            self.is_down = True
            later = "nothing is lost, `invad-pipe runs sync` logs it later"
            logger.warning("MLflow at %s: %s; %s", without_password(self.uri), _reason(error), later)
            return None


@cache
def _connection(uri: str, workspace: Workspace) -> Connection:
    return Connection(uri, workspace)


def connection(workspace: Workspace) -> Connection:
    """Return this process's connection to the workspace's MLflow; `InputError` where that is malformed."""
    return _connection(tracking_uri(workspace), workspace)


@contextmanager
def answering(workspace: Workspace) -> Generator[MlflowClient]:
    """Give a client; whatever MLflow raises becomes an `InputError` that names it."""
    uri = tracking_uri(workspace)
    try:
        yield connect(uri, workspace)
    except InputError:
        raise
    except Exception as error:  # as for `tell`
        raise InputError(f"MLflow at {without_password(uri)}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Return what went wrong in a few words on one line."""
    text = without_password(" ".join(str(error).split()))
    match = re.search(r"(Connection refused|timed out|Name or service not known|No route to host)", text)
    return match[1].lower() if match else text[:300] or type(error).__name__
