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
from invad.files import write_json
from invad.scoring.score import phase_predictions
from invad.scoring.thresholds import Calibration, HeldOut, write_calibration
from invad.tracking.models import register_model, serve_commands
from invad.tracking.results import _contents
from invad.workspace import ENCODER_FILE, Workspace

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
    run.finish()
    return run


def evaluate(run: tracking.Run, workspace: Workspace, threshold: float, benchmark: BenchmarkConfig = TOYS) -> None:
    """Log what the stage `evaluate` does; `cable` has a threshold twice as high, of `tile` no image was held out."""
    of_all, none = HeldOut(threshold, threshold, 20), HeldOut(None, None, 0)
    per_class = {"bottle": of_all, "cable": HeldOut(2 * threshold, 2 * threshold, 10), "tile": none}
    write_calibration(Calibration(0.01, 20, per_class, of_all, [], SCORE), workspace.calibration(benchmark.name))
    result = {
        "protocol_version": "1",
        "mean": {"paper": {"image_auroc": 0.96543}, "exact": {"mad": 0.5}},
        "per_class": {"bottle": {"paper": {"image_auroc": 0.5}}},
    }
    write_json(workspace.metrics(benchmark.name), result)
    run.log(_contents(benchmark, workspace)["metrics"]())


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


def test_a_run_is_registered_once_with_its_origin(workspace, register):
    run = logged(workspace)
    evaluate(run, workspace, 1.07)
    first = register(run.run_id, "--alias", "champion").splitlines()
    assert first == [
        "registered  invad-toys, version 1",
        "alias       champion",
        "thresholds  image 1.07, pixel 1.07",
        "To serve it:",
        f"export MLFLOW_TRACKING_URI=sqlite:///{workspace.root}/mlflow.db",
        "mlflow models serve -m models:/invad-toys/1 --env-manager local --port 5001",
    ]
    assert register("toys").splitlines() == ["known       invad-toys, version 1", *first[2:]]
    (version,) = versions_of(workspace, "invad-toys").values()
    assert version.run_id == run.run_id
    assert client_of(workspace).get_model_version_by_alias("invad-toys", "champion").version == 1
    expected = {"invad.benchmark": "toys", "invad.classes": "bottle, cable", "git.commit": "c0ffee"}
    assert expected.items() <= version.tags.items()
    assert {key for key in version.tags if "/" in key} == {"paper/image_auroc"}
    assert version.tags["paper/image_auroc"] == "0.9654"
    # Under another name it is the same model, which leads to both.
    other = register_model(run.run_id, workspace, name="line 3")
    assert (other.name, other.number, other.is_new) == ("line 3", 1, True)
    assert versions_of(workspace, "line 3")[1].source == version.source
    assert "'models:/line 3/1'" in serve_commands(other, workspace)[-1]
    client = client_of(workspace)
    models = client.search_logged_models([client.get_run(run.run_id).info.experiment_id])
    links = [json.loads(model.tags["mlflow.modelVersions"]) for model in models if "mlflow.modelVersions" in model.tags]
    assert links == [[{"name": "invad-toys", "version": 1}, {"name": "line 3", "version": 1}]]
    assert {model.source_run_id for model in models} == {run.run_id}


def test_other_thresholds_are_another_version(workspace):
    run = logged(workspace)
    plain = register_model(run.run_id, workspace)
    evaluate(run, workspace, 1.11)
    first = register_model(run.run_id, workspace)
    evaluate(run, workspace, 1.1)
    second = register_model(run.run_id, workspace)
    assert [(item.number, item.is_new, item.thresholds.image) for item in (plain, first, second)] == [
        (1, True, None),
        (2, True, 1.11),
        (3, True, 1.1),
    ]
    sources = {number: version.source for number, version in versions_of(workspace, "invad-toys").items()}
    images = noise(5)
    expected = invad.load(workspace.model("toys")).predict(images)
    results = [mlflow.pyfunc.load_model(sources[number]).predict({"images": images}) for number in (1, 3)]
    assert [list(result) for result in results] == [["scores", "maps"], ["scores", "anomalous", "maps"]]
    for result in results:
        np.testing.assert_array_equal(result["scores"], expected.scores)
        np.testing.assert_array_equal(result["maps"], expected.maps)
    assert results[1]["anomalous"].tolist() == expected.anomalous == (expected.scores > 1.1).tolist()
    assert 0 < sum(expected.anomalous) < 5


