"""Which images are held out, the thresholds that they give, and what those give on the test images."""

import itertools
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import profile_params, save_image
from toys import FEATURES, split_of, write_toy_store

from invad.config import (
    BenchmarkConfig,
    CalibrationConfig,
    FeaturesConfig,
    FolderSplitConfig,
    InvADConfig,
    ScoreConfig,
    load_params,
)
from invad.data.check import check_split
from invad.data.counts import Counts, check_counts, count_images, describe
from invad.data.split_table import Split, SplitRow, held_out_images, hold_out
from invad.errors import InputError
from invad.features import FeatureStore, extract_features, open_features
from invad.methods import build_method
from invad.metrics.calibration import (
    MEAN_KEYS,
    OPERATING_KEYS,
    RunningThreshold,
    Thresholds,
    operating_point,
)
from invad.scoring import thresholds as calibration_files
from invad.scoring.score import phase_predictions
from invad.scoring.thresholds import Calibration, HeldOut, calibrate, read_calibration, write_calibration
from invad.training.model_folder import ModelConfig, save_model
from invad.workspace import Workspace

REPOSITORY = Path(__file__).parents[2]


def config_of(share: float = 0.1, rate: float = 0.01, seed: int = 0) -> CalibrationConfig:
    return CalibrationConfig(share=share, false_positive_rate=rate, seed=seed)


def rows_of(images: int, class_name: str = "bolt", test: int = 2) -> list[SplitRow]:
    phases = ["train"] * images + ["test"] * test
    return [
        SplitRow(f"{class_name}/{n:03d}.png", class_name, phase, int(n == images), "", None, 8, 8, "shop")
        for n, phase in enumerate(phases)
    ]


def chosen(rows: list[SplitRow]) -> set[str]:
    return {row.image for row in rows if row.phase == "calibration"}


# Which images are held out


@pytest.mark.parametrize(
    ("images", "share", "expected"),
    [(40, 0.1, 4), (40, 0.0, 0), (5, 0.1, 1), (2, 0.1, 1), (1, 0.1, 0), (0, 0.1, 0), (3, 0.99, 2), (100, 0.25, 25)],
)
def test_the_share_is_rounded_holds_out_one_at_least_and_never_all(images, share, expected):
    assert held_out_images(images, share) == expected
    assert len(chosen(hold_out(rows_of(images), config_of(share)))) == expected


def test_each_class_holds_out_its_own_and_nothing_else_of_a_row_changes():
    rows = rows_of(20, "bolt") + rows_of(10, "nut")
    held_out = hold_out(rows, config_of(0.3))
    assert [(row.image, row.label, row.class_name) for row in held_out] == [
        (row.image, row.label, row.class_name) for row in rows
    ]
    changed = [row for row, before in zip(held_out, rows, strict=True) if row != before]
    assert {row.phase for row in changed} == {"calibration"}
    assert [sum(row.class_name == name for row in changed) for name in ("bolt", "nut")] == [6, 3]
    assert all(row.label == 0 for row in changed)


def test_the_choice_depends_on_seed_and_names_alone():
    rows = rows_of(30)
    shuffled = random.Random(1).sample(rows, len(rows))
    assert chosen(hold_out(shuffled, config_of(0.2))) == chosen(hold_out(rows, config_of(0.2)))
    assert chosen(hold_out(rows, config_of(0.2, seed=1))) != chosen(hold_out(rows, config_of(0.2)))


def test_a_larger_share_holds_out_more_of_the_same_images():
    rows = rows_of(30)
    assert chosen(hold_out(rows, config_of(0.1))) < chosen(hold_out(rows, config_of(0.3)))


def test_held_out_images_count_as_the_published_training_images(tmp_path):
    rows = hold_out(rows_of(30), config_of(0.2))
    assert count_images(rows) == {"bolt": Counts(30, 1, 1)}
    check_counts(rows, {"bolt": Counts(30, 1, 1)}, tmp_path, strict=True)
    split = Split(tuple(rows), tmp_path, tmp_path)
    assert (
        describe(split.rows)
        == "1 class, 24 normal images to train on, 6 to calibrate on, 1 normal and 1 anomalous to test on "
        "(1 without a mask count in the image metrics only)"
    )


