"""Curves: their points by hand, their areas, and how few points they need."""

import json

import numpy as np
import pytest

from invad.metrics import evaluate, ranking
from invad.metrics.curves import MAX_POINTS, important_points

NAMES = {"image_roc", "image_pr", "pixel_roc", "pixel_pr", "region_pro", "pixel_thresholds"}


def curves_of(maps, masks, **options):
    result = evaluate(np.asarray(maps), np.asarray(masks), curves=True, **options)
    return result["curves"]["all"], result["per_class"]["all"]


def large_data(n=24, size=128, seed=0):
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, size, size), dtype=bool)
    for i in range(0, n, 2):
        row, column = rng.integers(0, size - 40, 2)
        masks[i, row : row + rng.integers(4, 40), column : column + rng.integers(4, 40)] = True
    return (1 + rng.gamma(2, 0.1, masks.shape) + 0.1 * masks).astype(np.float32), masks


def area(x, y):
    return float(np.trapezoid(y, x))


def test_the_curves_of_eight_pixels_by_hand():
    """Anomalous 9 and 7, normal 8 6 5 4 3 2 and one false positive between the two anomalous ones."""
    curves, _ = curves_of([[[9, 8, 7, 6, 5, 4, 3, 2]]], [[[1, 0, 1, 0, 0, 0, 0, 0]]])
    assert curves["pixel_roc"] == {
        "false_positive_rate": [0, 0, pytest.approx(1 / 6), pytest.approx(1 / 6), 1],
        "true_positive_rate": [0, 0.5, 0.5, 1, 1],
    }
    assert curves["pixel_pr"] == {"recall": [0.5, 1], "precision": [1, pytest.approx(2 / 3)], "score": [9, 7]}
    assert curves["region_pro"]["region_overlap"] == [0, 0.5, 0.5, 1, 1]
    thresholds = curves["pixel_thresholds"]
    assert thresholds["threshold"][:3] == [0, 0.01, 0.02]
    # above 0.6 on the scale of 2 to 9 lie 9, 8 and 7
    assert thresholds["recall"][60] == pytest.approx(1, abs=1e-7)
    assert thresholds["precision"][60] == pytest.approx(2 / 3, abs=1e-7)
    assert thresholds["iou"][60] == pytest.approx(2 / 3, abs=1e-7)
    assert thresholds["f1"][60] == pytest.approx(4 / 5, abs=1e-7)


def test_pixels_tied_at_one_score_draw_a_straight_line():
    curves, _ = curves_of([[[1, 1, 1, 0]]], [[[1, 0, 0, 0]]])
    assert curves["pixel_roc"] == {
        "false_positive_rate": [0, pytest.approx(2 / 3), 1],
        "true_positive_rate": [0, 1, 1],
    }


@pytest.mark.parametrize("page_items", [1000, 1 << 25])
@pytest.mark.slow
def test_curves_of_many_pixels_have_at_most_1000_points_and_the_area_of_all(monkeypatch, page_items):
    monkeypatch.setattr(ranking, "PAGE_ITEMS", page_items)
    maps, masks = large_data()
    curves, values = curves_of(maps, masks)
    assert set(curves) == NAMES
    for curve in curves.values():
        lengths = {len(column) for column in curve.values()}
        assert len(lengths) == 1
        assert lengths.pop() <= MAX_POINTS == 1000
    exact = values["exact"]
    roc, pr, pro = curves["pixel_roc"], curves["pixel_pr"], curves["region_pro"]
    assert len(roc["false_positive_rate"]) > 300
    assert area(*roc.values()) == pytest.approx(exact["pixel_auroc"], abs=1e-4)
    assert area(*list(pr.values())[:2]) == pytest.approx(exact["pixel_ap"], abs=2e-4)
    rate, overlap = (np.array(column) for column in pro.values())
    at_limit = np.interp(0.3, rate, overlap)
    inside = rate < 0.3
    assert area(np.append(rate[inside], 0.3), np.append(overlap[inside], at_limit)) / 0.3 == pytest.approx(
        exact["region_aupro"], abs=3e-4
    )
    assert all((np.diff(curve) >= 0).all() for curve in (*roc.values(), *pro.values(), pr["recall"]))
    assert (np.diff(pr["score"]) < 0).all()