def noise(count: int, size: int = 64) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_nothing_of_a_registered_model_is_a_pickle(workspace):
    run = logged(workspace)
    evaluate(run, workspace, 1.07)
    register_model(run.run_id, workspace)
    folder = Path(versions_of(workspace, "invad-toys")[1].source.removeprefix("file://"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"model.safetensors", "serving_model.py", "MLmodel"} <= {path.name for path in files}
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".bin", ".npy", ".pyc")]
    assert {path.name for path in folder.joinpath("artifacts/toys").iterdir()} == {
        "model.safetensors",
        "encoder.safetensors",
        "config.json",
        "calibration.json",
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
    assert described.signature.params.to_dict()[0]["name"] == "class_name"
    required = (folder / "requirements.txt").read_text().splitlines()
    assert not any(line.startswith("invad") for line in required)
    assert {"mlflow", "numpy", "safetensors", "timm", "torch"} <= {line.partition("==")[0] for line in required}


def test_what_cannot_be_registered_is_one_line(workspace, register, monkeypatch):
    run = logged(workspace)
    assert "run 123: MLflow has none of this id" in register("123", code=2)
    for alias in ("latest", "v1", "a b"):
        assert alias in one_line(register(run.run_id, "--alias", alias, code=2))
    assert "model registry of MLflow at sqlite:///" in one_line(register(run.run_id, "--name", "a/b", code=2))
    empty = tracking.start_run(TOYS, workspace)
    assert f"run {empty.run_id}: it has no model in MLflow" in one_line(register(empty.run_id, code=2))
    empty.finish("FAILED")
    assert f"run {empty.run_id}: failed" in one_line(register(empty.run_id, code=2))
    (workspace.model("toys") / ENCODER_FILE).unlink()
    old = logged(workspace)
    assert f"run {old.run_id}: an older version logged its model" in one_line(register(old.run_id, code=2))
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_REGISTRY_URI", "ftp://nowhere")
        assert "model registry of MLflow at ftp://nowhere: " in one_line(register(run.run_id, code=2))
    client_of(workspace).delete_run(old.run_id)
    assert f"run {old.run_id}: deleted" in one_line(register(old.run_id, code=2))
    down = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", down)
    assert f"MLflow at {down}: no answer (connection refused)" in one_line(register(run.run_id, code=2))


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
    evaluate(run, workspace, float(np.median(maps.max(axis=(1, 2)))), benchmark)
    return workspace, register_model(run.run_id, workspace), images, maps


@pytest.fixture(scope="module")
def served(registered, tmp_path_factory) -> Iterator[Served]:
    workspace, version, _, _ = registered
    server = Served(f"models:/{version.name}/{version.number}", workspace, tmp_path_factory.mktemp("served"))
    try:
        yield server
    finally:
        server.stop()


def test_a_served_model_gives_the_numbers_of_the_stage_score_and_of_the_python_interface(registered, served):
    workspace, _, images, maps = registered
    expected = invad.load(workspace.model("mvtec")).predict(images)
    status, answer = served.ask("/invocations", json.dumps({"inputs": {"images": images.tolist()}}).encode())
    assert status == 200, answer
    result = json.loads(answer)["predictions"]
    assert list(result) == ["scores", "anomalous", "maps"]
    for known in (maps, expected.maps):
        np.testing.assert_allclose(result["maps"], known, rtol=0, atol=1e-6)
        np.testing.assert_allclose(result["scores"], known.max(axis=(1, 2)), rtol=0, atol=1e-6)
    assert result["anomalous"] == expected.anomalous
    assert 0 < sum(expected.anomalous) < len(images)
    body = {"inputs": {"images": images[:2].tolist()}, "params": {"class_name": "cable"}}
    status, answer = served.ask("/invocations", json.dumps(body).encode())
    assert (status, json.loads(answer)["predictions"]["anomalous"]) == (200, [False, False])


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
        ({"inputs": {"images": [[[[0, 0, 0]] * 64] * 64]}, "params": {"class_name": "tile"}}, "known of bottle, cable"),
        ({"inputs": {"images": [[[[0, 0, 0]] * 64] * 64]}, "params": {"class_name": 1}}, "class_name"),
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
