"""The first screen of the report: one row a benchmark, and one image of each class."""

from dataclasses import replace

import numpy as np
import pytest
from reporting_toys import toy_result

from invad.report.labels import FOLDS
from invad.report.overview import overview_results, overview_samples, overview_table


def test_the_mean_of_the_folds_stands_for_them_and_averages_their_operating_points():
    folds = [toy_result(name, classes=("coco",), offset=0.3 + 0.1 * n) for n, name in enumerate(FOLDS)]
    table = overview_table([*folds, toy_result("visa", classes=("candle",))])
    assert [table.words(row) for row in table.rows] == [["COCO-AD (mean of 4 folds)"], ["VisA"]]
    for key, part in (("calibrated_image_recall", "operating_point"), ("mad", "")):
        values = [(fold.metrics[part]["mean"] if part else fold.metrics["mean"]["paper"])[key] for fold in folds]
        assert table.rows[0].cells[key].value == pytest.approx(sum(values) / 4)
    three = overview_table(folds[:3])
    assert [row.words["Benchmark"] for row in three.rows] == ["COCO-AD fold 0", "COCO-AD fold 1", "COCO-AD fold 2"]


def test_of_several_methods_the_one_with_the_highest_mad_stands_there_by_name():
    weak, strong = toy_result(offset=0.2, label="weak"), toy_result(offset=0.9, label="strong")
    other = replace(weak, source="path")
    table = overview_table([weak, strong, other])
    assert table.heads == ("Benchmark", "Method", "Data")
    assert [table.words(row)[1:] for row in table.rows] == [["strong", "generated"], ["weak", "own copy"]]
    assert "highest mAD" in table.caption and "highest mAD" not in overview_table([weak]).caption
    assert overview_results([strong, weak]) == [strong]


def test_seeds_have_their_deviation_and_what_no_benchmark_has_no_column():
    seeds = toy_result(seeds=(1, 2))
    table = overview_table([seeds])
    assert table.rows[0].cells["mad"].std is not None and "standard deviation over the seeds" in table.caption
    metrics = {seed: {**content, "operating_point": None} for seed, content in seeds.metrics_by_seed.items()}
    bare = overview_table([replace(seeds, metrics_by_seed=metrics)])
    assert [column.label for column in bare.columns] == ["Image AU-ROC", "Region AU-PRO", "mAD"]
    assert "threshold" not in bare.caption
    assert all(row.cells["calibrated_image_recall"].value is None for row in bare.rows)


def test_a_benchmark_s_row_says_which_others_the_seeds_do_not_tell_from_it():
    best, near, far = (
        toy_result(seeds=(1, 2, 3), label=name, offset=o) for name, o in zip("ABC", (0.70, 0.69, 0.1), strict=True)
    )
    table = overview_table([far, near, best])
    assert table.words(table.rows[0])[1] == "A"
    assert table.footnotes == ("Over the seeds its mAD is not told apart from that of B.",)
    assert overview_table([far, best]).footnotes == ()
    assert (
        overview_table([replace(near, label="D"), replace(toy_result(seeds=(1,), offset=0.705), label="E")]).footnotes
        == ()
    )


def test_the_image_of_a_class_is_the_anomalous_one_of_median_score_or_else_a_normal_one():
    tests = toy_result().tests
    classes, labels = ["a"] * 5 + ["b"] * 2, [1, 1, 1, 0, 1, 0, 0]
    scores = np.array([0.9, 0.1, 0.5, 0.8, 0.4, 0.2, 0.3])
    few = replace(tests, names=classes, classes=classes, labels=np.array(labels), image_scores=scores)
    assert overview_samples(few) == [2, 6]
    assert overview_samples(replace(few, pictures={index: tests.pictures[index] for index in (0, 1, 5)})) == [0]
