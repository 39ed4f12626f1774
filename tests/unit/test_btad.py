"""BTAD: its layout with all its oddities, on the generated root; and what becomes of an anomalous image whose mask is empty."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from conftest import mask_bytes
from PIL import Image

from invad.config import FolderSplitConfig
from invad.data.btad import BTAD, build_btad
from invad.data.check import check_split
from invad.data.counts import check_counts
from invad.data.embedded import GENERATORS
from invad.data.split_table import Split
from invad.errors import InputError
from invad.scoring.score import Predictions, write_phase
from invad.scoring.store import open_scores

STRICT = FolderSplitConfig()


@pytest.fixture
def root(tmp_path):
    GENERATORS["btad"](tmp_path / "btad", seed=0, train_images=4, test_images=8, image_size=48)
    return tmp_path / "btad"


def folder(root):
    return root / "BTech_Dataset_transformed"


def test_masks_belong_to_the_image_of_their_stem_whatever_the_suffixes(root):
    rows = build_btad(root, STRICT)
    pairs = {(row.image, row.mask) for row in rows if row.label}
    base = "BTech_Dataset_transformed"
    assert (f"{base}/01/test/ko/0000.bmp", f"{base}/01/ground_truth/ko/0000.png") in pairs
    assert (f"{base}/02/test/ko/0000.png", f"{base}/02/ground_truth/ko/0000.png") in pairs
    assert (f"{base}/03/test/ko/0000.bmp", f"{base}/03/ground_truth/ko/0000.bmp") in pairs
    assert {row.defect_type for row in rows if row.label} == {"ko"}
    # 03/test/ok has the same stems as 03/test/ko.
    assert all(row.mask is None for row in rows if not row.label)
    assert {(row.class_name, row.width, row.height) for row in rows} == {("01", 48, 48), ("02", 36, 36), ("03", 48, 36)}
    assert {row.dataset for row in rows} == {"btad"}


def test_numbers_are_missing_where_some_are_and_nothing_else_is(root):
    rows = build_btad(root, STRICT)
    stems = [row.image[-8:-4] for row in rows if "01/test/ko" in row.image]
    assert stems == ["0000", "0001", "0003", "0004"]
    counts = [(row.class_name, row.phase) for row in rows]
    assert {counts.count(each) for each in counts} == {4, 8}


def test_the_folder_in_the_archive_may_be_the_root_itself(root):
    inside = build_btad(folder(root), STRICT)
    assert [row.image for row in inside] == [row.image.split("/", 1)[1] for row in build_btad(root, STRICT)]


def test_a_mask_that_is_missing_is_an_error_and_an_empty_one_is_none(root):
    mask = folder(root) / "03/ground_truth/ko/0001.bmp"
    assert not np.asarray(Image.open(mask)).any()
    mask.unlink()
    with pytest.raises(InputError, match=r"1 anomalous images without a mask and 0 .*03/test/ko/0001\.bmp"):
        build_btad(root, STRICT)


def test_the_published_counts_are_those_on_disk_and_not_those_in_the_paper(root):
    assert [sum(column) for column in zip(*BTAD.counts.values(), strict=True)] == [1799, 451, 290]
    with pytest.raises(InputError, match=r"02 has 4 \+ 4 \+ 4, published 399 \+ 30 \+ 200"):
        check_counts(build_btad(root, STRICT), BTAD.counts, root, strict=True)


def split_of(root, *, renamed: str = "") -> Split:
    """The rows of class 03, the anomalous image with the empty mask under another number."""
    if renamed:
        for name in ("test", "ground_truth"):
            (folder(root) / f"03/{name}/ko/0001.bmp").rename(folder(root) / f"03/{name}/ko/{renamed}.bmp")
    rows = [row for row in build_btad(root, STRICT) if row.class_name == "03"]
    return Split(tuple(rows), root, root)


@pytest.mark.parametrize("renamed", ["", "0028"])
def test_an_empty_mask_is_a_warning_and_the_published_ones_are_known_by_name(root, renamed):
    report = check_split(split_of(root, renamed=renamed), workers=1, label="check")
    found = [finding for finding in report.findings if finding.kind.startswith("mask-empty")]
    assert report.errors == 0
    image = f"BTech_Dataset_transformed/03/test/ko/{renamed or '0001'}.bmp"
    assert [(one.severity, one.kind, image in one.files) for one in found] == [
        ("warning", "mask-empty-published" if renamed else "mask-empty", True)
    ]
    assert ("as they are published" in found[0].message) == bool(renamed)
    assert len(BTAD.empty_masks) == 11


def test_the_mask_of_an_anomalous_image_without_a_pixel_is_not_known(root, tmp_path):
    split = split_of(root)
    tests = split.phase("test")
    maps = np.zeros((len(tests), 16, 16), np.float32)
    write_phase([Predictions(maps, maps.max((1, 2)))], split, "test", 16, tmp_path / "scores")
    scores = open_scores(tmp_path / "scores")
    unknown = [name for name, known in zip(scores.images, scores.has_mask, strict=True) if not known]
    assert unknown == ["BTech_Dataset_transformed/03/test/ko/0001.bmp"]
    assert [name for name, one in zip(scores.images, scores.empty_masks(split), strict=True) if one] == unknown
    # The masks of other data sets say what they say.
    others = replace(split, rows=tuple(replace(row, dataset="mvtec") for row in split.rows))
    write_phase([Predictions(maps, maps.max((1, 2)))], others, "test", 16, tmp_path / "others")
    assert open_scores(tmp_path / "others").has_mask.all()


def test_without_strict_what_has_no_partner_is_left_out(root, caplog):
    (folder(root) / "01/ground_truth/ko/0009.png").write_bytes(mask_bytes())
    with caplog.at_level(logging.WARNING):
        rows = build_btad(root, FolderSplitConfig(strict=False))
    assert "0 anomalous images without a mask and 1 masks without an image" in caplog.text
    assert len(rows) == 3 * 12
