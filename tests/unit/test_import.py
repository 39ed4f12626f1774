"""A user's own images -> table, split rows and benchmark."""

import csv
import hashlib
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, save_image, save_mask
from PIL import Image

from invad.config import CalibrationConfig, TableSplitConfig, load_params
from invad.data.check import check_split
from invad.data.images import read_mask
from invad.data.own.folders import Discovery, discover, named_layout
from invad.data.own.importing import import_data, recipe, remove_data, understanding
from invad.data.own.table import ImportRow, build_table, read_table, with_phases, write_import_table
from invad.data.split_table import Split
from invad.errors import InputError
from invad.workspace import Workspace

CONFIG = TableSplitConfig()
PARAMS = """\
benchmarks: # and their data sets
  coco_ad_0: {dataset: coco, fold: 0, settings: coco}
  mvtec: {dataset: mvtec, settings: mvtec}
download:
  coco: {source: embedded}
  mvtec: {source: embedded}
splits:
  coco: {held_out: 20}
  mvtec: {strict: true}
calibration:
  coco: {share: 0.0, false_positive_rate: 0.01, seed: 0}
  mvtec: {share: 0.0, false_positive_rate: 0.01, seed: 0}
features:
  coco: {encoder: resnet18, weights: none}
  mvtec: {encoder: mobilenetv2_100}
train:
  workers: 1
  coco: {epochs: 6}
  mvtec: {epochs: 20} # longer
score:
  coco: {sigma: 2.0}
  mvtec: {sigma: 4.0}
ablations: {}
"""
HEADER = "image,class,phase,label,defect_type,mask\n"


def brief(discovery: Discovery) -> list[tuple]:
    """The rows as plain tuples, sorted by image."""
    rows = sorted(discovery.rows, key=lambda row: row.image)
    return [(row.image, row.class_name, row.phase, row.label, row.defect_type, row.mask) for row in rows]


def images_in(root: Path, *names: str) -> Path:
    for name in names:
        save_image(root / name)
    return root


def masks_in(root: Path, *names: str) -> Path:
    for name in names:
        save_mask(root / name)
    return root


def table_of(root: Path, text: str, name: str = "table.csv") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Three normal images, two anomalous ones and one mask, in the layout of good, bad and masks."""
    root = tmp_path / "pictures"
    images_in(root, "good/0.png", "good/1.png", "good/2.png", "bad/0.png", "bad/1.png")
    return masks_in(root, "masks/0_mask.png")


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Workspace:
    """The current folder, with short settings in it: two benchmarks, the first on coco."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "params.yaml").write_text(PARAMS)
    monkeypatch.chdir(folder)
    return Workspace()


def run(images: Path, workspace: Workspace, name: str = "shop", **options) -> str:
    options = {"table": None, "like": None, "force": False, "config": CONFIG} | options
    return import_data(name, images, workspace=workspace, params_path=Path("params.yaml"), **options)


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Layout (a): an MVTec-like tree


def test_an_mvtec_tree_has_its_folders_as_classes_and_masks_by_name(mvtec_root):
    (mvtec_root / "valve/ground_truth/broken/001_mask.png").rename(mvtec_root / "valve/ground_truth/broken/001.png")
    found = discover("mine", mvtec_root, None)
    assert brief(found) == [
        ("valve/test/broken/000.png", "valve", "test", 1, "broken", "valve/ground_truth/broken/000_mask.png"),
        ("valve/test/broken/001.png", "valve", "test", 1, "broken", "valve/ground_truth/broken/001.png"),
        ("valve/test/good/000.png", "valve", "test", 0, "good", None),
        ("valve/train/good/000.png", "valve", "train", 0, "good", None),
        ("valve/train/good/001.png", "valve", "train", 0, "good", None),
    ]
    assert found.layout.startswith("MVTec-like tree (<class>/train/good")
    assert (found.unmatched_masks, found.notes) == ([], [])


def test_one_mvtec_class_takes_the_name_of_the_data_set(mvtec_root):
    found = discover("mine", mvtec_root / "valve", None)
    assert {row.class_name for row in found.rows} == {"mine"}
    assert found.layout.startswith("MVTec-like tree (train/good")
    assert ("test/broken/000.png", "mine", "test", 1, "broken", "ground_truth/broken/000_mask.png") in brief(found)


def test_an_image_without_mask_is_kept_and_a_mask_without_image_is_listed(mvtec_root):
    (mvtec_root / "valve/test/broken/001.png").rename(mvtec_root / "valve/test/broken/002.png")
    save_mask(mvtec_root / "valve/ground_truth/gone/000_mask.png")  # of a defect type without any image
    found = discover("mine", mvtec_root, None)
    assert {row.image: row.mask for row in found.rows if row.label}["valve/test/broken/002.png"] is None
    assert found.unmatched_masks == [
        "valve/ground_truth/broken/001_mask.png",
        "valve/ground_truth/gone/000_mask.png",
    ]


def test_images_of_one_stem_are_all_taken(mvtec_root):
    save_image(mvtec_root / "valve/train/good/000.jpg")
    found = discover("mine", mvtec_root, None)
    assert {"valve/train/good/000.jpg", "valve/train/good/000.png"} <= {row.image for row in found.rows}
    assert found.notes == []


def test_masks_of_normal_images_are_left_out_and_named(mvtec_root):
    save_mask(mvtec_root / "valve/ground_truth/good/000_mask.png", value=0)
    found = discover("mine", mvtec_root, None)
    assert found.notes == ["other images in the folder, left out (1): valve/ground_truth/good/000_mask.png"]
    assert found.unmatched_masks == []
    assert all(row.mask is None for row in found.rows if row.label == 0)


def test_a_class_without_its_normal_images_is_not_left_out_silently(mvtec_root, workspace):
    images_in(mvtec_root, "cable/test/bent/000.png")
    with pytest.raises(InputError, match="the class cable has no normal image to train on"):
        run(mvtec_root, workspace)


