"""Images that only a supervised method may see: which they are, and that every place that lists phases knows them."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import save_image
from sklearn.model_selection import train_test_split

from invad.config import CalibrationConfig, LabelledConfig
from invad.data.check import check_split
from invad.data.counts import describe
from invad.data.labelled import set_apart
from invad.data.split_table import Split, SplitRow, hold_out
from invad.errors import InputError
from invad.features.extract import phases


def rows_of(train: int, normal: int, anomalous: int, name: str = "bolt") -> list[SplitRow]:
    kinds = [("train", 0)] * train + [("test", 0)] * normal + [("test", 1)] * anomalous
    return [
        SplitRow(f"{name}/{index:03d}.png", name, phase, label, "bad" if label else "good", None, 8, 8, "own")
        for index, (phase, label) in enumerate(kinds)
    ]


def labelled(rows: list[SplitRow], label: int) -> set[str]:
    return {row.image for row in rows if row.phase == "labelled" and row.label == label}


def test_the_labelled_images_are_taken_from_training_and_test_and_nobody_else_has_them():
    rows = rows_of(40, 5, 12) + rows_of(20, 5, 6, "nut")
    held_out = hold_out(rows, CalibrationConfig(0.1, 0.01, 0))
    found = set_apart(held_out, LabelledConfig(anomalous=4, normal_share=0.1), "labelled")
    assert [row.image for row in found] == [row.image for row in rows]
    assert [sum(row.class_name == name and row.phase == "labelled" for row in found) for name in ("bolt", "nut")] == [
        8,
        6,
    ]
    calibration = {row.image for row in held_out if row.phase == "calibration"}
    assert {row.image for row in found if row.phase == "calibration"} == calibration  # labels change nothing of it
    assert "48 normal images to train on, 6 to calibrate on, 6 normal and 8 anomalous with labels, " in describe(found)
    again = set_apart(held_out, LabelledConfig(anomalous=4, normal_share=0.1, seed=1), "labelled")
    assert labelled(again, 1) != labelled(found, 1)


def test_the_rule_of_segads_authors_is_that_of_scikit_learn():
    rows = rows_of(45, 0, 100)
    found = set_apart(rows, LabelledConfig(anomalous=10, normal_share=0.1, seed=576, rule="segad"), "labelled")
    names = {label: sorted(row.image for row in rows if row.label == label) for label in (0, 1)}
    normal = train_test_split(names[0], test_size=0.1, random_state=333)[1]
    assert labelled(found, 0) == set(normal)
    # Of the anomalous ones the authors' own split calls "train" what is left, and the test share is 0.9.
    permutation = np.random.RandomState(576).permutation(100)
    assert labelled(found, 1) == {names[1][index] for index in permutation[90:]}
    assert labelled(found, 1) == set(train_test_split(names[1], test_size=0.9, random_state=576)[0])


def test_a_class_keeps_an_anomalous_image_for_the_test():
    with pytest.raises(InputError, match=r"^labelled.anomalous: is 4, but class 'bolt' has 4 anomalous test images"):
        set_apart(rows_of(4, 2, 4), LabelledConfig(anomalous=4), "labelled")


def test_extraction_and_the_check_of_data_know_the_phase(tmp_path):
    rows = set_apart(rows_of(6, 2, 3), LabelledConfig(anomalous=1, normal_share=0.2), "labelled")
    split = Split(tuple(rows), tmp_path, tmp_path)
    for value, row in enumerate(rows):
        save_image(tmp_path / row.image, value=50 + value)
    assert phases(split) == ("train", "labelled", "test")
    assert {finding.kind for finding in check_split(split, label="check").findings} == {"mask-not-given"}
    seen = next(row.image for row in rows if row.phase == "train")
    save_image(tmp_path / min(labelled(rows, 0)), value=50 + [row.image for row in rows].index(seen))
    assert ("warning", "duplicate-held-out") in {
        (finding.severity, finding.kind) for finding in check_split(split, label="check").findings
    }


def test_all_views_of_an_object_are_labelled_or_none():
    rows = [
        replace(row, group=f"g{index // 2}", view="ab"[index % 2], label=int(row.phase == "test" and index % 4 == 1))
        for index, row in enumerate(rows_of(8, 0, 12))
    ]
    found = set_apart(rows, LabelledConfig(anomalous=1, normal_share=0.3), "labelled")
    moved = [row.group for row in found if row.phase == "labelled"]
    assert len(moved) == 2 * len(set(moved)) == 4  # an object to train on, and one of which a view is anomalous
    assert sorted(row.label for row in found if row.phase == "labelled") == [0, 0, 0, 1]
