"""Real-IAD: tables that alone know the labels, samples of five views, and the arrangements in which copies lie."""

import json
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from invad.config import CalibrationConfig, RealIadSplitConfig
from invad.data.check import check_split
from invad.data.embedded import GENERATORS
from invad.data.embedded.real_iad import CODES, draw_view
from invad.data.real_iad import NOISE, TOTALS, build_real_iad, check_real_iad
from invad.data.split_table import Split, SplitRow, hold_out
from invad.errors import InputError

MULTI_VIEW = RealIadSplitConfig()


@pytest.fixture
def root(tmp_path):
    GENERATORS["realiad"](tmp_path / "data", seed=0, train_images=20, test_images=18, image_size=48)
    return tmp_path / "data"


def of_samples(rows):
    samples = defaultdict(list)
    for row in rows:
        samples[row.class_name, row.group].append(row)
    return samples


def edit(path, change):
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


def test_five_views_are_one_sample_in_one_phase_and_follow_each_other(root):
    rows = build_real_iad(root, MULTI_VIEW)
    samples = of_samples(rows)
    assert len(samples) == 3 * (4 + 4)
    for views in samples.values():
        assert [row.view for row in views] == ["C1", "C2", "C3", "C4", "C5"]
        first = rows.index(views[0])
        assert rows[first : first + 5] == views
        assert len({row.phase for row in views}) == 1
    # S numbers repeat in other folders of the class.
    assert {"OK/S0001", "NG/HS/S0001", "NG/QS/S0001"} <= {group for name, group in samples if name == "toy_brick"}


def test_the_label_is_the_records_and_not_the_folders(root):
    rows = build_real_iad(root, MULTI_VIEW)
    below_ng = [row for row in rows if row.group.startswith("NG/")]
    normal = [row for row in below_ng if not row.label]
    assert normal
    assert {(row.defect_type, row.mask) for row in normal} == {("good", None)}
    for row in rows:
        assert row.label == (row.mask is not None)
        if row.mask:
            assert np.asarray(Image.open(root / row.mask)).any()
            assert row.mask.rsplit(".", 1)[0] == row.image.rsplit(".", 1)[0]
    assert any("/audiojack__0001_NG_" in row.image for row in rows)


def test_a_sample_shows_the_same_object_and_defect_from_all_sides():
    for name, codes in CODES.items():
        masks = [draw_view(0, name, "NG/x/S0001", view, codes[0], 96)[1] for view in range(5)]
        above, below = masks[1].nonzero()[0].mean(), masks[3].nonzero()[0].mean()
        assert all(mask.any() for mask in masks)
        assert above != below  # seen from the other side, it lies on the other half


def test_single_views_are_a_split_of_its_own(root):
    rows = build_real_iad(root, RealIadSplitConfig(variant="realiad_jsons_sv"))
    assert {row.view for row in rows} == {"C1"}
    assert len({row.image for row in rows}) == len(rows) == 3 * 8
    multi_view = {row.image: row.phase for row in build_real_iad(root, MULTI_VIEW)}
    assert any(multi_view[row.image] != row.phase for row in rows)


def test_noisy_splits_train_on_anomalous_images_and_their_check_says_so(root):
    rows = build_real_iad(root, RealIadSplitConfig(variant="realiad_jsons_fuiad_0.4"))
    noise = [row for row in rows if row.phase == "train" and row.label]
    assert noise
    clean = build_real_iad(root, RealIadSplitConfig(variant="realiad_jsons_fuiad_0.0"))
    assert not any(row.label for row in clean if row.phase == "train")
    tests = [{row.image for row in each if row.phase == "test"} for each in (rows, clean)]
    assert tests[0] == tests[1]
    report = check_split(Split(tuple(rows), root, root), workers=1, label="check")
    assert report.errors == 0
    (finding,) = [one for one in report.findings if one.kind == "train-noise"]
    assert set(finding.files) == {row.image for row in noise}


def test_whole_samples_are_held_out(root):
    rows = build_real_iad(root, MULTI_VIEW)
    held = hold_out(rows, CalibrationConfig(share=0.3, false_positive_rate=0.01, seed=0))
    kept = Counter((row.class_name, row.group) for row in held if row.phase == "calibration")
    assert Counter(name for name, _ in kept) == dict.fromkeys(CODES, 1)
    assert set(kept.values()) == {5}


