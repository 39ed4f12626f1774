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
from dataclasses import replace
from pathlib import Path

import mlflow.pyfunc
import pytest
from devtools import chromium_path
from mlflow import MlflowClient
from servers import free_port
from tracking_toys import BENCHMARK, check_model, fetch, invad_pipe, outbox, trained

from invad import tracking
from invad.errors import InputError
from invad.tracking.register import register_model
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


def whole_run(workspace: Workspace, name: str) -> tracking.Run:
    """What the stages train and evaluate log."""
    run = tracking.start_run(BENCHMARK, workspace, name=name)
    run.log_curve("train/loss", [(1, 0.5), (2, 0.25)])
    (workspace.root / "figure.txt").write_text(name)
    run.log_file(workspace.root / "figure.txt", "figures")
    tracking.remember_run(run, BENCHMARK, workspace)
    run.finish()
    run = tracking.continue_run(BENCHMARK, workspace)
    run.log_table({"class": ["bottle"]}, "per_class")
    run.log_metrics({"paper/mad": 0.5})
    run.finish()
    return run


def check_whole(run: tracking.Run, workspace: Workspace) -> None:
    client = MlflowClient(tracking_uri=tracking.tracking_uri(workspace))
    found = fetch(run, workspace)
    assert found.info.status == "FINISHED"
    assert found.data.metrics == {"paper/mad": 0.5, "train/loss": 0.25}
    assert [point.step for point in client.get_metric_history(run.mlflow_id, "train/loss")] == [1, 2]
    assert len(client.get_metric_history(run.mlflow_id, "paper/mad")) == 1
    names = {item.path for item in client.list_artifacts(run.mlflow_id)}
    assert names >= {"config.json", "packages.txt", "figures", "per_class.json"}
    same = client.search_runs([found.info.experiment_id], f"tags.`invad.run` = '{run.run_id}'")
    assert [item.info.run_id for item in same] == [run.mlflow_id]