def test_an_anomalous_folder_to_train_on_is_an_error(mvtec_root):
    images_in(mvtec_root, "valve/train/broken/000.png")
    with pytest.raises(InputError, match=r"valve/train/broken/000\.png: an anomalous image in train"):
        discover("mine", mvtec_root, None)


def test_files_of_formats_that_are_not_read_are_counted_by_suffix(mvtec_root, pictures):
    for number in range(3):
        (mvtec_root / f"valve/train/good/{number}.heic").write_bytes(b"x")
    (mvtec_root / "valve/license.txt").write_text("free")
    (mvtec_root / "Thumbs.db").write_bytes(b"x")
    message = "files of formats that are not read, left out (4): 3 .heic, 1 .txt"
    assert discover("mine", mvtec_root, None).notes == [message]
    (pictures / "bad/2.gif").write_bytes(b"x")
    table = table_of(pictures, "image\ngood/0.png\n")
    notes = discover("mine", pictures, table).notes
    assert "files of formats that are not read, left out (1): 1 .gif" in notes


def test_images_outside_the_layout_are_named(mvtec_root):
    images_in(mvtec_root, "valve/train/loose.png", "notes/photo.png")
    found = discover("mine", mvtec_root, None)
    assert found.notes == ["other images in the folder, left out (2): notes/photo.png, valve/train/loose.png"]
    assert len(found.rows) == 5


# Layout (b): good, bad and masks


def test_good_bad_masks_folders_leave_the_phase_open(pictures):
    assert brief(discover("mine", pictures, None)) == [
        ("bad/0.png", "mine", "", 1, "anomaly", "masks/0_mask.png"),
        ("bad/1.png", "mine", "", 1, "anomaly", None),
        ("good/0.png", "mine", "", 0, "good", None),
        ("good/1.png", "mine", "", 0, "good", None),
        ("good/2.png", "mine", "", 0, "good", None),
    ]


def test_good_bad_folders_may_be_those_of_classes_with_defect_types(tmp_path):
    images_in(
        tmp_path, "nut/good/0.png", "nut/bad/bent/0.png", "nut/bad/cut/0.png", "bolt/good/0.png", "bolt/bad/7.png"
    )
    masks_in(tmp_path, "nut/masks/bent/0.png", "nut/masks/cut/0_mask.png", "bolt/masks/7.png", "bolt/masks/8.png")
    found = discover("mine", tmp_path, None)
    assert [row for row in brief(found) if row[3] == 1] == [
        ("bolt/bad/7.png", "bolt", "", 1, "anomaly", "bolt/masks/7.png"),
        ("nut/bad/bent/0.png", "nut", "", 1, "bent", "nut/masks/bent/0.png"),
        ("nut/bad/cut/0.png", "nut", "", 1, "cut", "nut/masks/cut/0_mask.png"),
    ]
    assert found.unmatched_masks == ["bolt/masks/8.png"]


def test_good_images_alone_are_a_data_set(tmp_path):
    found = discover("mine", images_in(tmp_path, "good/0.png", "good/1.png"), None)
    assert [row[:4] for row in brief(found)] == [("good/0.png", "mine", "", 0), ("good/1.png", "mine", "", 0)]


def test_a_normal_image_does_not_take_the_mask_of_the_bad_one_of_its_name(pictures):
    found = discover("mine", pictures, None)  # good/0.png and bad/0.png, and one masks/0_mask.png
    assert {row.image for row in found.rows if row.mask} == {"bad/0.png"}


def test_masks_in_one_folder_that_fit_two_defect_types_are_ambiguous(tmp_path):
    images_in(tmp_path, "good/0.png", "bad/bent/0.png", "bad/cut/0.png")
    masks_in(tmp_path, "masks/0.png")
    with pytest.raises(InputError, match=r"masks/0\.png: two images .*bad/bent/0\.png and .*bad/cut/0\.png"):
        discover("mine", tmp_path, None)


# Folders of other names, and none


@pytest.fixture
def named(tmp_path) -> Path:
    """One class: two folders of normal images, two of defects, masks elsewhere."""
    root = tmp_path / "named"
    images_in(root, "ok/0.png", "fine/1.png", "fine/2.png", "defects/scratch/0.png", "defects/dent/0.png", "x.png")
    return masks_in(root, "labels/defects/scratch/0.png", "labels/dent/0_mask.png")


def test_folders_of_other_names(named):
    layout = named_layout(("ok", "fine"), ("defects",), "labels")
    masks_in(named, "labels/scratch/0.png")
    (named / "labels/defects/scratch/0.png").unlink()
    found = discover("mine", named, None, layout)
    assert brief(found) == [
        ("defects/dent/0.png", "mine", "", 1, "dent", "labels/dent/0_mask.png"),
        ("defects/scratch/0.png", "mine", "", 1, "scratch", "labels/scratch/0.png"),
        ("fine/1.png", "mine", "", 0, "good", None),
        ("fine/2.png", "mine", "", 0, "good", None),
        ("ok/0.png", "mine", "", 0, "good", None),
    ]
    assert found.layout == "folders (ok, fine, defects, labels)"
    assert found.notes == ["other images in the folder, left out (1): x.png"]


def test_several_abnormal_folders_are_types_of_defects_and_may_lie_deep(named):
    layout = named_layout(("ok",), ("defects/scratch", "defects/dent"), "labels")
    found = discover("mine", named, None, layout)
    assert [row[2:] for row in brief(found) if row[3]] == [
        ("", 1, "dent", None),
        ("", 1, "scratch", "labels/defects/scratch/0.png"),
    ]


def test_folders_of_other_names_may_be_those_of_classes(named):
    found = discover("mine", named.parent, None, named_layout(("ok",), ("defects",)))
    assert {row.class_name for row in found.rows} == {"named"}
    assert found.layout == "folders (<class>/ok, <class>/defects, <class>/masks)"


@pytest.mark.parametrize("names", [{"normal": ["../ok"]}, {"abnormal": ["/defects"]}, {"masks": ""}])
def test_names_that_leave_the_folder_are_one_line(names):
    with pytest.raises(InputError, match=r"^.*: must be the name of a folder"):
        named_layout(**names)


