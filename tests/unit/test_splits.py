"""Raw data -> split table, on roots made by hand, by the generators and on slices of the real sets."""

import csv
import logging
import shutil
from collections import Counter
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from conftest import save_image, save_mask

from invad.config import BenchmarkConfig, FeaturesConfig, FolderSplitConfig, InvADConfig, ScoreConfig
from invad.data.counts import check_counts, describe
from invad.data.mvtec import MVTEC_AD, build_mvtec
from invad.data.source import Source, write_source
from invad.data.split_table import SplitRow, read_split_table, write_split_table
from invad.data.splits import build_split
from invad.data.visa import VISA, build_visa
from invad.errors import InputError
from invad.workspace import Workspace

STRICT, LENIENT = FolderSplitConfig(strict=True), FolderSplitConfig(strict=False)


# MVTec AD


def test_mvtec_pairs_masks_by_name(mvtec_root):
    rows = build_mvtec(mvtec_root, STRICT)
    assert [(row.phase, row.image, row.label, row.defect_type, row.mask) for row in rows] == [
        ("train", "valve/train/good/000.png", 0, "good", None),
        ("train", "valve/train/good/001.png", 0, "good", None),
        *(
            ("test", f"valve/test/broken/{n}.png", 1, "broken", f"valve/ground_truth/broken/{n}_mask.png")
            for n in ("000", "001")
        ),
        ("test", "valve/test/good/000.png", 0, "good", None),
    ]
    assert {(row.class_name, row.width, row.height, row.dataset) for row in rows} == {("valve", 8, 8, "mvtec")}


def test_mvtec_unmatched_files_are_an_error_or_left_out(mvtec_root, caplog):
    (mvtec_root / "valve/ground_truth/broken/000_mask.png").rename(
        mvtec_root / "valve/ground_truth/broken/007_mask.png"
    )
    message = (
        "1 anomalous images without a mask and 1 masks without an image: "
        "valve/ground_truth/broken/007_mask.png, valve/test/broken/000.png"
    )
    with pytest.raises(InputError, match=message):
        build_mvtec(mvtec_root, STRICT)
    with caplog.at_level(logging.WARNING):
        rows = build_mvtec(mvtec_root, LENIENT)
    assert [row.image for row in rows if row.label] == ["valve/test/broken/001.png"]
    assert message in caplog.text


def test_a_mask_larger_than_its_image_is_named(mvtec_root):
    save_mask(mvtec_root / "valve/ground_truth/broken/001_mask.png", size=16)
    message = r"broken/001_mask\.png: has 16x16 pixels, but its image .*test/broken/001\.png has 8x8"
    with pytest.raises(InputError, match=message):
        build_mvtec(mvtec_root, LENIENT)


def test_files_of_other_systems_are_passed_over(mvtec_root):
    expected = build_mvtec(mvtec_root, STRICT)
    for name in (
        "valve/train/good/._000.png",
        "valve/test/broken/._000.png",
        "valve/ground_truth/broken/._000_mask.png",
        "valve/test/.ipynb_checkpoints/000-checkpoint.png",
        "valve/test/@eaDir/000.png",
        "__MACOSX/valve/train/good/._000.png",
        ".Trash/train/good/000.png",
    ):
        path = mvtec_root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no image")
    assert build_mvtec(mvtec_root, STRICT) == expected


def test_images_of_one_stem_are_all_taken(mvtec_root):
    save_image(mvtec_root / "valve/train/good/000.jpg")
    rows = build_mvtec(mvtec_root, STRICT)
    assert [row.image for row in rows if row.phase == "train"] == [
        "valve/train/good/000.jpg",
        "valve/train/good/000.png",
        "valve/train/good/001.png",
    ]


def test_a_mask_of_two_images_and_an_image_of_two_masks_are_errors_also_without_strict(mvtec_root):
    save_image(mvtec_root / "valve/test/broken/000.jpg")
    with pytest.raises(InputError, match=r"000_mask\.png: two images have its name, .*000\.jpg and .*000\.png"):
        build_mvtec(mvtec_root, LENIENT)
    (mvtec_root / "valve/test/broken/000.jpg").unlink()
    save_mask(mvtec_root / "valve/ground_truth/broken/000.png")
    with pytest.raises(InputError, match=r"broken/000\.png: two masks have its name"):
        build_mvtec(mvtec_root, LENIENT)


