"""The published numbers: consistent in themselves, quoted with their sources, and never beside a result that is not comparable."""

import csv
import io
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


def place(entry):
    return entry.benchmark, entry.method, entry.source, entry.epochs


def find(benchmark, method, source, epochs):
    return next(entry for entry in published_results() if place(entry) == (benchmark, method, source, epochs))


def official(name="mvtec", profile="paper-lite", counts=None, seeds=(42,), label="", **train):
    """A result that looks like one on the official data."""
    classes = ("coco",) if name in FOLDS else ("bottle", "wood")
    own = counts or published_counts()[name]
    return toy_result(name, "official", seeds, classes, profile, own, label, label, **train)


def test_averages_agree_with_their_parts_but_for_the_misprint():
    wrong = []
    for entry in published_results():
        rounding = 0.00101 if entry.source == "paper" else 0.000021  # of one and of three decimals in percent, twice
        for average, parts in PARTS.items():
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
    places = [place(entry) for entry in published_results()]
    assert len(places) == len(set(places)) == 155
    assert {method for _, method, _, _ in places} <= set(METHODS)
    assert {source for _, _, source, _ in places} == {"paper", "rerun"} <= set(SOURCES)
    assert {benchmark for benchmark, *_ in places} == {*BENCHMARKS, "mvtec_3d", "medical", "real_iad"}
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


def test_percent_values_are_stored_as_printed():
    text = files("invad.report").joinpath("published_csv", "results.csv").read_text()
    row = next(row for row in csv.DictReader(io.StringIO(text)) if row["method"] == "invad" and row["epochs"] == "300")
    assert (row["benchmark"], row["source"], row["image_auroc"]) == ("mvtec", "paper", "98.9")


def test_counts_add_up_to_the_published_totals():
    counts = published_counts()
    assert {counts[fold].test_normal + counts[fold].test_anomalous for fold in FOLDS} == {4952}
    assert counts["visa"].train + counts["visa"].test_normal + counts["visa"].test_anomalous == 10_821
    assert (counts["mvtec"].classes, counts["mvtec"].train) == (15, 3629)


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
    assert {entry.method for entry in published_results() if "" in entry.notes} == {"draem"}
    text = markdown([tables[-1]])
    assert "| DRAEM<sup>2</sup> | published: re-run | 100 " in text
    assert "\n2. Of a run without synthetic anomalies" in text


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
        ["InvAD", "published: paper", "300"], ["InvAD-lite", "published: paper", "300"], ["RD", "published: paper", DASH],
    ]  # fmt: skip


def test_a_comparable_result_stands_first_with_its_difference_to_the_paper():
    result = official(seeds=(1, 2), epochs=100)
    table = published_tables([result, toy_result("mvtec")])[0]
    measured, difference, *published = table.rows
    assert table.words(measured) == ["InvAD-lite", "official", "100", "1, 2"]
    assert [*measured.notes] == ["Not the paper's recipe: 100 epochs instead of 300 epochs."]
    assert (table.words(difference), difference.kind) == (["InvAD-lite - paper", "difference", "", ""], "difference")
    paper = find("mvtec", "invad-lite", "paper", 300)
    for key in KEYS:
        assert difference.cells[key].value == measured.cells[key].value - paper.values[key]
        assert measured.cells[key].std is not None and difference.cells[key].std is None
    assert table.printed(difference)[-1][0][0] in "+-"
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
