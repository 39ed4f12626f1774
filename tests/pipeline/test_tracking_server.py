"""A tracking server that is there, that is down, and that is slow."""

import html
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mlflow.pyfunc
import pytest
from devtools import chromium_path
from mlflow import MlflowClient
from servers import free_port
from tracking_toys import BENCHMARK, Place, check_model, fetch, invad_pipe, trained

from invad import tracking
from invad.errors import InputError
from invad.tracking.show import register_model
from invad.tracking.store import _connection
from invad.workspace import Workspace


class Server:
    """A real `mlflow server` on 127.0.0.1, with SQLite behind it; its folder outlives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen | None = None

    def start(self) -> "Server":
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--workers",
            "1",
        ]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # eight processes more, which nothing here asks for
        with (self.folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
                return self
            except OSError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, 15)
            self._process.wait(20)


@pytest.fixture(scope="module")
def server(tmp_path_factory, empty_database) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    shutil.copyfile(empty_database, server.folder / "server.db")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    workspace = Workspace(tmp_path)
    workspace.model("mvtec").mkdir(parents=True)
    (workspace.model("mvtec") / "model.safetensors").write_bytes(b"weights")
    return workspace


@pytest.fixture
def slow_server() -> Iterator[str]:
    """The address of a server that takes ten seconds for every answer."""
    stop = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stop.wait(10)

        do_POST = do_GET  # noqa: N815  (the name that http.server looks for)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    stop.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path)


def another_process() -> None:
    """Forget that MLflow did not answer."""
    _connection.cache_clear()


def test_a_server_has_everything_when_the_stages_end(place, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    place.train()
    place.evaluate()
    run_id = place.check()
    assert place.sync() == [f"mvtec: run {run_id}, complete"]
    assert not (place.workspace.root / "mlflow.db").exists()
    assert "git clone REPOSITORY" in tracking.show_run("mvtec", place.workspace)
    assert any(run_id in line for line in tracking.list_runs(place.workspace))


def test_a_server_that_is_down_delays_nothing_and_loses_nothing(place, server, monkeypatch, caplog):
    down = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", down)
    caplog.set_level("WARNING", "invad.tracking.store")
    started = time.monotonic()
    place.train()
    place.evaluate()
    trial = tracking.start_run(place.benchmark, place.workspace, experiment="tune", name="a trial")
    trial.finish("FINISHED", tracking.Content(metrics={"validation/mad": 0.25}, curves={"train/loss": [(1, 0.5)]}))
    assert time.monotonic() - started < 5
    (warning,) = (record.getMessage() for record in caplog.records if record.name.endswith("store"))
    assert warning == (f"MLflow at {down}: connection refused; nothing is lost, `invad-pipe runs sync` logs it later")
    for command in (("runs", "show", "1"), ("runs", "list")):
        started = time.monotonic()
        assert f"error: MLflow at {down}: connection refused" in invad_pipe(place.workspace, *command, code=2)
        assert time.monotonic() - started < 20
    with pytest.raises(InputError, match=rf"MLflow at {down}: connection refused"):
        place.sync()
    another_process()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    lines = place.sync()
    run_id = place.check()
    trial_id = lines[1].split()[3].strip(",")
    assert lines == [
        f"mvtec invad mobilenetv2_100, 1 epoch, seed 42: run {run_id}, finished",
        f"a trial: run {trial_id}, finished",
        f"mvtec: run {run_id}, logged",
    ]
    found = MlflowClient(tracking_uri=server.uri).get_run(trial_id)
    assert found.data.metrics == {"validation/mad": 0.25, "train/loss": 0.5}
    assert place.sync() == [f"mvtec: run {run_id}, complete"]


def test_a_slow_server_delays_a_stage_by_seconds_only(place, slow_server, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", slow_server)
    started = time.monotonic()
    place.train()
    place.evaluate()
    assert time.monotonic() - started < 6
    assert f"MLflow at {slow_server}: timed out; nothing is lost" in caplog.text.replace("read timed out", "timed out")


def test_a_server_that_comes_back_gets_the_rest(place, server, monkeypatch):
    """It is stopped at the end of a training and started again for the next stage."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    run = tracking.start_run(place.benchmark, place.workspace)
    run.log()
    server.stop()
    tracking.log_training(run, place.benchmark, place.workspace, {})
    server.start()
    another_process()
    place.evaluate()
    assert place.check() == run.run_id
    MlflowClient(tracking_uri=server.uri).delete_run(run.run_id)
    another_process()
    place.sync()
    assert place.check() != run.run_id


def test_a_model_comes_back_from_the_server(workspace, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    benchmark, split = trained(workspace, "live")
    run = tracking.start_run(benchmark, workspace)
    run.log(tracking.Content(model=(workspace.model("mvtec"), benchmark)))
    (output,) = fetch(run, workspace).outputs.model_outputs
    check_model(mlflow.pyfunc.load_model(f"models:/{output.model_id}"), benchmark, split, workspace)
    monkeypatch.setattr("sys.path", list(sys.path))  # a registered model puts its copy of the package first
    version = register_model(run.run_id, workspace, name=f"registered {workspace.root.name}", alias="champion")
    assert version == f"models:/registered {workspace.root.name}/1"
    check_model(mlflow.pyfunc.load_model(f"{version[:-2]}@champion"), benchmark, split, workspace)
    assert register_model(run.run_id, workspace, name=f"registered {workspace.root.name}") == version


def test_a_password_is_neither_kept_nor_shown(place, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri.replace("//", "//user:secret@"))
    place.train()
    run_id = place.evaluate() or place.check()
    assert "secret@" not in "".join(path.read_text() for path in place.workspace.private.rglob("*.json*"))
    assert "secret@" not in tracking.show_run(run_id, place.workspace)


@pytest.mark.browser
def test_the_page_compares_the_runs_of_a_study(workspace, server, monkeypatch, tmp_path):
    chromium = chromium_path()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    study = tracking.start_run(BENCHMARK, workspace, experiment="ablation", name="style modulation")
    study.log()
    trials = []
    for name, value in (("with style", 0.875), ("without style", 0.625)):
        trial = tracking.start_run(
            BENCHMARK, workspace, experiment="ablation", name=name, parent=study, params={"variant": name.split()[0]}
        )
        trial.finish("FINISHED", tracking.Content(metrics={"paper/pixel_auroc": value}))
        trials.append(trial)
    study.finish("FINISHED")
    experiment = MlflowClient(tracking_uri=server.uri).get_experiment_by_name("ablation").experiment_id
    ids = ",".join(f'"{trial.run_id}"' for trial in trials)
    url = f'{server.uri}/#/compare-runs?runs=[{ids}]&experiments=["{experiment}"]'
    text = rendered(chromium, url.replace('"', "%22"), tmp_path)
    for expected in ("with style", "without style", "paper/pixel_auroc", "0.875", "0.625", "variant"):
        assert expected in text, text[:4000]
    assert re.search(r"\bwithout\b(?! style)", text)  # the param's other value


def rendered(chromium: str, url: str, folder: Path) -> str:
    """The text of a page, once its scripts have run."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--window-size=1400,1600"]
    flags += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=30000"]
    flags += [f"--screenshot={folder / 'page.png'}", "--dump-dom"]
    done = subprocess.run([chromium, *flags, url], capture_output=True, text=True, timeout=120, check=True)
    return html.unescape(re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<(script|style)\b.*?</\1>", "", done.stdout)))
