"""params.yaml: what is accepted, and the one line that a mistake gives."""

from pathlib import Path

import pytest

from invad.config import RDConfig, load_params
from invad.config.methods import INVAD_LITE, INVAD_QUICK
from invad.errors import InputError


def change(params: dict, key: str, value: object) -> None:
    """Set a dotted key, or delete it when `value` is None."""
    *parents, last = key.split(".")
    for parent in parents:
        params = params[parent]
    if value is None:
        del params[last]
    else:
        params[last] = value


def test_the_repositorys_own_params_are_valid():
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    assert list(params.download) == ["coco", "mvtec", "visa"]
    assert [b.dataset for b in params.benchmarks.values()] == ["coco"] * 4 + ["mvtec", "visa"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "train.mvtec.epochz",
            3,
            "train.mvtec.epochz: unknown key; known are precision, channels_last, compile, ",
        ),
        ("train.mvtec.epochs", "3", "train.mvtec.epochs: must be a valid integer, not '3'"),
        ("train.mvtec.epochs", 0, "train.mvtec.epochs: must be greater than or equal to 1, not 0"),
        ("train.mvtec.learning_rate", float("inf"), "train.mvtec.learning_rate: must be a finite number, not inf"),
        ("score.mvtec.sigma", float("nan"), "score.mvtec.sigma: must be 'method' or a finite number, not nan"),
        ("train.mvtec.model", "patchwork", "train.mvtec.model: must be one of invad, rd, "),
        ("train.workers", 0, "train.workers: must be greater than or equal to 1, not 0"),
        ("train.resources_per_worker.gpu", "all", "train.resources_per_worker.gpu: must be 'auto' or a valid number"),
        ("score.workers", 0, "score.workers: must be greater than or equal to 1, not 0"),
        ("score.resources_per_worker.cpu", 0, "score.resources_per_worker.cpu: must be greater than 0, not 0"),
        ("train.wokers", 2, "train.wokers: must be a mapping, not 2"),
        ("train.visa", None, "train.visa: is missing; benchmarks.visa.settings names it, and train has coco, mvtec"),
        ("train.visa", [1], "train.visa: must be a mapping, not [1]"),
        ("features.visa.encoder", "../vgg", "features.visa.encoder: must "),
        (
            "features.visa.encoder",
            "resnet34",
            "features.visa.weights: packaged exists for mobilenetv2_100 and tf_efficientnet_lite0 only",
        ),
        (
            "features.visa.image_size",
            100,
            "features.visa.image_size: must be a multiple of 16, such as 96 or 112, not 100",
        ),
        ("features.visa.dtype", "bfloat16", "features.visa.dtype: must be 'float16' or 'float32', not 'bfloat16'"),
        (
            "benchmarks.visa.dataset",
            "vsa",
            "benchmarks.visa.dataset: unknown data set 'vsa'; known are coco, mvtec, visa",
        ),
        (
            "benchmarks.visa.settings",
            "vsa",
            "splits.vsa: is missing; benchmarks.visa.settings names it, and splits has coco, mvtec, visa",
        ),
        ("benchmarks.visa.settings", None, "benchmarks.visa.settings: is missing"),
        ("benchmarks.visa.seting", "visa", "benchmarks.visa.seting: unknown key; known are dataset, settings, fold"),
        (
            "benchmarks.visa",
            "visa",
            "benchmarks.visa: must be a mapping now, such as {dataset: visa, settings: visa}; the sections splits, ",
        ),
        ("benchmarks", {}, "benchmarks: is empty; give at least one"),
        ("download.coco.source", "path", "download.coco.path: is needed with `source: path`"),
        ("download.coco.path", "/data/coco", "download.coco.path: is needed with `source: path`, and only there"),
        ("download.coco.source", None, "download.coco.source: is missing"),
        (
            "download.imagenet",
            {},
            "download.imagenet: unknown data set; known are coco, mvtec, visa, btad, vad, realiad, and `invad-pipe data",
        ),
        (
            "download.shop",
            {"source": "official", "table": "a.csv"},
            "download.shop.source: must be 'path' for a data set of",
        ),
        ("download.shop", {"source": "path", "table": "a.csv"}, "download.shop.path: is needed with `source: path`"),
        ("download.visa.table", "a.csv", "download.visa.table: is a key of a data set of your own only"),
        ("download.coco.files", ["a.zip"], "download.coco.files: must be "),
        ("download.coco.accept_license", 1, "download.coco.accept_license: must be a valid boolean, not 1"),
        ("benchmarks.coco_ad_3.fold", 4, "splits.coco.fold: must be less than 4 with held_out 20"),
        ("benchmarks.coco_ad_3.fold", None, "benchmarks.coco_ad_3.fold: is needed for COCO-AD, and only there"),
        ("benchmarks.mvtec.fold", 0, "benchmarks.mvtec.fold: is needed for COCO-AD, and only there"),
        ("splits.coco.held_out", 0, "splits.coco.held_out: must be greater than or equal to 1, not 0"),
        (
            "splits.mvtec.fold",
            0,
            "splits.mvtec.fold: unknown key; known are exif_rotation, grey16_white, labelled, strict",
        ),
        ("splits.mvtec.strict", "yes", "splits.mvtec.strict: must be a valid boolean, not 'yes'"),
        ("train.checkpoint_steps", 0, "train.checkpoint_steps: must be greater than or equal to 1, not 0"),
        ("train.mvtec.loss", "l3", "train.mvtec.loss: must be 'l2', 'l1', 'cosine' or 'local-cosine', not 'l3'"),
        ("score.mvtec.map_levels", "all", "score.mvtec.map_levels: must be 'method' or 'concatenated', 'sum', "),
        ("ablations", None, "ablations: this section is missing or not a mapping"),
        ("ablations.ssm", {}, "ablations.ssm.benchmark: is missing"),
        (
            "ablations.ssm",
            {"benchmark": "mvtek"},
            "ablations.ssm.benchmark: unknown benchmark 'mvtek'; known are coco_ad_0, ",
        ),
        (
            "ablations.ssm",
            {"benchmark": "mvtec", "seeds": 0},
            "ablations.ssm.seeds: must be greater than or equal to 1",
        ),
        ("tune.learning_rate.high", 1e-9, "tune.learning_rate.high: must be at least low (0.0005), not 1e-09"),
        ("tune.blocks", [], "tune.blocks: "),
        ("tune.validation_share", 1, "tune.validation_share: must be less than 1, not 1"),
        (
            "train.mvtec",
            {"model": "patchcore", "dimensions": 511},
            "train.mvtec.dimensions: must be a multiple of 2, not 511",
        ),
        ("train", {2024: {}}, "train.2024: a name that YAML reads as something else stands in quotes"),
        ("trian", {}, "unknown section 'trian'; known are download, benchmarks, "),
        ("score", None, "score: this section is missing or not a mapping"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(params_dict, write_params, key, value, message):
    change(params_dict, key, value)
    path = write_params(params_dict)
    with pytest.raises(InputError) as caught:
        load_params(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: {message}")
    assert "\n" not in text


def test_benchmarks_share_settings_and_those_of_none_are_for_experiments(params_dict, write_params):
    params_dict["train"]["coco"]["epochs"] = 7
    params_dict["train"]["rd"] = {"model": "rd", "epochs": 2}
    params = load_params(write_params(params_dict))
    folds = [benchmark for benchmark in params.benchmarks.values() if benchmark.settings == "coco"]
    assert [(each.name, each.splits.fold, each.train.epochs) for each in folds] == [
        (f"coco_ad_{fold}", fold, 7) for fold in range(4)
    ]
    params_dict["benchmarks"]["visa"]["settings"] = "rd"
    for section in ("splits", "calibration", "features", "score"):
        params_dict[section]["rd"] = params_dict[section]["visa"]
    visa = load_params(write_params(params_dict)).benchmark("visa")
    assert (visa.settings, visa.train) == ("rd", RDConfig(epochs=2))


def test_the_section_tune_may_be_left_out(params_dict, write_params):
    params = load_params(write_params(params_dict))
    del params_dict["tune"]
    assert load_params(write_params(params_dict)).tune == params.tune


@pytest.mark.parametrize("left", [{}, {"loss_weight": 1.0, "blocks": 2}, INVAD_LITE, INVAD_QUICK])
def test_another_model_is_an_edit_of_one_word(params_dict, write_params, left):
    """What the profiles have for InvAD may stay."""
    params_dict["train"]["mvtec"] |= {"model": "rd", **left}
    assert load_params(write_params(params_dict)).benchmark("mvtec").train == RDConfig(
        epochs=params_dict["train"]["mvtec"]["epochs"], batch_size=8, learning_rate=0.016
    )


def test_what_somebody_has_chosen_for_another_model_is_named(params_dict, write_params):
    params_dict["train"]["mvtec"] |= {"model": "rd", "loss_weight": 3.0}
    with pytest.raises(InputError) as caught:
        load_params(write_params(params_dict))
    assert str(caught.value).endswith("train.mvtec.loss_weight: is a key of `model: invad` alone; remove it")


def test_a_map_can_be_chosen_for_invad_only(params_dict, write_params):
    change(params_dict, "score.visa.map_levels", "sum")
    assert load_params(write_params(params_dict)).benchmark("visa").score.map_levels == "sum"
    change(params_dict, "train.visa", {"model": "rd"})
    path = write_params(params_dict)
    with pytest.raises(InputError) as caught:
        load_params(path)
    assert str(caught.value) == f"{path}: score.visa: map_levels and map_distance are not for `model: rd`"


def test_a_file_that_is_missing_or_no_yaml_is_named(tmp_path):
    with pytest.raises(InputError, match=r"params\.yaml: no such file"):
        load_params(tmp_path / "params.yaml")
    for text, message in (("a: [1", "not valid YAML"), ("- 1", "must hold the sections")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(InputError, match=message):
            load_params(tmp_path / "bad.yaml")


def test_settings_cannot_be_changed_after_reading(params_dict, write_params):
    params = load_params(write_params(params_dict))
    with pytest.raises(AttributeError):
        params.benchmarks["mvtec"].train.epochs = 1


def test_an_unknown_benchmark_is_an_error_that_lists_the_known_ones(params_dict, write_params):
    params = load_params(write_params(params_dict))
    with pytest.raises(InputError, match=r"unknown benchmark 'mvtek'; params.yaml has coco_ad_0, "):
        params.benchmark("mvtek")
    with pytest.raises(InputError, match=r"unknown data set 'imagenet'; params.yaml has coco, mvtec, visa"):
        params.dataset("imagenet")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (240, "must be a multiple of 32, such as 224 or 256, not 240 (for `model: rd`)"),
        (250, "must be a multiple of 16, such as 240 or 256, not 250"),
    ],
)
def test_the_image_size_has_to_suit_encoder_and_method(params_dict, write_params, size, message):
    change(params_dict, "train.visa", {"model": "rd"})
    change(params_dict, "features.visa.image_size", 224)
    assert load_params(write_params(params_dict)).benchmark("visa").train.model == "rd"
    change(params_dict, "features.visa.image_size", size)
    path = write_params(params_dict)
    with pytest.raises(InputError) as caught:
        load_params(path)
    assert str(caught.value) == f"{path}: features.visa.image_size: {message}"
    change(params_dict, "train.visa", {"model": "invad"})
    change(params_dict, "features.visa.image_size", 240)
    assert load_params(write_params(params_dict)).benchmark("visa").features.image_size == 240
    change(
        params_dict,
        "features.visa",
        {"encoder": "vit_small_patch14_dinov2", "weights": "none", "levels": [[0, 1], [2]]},
    )
    change(params_dict, "features.visa.image_size", 252)
    assert load_params(write_params(params_dict)).benchmark("visa").features.levels == ((0, 1), (2,))
    change(params_dict, "features.visa.image_size", 240)
    with pytest.raises(InputError, match="image_size: must be a multiple of 14, such as 238 or 252, not 240"):
        load_params(write_params(params_dict))


def test_dinomaly_takes_blocks_and_steps(params_dict, write_params):
    change(params_dict, "train.visa", {"model": "dinomaly", "steps": 20})
    with pytest.raises(InputError, match=r"features\.visa\.levels: `model: dinomaly` takes groups of a ViT's blocks"):
        load_params(write_params(params_dict))
    blocks = {
        "encoder": "vit_small_patch14_reg4_dinov2",
        "weights": "none",
        "image_size": 252,
        "levels": [[2, 3], [4, 5]],
    }
    change(params_dict, "features.visa", blocks)
    train = load_params(write_params(params_dict)).benchmark("visa").train
    assert train.length == "20 steps"


@pytest.mark.parametrize("levels", [[16, 8], [8, 8], [[0], []], [[1], [0]], [0, 4], ["4"], [[0], 4]])
def test_levels_are_strides_or_groups_of_blocks(params_dict, write_params, levels):
    change(params_dict, "features.visa.levels", levels)
    with pytest.raises(InputError, match=r"features\.visa.*: must be|features\.visa.*levels: must be"):
        load_params(write_params(params_dict))


def test_a_file_of_before_settings_had_names_needs_an_entry_for_each_benchmark_and_the_folds_moved(
    params_dict, write_params
):
    """What the error asks for, and nothing else, makes it valid."""
    entries = params_dict["benchmarks"]
    for section in ("splits", "calibration", "features", "train", "score"):
        shared = params_dict[section].pop("coco")
        params_dict[section] |= {f"coco_ad_{fold}": shared for fold in range(4)}
    params_dict["benchmarks"] = {name: entry["dataset"] for name, entry in entries.items()}
    path = write_params(params_dict)
    with pytest.raises(InputError, match=r"benchmarks\.coco_ad_0: must be a mapping now, such as \{dataset: coco, "):
        load_params(path)
    params_dict["benchmarks"] = {name: entry | {"settings": name} for name, entry in entries.items()}
    assert load_params(write_params(params_dict)).benchmark("coco_ad_3").splits.fold == 3