def test_a_server_has_everything_when_the_stages_end(workspace, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    run = whole_run(workspace, "direct")
    tracking.sync(workspace)  # on a busy machine the server may not have been quick enough
    check_whole(run, workspace)
    assert tracking.pending(workspace) == 0
    assert not (outbox(run, workspace) / "journal.jsonl").exists()
    assert not (workspace.root / "mlflow.db").exists()
    assert run.has_metrics()
    assert run.has_files("figures")
    assert not run.has_files("other")
    assert "git clone REPOSITORY" in tracking.show_run(run.run_id, workspace)
    assert any(run.mlflow_id in line for line in tracking.list_runs(workspace, "benchmark"))


def test_a_server_that_is_down_delays_nothing_and_loses_nothing(workspace, server, monkeypatch, caplog):
    down = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", down)
    with pytest.raises(InputError, match=rf"MLflow at {down}: no answer"):
        tracking.sync(workspace)  # says so even when there is nothing to send
    started = time.monotonic()
    run = whole_run(workspace, "down")
    assert time.monotonic() - started < 5
    (warning,) = (record.getMessage() for record in caplog.records if record.name.startswith("invad"))
    assert warning == (
        f"MLflow at {down}: connection refused; what could not be sent is kept in .invad/mlflow; `invad-pipe runs sync` sends it"
    )
    for command in (("runs", "show", "1"), ("runs", "list")):
        started = time.monotonic()
        assert f"error: MLflow at {down}: no answer (connection refused)" in invad_pipe(workspace, *command, code=2)
        assert time.monotonic() - started < 20
    with pytest.raises(InputError, match=rf"MLflow at {down}: no answer .* \(1 run kept\)"):
        tracking.sync(workspace)
    assert tracking.pending(workspace) == 1
    # The server comes up, at that address: for the outbox it is the same one.
    state = outbox(run, workspace) / "state.json"
    state.write_text(state.read_text().replace(down, server.uri))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    (line,) = tracking.sync(workspace)
    assert line == f"down: run {run.mlflow_id} sent to experiment benchmark"
    assert tracking.sync(workspace) == []
    check_whole(run, workspace)


def test_a_slow_server_delays_a_stage_by_seconds_only(workspace, slow_server, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", slow_server)
    started = time.monotonic()
    whole_run(workspace, "slow")
    assert time.monotonic() - started < 6
    assert "not done within 3 s" in caplog.text
    assert tracking.pending(workspace) == 1


def test_a_stage_of_its_own_process_ends_soon_with_a_slow_server(workspace, slow_server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", slow_server)
    script = "import time, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); from invad.workspace import Workspace;"
    script += "from test_tracking_server import whole_run; started = time.monotonic(); import atexit;"
    script += "atexit.register(lambda: print(time.monotonic() - started)); whole_run(Workspace(), 'slow')"
    command = [sys.executable, "-c", script, str(Path(__file__).parent)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=workspace.root, env=environment, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 6


def test_a_server_that_comes_back_gets_the_rest_in_order(workspace, server, monkeypatch):
    """It is stopped in the middle of a run and started again for the next stage."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    run = tracking.start_run(BENCHMARK, workspace)
    run.log_curve("train/loss", [(1, 0.5)])
    tracking.sync(workspace)
    server.stop()
    run.log_curve("train/loss", [(2, 0.25)])
    tracking.remember_run(run, BENCHMARK, workspace)
    run.finish()
    assert tracking.pending(workspace) == 1
    server.start()
    monkeypatch.setattr("invad.tracking.sender._senders", {})  # as in another process
    run = tracking.continue_run(BENCHMARK, workspace)
    run.log_metrics({"paper/mad": 0.5})
    run.finish()
    tracking.sync(workspace)
    history = MlflowClient(tracking_uri=server.uri).get_metric_history(run.mlflow_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.25)]
    assert fetch(run, workspace).data.metrics["paper/mad"] == 0.5
    MlflowClient(tracking_uri=server.uri).delete_run(run.mlflow_id)
    monkeypatch.setattr("invad.tracking.sender._senders", {})
    assert tracking.continue_run(BENCHMARK, workspace).run_id != run.run_id


def test_a_model_comes_back_from_the_server(workspace, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    benchmark, split = trained(workspace, "live")
    run = tracking.start_run(benchmark, workspace)
    run.log_model(workspace.model("mvtec"), benchmark)
    run.finish()
    tracking.sync(workspace)
    (output,) = fetch(run, workspace).outputs.model_outputs
    check_model(mlflow.pyfunc.load_model(f"models:/{output.model_id}"), benchmark, split, workspace)
    assert not any((outbox(run, workspace) / "files").iterdir())
    monkeypatch.setattr("sys.path", list(sys.path))  # a registered model puts its copy of the package first
    version = register_model(run.run_id, workspace, name=f"registered {workspace.root.name}", alias="champion")
    assert (version.number, version.is_new) == (1, True)
    check_model(mlflow.pyfunc.load_model(f"models:/{version.name}@champion"), benchmark, split, workspace)
    assert register_model(run.run_id, workspace, name=version.name) == replace(version, is_new=False)


def test_a_password_is_neither_kept_nor_shown(workspace, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri.replace("//", "//user:secret@"))
    run = whole_run(workspace, "secret")
    tracking.sync(workspace)
    assert fetch(run, workspace).info.status == "FINISHED"
    assert "secret@" not in "".join(path.read_text() for path in workspace.private.rglob("*.json*"))
    assert "secret@" not in tracking.show_run(run.run_id, workspace)


@pytest.mark.browser
def test_the_page_compares_the_runs_of_a_study(workspace, server, monkeypatch, tmp_path):
    chromium = chromium_path()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    study = tracking.start_run(BENCHMARK, workspace, experiment="ablation", name="style modulation")
    trials = []
    for name, value in (("with style", 0.875), ("without style", 0.625)):
        trial = tracking.start_run(
            BENCHMARK, workspace, experiment="ablation", name=name, parent=study, params={"variant": name.split()[0]}
        )
        trial.log_metrics({"paper/pixel_auroc": value})
        trial.finish()
        trials.append(trial)
    study.finish()
    tracking.sync(workspace)
    experiment = MlflowClient(tracking_uri=server.uri).get_experiment_by_name("ablation").experiment_id
    ids = ",".join(f'"{trial.mlflow_id}"' for trial in trials)
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
