"""COCO annotation files -> folds and masks, on files made by hand, on the real slices, and on the full files where a user has them."""

import json
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from invad.config import CocoAdSplitConfig
from invad.data import coco_ad
from invad.data.coco_ad import (
    COCO_IMAGES,
    FULL_COUNTS,
    build_coco_ad,
    draw_masks,
    fold_rows,
    held_out_categories,
    read_both,
    union_mask,
)
from invad.data.coco_annotations import Instance
from invad.errors import InputError

CATEGORIES = [{"id": 10 + index, "name": f"category {index}"} for index in range(80)]
FOLD_0 = CocoAdSplitConfig(fold=0)


def square(left: float, top: float, side: float) -> list[list[float]]:
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
        path = annotation_file(tmp_path, phase)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    return tmp_path


def annotation_file(root, phase: str) -> Path:
    return root / "annotations" / f"instances_{phase}2017.json"


def edit_annotations(root, edit, phase: str = "val") -> None:
    value = json.loads(annotation_file(root, phase).read_text())
    edit(value)
    annotation_file(root, phase).write_text(json.dumps(value))


def union(*segmentations, height: int = 8, width: int = 8) -> np.ndarray:
    instances = [Instance(n, 0, 0, msgspec.Raw(json.dumps(value).encode())) for n, value in enumerate(segmentations)]
    return union_mask(instances, height, width, Path("x.json"))


# Folds


def test_a_fold_holds_out_the_categories_by_id():
    categories = {category["id"]: category["name"] for category in reversed(CATEGORIES)}
    assert held_out_categories(categories, CocoAdSplitConfig(fold=1)) == set(range(30, 50))
    assert held_out_categories(categories, CocoAdSplitConfig(fold=7, held_out=10)) == set(range(80, 90))


def test_coco_ad_by_hand(tmp_path):
    root = coco_root(tmp_path / "coco", train=[[25], [25, 0], [], [79]], test=[[0, 25], [30], [], [19, 0]])
    rows = build_coco_ad(root, FOLD_0, tmp_path / "out")
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


def test_ten_held_out_categories_give_eight_folds_that_hold_out_each_category_once(tmp_path):
    root = coco_root(tmp_path, train=[[n] for n in range(80)], test=[[n] for n in range(80)])
    held_out: list[int] = []
    for fold in range(8):
        rows = fold_rows(*read_both(root), CocoAdSplitConfig(fold=fold, held_out=10))
        assert sum(row.phase == "train" for row in rows) == 70
        held_out += [n for n, row in enumerate(rows[70:]) if row.label]
    assert held_out == list(range(80))


def test_a_fold_without_normal_training_image_is_an_error(tmp_path):
    root = coco_root(tmp_path / "coco", train=[[0]], test=[[0]])
    with pytest.raises(InputError, match="nothing to train on"):
        build_coco_ad(root, FOLD_0, tmp_path / "out")


def test_files_of_the_official_size_must_give_the_official_counts(tmp_path, monkeypatch):
    root = coco_root(tmp_path / "coco", train=[[25], [0]], test=[[0], [25], [79]])
    monkeypatch.setattr(coco_ad, "COCO_IMAGES", {"train": 2, "test": 3})
    monkeypatch.setattr(coco_ad, "FULL_COUNTS", {0: (1, 2, 1), 1: (1, 2, 2)})
    assert len(build_coco_ad(root, FOLD_0, tmp_path / "out")) == 4
    with pytest.raises(
        InputError, match=r"annotations: fold 1 has \(1, 2, 1\) images .* not the official annotation files"
    ):
        build_coco_ad(root, CocoAdSplitConfig(fold=1), tmp_path / "out")
    assert len(build_coco_ad(root, CocoAdSplitConfig(fold=1, held_out=10), tmp_path / "out")) == 5  # another protocol
    monkeypatch.setattr(coco_ad, "COCO_IMAGES", {"train": 2, "test": 4})
    assert len(build_coco_ad(root, CocoAdSplitConfig(fold=1), tmp_path / "out")) == 4  # a slice