def test_names_that_fit_nothing_are_one_line(named):
    with pytest.raises(InputError, match=r"named: has no folder O\.K\. of normal images, nor has one of its folders"):
        discover("mine", named, None, named_layout(("O.K.",)))


def test_a_flat_folder_of_images_is_one_class_of_normal_images(tmp_path, workspace):
    root = images_in(tmp_path / "flat", "2.png", "0.jpg", "1.webp", "more/3.png")
    found = discover("mine", root, None)
    assert brief(found) == [(name, "mine", "", 0, "good", None) for name in ("0.jpg", "1.webp", "2.png")]
    assert found.notes == [
        "no folders are known in it: all images are taken as normal ones of the class mine",
        "other images in the folder, left out (1): more/3.png",
    ]
    assert "2 normal images to train on, 1 normal and 0 anomalous to test on" in run(root, workspace)


# Taking back


def test_what_was_imported_can_be_taken_back_byte_for_byte(pictures, workspace):
    before = files_below(workspace.root.absolute())
    run(pictures, workspace)
    text = remove_data("shop", workspace=workspace, params_path=Path("params.yaml"))
    assert text.splitlines() == [
        "params.yaml: data set shop removed, and what is built on it: shop",
        "data/import/shop.csv: removed",
        f"{pictures}: the images stay as they are, and so do results",
    ]
    assert files_below(workspace.root.absolute()) == before
    assert len(files_below(pictures)) == 6


def test_only_imported_data_sets_can_be_taken_back(pictures, workspace):
    run(pictures, workspace)
    before = files_below(workspace.root.absolute())
    for name, message in (("mvtec", "mvtec: was not imported; imported are shop"), ("shpo", "unknown data set 'shpo'")):
        with pytest.raises(InputError, match=message):
            remove_data(name, workspace=workspace, params_path=Path("params.yaml"))
    text = Path("params.yaml").read_text().replace("ablations: {}", "ablations:\n  ssm: {benchmark: shop}")
    Path("params.yaml").write_text(text)
    with pytest.raises(InputError, match=r"^params\.yaml: ablations\.ssm.*shop"):
        remove_data("shop", workspace=workspace, params_path=Path("params.yaml"))
    assert Path("params.yaml").read_text() == text
    assert files_below(workspace.root.absolute()).keys() == before.keys()


# Both trees


def test_two_images_of_one_stem_are_both_taken_but_cannot_share_a_mask(pictures):
    images_in(pictures, "good/0.jpg", "bad/1.jpg")  # bad/1 has no mask
    assert len(discover("mine", pictures, None).rows) == 7
    images_in(pictures, "bad/0.jpg")
    with pytest.raises(InputError, match=r"masks/0_mask\.png: two images .*bad/0\.jpg and .*bad/0\.png"):
        discover("mine", pictures, None)


def test_two_masks_for_one_image_are_ambiguous(pictures):
    masks_in(pictures, "masks/0.png")
    with pytest.raises(InputError, match=r"bad/0\.png: two masks .*masks/0\.png and .*masks/0_mask\.png"):
        discover("mine", pictures, None)


def test_hidden_files_are_ignored_and_suffixes_are_of_any_case(pictures):
    for name in ("good/.DS_Store", "good/._0.png", "good/Thumbs.db", "__MACOSX/good/._0.png"):
        (pictures / name).parent.mkdir(parents=True, exist_ok=True)
        (pictures / name).write_bytes(b"no image")
    save_image(pictures / "upper.png").rename(pictures / "good/3.PNG")
    found = discover("mine", pictures, None)
    assert [row.image for row in found.rows if row.label == 0] == [
        f"good/{n}" for n in ("0.png", "1.png", "2.png", "3.PNG")
    ]
    assert found.notes == []


def test_names_with_spaces_and_other_scripts_pass_through_the_table(tmp_path):
    root = images_in(tmp_path / "my pictures", "Schraube äö/good/a b.png", 'Schraube äö/good/é,"x".png')
    images_in(root, "Schraube äö/bad/Kratzer tief/螺丝.png")
    masks_in(root, "Schraube äö/masks/Kratzer tief/螺丝_mask.png")
    found = discover("mine", root, None)
    write_import_table(found.rows, tmp_path / "table.csv")
    assert sorted(read_table(tmp_path / "table.csv", root, "mine"), key=lambda row: row.image) == sorted(
        found.rows, key=lambda row: row.image
    )
    rows = build_table(root, tmp_path / "table.csv", CONFIG, "mine")
    assert [row.mask for row in rows if row.label] == ["Schraube äö/masks/Kratzer tief/螺丝_mask.png"]


def test_a_name_that_is_not_utf8_is_refused(pictures):
    shutil.copy(pictures / "good/0.png", os.fsencode(pictures / "good") + b"/\xff.png")
    with pytest.raises(InputError, match=r"good: the file name '\\udcff\.png' is not UTF-8"):
        discover("mine", pictures, None)


def test_a_link_to_a_folder_elsewhere_is_followed(pictures, tmp_path):
    (pictures / "good").rename(tmp_path / "elsewhere")
    (pictures / "good").symlink_to(tmp_path / "elsewhere")
    assert len(discover("mine", pictures, None).rows) == 5


def test_the_rows_do_not_depend_on_the_order_in_which_a_folder_lists_its_files(pictures, monkeypatch):
    expected = discover("mine", pictures, None)
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: reversed(sorted(listed(folder))))
    assert discover("mine", pictures, None) == expected


# What is not guessed


@pytest.mark.parametrize("folder", ["bad", "masks", "test"])
def test_loose_images_beside_a_folder_of_a_layout_are_not_guessed(tmp_path, folder):
    with pytest.raises(
        InputError, match=r"no layout that is known; known are train/good.* or good, bad, masks, .*--table"
    ):
        discover("mine", images_in(tmp_path, "0.png", "1.png", f"{folder}/0.png"), None)


