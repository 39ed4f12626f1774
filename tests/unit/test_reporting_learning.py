"""Learning curves: what was measured on the way, the authors' curves as their logs have them, and never beside what is not comparable."""

import csv
import io
import json
from dataclasses import replace

import pytest
from reference_files import FOLDER
from reporting_toys import toy_learning, toy_result

from invad.config.profiles import profile_text
from invad.report.labels import FOLD_MEAN, FOLDS
from invad.report.learning import (
    RULE,
    authors_curves,
    authors_words,
    learning_cells,
    learning_results,
    learning_tables,
    published_curves,
    seed_curves,
)
from invad.report.plots import learning_figure
from invad.report.published import published_counts, published_results, recipe_note
from invad.report.results import Result, fold_means, grouped
from invad.report.tables import MISSING
from invad.report.writers import csv_text

LOGS = FOLDER.parent / "spec/published/ader_learning_curves.json"


def official(name: str = "mvtec", profile: str = "paper", seeds: tuple[int, ...] = (1, 2), **train: object) -> Result:
    """A result that looks like one on the official data, looked at after 30 and 150 of 300 epochs."""
    classes = ("coco",) if name in FOLDS else ("bottle", "wood")
    base = toy_result(name, "official", seeds, classes, profile, published_counts()[name], **train)
    return toy_learning(base, (30, 150, 300))


@pytest.mark.skipif(not LOGS.exists(), reason=f"no {LOGS}")
def test_the_authors_curves_are_those_of_their_logs():
    logs = json.loads(LOGS.read_text())
    columns, found = logs["columns"][1:], published_curves()
    count = 0
    for method, runs in logs["runs"].items():
        for name, run in runs.items():
            benchmark, _, epochs = name.rpartition("_")
            benchmark = benchmark.replace("coco_", "coco_ad_")
            curve = found[benchmark, method][int(epochs.removesuffix("e"))]
            assert [[epoch, *(values[key] for key in columns)] for epoch, values in curve] == [
                [epoch, *(pytest.approx(value / 100, abs=1e-12) for value in values)]
                for epoch, *values in run["points"]
            ]
            count += 1
    assert count == 48 == sum(len(runs) for (benchmark, _), runs in found.items() if benchmark != FOLD_MEAN)


def test_the_authors_curves_end_at_their_published_results():
    rerun = {(e.benchmark, e.method, e.epochs): e.values for e in published_results() if e.source == "rerun"}
    for (benchmark, method), runs in published_curves().items():
        for epochs, curve in runs.items():
            assert len(curve) == 10 and [epoch for epoch, _ in curve] == [epochs * n / 10 for n in range(1, 11)]
            assert curve[-1][1] == pytest.approx(rerun[benchmark, method, epochs], abs=2.1e-5)
    assert published_curves()[FOLD_MEAN, "invad"][100][0][1]["mad"] == pytest.approx(0.498, abs=0.0005)  # by hand


def test_each_seed_has_its_curve_and_cells_are_over_the_seeds_that_all_have():
    result = official(seeds=(1, 2))
    late = {"seed": 2, "step": 1, "epoch": 0.5, "mean": result.metrics_by_seed[2]["mean"]}
    cells = learning_cells(replace(result, learning=[late, *result.learning]))
    assert [epoch for epoch, _ in cells] == [30, 150, 300]
    finals = [metrics["mean"]["paper"]["mad"] for metrics in result.metrics_by_seed.values()]
    assert cells[-1][1]["mad"].value == pytest.approx(sum(finals) / 2) and cells[-1][1]["mad"].std > 0
    assert {seed: values[-1] for seed, (_, values) in seed_curves(result, "mad").items()} == dict(
        zip((1, 2), finals, strict=True)
    )
    folded = grouped([replace(result, metrics_by_seed={seed: of_seed}, config=result.config.of_seed(seed),
                              learning=[point for point in result.learning if point["seed"] == seed])
                      for seed, of_seed in result.metrics_by_seed.items()])  # fmt: skip
    assert learning_cells(folded[0]) == learning_cells(result)


def test_an_evaluation_without_a_value_is_left_out_of_the_curve_and_a_dash_in_the_table():
    result = official(seeds=(1,))
    means = {protocol: values | {"pixel_ap": None} for protocol, values in result.learning[0]["mean"].items()}
    result = replace(result, learning=[dict(result.learning[0]) | {"mean": means}, *result.learning[1:]])
    assert seed_curves(result, "pixel_ap")[1][0] == [150, 300]
    assert learning_tables([result])[0].rows[0].cells["pixel_ap"].notes == (MISSING,)
    lines = [line for line in learning_figure(result).axes[3].get_lines() if "seed" in line.get_label()]
    assert [list(line.get_xdata()) for line in lines] == [[150, 300]]


