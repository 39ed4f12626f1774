"""Raw data -> split table, on roots made by hand, by the generators and on slices of the real sets."""

import json
import logging
import shutil

import numpy as np
import pytest
from conftest import save_image, save_mask
from PIL import Image

from invad.config import BenchmarkConfig, CocoAdSplitConfig, FeaturesConfig, FolderSplitConfig, ScoreConfig, TrainConfig
from invad.datasets.coco_ad import build_coco_ad, held_out_categories, union_mask
from invad.datasets.mvtec import build_mvtec
from invad.datasets.source import Source, write_source
from invad.datasets.split_table import SplitRow, read_split_table, write_split_table
from invad.datasets.splits import build_split, describe
from invad.datasets.visa import build_visa
from invad.errors import InputError
from invad.workspace import Workspace

STRICT, LENIENT = FolderSplitConfig(strict=True), FolderSplitConfig(strict=False)
CATEGORIES = [{"id": 10 + index, "name": f"category {index}"} for index in range(80)]


def square(left: int, top: int, side: int) -> list[list[float]]:
    return [[left, top, left + side, top, left + side, top + side, left, top + side]]


def coco_root(tmp_path, train: list[list[int]], test: list[list[int]]):
    """A COCO root of 8x8 images without image files; each image is the list of its annotations' category numbers."""
    for phase, images in (("train", train), ("val", test)):
        annotations = [
            {"id": 100 * image + n, "image_id": image, "category_id": 10 + category, "iscrowd": 0}
            | {"segmentation": square(0, 0, 4)}
            for image, categories in enumerate(images)
            for n, category in enumerate(categories)
        ]
        value = {
            "images": [{"id": n, "file_name": f"{n:012d}.jpg", "width": 8, "height": 8} for n in range(len(images))],
            "annotations": annotations,
            "categories": CATEGORIES,
        }
        path = tmp_path / "annotations" / f"instances_{phase}2017.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    return tmp_path


def edit_annotations(root, edit) -> None:
    path = root / "annotations" / "instances_val2017.json"
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


# COCO-AD


def test_a_fold_holds_out_the_categories_by_id():
    categories = {category["id"]: category["name"] for category in reversed(CATEGORIES)}
    assert held_out_categories(categories, CocoAdSplitConfig(fold=1)) == set(range(30, 50))
    assert held_out_categories(categories, CocoAdSplitConfig(fold=7, held_out=10)) == set(range(80, 90))


def test_coco_ad_by_hand(tmp_path):
    root = coco_root(tmp_path / "coco", train=[[25], [25, 0], [], [79]], test=[[0, 25], [30], [], [19, 0]])
    rows = build_coco_ad(root, CocoAdSplitConfig(fold=0), tmp_path / "out")
    assert [(row.phase, row.image, row.label, row.defect_type) for row in rows] == [
        ("train", "train2017/000000000000.jpg", 0, "good"),  # image 1 has a held-out category, image 2 no annotation
        ("train", "train2017/000000000003.jpg", 0, "good"),
        ("test", "val2017/000000000000.jpg", 1, "category 0"),
        ("test", "val2017/000000000001.jpg", 0, "good"),
        ("test", "val2017/000000000003.jpg", 1, "category 0+category 19"),
    ]
    assert [row.mask for row in rows[2:]] == ["masks/000000000000.png", None, "masks/000000000003.png"]
    mask = Image.open(tmp_path / "out" / rows[2].mask)
    assert mask.mode == "1"
    expected = np.zeros((8, 8), bool)
    expected[:4, :4] = True  # the held-out instance alone, although another category lies in the image too
    assert np.array_equal(np.asarray(mask), expected)
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 2


def test_a_crowd_region_is_part_of_the_mask(tmp_path):
    root = coco_root(tmp_path / "coco", train=[[25]], test=[[25], [25]])

    def add_crowd(value):  # run lengths, column by column: 8 normal pixels, 8 anomalous ones, the rest normal
        crowd = {"id": 1, "image_id": 0, "category_id": 10, "iscrowd": 1}
        value["annotations"].append(crowd | {"segmentation": {"counts": [8, 8, 48], "size": [8, 8]}})

    edit_annotations(root, add_crowd)
    row = build_coco_ad(root, CocoAdSplitConfig(fold=0), tmp_path / "out")[1]
    mask = np.asarray(Image.open(tmp_path / "out" / row.mask))
    assert row.label == 1
    assert mask.sum() == 8
    assert mask[:, 1].all()