def test_bad_images_alone_are_no_layout(tmp_path):
    with pytest.raises(InputError, match="no layout that is known"):
        discover("mine", images_in(tmp_path, "bad/0.png"), None)


@pytest.mark.parametrize(
    "others",
    [("train/good/0.png",), ("valve/train/good/0.png",), ("valve/good/0.png",)],
    ids=["a class of (a)", "classes of (a)", "classes of (b)"],
)
def test_two_layouts_in_one_folder_are_ambiguous(pictures, others):
    with pytest.raises(InputError, match=r"more than one layout matches; .* --table"):
        discover("mine", images_in(pictures, *others), None)


def test_of_several_tables_one_must_be_given_and_a_tree_goes_before_a_table(tmp_path):
    table_of(tmp_path, "image\n0.png\n", "a.csv")
    table_of(tmp_path, "image\n0.png\n", "b.csv")
    with pytest.raises(InputError, match=r"no layout that is known.* give it with --table"):
        discover("mine", tmp_path, None)
    assert len(discover("mine", tmp_path, tmp_path / "b.csv").rows) == 1
    found = discover("mine", images_in(tmp_path, "good/0.png", "good/1.png"), None)
    assert (len(found.rows), found.notes) == (2, ["files of formats that are not read, left out (2): 2 .csv"])


@pytest.mark.parametrize("name", ["nowhere", "file.txt"])
def test_no_folder_is_an_error(tmp_path, name):
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(InputError, match=f"{name}: is not a folder of images"):
        discover("mine", tmp_path / name, None)


def test_a_class_without_images_is_an_error(pictures):
    (pictures / "empty/good").mkdir(parents=True)
    shutil.move(pictures / "good", pictures / "nut/good")
    shutil.move(pictures / "bad", pictures / "nut/bad")
    with pytest.raises(InputError, match="empty: the class empty has no images in good or bad"):
        discover("mine", pictures, None)


# Layout (c): a table that the user brings


def test_a_table_with_all_columns(pictures):
    table = table_of(
        pictures,
        "image,class,phase,label,mask,defect_type,camera\n"
        f"good/0.png,nut,train,Good,,,left\n./good/1.png,nut,TEST,ok,,,left\n{pictures}/bad/0.png,nut,,Defect,masks/0_mask.png,dent,up\n"
        "bad/1.png,,test,1,,,\n",
        "list.csv",
    )
    found = discover("mine", pictures, table)
    assert brief(found) == [
        ("bad/0.png", "nut", "", 1, "dent", "masks/0_mask.png"),
        ("bad/1.png", "mine", "test", 1, "anomaly", None),
        ("good/0.png", "nut", "train", 0, "good", None),
        ("good/1.png", "nut", "test", 0, "good", None),
    ]
    assert found.notes == [
        "unknown columns, ignored: camera",
        "other images in the folder, left out (1): good/2.png",
    ]


@pytest.mark.parametrize("word", ["0", "good", "Normal", "OK"])
def test_words_for_normal(tmp_path, word):
    assert discover("mine", tmp_path, table_of(tmp_path, f"image,label\n0.png,{word}\n")).rows[0].label == 0


@pytest.mark.parametrize("word", ["1", "bad", "Anomalous", "anomaly", " DEFECT "])
def test_words_for_anomalous(tmp_path, word):
    assert discover("mine", tmp_path, table_of(tmp_path, f"image,label\n0.png,{word}\n")).rows[0].label == 1


def test_without_labels_an_image_with_a_mask_is_anomalous(pictures):
    table = table_of(pictures, "image,mask\ngood/0.png,\ngood/1.png,\nbad/0.png,masks/0_mask.png\n")
    found = discover("mine", pictures, table)
    assert [row[:4] for row in brief(found)] == [
        ("bad/0.png", "mine", "", 1),
        ("good/0.png", "mine", "", 0),
        ("good/1.png", "mine", "", 0),
    ]


def test_the_only_table_of_a_folder_is_taken(tmp_path):
    images_in(tmp_path, "x/0.png", "x/1.png")
    table = table_of(tmp_path, "\ufeffIMAGE\r\nx/0.png\r\n\r\nx/1.png\r\n")  # as Excel writes it
    assert discover("mine", tmp_path, None) == discover("mine", tmp_path, table)
    assert [row.image for row in discover("mine", tmp_path, None).rows] == ["x/0.png", "x/1.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("picture,label\n0.png,0\n", r"t\.csv: the columns image are missing; it has picture, label"),
        ("image,label\n0.png,0\n1.png,maybe\n", r"t\.csv: line 3: label must be one of 0, good, .*, not 'maybe'"),
        ("image,label\n0.png,\n", r"t\.csv: line 2: label must be one of .*, not ''"),
        ("image,phase\n0.png,val\n", r"t\.csv: line 2: phase must be train, labelled, test or empty, not 'val'"),
        ("image\n../0.png\n", r"t\.csv: line 2: image '\.\./0\.png' leaves the images' folder"),
        ("image\n/elsewhere/0.png\n", r"t\.csv: line 2: image '/elsewhere/0\.png' leaves the images' folder"),
        ("image,label,phase\n0.png,bad,train\n", r"t\.csv: line 2: 0\.png: an anomalous image in train"),
        ("image,label,mask\n0.png,ok,m.png\n", r"t\.csv: line 2: 0\.png: a normal image with a mask"),
        ("image\n0.png\n1.png\n./0.png\n", r"t\.csv: line 4: 0\.png: this image is listed before, in .*t\.csv: line 2"),
        ("image,Image\n0.png,0.png\n", r"t\.csv: the column 'image' occurs twice"),
    ],
)
def test_a_wrong_table_is_one_line_with_file_and_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        discover("mine", tmp_path, table_of(tmp_path, text, "t.csv"))


