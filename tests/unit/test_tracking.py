"""What MLflow gets to know of a run, in a database of the test's own."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from toys import split_of
from tracking_toys import BENCHMARK, check_model, client_of, fetch, invad_pipe, trained

from invad import tracking
from invad.errors import InputError
from invad.features.encoder import build_encoder
from invad.tracking.origin import dvc_md5
from invad.tracking.results import flatten_result, sync_records
from invad.tracking.run import end_training
from invad.training.model_folder import load_model, save_model
from invad.workspace import Workspace

pytestmark = pytest.mark.slow  # a database each


@pytest.fixture
def workspace(tmp_path, empty_database) -> Workspace:
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    workspace = Workspace(tmp_path)
    workspace.model("mvtec").mkdir(parents=True)
    (workspace.model("mvtec") / "config.json").write_bytes(b"weights")
    (tmp_path / "dvc.lock").write_text(
        "stages:\n  splits@mvtec:\n    outs:\n    - path: data/splits/mvtec\n      md5: abc.dir\n"
        "  train@mvtec:\n    outs:\n    - path: models/mvtec/config.json\n      md5: aaa\n"
        "    - path: models/mvtec/model.safetensors\n      md5: bbb\n"
    )
    return workspace


def all_runs(workspace: Workspace) -> list:
    client = client_of(workspace)
    return client.search_runs([item.experiment_id for item in client.search_experiments()])


def started(workspace: Workspace, **more) -> tracking.Run:
    """A run that MLflow has been told of."""
    run = tracking.start_run(BENCHMARK, workspace, **more)
    run.log()
    return run


def artifact(run: tracking.Run, name: str, workspace: Workspace) -> bytes:
    return Path(client_of(workspace).download_artifacts(run.run_id, name)).read_bytes()


def git(workspace: Workspace, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=b", *arguments]
    return subprocess.run(command, cwd=workspace.root, check=True, capture_output=True, text=True).stdout.strip()


def commit_all(workspace: Workspace) -> str:
    (workspace.root / ".gitignore").write_text(".invad\nmlruns\nmlflow.db\nmodels\n")
    git(workspace, "init", "-q")
    git(workspace, "add", "-A")
    git(workspace, "commit", "-qm", "x")
    return git(workspace, "rev-parse", "HEAD")


def test_a_run_holds_settings_code_data_and_versions(workspace):
    head = commit_all(workspace)
    run = started(workspace)
    data = fetch(run, workspace).data
    assert data.params["train.epochs"] == "3"
    assert data.params["features.encoder"] == "mobilenetv2_100"
    assert data.params["dataset"] == "mvtec"
    assert data.tags["git.commit"] == head
    assert data.tags["git.dirty"] == "false"
    assert data.tags["dvc.split"] == "abc.dir"
    assert data.tags["package.torch"].startswith("2.")
    assert data.tags["hardware.memory"].endswith(" GB")
    assert data.tags["invad.command"] == "dvc repro evaluate@mvtec"
    assert "dvc.model" not in data.tags
    assert json.loads(artifact(run, "config.json", workspace))["train"]["epochs"] == 3
    assert b"\ntorch==2." in artifact(run, "packages.txt", workspace)
    assert dvc_md5(workspace, "train@mvtec", "model.safetensors") == "bbb"


def test_a_folder_without_git_and_dvc_has_no_such_tags(tmp_path, empty_database):
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    workspace = Workspace(tmp_path)
    run = started(workspace)
    tags = fetch(run, workspace).data.tags
    assert "dvc.split" not in tags
    assert "git.commit" not in tags
    assert {item.path for item in client_of(workspace).list_artifacts(run.run_id)} == {"config.json", "packages.txt"}


def test_changes_of_the_code_are_kept_but_not_those_of_the_pipelines_outputs(workspace):
    (workspace.root / "code.py").write_text("a = 1\n")
    commit_all(workspace)
    (workspace.root / "dvc.lock").write_text("stages: {}\n")
    assert fetch(started(workspace, experiment="tune"), workspace).data.tags["git.dirty"] == "false"
    (workspace.root / "code.py").write_text("a = 2\n")
    run = started(workspace, experiment="tune")
    assert fetch(run, workspace).data.tags["git.dirty"] == "true"
    assert b"-a = 1\n+a = 2\n" in artifact(run, "code.patch", workspace)
    (workspace.root / "code.py").write_text("a = 3\n" * 200_000)
    run = started(workspace, experiment="tune")
    assert "code.patch" not in {item.path for item in client_of(workspace).list_artifacts(run.run_id)}
    assert "changes that were not committed and are not kept" in tracking.show_run(run.run_id, workspace)


def test_curves_and_metrics_arrive_and_missing_values_stay_out(workspace):
    run = started(workspace)
    run.log(tracking.Content(curves={"train/loss": [(step, 1 / step) for step in range(1, 1501)]}))
    run.log(tracking.Content(metrics={"paper/image_auroc": 0.5, "paper/region_aupro": None}))
    client = client_of(workspace)
    history = client.get_metric_history(run.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(step, 1 / step) for step in range(1, 1501)]
    data = fetch(run, workspace).data
    assert data.metrics["paper/image_auroc"] == 0.5
    assert "paper/region_aupro" not in data.metrics


def test_every_class_and_the_mean_are_metrics_with_their_protocol_in_the_name(workspace):
    result = {
        "mean": {"paper": {"mad": 0.5}, "exact": {"mad": None}},
        "per_class": {"a@b": {"paper": {"mad": 0.25}, "exact": {"mad": None}}, "a#b": {"paper": {"mad": 0.75}}},
        "operating_point": {"mean": {"f1": 0.1}, "per_class": {"a@b": {"f1": 0.2}}},
    }
    expected = {
        "paper/mad": 0.5,
        "exact/mad": None,
        "calibrated/f1": 0.1,
        "paper/mad/a:23:b": 0.75,
        "paper/mad/a:40:b": 0.25,
        "exact/mad/a:40:b": None,
        "calibrated/f1/a:40:b": 0.2,
    }
    assert flatten_result(result) == expected
    run = started(workspace)
    run.log(tracking.Content(metrics=flatten_result(result)))
    assert fetch(run, workspace).data.metrics == {key: value for key, value in expected.items() if value is not None}


def test_trials_are_nested_in_their_study(workspace):
    study = started(workspace, experiment="ablation", name="style")
    trials = [
        started(
            workspace,
            experiment="ablation",
            name=name,
            parent=study,
            tags={"invad.command": f"invad-pipe ablate {name}"},
            params={"variant": name},
        )
        for name in ("full", "none")
    ]
    for trial, name in zip(trials, ("full", "none"), strict=True):
        run = fetch(trial, workspace)
        assert run.data.tags["mlflow.parentRunId"] == study.run_id
        assert run.data.tags["invad.command"] == f"invad-pipe ablate {name}"
        assert (run.info.run_name, run.data.params["variant"]) == (name, name)
    experiment = client_of(workspace).get_experiment_by_name("ablation").experiment_id
    assert {run.info.experiment_id for run in all_runs(workspace)} == {experiment}
    for trial in trials:
        trial.finish("FINISHED")
        assert not trial.folder.exists()  # MLflow has all of it
    again = started(workspace, experiment="ablation", name="style", key=study.key)
    assert again.run_id == study.run_id
    again.finish("FAILED")
    assert fetch(study, workspace).info.status == "FAILED"


def test_a_benchmarks_run_goes_on_until_its_model_is_another(workspace):
    run = started(workspace)
    end_training(run, BENCHMARK, workspace)
    assert tracking.continue_run(BENCHMARK, workspace).run_id == run.run_id
    (workspace.model("mvtec") / "config.json").write_bytes(b"came back from the cache")
    assert tracking.known_run(BENCHMARK, workspace) is None
    other = tracking.continue_run(BENCHMARK, workspace)
    assert other.run_id != run.run_id
    assert fetch(other, workspace).data.tags["invad.model_from_cache"] == "true"
    assert tracking.continue_run(BENCHMARK, workspace).run_id == other.run_id
    # The first model again: MLflow knows which run trained it.
    (workspace.model("mvtec") / "config.json").write_bytes(b"weights")
    assert tracking.continue_run(BENCHMARK, workspace).run_id == run.run_id
    assert len(all_runs(workspace)) == 2


def test_other_thresholds_beside_the_same_model_are_the_same_run(workspace):
    run = started(workspace)
    end_training(run, BENCHMARK, workspace)
    workspace.calibration("mvtec").write_text("{}")
    assert tracking.continue_run(BENCHMARK, workspace).run_id == run.run_id
    (workspace.model("mvtec") / "config.json").write_text("{}")
    assert tracking.continue_run(BENCHMARK, workspace).run_id != run.run_id


def test_a_run_that_the_database_lost_is_started_again(workspace):
    run = started(workspace, tags={"git.commit": "c0ffee"})
    end_training(run, BENCHMARK, workspace)
    lost = run.run_id
    client_of(workspace).delete_run(lost)
    again = tracking.continue_run(BENCHMARK, workspace)
    again.log()
    found = fetch(again, workspace)
    assert found.info.run_id != lost
    assert (found.info.status, found.data.tags["git.commit"]) == ("FINISHED", "c0ffee")
    assert "config.json" in {item.path for item in client_of(workspace).list_artifacts(again.run_id)}


def test_a_training_that_was_killed_has_its_run_when_it_is_started_again(workspace):
    first = tracking.start_run(BENCHMARK, workspace)
    assert all_runs(workspace) == []  # MLflow hears of what has ended
    assert sync_records(workspace) == []
    first.log()  # and was killed then
    again = tracking.start_run(BENCHMARK, workspace)
    again.log(tracking.Content(curves={"train/loss": [(1, 0.5), (2, 0.25)]}))
    again.log(tracking.Content(curves={"train/loss": [(1, 0.5), (2, 0.25), (3, 0.125)]}))
    end_training(again, BENCHMARK, workspace)
    assert again.run_id == first.run_id
    assert fetch(again, workspace).info.status == "FINISHED"
    history = client_of(workspace).get_metric_history(again.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.25), (3, 0.125)]
    assert started(workspace).run_id != again.run_id  # one that ended well is over


def test_processes_that_use_a_new_database_at_the_same_time_do_not_meet(workspace):
    commit_all(workspace)
    (workspace.root / "mlflow.db").unlink()
    script = (
        "from invad import tracking; from invad.workspace import Workspace; from tracking_toys import BENCHMARK;"
        "run = tracking.start_run(BENCHMARK, Workspace(), experiment='tune'); run.finish('FINISHED')"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script], cwd=workspace.root, env=environment, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in processes:
        assert (process.communicate()[1], process.returncode) == ("", 0)
    assert [run.info.status for run in all_runs(workspace)] == ["FINISHED"] * 2


def test_the_images_of_each_phase_are_inputs(workspace):
    run = started(workspace)
    split = split_of(workspace.root, train=3, test=2)
    run.log(tracking.Content(data=lambda: tracking.data_sets(split, BENCHMARK, "embedded")))
    inputs = {item.tags[0].value: item.dataset for item in fetch(run, workspace).inputs.dataset_inputs}
    assert set(inputs) == {"train", "test"}  # no image is held out for the calibration
    train = inputs["train"]
    assert train.name == "mvtec/train"
    profile = json.loads(train.profile)
    assert profile == {"images": 3, "anomalous": 0, "images_per_class": {"bottle": 3}}
    assert json.loads(train.source) == {"dataset": "mvtec", "source": "embedded"}
    assert inputs["test"].digest != train.digest


@pytest.mark.parametrize("mode", ["live", "store"])
def test_the_logged_model_gives_the_maps_of_the_stage_score(workspace, mode, monkeypatch):
    benchmark, split = trained(workspace, mode)
    run = tracking.start_run(benchmark, workspace)
    inferred = []  # for which MLflow would load the model once more, in a process of its own
    monkeypatch.setattr("mlflow.models.infer_pip_requirements", lambda *arguments, **_: inferred.append(arguments))
    run.log(tracking.Content(model=(workspace.model("mvtec"), benchmark)))
    (output,) = fetch(run, workspace).outputs.model_outputs
    assert inferred == []
    logged = client_of(workspace).get_logged_model(output.model_id)
    assert (logged.status.value, logged.source_run_id, logged.name) == ("READY", run.run_id, "mvtec")
    assert logged.params["train.epochs"] == "1"
    model = mlflow.pyfunc.load_model(logged.artifact_location)
    signature = model.metadata.signature
    assert signature.inputs.input_names() == ["images"]
    assert [tuple(spec.shape) for spec in signature.outputs] == [(-1,), (-1, 64, 64)]
    check_model(model, benchmark, split, workspace)
    assert not list(Path(logged.artifact_location.removeprefix("file://")).rglob("*.pkl"))
    with pytest.raises(MlflowException, match=r"(?i)shape"):
        model.predict({"images": np.zeros((1, 32, 32, 3), np.uint8)})


def test_a_logged_model_whose_encoder_is_another_is_refused(workspace):
    benchmark, _ = trained(workspace, "live")
    encoder = build_encoder("mobilenetv2_100", "packaged")
    method, config = load_model(workspace.model("mvtec"))
    save_model(method, config, workspace.model("mvtec"), encoder)
    run = tracking.start_run(benchmark, workspace)
    run.log(tracking.Content(model=(workspace.model("mvtec"), benchmark)))
    (output,) = fetch(run, workspace).outputs.model_outputs
    with pytest.raises(InputError, match=r"trained with another encoder than the .*/encoder\.safetensors"):
        mlflow.pyfunc.load_model(client_of(workspace).get_logged_model(output.model_id).artifact_location)


def test_show_prints_the_run_and_commands_that_restore_its_code_and_settings(workspace, tmp_path):
    (workspace.root / "code.py").write_text("a = 1\n")
    (workspace.root / "params.yaml").write_text("epochs: 1\n")
    commit_all(workspace)
    git(workspace, "remote", "add", "origin", str(workspace.root))
    (workspace.root / "code.py").write_text("a = 2\n")
    (workspace.root / "params.yaml").write_text("epochs: 3\n")
    run = started(workspace)
    run.log(tracking.Content(metrics={"paper/image_auroc": 0.512}))
    end_training(run, BENCHMARK, workspace)
    done = invad_pipe(workspace, "runs", "show", run.run_id)
    assert re.search(r"^image AU-ROC +51\.2$", done, re.MULTILINE)
    assert "FINISHED" in done
    assert invad_pipe(workspace, "runs", "show", "mvtec") == done
    commands = done.split("To build it again:\n")[1].splitlines()
    assert commands[-1] == "dvc repro evaluate@mvtec"
    place = tmp_path / "elsewhere"
    place.mkdir()
    script = [line for line in commands[:-1] if not line.startswith("make setup")]
    subprocess.run(["bash", "-ec", "\n".join(script)], cwd=place, check=True, capture_output=True)
    assert (place / "rebuilt/code.py").read_text() == "a = 2\n"
    assert (place / "rebuilt/params.yaml").read_text() == "epochs: 3\n"
    git(workspace, "checkout", "-q", "code.py", "params.yaml")


def test_list_shows_the_runs_of_all_experiments_the_newest_first(workspace):
    for experiment in ("benchmark", "tune"):
        run = started(workspace, experiment=experiment, name=f"a {experiment}")
        run.finish("FINISHED", tracking.Content(metrics={"paper/image_auroc": 0.512, "paper/pixel_auroc": None}))
    head, *rows = tracking.list_runs(workspace)
    assert head.split("  ")[0] == "id"
    row = next(row for row in rows if "a tune" in row)
    assert row.split()[0] == run.run_id
    assert row.endswith("51.2          -")
    assert len(rows) == 2


def test_an_unknown_run_is_a_mistake_of_the_user(workspace):
    started(workspace)
    assert "error: run 123: MLflow has none of this id" in invad_pipe(workspace, "runs", "show", "123", code=2)


def test_the_server_of_the_environment_wins(workspace, monkeypatch):
    assert tracking.tracking_uri(workspace) == f"sqlite:///{workspace.root}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5001")
    assert tracking.tracking_uri(workspace) == "http://127.0.0.1:5001"
    monkeypatch.chdir(workspace.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert tracking.tracking_uri(workspace) == f"sqlite:///{workspace.root}/other.db"


@pytest.mark.parametrize("uri", ["htp://host:5000", "http://", "http://host:port", "mlruns", "localhost:5000"])
def test_a_malformed_address_is_refused_at_once(workspace, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for use in (
        lambda: started(workspace),
        lambda: tracking.continue_run(BENCHMARK, workspace),
        lambda: tracking.list_runs(workspace),
        lambda: tracking.show_run("1", workspace),
        lambda: sync_records(workspace),
    ):
        with pytest.raises(InputError, match=r"MLFLOW_TRACKING_URI: .* is neither a server such as"):
            use()


def test_mlflow_does_not_report_to_its_makers():
    code = "import invad.tracking; from mlflow.telemetry.utils import is_telemetry_disabled; print(is_telemetry_disabled())"
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_DISABLE_TELEMETRY"}
    environment.pop("CI", None)  # where it is off by itself
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True"