def test_the_full_annotation_files_give_the_published_counts():
    if "INVAD_COCO_ROOT" not in os.environ:
        pytest.skip("INVAD_COCO_ROOT does not name a folder with COCO 2017's annotations/instances_*2017.json")
    train, test = read_both(Path(os.environ["INVAD_COCO_ROOT"]))
    assert {"train": len(train.images), "test": len(test.images)} == COCO_IMAGES
    for fold, counts in FULL_COUNTS.items():
        rows = fold_rows(train, test, CocoAdSplitConfig(fold=fold))
        normal = [row.phase for row in rows if not row.label]
        assert (normal.count("train"), normal.count("test"), len(rows) - len(normal)) == counts


def test_every_fold_of_the_table_has_all_annotated_test_images():
    assert {normal + anomalous for _, normal, anomalous in FULL_COUNTS.values()} == {4_952}


# Damaged and hostile files


def set_image(**fields):
    return lambda value: value["images"][0].update(fields)


def set_annotation(**fields):
    return lambda value: value["annotations"][0].update(fields)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_annotation(image_id=99), "annotation 0 refers to the unknown image 99 or category"),
        (set_annotation(category_id=5), "annotation 0 refers to the unknown image 0 or category 5"),
        (set_annotation(segmentation="x"), r"annotation 0: unreadable segmentation \(Expected `object \| array`"),
        (
            set_annotation(segmentation={"counts": [0, 4], "size": [2, 2]}),
            r"annotation 0: unreadable segmentation \(run lengths of size \[2, 2\] that do not fill the image, \[8, 8\]\)",
        ),
        (lambda v: v.pop("categories"), r"not a COCO instance annotation file \(.*`categories`\)"),
        (lambda v: v["annotations"][0].pop("segmentation"), "not a COCO instance annotation file"),
        (set_annotation(segmentation=float("nan")), "not a COCO instance annotation file"),
        (set_annotation(id="0"), "not a COCO instance annotation file"),
        (lambda v: v["categories"].pop(), "has 79 categories, COCO 2017 has 80"),
        (
            lambda v: v["categories"][0].update(name="other"),
            "its categories are not those of .*instances_train2017.json",
        ),
        (
            lambda v: v["images"].append(v["images"][0]),
            "image 0 has the id, or apart from the ending the file_name, of image 0",
        ),
        (
            set_image(file_name="000000000001.png"),
            "image 1 has the id, or apart from the ending the file_name, of image 0",
        ),
        (
            set_image(width=0),
            r"not a COCO instance annotation file \(Expected `int` >= 1 - at `\$.images\[0\].width`\)",
        ),
        (set_image(height=-8), "Expected `int` >= 1"),
        (set_image(width=10**6, height=10**6), "image 0 has more than 80000000 pixels"),
        (set_image(height="8"), r"not a COCO instance annotation file \(Expected `int`, got `str`"),
    ],
)
def test_damaged_annotations_are_named(tmp_path, edit, message):
    root = coco_root(tmp_path / "coco", train=[[25]], test=[[0], [25]])
    edit_annotations(root, edit)
    with pytest.raises(InputError, match=rf"instances_val2017\.json: .*{message}") as caught:
        build_coco_ad(root, FOLD_0, tmp_path / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("phase", ["train", "val"])
@pytest.mark.parametrize(
    "name",
    [
        "../x.jpg",
        "/etc/x.jpg",
        "a/x.jpg",
        "..",
        ".",
        "",
        ".x.jpg",
        "a\\x.jpg",
        "c:x.jpg",
        "x\n.jpg",
        "x\0.jpg",
        "x" * 300,
    ],
)
def test_a_file_name_that_is_no_plain_name_is_refused(tmp_path, phase, name):
    root = coco_root(tmp_path / "coco", train=[[25]], test=[[0]])
    edit_annotations(root, set_image(file_name=name), phase)
    with pytest.raises(InputError, match=rf"instances_{phase}2017\.json: not a COCO .*regex .*file_name") as caught:
        build_coco_ad(root, FOLD_0, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"x":' + b"[" * 100_000, b'{"images": [{"id": 1e99}]}']
)
def test_what_is_no_annotation_file_is_named(tmp_path, content):
    root = coco_root(tmp_path, train=[[25]], test=[[0]])
    annotation_file(root, "train").write_bytes(content)
    with pytest.raises(InputError, match=r"instances_train2017\.json: not a COCO instance annotation file"):
        read_both(root)
    annotation_file(root, "train").unlink()
    with pytest.raises(InputError, match=r"instances_train2017\.json: cannot be read"):
        read_both(root)


def test_segmentations_of_training_images_and_other_categories_are_never_decoded(tmp_path):
    root = coco_root(tmp_path / "coco", train=[[25]], test=[[25, 0]])
    for phase in ("train", "val"):
        edit_annotations(root, set_annotation(segmentation="x"), phase)
    assert build_coco_ad(root, FOLD_0, tmp_path / "out")[1].label == 1


# Masks


def test_union_of_instances_by_hand():
    assert union(square(0, 0, 4), square(2, 2, 4)).sum() == 16 + 16 - 4
    assert union(square(0, 0, 4) + square(2, 2, 4)).sum() == 16 + 16 - 4  # two parts of one instance
    assert union(square(0, 0, 4), [], square(0, 0, 2)).sum() == 16
    assert union([]).shape == (8, 8)


def test_polygons_are_cut_off_at_the_border():
    assert union(square(-4, -4, 8))[:4, :4].all()
    assert union(square(-4, -4, 8)).sum() == 16
    assert union(square(6, 6, 10)).sum() == 4
    assert union(square(20, 20, 4), square(-20, 0, 4)).sum() == 0
    assert union(square(-100_000, -100_000, 200_000)).all()


def test_a_crowd_region_is_part_of_the_mask(tmp_path):
    root = coco_root(tmp_path / "coco", train=[[25]], test=[[25], [25], [0]])
    pixels = np.zeros((8, 8), np.uint8, order="F")
    pixels[:, 1] = 1
    crowds = ([8, 8, 48], [8, 8, 48], [0, 0, 8, 0, 0, 8, 48])  # run lengths, column by column, normal pixels first

    def add_crowds(value):
        for image, counts in enumerate(crowds):
            crowd = {"id": 1, "image_id": image, "category_id": 10, "iscrowd": 1}
            value["annotations"].append(crowd | {"segmentation": {"counts": counts, "size": [8, 8]}})

    edit_annotations(root, add_crowds)
    rows = build_coco_ad(root, FOLD_0, tmp_path / "out")[1:]
    masks = [np.asarray(Image.open(tmp_path / "out" / row.mask)) for row in rows]
    assert [row.label for row in rows] == [1, 1, 1]
    assert np.array_equal(masks[0], pixels)
    assert np.array_equal(masks[1], pixels)
    assert masks[2].sum() == 16 + 8 - 4  # the square of the ordinary instance and a column, which share 4 pixels


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_give_the_encoded_pixels(seed):
    rng = np.random.default_rng(seed)
    runs = np.concatenate([rng.integers(0, 3, 20), rng.integers(1, 5_000, 200), rng.integers(1, 40, 200)])
    pixels = np.repeat(np.arange(len(runs)) % 2, rng.permutation(runs)).astype(np.uint8)
    pixels = np.asfortranarray(np.resize(pixels, (600, 700)))
    counts = np.diff(np.flatnonzero(np.diff(pixels.ravel(order="F"), prepend=0)), prepend=0, append=pixels.size)
    assert np.array_equal(union({"counts": counts.tolist(), "size": [600, 700]}, height=600, width=700), pixels)


def test_run_lengths_with_empty_runs_do_not_lose_pixels_in_the_union():
    first, second = ([8, 8, 0, 0, 0, 8, 40], [8, 8, 0, 0, 0, 8, 8, 8, 24])
    union_of_both = union(*({"counts": counts, "size": [8, 8]} for counts in (first, second)))
    assert union_of_both.any(axis=0).tolist() == [False, True, True, False, True, False, False, False]
    assert union_of_both.sum() == 24


@pytest.mark.parametrize("counts", [[], [63], [65], [70, -6], [-1, 65], [0, 2**64]])
def test_run_lengths_that_do_not_fit_are_refused(counts):
    with pytest.raises(InputError, match=r"x\.json: annotation 0: unreadable segmentation \("):
        union({"counts": counts, "size": [8, 8]})


@pytest.mark.parametrize(
    "segmentation",
    [
        {"counts": "11", "size": [8, 8]},  # compressed: COCO's own files have none
        "x",
        1,
        None,
        {},
        {"counts": [64]},
        {"counts": 64, "size": [8, 8]},
        {"counts": [64.5], "size": [8, 8]},
        {"counts": [64], "size": [8]},
        [1, 2, 3, 4, 5, 6],
        [[1, 2, 3, 4]],  # a box to pycocotools
        [[]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2, 3, 4, 5, "6"]],
        [[1, 2, 3, 4, 5, None]],
        [[1e300, 0, -1e308, 1e308, 5, 5]],
        [[1e9, 1e9, 1e9 + 1, 1e9, 1e9, 1e9 + 1]],
        [[0, 0, 600_000, 0, 0, 1]],
        [square(0, 0, 4)],
    ],
)
def test_malformed_segmentations_are_refused(segmentation):
    with pytest.raises(InputError, match=r"^x\.json: annotation 1: unreadable segmentation \(.+\)$"):
        union(square(0, 0, 4), segmentation)


