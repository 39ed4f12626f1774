"""Which MLflow is used, and how it is spoken to: no request hangs for long, and no other module knows an address."""

import fcntl
import logging
import os
import re
import socket
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow would report to its makers
# Nothing is sent twice by the client itself: a request that was answered late may have been carried out.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")  # seconds
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a bar for each file
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store import db_migrations

from invad.errors import InputError
from invad.files import atomic_path
from invad.workspace import Workspace

VARIABLE = "MLFLOW_TRACKING_URI"
_DATABASES = {"sqlite": None, "postgresql": 5432, "mysql": 3306, "mssql": 1433}  # and where they listen
_PATIENCE = 3.0  # seconds, for a database
# The columns of MLflow's database that hold places of artifacts.
_PLACES = (
    ("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location"),
    ("model_versions", "source"), ("model_versions", "storage_location"),
)  # fmt: skip

# It would tell hints for models of another kind, retries, the tables of a new database.
logging.getLogger("mlflow").setLevel(logging.ERROR)
logger = logging.getLogger(__name__)


def tracking_uri(workspace: Workspace) -> str:
    """Return MLFLOW_TRACKING_URI (`InputError` unless it names a server or a database, absolute), or the database of the workspace."""
    uri = os.environ.get(VARIABLE, "").strip()
    if not uri:
        return f"sqlite:///{home(workspace) / 'mlflow.db'}"
    try:
        parts = urlsplit(uri)
        known = parts.scheme.split("+")[0] in _DATABASES or (parts.scheme in ("http", "https") and bool(parts.hostname))
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


def home(workspace: Workspace) -> Path:
    """Return the checkout whose database is used: of a temporary copy that DVC makes for an experiment, the one that owns it."""
    root = workspace.root.absolute()
    for folder in root.parents:
        if folder.parts[-3:] == (".dvc", "tmp", "exps"):
            return folder.parents[2]
    return root


def is_local(uri: str) -> bool:
    """Return whether `uri` is a database file, which answers at once."""
    return uri.startswith("sqlite")


def without_password(uri: str) -> str:
    """Return `uri`, or a text with such in it, as it may be shown and kept: without user, password and what follows a `?`."""
    return re.sub(r"(://[^\s?'\"]*)\?[^\s'\")]*", r"\1", re.sub(r"(?<=://)[^\s'\"]*@", "", uri))


def connect(uri: str, workspace: Workspace) -> MlflowClient:
    """Return a client. A database file is created beside its place, whole, by one process at a time. Raises whatever a database does."""
    match = re.fullmatch(r"sqlite:////([^?]+)(\?.*)?", uri)
    parts = urlsplit(uri)
    scheme = parts.scheme.split("+")[0]
    if match is not None:
        lock = home(workspace) / ".invad" / "mlflow.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # a process that dies lets go of it
            _prepare(Path(f"/{match[1]}"), home(workspace))
    elif scheme in _DATABASES and not is_local(uri):  # one that is down would be asked ten times
        socket.create_connection((parts.hostname or "localhost", parts.port or _DATABASES[scheme]), _PATIENCE).close()
    return MlflowClient(tracking_uri=uri)


def _prepare(path: Path, home: Path) -> None:
    """Make the database unless it is there; lead one that was moved or copied with its checkout to the artifacts beside it."""
    if not path.exists() or not path.stat().st_size:
        with atomic_path(path) as temporary:
            MlflowClient(tracking_uri=f"sqlite:///{temporary}").search_experiments(max_results=1)
        return
    with closing(sqlite3.connect(path, timeout=_PATIENCE)) as database:
        places = {place for (place,) in database.execute("SELECT artifact_location FROM experiments")}
        beside = home / "mlruns"
        for old in places - {beside.as_uri()} if path == home / "mlflow.db" else ():
            was = Path(unquote(urlsplit(old).path))
            is_left = was.name == beside.name and (beside.is_dir() or not was.is_dir())
            if is_left and _move(database, old, beside.as_uri()):
                logger.warning("this folder was moved or copied: MLflow's artifacts are now looked for in %s", beside)


def _move(database: sqlite3.Connection, old: str, new: str) -> bool:
    """Lead all places below `old` to `new`; return whether that was done, which it is not in a database of an older MLflow."""
    try:
        with database:  # all or nothing
            for table, column in _PLACES:
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                )
    except sqlite3.OperationalError as error:
        if "no such" not in str(error):
            raise
        return False  # MLflow says what to do
    return True


def experiment_id(client: MlflowClient, name: str, workspace: Workspace) -> str:
    """Return the id of experiment `name`, which is created when it is not there."""
    if (experiment := client.get_experiment_by_name(name)) is not None:
        return experiment.experiment_id
    # A server knows by itself where its artifacts go.
    artifacts = (home(workspace) / "mlruns").as_uri() if is_local(client.tracking_uri) else None
    try:
        return client.create_experiment(name, artifact_location=artifacts)
    except MlflowException:  # another process was faster
        if (experiment := client.get_experiment_by_name(name)) is None:
            raise
        return experiment.experiment_id


@contextmanager
def answering(workspace: Workspace) -> Generator[MlflowClient]:
    """Give a client; turn every failure to reach MLflow into an `InputError` that names it and says what to do."""
    uri = tracking_uri(workspace)
    try:
        yield connect(uri, workspace)
    except InputError:
        raise
    except Exception as error:  # requests, sqlalchemy and MLflow raise whatever they like
        problem, advice = why(error, uri)
        raise InputError(f"MLflow at {without_password(uri)}: no answer ({problem}); {advice}") from None


def existing_run(client: MlflowClient, run_id: str) -> Run | None:
    """Return the run of an id, None where MLflow has no such run."""
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


_BACKUP = "put a backup in its place, or move it away and call `invad-pipe runs sync`"
# What is said of a database, and what helps.
_ADVICE = {
    "database is locked": "another process writes to it: wait for its end and try again",
    "readonly database": "make the file and its folder writable",
    "unable to open database file": "make the file and its folder readable and writable",
    "database or disk is full": "make room on the disk",
    "file is not a database": _BACKUP,
    "disk image is malformed": _BACKUP,
    "no such table": _BACKUP,
}


def why(error: Exception, uri: str) -> tuple[str, str]:
    """Return what went wrong with the MLflow at `uri`, and what to do about it."""
    text = " ".join(str(error).split())
    if versions := re.search(r"found version (\w+), but expected (\w+)", text):
        advice = f"a newer MLflow wrote it: install that one, or name another database in {VARIABLE}"
        if any(Path(db_migrations.__file__).parent.joinpath("versions").glob(f"{versions[1]}_*.py")):
            advice = f"an older MLflow wrote it: copy it, then `mlflow db upgrade {without_password(uri)}`"
        return f"its tables are of version {versions[1]}, not {versions[2]}", advice
    if not is_local(uri):
        return reason(error), f"start the server, or set or unset {VARIABLE}"
    other = (reason(error), f"name another database in {VARIABLE}, or mend this one")
    return next((row for row in _ADVICE.items() if row[0] in text), other)


def reason(error: Exception) -> str:
    """Return what went wrong in a few words on one line."""
    text = without_password(" ".join(str(error).split()))
    if match := re.search(r"(Connection refused|timed out|Name or service not known|No route to host)", text):
        return match[1].lower()
    return text[:200] or type(error).__name__
