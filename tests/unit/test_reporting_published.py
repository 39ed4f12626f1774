"""The published numbers: consistent in themselves, quoted with their sources, and never beside a result that is not comparable."""

import csv
import io
import re
from dataclasses import replace
from importlib.resources import files

import pytest
from reporting_toys import toy_result

from invad.report.benchmarks import published_tables
from invad.report.labels import BENCHMARKS, FOLD_MEAN, FOLDS, METHODS, METRICS
from invad.report.published import (
    SOURCES,
    incomparable,
    published_counts,
    published_results,
    recipe_note,
)
from invad.report.results import Counts
from invad.report.tables import DASH, MISSING
from invad.report.writers import csv_text, markdown

KEYS = [metric.key for metric in METRICS]
PARTS = {
    "mad_image": ("image_auroc", "image_ap", "image_f1_max"),
    "mad_pixel": ("pixel_auroc", "pixel_ap", "pixel_f1_max"),
    "mad_threshold": ("pixel_mf1", "pixel_macc", "pixel_miou"),
    "mad": ("image_auroc", "image_ap", "image_f1_max", "region_aupro", "pixel_auroc", "pixel_ap", "pixel_f1_max"),
}
KINDS = ("published: paper", "published: re-run")
MISPRINT = ("mvtec_3d", "diad", "paper", None, "mad_threshold")


WHOLE = ("paper", "rerun")  # sources whose rows have every metric


def place(entry):
    return entry.benchmark, entry.method, entry.source, entry.epochs


def find(benchmark, method, source, epochs=None):
    return next(entry for entry in published_results() if place(entry) == (benchmark, method, source, epochs))


def official(name="mvtec", profile="paper-lite", counts=None, seeds=(42,), label="", **train):
    """A result that looks like one on the official data."""
    classes = ("coco",) if name in FOLDS else ("bottle", "wood")
    own = counts or published_counts()[name]
    return toy_result(name, "official", seeds, classes, profile, own, label, label, **train)


def test_averages_agree_with_their_parts_but_for_the_misprint():
    wrong = []
    for entry in published_results():
        # of one and of three decimals in percent, twice
        rounding = 0.000021 if entry.source in ("rerun", "mvad") else 0.00101
        for average, parts in PARTS.items():
            if entry.source not in WHOLE and not {average, *parts} <= set(entry.values):
                continue
            if abs(sum(entry.values[key] for key in parts) / len(parts) - entry.values[average]) > rounding:
                wrong.append((*place(entry), average))
    assert wrong == [MISPRINT]
    assert "19.7" in find(*MISPRINT[:4]).notes["mad_threshold"][0]


def test_the_mean_of_coco_ad_is_that_of_its_folds():
    rerun = [entry for entry in published_results() if entry.source == "rerun"]
    means = [entry for entry in rerun if entry.benchmark == FOLD_MEAN]
    assert len(means) == 11
    for mean in means:
        folds = [entry for entry in rerun if entry.benchmark in FOLDS and entry.method == mean.method]
        for key in KEYS:
            assert sum(fold.values[key] for fold in folds) / 4 == pytest.approx(mean.values[key], abs=1e-5)


def test_every_row_has_a_known_method_and_source_and_stands_once():
    entries = published_results()
    places = [place(entry) for entry in entries]
    assert len(entries) == len({(*place(entry), entry.setting) for entry in entries}) == 221
    assert sum(source in WHOLE for _, _, source, _ in places) == 155 + 11 + 1  # Real-IAD, and UniAD on BTAD
    assert all(set(entry.values) == set(KEYS) for entry in entries if entry.source in WHOLE)
    assert {method for _, method, _, _ in places} <= set(METHODS)
    assert {source for _, _, source, _ in places} == set(SOURCES)
    assert {benchmark for benchmark, *_ in places} == {*BENCHMARKS, "mvtec_3d", "medical"}
    assert {epochs for _, _, source, epochs in places if source == "rerun"} == {100, 300}
    assert all(0 <= value <= 1 for entry in published_results() for value in entry.values.values())
    assert "arXiv:2404.10760" in SOURCES["paper"].citation and "Table" in SOURCES["paper"].where
    assert "arXiv:2406.03262" in SOURCES["rerun"].citation and "2024-05" in SOURCES["rerun"].where


