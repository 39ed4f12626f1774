"""Studies on Ray Tune: trials that fail or die, early stopping, resumption, whole ablations and searches at toy size."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from studies_toys import tiny_params, tiny_workspace

from invad.cluster import tune as edge
from invad.cluster.cluster import Cluster, ray_session
from invad.cluster.tune import run_trials, trial_resources
from invad.config import TuneConfig, load_params
from invad.config.sections import RangeConfig
from invad.errors import InputError
from invad.report.ablations import VariantRow
from invad.studies import modules, runner
from invad.studies.ablation import run_ablation
from invad.studies.modules import Module
from invad.studies.runner import StudyOptions
from invad.studies.search import draw_samples, run_search, search_text
from invad.tracking import tracking_uri

pytestmark = pytest.mark.ray
MEASURED = ("seconds", "images_per_second", "memory")
RANGES = TuneConfig(
    samples=3,
    validation_share=0.2,
    learning_rate=RangeConfig(0.001, 0.01),
    style_channels=(4, 8),
    latent_channels=(4,),
    blocks=(1,),
)
# What an ablation meets: a setting that trains, and one that cannot be trained.
TOY = Module(
    "toy",
    "for the tests",
    (
        VariantRow("good", "", True, {"train.loss": "l2", "train.batch_size": 8}),
        VariantRow("impossible", "", False, {"train.loss": "l2", "train.batch_size": 512}),
    ),
)


@pytest.fixture(scope="module")
def one_session():
    """One Ray for all studies of this module: to start it takes longer than they do."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's processes cannot import it
    with pytest.MonkeyPatch.context() as patch, ray_session() as cluster:
        patch.setattr(edge, "ray_session", lambda: nullcontext(cluster))
        yield cluster


@pytest.fixture
def toy(tmp_path, monkeypatch, empty_database):
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    monkeypatch.setitem(modules.MODULES, "toy", TOY)
    return tiny_workspace(tmp_path)


# Resources


def test_a_trial_gets_a_gpu_or_the_part_of_one_that_is_asked_for():
    nodes = Cluster(({"CPU": 8, "GPU": 2}, {"CPU": 8}))
    assert trial_resources(2, None, nodes) == {"CPU": 2, "GPU": 1}
    assert trial_resources(2, 4, nodes) == {"CPU": 2, "GPU": 0.25}
    assert trial_resources(2, None, Cluster(({"CPU": 2},))) == {"CPU": 2}
    with pytest.raises(
        InputError, match=r"a trial needs 9 CPUs, .*which no node has; Ray has 1 node of 4 CPUs, 0 GPUs"
    ):
        trial_resources(9, None, Cluster(({"CPU": 4.0},)))


def test_more_than_this_machine_has_is_refused_before_anything_starts(toy, monkeypatch):
    params, workspace = toy
    monkeypatch.setattr(runner, "extract_features", lambda *_: pytest.fail("extracted"))
    monkeypatch.setattr(edge, "ray_session", lambda: pytest.fail("started Ray"))
    many = replace(params.training, resources_per_worker=replace(params.training.resources_per_worker, cpu=4096))
    with pytest.raises(InputError, match=r"a trial needs 4096 CPUs, .* Ray has 1 node of \d+ CPUs"):
        run_ablation("toy", StudyOptions("mvtec"), replace(params, training=many), workspace)
    assert not (workspace.private / "studies").exists()


def test_samples_lie_in_the_ranges_begin_with_the_base_and_do_not_depend_on_their_number():
    base = {"learning_rate": 0.004, "style_channels": 64, "latent_channels": 16, "blocks": 2}
    drawn = draw_samples(TuneConfig(samples=12), base)
    assert len(drawn) == 12
    assert drawn[0] == base
    assert all(0.0005 <= one["learning_rate"] <= 0.02 and one["blocks"] in (1, 2, 4) for one in drawn)
    assert len({str(one) for one in drawn}) == 12
    assert draw_samples(TuneConfig(samples=5), base) == drawn[:5]
    assert draw_samples(TuneConfig(samples=12, seed=1), base)[1:] != drawn[1:]


# Ray Tune


def _work(folder: Path, name: str) -> None:
    """Trial `dies` kills its process, `dies-once` does so once."""
    with (folder / f"{name}.started").open("a") as file:
        file.write("x")
    starts = len((folder / f"{name}.started").read_text())
    if name == "dies" or (name == "dies-once" and starts == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / f"{name}.done").touch()


def test_a_process_that_dies_is_tried_once_more_and_does_not_end_the_others(one_session, tmp_path, capfd):
    ended = {}
    run_trials(
        ["dies", "dies-once"],
        partial(_work, tmp_path),
        demand=partial(trial_resources, 1, None),
        most=None,
        storage=tmp_path / "ray",
        on_end=lambda name, lost: ended.update({name: lost}),
    )
    assert ended == {"dies": edge._LOST, "dies-once": ""}
    starts = {path.stem: len(path.read_text()) for path in tmp_path.glob("*.started")}
    assert starts == {"dies": 2, "dies-once": 2}
    assert {path.stem for path in tmp_path.glob("*.done")} == {"dies-once"}
    assert not (tmp_path / "ray").exists()
    assert capfd.readouterr().out == ""  # of Ray's: standard output is for results


