"""The plan, by numbers that are derived by hand and against what really gets written; test_pipeline.py has a whole run."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from conftest import profile_params, repository_params, save_image

from invad.config import DRAEMConfig, FeaturesConfig, load_params
from invad.config.profiles import PROFILES
from invad.data.arrow import map_file
from invad.data.download import prepare_dataset
from invad.data.split_table import Split, SplitRow
from invad.data.splits import build_split
from invad.disk import readable
from invad.errors import InputError
from invad.features import extract_features
from invad.methods import EncoderOutput
from invad.pipeline.plan import DataPlan, Images, TrainingPlan, feature_bytes, make_plan, map_bytes, plan_text
from invad.pipeline.stages import check
from invad.scoring.store import open_scores, write_scores
from invad.training.cost import painted_training_multiply_adds
from invad.training.loop import epoch_batches
from invad.workspace import Workspace

WORKSPACE = Workspace()
VISA_BYTES = 1_929_840_640  # of the archive, a plain tar


@pytest.fixture
def planned(write_params):
    """Return the plan of a params.yaml in the current, first empty folder."""

    def plan(params: dict) -> tuple[list[DataPlan], list[TrainingPlan]]:
        return make_plan(load_params(write_params(params)), WORKSPACE)

    return plan


@pytest.fixture
def text(write_params):
    """Return the lines of the plan of a params.yaml in the current, first empty folder."""

    def lines(params: dict) -> list[str]:
        return plan_text(load_params(write_params(params)), WORKSPACE).splitlines()

    return lines


def training(plan: tuple[list[DataPlan], list[TrainingPlan]], name: str) -> TrainingPlan:
    return next(each for each in plan[1] if each.name == name)


def numbers(images: Images) -> tuple[int, int, int]:
    return images.train, images.held_out, images.test


def official(*benchmarks: str) -> dict:
    """Settings of the official data sets, with the paper's features and batches, stored."""
    params = repository_params(*benchmarks)
    for download in params["download"].values():
        download |= {"source": "official", "accept_license": True}
    for name in {entry["settings"] for entry in params["benchmarks"].values()}:
        params["features"][name] = {"encoder": "wide_resnet50_2", "weights": "none", "image_size": 256}
        params["train"][name] |= {"batch_size": 32, "epochs": 100}
        params["calibration"][name]["share"] = 0.0
    return params


# Bytes of what stages write


@pytest.mark.parametrize(("dtype", "size"), [("float16", 2), ("float32", 4)])
def test_features_take_exactly_the_planned_bytes_beside_the_headers_of_their_files(dtype, size, tmp_path):
    phases = ["train"] * 17 + ["calibration"] * 2 + ["test"] * 3
    rows = tuple(
        SplitRow(f"{number}.png", "one", phase, 0, "good", None, 8, 8, "mvtec") for number, phase in enumerate(phases)
    )
    for row in rows:
        save_image(tmp_path / row.image)
    config = FeaturesConfig("mobilenetv2_100", "none", 64, dtype)
    extract_features(Split(rows, tmp_path, tmp_path), config, tmp_path / "features")
    planned = feature_bytes(len(rows), config)
    assert planned == 22 * (24 * 16**2 + 32 * 8**2 + 96 * 4**2) * size
    files = sorted((tmp_path / "features").iterdir())
    levels = [tensor_bytes(map_file(path), f"level_{level}") for path in files for level in range(3)]
    assert sum(levels) == planned
    assert 0 < sum(path.stat().st_size for path in files) - planned < 4096 * len(files)


def tensor_bytes(table: pa.Table, column: str) -> int:
    return sum(chunk.storage.flatten().nbytes for chunk in table.column(column).chunks)


def test_features_that_are_not_stored_take_no_bytes():
    assert feature_bytes(1000, FeaturesConfig("wide_resnet50_2", "none", 256, mode="live")) == 0


@pytest.mark.parametrize(
    ("encoder", "channels"),
    [("mobilenetv2_100", (24, 32, 96)), ("resnet34", (64, 128, 256)), ("wide_resnet50_2", (256, 512, 1024))],
)
def test_the_bytes_of_features_follow_from_the_channels_of_each_stride(encoder, channels):
    values = sum(width * grid**2 for width, grid in zip(channels, (64, 32, 16), strict=True))
    assert feature_bytes(3, FeaturesConfig(encoder, "none", 256)) == 3 * values * 2


