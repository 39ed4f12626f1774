"""Image scores from the maps of detectors and a few labels: segments, the model file, what is refused, and what labels are worth."""

import json
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from skimage.color import rgb2lab
from skimage.filters import threshold_otsu

from invad.config import (
    BenchmarkConfig,
    CalibrationConfig,
    FeaturesConfig,
    FolderSplitConfig,
    InvADConfig,
    LabelledConfig,
    ScoreConfig,
    SupervisedConfig,
)
from invad.data.source import Source, write_source
from invad.data.split_table import FILE_NAME, SplitRow, write_split_table
from invad.errors import InputError
from invad.report.results import Result
from invad.report.supervised import supervised_tables
from invad.scoring.store import PHASE_FOLDERS, write_scores
from invad.supervised.detections import read_detections
from invad.supervised.model import read_model, write_model
from invad.supervised.segad import train_segad
from invad.supervised.segments import find_label_map, foreground, label_maps, otsu, read_label_map, to_lab, vad_parts
from invad.supervised.statistics import image_features
from invad.workspace import Workspace

SIDE = 24
IMAGES = {("labelled", 0): 24, ("labelled", 1): 8, ("calibration", 0): 6, ("test", 0): 20, ("test", 1): 20}
TOY = BenchmarkConfig(
    "first",
    "visa",
    FolderSplitConfig(),
    FeaturesConfig("mobilenetv2_100"),
    InvADConfig(),
    ScoreConfig(),
    CalibrationConfig(0.1, 0.01, 0),
)
CONFIG = SupervisedConfig(("first",), segments="folder", folder="labels", seeds=(3,), trees=20)


# Segments


def test_the_foreground_is_the_hull_of_what_stands_out_from_the_border():
    image = np.full((100, 100, 3), (40, 90, 40), np.uint8)
    image[30:70, 30:40] = image[60:70, 30:80] = (200, 180, 60)  # an L
    image[5:8, 80:83] = (200, 180, 60)  # too small to be the object
    found = foreground(image)
    assert found[35, 35] == found[65, 75] == 1
    assert found[50, 45] == 1  # within the hull of the L
    assert found[35, 75] == found[6, 81] == found[0, 0] == 0


def test_where_nothing_stands_out_the_whole_image_is_the_object():
    image = np.full((64, 64, 3), 90, np.uint8)
    assert foreground(image).min() == 1
    image[30:35, 30:35] = 200  # less than 2 % of the image
    assert foreground(image).min() == 1


def test_colours_and_threshold_are_those_of_scikit_image():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    np.testing.assert_allclose(to_lab(image), rgb2lab(image), atol=0.01)
    values = np.random.default_rng(1).normal(np.repeat([0, 9], 500), 2)
    assert otsu(values) == pytest.approx(threshold_otsu(values))


def test_the_parts_of_vads_product_have_their_places():
    found = vad_parts(100)
    places = {(0, 0): 0, (51, 97): 1, (51, 90): 2, (20, 35): 3, (40, 35): 4, (75, 21): 5, (60, 50): 6}
    assert {at: int(found[at]) for at in places} == places
    assert set(np.unique(found)) == set(range(7))


def test_label_maps_are_found_by_name_or_by_class(tmp_path):
    row = SplitRow("bolt/bad/7.jpg", "bolt", "test", 1, "bad", None, 9, 9, "own")
    with pytest.raises(InputError, match=r"has no label map of bolt/bad/7.jpg; expected bolt/7.png or .npy, or one"):
        find_label_map(tmp_path, row)
    for place in ("bolt.png", "bolt/7.npy", "bolt/bad/7.png"):  # the later one is preferred
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
        assert find_label_map(tmp_path, row) == tmp_path / place


def test_a_label_map_is_resized_to_its_nearest_neighbours(tmp_path):
    Image.fromarray(np.array([[0, 1], [2, 255]], np.uint8)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png", 4), np.kron([[0, 1], [2, 255]], np.ones((2, 2))))


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("a.npy", np.zeros((2, 2)), "is float64 of shape"),
        ("a.npy", np.zeros((2, 2, 3), int), "expected integers"),
        ("a.npy", np.full((2, 2), -1), "has the label -1; segments count from 0 to at most 63, 255 is none"),
        ("a.npy", np.full((2, 2), None), "not an array of numpy"),  # a pickle
        ("a.png", np.full((2, 2), 200, np.uint8), "has the label 200"),
    ],
)
def test_what_is_no_label_map_is_named(tmp_path, name, array, message):
    path = tmp_path / name
    np.save(path, array) if path.suffix == ".npy" else Image.fromarray(array).save(path)
    with pytest.raises(InputError, match=message) as caught:
        read_label_map(path, 4)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_segment_without_a_pixel_is_zero_and_one_of_equal_values_has_no_shape():
    label_map = np.zeros((4, 4), int)
    label_map[0] = 1
    found = image_features([np.full((4, 4), 0.25, np.float32)], label_map, 3)
    np.testing.assert_array_equal(found, [0.25, np.nan, np.nan, 0.25] * 2 + [0.0] * 4 + [0.25])


