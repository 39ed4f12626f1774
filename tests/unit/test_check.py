"""The check of a benchmark's images and masks: what it finds, and that it finds nothing in good data."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from conftest import save_mask
from PIL import Image

from invad.data.check import CheckReport, Finding, check_split
from invad.data.counts import Counts
from invad.data.embedded import GENERATORS
from invad.data.images import image_size
from invad.data.split_table import ANOMALOUS, NORMAL, Split, SplitRow

_numbers: Iterator[int] = count()


def picture(size: int = 8) -> Image.Image:
    """An RGB image unlike all others."""
    return Image.fromarray(np.random.default_rng(next(_numbers)).integers(0, 256, (size, size, 3), dtype=np.uint8))


@pytest.fixture
def split(tmp_path) -> Split:
    """Two images to train on, a normal and two anomalous test images, two masks; nothing is wrong with them."""
    rows = []
    for name, label in (("train/a", 0), ("train/b", 0), ("test/good", 0), ("test/bad1", 1), ("test/bad2", 1)):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        picture().save(path)
        mask = None
        if label:
            mask = f"masks/{path.name}"
            save_mask(tmp_path / mask)
        phase = "train" if name.startswith("train") else "test"
        rows.append(SplitRow(f"{name}.png", "bolt", phase, label, "any", mask, 8, 8, "own"))
    return Split(tuple(rows), tmp_path, tmp_path)


def check(split: Split) -> CheckReport:
    return check_split(split, workers=1, label="check")


def found(split: Split) -> list[tuple[str, str, tuple[str, ...]]]:
    """Severity, kind and files of all findings."""
    return [(finding.severity, finding.kind, finding.files) for finding in check(split).findings]


def changed(split: Split, image: str, **fields) -> Split:
    """`split` with other values in the row of `image`."""
    return replace(split, rows=tuple(replace(row, **fields) if row.image == image else row for row in split.rows))


def test_good_data_have_counts_and_no_findings(split):
    report = check(split)
    assert report == CheckReport({"bolt": (Counts(2, 1, 2), 2)}, ())
    assert report.errors == 0
    assert report.summary().endswith("\nno errors, no warnings")


def test_masks_that_cover_most_of_their_images_are_named_for_each_class(split, tmp_path):
    other = tuple(replace(row, image=f"o/{row.image}", mask=row.mask and f"o/{row.mask}") for row in split.rows)
    for row in other:
        (tmp_path / row.image).parent.mkdir(parents=True, exist_ok=True)
        picture().save(tmp_path / row.image)
        if row.mask:
            inverted = np.where(np.asarray(Image.open(tmp_path / row.mask.removeprefix("o/"))) > 0, 0, 255)
            (tmp_path / row.mask).parent.mkdir(exist_ok=True)
            Image.fromarray(inverted.astype(np.uint8)).save(tmp_path / row.mask)
    rows = (*split.rows, *(replace(row, class_name="nut") for row in other))
    (finding,) = check(replace(split, rows=rows)).findings
    assert (finding.severity, finding.kind, finding.files) == (
        "warning",
        "mask-covers",
        ("o/masks/bad1.png", "o/masks/bad2.png"),
    )
    assert "the masks of the class nut cover 75% of their images in the mean" in finding.message


def test_damaged_and_missing_files_are_all_kept_with_their_names(split, tmp_path):
    (tmp_path / "train/a.png").write_text("no image")
    (tmp_path / "train/b.png").unlink()
    whole = (tmp_path / "test/bad1.png").read_bytes()
    (tmp_path / "test/bad1.png").write_bytes(whole[:-30])
    (tmp_path / "masks/bad1.png").unlink()
    (tmp_path / "masks/bad2.png").write_bytes(b"")
    assert found(split) == [
        ("error", "image-missing", ("train/b.png",)),
        ("error", "image-unreadable", ("test/bad1.png",)),
        ("error", "image-unreadable", ("train/a.png",)),
        ("error", "mask-missing", ("masks/bad1.png",)),
        ("error", "mask-unreadable", ("masks/bad2.png",)),
    ]
    assert str(tmp_path) not in json.dumps(check(split).to_json())  # no names of this machine


def test_what_cannot_be_opened_at_all_is_a_finding_too(split, tmp_path):
    (tmp_path / "train/a.png").unlink()
    (tmp_path / "train/a.png").mkdir()
    (tmp_path / "train/b.png").unlink()
    (tmp_path / "train/b.png").symlink_to("b.png")
    assert found(split) == [
        ("error", "image-missing", ("train/b.png",)),
        ("error", "image-unreadable", ("train/a.png",)),
    ]


def test_images_of_another_size_than_in_the_table(split):
    assert found(changed(split, "train/a.png", width=9)) == [("error", "image-size", ("train/a.png",))]
    assert check(changed(split, "train/a.png", width=9)).findings[0].message.startswith("has 8x8 pixels, 9x8 in")


def test_masks_of_another_size_than_their_image(split, tmp_path):
    save_mask(tmp_path / "masks/bad1.png", size=16)
    assert found(split) == [("error", "mask-size", ("masks/bad1.png", "test/bad1.png"))]
    assert check(split).findings[0].message == "the mask has 16x16 pixels, its image 8x8"


def test_an_empty_mask_of_an_anomalous_image_is_an_error_unless_drawn_from_annotations(split, tmp_path):
    save_mask(tmp_path / "masks/bad1.png", value=0)
    assert found(split) == [("error", "mask-empty", ("masks/bad1.png", "test/bad1.png"))]
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    (tmp_path / "masks").rename(drawn / "masks")
    assert found(replace(split, mask_root=drawn)) == [("warning", "mask-empty", ("masks/bad1.png", "test/bad1.png"))]


def test_a_mask_with_pixels_of_a_normal_image_is_an_error_and_an_empty_one_is_not(split, tmp_path):
    save_mask(tmp_path / "masks/good.png")
    with_mask = changed(split, "test/good.png", mask="masks/good.png")
    assert found(with_mask) == [("error", "mask-on-normal", ("masks/good.png", "test/good.png"))]
    save_mask(tmp_path / "masks/good.png", value=0)
    assert found(with_mask) == []


def test_masks_that_are_not_given_are_one_warning_with_their_number(split):
    without = changed(changed(split, "test/bad1.png", mask=None), "test/bad2.png", mask=None)
    report = check(without)
    assert found(without) == [("warning", "mask-not-given", ("test/bad1.png", "test/bad2.png"))]
    assert report.findings[0].message.startswith("2 anomalous")
    assert report.classes == {"bolt": (Counts(2, 1, 2), 0)}


def test_anomalous_images_to_train_on_are_an_error(split):
    assert found(changed(split, "train/a.png", label=ANOMALOUS)) == [("error", "train-anomalous", ("train/a.png",))]


def test_the_same_content_to_train_on_and_to_test_on_is_an_error(split, tmp_path):
    (tmp_path / "test/good.png").write_bytes((tmp_path / "train/b.png").read_bytes())
    assert found(split) == [("error", "duplicate-across-phases", ("test/good.png", "train/b.png"))]


def test_the_same_content_with_both_labels_is_an_error(split, tmp_path):
    (tmp_path / "test/good.png").write_bytes((tmp_path / "test/bad1.png").read_bytes())
    assert found(split) == [("error", "duplicate-labels", ("test/bad1.png", "test/good.png"))]


def test_the_same_content_twice_in_a_phase_is_a_warning(split, tmp_path):
    (tmp_path / "train/a.png").write_bytes((tmp_path / "train/b.png").read_bytes())
    assert found(split) == [("warning", "duplicate-within-phase", ("train/a.png", "train/b.png"))]


def test_one_file_in_several_rows_is_an_error_and_no_duplicate_of_itself(split):
    twice = replace(split, rows=(*split.rows, replace(split.rows[0], phase="test")))
    assert found(twice) == [("error", "image-repeated", ("train/a.png",))]
    assert check(twice).findings[0].message == "stands in 2 rows of the split table (bolt train, bolt test)"


def test_classes_that_lack_images(split):
    no_training = changed(changed(split, "train/a.png", class_name="nut"), "train/b.png", class_name="nut")
    assert found(no_training) == [
        ("error", "class-without-training", ()),
        ("warning", "class-without-anomalies", ()),
        ("warning", "class-without-normal-test", ()),
    ]
    assert [finding.message.split(":")[0] for finding in check(no_training).findings] == [
        "the class bolt has no normal image to train on",
        "the class nut has no anomalous test image",
        "the class nut has no normal test image",
    ]
    only_anomalous = changed(changed(split, "train/a.png", label=ANOMALOUS), "train/b.png", label=ANOMALOUS)
    assert ("error", "class-without-training", ()) in found(only_anomalous)
    assert check(only_anomalous).classes == {"bolt": (Counts(0, 1, 2), 2)}


def test_an_empty_table_is_an_error(tmp_path):
    assert found(Split((), tmp_path, tmp_path)) == [("error", "no-images", ())]


def test_pixel_formats_that_are_converted_are_counted(split, tmp_path):
    picture().convert("L").save(tmp_path / "train/a.png")
    picture().quantize(8).save(tmp_path / "train/b.png")
    picture().convert("L").save(tmp_path / "test/good.png")
    picture().convert("RGBA").save(tmp_path / "test/bad1.png")
    picture().convert("CMYK").save(tmp_path / "test/bad2.png", "JPEG")
    report = check(split)
    assert [(finding.kind, finding.files) for finding in report.findings] == [
        ("image-mode", ("test/bad1.png",)),
        ("image-mode", ("test/bad2.png",)),
        ("image-mode", ("test/good.png", "train/a.png")),
        ("image-mode", ("train/b.png",)),
    ]
    assert report.findings[2].message == "2 of the pixel format L, converted to RGB without alpha"
    assert report.summary().endswith("\nno errors, 4 warnings")


def test_rotations_in_exif_are_a_warning(split, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    picture().save(tmp_path / "train/a.png", exif=exif)
    exif[0x0112] = 1  # as stored
    picture().save(tmp_path / "train/b.png", exif=exif)
    assert found(split) == [("warning", "image-rotated", ("train/a.png",))]


def test_masks_in_jpeg_are_a_warning(split, tmp_path):
    Image.fromarray(np.tri(8, k=-2, dtype=np.uint8) * 255).save(tmp_path / "masks/bad1.jpg")
    assert found(changed(split, "test/bad1.png", mask="masks/bad1.jpg")) == [
        ("warning", "mask-lossy", ("masks/bad1.jpg",))
    ]


def test_findings_do_not_depend_on_the_order_of_rows(split, tmp_path):
    picture().convert("L").save(tmp_path / "test/good.png")
    picture().convert("L").save(tmp_path / "train/a.png")
    (tmp_path / "train/b.png").write_bytes((tmp_path / "test/bad1.png").read_bytes())
    (tmp_path / "test/bad2.png").unlink()
    assert check(split) == check(replace(split, rows=split.rows[::-1]))


def test_the_summary_is_a_table_then_findings_by_kind_then_totals():
    finding = Finding("warning", "image-mode", tuple(f"{number:02}.png" for number in range(12)), "12 converted")
    damaged = tuple(Finding("error", "image-unreadable", (f"{number:02}.png",), "bad") for number in range(11))
    report = CheckReport({"nut": (Counts(10, 2, 3), 3), "screw": (Counts(5, 1, 0), 0)}, (*damaged, finding))
    lines = report.summary().split("\n")
    assert lines[:6] == [
        "class  train  test normal  test anomalous  masks",
        "nut       10            2               3      3",
        "screw      5            1               0      0",
        "all       15            3               3      3",
        "",
        "error: image-unreadable (11)",
    ]
    assert lines[6:16] == [f"  {number:02}.png: bad" for number in range(10)]
    assert lines[16:] == [
        "  and 1 more",
        "",
        "warning: image-mode (1)",
        "  00.png, 01.png, 02.png, 03.png, 04.png, 05.png, 06.png, 07.png, 08.png, 09.png and 2 more: 12 converted",
        "",
        "11 errors, 1 warning",
    ]


def test_the_report_as_json_lists_every_file():
    report = CheckReport({"nut": (Counts(1, 1, 1), 0)}, (Finding("warning", "mask-not-given", ("a.png",), "1 x"),))
    assert json.loads(json.dumps(report.to_json())) == {
        "errors": 0,
        "warnings": 1,
        "classes": [{"name": "nut", "train": 1, "test_normal": 1, "test_anomalous": 1, "masks": 0}],
        "findings": [{"severity": "warning", "kind": "mask-not-given", "files": ["a.png"], "message": "1 x"}],
    }


def mvtec_split(root: Path) -> Split:
    """The rows of an MVTec AD root, without the package's own builder."""
    rows = []
    for path in sorted(root.glob("*/t*/*/*.png")):
        class_name, phase, defect = path.relative_to(root).parts[:3]
        mask = None if defect == "good" else f"{class_name}/ground_truth/{defect}/{path.stem}_mask.png"
        width, height = image_size(path)
        label = NORMAL if mask is None else ANOMALOUS
        name = path.relative_to(root).as_posix()
        rows.append(SplitRow(name, class_name, phase, label, defect, mask, width, height, "mvtec"))
    return Split(tuple(rows), root, root)


