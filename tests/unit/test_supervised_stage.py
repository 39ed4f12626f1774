"""Two detectors and SegAD from generated images to the report: what the stages leave, and new images through the model."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import repository_params
from tracking_toys import client_of

import invad
from invad.config import load_params
from invad.data.split_table import open_split
from invad.errors import InputError
from invad.pipeline import stages
from invad.pipeline.dependencies import dependencies
from invad.predict.supervised import load_supervised
from invad.supervised.detections import read_detections
from invad.supervised.segad import class_images
from invad.workspace import Workspace

pytestmark = pytest.mark.slow
LABELLED = {"anomalous": 3, "normal_share": 0.4, "seed": 1}


def settings() -> dict:
    params = repository_params("visa")
    params["download"]["visa"] |= {"train_images": 24, "test_images": 12, "image_size": 96}
    params["features"]["visa"] |= {"image_size": 64, "batch_size": 8}
    params["splits"]["visa"] |= {"labelled": LABELLED}
    params["train"]["visa"] = {"model": "patchcore", "seed": 1, "batch_size": 8}
    params["benchmarks"]["visa_rd"] = {"dataset": "visa", "settings": "visa_rd"}
    for section in ("splits", "calibration", "features", "score"):
        params[section]["visa_rd"] = params[section]["visa"]
    params["train"]["visa_rd"] = {"model": "rd", "epochs": 1, "batch_size": 8, "learning_rate": 0.005, "seed": 1}
    params["supervised"] = {"segad": {"detectors": ["visa", "visa_rd"], "seeds": [3, 4], "trees": 20}}
    return params


def test_from_generated_images_to_the_report(tmp_path, monkeypatch, empty_database):
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(empty_database, "mlflow.db")
    Path("params.yaml").write_text(yaml.safe_dump(settings(), sort_keys=False))
    params, workspace = load_params(), Workspace()
    stages.download("visa", params, workspace)
    for name in params.benchmarks:
        for stage in (stages.splits, stages.features, stages.train, stages.score, stages.evaluate):
            stage(name, params, workspace)
    stages.supervise("segad", params, workspace)
    stages.report("", params, workspace)

    split = open_split(params.benchmark("visa"), workspace)
    labelled = [(row.class_name, row.label) for row in split.phase("labelled")]
    classes = sorted({row.class_name for row in split.rows})
    assert all(labelled.count((name, 1)) == 3 and labelled.count((name, 0)) > 3 for name in classes)

    path = workspace.supervised / "segad.json"
    result = json.loads(path.read_text())
    assert [run["seed"] for run in result["per_seed"]] == [3, 4]
    assert set(result["baselines"]) == {"visa", "visa_rd"}
    of_detector = json.loads(workspace.metrics("visa").read_text())["mean"]["exact"]["image_auroc"]
    assert result["baselines"]["visa"][0]["mean"]["image_auroc"] == pytest.approx(of_detector)

    with (workspace.reports / "tables/supervised.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if not row["class"]]
    assert [row["labels"] for row in rows] == [f"supervised, {len(labelled)} labels", "none", "none"]
    assert "A few labels" in (workspace.reports / "index.html").read_text()

    with (workspace.reports / "tables/datasets.csv").open() as file:
        counts = {(row["labelled_normal"], row["labelled_anomalous"]) for row in csv.DictReader(file)}
    assert counts == {tuple(str(sum(label == kind for _, label in labelled)) for kind in (0, 1))}

    client = client_of(workspace)
    (run,) = client.search_runs([client.get_experiment_by_name("supervised").experiment_id])
    mean = np.mean([each["mean"]["image_auroc"] for each in result["per_seed"]])
    assert run.data.metrics["exact/image_auroc"] == pytest.approx(mean)
    assert run.data.params["supervised.detectors"] == "('visa', 'visa_rd')"

    # New images get what the stage gives.
    detections = read_detections([params.benchmark(name) for name in ("visa", "visa_rd")], workspace)
    images = class_images(params.supervised_method("segad"), detections)[classes[0]]
    shown = images.index[-3:]
    model = load_supervised(workspace.model("segad"))
    found = model.predict([split.image_path(detections.rows[index]) for index in shown], classes[0])
    np.testing.assert_allclose(found.scores, model.model.scores(classes[0], images.features[-3:]), atol=1e-3)
    assert found.anomalous.shape == (3,)
    with pytest.raises(InputError, match="a SegAD, which has no maps"):
        invad.load(workspace.model("segad"))

    # The same again, and what it depends on.
    before = path.read_bytes(), (workspace.model("segad") / "segad.json").read_bytes()
    stages.supervise("segad", params, workspace)
    assert before == (path.read_bytes(), (workspace.model("segad") / "segad.json").read_bytes())
    assert "3, 4]  supervised.segad.seeds" in dependencies(params)["supervise/segad"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"detectors": ["visa", "mvtec"]},
            "supervised.segad.detectors: unknown benchmark 'mvtec'; known are visa, visa_rd",
        ),
        ({"detectors": []}, "supervised.segad.detectors: must be"),
        ({"segments": "folder"}, "supervised.segad.folder: is needed with `segments: folder`, and only there"),
        ({"segments": "vad"}, "supervised.segad.segments: vad has the parts of VAD's product, not those of visa"),
        ({"seeds": [1, 1]}, "supervised.segad.seeds: names one twice"),
        ({"forest": 3}, "supervised.segad.forest: unknown key; known are detectors, segments, "),
    ],
)
def test_a_mistake_in_the_settings_is_named(write_params, change, message):
    params = settings()
    params["supervised"]["segad"] |= change
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        load_params(write_params(params))


def test_detectors_of_other_sizes_and_names_that_are_taken_are_refused(write_params):
    params = settings()
    params["features"]["visa_rd"] = params["features"]["visa_rd"] | {"image_size": 96}
    with pytest.raises(InputError, match="visa has the image size 64, visa_rd 96; they must be the same"):
        load_params(write_params(params))
    params = settings()
    params["supervised"]["visa"] = params["supervised"].pop("segad")
    with pytest.raises(InputError, match=r"supervised.visa: a benchmark has this name"):
        load_params(write_params(params))
    params = settings()
    params["splits"]["visa"] = params["splits"]["visa_rd"] = {"strict": True}
    params["supervised"]["segad"]["redraw"] = True
    with pytest.raises(
        InputError, match=r"supervised.segad.redraw: draws as many images as splits.visa.labelled.anomalous"
    ):
        load_params(write_params(params))