def test_maps_take_exactly_the_planned_bytes_beside_the_headers_of_their_files(tmp_path):
    columns = {"image": ["a", "b", "c"], "class": ["one"] * 3, "label": [0, 1, 1], "defect_type": ["good", "x", "x"]}
    maps, masks = np.ones((3, 32, 32), np.float32), np.zeros((3, 32, 32), bool)
    write_scores(pa.table(columns | {"has_mask": [True] * 3}), [(maps, masks, maps.max((1, 2)))], tmp_path / "scores")
    planned = map_bytes(Images(5, 0, 3), 32)
    assert planned == 3 * 32**2 * (4 + 1)
    scores = open_scores(tmp_path / "scores")
    assert sum(batch.nbytes for batch in (*scores.maps_nhw, *scores.masks_nhw)) == planned
    assert 0 < (tmp_path / "scores/maps-00000.arrow").stat().st_size - planned < 2048
    assert map_bytes(Images(5, 2, 3), 32) == planned + 2 * 32**2 * 5


# Images and steps


def test_the_plan_of_the_published_data_sets(planned):
    params = official("coco_ad_0", "coco_ad_1", "mvtec", "visa")
    plan = planned(params)
    image = 2 * (256 * 64**2 + 512 * 32**2 + 1024 * 16**2)  # 3.67 MB
    mvtec, visa, coco = (training(plan, name) for name in ("mvtec", "visa", "coco_ad_1"))
    assert mvtec == TrainingPlan(
        "mvtec",
        Images(3_629, 0, 467 + 1_258),
        steps=100 * (3_629 // 32),
        features=image * 5_354,
        maps=1_725 * 256**2 * 5,
    )
    assert (numbers(visa.images), visa.steps) == ((8_659, 0, 962 + 1_200), 27_000)
    assert (numbers(coco.images), coco.steps) == ((65_133, 0, 2_785 + 2_167), 203_500)
    assert [each.fetch for each in plan[0]] == [252_907_541 + 815_585_330 + 19_336_861_798, 5_264_982_680, VISA_BYTES]
    assert [each.disk - each.fetch for each in plan[0]] == [
        490_000_000 + 815_585_330 + 19_336_861_798,  # JPEGs unpack to what they take in a zip
        5_264_982_680,
        VISA_BYTES,
    ]


def test_what_is_held_out_is_not_trained_on(planned):
    params = official("visa", "coco_ad_0")
    params["calibration"]["visa"]["share"] = params["calibration"]["coco"]["share"] = 0.1
    plan = planned(params)
    held_out = 54 + 4 * 45 + 7 * 90  # a tenth of each class: of 542, of four with 450 or 453, of seven with 900 to 905
    assert numbers(training(plan, "visa").images) == (8_659 - held_out, held_out, 2_162)
    assert training(plan, "visa").maps == 256**2 * 5 * (2_162 + held_out)
    assert numbers(training(plan, "coco_ad_0").images) == (30_438 - 3_044, 3_044, 4_952)


def test_steps_are_the_trainers(planned):
    params = repository_params("visa")
    params["train"]["visa"] |= {"batch_size": 7, "epochs": 3}
    each = training(planned(params), "visa")
    config = load_params().benchmark("visa").train
    assert each.steps == sum(len(epoch_batches(each.images.train, epoch, config)) for epoch in range(3)) == 3 * 15


def test_a_batch_that_is_larger_than_the_images_is_refused(planned):
    params = repository_params("mvtec")
    params["train"]["mvtec"]["batch_size"] = 200
    with pytest.raises(InputError, match=r"params\.yaml: train\.mvtec\.batch_size: 200 is more than the 108 training"):
        planned(params)


def test_what_is_learned_without_gradients_is_one_step_whatever_its_batches(planned):
    params = repository_params("mvtec")
    params["train"]["mvtec"] = {"model": "patchcore", "batch_size": 200}
    each = training(planned(params), "mvtec")
    assert each.steps == 1


def test_generated_images_are_counted_from_the_settings_and_then_in_the_split_table(planned):
    params = repository_params("mvtec", "coco_ad_0")
    params["download"]["mvtec"] |= {"train_images": 5, "test_images": 7, "image_size": 64}
    params["download"]["coco"] |= {"train_images": 20, "test_images": 12, "image_size": 64}
    for name in ("mvtec", "coco"):
        params["train"][name] |= {"batch_size": 4, "epochs": 3}
    before = planned(params)
    settings = load_params()
    for dataset in ("mvtec", "coco"):
        prepare_dataset(dataset, settings.dataset(dataset), WORKSPACE)
    splits = {name: build_split(settings.benchmark(name), WORKSPACE) for name in ("mvtec", "coco_ad_0")}
    after = planned(params)
    # Of three classes with five images each, one is held out.
    assert training(before, "mvtec").images == Images(12, 3, 21)
    assert training(after, "mvtec").images == Images(12, 3, 21)
    assert training(before, "mvtec").steps == training(after, "mvtec").steps == 3 * 3
    # Which of COCO's scenes are normal shows when they are drawn.
    assert training(before, "coco_ad_0") == TrainingPlan("coco_ad_0", None)
    phases = [len(splits["coco_ad_0"].phase(phase)) for phase in ("train", "calibration", "test")]
    assert numbers(training(after, "coco_ad_0").images) == tuple(phases)
    assert training(after, "coco_ad_0").steps == 3 * (phases[0] // 4)


@pytest.mark.parametrize("dataset", ["btad", "vad", "realiad"])
def test_generated_images_of_other_layouts_are_those_that_come(planned, dataset):
    """Of Real-IAD's, in views of an object: 7 and 8 images are of two objects each, and one object is held out."""
    params = repository_params("visa")
    params["download"] = {dataset: {"source": "embedded", "train_images": 7, "test_images": 8, "image_size": 64}}
    params["benchmarks"] = {dataset: {"dataset": dataset, "settings": "visa"}}
    params["train"]["visa"]["batch_size"] = 2
    before = training(planned(params), dataset).images
    settings = load_params()
    prepare_dataset(dataset, settings.dataset(dataset), WORKSPACE)
    split = build_split(settings.benchmark(dataset), WORKSPACE)
    assert numbers(before) == tuple(len(split.phase(phase)) for phase in ("train", "calibration", "test"))
    assert training(planned(params), dataset).images == before


def test_a_split_table_of_another_source_is_not_counted(planned):
    params = repository_params("mvtec")
    planned(params)
    prepare_dataset("mvtec", load_params().dataset("mvtec"), WORKSPACE)
    build_split(load_params().benchmark("mvtec"), WORKSPACE)
    assert training(planned(params), "mvtec").images == Images(108, 12, 90)
    assert training(planned(official("mvtec")), "mvtec").images == Images(3_629, 0, 1_725)


def test_images_of_ones_own_are_unknown_until_their_split_table_is_there(planned, mvtec_root):
    params = repository_params("mvtec")
    params["download"]["mvtec"] = {"source": "path", "path": str(mvtec_root)}
    params["splits"]["mvtec"]["strict"] = False
    params["train"]["mvtec"]["batch_size"] = 1
    assert training(planned(params), "mvtec").images is None
    prepare_dataset("mvtec", load_params().dataset("mvtec"), WORKSPACE)
    build_split(load_params().benchmark("mvtec"), WORKSPACE)
    plan = planned(params)
    assert numbers(training(plan, "mvtec").images) == (1, 1, 3)
    assert (plan[0][0].fetch, plan[0][0].disk) == (0, 0)  # used where they are


# What is fetched, and room for it


def test_archives_are_not_kept_where_the_settings_say_so(planned):
    params = official("visa")
    params["download"]["visa"]["keep_archives"] = False
    (data,), _ = planned(params)
    assert data.disk == VISA_BYTES


def test_what_has_been_fetched_is_not_fetched_again(planned, tmp_path):
    params = official("visa")
    planned(params)
    store = WORKSPACE.store("visa")
    (store / "archives").mkdir(parents=True)
    (store / "archives/VisA_20220922.tar.part").write_bytes(bytes(1_000_000))
    (data,), _ = planned(params)
    assert (data.fetch, data.disk) == (VISA_BYTES - 1_000_000, 2 * VISA_BYTES)

    (store / "files/.unpacked").mkdir(parents=True)
    (store / "files/candle").mkdir()
    marker = {"archive": "VisA_20220922.tar", "sha256": "0", "entries": {"candle": 0}}
    (store / "files/.unpacked/VisA_20220922.tar.json").write_text(json.dumps(marker))
    (data,), _ = planned(params)
    assert data.fetch == 0

    params["download"]["visa"]["files"] = {"VisA_20220922.tar": str(tmp_path / "mine.tar")}
    (store / "files/.unpacked/VisA_20220922.tar.json").unlink()
    (data,), _ = planned(params)
    assert (data.fetch, data.disk) == (0, VISA_BYTES)  # a local archive is neither fetched nor copied


def test_features_and_maps_that_are_there_need_no_room(planned, text):
    params = repository_params("mvtec")
    each = training(planned(params), "mvtec")
    needed = 2 * (each.features + each.maps)
    assert f": {readable(needed)} to be written" in "".join(text(params))
    WORKSPACE.features("mvtec").mkdir(parents=True)
    (WORKSPACE.features("mvtec") / "train-00000.arrow").write_bytes(bytes(1_000_000))
    assert f": {readable(needed - 2 * 1_000_000)} to be written" in "".join(text(params))


def test_unknown_counts_are_said_and_not_guessed(text):
    params = official("coco_ad_0", "mvtec")
    params["splits"]["coco"] = {"held_out": 10}
    lines = text(params)
    rows = {line.split()[0]: line.split() for line in lines if line}
    assert rows["coco_ad_0"][1:] == ["?"] * 6
    assert rows["mvtec"] == ["mvtec", "3,629", "0", "1,725", "11,300", "19.6GB", "565MB"]
    assert rows["coco"][2:] == ["20.4GB", "41.0GB"]
    assert "note: what is ? is counted in split tables, which `dvc repro download splits` writes" in lines


def test_a_disk_without_room_is_a_warning(text, planned, monkeypatch):
    params = repository_params("mvtec")
    each = training(planned(params), "mvtec")
    needed = 2 * (each.features + each.maps)
    for free, warned in ((needed, False), (needed - 1000, True)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        warnings = [line for line in text(params) if line.startswith("WARNING")]
        assert warnings == (["WARNING: 1.00kB are lacking on that disk; make room or use another one"] * warned)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_text_has_a_line_for_every_data_set_and_training_and_fits_100_columns(profile, tmp_path):
    params = profile_params(profile)
    lines = plan_text(params, Workspace(tmp_path)).splitlines()
    names = [line.split()[0] for line in lines if line]
    assert names[: names.index("disk")] == ["data", *params.download, "benchmark", *params.benchmarks]
    assert max(len(line) for line in lines if not line.startswith(("disk of ", "WARNING"))) <= 100


# What `check` writes


def test_an_ablation_depends_on_the_settings_of_its_benchmark_and_on_no_others(write_params):
    params = repository_params()
    params["ablations"] = {"blocks": {"benchmark": "mvtec", "set": {"train.epochs": 3}}}

    def written(section: str, name: str, **values: object) -> dict:
        params[section][name] |= values
        check("", load_params(write_params(params)), WORKSPACE)
        lines = (line.split("  ") for line in (WORKSPACE.root / "data/code/ablate/blocks.txt").read_text().splitlines())
        return {name: value for value, name in lines}

    before = written("train", "mvtec", seed=1)
    assert (before["mvtec.train.epochs"], before["mvtec.train.seed"]) == ("3", "1")
    assert written("train", "coco", epochs=7) == before
    assert written("score", "mvtec", sigma=1.0) == before | {"mvtec.score.sigma": "1.0"}


# Methods that train on synthetic anomalies


def test_a_training_on_images_is_counted_forward_and_backward():
    forward, first = 197_954_371_584, 3 * 128 * 9 * 256**2  # the first convolution's images need no gradient
    similarity = (5 + 3) * 3 * 11**2 * 256**2  # windows of SSIM, three of which are of the restored image
    counted = painted_training_multiply_adds(EncoderOutput("none", (), 256), DRAEMConfig(epochs=3, batch_size=8), 17)
    assert counted == 3 * 2 * 8 * (3 * forward - first + similarity)


def test_the_plan_says_what_a_training_on_images_costs(text):
    params = repository_params("mvtec")
    params["features"]["mvtec"] = {"encoder": "none", "weights": "none", "image_size": 64, "mode": "live"}
    params["train"]["mvtec"] = {"model": "draem", "epochs": 2, "width": 4, "segmentation_width": 4}
    lines = text(params)
    (row,) = [line.split() for line in lines if line.startswith("mvtec") and "e+" in line]
    assert row[1] == "208"  # of 108 images two epochs of 13 batches of 8
    assert row[3] == readable(108 * 3 * 64**2)
    assert not any("synthetic" in line for line in text(repository_params("mvtec")))
