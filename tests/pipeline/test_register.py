"""`invad-pipe runs register`: a run's model in MLflow's registry, and what `mlflow models serve` makes of it."""

import json
import os
import pickletools
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pytest
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import Model
from numpy.typing import NDArray
from PIL import Image
from prediction_toys import toy_model_folder
from servers import free_port
from tracking_toys import BENCHMARK, client_of, trained

import invad
from invad import cli, tracking
from invad.config import BenchmarkConfig, ScoreConfig
from invad.scoring.score import phase_predictions
from invad.scoring.thresholds import Calibration, HeldOut, write_calibration
from invad.tracking.show import register_model
from invad.workspace import Workspace

SCORE = ScoreConfig(sigma=1.5, batch_size=4)
TOYS = replace(BENCHMARK, name="toys", score=SCORE)


@pytest.fixture(autouse=True)
def own_package(monkeypatch) -> None:
    """A model that is loaded puts its copy of the package first."""
    monkeypatch.setattr("sys.path", list(sys.path))


@pytest.fixture
def workspace(tmp_path, empty_database) -> Workspace:
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    return Workspace(tmp_path)


def logged(workspace: Workspace, *, benchmark: BenchmarkConfig = TOYS) -> tracking.Run:
    """A run whose training has ended: `evaluate` has logged no thresholds yet."""
    folder = workspace.model(benchmark.name)
    if not folder.exists():
        toy_model_folder(folder, calibrated=False)
    run = tracking.start_run(benchmark, workspace, tags={"git.commit": "c0ffee"})
    run.log(tracking.Content(model=(folder, benchmark)))
    run.finish("FINISHED")
    return run


def evaluate(run: tracking.Run, workspace: Workspace, threshold: float) -> None:
    """Log the thresholds, as the stage `evaluate` does."""
    of_all, path = HeldOut(threshold, threshold, 20), workspace.calibration("toys")
    write_calibration(Calibration(0.01, 20, {"bottle": of_all}, of_all, [], SCORE), path)
    run.log(tracking.Content(files={"results": tracking.Files.of([path])}))


def versions_of(workspace: Workspace, name: str) -> dict[int, ModelVersion]:
    return {int(version.version): version for version in client_of(workspace).search_model_versions(f"name = '{name}'")}


@pytest.fixture
def register(workspace, monkeypatch, capsys) -> Callable[..., str]:
    """Runs the command and returns what it prints."""
    monkeypatch.chdir(workspace.root)

    def run(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["invad-pipe", "runs", "register", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        assert ended.value.code == code, printed.err
        return printed.err if code else printed.out

    return run


def test_a_run_is_registered_once(workspace, register):
    run = logged(workspace)
    first = register(run.run_id, "--alias", "champion").splitlines()
    assert first == [
        "models:/invad-toys/1, which is served by",
        f"export MLFLOW_TRACKING_URI=sqlite:///{workspace.root}/mlflow.db",
        "mlflow models serve -m models:/invad-toys/1 --env-manager local --port 5001",
    ]
    (version,) = versions_of(workspace, "invad-toys").values()
    assert version.run_id == run.run_id
    assert client_of(workspace).get_model_version_by_alias("invad-toys", "champion").version == 1
    assert register("toys").splitlines() == first
    assert list(versions_of(workspace, "invad-toys")) == [1]
    assert register_model(run.run_id, workspace, name="line 3") == "models:/line 3/1"


def test_a_registered_model_gives_the_numbers_of_the_python_interface(workspace):
    run = logged(workspace)
    evaluate(run, workspace, 1.07)  # which says how maps are made
    register_model(run.run_id, workspace)
    images, source = noise(5), versions_of(workspace, "invad-toys")[1].source
    expected = invad.load(workspace.model("toys")).predict(images)
    result = mlflow.pyfunc.load_model(source).predict({"images": images})
    assert list(result) == ["scores", "maps"]
    np.testing.assert_array_equal(result["scores"], expected.scores)
    np.testing.assert_array_equal(result["maps"], expected.maps)


def noise(count: int, size: int = 64) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_nothing_of_a_registered_model_is_a_pickle(workspace):
    run = logged(workspace)
    register_model(run.run_id, workspace)
    folder = Path(versions_of(workspace, "invad-toys")[1].source.removeprefix("file://"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"model.safetensors", "serving_model.py", "MLmodel"} <= {path.name for path in files}
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".bin", ".npy", ".pyc")]
    assert {path.name for path in folder.joinpath("artifacts/toys").iterdir()} == {
        "model.safetensors",
        "encoder.safetensors",
        "config.json",
    }
    for path in files:
        with pytest.raises(ValueError, match=r".*"):  # pickle cannot read it
            list(pickletools.genops(path.read_bytes()))
    described = Model.load(str(folder))
    flavor = described.flavors["python_function"]
    assert flavor["loader_module"] == "mlflow.pyfunc.loaders.code_model"
    assert Path(flavor["model_code_path"]).name == "serving_model.py"
    assert "python_model" not in flavor
    assert described.metadata["classes"] == ["bottle", "cable"]
    required = (folder / "requirements.txt").read_text().splitlines()
    assert not any(line.startswith("invad") for line in required)
    assert {"mlflow", "numpy", "safetensors", "timm", "torch"} <= {re.split("[^\\w-]", line)[0] for line in required}


def test_what_cannot_be_registered_is_one_line(workspace, register, monkeypatch):
    run = logged(workspace)
    assert "run 123: MLflow has none of this id" in register("123", code=2)
    for alias in ("latest", "v1", "a b"):
        assert alias in one_line(register(run.run_id, "--alias", alias, code=2))
    assert "MLflow at sqlite:///" in one_line(register(run.run_id, "--name", "a/b", code=2))
    empty = tracking.start_run(TOYS, workspace)
    empty.finish("FINISHED")
    assert f"run {empty.run_id}: it has no model in MLflow" in one_line(register(empty.run_id, code=2))
    down = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", down)
    assert f"MLflow at {down}: connection refused" in one_line(register(run.run_id, code=2))


def one_line(error: str) -> str:
    """The message of the command line, which is one line."""
    (line,) = error.splitlines()
    assert line.startswith("invad-pipe: error: ")
    return line


class Served:
    """`mlflow models serve` of a registered model, in a process where `import invad` of its own would fail."""

    def __init__(self, uri: str, workspace: Workspace, folder: Path) -> None:
        self._port = free_port()
        (folder / "invad").mkdir()
        (folder / "invad/__init__.py").write_text("raise ImportError('the package of the environment')")
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local"]
        paths = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(folder),
        }
        environment = os.environ | paths | {"MLFLOW_TRACKING_URI": tracking.tracking_uri(workspace)}
        self._log = folder / "log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*command, "--port", str(self._port)],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        for _ in range(1200):
            if self.ask("/ping")[0] == 200:
                return
            assert self._process.poll() is None, self._log.read_text()
            time.sleep(0.1)
        raise AssertionError(self._log.read_text())

    def stop(self) -> None:
        os.killpg(self._process.pid, 15)
        self._process.wait(20)

    def ask(self, path: str, body: bytes | None = None) -> tuple[int, str]:
        """Return status and body of the answer; the status 0 without one."""
        url = f"http://127.0.0.1:{self._port}{path}"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""