def test_an_image_that_is_trained_on_and_held_out_under_another_name_is_a_warning(tmp_path):
    split = Split(tuple(hold_out(rows_of(2), config_of())), tmp_path, tmp_path)
    for value, row in enumerate(split.rows):
        save_image(tmp_path / row.image, value=100 if row.phase != "test" else value)
    findings = check_split(split, label="check").findings
    assert ("warning", "duplicate-held-out") in [(finding.severity, finding.kind) for finding in findings]
    assert "duplicate-across-phases" not in {finding.kind for finding in findings}


# Thresholds


def threshold_at(scores: np.ndarray, rate: float) -> float | None:
    """That of scores which are all there."""
    running = RunningThreshold(len(scores), rate)
    running.add(scores)
    return running.value


@pytest.mark.parametrize(
    ("count", "rate", "expected"),
    [
        (100, 0.01, 99),  # one of 100 may lie above: the second largest of 1..100
        (99, 0.01, 99),  # none may
        (4, 0.01, 4),
        (1, 0.5, 1),
        (100, 0.29, 71),  # 0.29 * 100 is below 29 in floats
        (10, 0.99, 1),
    ],
)
def test_the_threshold_is_the_smallest_score_that_keeps_the_rate(count, rate, expected):
    scores = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    assert threshold_at(scores, rate) == expected


def test_equal_scores_never_break_the_rate():
    scores = np.array([1.0, 2.0, 2.0, 2.0])
    threshold = threshold_at(scores, 0.25)
    assert threshold == 2.0
    assert np.sum(scores > threshold) <= 1
    assert threshold_at(np.array([]), 0.01) is None


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.3])
def test_scores_that_come_piece_by_piece_give_the_same_threshold_and_few_are_kept(rate):
    scores = np.random.default_rng(0).normal(size=5_000).round(2).astype(np.float32)  # with equal ones
    running = RunningThreshold(len(scores), rate)
    for piece in np.split(scores, [1, 7, 1_000, 4_990]):
        running.add(piece)
        assert len(running._largest) <= rate * len(scores) + 1
    expected = np.sort(scores)[::-1][int(rate * len(scores))]
    assert running.value == expected


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(InputError, match="NaN or infinite"):
        threshold_at(np.array([1.0, np.nan]), 0.1)


# The operating point, by hand


def point_of(thresholds: dict[str, Thresholds], **changes) -> dict:
    """Four images of class "a" (two normal), 2 x 2 pixels, whose maps are 0 but for what is set here."""
    maps, masks = np.zeros((4, 2, 2), np.float32), np.zeros((4, 2, 2), np.uint8)
    maps[:, 0, 0] = [0.2, 0.6, 0.5, 0.9]  # the last two are anomalous
    maps[3, 0, 1] = 0.7
    masks[2:, 0, 0] = 1
    arguments = {
        "anomaly_maps": [maps[:3], maps[3:]],
        "masks": [masks[:3], masks[3:]],
        "classes": ["a"] * 4,
        "labels": [0, 0, 1, 1],
        "image_scores": maps.max(axis=(1, 2)),
        "has_mask": np.ones(4, bool),
        "thresholds": thresholds,
    }
    return operating_point(**(arguments | changes))


def test_the_values_of_a_small_example():
    point = point_of({"a": Thresholds(image=0.5, pixel=0.55)})
    # Images above 0.5: one of two normal ones, one of two anomalous ones (0.5 itself is not above).
    # Pixels above 0.55: 0.6 (normal), 0.9 (anomalous), 0.7 (normal); 2 of 16 are anomalous.
    assert point["per_class"]["a"] == {
        "calibrated_image_threshold": 0.5,
        "calibrated_image_fpr": 1 / 2,
        "calibrated_image_precision": 1 / 2,
        "calibrated_image_recall": 1 / 2,
        "calibrated_image_f1": 1 / 2,
        "calibrated_pixel_threshold": 0.55,
        "calibrated_pixel_fpr": 2 / 14,
        "calibrated_pixel_precision": 1 / 3,
        "calibrated_pixel_recall": 1 / 2,
        "calibrated_pixel_f1": 2 / 5,
        "calibrated_pixel_iou": 1 / 4,
    }
    assert tuple(point["per_class"]["a"]) == OPERATING_KEYS
    assert point["mean"] == {key: point["per_class"]["a"][key] for key in MEAN_KEYS}
    assert point["notes"] == []