def test_union_of_instances_by_hand(tmp_path):
    annotations = [{"id": 1, "segmentation": square(0, 0, 4)}, {"id": 2, "segmentation": square(2, 2, 4)}]
    assert union_mask(annotations, 8, 8, tmp_path).sum() == 16 + 16 - 4


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda v: v["annotations"][0].update(image_id=99), "annotation 0 refers to the unknown image 99"),
        (lambda v: v["annotations"][0].update(category_id=5), "annotation 0 refers to the unknown category 5"),
        (lambda v: v["annotations"][0].update(segmentation="x"), "annotation 0: unreadable segmentation"),
        (
            lambda v: v["annotations"][0].update(segmentation={"counts": [0, 4], "size": [2, 2]}),
            r"annotation 0: RLE of size \[2, 2\], but the image has \[8, 8\]",
        ),
        (lambda v: v.pop("categories"), "not a COCO instance annotation file"),
        (lambda v: v["categories"].pop(), "has 79 categories"),
    ],
)
def test_damaged_annotations_are_named(tmp_path, edit, message):
    root = coco_root(tmp_path / "coco", train=[[25]], test=[[0]])
    edit_annotations(root, edit)
    with pytest.raises(InputError, match=rf"instances_val2017\.json: .*{message}"):
        build_coco_ad(root, CocoAdSplitConfig(fold=0), tmp_path / "out")


def test_a_fold_without_normal_training_image_is_an_error(tmp_path):
    root = coco_root(tmp_path / "coco", train=[[0]], test=[[0]])
    with pytest.raises(InputError, match="nothing to train on"):
        build_coco_ad(root, CocoAdSplitConfig(fold=0), tmp_path / "out")


@pytest.mark.parametrize("fold", range(4))
def test_coco_ad_counts_on_the_real_slice_equal_an_independent_count(real_data, tmp_path, fold):
    rows = build_coco_ad(real_data / "coco_slice", CocoAdSplitConfig(fold=fold), tmp_path)
    train, val = (
        json.loads((real_data / f"coco_slice/annotations/instances_{name}2017.json").read_text())
        for name in ("train", "val")
    )
    order = [category["id"] for category in sorted(val["categories"], key=lambda category: category["id"])]
    held_out = order[20 * fold : 20 * fold + 20]

    def categories_by_image(value):
        found: dict[int, set[int]] = {}
        for annotation in value["annotations"]:
            found.setdefault(annotation["image_id"], set()).add(annotation["category_id"])
        return found

    normal = [image for image, found in categories_by_image(train).items() if not found & set(held_out)]
    test = categories_by_image(val)
    anomalous = [image for image, found in test.items() if found & set(held_out)]
    assert sum(row.phase == "train" for row in rows) == len(normal)
    assert sum(row.phase == "test" for row in rows) == len(test)
    assert sum(row.label for row in rows) == len(anomalous)
    for row in rows:
        if row.mask:
            mask = np.asarray(Image.open(tmp_path / row.mask))
            assert mask.shape == (row.height, row.width)
            assert mask.any()


# MVTec AD


def test_mvtec_pairs_masks_by_name(mvtec_root):
    rows = build_mvtec(mvtec_root, STRICT, mvtec_root)
    assert [(row.phase, row.image, row.label, row.defect_type, row.mask) for row in rows] == [
        ("train", "bottle/train/good/000.png", 0, "good", None),
        ("train", "bottle/train/good/001.png", 0, "good", None),
        *(
            ("test", f"bottle/test/broken/{n}.png", 1, "broken", f"bottle/ground_truth/broken/{n}_mask.png")
            for n in ("000", "001")
        ),
        ("test", "bottle/test/good/000.png", 0, "good", None),
    ]
    assert {(row.class_name, row.width, row.height, row.dataset) for row in rows} == {("bottle", 8, 8, "mvtec")}