def test_numbers_beyond_a_float_are_refused():
    with pytest.raises(InputError, match="Number out of range"):
        union_mask([Instance(0, 0, 0, msgspec.Raw(b"[[1e999,0,0,0,1,1]]"))], 8, 8, Path("x.json"))


@pytest.mark.parametrize("segmentation", [[], [[3.0, 3.0] * 3], {"counts": [64], "size": [8, 8]}])
def test_an_anomalous_image_with_an_empty_mask_stays_anomalous(tmp_path, segmentation):
    root = coco_root(tmp_path / "coco", train=[[25]], test=[[0]])
    edit_annotations(root, set_annotation(segmentation=segmentation))
    row = build_coco_ad(root, FOLD_0, tmp_path / "out")[1]
    assert row.label == 1
    mask = np.asarray(Image.open(tmp_path / "out" / row.mask))
    assert mask.shape == (8, 8)
    assert not mask.any()


@pytest.mark.slow
def test_masks_are_the_same_bytes_with_any_number_of_processes_and_errors_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr("invad.data.parallel.SERIAL", 0)
    root = coco_root(tmp_path / "coco", train=[[25]], test=[[0]] * 6)

    def move_squares(value):
        for annotation in value["annotations"]:
            annotation["segmentation"] = square(annotation["image_id"], 1, 3)

    edit_annotations(root, move_squares)
    _, test = read_both(root)
    for workers in (1, 2):
        draw_masks(test, FOLD_0, tmp_path / str(workers), workers=workers)
    serial, parallel = (sorted((tmp_path / name / "masks").iterdir()) for name in ("1", "2"))
    assert [path.name for path in serial] == [path.name for path in parallel] == [f"{n:012d}.png" for n in range(6)]
    assert len({path.read_bytes() for path in serial}) == 6
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(serial, parallel, strict=True))
    edit_annotations(root, set_annotation(segmentation={"counts": "o", "size": [8, 8]}))
    with pytest.raises(InputError, match=r"instances_val2017\.json: annotation 0: unreadable segmentation"):
        draw_masks(read_both(root)[1], FOLD_0, tmp_path / "bad", workers=2)


