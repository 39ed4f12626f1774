"""VAD, the Valeo Anomaly Dataset: one class without masks, and which images a supervised method may see."""

import json
import logging
from collections import Counter

import pytest

from invad.config import VadSplitConfig, load_params
from invad.data.counts import check_counts, describe
from invad.data.embedded import GENERATORS
from invad.data.vad import VAD, build_vad, check_vad
from invad.errors import InputError

ONE_CLASS = VadSplitConfig()


@pytest.fixture
def root(tmp_path):
    GENERATORS["vad"](tmp_path / "data", seed=0, train_images=16, test_images=12, image_size=48)
    return tmp_path / "data"


def counts(rows):
    return Counter((row.phase, row.label, row.defect_type) for row in rows)


TESTS = {("test", 0, "good"): 6, ("test", 1, "bad"): 5, ("test", 1, "bad_unseen_defects"): 1}


def test_one_class_learning_does_not_read_the_defects_to_train_on(root):
    rows = build_vad(root, ONE_CLASS)
    assert counts(rows) == TESTS | {("train", 0, "good"): 16}
    assert {(row.class_name, row.mask, row.dataset) for row in rows} == {("vad", None, "vad")}
    assert build_vad(root / "vad", ONE_CLASS)[0].image == rows[0].image.removeprefix("vad/")


def test_supervised_protocols_label_all_defects_or_those_of_a_key(root):
    high = build_vad(root, VadSplitConfig(protocol="high-shot"))
    assert counts(high) == TESTS | {("train", 0, "good"): 16, ("labelled", 1, "bad"): 8}
    assert "16 normal images to train on, 0 normal and 8 anomalous with labels, 6 normal" in describe(high)
    names = json.loads((root / "vad/low_shot_train.json").read_text())
    low = build_vad(root, VadSplitConfig(protocol="low-shot", low_shot="1"))
    assert [row.image for row in low if row.phase == "labelled"] == sorted(
        f"vad/train/bad/{name}" for name in names["1"]
    )
    assert not set(names["0"]) & set(names["1"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"0": []}', r"low_shot_train\.json: has no key '1', which low_shot names; it has 0"),
        ('{"1": ["77.png"]}', r"low_shot_train\.json: the key '1' names 77\.png, which is not in .*train/bad"),
        ('{"1": 3}', r"low_shot_train\.json: not a table of file names by key"),
        (None, r"low_shot_train\.json: cannot be read"),
    ],
)
def test_a_damaged_table_of_keys_is_named(root, content, message):
    path = root / "vad/low_shot_train.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=message):
        build_vad(root, VadSplitConfig(protocol="low-shot", low_shot="1"))


def test_a_key_goes_with_its_protocol(write_params, params_dict):
    params_dict["download"]["vad"] = {"source": "embedded"}
    params_dict["benchmarks"] = {"vad": {"dataset": "vad", "settings": "visa"}}
    for splits in ({"protocol": "low-shot"}, {"low_shot": "1"}):
        params_dict["splits"]["visa"] = splits
        with pytest.raises(InputError, match=r"splits\.visa\.low_shot: is needed with `protocol: low-shot`"):
            load_params(write_params(params_dict))


def test_counts_are_compared_and_those_nobody_counted_only_said(root, caplog):
    rows = build_vad(root, VadSplitConfig(protocol="high-shot"))
    with pytest.raises(InputError, match=r"vad has 16 \+ 6 \+ 6, published 2000 \+ 1000 \+ 1000"):
        check_counts(rows, VAD.counts, root, strict=True)
    with pytest.raises(InputError, match="train/bad has 8 images, published are 1000"):
        check_vad(rows, root, VadSplitConfig(protocol="high-shot"))
    with caplog.at_level(logging.WARNING):
        check_vad(build_vad(root, ONE_CLASS), root, ONE_CLASS)
    assert "test/bad has 5 images, the authors speak of 835" in caplog.text


def test_a_folder_without_images_is_named(root):
    for path in (root / "vad/test/bad_unseen_defects").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="bad_unseen_defects: has no images; VAD has"):
        build_vad(root, ONE_CLASS)