def test_values_by_hand():
    paper = find("coco_ad_mean", "invad", "paper", 100)
    assert [paper.values[key] for key in ("image_auroc", "pixel_auroc", "region_aupro", "pixel_iou_max")] == [
        0.659, 0.733, 0.449, 0.152,
    ]  # fmt: skip
    assert find("mvtec", "invad", "rerun", 100).values["mad"] == 0.86095
    assert find("mvtec", "invad", "rerun", 300).values["image_auroc"] == 0.98896
    assert find("mvtec", "destseg", "rerun", 100).values["pixel_mf1"] == 0.59157
    assert find("coco_ad_mean", "diad", "paper", None).values["pixel_ap"] == 0.205
    assert find("mvtec", "invad-lite", "paper", 300).epochs == 300
    assert find("realiad", "invad", "rerun", 100).values["mad"] == 0.74188
    assert find("btad", "invad", "page", 100).values["region_aupro"] == 0.809
    assert find("coco_ad_mean", "vitad", "vitad").values["mad"] == pytest.approx(0.534, abs=0.0005)
    assert find("vad", "efficientad", "segad").values == {"image_auroc": 0.891}


def test_percent_values_are_stored_as_printed():
    text = files("invad.report").joinpath("published_csv", "results.csv").read_text()
    row = next(row for row in csv.DictReader(io.StringIO(text)) if row["method"] == "invad" and row["epochs"] == "300")
    assert (row["benchmark"], row["source"], row["image_auroc"]) == ("mvtec", "paper", "98.9")


def test_counts_add_up_to_the_published_totals():
    counts = published_counts()
    assert {counts[fold].test_normal + counts[fold].test_anomalous for fold in FOLDS} == {4952}
    assert counts["visa"].train + counts["visa"].test_normal + counts["visa"].test_anomalous == 10_821
    assert (counts["mvtec"].classes, counts["mvtec"].train) == (15, 3629)
    assert {name: counts[name].train + counts[name].test_normal + counts[name].test_anomalous for name in ("btad", "vad", "realiad")} == {
        "btad": 2540, "vad": 4000, "realiad": 151_050
    }  # fmt: skip
    assert counts["vad"].without_mask == counts["vad"].test_anomalous  # it has no masks


def test_warnings_are_notes_on_the_values_they_are_about():
    threshold = {"pixel_mf1", "pixel_macc", "pixel_miou", "mad_threshold"}
    for fold in ("coco_ad_2", "coco_ad_3"):
        for method in ("rd", "rd++"):
            entry = find(fold, method, "rerun", 100)
            assert set(entry.notes) == threshold
            assert all(entry.values[key] < 0.001 for key in threshold)
    assert set(find(FOLD_MEAN, "rd", "rerun", 100).notes) == threshold
    mean, paper = find(FOLD_MEAN, "invad", "rerun", 100), find(FOLD_MEAN, "invad", "paper", 100)
    assert set(mean.notes) == {"image_auroc", "pixel_auroc"}
    for key in mean.notes:
        assert 0.015 < paper.values[key] - mean.values[key] < 0.025
        for ahead in ("vitad", "cflow"):
            assert find(FOLD_MEAN, ahead, "rerun", 100).values[key] > mean.values[key]
    assert set(paper.notes) == {"mad"}


