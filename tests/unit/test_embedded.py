"""The generated data sets: laid out as the real ones, reproducible, with objects and defects where the labels say."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from invad.data.embedded import GENERATORS
from invad.data.embedded.catalogue import DEFECTS, draw_product
from invad.data.embedded.coco import CATEGORIES, draw_image, outlines, run_lengths, signed_area

TRAIN, TEST, SIZE = 3, 7, 48
COCO_TRAIN, COCO_TEST = 120, 80


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """A small root of each data set; COCO with its default number of images, because the folds need them."""
    folder = tmp_path_factory.mktemp("embedded")
    GENERATORS["coco"](folder / "coco", seed=0, train_images=COCO_TRAIN, test_images=COCO_TEST, image_size=64)
    for dataset in ("mvtec", "visa"):
        GENERATORS[dataset](folder / dataset, seed=0, train_images=TRAIN, test_images=TEST, image_size=SIZE)
    return folder


@pytest.fixture(scope="module", params=["train2017", "val2017"])
def coco_subset(request, roots):
    return roots / "coco" / request.param, COCO(roots / "coco" / "annotations" / f"instances_{request.param}.json")


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("dataset", GENERATORS)
def test_same_seed_gives_the_same_bytes_and_another_seed_other_pictures(dataset, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        GENERATORS[dataset](tmp_path / name, seed=seed, train_images=1, test_images=3, image_size=SIZE)
    a, b, c = (digests(tmp_path / name) for name in "abc")
    assert a == b
    suffixes = (".jpg",) if dataset == "realiad" else (".jpg", ".png", ".bmp")  # in PNG are its masks
    of_masks = ("mask", "ground_truth")
    pictures = {
        path for path in a if path.lower().endswith(suffixes) and not any(one in path.lower() for one in of_masks)
    }
    assert pictures
    assert not {a[path] for path in pictures} & set(c.values())


@pytest.mark.parametrize("dataset", GENERATORS)
def test_more_images_leave_the_earlier_ones_unchanged(dataset, tmp_path):
    GENERATORS[dataset](tmp_path / "few", seed=3, train_images=1, test_images=3, image_size=SIZE)
    GENERATORS[dataset](tmp_path / "many", seed=3, train_images=2, test_images=6, image_size=SIZE)
    few, many = digests(tmp_path / "few"), digests(tmp_path / "many")
    pictures = {path: digest for path, digest in few.items() if not path.endswith((".json", ".csv"))}
    assert len(many) > len(few)
    assert pictures.items() <= many.items()


@pytest.mark.slow
def test_coco_has_the_80_real_categories_in_twelve_supercategories(coco_subset):
    _, coco = coco_subset
    categories = coco.loadCats(coco.getCatIds())
    assert len(categories) == 80
    assert len({category["supercategory"] for category in categories}) == 12
    ids = {category["name"]: category["id"] for category in categories}
    # ids 12, 26, 29, ... are unused in COCO, so the numbering cannot be a plain count
    assert (
        ids["person"],
        ids["stop sign"],
        ids["bottle"],
        ids["wine glass"],
        ids["dining table"],
        ids["toothbrush"],
    ) == (
        *(1, 13, 44, 46, 67),
        90,
    )


@pytest.mark.slow
def test_coco_images_are_on_disk_as_listed_and_not_square(coco_subset):
    folder, coco = coco_subset
    images = coco.loadImgs(coco.getImgIds())
    assert len(images) == (COCO_TRAIN if folder.name == "train2017" else COCO_TEST)
    assert {image["file_name"] for image in images} == {path.name for path in folder.iterdir()}
    assert {(image["width"], image["height"]) for image in images} == {(64, 48), (48, 64)}
    for image in images[:5]:
        assert image["file_name"] == f"{image['id']:012d}.jpg"
        assert Image.open(folder / image["file_name"]).size == (image["width"], image["height"])
    ids = [image["id"] for image in images]
    assert ids == sorted(set(ids))
    assert ids[-1] - ids[0] > len(ids)


def test_coco_annotations_decode_to_masks_that_agree_with_their_area_and_box(coco_subset):
    _, coco = coco_subset
    annotations = coco.loadAnns(coco.getAnnIds())
    assert len(annotations) == len({annotation["id"] for annotation in annotations})
    for annotation in annotations:
        mask = coco.annToMask(annotation)
        image = coco.imgs[annotation["image_id"]]
        assert mask.shape == (image["height"], image["width"])
        assert mask.sum() == pytest.approx(annotation["area"], rel=0.25, abs=8)
        x, y, width, height = annotation["bbox"]
        assert 0 <= x < x + width <= image["width"]
        assert 0 <= y < y + height <= image["height"]
        rows, columns = np.nonzero(mask)
        assert rows.size
        assert x - 1 <= columns.min()
        assert columns.max() <= x + width + 1
        assert y - 1 <= rows.min()
        assert rows.max() <= y + height + 1


def test_coco_has_crowds_split_outlines_and_images_without_annotations(coco_subset):
    _, coco = coco_subset
    annotations = coco.loadAnns(coco.getAnnIds())
    crowds = [annotation for annotation in annotations if annotation["iscrowd"]]
    assert crowds
    assert all(isinstance(crowd["segmentation"]["counts"], list) for crowd in crowds)
    polygons = [annotation["segmentation"] for annotation in annotations if not annotation["iscrowd"]]
    assert any(len(parts) > 1 for parts in polygons)
    assert 2 <= sum(not coco.getAnnIds(image) for image in coco.getImgIds()) < len(coco.getImgIds()) / 5


@pytest.mark.parametrize("fold", range(4))
def test_every_coco_fold_has_normal_images_for_training_and_both_kinds_for_testing(roots, fold):
    numbers = {category["id"]: number for number, category in enumerate(CATEGORIES)}
    held_out = {}
    for subset in ("train2017", "val2017"):
        content = json.loads((roots / "coco" / "annotations" / f"instances_{subset}.json").read_text())
        images: dict[int, bool] = {}
        for annotation in content["annotations"]:
            is_held = numbers[annotation["category_id"]] // 20 == fold
            images[annotation["image_id"]] = images.get(annotation["image_id"], False) or is_held
        held_out[subset] = list(images.values())
    assert held_out["train2017"].count(False) >= COCO_TRAIN / 4
    assert held_out["val2017"].count(False) >= 5
    assert held_out["val2017"].count(True) >= 5


def test_a_nearer_object_hides_what_lies_behind_it():
    for index in range(12):
        _, instances = draw_image(0, "train", index, SIZE)
        if len(instances) > 1:
            assert np.sum([instance.mask for instance in instances], axis=0).max() == 1


def test_run_lengths_go_down_the_columns_and_begin_with_zeros():
    assert run_lengths(np.array([[0, 1], [0, 1]], bool)) == [2, 2]
    assert run_lengths(np.array([[1, 0], [0, 0]], bool)) == [0, 1, 3]


def test_outline_of_a_square_with_a_hole_and_a_far_speck_is_the_cut_square():
    mask = np.zeros((10, 12), bool)
    mask[2:6, 3:9] = True
    mask[3, 5] = False
    mask[9, 11] = True
    (polygon,) = outlines(mask)
    # 6 x 4 pixels, each corner cut by a triangle of half a pixel: 24 - 4 / 8
    assert signed_area(polygon) == pytest.approx(23.5)
    assert polygon.min(0).tolist() == [3, 2]
    assert polygon.max(0).tolist() == [9, 6]


@pytest.mark.parametrize("name", DEFECTS["mvtec"])
def test_mvtec_counts_follow_from_the_arguments_and_masks_pair_by_name(roots, name):
    root = roots / "mvtec" / name
    assert sorted(path.name for path in (root / "train").rglob("*.png")) == ["000.png", "001.png", "002.png"]
    counts = {folder.name: len(list(folder.iterdir())) for folder in (root / "test").iterdir()}
    first, second = DEFECTS["mvtec"][name]
    assert counts == {"good": 3, first: 2, second: 2}  # 7 = 2 + 2 and the rest
    assert {folder.name for folder in (root / "ground_truth").iterdir()} == {first, second}
    for picture in (*(root / "test" / first).iterdir(), *(root / "test" / second).iterdir()):
        mask = Image.open(root / "ground_truth" / picture.parent.name / f"{picture.stem}_mask.png")
        assert mask.mode == "L"
        assert mask.size == Image.open(picture).size == (SIZE, SIZE)
        assert set(np.unique(mask)) == {0, 255}


def test_visa_table_lists_existing_files_with_the_real_columns_and_labels(roots):
    root = roots / "visa"
    with (root / "split_csv" / "1cls.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == ["object", "split", "label", "image", "mask"]
        rows = list(reader)
    classes = {row["object"] for row in rows}
    assert len(classes) >= 3
    for name in classes:
        kinds = [(row["split"], row["label"]) for row in rows if row["object"] == name]
        assert (kinds.count(("train", "normal")), kinds.count(("test", "normal"))) == (3, 4)
        assert (kinds.count(("test", "anomaly")), len(kinds)) == (3, 10)
    listed = {row["image"] for row in rows} | {row["mask"] for row in rows if row["mask"]}
    on_disk = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.suffix in (".JPG", ".png")}
    assert listed == on_disk
    assert len({row["image"] for row in rows}) == len(rows)
    for row in rows:
        assert bool(row["mask"]) == (row["label"] == "anomaly")


def test_visa_masks_number_the_defect_types(roots):
    for name, defect_types in DEFECTS["visa"].items():
        for index, path in enumerate(sorted((roots / "visa" / name / "Data" / "Masks" / "Anomaly").iterdir())):
            assert path.name == f"{index:03d}.png"
            values = np.unique(Image.open(path)).tolist()
            assert values == [0, 1 + index % len(defect_types)]
            assert Image.open(path).size == Image.open(path.parents[2] / "Images" / "Anomaly" / f"{index:03d}.JPG").size


@pytest.mark.parametrize(
    ("dataset", "name", "kind"),
    [
        (dataset, name, kind)
        for dataset, products in DEFECTS.items()
        for name, kinds in products.items()
        for kind in kinds
    ],
)
def test_a_defect_changes_the_picture_inside_its_mask_and_has_a_sensible_size(dataset, name, kind):
    share, inside, outside = [], [], []
    size = (96, 72) if dataset == "visa" or name == "03" else (96, 96)
    for index in range(3):
        picture, mask = draw_product(dataset, 5, name, "test", kind, index, size)
        before, no_mask = draw_product(dataset, 5, name, "test", kind, index, size, with_defect=False)
        assert not no_mask.any()
        change = np.abs(np.asarray(picture, np.float32) - np.asarray(before, np.float32)).mean(2)
        share.append(mask.mean())
        inside.append(change[mask].mean())
        outside.append(change[~mask].mean())
    assert 0.003 < np.mean(share) < 0.09
    # grey levels of 255: seen at a second look, and the rest of the picture is as before
    assert np.mean(inside) > 15
    assert np.mean(outside) < 4
