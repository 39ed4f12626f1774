"""Where MLflow's database lies, what is said of one that cannot be used, and what becomes of it when folders move."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from servers import free_port
from tracking_toys import BENCHMARK, Place, client_of

from invad import tracking
from invad.errors import InputError
from invad.tracking.store import _connection, without_password
from invad.workspace import Workspace

pytestmark = pytest.mark.slow  # a database each


@pytest.fixture
def workspace(tmp_path, empty_database) -> Workspace:
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    return Workspace(tmp_path)


@pytest.fixture
def place(tmp_path, empty_database) -> Place:
    """A folder with a benchmark that was trained and evaluated there."""
    root = tmp_path / "first place"
    root.mkdir()
    shutil.copyfile(empty_database, root / "mlflow.db")
    place = Place(root)
    place.train()
    place.evaluate()
    return place


def runs_of(workspace: Workspace) -> list:
    client = client_of(workspace)
    return client.search_runs([item.experiment_id for item in client.search_experiments()])


def test_a_copied_folder_writes_nothing_into_the_first(place, tmp_path, caplog):
    before = {path: path.stat().st_mtime_ns for path in place.workspace.root.rglob("*")}
    run_id = place.check()
    place.workspace = Workspace(Path(shutil.copytree(place.workspace.root, tmp_path / "copy")))
    place.evaluate()
    assert "copy/mlflow.db: it was made in another folder, its files lie in file:///" in caplog.text
    with pytest.raises(InputError, match="move it away, and a new one is made"):
        tracking.list_runs(place.workspace)
    (place.workspace.root / "mlflow.db").rename(tmp_path / "old.db")
    _connection.cache_clear()
    place.sync()
    assert place.check() != run_id
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("kept", ["all but the database", "nothing of MLflow"])
def test_a_report_in_a_copied_folder_makes_no_run_without_metrics(place, tmp_path, kept, caplog, empty_database):
    place.workspace = Workspace(Path(shutil.copytree(place.workspace.root, tmp_path / "copy")))
    shutil.copyfile(empty_database, place.workspace.root / "mlflow.db")
    if kept == "nothing of MLflow":
        shutil.rmtree(place.workspace.root / "mlruns")
        shutil.rmtree(place.workspace.private)
    tracking.log_report(place.benchmark, place.workspace)
    if kept == "nothing of MLflow":
        assert runs_of(place.workspace) == []
        assert "mvtec: which run made its model is not known here; `invad-pipe runs sync` logs it" in caplog.text
        place.sync()
    assert place.check() == runs_of(place.workspace)[0].info.run_id
    assert len(runs_of(place.workspace)) == 1


def test_an_experiment_of_dvc_in_a_temporary_folder_is_kept_by_its_owner(workspace):
    temporary = Workspace(workspace.root / ".dvc/tmp/exps/standalone/tmpabc")
    temporary.root.mkdir(parents=True)
    run = tracking.start_run(BENCHMARK, temporary)
    run.log()
    shutil.rmtree(temporary.root)
    assert [item.info.run_id for item in runs_of(workspace)] == [run.run_id]
    client = client_of(workspace)
    assert "config.json" in {item.path for item in client.list_artifacts(run.run_id)}
    assert tracking.tracking_uri(temporary) == tracking.tracking_uri(workspace)


def test_a_new_database_appears_whole(tmp_path, monkeypatch):
    seen = []

    def creating(client, **_):
        seen.extend(path.name for path in tmp_path.iterdir() if "mlflow.db" in path.name)
        raise KeyboardInterrupt

    monkeypatch.setattr("mlflow.MlflowClient.search_experiments", creating)
    with pytest.raises(KeyboardInterrupt):
        tracking.start_run(BENCHMARK, Workspace(tmp_path)).log()
    assert seen == [f".mlflow.db.{os.getpid()}.tmp"]
    assert not (tmp_path / "mlflow.db").exists()


def killed_while_creating(root: Path, seconds: float) -> None:
    script = (
        "from invad.tracking import list_runs; from invad.workspace import Workspace; print(list_runs(Workspace()))"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=root, stderr=subprocess.PIPE, text=True)
    for _ in range(6000):
        if list(root.glob(".mlflow.db.*")):
            break
        time.sleep(0.01)
    time.sleep(seconds)
    process.kill()
    process.wait()


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.4])
def test_a_kill_while_the_database_is_created_leaves_one_that_works(tmp_path, seconds):
    killed_while_creating(tmp_path, seconds)
    tracking.start_run(BENCHMARK, Workspace(tmp_path), experiment="tune").finish("FINISHED")
    assert [run.info.status for run in runs_of(Workspace(tmp_path))] == ["FINISHED"]


@contextmanager
def locked(workspace: Workspace) -> Iterator[None]:
    with closing(sqlite3.connect(workspace.root / "mlflow.db")) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield


def test_a_locked_database_delays_a_stage_by_seconds_and_loses_nothing(place, caplog):
    with locked(place.workspace):
        _connection.cache_clear()
        started = time.monotonic()
        run = place.train()
        place.evaluate()
        assert time.monotonic() - started < 12
    assert run.run_id is None
    assert "mlflow.db: database is locked; nothing is lost" in caplog.text
    with pytest.raises(InputError, match=r"mlflow\.db: database is locked$"), locked(place.workspace):
        tracking.list_runs(place.workspace)
    _connection.cache_clear()
    place.sync()
    assert place.check() in {run.info.run_id for run in runs_of(place.workspace)}


@pytest.mark.parametrize("reason", ["dubious ownership in repository", "git is not installed"])
def test_where_git_does_not_say_nothing_is_claimed(workspace, monkeypatch, reason):
    subprocess.run(["git", "init", "-q"], cwd=workspace.root, check=True)
    if reason == "git is not installed":
        monkeypatch.setenv("PATH", str(workspace.root))
    else:
        monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    run = tracking.start_run(BENCHMARK, workspace)
    run.log()
    tags = client_of(workspace).get_run(run.run_id).data.tags
    assert not {"git.commit", "git.dirty", "git.remote"} & tags.keys()
    assert "git checkout COMMIT" in tracking.show_run(run.run_id, workspace)


def test_keys_of_dvcs_remotes_stay_out_of_the_kept_changes(workspace):
    (workspace.root / ".dvc").mkdir()
    (workspace.root / ".dvc/config").write_text("[core]\n")
    (workspace.root / "code.py").write_text("a = 1\n")
    for arguments in (["init", "-q"], ["add", ".dvc/config", "code.py"], ["commit", "-qm", "x"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=b", *arguments], cwd=workspace.root, check=True)
    (workspace.root / ".dvc/config").write_text("secret_access_key = hidden\n")
    (workspace.root / "code.py").write_text("a = 2\n")
    run = tracking.start_run(BENCHMARK, workspace)
    run.log()
    patch = Path(client_of(workspace).download_artifacts(run.run_id, "code.patch")).read_text()
    assert "+a = 2" in patch
    assert "hidden" not in patch


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://user:pa@ss/wo@host:5000/db", "http://host:5000/db"),
        ("no answer from http://u:p@host/x (timeout)", "no answer from http://host/x (timeout)"),
        ("sqlite:////home/x/mlflow.db", "sqlite:////home/x/mlflow.db"),
    ],
)
def test_addresses_are_shown_without_secrets(uri, shown):
    assert without_password(uri) == shown


def test_names_and_columns_say_what_differs(workspace):
    run = tracking.start_run(BENCHMARK, workspace)
    run.log()
    trial = tracking.start_run(BENCHMARK, workspace, experiment="tune", name="a trial")
    trial.finish("FINISHED")
    head, *rows = (line.split() for line in tracking.list_runs(workspace))
    assert head[:7] == ["id", "name", "model", "encoder", "px", "epochs", "seed"]
    by_id = {row[0]: row for row in rows}
    assert by_id[run.run_id][1:8] == ["mvtec", "invad", "mobilenetv2_100,", "3", "epochs,", "seed", "42"]
    for row in by_id.values():
        assert " invad mobilenetv2_100 256 3 42 " in " ".join(row)


def descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(other for child in children for other in descendants(child))]


def wait_for(port: int, process: subprocess.Popen) -> None:
    for _ in range(900):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
            return
        except OSError:
            assert process.poll() is None
            time.sleep(0.1)
    raise AssertionError("no answer")


def test_the_page_ends_with_its_command_and_leads_to_the_runs(workspace):
    port = free_port()
    command = [sys.executable, "-m", "invad", "ui", "--port", str(port)]
    process = subprocess.Popen(command, cwd=workspace.root, stderr=subprocess.PIPE, text=True)
    line = process.stderr.readline()
    experiment = client_of(workspace).get_experiment_by_name("benchmark").experiment_id
    page = f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs?workflowType=machine_learning"
    assert page in line
    wait_for(port, process)
    children = descendants(process.pid)
    assert 1 <= len(children) <= 3
    process.send_signal(signal.SIGTERM)
    process.stderr.read()
    assert process.wait(20) == 0
    for _ in range(100):
        if not any(Path(f"/proc/{child}").exists() for child in children):
            break
        time.sleep(0.1)
    assert not any(Path(f"/proc/{child}").exists() for child in children)