def test_a_threshold_that_nothing_exceeds_has_no_precision():
    point = point_of({"a": Thresholds(image=0.9, pixel=0.9)})
    values = point["per_class"]["a"]
    for level in ("image", "pixel"):
        assert values[f"calibrated_{level}_precision"] is None
        assert values[f"calibrated_{level}_recall"] == values[f"calibrated_{level}_f1"] == 0
    assert point["notes"] == [
        "class 'a': calibrated_image_precision: not available: no image is above the threshold",
        "class 'a': calibrated_pixel_precision: not available: no pixel is above the threshold",
        "mean: calibrated_image_precision, calibrated_pixel_precision: not available: no class has it",
    ]


def test_an_image_without_its_mask_counts_as_an_image_only():
    point = point_of({"a": Thresholds(0.5, 0.55)}, has_mask=np.array([False, True, True, False]))
    values = point["per_class"]["a"]
    assert values["calibrated_image_recall"] == 1 / 2
    assert values["calibrated_pixel_recall"] == 0  # of the one pixel that is known, which has 0.5
    assert values["calibrated_pixel_fpr"] == 1 / 11
    without = point_of({"a": Thresholds(0.5, 0.55)}, has_mask=np.zeros(4, bool))
    assert without["per_class"]["a"]["calibrated_pixel_iou"] is None
    assert without["per_class"]["a"]["calibrated_pixel_fpr"] == 1 / 8
    assert any(note.endswith("not available: no anomalous image has a mask") for note in without["notes"])


def test_one_kind_of_images_lacks_what_needs_the_other():
    maps = np.array([[[0.0, 1.0]], [[0.0, 0.0]]], np.float32)
    inputs = {"anomaly_maps": [maps], "masks": [np.zeros((2, 1, 2), bool)], "classes": ["a"] * 2}
    inputs |= {"image_scores": [1.0, 0.0], "has_mask": [True] * 2}
    values = point_of({"a": Thresholds(0.5, 0.5)}, **inputs, labels=[0, 0])["per_class"]["a"]
    assert (values["calibrated_image_fpr"], values["calibrated_pixel_fpr"]) == (1 / 2, 1 / 4)
    assert {values[key] for key in MEAN_KEYS if not key.endswith("fpr")} == {None}
    values = point_of({"a": Thresholds(0.5, 0.5)}, **inputs, labels=[1, 1])["per_class"]["a"]
    assert values["calibrated_image_fpr"] is None
    assert values["calibrated_image_recall"] == 1 / 2
    assert values["calibrated_pixel_recall"] is None  # their masks are empty


def test_each_class_has_its_own_threshold_and_the_mean_leaves_out_whom_it_must():
    classes, thresholds = ["a", "b", "a", "b"], {"a": Thresholds(0.1, 0.1), "b": Thresholds(None, None)}
    point = point_of(thresholds, classes=classes, without="the reason")
    assert set(point["per_class"]["b"].values()) == {None}
    assert point["per_class"]["a"]["calibrated_image_fpr"] == 1
    assert point["mean"]["calibrated_image_fpr"] == 1
    assert point["notes"][0] == f"class 'b': {', '.join(OPERATING_KEYS)}: not available: the reason"
    assert any("left out of the mean: class 'b'" in note for note in point["notes"])
    empty = point_of({"a": Thresholds(None, None)})
    assert set(empty["mean"].values()) == {None}


def test_inputs_that_do_not_fit_are_refused():
    thresholds = {"a": Thresholds(0.5, 0.5)}
    for changes, message in (
        ({"thresholds": {}}, "class 'a' is missing"),
        ({"masks": [np.zeros((4, 2, 2))]}, "do not fit"),
        ({"masks": [np.zeros((3, 3, 3)), np.zeros((1, 3, 3))]}, "do not fit"),
        ({"anomaly_maps": [np.zeros((3, 2, 2))], "masks": [np.zeros((3, 2, 2))]}, "3 images, expected 4"),
        (
            {"anomaly_maps": [np.full((4, 2, 2), np.nan)], "masks": [np.zeros((4, 2, 2))]},
            "anomaly_maps: NaN or infinite",
        ),
        ({"image_scores": [0.1, np.inf, 0.2, 0.3]}, "image_scores: NaN or infinite"),
    ):
        with pytest.raises(InputError, match=message):
            point_of(**({"thresholds": thresholds} | changes))


# The file that goes with the model