# The table in git


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the columns image are missing; it has none"),
        (HEADER.encode(), "has no rows"),
        (b"image;class\n0.png;nut\n", "the columns image are missing; it has image;class"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "not a CSV file in UTF-8"),
        ("image\n0.png\n".encode("utf-16"), "not a CSV file in UTF-8"),
        (HEADER.encode() + b"0.png,nut,,0,,\n\0\n", "not a CSV file in UTF-8, it has a NUL byte"),
        (HEADER.encode() + b'"0.png,nut,,0,,\n', "line 2: not a CSV file"),
        (HEADER.encode() + b"0.png,nut,,0,\n", "line 2: does not have 6 cells, as the header has"),
        (HEADER.encode() + b"0.png,nut,,0,,,\n", "line 2: does not have 6 cells, as the header has"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=rf"t\.csv: {message}") as error:
        read_table(tmp_path / "t.csv", tmp_path, "")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1.png,nut,val,0,,", "phase must be train, labelled, test or empty, not 'val'"),
        ("1.png,nut,,2,,", r"label must be one of 0, good, .*, not '2'"),
        ("1.png,nut,,,,", "label must be one of 0"),
        (",nut,,0,,", "image is empty"),
        ("1.png,,,0,,", "class is empty"),
        ("1.png,nut,train,1,dent,", r"1\.png: an anomalous image in train"),
        ("1.png,nut,,1,good,", r"1\.png: an anomalous image of the defect type good"),
        ("1.png,nut,,0,,m.png", r"1\.png: a normal image with a mask"),
        ("0.png,nut,,0,,", r"0\.png: this image is listed before, in .*t\.csv: line 2"),
        ("a/../../1.png,nut,,0,,", "image 'a/../../1.png' leaves the images' folder"),
        ("1.png,nut,,1,,/m.png", "mask '/m.png' leaves the images' folder"),
    ],
)
def test_a_wrong_line_of_the_table_is_named(tmp_path, line, message):
    table_of(tmp_path, f"{HEADER}0.png,nut,,0,,\n\n{line}\n", "t.csv")  # the blank line counts as a line
    with pytest.raises(InputError, match=rf"t\.csv: line 4: {message}"):
        read_table(tmp_path / "t.csv", tmp_path, "")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(InputError, match=r"t\.csv: cannot be read \(No such file or directory\)"):
        read_table(tmp_path / "t.csv", tmp_path, "")


def test_the_table_builds_the_split_rows(tmp_path):
    images_in(tmp_path, "b/0.png", "b/1.png", "b/2.png", "a/0.png", "a/1.png")
    save_image(tmp_path / "a/2.png", size=12)
    save_mask(tmp_path / "a/m.png", size=12)
    table = table_of(
        tmp_path,
        f"{HEADER}b/2.png,b,,1,,\nb/1.png,b,train,0,,\nb/0.png,b,test,0,,\na/2.png,a,,1,dent,a/m.png\na/1.png,a,test,0,,\na/0.png,a,,0,,\n",
    )
    rows = build_table(tmp_path, table, CONFIG, "mine")
    assert [
        (row.class_name, row.phase, row.image, row.label, row.defect_type, row.mask, row.width) for row in rows
    ] == [
        ("a", "train", "a/0.png", 0, "good", None, 8),
        ("a", "test", "a/1.png", 0, "good", None, 8),
        ("a", "test", "a/2.png", 1, "dent", "a/m.png", 12),
        ("b", "train", "b/1.png", 0, "good", None, 8),
        ("b", "test", "b/0.png", 0, "good", None, 8),
        ("b", "test", "b/2.png", 1, "anomaly", None, 8),
    ]
    assert {row.dataset for row in rows} == {"mine"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["gone.png,nut,,0,,"], r"t\.csv: line 3: .*gone\.png: no such image"),
        (["t.csv,nut,,0,,"], r"t\.csv: line 3: .*t\.csv: not an image"),
        (["1.png,nut,,1,,gone.png"], r"t\.csv: line 3: .*gone\.png: no such image"),
        (
            ["1.png,nut,,1,,big.png"],
            r"t\.csv: line 3: .*big\.png: has 16x16 pixels, but its image .*1\.png has 8x8",
        ),
        (["1.png,bolt,test,0,,", "big.png,nut,,1,,"], r"t\.csv: the class bolt has no normal image to train on"),
        (["1.png,nut,train,0,,"], r"t\.csv: the class nut has no image to test on"),
    ],
)
def test_what_does_not_fit_the_files_is_named(tmp_path, lines, message):
    images_in(tmp_path, "0.png", "1.png")
    save_mask(tmp_path / "big.png", size=16)
    table = table_of(tmp_path, HEADER + "\n".join(["0.png,nut,train,0,,", *lines, ""]), "t.csv")
    with pytest.raises(InputError, match=message):
        build_table(tmp_path, table, CONFIG, "mine")


# The split by seed


def normal_rows(names: list[str], phase: str = "") -> list[ImportRow]:
    return [ImportRow(name, "nut", phase, 0, "good", None) for name in names]


def chosen(rows: list[ImportRow], config: TableSplitConfig = CONFIG) -> set[str]:
    return {row.image for row in with_phases(rows, config) if row.phase == "test"}


NAMES = [f"good/{number:03d}.png" for number in range(100)]


def test_the_test_images_are_the_first_by_hash():
    digests = {name: hashlib.sha256(f"7/{name}".encode()).hexdigest() for name in NAMES[:11]}
    expected = set(sorted(digests, key=digests.get)[:3])  # a fifth of 11, rounded up
    assert chosen(normal_rows(NAMES[:11]), TableSplitConfig(seed=7)) == expected
    assert chosen(normal_rows(NAMES[10::-1]), TableSplitConfig(seed=7)) == expected


def test_another_seed_is_another_split():
    assert chosen(normal_rows(NAMES)) != chosen(normal_rows(NAMES), TableSplitConfig(seed=1))


@pytest.mark.parametrize(
    ("images", "share", "expected"),
    [(100, 0.07, 7), (100, 0.2, 20), (1, 0.2, 0), (2, 0.2, 1), (3, 0.99, 2), (6, 0.2, 2)],
)
def test_the_share_is_rounded_up_and_leaves_one_to_train_on(images, share, expected):
    assert len(chosen(normal_rows(NAMES[:images]), TableSplitConfig(test_share=share))) == expected


