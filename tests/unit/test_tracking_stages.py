"""What the stages tell MLflow: two methods that are compared as the pages say, and a training that was killed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commands import pipe, stage
from conftest import REPOSITORY, repository_params
from mlflow import MlflowClient
from tracking_toys import client_of

from invad.tracking.store import _connection
from invad.workspace import Workspace

pytestmark = pytest.mark.slow
STAGES = ("train", "score", "evaluate")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, empty_database) -> Path:
    """A folder with params.yaml, small generated images and their features."""
    root = tmp_path_factory.mktemp("prepared")
    shutil.copyfile(empty_database, root / "mlflow.db")
    params = repository_params("mvtec")
    params["download"]["mvtec"] |= {"train_images": 6, "test_images": 6, "image_size": 96}
    params["features"]["mvtec"] |= {"image_size": 64, "batch_size": 8}
    params["train"]["mvtec"] |= {"epochs": 1, "batch_size": 4}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for name in ("download", "splits", "features"):
        run(name, root)
    return root


@pytest.fixture
def root(prepared, tmp_path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "root"))


def modules_of_evaluate(root: Path) -> set[str]:
    """What the stage, in a process of its own, has imported when it ends."""
    script = REPOSITORY / "stages/evaluate.py"
    code = f"import sys, runpy; sys.argv[1:] = ['mvtec']; runpy.run_path({str(script)!r}, run_name='__main__'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def run(name: str, root: Path) -> str:
    done = stage(name, *(() if name == "report" else ("mvtec",)), cwd=root)
    assert done.returncode == 0, done.stderr
    return done.stderr


def edit(root: Path, section: dict) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["train"]["mvtec"] = section
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def client_and_runs(root: Path) -> tuple[MlflowClient, list]:
    client = client_of(Workspace(root))
    experiment = client.get_experiment_by_name("benchmark")
    return client, client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


def test_two_methods_that_were_evaluated_give_a_report_with_figures_and_pictures(root):
    for name in STAGES:
        run(name, root)
    shutil.rmtree(root / "models")  # as DVC does
    edit(root, {"model": "rd", "epochs": 1, "batch_size": 4, "learning_rate": 0.005, "seed": 42})
    for name in ("train", "score"):
        run(name, root)
    assert not modules_of_evaluate(root) & {"torch", "matplotlib", "timm", "ray"}
    client, runs = client_and_runs(root)
    names = [run.info.run_name for run in runs]
    assert names == [
        "mvtec invad mobilenetv2_100, 1 epoch, seed 42",
        "mvtec rd mobilenetv2_100, 1 epoch, seed 42",
    ]
    for each in runs:
        assert "paper/pixel_auroc" in each.data.metrics
        evidence = {Path(item.path).name for item in client.list_artifacts(each.info.run_id, "evidence")}
        assert evidence == {"result.json", "test_images.npz"}
    done = pipe("report", "--runs", *(each.info.run_id for each in runs), "--out", "both", cwd=root)
    assert done.returncode == 0, done.stderr
    figures = {path.name for path in (root / "both/figures").iterdir()}
    for kind in ("heatmaps", "scores", "curves"):
        for method in ("invad", "rd"):
            assert any(name.startswith(f"{kind}_mvtec_{method}-") for name in figures), (kind, method, figures)
    assert "No figures and no pictures" not in (root / "both/index.html").read_text()


def test_a_report_adds_figures_to_the_run_and_makes_none(root, caplog):
    for name in (*STAGES, "report"):
        run(name, root)
    client, (only,) = client_and_runs(root)
    assert "figures/heatmaps_mvtec.png" in {item.path for item in client.list_artifacts(only.info.run_id, "figures")}
    tags = json.loads((root / "reports/run_info.json").read_text())["results"][0]
    assert tags["train.steps"] > 0
    shutil.rmtree(root / ".invad")
    run("report", root)
    assert "mvtec: which run made its model is not known here" in caplog.text
    assert len(client_and_runs(root)[1]) == 1
    done = pipe("runs", "sync", cwd=root)  # knows the run by its model
    assert done.stdout == f"mvtec: run {only.info.run_id}, complete\n"


def test_a_training_that_was_interrupted_has_its_run_when_it_has_ended(root, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("invad.training.model_folder.save_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run("train", root)
    assert client_of(Workspace(root)).get_experiment_by_name("benchmark") is None
    run("train", root)
    client, (only,) = client_and_runs(root)
    assert only.info.status == "FINISHED"
    lines = (root / "reports/loss/mvtec.csv").read_text().splitlines()[1:]
    history = client.get_metric_history(only.info.run_id, "train/loss")
    assert sorted((point.step, point.value) for point in history) == [
        (int(line.split(",")[0]), float(line.split(",")[2])) for line in lines
    ]


def test_nothing_of_finished_stages_is_lost_without_a_database(root, caplog):
    """It cannot be written while they work."""
    (root / "mlflow.db").rename(root / "kept.db")
    (root / "mlflow.db").mkdir()
    for name in (*STAGES, "report"):
        run(name, root)
    assert "unable to open database file; nothing is lost" in caplog.text
    (root / "mlflow.db").rmdir()
    (root / "kept.db").rename(root / "mlflow.db")
    _connection.cache_clear()
    done = pipe("runs", "sync", cwd=root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(", logged")
    client, (only,) = client_and_runs(root)
    assert only.data.tags["train.steps"] == str(len((root / "reports/loss/mvtec.csv").read_text().splitlines()) - 1)
    names = {item.path for item in client.list_artifacts(only.info.run_id)}
    assert names >= {"config.json", "params.yaml", "packages.txt", "mvtec.json", "mvtec.csv", "evidence", "figures"}
    assert len(only.outputs.model_outputs) == 1