# The real slice


@pytest.mark.parametrize("fold", range(4))
def test_coco_ad_counts_on_the_real_slice_equal_an_independent_count(real_data, tmp_path, fold):
    rows = build_coco_ad(real_data / "coco_slice", CocoAdSplitConfig(fold=fold), tmp_path)
    train, val = (json.loads(annotation_file(real_data / "coco_slice", name).read_text()) for name in ("train", "val"))
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


@pytest.mark.slow
def test_masks_of_the_real_slice_equal_the_instances_drawn_one_by_one(real_data, tmp_path):
    coco = COCO(annotation_file(real_data / "coco_slice", "val"))
    drawn = 0
    for fold in range(4):
        rows = build_coco_ad(real_data / "coco_slice", CocoAdSplitConfig(fold=fold), tmp_path / str(fold))
        held_out = sorted(coco.cats)[20 * fold : 20 * fold + 20]
        masks = {Path(row.image).name: tmp_path / str(fold) / row.mask for row in rows if row.mask}
        for image in coco.imgs.values():
            found = [coco.annToMask(a) for a in coco.imgToAnns[image["id"]] if a["category_id"] in held_out]
            if found:
                assert np.array_equal(np.asarray(Image.open(masks.pop(image["file_name"]))), np.any(found, axis=0))
                drawn += 1
        assert not masks
    assert drawn > 100