def test_phases_that_are_given_stay_and_do_not_count_for_the_share():
    rows = normal_rows(NAMES[:5], "train") + normal_rows(NAMES[5:7], "test") + normal_rows(NAMES[7:8])
    assert chosen(rows) == {*NAMES[5:7], NAMES[7]}  # a fifth of one is one, and there are others to train on


@pytest.mark.parametrize("added", [f"good/new {number}.png" for number in range(8)])
def test_one_more_image_moves_one_other_at_most(added):
    before, after = chosen(normal_rows(NAMES[:33])), chosen(normal_rows([*NAMES[:33], added]))
    assert len(before ^ (after - {added})) <= 1


def test_the_classes_are_split_each_for_itself():
    other = [ImportRow(f"bolt/{number}.png", "bolt", "", 0, "good", None) for number in range(10)]
    assert chosen(normal_rows(NAMES) + other) == chosen(normal_rows(NAMES)) | chosen(other)


# What is printed


def test_the_understanding_lists_classes_masks_and_notes():
    rows = [
        ImportRow("a.png", "nut", "train", 0, "good", None),
        ImportRow("b.png", "nut", "", 0, "good", None),
        ImportRow("c.png", "nut", "", 1, "dent", "m.png"),
        ImportRow("d.png", "nut", "test", 1, "dent", None),
        ImportRow("e.png", "bolt", "test", 0, "good", None),
    ]
    masks = [f"masks/{number}.png" for number in range(23)]
    assert understanding(Discovery("some tree", Path(), rows, masks, ["one thing", "another"])).splitlines() == [
        "layout: some tree",
        "",
        "class  train normal  test normal  normal without phase  anomalous  masks missing",
        "bolt              0            1                     0          0              0",
        "nut               1            0                     1          2              1",
        f"note: masks without an image, left out (23): {', '.join(sorted(masks)[:20])} and 3 more",
        "note: one thing",
        "note: another",
    ]


# The import as a whole


def test_an_import_writes_the_table_and_adds_the_benchmark(pictures, workspace):
    before = load_params()
    text = run(pictures, workspace, config=TableSplitConfig(seed=3, test_share=0.5))
    assert Path("data/import/shop.csv").read_text().splitlines() == [
        "image,class,phase,label,defect_type,mask",
        "bad/0.png,shop,,1,anomaly,masks/0_mask.png",
        "bad/1.png,shop,,1,anomaly,",
        "good/0.png,shop,,0,good,",
        "good/1.png,shop,,0,good,",
        "good/2.png,shop,,0,good,",
    ]
    params = load_params()
    download, benchmark, copied = params.dataset("shop"), params.benchmark("shop"), before.benchmark("mvtec")
    assert (download.source, download.path, download.table) == ("path", str(pictures), "data/import/shop.csv")
    assert benchmark.splits == TableSplitConfig(seed=3, test_share=0.5)
    assert (benchmark.features, benchmark.score) == (copied.features, copied.score)
    # One image is left: batches of 1 instead of 32, the rate in proportion, and as many epochs as steps.
    assert benchmark.train == replace(copied.train, epochs=600, batch_size=1, learning_rate=0.004 / 32)
    assert benchmark.calibration == CalibrationConfig(share=0.33, false_positive_rate=0.01, seed=0)
    assert text.startswith("layout: folders (good, bad, masks)\n")
    assert (
        "shop: 1 class, 1 normal images to train on, 2 normal and 2 anomalous to test on "
        "(1 without a mask count in the image metrics only)\n" in text
    )
    assert (
        "params.yaml: benchmark shop added, its features, train and score copied from mvtec, and fitted to these images\n"
        in text
    )


@pytest.mark.parametrize(
    ("images", "classes", "gpu", "expected"),
    [
        # 13 of 40 are kept, 27 are 3 batches of 8, and 200 epochs of 3 are 600 steps
        (40, 1, False, {"calibration": {"share": 0.33}, "train": {"epochs": 200}}),
        (
            *(40, 1, True),
            {
                "calibration": {"share": 0.33},
                "train": {"epochs": 1000},
                "features": {"image_size": 256},
                "score": {"sigma": "method"},
            },
        ),
        # 100 of 1,000 are kept, 900 are 112 batches: the 15 epochs of the benchmark copied are enough for a CPU
        (1000, 1, False, {"calibration": {"share": 0.1}, "train": {"epochs": 15}}),
        # 30 of the 100 of each class are kept
        (1000, 10, False, {"calibration": {"share": 0.3}, "train": {"epochs": 15}}),
        # 2 of 5 are kept: one batch of 3
        (
            5,
            1,
            False,
            {"calibration": {"share": 0.33}, "train": {"epochs": 600, "batch_size": 3, "learning_rate": 0.006}},
        ),
    ],
)
def test_the_recipe_fits_the_number_of_images_and_the_machine(images, classes, gpu, expected):
    quick = load_params(REPOSITORY / "params.yaml").benchmark("mvtec")
    assert recipe(images, quick, gpu=gpu, classes=classes) == expected


def test_the_recipe_and_what_comes_of_it_are_said(workspace, tmp_path):
    shutil.copy(REPOSITORY / "params.yaml", "params.yaml")
    images_in(tmp_path / "many", *(f"good/{number:02}.png" for number in range(50)))
    lines = run(tmp_path / "many", workspace, config=TableSplitConfig(test_share=0.2), gpu=True).splitlines()
    (said,) = [line for line in lines if line.startswith("recipe for")]
    assert said.startswith("recipe for 27 images: 1000 epochs of invad at 256 pixels, 3000 steps; --like takes")
    (kept,) = [line for line in lines if "for thresholds" in line]
    assert kept.startswith(
        "params.yaml: calibration.shop.share: keeps 13 images for thresholds; about 1 in 14 normal images"
    )
    benchmark = load_params().benchmark("shop")
    assert (benchmark.train.epochs, benchmark.features.image_size, benchmark.score.sigma) == (1000, 256, "method")


