"""What MLflow gets to know of a run, in a database of the test's own."""

import json
import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient

from invad import tracking
from invad.config import BenchmarkConfig, FeaturesConfig, FolderSplitConfig, InvADConfig, ScoreConfig
from invad.workspace import Workspace

BENCHMARK = BenchmarkConfig(
    "mvtec", "mvtec", FolderSplitConfig(), FeaturesConfig("mobilenetv2_100"), InvADConfig(epochs=3), ScoreConfig()
)


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    workspace = Workspace(tmp_path)
    workspace.model("mvtec").mkdir(parents=True)
    (workspace.model("mvtec") / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "dvc.lock").write_text(
        "stages:\n  splits@mvtec:\n    outs:\n    - path: data/splits/mvtec\n      md5: abc.dir\n"
    )
    return workspace


def fetch(run: tracking.BenchmarkRun, workspace: Workspace):
    return MlflowClient(tracking_uri=tracking.tracking_uri(workspace)).get_run(run.run_id)


def test_a_run_holds_settings_code_data_and_versions(workspace):
    for command in (
        ["init", "-q"],
        ["add", "dvc.lock"],
        ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *command], cwd=workspace.root, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=workspace.root, capture_output=True, text=True, check=True)
    data = fetch(tracking.start_run(BENCHMARK, workspace), workspace).data
    assert data.params["train.epochs"] == "3"
    assert data.params["features.encoder"] == "mobilenetv2_100"
    assert data.params["dataset"] == "mvtec"
    assert data.tags["git.commit"] == head.stdout.strip()
    assert data.tags["git.dirty"] == "false"
    assert data.tags["dvc.split"] == "abc.dir"
    assert data.tags["package.torch"].startswith("2.")


def test_a_folder_without_git_and_dvc_has_no_such_tags(tmp_path):
    workspace = Workspace(tmp_path)
    tags = fetch(tracking.start_run(BENCHMARK, workspace), workspace).data.tags
    assert "dvc.split" not in tags
    assert "git.commit" not in tags


def test_curves_metrics_and_tables_arrive_and_missing_values_stay_out(workspace):
    run = tracking.start_run(BENCHMARK, workspace)
    run.log_curve("train/loss", [(step, 1 / step) for step in range(1, 1501)])
    run.log_metrics({"paper/image_auroc": 0.5, "paper/region_aupro": None})
    run.log_table({"class": ["bottle"], "image_auroc": [0.5]}, "per_class")
    client = MlflowClient(tracking_uri=tracking.tracking_uri(workspace))
    history = client.get_metric_history(run.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(step, 1 / step) for step in range(1, 1501)]
    metrics = fetch(run, workspace).data.metrics
    assert metrics["paper/image_auroc"] == 0.5
    assert "paper/region_aupro" not in metrics
    path = client.download_artifacts(run.run_id, "per_class.json")
    with Path(path).open() as file:
        assert json.load(file) == {"columns": ["class", "image_auroc"], "data": [["bottle", 0.5]]}


def test_a_benchmarks_run_goes_on_until_its_model_is_another(workspace):
    run = tracking.start_run(BENCHMARK, workspace)
    tracking.remember_run(run, BENCHMARK, workspace)
    assert tracking.continue_run(BENCHMARK, workspace).run_id == run.run_id
    (workspace.model("mvtec") / "model.safetensors").write_bytes(b"came back from the cache")
    other = tracking.continue_run(BENCHMARK, workspace)
    assert other.run_id != run.run_id
    assert fetch(other, workspace).data.tags["invad.model_from_cache"] == "true"
    assert tracking.continue_run(BENCHMARK, workspace).run_id == other.run_id


def test_other_thresholds_beside_the_same_model_are_the_same_run(workspace):
    run = tracking.start_run(BENCHMARK, workspace)
    tracking.remember_run(run, BENCHMARK, workspace)
    workspace.calibration("mvtec").write_text("{}")
    assert tracking.continue_run(BENCHMARK, workspace).run_id == run.run_id
    (workspace.model("mvtec") / "config.json").write_text("{}")
    assert tracking.continue_run(BENCHMARK, workspace).run_id != run.run_id


def test_a_run_that_the_database_lost_is_started_again(workspace, caplog):
    run = tracking.start_run(BENCHMARK, workspace)
    tracking.remember_run(tracking.BenchmarkRun(MlflowClient(), "0" * 32), BENCHMARK, workspace)
    assert tracking.continue_run(BENCHMARK, workspace).run_id not in ("0" * 32, run.run_id)
    assert "MLflow no longer has run 000" in caplog.text


def test_the_server_of_the_environment_wins(workspace, monkeypatch):
    assert tracking.tracking_uri(workspace) == f"sqlite:///{workspace.root}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5001")
    assert tracking.tracking_uri(workspace) == "http://127.0.0.1:5001"