@pytest.mark.slow
def test_several_processes_find_the_same_as_one(tmp_path, capfd):
    GENERATORS["mvtec"](tmp_path, seed=0, train_images=20, test_images=8, image_size=64)
    split = mvtec_split(tmp_path)
    split.image_path(split.rows[5]).write_bytes(b"no image")
    report = check_split(split, workers=2, label="check mvtec")
    assert report == check(split)
    assert [(finding.kind, finding.files) for finding in report.findings] == [
        ("image-unreadable", (split.rows[5].image,))
    ]
    assert [counts.train for counts, _ in report.classes.values()] == [20, 20, 20]
    assert (
        sum(counts.test_normal + counts.test_anomalous for counts, _ in report.classes.values()) == len(split.rows) - 60
    )
    captured = capfd.readouterr()
    assert "check mvtec" in captured.err
    assert captured.out == ""


@pytest.mark.slow
def test_the_real_leather_images_decode(real_data):
    root = real_data / "mvtec_leather_slice"
    images = sorted(path.relative_to(root).as_posix() for path in root.glob("t*/*/*.png"))
    assert images
    rows = [
        SplitRow(name, "leather", name.split("/")[0], int("/good/" not in name), "any", None, 1024, 1024, "mvtec")
        for name in images
    ]
    report = check(Split(tuple(rows), root, root))
    assert report.errors == 0
    assert [finding.kind for finding in report.findings] == ["mask-not-given"]