@pytest.fixture(scope="module")
def registered(tmp_path_factory, empty_database):
    """A model that was trained on images, registered; with it, its images, and their maps as the stage `score` computes them."""
    workspace = Workspace(tmp_path_factory.mktemp("trained"))
    shutil.copyfile(empty_database, workspace.root / "mlflow.db")
    benchmark, split = trained(workspace, "live")
    images = np.stack([np.asarray(Image.open(split.image_path(row))) for row in split.phase("test")])
    folders = workspace.features("mvtec"), workspace.model("mvtec")
    maps = np.concatenate([maps for maps, _ in phase_predictions(benchmark, split, "test", *folders, label="")])
    run = logged(workspace, benchmark=benchmark)
    return workspace, register_model(run.run_id, workspace), images, maps


@pytest.fixture(scope="module")
def served(registered, tmp_path_factory) -> Iterator[Served]:
    workspace, version, _, _ = registered
    server = Served(version, workspace, tmp_path_factory.mktemp("served"))
    try:
        yield server
    finally:
        server.stop()


def test_a_served_model_gives_the_numbers_of_the_stage_score(registered, served):
    _, _, images, maps = registered
    status, answer = served.ask("/invocations", json.dumps({"inputs": {"images": images.tolist()}}).encode())
    assert status == 200, answer
    result = json.loads(answer)["predictions"]
    assert list(result) == ["scores", "maps"]
    np.testing.assert_allclose(result["maps"], maps, rtol=0, atol=1e-6)
    np.testing.assert_allclose(result["scores"], maps.max(axis=(1, 2)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"inputs": {"images": [[[[0, 0, 0]] * 32] * 32]}}, r"does not match expected shape \(-1, 64, 64, 3\)"),
        ({"inputs": {"images": [[[0, 0, 0]] * 64] * 64}}, "does not match expected shape"),
        ({"inputs": {"images": [[[[0] * 4] * 64] * 64]}}, "does not match expected shape"),
        ({"inputs": {"images": [[[[0, 0, 0]] * 64] * 63 + [[0]]]}}, "inhomogeneous"),
        ({"inputs": {"images": []}}, "does not match expected shape"),
        ({"inputs": {"images": [[[[0, 0, 256]] * 64] * 64]}}, "256 out of bounds"),
        ({"inputs": {"images": [[[[0, 0, -1]] * 64] * 64]}}, "-1 out of bounds"),
        ({"inputs": {"images": [[[["red", 0, 0]] * 64] * 64]}}, "invalid literal"),
        ({"inputs": {"images": [[[[None, 0, 0]] * 64] * 64]}}, "NoneType"),
        ({"inputs": {"images": "/etc/passwd"}}, "invalid literal"),
        ({"inputs": {"pictures": [[[[0, 0, 0]] * 64] * 64]}}, "missing inputs"),
        ({"pictures": []}, "exactly one of the input fields"),
        ([], "Received a list"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_served_model_refuses_what_it_does_not_take(served, body, reason):
    status, answer = served.ask("/invocations", json.dumps(body).encode())
    assert status == 400, answer[-500:]
    assert re.search(reason, json.loads(answer)["message"]), answer[-500:]


def test_floats_are_cut_before_the_model_sees_them(registered, served):
    """What docs/pipeline.md warns of: MLflow casts them to the type of the signature."""
    _, _, images, _ = registered
    answers = [
        served.ask("/invocations", json.dumps({"inputs": {"images": values.tolist()}}).encode())
        for values in (images[:1], np.minimum(images[:1] + 0.9, 255.9))
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] == 200


def test_a_served_model_survives_what_is_no_json(served):
    for body in (b"", b"{", b"\xff\xfe", b"null"):
        assert served.ask("/invocations", body)[0] == 400, body[:9]
    assert served.ask("/ping")[0] == 200