def test_every_row_of_draems_re_run_says_that_it_saw_no_anomalies():
    tables = published_tables([toy_result(name, classes=("coco",)) for name in (*FOLDS, "mvtec", "visa")])
    draem = [row for table in tables for row in table.rows if row.words["Method"] == "DRAEM"]
    rows = {kind: [row for row in draem if row.words["Data"] == kind] for kind in KINDS}
    assert [len(found) for found in rows.values()] == [3, 9]
    assert all("without synthetic anomalies" in note for row in rows["published: re-run"] for note in row.notes)
    assert all(len(row.notes) == 1 for row in rows["published: re-run"])
    assert all(row.notes == () for row in rows["published: paper"])
    text = markdown([tables[-1]])
    mark = re.search(r"\| DRAEM<sup>(\d+)</sup> +\| published: re-run +\| 256 px +\| 100 ", text)[1]
    assert f"\n{mark}. Of a run without synthetic anomalies" in text


def test_what_is_known_to_be_strange_is_said_beside_the_number():
    """The footnotes that a reader needs to weigh a row; each is checked against the numbers that it is about."""
    words = {"simplenet": "79.2", "cflow": "10 epochs", "patchcore": "One pass", "destseg": "red and blue"}
    for name, word in words.items():
        assert word in find("mvtec", name, "rerun", 100).notes[""][0]
    last = find("mvtec", "simplenet", "rerun", 300).values["image_auroc"]
    assert last == pytest.approx(0.792, abs=1e-3)
    diad = find(FOLD_MEAN, "diad", "paper")
    assert set(diad.notes) == {"pixel_ap", "pixel_f1_max", "mad"}
    iou = diad.values["pixel_iou_max"]
    best = 2 * iou / (1 + iou)  # the F1 score of an IoU
    assert abs(best - diad.values["pixel_ap"]) < 0.005 < abs(best - diad.values["pixel_f1_max"])
    binned = {"pixel_auroc", "pixel_ap", "region_aupro"}
    assert all(
        binned <= set(entry.notes)
        for entry in published_results()
        if (entry.benchmark, entry.epochs) == ("realiad", 100)
    )
    assert "AU-PRO" in find("btad", "invad", "page", 100).notes["region_aupro"][0]
    parts = find("btad", "patchcore", "page", 300)
    assert "83.3" in parts.notes["mad"][0] and parts.values["mad"] < 0.82


def test_stronger_methods_stand_with_their_setting_and_are_ranked_among_their_like():
    table = published_tables([toy_result("visa", classes=("candle",))])[0]
    rows = {(row.words["Method"], row.words["Setting"]): row for row in table.rows}
    dinomaly = rows["Dinomaly", "448 px, centre 392"]
    assert "cut off" in dinomaly.notes[0] and all(cell.rank == 0 for cell in dinomaly.cells.values())
    supervised = [name for name, setting in rows if "10 labels a class" in setting]
    assert supervised == ["EfficientAD", "RD, SegAD", "EfficientAD, SegAD", "EfficientAD and RD, SegAD"]
    assert (
        rows["EfficientAD and RD, SegAD", "256 px, one model a class, 10 labels a class"].cells["image_auroc"].rank == 1
    )
    assert "arXiv:2405.14325" in table.caption and "arXiv:2405.04953" in table.caption
    assert "Setting" in table.heads and "448 px" in csv_text([table])
    fold = published_tables([toy_result("coco_ad_0", classes=("coco",))])[0]
    assert "Setting" not in fold.heads  # where all are of one setting


@pytest.mark.parametrize("name", ["btad", "vad", "realiad"])
def test_the_newer_data_sets_have_their_published_rows(name):
    base = toy_result("mvtec", "path")
    result = replace(base, config=replace(base.config, name=name, dataset=name))
    assert (result.published_name, result.title) == (name, BENCHMARKS[name])
    (table,) = published_tables([result])
    assert len(table.rows) == {"btad": 33, "vad": 8, "realiad": 20}[name]
    own = replace(result, source="own")
    assert own.published_name is None and published_tables([own]) == []