# Ablations


def test_an_ablation_trains_its_variants_and_writes_its_tables(one_session, toy, monkeypatch):
    params, workspace = toy
    extractions = []
    extract = runner.extract_features
    monkeypatch.setattr(runner, "extract_features", lambda *args: extractions.append(args) or extract(*args))
    options = StudyOptions("mvtec", seeds=2, max_concurrent=1)
    report = run_ablation("toy", options, params, workspace)

    outcomes = {(one.variant, one.seed): one for one in report.results}
    assert list(outcomes) == [(name, seed) for name in ("good", "impossible") for seed in (42, 43)]
    assert [one.status for one in report.results] == ["finished"] * 2 + ["failed"] * 2
    assert outcomes["impossible", 42].error == "batch_size: 512 is more than the 36 training images"
    assert outcomes["good", 42].metrics != outcomes["good", 43].metrics
    assert outcomes["good", 42].metrics["mad"] is not None
    assert len(extractions) == 1  # all variants have the same encoder and size
    tables = workspace.reports / "ablations"
    assert {path.name for path in tables.iterdir()} == {f"toy.{suffix}" for suffix in ("csv", "md", "tex", "json")}
    with (tables / "toy.csv").open() as file:
        named = {row["variant"] for row in csv.DictReader(file)}
    assert named == {"good (paper)", "good (paper) - paper", "impossible"}
    _check_mlflow(workspace)

    # Another run wants to be told; what is finished is not run again, and what failed is.
    with pytest.raises(InputError, match=r"2 of 4 trials finished; --resume goes on with it, --restart begins anew"):
        run_ablation("toy", options, params, workspace)
    before = _results(workspace)
    ran = []
    trials = edge.run_trials
    monkeypatch.setattr(
        edge, "run_trials", lambda names, *args, **more: ran.extend(names) or trials(names, *args, **more)
    )
    again = run_ablation("toy", replace(options, resume=True), params, workspace)
    assert [one.status for one in again.results] == ["finished"] * 2 + ["failed"] * 2
    assert len(ran) == 2
    after = _results(workspace)
    assert {name for name in before if after[name] != before[name]} == {name for name in before if "impossible" in name}
    client = MlflowClient(tracking_uri=tracking_uri(workspace))
    runs = client.search_runs([client.get_experiment_by_name("ablation").experiment_id])
    assert len([run for run in runs if "mlflow.parentRunId" not in run.data.tags]) == 1  # the study's run went on
    assert len(runs) == 1 + 4  # and so did those of the trials that were tried again
    # With everything finished only the tables are written.
    (tables / "toy.md").unlink()
    ran.clear()
    run_ablation("toy", replace(options, resume=True, variants=("good",)), params, workspace)
    assert ran == []
    assert (tables / "toy.md").exists()


def _results(workspace):
    return {
        path.parent.name: path.stat().st_mtime_ns for path in workspace.private.glob("studies/*/trials/*/result.json")
    }


def _check_mlflow(workspace):
    client = MlflowClient(tracking_uri=tracking_uri(workspace))
    experiment = client.get_experiment_by_name("ablation").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    parent = runs.pop("toy on mvtec")
    assert len(runs) == 4
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    good, bad = runs["toy good, seed 43"], runs["toy impossible, seed 42"]
    assert {"paper/mad", "parameters", "multiply_adds", "train_seconds", "train/loss"} <= set(good.data.metrics)
    assert (good.data.params["variant"], good.data.params["seed"], good.info.status) == ("good", "43", "FINISHED")
    for run in (parent, good):
        assert {entry.dataset.name for entry in run.inputs.dataset_inputs} == {"mvtec/train", "mvtec/test"}
    assert bad.info.status == "FAILED"
    assert bad.data.tags["invad.error"] == "batch_size: 512 is more than the 36 training images"
    command = "dvc repro features@mvtec && invad-pipe ablate --module toy --benchmark mvtec"
    assert parent.data.tags["invad.command"].startswith(command)
    assert parent.data.tags["invad.command"].endswith("--seeds 2")
    assert good.data.tags["invad.command"] == parent.data.tags["invad.command"]
    assert {item.path for item in client.list_artifacts(parent.info.run_id)} >= {
        "toy.csv",
        "toy.md",
        "toy.tex",
        "toy.json",
    }


