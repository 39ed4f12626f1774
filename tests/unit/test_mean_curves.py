"""The mean of the classes' curves: by hand, and by its area."""

import numpy as np
import pytest

from invad.metrics import evaluate
from invad.metrics.curves import mean_curve

ROC = "image_roc"


def roc(x, y):
    return {ROC: {"false_positive_rate": x, "true_positive_rate": y}}


def test_the_mean_of_a_jump_and_a_slope_by_hand():
    curves = {"slope": roc([0, 1], [0, 1]), "jump": roc([0, 0.5, 0.5, 1], [0, 0, 1, 1]), "bare": {}}
    assert mean_curve(curves, ROC) == {
        "false_positive_rate": [0, 0.5, 0.5, 1],
        "true_positive_rate": [0, 0.25, 0.75, 1],
    }


def test_the_curve_of_one_class_is_its_own():
    x, y = [0, 0, 0.25, 0.25, 1], [0, 0.5, 0.5, 0.75, 1]
    assert mean_curve({"a": roc(x, y)}, ROC) == {"false_positive_rate": x, "true_positive_rate": y}


def test_precision_left_of_the_first_point_is_that_of_the_first_point():
    curves = {
        "a": {"image_pr": {"recall": [0.5, 1], "precision": [1, 0.5], "score": [7, 3]}},
        "b": {"image_pr": {"recall": [0.25, 1], "precision": [0.5, 0.5], "score": [700, 300]}},
    }
    assert mean_curve(curves, "image_pr") == {"recall": [0.25, 0.5, 1], "precision": [0.75, 0.75, 0.5]}


def test_no_class_with_the_curve_gives_nothing():
    assert mean_curve({"a": {}}, "region_pro") == {}


@pytest.fixture(scope="module", params=[0.1, 0.5, 2.0])
def evaluated(request):
    """Five classes of 13 images: good and bad detectors, so that curves are steep, flat or full of steps."""
    rng = np.random.default_rng(0)
    masks = np.zeros((65, 32, 32), dtype=bool)
    masks[::2, 4:14, 6:20] = True
    maps = rng.normal(size=masks.shape) + request.param * masks * rng.uniform(0, 4, (65, 1, 1))
    return evaluate(maps.astype(np.float32), masks, np.repeat(list("abcde"), 13), curves=True)


@pytest.mark.parametrize(
    ("name", "metric"), [("image_roc", "image_auroc"), ("pixel_roc", "pixel_auroc"), ("region_pro", "region_aupro")]
)
def test_the_area_of_the_mean_is_the_mean_of_the_areas(evaluated, name, metric):
    x, y = (np.array(column) for column in mean_curve(evaluated["curves"], name).values())
    limit = 0.3 if name == "region_pro" else 1.0
    grid = np.unique([*x[x < limit], *(x[x < limit] - 1e-12), limit])
    area = np.trapezoid(np.interp(grid, x, y), grid) / limit if name == "region_pro" else np.trapezoid(y, x)
    assert area == pytest.approx(evaluated["mean"]["exact"][metric], abs=1e-3)
    assert len(x) <= 201
    assert (np.diff(x) >= 0).all()


def test_the_threshold_curve_keeps_all_its_columns_and_their_means(evaluated):
    curve = mean_curve(evaluated["curves"], "pixel_thresholds")
    assert list(curve) == ["threshold", "precision", "recall", "f1", "iou"]
    assert curve["threshold"] == [k / 100 for k in range(101)]
    for column, metric in (("recall", "pixel_macc"), ("f1", "pixel_mf1"), ("iou", "pixel_miou")):
        assert np.mean(curve[column][20:81:10]) == pytest.approx(evaluated["mean"]["paper"][metric], abs=1e-9)