def test_the_next_commands_are_those_that_can_run_here(pictures, workspace):
    def commands(**options) -> list[str]:
        return run(pictures, workspace, **options).split("\nnext:\n")[1].splitlines()

    assert commands() == ["  invad-pipe data check shop"]  # outside of the repository
    workspace.root.joinpath("dvc.yaml").touch()
    stages = ["  dvc repro splits@shop", "  invad-pipe data check shop", "  dvc repro evaluate@shop"]
    assert commands(name="other") == [line.replace("shop", "other") for line in stages]
    assert commands(force=True) == ["  dvc repro -f download@shop", *stages]


def test_the_imported_table_builds_what_was_announced(pictures, workspace):
    run(pictures, workspace)
    download = load_params().dataset("shop")
    rows = build_table(Path(download.path), Path(download.table), CONFIG, "shop")
    assert [row.phase for row in rows] == ["train", "train", "test", "test", "test"]


def test_the_same_data_give_the_same_table_bytes(pictures, workspace, tmp_path):
    run(pictures, workspace)
    shutil.copytree(pictures, tmp_path / "a copy elsewhere")
    run(tmp_path / "a copy elsewhere", workspace, "again")
    first, second = (Path(f"data/import/{name}.csv").read_bytes() for name in ("shop", "again"))
    assert first == second.replace(b"again", b"shop")


def test_like_names_the_benchmark_to_copy_from(pictures, workspace):
    assert "copied from coco_ad_0\n" in run(pictures, workspace, like="coco_ad_0", gpu=True)
    assert load_params().benchmark("shop").train == load_params().benchmark("coco_ad_0").train


@pytest.mark.parametrize("name", ["a b", "../x", "", "naïve", "x\n", "coco", "mvtec", "visa", "coco_ad_0", "workers"])
def test_a_name_that_cannot_be_one_is_refused_and_nothing_written(pictures, workspace, name):
    before = files_below(Path())
    with pytest.raises(InputError, match="name"):
        run(pictures, workspace, name)
    assert files_below(Path()) == before


@pytest.mark.parametrize(
    ("spoil", "options"),
    [
        (lambda root: save_mask(root / "masks/0_mask.png", size=9), {}),
        (lambda root: (root / "good/1.png").write_bytes(b"no image"), {}),
        (lambda root: shutil.rmtree(root / "good"), {}),
        (lambda root: None, {"like": "no such benchmark"}),
        (lambda root: Path("params.yaml").write_text("download: {}\n"), {}),
    ],
    ids=["mask size", "no image", "no layout", "like", "params"],
)
def test_nothing_is_written_when_anything_is_wrong(pictures, workspace, spoil, options):
    spoil(pictures)
    before = files_below(Path())
    with pytest.raises(InputError):
        run(pictures, workspace, **options)
    assert files_below(Path()) == before


def test_a_name_that_is_there_is_refused_without_force(pictures, workspace):
    run(pictures, workspace)
    before = files_below(Path())
    images_in(pictures, "good/3.png")
    with pytest.raises(InputError, match="shop: there is a data set or benchmark of this name already; --force"):
        run(pictures, workspace)
    assert files_below(Path()) == before


def test_a_table_without_a_benchmark_is_not_overwritten_without_force(pictures, workspace):
    table_of(Path("data/import"), "by hand", "shop.csv")
    with pytest.raises(InputError, match="--force"):
        run(pictures, workspace)
    assert Path("data/import/shop.csv").read_text() == "by hand"
    run(pictures, workspace, force=True)
    assert len(read_table(Path("data/import/shop.csv"), Path(), "shop")) == 5
    assert "shop" in load_params().benchmarks


def test_force_replaces_table_and_path_and_keeps_the_settings(pictures, workspace, tmp_path):
    run(pictures, workspace, config=TableSplitConfig(seed=3, test_share=0.5))
    settings = load_params().benchmark("shop")
    moved = images_in(pictures.rename(tmp_path / "moved"), "good/3.png")
    text = run(moved, workspace, force=True, like="coco_ad_0", config=TableSplitConfig(seed=9))
    assert load_params().benchmark("shop") == settings
    assert load_params().dataset("shop").path == str(moved)
    assert len(read_table(Path("data/import/shop.csv"), Path(), "shop")) == 6
    assert "2 normal images to train on, 2 normal" in text  # half of four, as the benchmark's own settings say


def test_a_failed_replacement_leaves_the_old_table(pictures, workspace):
    run(pictures, workspace)
    before = files_below(Path())
    save_mask(pictures / "masks/0_mask.png", size=9)
    with pytest.raises(InputError, match="9x9"):
        run(pictures, workspace, force=True)
    assert files_below(Path()) == before


def test_an_error_of_a_given_table_names_it(pictures, workspace):
    table = table_of(pictures, "image,label\nbad/0.png,1\n")
    with pytest.raises(InputError, match=r"table\.csv: the class shop has no normal image to train on"):
        run(pictures, workspace, table=table)


def test_an_import_leaves_every_line_of_the_repositorys_settings(pictures, workspace):
    shutil.copy(REPOSITORY / "params.yaml", "params.yaml")
    before = Path("params.yaml").read_text().splitlines()
    run(pictures, workspace)
    after = iter(Path("params.yaml").read_text().splitlines())
    assert all(line in after for line in before)  # in their order, because `in` moves the iterator on
    assert load_params().benchmark("shop").dataset == "shop"


def test_the_leather_slice(real_data, workspace):
    shutil.copy(REPOSITORY / "params.yaml", "params.yaml")
    root = real_data / "mvtec_leather_slice"
    text = run(root, workspace, "leather")
    with Path("data/import/leather.csv").open() as file:
        rows = list(csv.DictReader(file))
    masks = {str(path.relative_to(root)) for path in root.glob("ground_truth/*/*.png")}
    images = {str(path.relative_to(root)) for path in root.glob("t*/*/*.png")}
    assert ({row["image"] for row in rows}, len(rows)) == (images, 28)
    counts = Counter((row["phase"], row["label"]) for row in rows)
    assert counts == {("train", "0"): 4, ("test", "0"): 4, ("test", "1"): 20}
    matched = {row["mask"] for row in rows} - {""}
    assert (len(masks), len(matched)) == (18, 11) and matched < masks
    for row in rows:
        fits = row["image"].replace("test/", "ground_truth/").replace(".png", "_mask.png")
        assert row["mask"] == (fits if fits in masks else "")
    assert f"masks without an image, left out (7): {', '.join(sorted(masks - matched))}\n" in text
    assert "4 normal images to train on, 4 normal and 20 anomalous to test on (9 without a mask" in text


