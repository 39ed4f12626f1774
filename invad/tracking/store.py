"""Which MLflow is used, and how it is spoken to: no request hangs for long, and no other module knows an address."""

import fcntl
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow would report to its makers
# Nothing is sent twice by the client itself: a request that was answered late may have been carried out.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "8")  # seconds
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a bar for each file

import logging

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from invad.errors import InputError
from invad.workspace import Workspace

VARIABLE = "MLFLOW_TRACKING_URI"
SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")

logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # the tables of a new database, one by one


def tracking_uri(workspace: Workspace) -> str:
    """Return MLFLOW_TRACKING_URI, or the SQLite database of the workspace; a relative database becomes absolute.

    Raises:
        InputError: The variable names neither a server nor a database.
    """
    uri = os.environ.get(VARIABLE, "").strip()
    if not uri:
        return f"sqlite:///{workspace.root.absolute() / 'mlflow.db'}"
    try:
        parts = urlsplit(uri)
        known = parts.scheme.split("+")[0] in DATABASES or (parts.scheme in SERVERS and bool(parts.hostname))
        _ = parts.port  # a ValueError unless it is a number
    except ValueError:
        known = False
    if not known or "://" not in uri:
        raise InputError(
            f"{VARIABLE}: {without_password(uri)!r} is neither a server such as http://127.0.0.1:5000 "
            "nor a database such as sqlite:///mlflow.db"
        )
    if match := re.fullmatch(r"sqlite:///([^/?:][^?]*)", uri):
        return f"sqlite:///{Path(match[1]).absolute()}"
    return uri


def is_local(uri: str) -> bool:
    """Return whether `uri` is a database file, which answers at once."""
    return uri.startswith("sqlite")


def without_password(uri: str) -> str:
    """Return `uri` as it may be shown and kept: without what stands before the @ of its host."""
    return re.sub(r"(?<=://)[^/@]*@", "", uri)


def with_password(kept: str, workspace: Workspace) -> str:
    """Return the address that was kept by `without_password`, with the user and password that the environment has for it."""
    uri = tracking_uri(workspace)
    return uri if without_password(uri) == kept else kept


def connect(uri: str, workspace: Workspace) -> MlflowClient:
    """Return a client. A database is created by one process at a time: MLflow's migrations do not bear company."""
    if not is_local(uri):
        return MlflowClient(tracking_uri=uri)
    with locked(workspace.private / "mlflow" / "database.lock"):
        return MlflowClient(tracking_uri=uri)


def experiment_id(client: MlflowClient, name: str, uri: str, workspace: Workspace) -> str:
    """Return the id of experiment `name`, which is created when it is not there."""
    if (experiment := client.get_experiment_by_name(name)) is not None:
        return experiment.experiment_id
    # A server knows by itself where its artifacts go.
    artifacts = (workspace.root.absolute() / "mlruns").as_uri() if is_local(uri) else None
    try:
        return client.create_experiment(name, artifact_location=artifacts)
    except MlflowException:  # another process was faster
        if (experiment := client.get_experiment_by_name(name)) is None:
            raise
        return experiment.experiment_id


@contextmanager
def answering(uri: str) -> Generator[None]:
    """Turn every failure to reach MLflow into an `InputError` that names it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # requests, sqlalchemy and MLflow raise whatever they like
        hint = "mend or remove the file" if is_local(uri) else f"start the server, or set or unset {VARIABLE}"
        raise InputError(f"MLflow at {without_password(uri)}: no answer ({reason(error)}); {hint}") from None


def reason(error: Exception) -> str:
    """Return what went wrong in a few words on one line."""
    text = without_password(" ".join(str(error).split()))
    if match := re.search(r"(Connection refused|timed out|Name or service not known|No route to host)", text):
        return match[1].lower()
    return text[:200] or type(error).__name__


def is_gone(error: Exception) -> bool:
    """Return whether MLflow says that it has no such thing."""
    return isinstance(error, MlflowException) and error.error_code == "RESOURCE_DOES_NOT_EXIST"


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold the lock file `path` against all other processes and threads; a process that dies lets go of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
