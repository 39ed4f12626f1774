"""The intervals over the test images beside the deviation over the seeds."""

import csv
import io
from dataclasses import replace

import pytest
from reporting_toys import toy_intervals, toy_result

from invad.report.labels import FOLDS, HEADLINES
from invad.report.report import make_tables
from invad.report.results import fold_means
from invad.report.spread import spread_tables
from invad.report.writers import csv_text, markdown


def test_value_and_interval_are_of_the_model_and_the_deviation_of_the_seeds():
    result = toy_intervals(toy_result(seeds=(42, 43, 44)))
    (table,) = spread_tables([result])
    cell, own = table.rows[0].cells["mad"], result.metrics["mean"]["exact"]["mad"]
    assert (cell.value, cell.interval) == (own, (own - 0.02, own + 0.02))
    assert cell.std == result.cells("exact")["mad"].std and cell.value != result.cells("exact")["mad"].value
    text = f"{100 * own:.1f} [{100 * own - 2:.1f}, {100 * own + 2:.1f}] ± {100 * cell.std:.1f}"
    assert text in markdown([table])
    row = next(csv.DictReader(io.StringIO(csv_text([table]))))
    assert [float(row[f"mad{part}"]) for part in ("", "_low", "_high", "_std")] == [own, *cell.interval, cell.std]
    assert row["protocol"] == "exact"
    assert "interval of 95 %" in table.caption and "1,000 draws" in table.caption and "behind ±" in table.caption


def test_one_seed_has_an_interval_alone_and_no_intervals_no_table():
    (table,) = spread_tables([toy_intervals(toy_result()), toy_result("visa", classes=("candle",))])
    assert [row.words["Benchmark"] for row in table.rows] == ["MVTec AD"]
    assert "±" not in markdown([table]) and "Seeds" not in table.heads
    assert spread_tables([toy_result()]) == [] and "spread" not in make_tables([toy_result()])
    assert make_tables([toy_intervals(toy_result())])["spread"] == spread_tables([toy_intervals(toy_result())])


@pytest.mark.parametrize("ends", [None, [None, None]])
def test_a_metric_without_an_interval_has_its_value_alone(ends):
    result = toy_intervals(toy_result())
    mean = result.metrics["intervals"]["mean"] | {"mad": ends}
    intervals = result.metrics["intervals"] | {"mean": mean}
    (table,) = spread_tables([replace(result, metrics_by_seed={42: {**result.metrics, "intervals": intervals}})])
    assert [table.rows[0].cells[metric.key].interval is None for metric in HEADLINES] == [False] * 4 + [True]


def test_the_mean_of_the_folds_claims_no_interval():
    folds = [toy_intervals(toy_result(name, classes=("coco",))) for name in FOLDS]
    assert spread_tables(fold_means(folds)) == []
    assert len(spread_tables(folds)[0].rows) == 4