def benchmark_of(rate: float = 0.01, size: int = 2) -> BenchmarkConfig:
    features = FeaturesConfig("mobilenetv2_100", image_size=32)
    object.__setattr__(features, "image_size", size)  # smaller than any encoder takes
    return BenchmarkConfig(
        "shop", "shop", FolderSplitConfig(), features, InvADConfig(), ScoreConfig(), config_of(rate=rate)
    )


def scored(*batches: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of maps, and of their maxima as scores."""
    return [(maps, maps.max((1, 2))) for maps in batches]


def test_thresholds_of_classes_and_of_all_by_hand():
    maps = np.arange(12, dtype=np.float32).reshape(3, 2, 2)  # maxima 3, 7, 11
    calibration = calibrate(scored(maps[:1], maps[1:]), ["a", "b", "a"], {"b", "a", "c"}, benchmark_of(rate=0.25))
    # "a" has the pixels 0..3 and 8..11, of which two may lie above; of all twelve, three.
    assert calibration.per_class == {
        "a": HeldOut(11.0, 9.0, 2),
        "b": HeldOut(7.0, 6.0, 1),
        "c": HeldOut(None, None, 0),
    }
    assert calibration.all == HeldOut(11.0, 8.0, 3)
    assert (calibration.false_positive_rate, calibration.images) == (0.25, 3)
    assert calibration.notes == [
        "class 'c': no normal image is held out, there is but one",
        *(
            f"class {name!r}: too few held-out normal images ({images}) to resolve a false-positive rate of 25 % of images: "
            "the image threshold is their highest score"
            for name, images in (("b", 1), ("a", 2))
        ),
    ]


def test_without_held_out_images_there_are_no_thresholds_but_a_reason():
    calibration = calibrate([], [], {"a"}, benchmark_of())
    assert calibration.per_class == {"a": HeldOut(None, None, 0)}
    assert calibration.notes == ["splits: no normal image is held out; set calibration.shop.share above 0"]


def test_the_file_is_read_back_and_what_is_none_is_named(tmp_path):
    calibration = Calibration(
        0.01, 4, {"a": HeldOut(0.1, 1 / 3, 4)}, HeldOut(0.1, 1 / 3, 4), ["note"], ScoreConfig(3.0)
    )
    path = tmp_path / "model/calibration.json"
    write_calibration(calibration, path)
    assert read_calibration(path) == calibration
    for text in ("{}", "[1]", '{"per_class": {}, "all": {}}', '{"per_class": {"a": {}}}'):
        path.write_text(text)
        with pytest.raises(InputError, match=r"calibration\.json: damaged calibration, or .* `dvc repro -f evaluate`"):
            read_calibration(path)


# Features and maps of the held-out images


def test_held_out_images_get_features_that_are_not_those_of_training(tmp_path):
    split = Split(tuple(hold_out(rows_of(6), config_of(0.3))), tmp_path, tmp_path)
    for value, row in enumerate(split.rows):
        save_image(tmp_path / row.image, size=32, value=10 * value)
    config = FeaturesConfig("mobilenetv2_100", "none", 32)
    extract_features(split, config, tmp_path / "features")
    phases = {phase: FeatureStore(tmp_path / "features", phase).images for phase in ("train", "calibration", "test")}
    assert [len(images) for images in phases.values()] == [4, 2, 2]
    assert set(phases["calibration"]) == chosen(list(split.rows))
    assert not set(phases["calibration"]) & set(phases["train"])
    live = FeaturesConfig("mobilenetv2_100", "none", 32, mode="live")
    extract_features(split, live, tmp_path / "live")
    assert len(open_features(tmp_path / "live", "calibration", split, live)) == 2


def test_the_maps_of_held_out_images_give_image_thresholds_that_are_their_largest_scores(tmp_path):
    split = split_of(tmp_path, train=5, test=2)
    split = Split(tuple(hold_out(split.rows, config_of(0.4))), split.image_root, split.mask_root)
    train = InvADConfig(style_channels=8, latent_channels=4, blocks=1)
    benchmark = BenchmarkConfig(
        "shop", "mvtec", FolderSplitConfig(), FEATURES, train, ScoreConfig(1.0, 2), config_of(0.4, rate=0.5)
    )
    key = write_toy_store(tmp_path / "features", split, "calibration")
    model = ModelConfig("shop", ("bottle",), key.channels, key.weights_sha256, FEATURES, train)
    save_model(build_method(key.output, train), model, tmp_path / "model")
    arguments = (benchmark, split, "calibration", tmp_path / "features", tmp_path / "model")
    maps = np.concatenate([maps for maps, _ in phase_predictions(*arguments, label="test")])
    assert maps.shape == (2, 64, 64)
    calibration = calibrate(phase_predictions(*arguments, label="test"), ["bottle"] * 2, ["bottle"], benchmark)
    assert calibration.all == calibration.per_class["bottle"]
    assert calibration.all.image_threshold == maps.max(axis=(1, 2)).min()  # one of two may lie above
    assert calibration.all.pixel_threshold == np.sort(maps.ravel())[::-1][maps.size // 2]


# Settings and stages


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("share", 1.0, "share: must be less than 1, not 1.0"),
        ("share", -0.1, "share: must be greater than or equal to 0, not -0.1"),
        ("false_positive_rate", 0, "false_positive_rate: must be greater than 0, not 0"),
        ("false_positive_rate", 1, "false_positive_rate: must be less than 1, not 1"),
        ("seed", None, "seed: is missing"),
        ("shares", 0.1, "shares: unknown key; known are share, false_positive_rate, seed"),
    ],
)
def test_mistakes_in_the_section_are_named(params_dict, write_params, key, value, message):
    section = params_dict["calibration"]["mvtec"]
    section[key] = value
    if value is None:
        del section[key]
    with pytest.raises(InputError) as caught:
        load_params(write_params(params_dict))
    assert str(caught.value).endswith(f"params.yaml: calibration.mvtec.{message}")


def test_a_benchmark_without_the_section_is_named(params_dict, write_params):
    del params_dict["calibration"]["visa"]
    with pytest.raises(InputError, match=r"calibration\.visa: is missing; benchmarks\.visa\.settings names it"):
        load_params(write_params(params_dict))


@pytest.mark.parametrize(("profile", "share"), [("quick", 0.1), ("paper", 0.0), ("paper-lite", 0.0)])
def test_the_papers_profiles_hold_nothing_out(profile, share):
    params = profile_params(profile)
    assert {benchmark.calibration for benchmark in params.benchmarks.values()} == {config_of(share)}


def stages() -> dict[str, dict]:
    """The stages of dvc.yaml; a `foreach` by what it does."""
    found = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    return {name: stage.get("do", stage) for name, stage in found.items()}


def keys(stage: dict) -> list[str]:
    """The keys of params.yaml that a stage depends on."""
    return [key for key in stage.get("params", ()) if isinstance(key, str)]


def outputs(stage: dict) -> set[str]:
    """The paths of outs, metrics and plots, which may have settings of their own."""
    entries = itertools.chain(*(stage.get(kind, ()) for kind in ("outs", "metrics", "plots")))
    return {path for entry in entries for path in ([entry] if isinstance(entry, str) else entry)}


def test_the_false_positive_rate_changes_thresholds_and_what_they_give_and_nothing_else():
    found = stages()
    changed = {name for name, stage in found.items() if any("false_positive_rate" in key for key in keys(stage))}
    assert changed == {"evaluate"}
    while True:  # until nothing follows any more
        written = {path for name in changed for path in outputs(found[name])}
        written |= {path.split("/$")[0] for path in written}  # the report depends on the folders
        following = {name for name, stage in found.items() if set(stage["deps"]) & written}
        if following <= changed:
            break
        changed |= following
    assert changed == {"evaluate", "report"}


def test_share_and_seed_change_the_split_and_the_thresholds_belong_to_the_model():
    found = stages()
    assert {"calibration.${item.settings}.share", "calibration.${item.settings}.seed"} <= set(keys(found["splits"]))
    model = {f"models/${{key}}/{name}" for name in ("model.safetensors", "config.json")}
    assert model <= outputs(found["train"])
    assert model <= set(found["score"]["deps"])
    assert outputs(found["score"]) <= set(found["evaluate"]["deps"])
    assert "models/${key}/calibration.json" in outputs(found["evaluate"])
    assert "score.${item.settings}" in keys(found["evaluate"])
    assert str(Workspace().calibration("mvtec")) == "models/mvtec/calibration.json"


def test_the_module_that_evaluation_reads_thresholds_with_is_light():
    code = f"import sys; import {calibration_files.__name__}; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert calibration_files.__name__ in modules
    assert not set(modules) & {"torch", "ray", "mlflow"}