@pytest.mark.parametrize("arrangement", ["zip", "classes", "benchmark"])
def test_the_arrangements_of_other_copies_are_found(root, arrangement):
    expected = [(row.group, row.view, row.phase, row.label) for row in build_real_iad(root, MULTI_VIEW)]
    images, tables = root / "realiad_1024", root / "realiad_jsons"
    if arrangement == "zip":  # the archive of tables has a folder of its own
        tables.rename(root / "inner")
        tables.mkdir()
        (root / "inner").rename(tables / "realiad_jsons")
        (root / "realiad_jsons_sv").rename(tables / "realiad_jsons_sv")
        assert build_real_iad(root, RealIadSplitConfig(variant="realiad_jsons_sv"))
    elif arrangement == "classes":  # each archive unpacked into a folder of its class's name
        for folder in list(images.iterdir()):
            folder.rename(root / "inner")
            folder.mkdir()
            (root / "inner").rename(folder / folder.name)
    else:  # `<root>/<class>.json` beside `<root>/<class>/OK`
        for path in (*images.iterdir(), *tables.iterdir()):
            path.rename(root / path.name)
        images.rmdir()
        tables.rmdir()
    assert [(row.group, row.view, row.phase, row.label) for row in build_real_iad(root, MULTI_VIEW)] == expected


def test_of_several_resolutions_one_is_named(root):
    (root / "realiad_256").mkdir()
    with pytest.raises(InputError, match="has realiad_256 and realiad_1024; set `resolution` in the `splits` section"):
        build_real_iad(root, MULTI_VIEW)
    assert build_real_iad(root, RealIadSplitConfig(resolution="realiad_1024"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table["test"].pop(), "1 samples do not have 5 of the views C1 to C5 in one phase: toy_brick/"),
        (lambda table: table["train"].append(table["test"].pop()), "1 samples do not have 5 of the views"),
        (
            lambda table: next(row.update(mask_path=None) for row in table["test"] if row["mask_path"]),
            r"anomalous images without a mask: realiad_1024/toy_brick/NG",
        ),
        (lambda table: table["train"][0].update(image_path="../x_C1_1.jpg"), "train, record 0: image .* leaves the"),
        (lambda table: table["train"][0].update(image_path="OK/S0001/x_C1_1.jpg"), "record 0: .*x_C1_1.jpg: no such"),
        (lambda table: table["train"][0].pop("anomaly_class"), r"toy_brick\.json: not a table of Real-IAD"),
        (
            lambda table: table["meta"].update(prefix="../x/"),
            "the prefix '../x/' of a table is not the name of a folder",
        ),
        (lambda table: table["meta"].update(prefix="usb/"), "realiad_1024/usb: has no folder OK or NG"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(root, change, message):
    edit(root / "realiad_jsons/toy_brick.json", change)
    with pytest.raises(InputError, match=message):
        build_real_iad(root, MULTI_VIEW)


def test_a_root_without_tables_is_named(root):
    with pytest.raises(InputError, match=r"no Real-IAD root, realiad_jsons/<class>\.json is missing"):
        build_real_iad(root / "realiad_1024", MULTI_VIEW)


def test_totals_of_thirty_classes_are_compared_and_fewer_classes_are_not(tmp_path):
    row = SplitRow("a.jpg", "0", "test", 0, "good", None, 8, 8, "realiad")
    rows = [replace(row, class_name=str(number)) for number in range(30)]
    check_real_iad(rows[:29], tmp_path, MULTI_VIEW)
    with pytest.raises(InputError, match=r"has 0 \+ 30 \+ 0 images .*published 36465 \+ 63256 \+ 51329 with 0"):
        check_real_iad(rows, tmp_path, MULTI_VIEW)
    assert sum(TOTALS["realiad_jsons"]) == 151_050
    assert sum(TOTALS["realiad_jsons_sv"]) == 30_210
    assert list(NOISE) == list(TOTALS)[3:]