def legend(figure):
    return [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]


def test_the_figure_has_seeds_their_mean_and_the_authors_runs_with_their_lengths():
    result = official(seeds=(1, 2))
    figure = learning_figure(result)
    assert legend(figure) == [
        "authors' re-run, 100 epochs", "authors' re-run, 300 epochs", "each seed", "mean of 2 seeds, 300 epochs"
    ]  # fmt: skip
    panel = figure.axes[4]
    shorter, longer, *seeds, mean = panel.get_lines()
    assert panel.get_title(loc="left") == "mAD" and panel.get_xscale() == "log"
    assert [len(line.get_xdata()) for line in (shorter, longer, *seeds, mean)] == [10, 10, 3, 3, 3]
    assert mean.get_ydata()[-1] == pytest.approx(100 * result.cells("paper")["mad"].value)
    assert shorter.get_ydata()[-1] == pytest.approx(86.095, abs=0.001)
    assert {line.get_color() for line in (shorter, longer)}.isdisjoint({mean.get_color()})
    alone = learning_figure(toy_learning(toy_result()))
    assert legend(alone) == ["seed 42, 15 epochs"] and alone.axes[0].get_xscale() == "linear"
    for each in (figure, alone):
        each.draw_without_rendering()


def test_no_authors_curve_stands_beside_what_is_not_comparable_and_the_reason_is_said():
    generated, small = toy_learning(toy_result()), official()
    small = replace(small, config=replace(small.config, features=replace(small.config.features, image_size=128)))
    other = official(style_channels=32)
    reasons = [
        "generated data",
        "input of 128 pixels instead of 256",
        "none was published of this method and benchmark",
    ]
    for result, reason in zip((generated, small, other), reasons, strict=True):
        assert authors_curves(result) == {} and reason in authors_words(result)
        assert not any("authors" in text for text in legend(learning_figure(result)))
        assert {row.kind for row in learning_tables([result])[0].rows} == {"plain"}
        assert reason in learning_tables([result])[0].caption
    assert authors_curves(official()).keys() == {100, 300} and "12360da" in authors_words(official())


def test_the_table_has_a_row_for_each_evaluation_and_no_best():
    result = official(seeds=(1, 2))
    paper, exact = learning_tables([result])
    assert [table.protocol for table in (paper, exact)] == ["paper", "exact"] and RULE in paper.caption
    assert paper.heads == ("Epoch", "Data", "Epochs", "Seeds")
    assert [row.kind for row in paper.rows] == ["plain"] * 3 + ["published"] * 20 and len(exact.rows) == 3
    assert {cell.rank for row in paper.rows for cell in row.cells.values()} == {0}
    rows = list(csv.DictReader(io.StringIO(csv_text([paper, exact]))))
    assert [(row["benchmark"], row["epoch"], row["epochs"]) for row in rows[2:4]] == [
        ("MVTec AD", "300", "300"),
        ("MVTec AD", "10", "100"),
    ]
    assert float(rows[2]["mad"]) == result.cells("paper")["mad"].value and float(rows[2]["mad_std"]) > 0
    assert learning_tables([toy_result()]) == [] == learning_results([toy_result()])


def test_the_mean_of_the_folds_has_the_mean_of_their_curves():
    folds = [official(name) for name in FOLDS]
    *_, mean = learning_results(folds)
    assert [result.published_name for result in learning_results(folds)] == [*FOLDS, FOLD_MEAN]
    parts = [fold.learning[0]["mean"]["paper"]["mad"] for fold in folds]
    assert mean.learning[0]["mean"]["paper"]["mad"] == pytest.approx(sum(parts) / 4)
    assert (len(mean.learning), mean.key) == (6, FOLD_MEAN)
    assert authors_curves(mean)[100][-1][1]["mad"] == pytest.approx(0.49, abs=0.0005)
    shorter = replace(folds[3], learning=[point for point in folds[3].learning if point["epoch"] != 30])
    assert FOLD_MEAN not in [result.published_name for result in learning_results([*folds[:3], shorter])]
    methods = grouped([*folds, *(replace(fold, label="other") for fold in folds)])
    assert len({each.key for each in learning_results(methods)}) == 10
    partly = [*folds[:3], replace(folds[3], source="official", counts=None)]
    assert authors_curves(fold_means(partly)[0]) == {}


def test_uniad_as_in_the_published_comparison_is_the_published_method():
    assert "tf_efficientnet_b4" in profile_text("paper-uniad")
    result = official(profile="paper-uniad")
    assert (result.method, result.label, recipe_note(result)) == ("uniad", "UniAD", "")
    assert authors_curves(result).keys() == {100, 300}
    assert official(profile="paper-uniad", jitter=0.0).method is None