def test_only_the_whole_data_set_at_the_published_size_is_comparable():
    whole = official()
    counts = published_counts()["mvtec"]
    assert incomparable(whole) == ""
    held_out = replace(counts, train=counts.train - 400, held_out=400)
    assert incomparable(replace(whole, counts=held_out)) == ""
    assert incomparable(replace(whole, source="path")) == ""
    assert incomparable(replace(whole, source="embedded")) == "generated data"
    assert incomparable(replace(whole, counts=None)) == "its numbers of images are not known"
    fewer = replace(counts, classes=2, train=400, without_mask=3)
    assert incomparable(replace(whole, counts=fewer)) == (
        "other numbers of images (classes 2 instead of 15, train 400 instead of 3,629, without mask 3 instead of 0)"
    )
    features = replace(whole.config.features, image_size=128, weights="none")
    assert incomparable(replace(whole, config=replace(whole.config, features=features))) == (
        "input of 128 pixels instead of 256; an encoder without pretrained weights"
    )
    mine = replace(whole, source="own", config=replace(whole.config, name="mine", dataset="mine"))
    assert incomparable(mine) == "none of the published data sets"
    half = replace(official("coco_ad_0").config, splits=replace(official("coco_ad_0").config.splits, held_out=10))
    assert incomparable(replace(official("coco_ad_0"), config=half)) == "none of the published data sets"


@pytest.mark.slow
def test_another_recipe_than_the_papers_is_a_note():
    assert recipe_note(official()) == recipe_note(official("coco_ad_1", "paper")) == ""
    other = official(epochs=100, batch_size=8, learning_rate=0.001)
    assert recipe_note(other) == (
        "Not the paper's recipe: 100 epochs instead of 300 epochs; batch size 8 instead of 32; learning rate 0.001 instead of 0.004."
    )
    counts = published_counts()["mvtec"]
    calibrated = official(counts=replace(counts, train=3266, held_out=363))
    assert recipe_note(calibrated) == ("Not the paper's recipe: held-out training images: 363 instead of 0.")
    features = replace(other.config.features, weights="resnet34.a1_in1k")
    score = replace(other.config.score, sigma=2.0, map_levels="sum")
    changed = replace(official().config, features=features, score=score)
    assert recipe_note(replace(official(), config=changed)) == (
        "Not the paper's recipe: blur 2.0 instead of 4.0; levels of the map: sum instead of method; "
        "encoder weights resnet34.a1_in1k instead of resnet34.bt_in1k."
    )
    assert recipe_note(toy_result()) == ""


def test_generated_data_leave_the_published_rows_alone_and_say_why():
    results = [toy_result(name, classes=("coco",)) for name in FOLDS]
    tables = published_tables([*results, toy_result("mvtec")])
    assert [table.title for table in tables] == [
        f"Published numbers, {BENCHMARKS[name]}" for name in (*FOLDS, FOLD_MEAN, "mvtec")
    ]
    for table in tables:
        assert {row.kind for row in table.rows} == {"published"}
        assert table.caption.startswith("All rows are published, none is measured here.")
        why = "InvAD (mobilenetv2_100): generated data; input of 128 pixels instead of 256."
        assert table.caption.endswith(f"Not beside published numbers: {why}")
    assert [tables[-1].words(row) for row in tables[-1].rows][:3] == [
        ["InvAD", "published: paper", "256 px", "300"], ["InvAD-lite", "published: paper", "256 px", "300"],
        ["RD", "published: paper", "256 px", DASH],
    ]  # fmt: skip


