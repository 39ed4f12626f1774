"""Several trainings of a benchmark: a seed each, and earlier states of all, from params.yaml to the metrics and MLflow."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from commands import pipe, stage
from conftest import repository_params
from tracking_toys import client_of

from invad.cluster import train as cluster_train
from invad.config import TrainingsConfig, load_params
from invad.config.loading import parse_params
from invad.errors import InputError
from invad.pipeline import stages
from invad.pipeline.dependencies import dependencies
from invad.report.collect import collect_result
from invad.training.snapshots import read_snapshots
from invad.workspace import Workspace

TINY = {"model": "invad", "epochs": 2, "batch_size": 4, "style_channels": 8, "latent_channels": 4, "blocks": 1}


def parsed(**train: object):
    params = repository_params("mvtec")
    params["train"]["mvtec"] = train
    return parse_params(yaml.safe_dump(params), "params.yaml").benchmarks["mvtec"]


def test_the_model_is_that_of_the_first_seed():
    several = parsed(**TINY, seeds=[7, 5], evaluate_at=[0.5, 1.0])
    assert several.trainings == TrainingsConfig((7, 5), (0.5, 1.0))
    assert (several.train.seed, several.seeds) == (7, (7, 5))
    assert several.of_seed(5) == parsed(**TINY, seed=5)
    assert parsed(**TINY).seeds == (42,)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            {"seed": 1, "seeds": [1, 2]},
            "train.mvtec.seed: stands beside `seeds`, whose first it is; remove one of them",
        ),
        ({"seeds": [1, 1]}, "train.mvtec.seeds: names one twice"),
        ({"seeds": [-1]}, "train.mvtec.seeds: must be greater than or equal to 0, not -1"),
        ({"evaluate_at": [0.0]}, "train.mvtec.evaluate_at: must be greater than 0, not 0.0"),
        ({"evaluate_at": [1.5]}, "train.mvtec.evaluate_at: must be less than or equal to 1, not 1.5"),
        ({"sedes": [1]}, "train.mvtec.sedes: unknown key; known are "),
    ],
)
def test_a_mistake_names_the_key(train, message):
    with pytest.raises(InputError) as error:
        parsed(**TINY, **train)
    assert str(error.value).startswith(f"params.yaml: {message}")


def test_the_keys_are_listed_with_those_of_the_method():
    with pytest.raises(InputError, match=r"known are .*epochs.*, seeds, evaluate_at$"):
        parsed(**TINY, epoch=3)


def test_only_benchmarks_with_several_trainings_depend_on_the_code_that_scores_them(params_dict, write_params):
    params_dict["train"]["visa"]["evaluate_at"] = [0.5]
    texts = dependencies(load_params(write_params(params_dict)))
    for name, has in (("visa", True), ("mvtec", False)):
        for file in ("invad/pipeline/trainings.py", "invad/scoring/score.py", "invad/methods/invad/network.py"):
            assert (file in texts[f"evaluate/{name}"]) == has
    assert "[0.5]  train.visa.evaluate_at\n" in texts["train/visa"]


def prepare(root: Path, database: Path) -> None:
    (root / "mlflow.db").write_bytes(database.read_bytes())
    params = repository_params("mvtec")
    params["download"]["mvtec"] |= {"train_images": 6, "test_images": 6, "image_size": 96}
    params["features"]["mvtec"] |= {"image_size": 64, "batch_size": 8}
    params["calibration"]["mvtec"]["share"] = 0.3
    write(root, params)
    for name in ("download", "splits", "features"):
        done(stage(name, "mvtec", cwd=root))


def write(root: Path, params: dict | None = None, **train: object) -> None:
    params = params or yaml.safe_load((root / "params.yaml").read_text())
    params["train"]["mvtec"] = TINY | train
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def done(result) -> str:
    assert result.returncode == 0, result.stderr
    return result.stderr


def run(root: Path, *names: str) -> None:
    for name in names:
        done(stage(name, "mvtec", cwd=root))


@pytest.fixture(scope="module")
def several(tmp_path_factory, empty_database) -> Path:
    """A benchmark with two seeds, each scored after half of its training as well, side by side in processes of Ray."""
    root = tmp_path_factory.mktemp("several")
    prepare(root, empty_database)
    write(root, seeds=[42, 43], evaluate_at=[0.5, 1.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster_train, "_fitting", lambda _: 2)  # also where there is one core
        run(root, "train", "score", "evaluate")
    return root


@pytest.fixture(scope="module")
def alone(several) -> dict[int, dict[str, object]]:
    """What each seed gives as the only one: its model, and what the metrics file says."""
    found = {}
    for seed in (42, 43):
        write(several, seed=seed)
        params, workspace = load_params(several / "params.yaml"), Workspace(several / f"alone-{seed}")
        for name in ("raw", "splits", "features"):
            (workspace.root / "data").mkdir(parents=True, exist_ok=True)
            (workspace.root / "data" / name).symlink_to(several / "data" / name)
        (workspace.root / "mlflow.db").write_bytes(b"")
        with pytest.MonkeyPatch.context() as patch, ExitStack():
            patch.chdir(several)
            for name in ("train", "score", "evaluate"):
                getattr(stages, name)("mvtec", params, workspace)
        weights = (workspace.model("mvtec") / "model.safetensors").read_bytes()
        found[seed] = {"weights": weights, "metrics": json.loads(workspace.metrics("mvtec").read_text())}
    write(several, seeds=[42, 43], evaluate_at=[0.5, 1.0])
    return found


@pytest.mark.slow
@pytest.mark.ray
def test_each_seed_gives_what_it_gives_alone(several, alone):
    workspace = Workspace(several)
    snapshots = {(one.seed, one.is_last): one for one in read_snapshots(workspace.snapshots("mvtec"))}
    assert set(snapshots) == {(42, False), (43, False), (43, True)}
    further = workspace.snapshots("mvtec") / snapshots[43, True].folder
    assert (workspace.model("mvtec") / "model.safetensors").read_bytes() == alone[42]["weights"]
    assert (further / "model.safetensors").read_bytes() == alone[43]["weights"]
    assert json.loads(workspace.metrics("mvtec").read_text()) == alone[42]["metrics"]
    trainings = json.loads(workspace.trainings("mvtec").read_text())
    assert trainings["seeds"] == {"43": alone[43]["metrics"]}
    points = [(point["seed"], point["step"], point["epoch"]) for point in trainings["learning"]]
    total = snapshots[42, False].steps
    half = round(total / 2)
    assert points == [(42, half, 1.0), (42, total, 2.0), (43, half, 1.0), (43, total, 2.0)]
    assert trainings["learning"][1]["mean"] == alone[42]["metrics"]["mean"]
    assert trainings["learning"][0]["mean"] != trainings["learning"][1]["mean"]
    assert not list(workspace.snapshots("mvtec").parent.glob("invad-maps-*"))  # maps of further trainings are not kept
    assert not list((workspace.private / "ray").glob("mvtec-*"))


@pytest.mark.slow
@pytest.mark.ray
def test_the_report_has_mean_and_deviation_over_the_seeds(several, alone):
    params = load_params(several / "params.yaml")
    result = collect_result(params.benchmark("mvtec"), Workspace(several))
    cell, key = result.cells("exact")["image_auroc"], "image_auroc"
    values = [alone[seed]["metrics"]["mean"]["exact"][key] for seed in (42, 43)]
    assert cell.value == pytest.approx(sum(values) / 2)
    assert cell.std == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert len(result.learning) == 4


@pytest.mark.slow
@pytest.mark.ray
def test_mlflow_has_a_run_for_each_seed_and_gets_none_twice(several):
    client, workspace = client_of(Workspace(several)), Workspace(several)

    def runs() -> dict[str, dict]:
        experiment = client.get_experiment_by_name("benchmark")
        found = client.search_runs([experiment.experiment_id])
        assert {one.info.status for one in found} == {"FINISHED"}
        return {one.data.params["train.seed"]: one for one in found}

    before = runs()
    assert set(before) == {"42", "43"}
    trainings = json.loads(workspace.trainings("mvtec").read_text())
    assert before["43"].data.metrics["exact/mad"] == trainings["seeds"]["43"]["mean"]["exact"]["mad"]
    assert before["43"].data.metrics["train/loss"] > 0
    points = client.get_metric_history(before["42"].info.run_id, "learning/mad")
    assert [point.step for point in points] == [point["step"] for point in trainings["learning"][:2]]
    done(stage("evaluate", "mvtec", cwd=several))
    done(pipe("runs", "sync", cwd=several))
    again = runs()
    assert {seed: one.info.run_id for seed, one in again.items()} == {
        seed: one.info.run_id for seed, one in before.items()
    }
    assert client.get_metric_history(again["43"].info.run_id, "train/loss") == client.get_metric_history(
        before["43"].info.run_id, "train/loss"
    )


@pytest.mark.slow
@pytest.mark.ray
def test_seeds_that_have_ended_are_not_trained_again(several, tmp_path, monkeypatch):
    """The second training fails; after the mistake is gone it alone is made, and the first is taken from its checkpoint."""
    run_job, trained, fails = cluster_train.run_job, [], [43]

    def counted(job, *arguments, **keywords):
        trained.append(job.train.seed)
        if job.train.seed in fails:
            raise InputError("the loss is nan")
        return run_job(job, *arguments, **keywords)

    monkeypatch.setattr(cluster_train, "run_job", counted)
    monkeypatch.setattr(cluster_train, "_fitting", lambda _: 1)
    workspace, model = Workspace(several), Workspace(several).model("mvtec") / "model.safetensors"
    before = model.read_bytes()
    failed = stage("train", "mvtec", cwd=several)
    assert (failed.returncode, failed.stderr.splitlines()[-1]) == (2, "train@mvtec: error: the loss is nan")
    assert model.read_bytes() == before
    fails.clear()
    done(stage("train", "mvtec", cwd=several))
    assert trained == [42, 43, 43]
    assert model.read_bytes() == before
    assert not list((workspace.private / "ray").glob("mvtec-*"))


@pytest.mark.slow
@pytest.mark.ray
def test_a_method_without_gradients_has_nothing_to_show_on_the_way(several):
    params = yaml.safe_load((several / "params.yaml").read_text())
    params["train"]["mvtec"] = {"model": "patchcore", "batch_size": 4, "evaluate_at": [0.5]}
    before = (several / "params.yaml").read_text()
    (several / "params.yaml").write_text(yaml.safe_dump(params))
    failed = stage("train", "mvtec", cwd=several)
    (several / "params.yaml").write_text(before)
    assert failed.returncode == 2
    assert "params.yaml: train.mvtec.evaluate_at: `model: patchcore` has no maps before its end" in failed.stderr