def test_variants_of_the_map_train_once_and_an_encoder_that_cannot_be_fetched_ends_nothing(
    one_session, toy, monkeypatch
):
    params, workspace = toy
    options = StudyOptions("mvtec", variants=("paper", "coarse"), max_concurrent=1)
    report = run_ablation("map", options, params, workspace)
    assert [one.status for one in report.results] == ["finished", "finished"]
    assert len(list(workspace.private.glob("studies/map-*/trained/*"))) == 1
    first, second = report.results
    assert (first.seconds, first.parameters) == (second.seconds, second.parameters)
    assert first.metrics != second.metrics

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    report = run_ablation("encoder", StudyOptions("mvtec", variants=("resnet18",)), params, workspace)
    (result,) = report.results
    assert result.status == "failed"
    assert result.error.startswith("weights: resnet18.a1_in1k cannot be fetched")


def _content(workspace):
    """The results of a study's trials but for the time that they took."""
    results = {
        path.parent.name: json.loads(path.read_text())
        for path in workspace.private.glob("studies/*/trials/*/result.json")
    }
    return {name: {key: value for key, value in one.items() if key not in MEASURED} for name, one in results.items()}


def test_a_killed_study_goes_on_and_gives_what_it_would_have_given(one_session, toy, tmp_path_factory):
    """In a process of its own, killed after its first trial."""
    params = tiny_params(epochs=4)
    params["tune"] = json.loads(json.dumps(asdict(RANGES)))
    _, workspace = tiny_workspace(tmp_path_factory.mktemp("killed"), params)
    code = (
        "from invad.config import load_params; from invad.workspace import Workspace\n"
        "from invad.studies.runner import StudyOptions; from invad.studies.search import run_search\n"
        "options, params = StudyOptions('mvtec', max_concurrent=1, resume=True), load_params()\n"
        "report = run_search(options, params, Workspace(), params.tune)\n"
    )
    command = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, cwd=workspace.root, env=environment, stdout=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not _results(workspace) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        process.kill()
    before = _results(workspace)
    assert len(before) == 1
    assert not (workspace.reports / "tune").exists()
    done = subprocess.run(command, cwd=workspace.root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("tune on mvtec: 3 trials, 1 finished before\n")
    after = _results(workspace)
    assert len(after) == 3
    assert {name: after[name] for name in before} == before  # not run again
    assert {run.info.run_name for run in _runs(workspace, "tune")} == {
        "tune on mvtec", *(f"tune {name}, seed 42" for name in ("base", "sample-02", "sample-03"))
    }  # fmt: skip

    whole, other = tiny_workspace(toy[1].root, params)
    run_search(StudyOptions("mvtec", max_concurrent=1), whole, other, whole.tune)
    assert _content(workspace) == _content(other)
    assert (workspace.reports / "tune/mvtec.yaml").read_bytes() == (other.reports / "tune/mvtec.yaml").read_bytes()


def _runs(workspace, experiment):
    client = MlflowClient(tracking_uri=tracking_uri(workspace))
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


# Searches


def test_a_search_finds_a_setting_without_a_look_at_the_test_images(one_session, toy):
    params, workspace = toy
    split = yaml.safe_load((workspace.root / "params.yaml").read_text())
    root = workspace.raw("mvtec")
    tests = [*root.glob("*/test/*/*.png"), *root.glob("*/ground_truth/*/*.png")]
    assert tests
    for path in tests:
        path.unlink()
    options = StudyOptions("mvtec", {"train.epochs": 3}, max_concurrent=1)
    report = run_search(options, params, workspace, RANGES)
    assert [result.status for _, result in report.samples] == ["finished"] * 3
    scores = [result.metrics["validation_score"] for _, result in report.samples]
    assert scores == sorted(scores, reverse=True)
    (base,) = [values for values, result in report.samples if result.variant == "base"]
    assert base == {"learning_rate": 0.016, "style_channels": 8, "latent_channels": 4, "blocks": 1}

    folder = workspace.reports / "tune"
    assert (folder / "mvtec.yaml").read_text() == report.fragment
    assert yaml.safe_load(report.fragment) == {"train": {"mvtec": report.samples[0][0]}}
    split["train"]["mvtec"] |= yaml.safe_load(report.fragment)["train"]["mvtec"]
    (workspace.root / "merged.yaml").write_text(yaml.safe_dump(split))
    assert load_params(workspace.root / "merged.yaml").benchmark("mvtec").train.learning_rate > 0
    with (folder / "mvtec.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["sample"] for row in rows] == [result.variant for _, result in report.samples]
    assert float(rows[0]["validation_score"]) == scores[0]
    assert "No test image was seen, and this is no estimate of the results on them." in report.fragment
    assert search_text(report).splitlines()[0].split()[:2] == ["sample", "learning_rate"]
    # More samples go on with the same first ones.
    before = _results(workspace)
    more = run_search(replace(options, resume=True), params, workspace, replace(RANGES, samples=4))
    assert len(more.samples) == 4
    after = _results(workspace)
    assert {name: after[name] for name in before} == before