# The method on maps made by hand: what is anomalous is hot in segment 1 alone, and normal images have hotter spots in segment 0.


def toy_rows(classes: tuple[str, ...] = ("bolt",)) -> list[SplitRow]:
    return [
        SplitRow(f"{name}/{phase}{label}/{n:02d}.png", name, phase, label, "x", None, SIDE, SIDE, "visa")
        for name in classes
        for (phase, label), count in IMAGES.items()
        for n in range(count)
    ]


def toy_maps(rows: list[SplitRow], size: int = SIDE) -> np.ndarray:
    rng = np.random.default_rng(len(rows))
    maps = rng.uniform(0, 0.2, (len(rows), size, size)).astype(np.float32)
    for number, row in enumerate(rows):
        y, x = rng.integers(1, size - 2), rng.integers(1, size // 2 - 2)
        maps[number, y, x] = rng.uniform(0.8, 1.0)
        if row.label:
            maps[number, y : y + 2, x + size // 2] = 0.5
    return maps


def write_detector(workspace: Workspace, name: str, rows: list[SplitRow], size: int = SIDE) -> BenchmarkConfig:
    """A scored benchmark of these images."""
    write_split_table(rows, workspace.split(name) / FILE_NAME, {})
    for phase, folder in PHASE_FOLDERS.items():  # that of the test images replaces all of the folder
        own = [row for row in rows if row.phase == phase]
        if own:
            columns = {"image": "image", "class": "class_name", "label": "label", "defect_type": "defect_type"}
            table = pa.table(
                {key: [getattr(row, at) for row in own] for key, at in columns.items()}
                | {"has_mask": [True] * len(own)}
            )
            maps = toy_maps(own, size)
            write_scores(table, [(maps, maps > 1, maps.max(axis=(1, 2)))], workspace.scores(name) / folder)
    return replace(TOY, name=name, settings=name)


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    halves = np.zeros((SIDE, SIDE), np.uint8)
    halves[:, SIDE // 2 :] = 1
    (tmp_path / "labels").mkdir()
    Image.fromarray(halves).save(tmp_path / "labels/bolt.png")
    found = Workspace(tmp_path)
    write_source(found.raw("visa"), Source("visa", "embedded", found.root, "0" * 64))
    return found


def test_a_few_labels_find_what_the_maximum_of_the_map_does_not(workspace):
    toy = write_detector(workspace, "first", toy_rows())
    model, result = train_segad(CONFIG, read_detections([toy], workspace), toy)
    (run,), (alone,) = result["per_seed"], result["baselines"]["first"]
    assert run["mean"]["image_auroc"] == 1.0
    assert run["mean"]["image_fpr95"] == 0.0
    assert alone["mean"]["image_auroc"] < 0.75
    assert result["labelled"] == {"bolt": {"normal": 24, "anomalous": 8}}
    assert run["at_thresholds"]["bolt"]["recall"] == 1.0
    assert model.classes["bolt"].segments == 2
    again, same = train_segad(CONFIG, read_detections([toy], workspace), toy)
    assert (again.classes, same) == (model.classes, result)


def test_segments_and_several_detectors_are_columns_of_their_own(workspace):
    pair = [write_detector(workspace, name, toy_rows()) for name in ("first", "second")]
    config = replace(CONFIG, detectors=("first", "second"), segments="none", folder=None, maxima=False)
    model, _ = train_segad(config, read_detections(pair, workspace), pair[0])
    assert model.classes["bolt"].features == tuple(
        f"segment0_{name}_detector{k}" for k in (0, 1) for name in ("q995", "skewness", "kurtosis", "mean")
    )


def test_each_seed_may_draw_its_own_anomalous_images_from_all_of_them(workspace):
    toy = write_detector(workspace, "first", toy_rows())
    toy = replace(toy, splits=FolderSplitConfig(labelled=LabelledConfig(anomalous=8)))
    detections = read_detections([toy], workspace)
    config = replace(CONFIG, seeds=(1, 2), redraw=True)
    _, result = train_segad(config, detections, toy)
    assert [run["seed"] for run in result["per_seed"]] == [1, 2]
    first, second = (run["per_class"]["bolt"] for run in result["baselines"]["first"])
    assert first != second  # the detector alone is measured on what is left of each draw
    _, fixed = train_segad(replace(config, redraw=False), detections, toy)
    assert fixed["baselines"]["first"][0]["per_class"] == fixed["baselines"]["first"][1]["per_class"]


def test_a_model_is_read_as_it_was_written_and_a_damaged_one_is_refused(workspace):
    toy = write_detector(workspace, "first", toy_rows())
    model, _ = train_segad(CONFIG, read_detections([toy], workspace), toy)
    path = workspace.model("segad") / "segad.json"
    write_model(model, path)
    features = np.random.default_rng(0).uniform(size=(5, 9))
    np.testing.assert_array_equal(read_model(path).scores("bolt", features), model.scores("bolt", features))
    with pytest.raises(InputError, match="class 'nut': this model has bolt"):
        model.scores("nut", features)
    whole = json.loads(path.read_text())
    for change, message in (
        (lambda model: model["classes"]["bolt"]["features"].pop(), "the features of 'bolt' are not those"),
        (lambda model: first_tree(model)["left_children"].__setitem__(0, 10**6), "a branch that leads nowhere"),
        (lambda model: first_tree(model).clear(), "no forest of XGBoost"),
        (lambda model: model.update(format="other"), "format: must be 'invad-segad-1'"),
    ):
        changed = deepcopy(whole)
        change(changed)
        path.write_text(json.dumps(changed))
        with pytest.raises(InputError, match=message) as caught:
            read_model(path)
        assert str(caught.value).startswith(f"{path}: damaged, or of another version (")


def first_tree(model: dict) -> dict:
    return model["classes"]["bolt"]["forest"]["learner"]["gradient_booster"]["model"]["trees"][0]


# What is refused


def test_detectors_that_do_not_belong_together_are_refused(workspace):
    rows = toy_rows()
    first = write_detector(workspace, "first", rows)
    other = write_detector(workspace, "other", [*rows[1:], replace(rows[0], phase="train")])
    with pytest.raises(InputError, match=r"other/split.parquet: differs from that of first; .* same `splits`"):
        read_detections([first, other], workspace)
    small = write_detector(workspace, "small", rows, size=12)
    with pytest.raises(InputError, match="the detectors' maps have 12x12 and 24x24 pixels; they must be the same"):
        read_detections([first, small], workspace)
    write_split_table([*rows[::-1]], workspace.split("first") / FILE_NAME, {})
    with pytest.raises(InputError, match="has maps of other images than the split table; run `dvc repro score`"):
        read_detections([first], workspace)


def test_every_class_needs_labelled_images_of_both_kinds(workspace):
    rows = toy_rows(("bolt", "nut"))
    toy = write_detector(workspace, "first", [row for row in rows if row.phase != "labelled"])
    with pytest.raises(InputError, match=r"split.parquet: no image is labelled; set splits.first.labelled, such as"):
        read_detections([toy], workspace)
    for label, key in ((1, "anomalous"), (0, "normal_share")):
        lacking = [row for row in rows if (row.class_name, row.phase, row.label) != ("nut", "labelled", label)]
        toy = write_detector(workspace, "first", lacking)
        with pytest.raises(InputError, match=rf"class 'nut' has no labelled .* set splits.first.labelled.{key}$"):
            read_detections([toy], workspace)


def test_label_maps_need_their_folder(workspace):
    toy = write_detector(workspace, "first", toy_rows())
    with pytest.raises(InputError, match="nowhere: no such folder of label maps"):
        label_maps(replace(CONFIG, folder="nowhere"), read_detections([toy], workspace).split, SIDE)


# The report


def test_rows_that_have_seen_labels_say_so_and_compete_with_nobody(workspace):
    toy = write_detector(workspace, "first", toy_rows())
    _, result = train_segad(replace(CONFIG, seeds=(1, 2)), read_detections([toy], workspace), toy)
    workspace.supervised.mkdir(parents=True)
    (workspace.supervised / "toy.json").write_text(json.dumps(result))
    results = {"first": Result(toy, "embedded", {42: {}})}
    (means, classes), left_out = supervised_tables(["toy", "gone"], workspace.supervised, results)
    assert [row.words["Labels"] for row in means.rows] == ["supervised, 32 labels", "none"]
    assert means.rows[0].cells["image_auroc"].value == 1.0
    assert means.rows[0].cells["image_auroc"].std == 0.0
    assert [row.words["Class"] for row in classes.rows] == ["bolt", "bolt"]
    assert not any(cell.rank for table in (means, classes) for row in table.rows for cell in row.cells.values())
    assert "gone.json: no such file" in str(left_out["gone"])