def test_the_threshold_curve_holds_the_paper_metrics():
    maps, masks = large_data()
    curves, values = curves_of(maps, masks)
    curve = {name: np.array(column) for name, column in curves["pixel_thresholds"].items()}
    family, maxima = np.arange(20, 81, 10), np.arange(0, 101, 5)
    for name, key in (("f1", "pixel_mf1"), ("recall", "pixel_macc"), ("iou", "pixel_miou")):
        assert curve[name][family].mean() == pytest.approx(values["paper"][key], abs=1e-12)
    assert curve["f1"][maxima].max() == values["paper"]["pixel_f1_max"]
    assert curve["iou"][maxima].max() == values["paper"]["pixel_iou_max"]


def test_few_points_are_all_there_and_steps_of_the_precision_add_up_to_ap():
    rng = np.random.default_rng(0)
    maps, masks = np.round(rng.random((4, 9, 9)), 2), rng.random((4, 9, 9)) < 0.2
    curves, values = curves_of(maps, masks)
    assert area(*curves["pixel_roc"].values()) == pytest.approx(values["exact"]["pixel_auroc"], abs=1e-12)
    gained = np.diff(curves["pixel_pr"]["recall"], prepend=0)
    assert float(gained @ curves["pixel_pr"]["precision"]) == pytest.approx(values["exact"]["pixel_ap"], abs=1e-12)
    image = curves["image_pr"]
    assert set(image["score"]) <= set(maps.max(axis=(1, 2)))


def test_curves_are_those_that_the_data_define_and_plain_json():
    normal, _ = curves_of(np.arange(8.0).reshape(2, 2, 2), np.zeros((2, 2, 2), bool))
    assert normal == {}
    anomalous, _ = curves_of(np.arange(8.0).reshape(2, 2, 2), np.ones((2, 2, 2), bool))
    assert set(anomalous) == {"image_pr", "pixel_pr", "pixel_thresholds"}
    bare = evaluate(np.arange(8.0).reshape(2, 2, 2), None, labels=[0, 1], curves=True)
    assert set(bare["curves"]["all"]) == {"image_roc", "image_pr"}
    assert json.loads(json.dumps(bare, allow_nan=False)) == bare
    assert "curves" not in evaluate(np.arange(8.0).reshape(2, 2, 2), None, labels=[0, 1])


def test_image_curves_take_the_labels_of_the_data_set():
    maps = np.array([[[3.0, 0.0]], [[1.0, 0.0]], [[2.0, 0.0]]])
    masks = np.array([[[1, 0]], [[0, 0]], [[0, 0]]])
    curves, values = curves_of(maps, masks, labels=[1, 1, 0])
    assert area(*curves["image_roc"].values()) == values["exact"]["image_auroc"] == 0.5


def test_important_points_keep_corners():
    x = np.linspace(0, 1, 1001)
    y = np.where(x < 0.5, 0.0, x)  # a jump and two straight lines
    chosen = important_points(x, y, 10)
    assert {0, 499, 500, 1000} <= set(chosen.tolist())
    assert area(x[chosen], y[chosen]) == pytest.approx(area(x, y), abs=1e-12)


@pytest.mark.parametrize("normal", [2_000, 200_000])
@pytest.mark.parametrize("anomalous", [1_100, 3_000, 30_000])
@pytest.mark.parametrize("shift", [0, 1, 3])
def test_a_thousand_points_move_the_area_of_a_ragged_precision_by_less_than_1e_4(normal, anomalous, shift):
    rng = np.random.default_rng(anomalous)
    scores = np.concatenate((rng.normal(shift, 1, anomalous), rng.normal(0, 1, normal)))
    truth = np.argsort(-scores) < anomalous
    tp, fp = np.cumsum(truth)[truth], np.cumsum(~truth)[truth]
    recall, precision = tp / anomalous, tp / (tp + fp)
    chosen = important_points(recall, precision, MAX_POINTS)
    assert chosen.size <= MAX_POINTS
    assert area(recall[chosen], precision[chosen]) == pytest.approx(area(recall, precision), abs=1e-4)
