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
from mlflow.exceptions import MlflowException
from mlflow.store import db_migrations

from invad.errors import InputError
from invad.files import atomic_path
from invad.workspace import Workspace

VARIABLE = "MLFLOW_TRACKING_URI"
SERVERS = ("http", "https")
DATABASES = {"sqlite": None, "postgresql": 5432, "mysql": 3306, "mssql": 1433}  # and where they listen
_PATIENCE = 3.0  # seconds, for a database
_EXPERIMENTS_OF_DVC = (".dvc", "tmp", "exps")  # the folder in which `dvc exp run --temp` and `--queue` work
# The columns of MLflow's database that hold places of artifacts.
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)

logging.getLogger("mlflow").setLevel(
    logging.ERROR
)  # hints for models of another kind, retries, the tables of a new database
logger = logging.getLogger(__name__)


def tracking_uri(workspace: Workspace) -> str:
    """Return MLFLOW_TRACKING_URI, or the SQLite database of the workspace; a relative database becomes absolute.

    Raises:
        InputError: The variable names neither a server nor a database.
    """
    uri = os.environ.get(VARIABLE, "").strip()
    if not uri:
        return _own_uri(workspace)
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


def kept_uri(workspace: Workspace) -> str:
    """Return the present MLflow as the records of runs have it: without a password, and empty for the workspace's own."""
    uri = tracking_uri(workspace)
    return "" if uri == _own_uri(workspace) else without_password(uri)


def _own_uri(workspace: Workspace) -> str:
    return f"sqlite:///{home(workspace) / 'mlflow.db'}"


def home(workspace: Workspace) -> Path:
    """Return the checkout whose database is used: of a temporary copy that DVC makes for an experiment, the one that owns it."""
    root = workspace.root.absolute()
    for folder in root.parents:
        if folder.parts[-3:] == _EXPERIMENTS_OF_DVC:
            return folder.parents[2]
    return root


def is_local(uri: str) -> bool:
    """Return whether `uri` is a database file, which answers at once."""
    return uri.startswith("sqlite")


def without_password(uri: str) -> str:
    """Return `uri`, or a text with such in it, as it may be shown and kept: without user, password and what follows a `?`."""
    return re.sub(r"(://[^\s?'\"]*)\?[^\s'\")]*", r"\1", re.sub(r"(?<=://)[^\s'\"]*@", "", uri))


def connect(uri: str, workspace: Workspace) -> MlflowClient:
    """Return a client. A database file is created beside its place, whole, by one process at a time.

    Raises whatever the database raises when it does not answer.
    """
    match = re.fullmatch(r"sqlite:////([^?]+)(\?.*)?", uri)
    scheme = urlsplit(uri).scheme.split("+")[0]
    if match is not None:
        with locked(home(workspace) / ".invad" / "mlflow.lock"):
            _prepare(Path(f"/{match[1]}"), home(workspace))
    elif scheme in DATABASES and not is_local(uri):  # one that is down would be asked ten times
        parts = urlsplit(uri)
        socket.create_connection((parts.hostname or "localhost", parts.port or DATABASES[scheme]), _PATIENCE).close()
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


def experiment_id(client: MlflowClient, name: str, uri: str, workspace: Workspace) -> str:
    """Return the id of experiment `name`, which is created when it is not there."""
    if (experiment := client.get_experiment_by_name(name)) is not None:
        return experiment.experiment_id
    # A server knows by itself where its artifacts go.
    artifacts = (home(workspace) / "mlruns").as_uri() if is_local(uri) else None
    try:
        return client.create_experiment(name, artifact_location=artifacts)
    except MlflowException:  # another process was faster
        if (experiment := client.get_experiment_by_name(name)) is None:
            raise
        return experiment.experiment_id


@contextmanager
def answering(uri: str) -> Generator[None]:
    """Turn every failure to reach MLflow into an `InputError` that names it and says what to do."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # requests, sqlalchemy and MLflow raise whatever they like
        problem, advice = why(error, uri)
        raise InputError(f"MLflow at {without_password(uri)}: no answer ({problem}); {advice}") from None


# What SQLite says of a file, and what helps.
_ADVICE = {
    "database is locked": "another process writes to it: wait for its end and try again",
    "readonly database": "make the file and its folder writable",
    "unable to open database file": "make the file and its folder readable and writable",
    "database or disk is full": "make room on the disk",
    **dict.fromkeys(
        ("file is not a database", "disk image is malformed", "no such table"),
        "put a backup in its place, or move it away and call `invad-pipe runs sync`",
    ),
}


def why(error: Exception, uri: str) -> tuple[str, str]:
    """Return what went wrong with the MLflow at `uri`, and what to do about it."""
    text = " ".join(str(error).split())
    if versions := re.search(r"found version (\w+), but expected (\w+)", text):
        found, own = versions.groups()
        problem = f"its tables are of version {found}, not {own}"
        if any(Path(db_migrations.__file__).parent.joinpath("versions").glob(f"{found}_*.py")):
            return problem, f"an older MLflow wrote it: copy it, then `mlflow db upgrade {without_password(uri)}`"
        return problem, f"a newer MLflow wrote it: install that one, or name another database in {VARIABLE}"
    if not is_local(uri):
        return reason(error), f"start the server, or set or unset {VARIABLE}"
    for problem, advice in _ADVICE.items():
        if problem in text:
            return problem, advice
    return reason(error), f"name another database in {VARIABLE}, or mend this one"


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