def test_published_counts_add_up():
    assert [sum(column) for column in zip(*MVTEC_AD.counts.values(), strict=True)] == [3629, 467, 1258]
    assert [sum(column) for column in zip(*VISA.counts.values(), strict=True)] == [8659, 962, 1200]


def test_the_known_counts_are_those_of_the_official_split_file(real_data):
    with (real_data / "visa_1cls.csv").open(newline="") as file:
        lines = Counter((line["object"], line["split"], line["label"]) for line in csv.DictReader(file))
    for name, counts in VISA.counts.items():
        expected = (lines[name, "train", "normal"], lines[name, "test", "normal"], lines[name, "test", "anomaly"])
        assert counts == expected


def test_a_class_of_another_size_than_published_is_an_error_or_a_warning(mvtec_root, caplog):
    (mvtec_root / "valve").rename(mvtec_root / "bottle")
    rows = build_mvtec(mvtec_root, STRICT)
    message = r"not the published images .*: bottle has 2 \+ 1 \+ 2, published 209 \+ 20 \+ 63"
    with pytest.raises(InputError, match=f"{message}; mend the data, or set `strict: false`"):
        check_counts(rows, MVTEC_AD.counts, mvtec_root, strict=True)
    with caplog.at_level(logging.WARNING):
        check_counts(rows, MVTEC_AD.counts, mvtec_root, strict=False)
    assert "bottle has 2 + 1 + 2, published 209 + 20 + 63" in caplog.text


def test_classes_of_ones_own_in_the_published_layout_are_not_counted(mvtec_root):
    check_counts(build_mvtec(mvtec_root, STRICT), MVTEC_AD.counts, mvtec_root, strict=True)


def test_mvtec_empty_classes_and_roots_are_errors(mvtec_root, tmp_path):
    shutil.rmtree(mvtec_root / "valve/train/good")
    with pytest.raises(InputError, match="the class valve has no normal image to train on"):
        build_mvtec(mvtec_root, STRICT)
    with pytest.raises(InputError, match="no MVTec AD root"):
        build_mvtec(tmp_path, STRICT)


def test_the_damaged_real_leather_slice(real_data, tmp_path, caplog):
    (tmp_path / "leather").symlink_to(real_data / "mvtec_leather_slice")
    with pytest.raises(InputError, match="9 anomalous images without a mask and 7 masks without an image: leather/"):
        build_mvtec(tmp_path, STRICT)
    rows = build_mvtec(tmp_path, LENIENT)
    assert sum(row.phase == "train" for row in rows) == 4
    assert sum(row.phase == "test" and not row.label for row in rows) == 4
    assert sum(row.label for row in rows) == 11
    assert "left out" in caplog.text


# VisA


def visa_root(tmp_path, lines: list[str]):
    root = tmp_path / "visa"
    save_image(root / "candle/Data/Images/Normal/0000.JPG")
    save_image(root / "candle/Data/Images/Anomaly/000.JPG")
    save_mask(root / "candle/Data/Masks/Anomaly/000.png", value=1)
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\n".join(lines) + "\n")
    return root


HEADER = "object,split,label,image,mask"
TRAIN = "candle,train,normal,candle/Data/Images/Normal/0000.JPG,"
TEST = "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png"