def test_mvtec_unmatched_files_are_an_error_or_left_out(mvtec_root, caplog):
    (mvtec_root / "bottle/ground_truth/broken/000_mask.png").rename(
        mvtec_root / "bottle/ground_truth/broken/007_mask.png"
    )
    message = (
        "1 anomalous images without a mask and 1 masks without an image: "
        "bottle/ground_truth/broken/007_mask.png, bottle/test/broken/000.png"
    )
    with pytest.raises(InputError, match=message):
        build_mvtec(mvtec_root, STRICT, mvtec_root)
    with caplog.at_level(logging.WARNING):
        rows = build_mvtec(mvtec_root, LENIENT, mvtec_root)
    assert [row.image for row in rows if row.label] == ["bottle/test/broken/001.png"]
    assert message in caplog.text


def test_mvtec_empty_classes_and_roots_are_errors(mvtec_root, tmp_path):
    shutil.rmtree(mvtec_root / "bottle/train/good")
    with pytest.raises(InputError, match=r"bottle/train: the class bottle has no usable train image"):
        build_mvtec(mvtec_root, STRICT, mvtec_root)
    with pytest.raises(InputError, match="no MVTec AD root"):
        build_mvtec(tmp_path, STRICT, tmp_path)


def test_the_damaged_real_leather_slice(real_data, tmp_path, caplog):
    (tmp_path / "leather").symlink_to(real_data / "mvtec_leather_slice")
    with pytest.raises(InputError, match="9 anomalous images without a mask and 7 masks without an image: leather/"):
        build_mvtec(tmp_path, STRICT, tmp_path)
    rows = build_mvtec(tmp_path, LENIENT, tmp_path)
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
    rows = build_visa(visa_root(tmp_path, [HEADER, TEST, TRAIN]), STRICT, tmp_path)
    assert [(row.class_name, row.phase, row.label, row.mask) for row in rows] == [
        ("candle", "train", 0, None),
        ("candle", "test", 1, "candle/Data/Masks/Anomaly/000.png"),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER.replace(",mask", ""), TRAIN], "the columns mask are missing"),
        ([HEADER, TRAIN.replace("train", "val")], "line 2: split must be train or test, not 'val'"),
        ([HEADER, TRAIN, TEST.replace("anomaly,", "odd,")], r"line 3: label must be normal or \(test only\) anomaly"),
        ([HEADER, TRAIN.replace("normal", "anomaly"), TEST], "line 2: label must be normal"),
        (
            [HEADER, TRAIN, TEST.replace("000.png", "001.png")],
            r"Anomaly/000\.JPG: the mask of this anomalous image is missing",
        ),
        ([HEADER, TRAIN, TEST.replace("000.JPG", "009.JPG")], r"009\.JPG: no such image"),
        ([HEADER, TRAIN], "the class candle has no test image"),
    ],
)
def test_visa_mistakes_are_named(tmp_path, lines, message):
    root = visa_root(tmp_path, lines)
    with pytest.raises(InputError, match=message):
        build_visa(root, STRICT, tmp_path)


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


def test_what_is_no_table_is_named(tmp_path):
    (tmp_path / "split.parquet").write_text("hello")
    for name, message in (("split", "not a Parquet file"), ("none", "no such split table")):
        with pytest.raises(InputError, match=message):
            read_split_table(tmp_path / f"{name}.parquet")


def test_a_failed_build_keeps_the_old_split(mvtec_root, tmp_path):
    workspace = Workspace(tmp_path)
    benchmark = BenchmarkConfig(
        "mvtec", "mvtec", STRICT, FeaturesConfig("mobilenetv2_100"), TrainConfig(), ScoreConfig()
    )
    workspace.raw("mvtec").mkdir(parents=True)
    write_source(workspace.raw("mvtec"), Source("mvtec", "path", mvtec_root, "abc"))
    split = build_split(benchmark, workspace)
    assert describe(split) == "1 class, 2 normal images to train on, 1 normal and 2 anomalous to test on"
    assert split.mask_path(split.rows[2]) == mvtec_root / "bottle/ground_truth/broken/000_mask.png"
    before = (workspace.split("mvtec") / "split.parquet").read_bytes()
    (mvtec_root / "bottle/ground_truth/broken/000_mask.png").unlink()
    with pytest.raises(InputError):
        build_split(benchmark, workspace)
    assert (workspace.split("mvtec") / "split.parquet").read_bytes() == before
    shutil.rmtree(mvtec_root)
    with pytest.raises(InputError, match="are no longer there"):
        build_split(benchmark, workspace)