# Data as they are published


VIEWS = "image,class,phase,label,mask,group,view\n"


def test_views_of_an_object_and_labelled_images_come_from_a_table(tmp_path, workspace):
    names = [f"{group}_{view}.png" for group in ("a", "b", "c", "d", "e") for view in ("C1", "C2")]
    root = masks_in(images_in(tmp_path / "cups", *names, "seen.png"), "e_C1_mask.png")
    lines = [
        f"{name},cup,,{int(name == 'e_C1.png')},{'e_C1_mask.png' * (name == 'e_C1.png')},OK/{name[0]},{name[2:4]}"
        for name in names
    ]
    table = table_of(root, VIEWS + "\n".join([*lines, "seen.png,cup,labelled,1,,,"]) + "\n")
    text = run(root, workspace, "cups", table=table)
    assert text.splitlines()[2].split()[-2:] == ["labelled", "objects"]
    assert text.splitlines()[3].split() == ["cup", "0", "0", "9", "1", "0", "1", "6"]
    assert "unknown columns" not in text
    written = workspace.imported_table("cups")
    assert "group,view" in written.read_text().splitlines()[0]
    rows = build_table(root, written, CONFIG, "cups")
    phases = {}
    for row in rows:
        phases.setdefault(row.group, set()).add(row.phase)
    assert phases["OK/e"] == {"test"}  # the other view of an object with a defect, too
    assert all(len(each) == 1 for each in phases.values())
    assert sorted(each for phase in phases.values() for each in phase) == [
        "labelled",
        "test",
        "test",
        "train",
        "train",
        "train",
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("a.png,cup,train,0,,,C1",), "group is empty, but the view 'C1' is one of an object"),
        (
            ("a.png,cup,train,0,,x,C1", "b.png,cup,test,0,,x,C2"),
            r"line 3: b\.png: the views of x have the phases train and test; give them one",
        ),
        (("a.png,cup,seen,0,,,",), "phase must be train, labelled, test or empty, not 'seen'"),
    ],
)
def test_views_that_contradict_each_other_are_named(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        read_table(table_of(tmp_path, VIEWS + "\n".join(lines) + "\n"), tmp_path, "cup")


def published_tree(root: Path, suffix: str = "png") -> Path:
    images_in(
        root, f"train/good/0.{suffix}", f"train/good/1.{suffix}", f"test/good/2.{suffix}", f"test/dent/3.{suffix}"
    )
    (root / "ground_truth/dent").mkdir(parents=True)
    return root


def as_published(mode: str) -> Image.Image:
    """A mask of four anomalous pixels in a mode, with whatever a reader must not take for more of them."""
    values = np.zeros((8, 8), np.uint8)
    values[:2, :2] = 255
    if mode == "P":
        image = Image.fromarray(values // 255, "P")
        image.putpalette([255, 0, 0, 0, 255, 0])  # the colour of normal pixels is not black
        return image
    if mode == "RGBA":
        image = Image.fromarray(values).convert("RGBA")
        image.putalpha(3)  # almost transparent everywhere
        return image
    return Image.fromarray(values).convert(mode)


@pytest.mark.parametrize(
    ("mode", "suffix"), [("1", "png"), ("P", "png"), ("RGB", "png"), ("RGBA", "png"), ("L", "bmp")]
)
def test_masks_in_the_modes_and_formats_of_published_sets_are_the_same_mask(tmp_path, workspace, mode, suffix):
    root = published_tree(tmp_path / "tile", "jpg")  # and masks in another format than the images
    path = root / f"ground_truth/dent/3.{suffix}"
    as_published(mode).save(path)
    run(root, workspace)
    (row,) = [row for row in build_table(root, workspace.imported_table("shop"), CONFIG, "shop") if row.label]
    assert row.mask == f"ground_truth/dent/3.{suffix}"
    assert read_mask(root / row.mask).sum() == 4


def test_grey_edges_of_a_mask_are_anomalous_and_an_empty_mask_is_taken_and_reported(tmp_path, workspace):
    root = published_tree(tmp_path / "tile")
    images_in(root, "test/dent/4.png")
    edges = np.zeros((8, 8), np.uint8)
    edges[0, :3] = (1, 128, 255)
    Image.fromarray(edges).save(root / "ground_truth/dent/3_mask.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / "ground_truth/dent/4_mask.png")
    run(root, workspace)
    rows = build_table(root, workspace.imported_table("shop"), CONFIG, "shop")
    assert read_mask(root / "ground_truth/dent/3_mask.png").sum() == 3
    report = check_split(Split(tuple(rows), root, root), workers=1, label="check")
    found = {finding.kind: finding.files for finding in report.findings}
    assert found["mask-empty"] == ("ground_truth/dent/4_mask.png", "test/dent/4.png")


def test_images_of_many_sizes_and_the_same_picture_in_two_parts_are_taken(tmp_path, workspace):
    root = published_tree(tmp_path / "tile")
    for number, size in enumerate((5, 9, 13)):
        save_image(root / f"train/good/{10 + number}.png", size=size, value=number)
    run(root, workspace)
    rows = build_table(root, workspace.imported_table("shop"), CONFIG, "shop")
    assert {(row.width, row.height) for row in rows} == {(size, size) for size in (5, 8, 9, 13)}
    report = check_split(Split(tuple(rows), root, root), workers=1, label="check")
    messages = {finding.message for finding in report.findings if finding.kind == "duplicate-across-phases"}
    assert messages == {"the same content to train on and to test on"}