def test_a_comparable_result_stands_first_with_its_difference_to_the_paper():
    result = official(seeds=(1, 2), epochs=100)
    table = published_tables([result, toy_result("mvtec")])[0]
    measured, difference, *published = table.rows
    assert table.words(measured) == ["InvAD-lite", "official", "256 px", "100", "1, 2"]
    assert [*measured.notes] == ["Not the paper's recipe: 100 epochs instead of 300 epochs."]
    assert (table.words(difference), difference.kind) == (
        ["InvAD-lite - paper", "difference", "", "", ""],
        "difference",
    )
    paper = find("mvtec", "invad-lite", "paper", 300)
    for key in KEYS:
        assert difference.cells[key].value == measured.cells[key].value - paper.values[key]
        assert measured.cells[key].std is not None and difference.cells[key].std is None
    for key in KEYS:
        within = abs(difference.cells[key].value) <= measured.cells[key].std  # a published number has no deviation
        assert difference.cells[key].is_close == within
    assert table.printed(difference)[-1][0].removeprefix("≈ ")[0] in "+-"
    assert [len([row for row in published if row.block == block]) for block in ("paper", "rerun 100", "rerun 300")] == [
        8, 15, 14,
    ]  # fmt: skip
    assert "All rows are published" not in table.caption
    assert table.caption.endswith(
        "Not beside published numbers: InvAD (mobilenetv2_100): generated data; input of 128 pixels instead of 256."
    )
    text = markdown([table])
    assert "| InvAD-lite<sup>1</sup> " in text and "| *InvAD-lite - paper* " in text
    rows = list(csv.DictReader(io.StringIO(csv_text([table]))))
    assert [row["kind"] for row in rows[:3]] == ["plain", "difference", "published"]
    assert float(rows[1]["mad"]) == difference.cells["mad"].value


def test_each_block_of_published_rows_has_its_own_best():
    table = published_tables([toy_result("mvtec")])[0]
    best = {
        block: {row.words["Method"] for row in table.rows if row.block == block and row.cells["mad"].rank == 1}
        for block in ("paper", "rerun 100", "rerun 300")
    }
    assert best == {"paper": {"InvAD"}, "rerun 100": {"PatchCore"}, "rerun 300": {"DeSTSeg"}}


def test_a_method_that_the_paper_has_not_has_no_difference():
    other = official(style_channels=32)
    assert other.method is None
    rows = published_tables([other])[0].rows
    assert [row.kind for row in rows[:2]] == ["plain", "published"]
    assert rows[0].notes == ()


def test_a_missing_value_has_no_difference_but_the_reason():
    result = official()
    metrics = dict(result.metrics)
    metrics["mean"] = {**metrics["mean"], "paper": {**metrics["mean"]["paper"], "mad": None}}
    metrics["notes"] = ["mean, protocol paper: mad: not available: no normal image"]
    rows = published_tables([replace(result, metrics_by_seed={42: metrics})])[0].rows
    for row in rows[:2]:
        (note,) = row.cells["mad"].notes
        assert (row.cells["mad"].value, note) == (None, MISSING)


def test_the_mean_of_folds_is_compared_when_all_four_may_be():
    folds = [official(name) for name in FOLDS]
    table = next(table for table in published_tables(folds) if table.title.endswith("(mean of 4 folds)"))
    assert [row.kind for row in table.rows[:3]] == ["plain", "difference", "published"]
    mean = sum(fold.metrics["mean"]["paper"]["mad"] for fold in folds) / 4
    assert table.rows[0].cells["mad"].value == pytest.approx(mean)
    paper = find(FOLD_MEAN, "invad-lite", "paper", 100).values["mad"]
    assert table.rows[1].cells["mad"].value == pytest.approx(mean - paper)
    assert all(row.kind != "difference" for fold in published_tables(folds)[:4] for row in fold.rows)

    three = next(table for table in published_tables(folds[:3]) if table.title.endswith("(mean of 4 folds)"))
    assert {row.kind for row in three.rows} == {"published"}
    assert three.caption.endswith("Not beside published numbers: the mean needs one result of each of the four folds.")
    partly = [replace(folds[0], counts=Counts(1, 5, 0, 5, 5)), *folds[1:]]
    mixed = next(table for table in published_tables(partly) if table.title.endswith("(mean of 4 folds)"))
    assert "InvAD-lite: other numbers of images (train 5 instead of 30,438, " in mixed.caption
    assert {row.kind for row in mixed.rows} == {"published"}