def test_visa_by_its_csv(tmp_path):
    rows = build_visa(visa_root(tmp_path, [HEADER, TEST, TRAIN]))
    assert [(row.class_name, row.phase, row.label, row.mask) for row in rows] == [
        ("candle", "train", 0, None),
        ("candle", "test", 1, "candle/Data/Masks/Anomaly/000.png"),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER.replace(",mask", ""), TRAIN], "the columns mask are missing"),
        ([HEADER, TRAIN.replace("train", "val")], "line 2: phase must be train, labelled, test or empty, not 'val'"),
        ([HEADER, TRAIN.replace("train", "")], "line 2: split must be train or test, not empty"),
        ([HEADER, TRAIN, TEST.replace("anomaly,", "odd,")], r"line 3: label must be one of .*, not 'odd'"),
        (
            [HEADER, TRAIN.replace("normal", "anomaly")],
            r"line 2: .*0000\.JPG: the mask of this anomalous image is missing",
        ),
        ([HEADER, TEST.replace("test", "train")], r"line 2: .*000\.JPG: an anomalous image in train"),
        (
            [HEADER, TRAIN, TEST.replace("000.png", "001.png")],
            r"Anomaly/000\.JPG: the mask of this anomalous image is missing",
        ),
        ([HEADER, TRAIN, TEST.replace("000.JPG", "009.JPG")], r"009\.JPG: no such image"),
        ([HEADER, TRAIN], "the class candle has no image to test on"),
        (
            [HEADER, TRAIN, TEST.replace("candle/Data/Masks", "../Masks")],
            r"line 3: mask '\.\./Masks/.*' leaves the images' folder",
        ),
        (
            [HEADER, TRAIN.replace("candle/Data", "/etc")],
            "line 2: image '/etc/Images/Normal/0000.JPG' leaves the images' folder",
        ),
        (["\0\x01"], "1cls.csv: "),
    ],
)
def test_visa_mistakes_are_named(tmp_path, lines, message):
    root = visa_root(tmp_path, lines)
    with pytest.raises(InputError, match=message):
        build_visa(root)


# The table


def test_a_table_survives_writing_and_reading_and_is_the_same_bytes_twice(tmp_path):
    rows = [
        SplitRow("a.png", "bottle", "train", 0, "good", None, 8, 6, "mvtec"),
        SplitRow("b.png", "bottle", "test", 1, "broken", "b_mask.png", 8, 6, "mvtec"),
    ]
    for name in ("one", "two"):
        write_split_table(rows, tmp_path / f"{name}.parquet", {"benchmark": "mvtec"})
    assert read_split_table(tmp_path / "one.parquet") == (rows, {"benchmark": "mvtec"})
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_a_table_of_views_has_their_columns_and_others_do_not(tmp_path):
    alone = SplitRow("a.png", "usb", "test", 0, "good", None, 8, 6, "mine")
    rows = [replace(alone, group="OK/S1", view="C1"), replace(alone, image="b.png", group="OK/S1", view="C2")]
    write_split_table(rows, tmp_path / "views.parquet", {})
    write_split_table([alone], tmp_path / "alone.parquet", {})
    assert read_split_table(tmp_path / "views.parquet")[0] == rows
    assert "group" not in pq.read_schema(tmp_path / "alone.parquet").names


def test_what_is_no_table_is_named(tmp_path):
    (tmp_path / "split.parquet").write_text("hello")
    for name, message in (("split", "not a Parquet file"), ("none", "no such split table")):
        with pytest.raises(InputError, match=message):
            read_split_table(tmp_path / f"{name}.parquet")


def test_a_failed_build_keeps_the_old_split(mvtec_root, tmp_path):
    workspace = Workspace(tmp_path)
    benchmark = BenchmarkConfig(
        "mvtec", "mvtec", STRICT, FeaturesConfig("mobilenetv2_100"), InvADConfig(), ScoreConfig()
    )
    workspace.raw("mvtec").mkdir(parents=True)
    write_source(workspace.raw("mvtec"), Source("mvtec", "path", mvtec_root, "abc"))
    split = build_split(benchmark, workspace)
    assert describe(split.rows) == "1 class, 2 normal images to train on, 1 normal and 2 anomalous to test on"
    assert split.mask_path(split.rows[2]) == mvtec_root / "valve/ground_truth/broken/000_mask.png"
    before = (workspace.split("mvtec") / "split.parquet").read_bytes()
    (mvtec_root / "valve/ground_truth/broken/000_mask.png").unlink()
    with pytest.raises(InputError):
        build_split(benchmark, workspace)
    assert (workspace.split("mvtec") / "split.parquet").read_bytes() == before
    shutil.rmtree(mvtec_root)
    with pytest.raises(InputError, match="are no longer there"):
        build_split(benchmark, workspace)


def test_a_visa_mask_of_another_size_is_named(tmp_path):
    root = visa_root(tmp_path, [HEADER, TRAIN, TEST])
    save_mask(root / "candle/Data/Masks/Anomaly/000.png", size=4)
    with pytest.raises(InputError, match=r"Anomaly/000\.png: has 4x4 pixels, but its image .*000\.JPG has 8x8"):
        build_visa(root)
