"""The plan against what really gets made; the memory and the rest of a whole run are compared in test_pipeline.py."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import repository_params, save_image
from PIL import Image

from invad.config import CocoAdSplitConfig, DownloadConfig, FeaturesConfig, FolderSplitConfig, InvADConfig, load_params
from invad.datasets.coco_ad import fold_rows, held_out_categories, read_both
from invad.datasets.counts import VISA_COUNTS, count_images
from invad.datasets.download import prepare_dataset
from invad.datasets.mvtec import build_mvtec
from invad.datasets.split_table import Split, SplitRow
from invad.datasets.splits import build_split
from invad.datasets.visa import build_visa
from invad.encoders import build_encoder
from invad.features import extract_features
from invad.methods import EncoderOutput, build_method
from invad.model_folder import ModelConfig, save_model
from invad.plan import plan_stages, plan_text, size_text
from invad.planning import disk, embedded
from invad.planning.archives import IMAGE_BYTES, ImageFetches
from invad.planning.encoders import ENCODERS, feature_bytes
from invad.planning.network import network_size
from invad.planning.states import folder_bytes, stage_states
from invad.workspace import Workspace

WORKSPACE = Workspace()


@pytest.fixture
def planned(write_params):
    """Return the plans of a params.yaml by stage, in the current, first empty folder."""

    def plan(params: dict) -> dict:
        return {each.stage: each for each in plan_stages(load_params(write_params(params)), WORKSPACE)}

    return plan


def as_in_the_paper(params: dict) -> dict:
    for name, download in params["download"].items():
        download |= {"source": "official", "accept_license": True}
        if name == "coco":
            download["images"] = "archive"
    for name in params["benchmarks"]:
        params["features"][name] |= {
            "encoder": "wide_resnet50_2",
            "weights": "none",
            "image_size": 256,
            "dtype": "float16",
            "mode": "store",
        }
        params["train"][name] |= {"batch_size": 32, "epochs": 100}
        params["calibration"][name]["share"] = 0.0
    return params


# What the generators make


@pytest.mark.parametrize("image_size", [80, 224])
@pytest.mark.parametrize(("dataset", "train", "test"), [("coco", 40, 24), ("mvtec", 4, 7), ("visa", 4, 7)])
def test_the_size_of_generated_files_is_known_within_15_percent(dataset, train, test, image_size, tmp_path):
    config = DownloadConfig("embedded", train_images=train, test_images=test, image_size=image_size)
    prepare_dataset(dataset, config, Workspace(tmp_path))
    raw = Workspace(tmp_path).raw(dataset)
    assert embedded.raw_bytes(dataset, config) == pytest.approx(folder_bytes(raw), rel=0.15)
    masks = {"Masks", "ground_truth"}
    pictures = [path for path in raw.rglob("*") if path.suffix in (".jpg", ".JPG", ".png")]
    assert embedded.image_files(dataset, config) == sum(not masks & set(path.parts) for path in pictures)
    if dataset == "mvtec":
        assert embedded.class_counts(dataset, config) == count_images(build_mvtec(raw, FolderSplitConfig()))
    if dataset == "visa":
        assert embedded.class_counts(dataset, config) == count_images(build_visa(raw))


def test_the_images_of_generated_folds_are_known_within_15_percent(tmp_path):
    config = DownloadConfig("embedded", seed=4, train_images=90, test_images=60, image_size=64)
    prepare_dataset("coco", config, Workspace(tmp_path))
    files = read_both(Workspace(tmp_path).raw("coco"))
    for fold in range(4):
        split = CocoAdSplitConfig(fold)
        real = count_images(fold_rows(*files, split))["coco"]
        expected = embedded.fold_counts(held_out_categories(files[1].categories, split), config)
        assert expected[:2] == pytest.approx(real[:2], rel=0.15)
        assert expected.test_anomalous == pytest.approx(real.test_anomalous, abs=0.1 * config.test_images)
        assert sum(expected[1:]) == pytest.approx(sum(real[1:]), rel=0.05)


# What encoder and network take


@pytest.mark.parametrize("name", ENCODERS)
def test_the_table_of_encoders_says_what_timm_builds(name):
    encoder = build_encoder(name, "none")
    assert encoder.channels == ENCODERS[name].channels
    assert (
        sum(tensor.numel() * tensor.element_size() for tensor in encoder.state_dict().values())
        == ENCODERS[name].weight_bytes
    )


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_features_take_as_many_bytes_as_planned(dtype, tmp_path):
    rows = [
        SplitRow(f"{number}.png", "one", phase, 0, "good", None, 8, 8, "mvtec")
        for number, phase in enumerate(["train"] * 17 + ["test"] * 3)
    ]
    for row in rows:
        save_image(tmp_path / row.image)
    config = FeaturesConfig("mobilenetv2_100", "none", 64, dtype)
    extract_features(Split(tuple(rows), tmp_path, tmp_path), config, tmp_path / "features")
    assert 20 * feature_bytes(config) == pytest.approx(folder_bytes(tmp_path / "features"), rel=0.02)


def test_a_model_takes_as_many_bytes_as_planned(tmp_path):
    features, train = FeaturesConfig("mobilenetv2_100", "none", 64), InvADConfig(blocks=3)
    method = build_method(EncoderOutput("mobilenetv2_100", (24, 32, 96), 64), train)
    config, encoder = (
        ModelConfig("b", ("one",), (24, 32, 96), "", features, train),
        build_encoder("mobilenetv2_100", "none"),
    )
    save_model(method, config, tmp_path / "model", encoder)
    real = (tmp_path / "model/model.safetensors").stat().st_size
    network = network_size(features, train, 4)
    assert network.file_bytes == pytest.approx(real, rel=0.001)
    planned = disk.model_bytes(network, ENCODERS["mobilenetv2_100"], steps=0)
    assert planned == pytest.approx(folder_bytes(tmp_path / "model"), rel=0.01)


def test_the_papers_network_has_its_parameters_and_activations_grow_with_the_batch():
    features = FeaturesConfig("wide_resnet50_2", "none", 256)
    one, four, eight = (network_size(features, InvADConfig(), batch) for batch in (1, 4, 8))
    assert 4 * 70_768_560 <= one.weight_bytes < 4 * 70_768_560 * 1.001  # and BatchNorm's statistics
    assert eight.kept_bytes - four.kept_bytes == pytest.approx(4 * (eight.kept_bytes - one.kept_bytes) / 7)


# The whole plan


def test_the_plan_of_the_paper(planned, params_dict):
    plans = planned(as_in_the_paper(params_dict))
    values = 256 * 64**2 + 512 * 32**2 + 1024 * 16**2  # 1.835 million an image
    assert plans["features@mvtec"].disk == 2 * values * (3_629 + 467 + 1_258)
    assert plans["train@mvtec"].mapped == 2 * values * 3_629 == pytest.approx(13.3e9, rel=0.01)
    assert plans["train@visa"].mapped == pytest.approx(31.8e9, rel=0.01)
    assert plans["splits@coco_ad_0"].images == 30_438 + 1_291 + 3_661
    assert plans["train@coco_ad_0"].steps == 100 * (30_438 // 32)
    assert plans["score@coco_ad_3"].disk == pytest.approx(4_952 * 256**2 * 5, rel=0.001)
    assert plans["evaluate@visa"].images == 962 + 1_200
    assert plans["download@coco"].download == 252_907_541 + 815_585_330 + 19_336_861_798
    assert plans["download@coco"].disk == pytest.approx(2 * 20.5e9, rel=0.02)  # the archives are kept
    assert plans["download@visa"].images == 10_821
    assert {plan.done for plan in plans.values()} == {"to do"}
    for name in params_dict["benchmarks"]:
        assert plans[f"splits@{name}"].notes == ("images as published, counted when the data are there",)


def test_live_features_take_no_disk_but_memory_where_the_encoder_runs(planned):
    params = as_in_the_paper(repository_params("coco_ad_0"))
    stored = planned(params)
    params["features"]["coco_ad_0"]["mode"] = "live"
    live = planned(params)
    assert (stored["features@coco_ad_0"].disk, live["features@coco_ad_0"].disk) == (
        2 * 1_835_008 * 35_390,
        pytest.approx(800, rel=0.15),
    )
    for stage in ("train@coco_ad_0", "score@coco_ad_0"):
        assert stored[stage].mapped > 1e9
        assert live[stage].mapped == 0
        assert live[stage].memory - stored[stage].memory > ENCODERS["wide_resnet50_2"].weight_bytes
    assert live["features@coco_ad_0"].memory < stored["features@coco_ad_0"].memory


def test_the_file_that_stands_for_live_features_is_as_large_as_planned_and_found(tmp_path):
    save_image(tmp_path / "a.png")
    rows = tuple(SplitRow("a.png", "one", phase, 0, "good", None, 8, 8, "mvtec") for phase in ("train", "test"))
    config = FeaturesConfig("wide_resnet50_2", "none", 256, mode="live")
    extract_features(Split(rows, tmp_path, tmp_path), config, tmp_path / "features")
    assert disk.features_bytes(2, config) == pytest.approx(folder_bytes(tmp_path / "features"), rel=0.15)
    held_out = SplitRow("a.png", "one", "calibration", 0, "good", None, 8, 8, "mvtec")
    extract_features(Split((*rows, held_out), tmp_path, tmp_path), config, tmp_path / "features")
    assert disk.features_bytes(3, config, phases=3) == pytest.approx(folder_bytes(tmp_path / "features"), rel=0.15)


def test_archives_are_not_kept_where_the_settings_say_so(planned):
    params = as_in_the_paper(repository_params("visa"))
    params["download"]["visa"]["keep_archives"] = False
    plan = planned(params)["download@visa"]
    assert plan.disk == 1_929_840_640
    assert plan.writes == {WORKSPACE.store("visa"): 2 * 1_929_840_640}  # the archive is there until it is unpacked


def test_what_has_been_fetched_is_not_fetched_again(planned, tmp_path):
    params = as_in_the_paper(repository_params("visa"))
    planned(params)
    store = WORKSPACE.store("visa")
    (store / "archives").mkdir(parents=True)
    (store / "archives/VisA_20220922.tar.part").write_bytes(bytes(1_000_000))
    plan = planned(params)["download@visa"]
    assert (plan.download, plan.done) == (1_928_840_640, "partly")

    (store / "files/.unpacked").mkdir(parents=True)
    (store / "files/candle").mkdir()
    marker = {"archive": "VisA_20220922.tar", "sha256": "0", "entries": {"candle": 0}}
    (store / "files/.unpacked/VisA_20220922.tar.json").write_text(json.dumps(marker))
    plan = planned(params)["download@visa"]
    assert (plan.download, plan.writes) == (0, {store: 0})

    params["download"]["visa"]["files"] = {"VisA_20220922.tar": str(tmp_path / "mine.tar")}
    (store / "files/.unpacked/VisA_20220922.tar.json").unlink()
    plan = planned(params)["download@visa"]
    assert (plan.download, plan.disk) == (0, 1_929_840_640)  # a local file is neither fetched nor copied


def test_a_class_whose_archive_has_no_published_size_is_noted(planned):
    params = as_in_the_paper(repository_params("mvtec"))
    params["download"]["mvtec"]["classes"] = ["leather"]
    plans = planned(params)
    assert plans["splits@mvtec"].images == 245 + 32 + 92
    assert 0.2e9 < plans["download@mvtec"].download < 0.8e9
    assert "the size of leather.tar.xz is not published, an estimate" in plans["download@mvtec"].notes


def test_needed_images_are_planned_once_for_all_folds(planned):
    params = as_in_the_paper(repository_params("coco_ad_0", "coco_ad_1", "coco_ad_2", "coco_ad_3"))
    params["download"]["coco"]["images"] = "needed"
    plans = planned(params)
    assert plans["download@coco"].download == 252_907_541
    train, test = IMAGE_BYTES["train"], IMAGE_BYTES["test"]
    assert plans["splits@coco_ad_0"].download == round(30_438 * train + 4_952 * test)
    assert plans["splits@coco_ad_1"].download == round(65_133 * train)  # the test images are those of fold 0
    fetched = sum(plans[f"splits@coco_ad_{fold}"].download for fold in range(4))
    assert fetched == pytest.approx(117_266 * train + 4_952 * test, abs=4)
    assert "folds share some" in plans["splits@coco_ad_2"].notes[1]


def test_images_of_known_names_are_fetched_once(tmp_path):
    (tmp_path / "train2017").mkdir()
    (tmp_path / "train2017/1.jpg").write_bytes(b"there")
    fetches = ImageFetches(tmp_path)
    first = fetches.of_names(["train2017/1.jpg", "train2017/2.jpg", "val2017/1.jpg"])
    assert first.disk == round(2 * IMAGE_BYTES["train"] + IMAGE_BYTES["test"])
    assert first.download == round(IMAGE_BYTES["train"] + IMAGE_BYTES["test"])
    second = fetches.of_names(["train2017/2.jpg", "train2017/3.jpg", "val2017/1.jpg"])
    assert second.download == round(IMAGE_BYTES["train"])


def test_weights_of_a_hub_are_downloaded_once(planned, monkeypatch):
    params = repository_params("mvtec", "visa")
    for name in ("mvtec", "visa"):
        params["features"][name] |= {"encoder": "resnet34", "weights": "resnet34.no_such_weights"}
    plans = planned(params)
    assert (plans["features@mvtec"].download, plans["features@visa"].download) == (87_259_072, 0)
    assert "is an estimate" in plans["features@mvtec"].notes[0]


def test_the_generated_data_are_planned_and_then_counted(planned):
    params = repository_params("mvtec")
    params["download"]["mvtec"] |= {"train_images": 5, "test_images": 7, "image_size": 64}
    params["train"]["mvtec"] |= {"batch_size": 4, "epochs": 3}
    before = planned(params)
    settings = load_params()
    prepare_dataset("mvtec", settings.dataset("mvtec"), WORKSPACE)
    build_split(settings.benchmark("mvtec"), WORKSPACE)
    after = planned(params)
    stages = ("download", "splits", "features", "train", "calibrate", "score", "evaluate")
    assert [after[f"{stage}@mvtec"].done for stage in stages] == ["there", "there", *["to do"] * 5]
    for label in before:
        assert (after[label].images, after[label].steps) == (before[label].images, before[label].steps)
    # Of the five of each of the three classes, one is held out.
    assert (before["train@mvtec"].images, before["train@mvtec"].steps) == (12, 3 * (12 // 4))
    assert before["calibrate@mvtec"].images == 3
    assert before["splits@mvtec"].images == before["features@mvtec"].images == 15 + 21
    assert before["score@mvtec"].images == 21
    assert after["download@mvtec"].disk == folder_bytes(WORKSPACE.raw("mvtec"))
    assert after["splits@mvtec"].disk == pytest.approx(folder_bytes(WORKSPACE.split("mvtec")), rel=0.15)
    assert before["download@mvtec"].writes == {Path(): 2 * before["download@mvtec"].disk}  # DVC's cache has them too
    assert after["download@mvtec"].writes == {Path(): 0}


def test_settings_and_files_that_dvc_did_not_record_are_to_do(planned):
    params = repository_params("mvtec")
    planned(params)
    raw = WORKSPACE.raw("mvtec")
    raw.mkdir(parents=True)
    (raw / "source.json").write_text(
        '{"dataset": "mvtec", "source": "embedded", "root": ".", "sha256": "0"}', encoding="utf-8"
    )
    size = folder_bytes(raw)

    def state(settings: dict, recorded_size: int) -> str:
        entry = {
            "params": {"params.yaml": {"download.mvtec": settings}},
            "outs": [{"path": "data/raw/mvtec", "size": recorded_size}],
        }
        Path("dvc.lock").write_text(yaml.safe_dump({"stages": {"download@mvtec": entry}}))
        return planned(params)["download@mvtec"].done

    recorded = params["download"]["mvtec"]
    assert state(recorded, size) == "there"
    assert state({**recorded, "classes": []}, size) == "there"  # a default that is written out
    assert state({**recorded, "seed": 1}, size) == "to do"
    assert state({**recorded, "of_an_older_version": 1}, size) == "to do"
    assert state(recorded, size + 1) == "to do"
    params["download"]["mvtec"] |= {"source": "official", "accept_license": True}
    assert state(params["download"]["mvtec"], size) == "to do"


def test_another_false_positive_rate_leaves_model_and_scores_there(write_params):
    params = repository_params("mvtec")
    settings = load_params(write_params(params))
    for path in (
        WORKSPACE.split("mvtec") / "split.parquet",
        *(WORKSPACE.features("mvtec") / f"{phase}-00000.arrow" for phase in ("train", "test")),
        *(
            WORKSPACE.model("mvtec") / name
            for name in ("model.safetensors", "encoder.safetensors", "config.json", "calibration.json")
        ),
        WORKSPACE.loss("mvtec"),
        WORKSPACE.cost("mvtec"),
        WORKSPACE.scores("mvtec") / "scores.parquet",
        WORKSPACE.metrics("mvtec"),
        WORKSPACE.summary("mvtec"),
        WORKSPACE.curves("mvtec"),
        *(WORKSPACE.reports / name for name in ("index.html", "tables/main.md", "figures/scores_mvtec.png")),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    WORKSPACE.raw("mvtec").mkdir(parents=True)
    source = {"dataset": "mvtec", "source": "embedded", "root": ".", "sha256": "0"}
    (WORKSPACE.raw("mvtec") / "source.json").write_text(json.dumps(source))
    recorded = {
        "calibration.mvtec.seed": 0,
        "calibration.mvtec.share": 0.1,
        "calibration.mvtec.false_positive_rate": 0.01,
        "splits.mvtec": params["splits"]["mvtec"],
        "score.mvtec": params["score"]["mvtec"],
    }
    entry = {"params": {"params.yaml": recorded}}
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": {"splits@mvtec": entry, "calibrate@mvtec": entry}}))
    assert set(stage_states(settings, WORKSPACE).values()) == {"there"}

    params["calibration"]["mvtec"]["false_positive_rate"] = 0.05
    states = stage_states(load_params(write_params(params)), WORKSPACE)
    to_do = {label for label, state in states.items() if state == "to do"}
    assert to_do == {"calibrate@mvtec", "evaluate@mvtec", "report"}
    params["calibration"]["mvtec"]["share"] = 0.2
    states = stage_states(load_params(write_params(params)), WORKSPACE)
    assert [label for label, state in states.items() if state == "there"] == ["download@mvtec"]


def test_what_is_held_out_is_planned_and_what_is_not_is_said(planned):
    params = as_in_the_paper(repository_params("visa", "coco_ad_0"))
    assert planned(params)["calibrate@visa"].notes == (
        "no normal image is held out; set calibration.visa.share above 0",
    )
    params["calibration"]["visa"]["share"] = params["calibration"]["coco_ad_0"]["share"] = 0.1
    plans = planned(params)
    assert plans["calibrate@visa"].images == sum(round(0.1 * counts.train) for counts in VISA_COUNTS.values())
    assert plans["calibrate@visa"].images == 54 + 4 * 45 + 7 * 90
    assert plans["train@visa"].images + plans["calibrate@visa"].images == 8_659
    assert plans["splits@coco_ad_0"].images == 30_438 + 1_291 + 3_661
    assert (plans["train@coco_ad_0"].images, plans["calibrate@coco_ad_0"].images) == (30_438 - 3_044, 3_044)
    assert plans["calibrate@visa"].memory > plans["score@visa"].memory  # the scores above the threshold


def test_a_later_stage_is_to_do_when_an_earlier_one_is(planned):
    params = repository_params("mvtec")
    planned(params)
    (WORKSPACE.scores("mvtec")).mkdir(parents=True)
    (WORKSPACE.scores("mvtec") / "scores.parquet").touch()
    assert planned(params)["score@mvtec"].done == "to do"


def test_a_training_that_can_go_on_is_partly_done(planned):
    params = repository_params("mvtec")
    planned(params)
    checkpoint = WORKSPACE.private / "ray/mvtec-0123/checkpoint-00000200.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    assert planned(params)["train@mvtec"].done == "partly"


def test_images_of_ones_own_folder_are_counted(planned, mvtec_root):
    params = repository_params("mvtec")
    params["download"]["mvtec"] = {"source": "path", "path": str(mvtec_root)}
    params["train"]["mvtec"]["batch_size"] = 4
    plans = planned(params)
    assert [plans[f"{stage}@mvtec"].images for stage in ("train", "calibrate", "score")] == [1, 1, 3]
    assert plans["train@mvtec"].steps == 0
    assert plans["train@mvtec"].notes == ("will refuse to run: batch_size 4 is more than its images",)


def test_images_of_ones_own_table_are_counted(planned, tmp_path):
    params = repository_params("mvtec")
    for section in ("benchmarks", "splits", "calibration", "features", "train", "score"):
        params[section]["own"] = params[section].pop("mvtec")
    params["benchmarks"]["own"], params["splits"]["own"] = "own", {"seed": 0, "test_share": 0.25}
    params["download"] = {"own": {"source": "path", "path": str(tmp_path / "images"), "table": "data/import/own.csv"}}
    lines = ["image,class,phase,label,defect_type,mask"]
    for number in range(8):
        save_image(tmp_path / f"images/{number}.png")
        lines.append(f"{number}.png,part,,0,good,")
    (tmp_path / "data/import").mkdir(parents=True)
    (tmp_path / "data/import/own.csv").write_text("\n".join(lines) + "\n")
    plans = planned(params)
    assert [plans[f"{stage}@own"].images for stage in ("train", "calibrate", "score")] == [5, 1, 2]
    assert plans["download@own"].disk == (tmp_path / "data/import/own.csv").stat().st_size


def test_what_is_unknown_is_said(planned, tmp_path):
    params = as_in_the_paper(repository_params("coco_ad_0", "mvtec"))
    params["splits"]["coco_ad_0"] = {"fold": 0, "held_out": 10}
    params["download"]["mvtec"] = {"source": "path", "path": str(tmp_path / "nowhere")}
    plans = planned(params)
    for stage in ("splits", "features", "calibrate", "score"):
        assert plans[f"{stage}@coco_ad_0"].disk is None
        assert plans[f"{stage}@coco_ad_0"].images is None
    assert plans["train@mvtec"].steps is None
    assert plans["evaluate@mvtec"].memory is None
    assert "10 held-out categories" in plans["splits@coco_ad_0"].notes[0]
    assert f"{tmp_path}/nowhere is not there" in plans["splits@mvtec"].notes[0]
    text = plan_text(load_params(), WORKSPACE)
    assert "> " in next(line for line in text.splitlines() if line.startswith("total"))
    assert " ? " in next(line for line in text.splitlines() if line.startswith("features@coco_ad_0"))


def test_damaged_data_are_unknown_images(planned, mvtec_root):
    mask = next(mvtec_root.glob("*/ground_truth/*/001_mask.png"))
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(mask)
    params = repository_params("mvtec")
    params["download"]["mvtec"] = {"source": "path", "path": str(mvtec_root)}
    plan = planned(params)["splits@mvtec"]
    assert plan.images is None
    assert "001_mask.png" in plan.notes[0]


# The text


def test_sizes_are_for_people():
    sizes = (0, 999, 1000, 12_345, 99_949_999, 99_960_000, 999_600, 1.835e9, 5.5e12, None)
    expected = ("0 B", "999 B", "1.0 kB", "12.3 kB", "99.9 MB", "100 MB", "1.0 MB", "1.8 GB", "5.5 TB", "?")
    assert tuple(map(size_text, sizes)) == expected


def test_the_text_has_a_line_for_every_stage_and_the_totals(planned, params_dict):
    plans = planned(params_dict)
    lines = plan_text(load_params(), WORKSPACE).splitlines()
    assert lines[0].split() == ["stage", "download", "disk", "memory", "images", "steps", "state"]
    assert [line.split()[0] for line in lines[1 : len(plans) + 1]] == list(plans)
    total = lines[len(plans) + 1]
    assert total.startswith("total") and size_text(sum(plan.disk for plan in plans.values())) in total
    assert any("GPU memory" in line for line in lines)
    notes = Counter(line for line in lines if line.startswith("note: "))
    assert set(notes.values()) == {1}
    assert "note: download@coco, download@mvtec, download@visa: the size of the generated files is an estimate" in notes


def test_a_disk_without_room_is_a_warning(planned, monkeypatch):
    plans = planned(repository_params("mvtec"))
    needed = sum(sum(plan.writes.values()) for plan in plans.values())
    assert needed > sum(plan.disk for plan in plans.values())
    for free, warned in ((needed, False), (needed - 1000, True)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: type("Usage", (), {"free": free}))
        text = plan_text(load_params(), WORKSPACE)
        assert ("WARNING: 1.0 kB are lacking" in text) == warned
