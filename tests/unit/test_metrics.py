"""Metrics: values derived by hand, a direct implementation written from the definitions, and what must hold for any input."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from invad.errors import InputError
from invad.metrics import AVERAGES, KEYS, PROTOCOL_VERSION, evaluate

RANK_KEYS_EXACT = (*KEYS[:7], "pixel_iou_max", "mad_image", "mad_pixel", "mad")
RANK_KEYS_PAPER = ("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "mad_image")


def one_class(maps, masks, **options):
    return evaluate(np.asarray(maps), np.asarray(masks), **options)["per_class"]["all"]


def random_data(n=6, size=9, decimals=1, seed=0):
    """Maps with many ties; half of the masks are empty."""
    rng = np.random.default_rng(seed)
    masks = rng.random((n, size, size)) < 0.15
    masks[::2] = False
    maps = np.round(rng.normal(size=masks.shape) + masks, decimals)
    return maps, masks


# ---------------------------------------------------------------- values derived by hand

ROW = [[[9, 8, 7, 6, 5, 4, 3, 2]]]
ROW_MASK = [[[1, 0, 1, 0, 0, 0, 0, 0]]]


def test_one_row_of_eight_pixels_by_hand_exact():
    """Anomalous 9 and 7, normal 8 6 5 4 3 2.

    AU-ROC: 9 is above 6 normals, 7 above 5: 11 of 12 pairs. AP: recall 1/2 at precision 1, then 1/2 at 2/3: 5/6.
    At threshold 7: TP 2, FP 1, FN 0: F1 = 4/5, IoU = 2/3. At 9: F1 = 2/3, IoU = 1/2.
    AU-PRO: two regions of one pixel. PRO is 1/2 up to one false positive, then 1. The limit is 0.3 * 6 = 1.8 false positives:
    (1/2 * 1 + 1 * 0.8) / 1.8 = 13/18.
    """
    exact = one_class(ROW, ROW_MASK)["exact"]
    assert exact["pixel_auroc"] == pytest.approx(11 / 12, abs=1e-15)
    assert exact["pixel_ap"] == pytest.approx(5 / 6, abs=1e-15)
    assert exact["pixel_f1_max"] == pytest.approx(4 / 5, abs=1e-15)
    assert exact["pixel_iou_max"] == pytest.approx(2 / 3, abs=1e-15)
    assert exact["region_aupro"] == pytest.approx(13 / 18, abs=1e-15)


def test_one_row_of_eight_pixels_by_hand_thresholds_and_paper():
    """Scaled by 2 and 9: anomalous 1 and 5/7, normal 6/7 4/7 3/7 2/7 1/7 0.

    (TP, FP) strictly above 0.2: (2, 4), 0.3: (2, 3), 0.4: (2, 3), 0.5: (2, 2), 0.6: (2, 1), 0.7: (2, 1), 0.8: (1, 1).
    F1 = 2 TP / (TP + FP + 2): 1/2 4/7 4/7 2/3 4/5 4/5 1/2; recall: six times 1, then 1/2;
    IoU = TP / (2 + FP): 1/3 2/5 2/5 1/2 2/3 2/3 1/3. The best of 0, 0.05 ... 1 is at 0.6: 4/5 and 2/3.
    AU-PRO of the paper: FPR < 0.3 keeps one false positive (rate 1/6) or none. From the highest threshold down, (rate, PRO) is
    (0, 1/2), (1/6, 1/2), (1/6, 1); rescaled (0, 1/2), (1, 1/2), (1, 1): area 1/2.
    """
    paper = one_class(ROW, ROW_MASK)["paper"]
    assert paper["pixel_mf1"] == pytest.approx((1 / 2 + 4 / 7 + 4 / 7 + 2 / 3 + 4 / 5 + 4 / 5 + 1 / 2) / 7, abs=2e-8)
    assert paper["pixel_macc"] == pytest.approx(6.5 / 7, abs=2e-8)
    assert paper["pixel_miou"] == pytest.approx((1 / 3 + 2 / 5 + 2 / 5 + 1 / 2 + 2 / 3 + 2 / 3 + 1 / 3) / 7, abs=2e-8)
    assert paper["pixel_f1_max"] == pytest.approx(4 / 5, abs=2e-8)
    assert paper["pixel_iou_max"] == pytest.approx(2 / 3, abs=2e-8)
    assert paper["region_aupro"] == pytest.approx(1 / 2, abs=1e-15)


def test_averages_are_means_of_their_parts_by_hand():
    """Two images: the row above, whose maximum is 9, and a normal one with maximum 1: all image metrics are 1.

    The 8 pixels of the normal image lie below all others: AU-ROC 1 - 1/28 (one of 2 * 14 pairs is wrong), AP and F1-max as before.
    AU-PRO: 14 normal pixels, limit 4.2 false positives: (1/2 * 1 + 1 * 3.2) / 4.2 = 37/42.
    """
    exact = one_class([ROW[0], [[1] * 8]], [ROW_MASK[0], [[0] * 8]])["exact"]
    assert (exact["image_auroc"], exact["image_ap"], exact["image_f1_max"]) == (1.0, 1.0, 1.0)
    assert exact["region_aupro"] == pytest.approx(37 / 42, abs=1e-15)
    pixel = 27 / 28 + 5 / 6 + 4 / 5
    assert exact["mad_image"] == 1.0
    assert exact["mad_pixel"] == pytest.approx(pixel / 3, abs=1e-15)
    assert exact["mad"] == pytest.approx((3 + 37 / 42 + pixel) / 7, abs=1e-15)
    assert exact["mad_threshold"] == pytest.approx(
        (exact["pixel_mf1"] + exact["pixel_macc"] + exact["pixel_miou"]) / 3, abs=1e-15
    )


def test_ties_by_hand():
    """One anomalous pixel tied with two normal ones at 1, one normal at 0.

    AU-ROC: (1/2 + 1/2 + 1) / 3 = 2/3. AP: one step, precision 1/3. F1 = 2 / (1 + 2 + 1) = 1/2, IoU 1/3.
    AU-PRO: a straight line from (0, 0) to 2 false positives at PRO 1; the limit is 0.9: PRO 0.45, area 0.9 * 0.45 / 2,
    divided by 0.9: 0.225.
    """
    exact = one_class([[[1, 1, 1, 0]]], [[[1, 0, 0, 0]]])["exact"]
    assert exact["pixel_auroc"] == pytest.approx(2 / 3, abs=1e-15)
    assert exact["pixel_ap"] == pytest.approx(1 / 3, abs=1e-15)
    assert exact["pixel_f1_max"] == 0.5
    assert exact["pixel_iou_max"] == pytest.approx(1 / 3, abs=1e-15)
    assert exact["region_aupro"] == pytest.approx(0.225, abs=1e-15)


def test_the_paper_protocol_drops_a_rate_of_exactly_0_3_by_hand():
    """Anomalous 10 and 7.5, one region each; normal 9, 8, 7 and seven times 0.

    (rate, PRO) from the highest threshold down: (0, 1/2), (1/10, 1/2), (2/10, 1/2), (2/10, 1), then (3/10, 1), which is not
    below 0.3. The kept ones, rescaled: (0, 1/2), (1/2, 1/2), (1, 1/2), (1, 1): area 1/2.
    Exact, limit 3 false positives: (1/2 * 2 + 1 * 1) / 3 = 2/3.
    """
    values = one_class([[[10, 9, 8, 7.5, 7] + [0] * 7]], [[[1, 0, 0, 1, 0] + [0] * 7]])
    assert values["paper"]["region_aupro"] == pytest.approx(1 / 2, abs=1e-15)
    assert values["exact"]["region_aupro"] == pytest.approx(2 / 3, abs=1e-15)


def test_regions_weigh_the_same_whatever_their_area_by_hand():
    """A region of one pixel (score 9) and one of three (score 0, below all 10 normal pixels).

    PRO is 1/2 from the start to the limit: AU-PRO 1/2, though three of four anomalous pixels are missed.
    """
    maps = np.array([[[9, 5, 0, 0, 0, 5, 5], [5, 5, 5, 5, 5, 5, 5]]])
    masks = np.array([[[1, 0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0, 0]]])
    assert one_class(maps, masks)["exact"]["region_aupro"] == pytest.approx(0.5, abs=1e-15)


def test_diagonal_neighbours_are_one_region_and_images_never_connect():
    """Image 0: a diagonal pair, found half (one pixel 9, one 0). Image 1: one pixel at the same place, found (9). Normal all 5.

    Regions: the pair (1/2 found) and the single (found): PRO 3/4 up to the limit. With 4-connectivity it would be 2/3.
    """
    maps, masks = np.full((2, 3, 3), 5), np.zeros((2, 3, 3), dtype=bool)
    masks[0, 0, 0] = masks[0, 1, 1] = masks[1, 1, 1] = True
    maps[masks] = [9, 0, 9]
    assert one_class(maps, masks)["exact"]["region_aupro"] == pytest.approx(0.75, abs=1e-15)


def test_positive_is_strictly_above_the_threshold():
    """Scores 0 ... 10 scale to 0, 0.1 ... 1; only the pixel at 0.2 is anomalous, so none of the thresholds 0.2 ... 0.8 finds it."""
    paper = one_class([[list(range(11))]], [[[0, 0, 1] + [0] * 8]])["paper"]
    assert paper["pixel_macc"] == 0.0
    # 0.15 is the highest of the 21 thresholds that finds it: TP 1, FP 8: F1 = 2 / 10, IoU = 1/9
    assert paper["pixel_f1_max"] == pytest.approx(0.2, abs=2e-8)
    assert paper["pixel_iou_max"] == pytest.approx(1 / 9, abs=2e-8)


def test_image_scores_given_replace_the_maximum_of_the_map():
    maps, masks = np.array([[[9]], [[1]]]), np.array([[[1]], [[0]]])
    assert one_class(maps, masks)["exact"]["image_auroc"] == 1.0
    assert one_class(maps, masks, image_scores=[0.1, 0.2])["exact"]["image_auroc"] == 0.0


def test_an_object_lost_by_the_resize_is_normal_for_paper_and_anomalous_for_exact():
    """Maxima 3, 1, 2; image 1 is labelled anomalous with an empty mask.

    Paper: image 0 against 1 and 2: AU-ROC 1. Exact: images 0 and 1 against 2: 3 > 2 but 1 < 2: 1/2.
    """
    maps = np.array([[[3, 0]], [[1, 0]], [[2, 0]]])
    masks = np.array([[[1, 0]], [[0, 0]], [[0, 0]]])
    result = evaluate(maps, masks, labels=[1, 1, 0])
    assert result["per_class"]["all"]["paper"]["image_auroc"] == 1.0
    assert result["per_class"]["all"]["exact"]["image_auroc"] == 0.5
    assert any("1 image(s) labelled anomalous have no anomalous pixel" in note for note in result["notes"])


# ---------------------------------------------------------------- a direct implementation from the definitions


def flood_regions(mask):
    """The 8-connected regions of one mask, each a list of pixels."""
    left = {(int(r), int(c)) for r, c in np.argwhere(mask)}
    regions = []
    while left:
        frontier = [left.pop()]
        region = []
        while frontier:
            r, c = frontier.pop()
            region.append((r, c))
            near = {(r + i, c + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            frontier += near
        regions.append(region)
    return regions


def direct_auroc(scores, truth):
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[truth] for b in scores[~truth]]
    return sum(pairs) / len(pairs) if pairs else None


def direct_counts(scores, truth):
    """(TP, FP, FN) at every distinct score, positive where at or above it, from the highest down."""
    for t in sorted(set(scores.tolist()), reverse=True):
        positive = scores >= t
        yield int((positive & truth).sum()), int((positive & ~truth).sum()), int((~positive & truth).sum())


def direct_ap(scores, truth):
    if not truth.any():
        return None
    ap, recall_before = 0.0, 0.0
    for tp, fp, fn in direct_counts(scores, truth):
        recall = tp / (tp + fn)
        ap += (recall - recall_before) * tp / (tp + fp)
        recall_before = recall
    return ap


def direct_maxima(scores, truth):
    if not truth.any():
        return None, None
    counts = list(direct_counts(scores, truth))
    return max(2 * tp / (2 * tp + fp + fn) for tp, fp, fn in counts), max(tp / (tp + fp + fn) for tp, fp, fn in counts)


def direct_pro(positive, masks):
    overlaps = []
    for image, mask in enumerate(masks):
        overlaps += [np.mean([positive[image][pixel] for pixel in region]) for region in flood_regions(mask)]
    return float(np.mean(overlaps))


def direct_aupro_exact(maps, masks):
    if not masks.any() or masks.all():
        return None
    points = [(0.0, 0.0)]
    for t in sorted(set(maps.ravel().tolist()), reverse=True):
        points.append((float(((maps >= t) & ~masks).sum() / (~masks).sum()), direct_pro(maps >= t, masks)))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= 0.3 or x0 == x1:
            continue
        end = min(x1, 0.3)
        y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / 0.3


def scale(maps):
    """To [0, 1] in double precision by all maps' minimum and maximum; zeros for constant maps."""
    values = maps.astype(np.float64)
    span = values.max() - values.min()
    return (values - values.min()) / span if span else np.zeros_like(values)


def direct_aupro_paper(maps, masks):
    if not masks.any() or masks.all():
        return None
    scaled, points = scale(maps), []
    for k in range(100):
        positive = scaled > k / 100
        rate = (positive & ~masks).sum() / (~masks).sum()
        if rate < 0.3:
            points.append((rate, direct_pro(positive, masks)))
    low, high = min((x for x, _ in points), default=0), max((x for x, _ in points), default=0)
    if low == high:
        return None
    points = [((x - low) / (high - low), y) for x, y in reversed(points)]
    return sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(points))


def direct_thresholds(maps, masks, thresholds):
    """Columns F1, recall, IoU."""
    rows = []
    for t in thresholds:
        positive = scale(maps) > t
        tp, fp, fn = (positive & masks).sum(), (positive & ~masks).sum(), (~positive & masks).sum()
        precision, recall = tp / (tp + fp + 1e-8), tp / (tp + fn + 1e-8)
        rows.append((2 * precision * recall / (precision + recall + 1e-8), recall, tp / (tp + fp + fn + 1e-8)))
    return np.array(rows)


def direct_evaluate(maps, masks, labels):
    flat, truth = maps.ravel(), masks.ravel()
    image_scores = np.array([m.max() for m in maps])
    result = {}
    for protocol, image_truth in (("paper", np.array([m.any() for m in masks])), ("exact", labels)):
        family = direct_thresholds(maps, masks, [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]).mean(axis=0)
        best = direct_thresholds(maps, masks, [k * 5 / 100 for k in range(21)]).max(axis=0)
        f1, iou = direct_maxima(flat, truth) if protocol == "exact" else (best[0], best[2])
        values = {
            "image_auroc": direct_auroc(image_scores, image_truth),
            "image_ap": direct_ap(image_scores, image_truth),
            "image_f1_max": direct_maxima(image_scores, image_truth)[0],
            "region_aupro": (direct_aupro_paper if protocol == "paper" else direct_aupro_exact)(maps, masks),
            "pixel_auroc": direct_auroc(flat, truth),
            "pixel_ap": direct_ap(flat, truth),
            "pixel_f1_max": f1,
            "pixel_mf1": family[0],
            "pixel_macc": family[1],
            "pixel_miou": family[2],
            "pixel_iou_max": iou,
        }
        if not truth.any():
            values |= {key: None for key in values if key.startswith("pixel")}
        result[protocol] = values
    return result


@st.composite
def data_sets(draw):
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    kind = draw(st.sampled_from(["ties", "int16", "float16", "float32", "float64", "tiny", "huge"]))
    if kind == "ties":
        maps = draw(hnp.arrays(np.int64, shape, elements=st.integers(-1, 2)))
    elif kind == "int16":
        maps = draw(hnp.arrays(np.int16, shape, elements=st.integers(-30000, 30000)))
    elif kind in ("tiny", "huge"):
        maps = draw(hnp.arrays(np.int64, shape, elements=st.integers(-50, 50))) * (1e-300 if kind == "tiny" else 1e300)
    else:
        width = int(kind.removeprefix("float"))
        maps = draw(hnp.arrays(np.dtype(kind), shape, elements=st.floats(-1000, 1000, width=width)))
    masks = draw(hnp.arrays(np.bool_, shape))
    labels = draw(hnp.arrays(np.bool_, shape[:1]))
    return maps, masks, labels


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(data_sets())
@pytest.mark.slow
def test_agrees_with_the_direct_implementation(data):
    maps, masks, labels = data
    result, expected = evaluate(maps, masks, labels=labels), direct_evaluate(maps, masks, labels)
    for protocol, values in expected.items():
        got = result["per_class"]["all"][protocol]
        for key, value in values.items():
            assert got[key] == (None if value is None else pytest.approx(value, abs=1e-12)), (protocol, key)
        for key, parts in AVERAGES.items():
            missing = any(values[part] is None for part in parts)
            assert got[key] == (None if missing else pytest.approx(np.mean([values[part] for part in parts])))
        assert all(value is None or 0.0 <= value <= 1.0 for value in got.values())


@pytest.mark.slow
def test_agrees_with_scikit_learn_on_data_with_ties():
    sklearn = pytest.importorskip("sklearn.metrics")
    maps, masks = random_data(n=40, size=24, decimals=1)
    exact = one_class(maps, masks)["exact"]
    assert len(np.unique(maps)) < 120
    assert exact["pixel_auroc"] == pytest.approx(sklearn.roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)
    assert exact["pixel_ap"] == pytest.approx(sklearn.average_precision_score(masks.ravel(), maps.ravel()), abs=1e-12)
    labels, scores = masks.any(axis=(1, 2)), np.round(maps.max(axis=(1, 2)))
    images = one_class(maps, masks, image_scores=scores)["exact"]
    assert images["image_auroc"] == pytest.approx(sklearn.roc_auc_score(labels, scores), abs=1e-12)
    assert images["image_ap"] == pytest.approx(sklearn.average_precision_score(labels, scores), abs=1e-12)


# ---------------------------------------------------------------- what must hold for any data


def test_inverted_scores_invert_auroc():
    maps, masks = random_data()
    plain, inverted = one_class(maps, masks)["exact"], one_class(-maps, masks)["exact"]
    assert inverted["pixel_auroc"] == pytest.approx(1 - plain["pixel_auroc"], abs=1e-15)
    assert inverted["pixel_auroc"] < 0.5 < plain["pixel_auroc"]
    scores = maps.max(axis=(1, 2))
    plain, inverted = (one_class(maps, masks, image_scores=s)["exact"]["image_auroc"] for s in (scores, -scores))
    assert inverted == pytest.approx(1 - plain, abs=1e-15)


def test_a_strictly_increasing_transform_leaves_rank_metrics_unchanged():
    maps, masks = random_data()
    plain, transformed = one_class(maps, masks), one_class(np.exp(maps) * 1e6 - 7, masks)
    assert [plain["exact"][key] for key in RANK_KEYS_EXACT] == [transformed["exact"][key] for key in RANK_KEYS_EXACT]
    assert [plain["paper"][key] for key in RANK_KEYS_PAPER] == [transformed["paper"][key] for key in RANK_KEYS_PAPER]


def test_an_affine_transform_in_exact_arithmetic_leaves_everything_unchanged():
    maps, masks = random_data(decimals=0)
    assert evaluate(maps, masks) == evaluate(maps * 8 + 64, masks)


def test_order_of_images_is_irrelevant_to_the_last_bit():
    maps, masks = random_data(n=30, size=24, decimals=0)
    classes, labels = np.array(["b", "a", "c"] * 10), np.arange(30) % 2
    order = np.random.default_rng(1).permutation(30)
    expected = evaluate(maps, masks, classes, labels)
    shuffled = evaluate(maps[order], masks[order], classes[order], labels[order])
    assert list(expected["per_class"]) == ["a", "b", "c"]
    assert json.dumps(expected) == json.dumps(shuffled)


def test_batches_and_memory_maps_give_what_arrays_give(tmp_path):
    maps, masks = random_data(n=7)
    expected = evaluate(maps, masks)
    batches = (maps[start : start + 3] for start in range(0, 7, 3))
    assert evaluate(batches, [masks[:1], masks[1:]]) == expected
    np.save(tmp_path / "maps.npy", maps)
    assert evaluate(np.load(tmp_path / "maps.npy", mmap_mode="r"), masks) == expected


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float16", "float32", "float64", ">f4"])
def test_the_type_of_the_scores_is_irrelevant(dtype):
    maps, masks = random_data(decimals=0)
    maps += 10
    assert evaluate(maps.astype(dtype), masks) == evaluate(maps, masks)


def test_integer_scores_that_span_their_type_do_not_wrap():
    """int8 -128 and 127: the anomalous pixel is the only one above every threshold."""
    paper = one_class(np.array([[[127, -128, -100]]], dtype=np.int8), [[[1, 0, 0]]])["paper"]
    assert paper["pixel_mf1"] == pytest.approx(1.0, abs=2e-8)


def test_the_largest_doubles_do_not_overflow():
    maps = np.array([[[1.7e308, -1.7e308, -1.6e308]]])
    paper = one_class(maps, [[[1, 0, 0]]])["paper"]
    assert paper["pixel_mf1"] == pytest.approx(1.0, abs=2e-8)


def test_double_precision_scores_are_not_rounded_to_single():
    exact = one_class(np.array([[[1.0 + 1e-12, 1.0]]]), [[[1, 0]]])["exact"]
    assert exact["pixel_auroc"] == 1.0


@pytest.mark.parametrize(
    "masks",
    [
        np.array([[[1, 0]], [[0, 0]]], dtype=np.int64),
        np.array([[[1, 0]], [[0, 0]]], dtype=np.uint8),
        np.array([[[255, 0]], [[0, 0]]], dtype=np.uint8),
        np.array([[[255, 0]], [[0, 0]]], dtype=np.int64),
        np.array([[[0.51, 0.5]], [[0.0, 0.2]]], dtype=np.float32),
    ],
)
def test_masks_of_every_accepted_kind(masks):
    maps, expected = np.array([[[2.0, 1.0]], [[1.5, 0.0]]]), np.array([[[True, False]], [[False, False]]])
    assert evaluate(maps, masks) == evaluate(maps, expected)


# ---------------------------------------------------------------- missing values


def missing(values):
    return {key for key, value in values.items() if value is None}


def assert_each_missing_value_has_a_note(result):
    for name, by_protocol in [*result["per_class"].items(), (None, result["mean"])]:
        for protocol, values in by_protocol.items():
            start = "mean, " if name is None else f"class {name!r}, "
            for key in missing(values):
                notes = [
                    n for n in result["notes"] if n.startswith(f"{start}protocol {protocol}:") and "not available" in n
                ]
                assert any(key in n.replace(",", "").replace(":", "").split() for n in notes), (name, protocol, key)


def test_constant_maps_have_scaled_scores_of_zero_and_no_nan():
    """One anomalous pixel of four, all tied. AU-ROC 1/2, AP 1/4, F1 2 / 5. No scaled score is above a threshold: all 0.

    AU-PRO: the line from (0, 0) to (1, 1): 0.3 * 0.3 / 2 / 0.3 = 0.15; in the paper's protocol 100 equal rates: missing.
    """
    result = evaluate(np.full((2, 1, 2), 3.7), np.array([[[1, 0]], [[0, 0]]]))
    paper, exact = result["per_class"]["all"]["paper"], result["per_class"]["all"]["exact"]
    assert [paper[key] for key in ("pixel_mf1", "pixel_macc", "pixel_miou", "mad_threshold", "pixel_f1_max")] == [
        0.0
    ] * 5
    assert (exact["pixel_auroc"], exact["image_auroc"], exact["pixel_ap"], exact["pixel_f1_max"]) == (
        0.5,
        0.5,
        0.25,
        0.4,
    )
    assert exact["region_aupro"] == pytest.approx(0.15, abs=1e-15)
    assert missing(exact) == set()
    assert missing(paper) == {"region_aupro", "mad"}
    assert_each_missing_value_has_a_note(result)


def test_a_class_without_anomalies_has_image_and_pixel_values_missing():
    result = evaluate(np.arange(8.0).reshape(2, 2, 2), np.zeros((2, 2, 2), dtype=bool))
    for values in (*result["per_class"]["all"].values(), *result["mean"].values()):
        assert missing(values) == set(KEYS)
    assert (
        "class 'all', protocol exact: image_auroc, image_ap, image_f1_max: not available: no anomalous image"
        in (result["notes"])
    )
    assert_each_missing_value_has_a_note(result)


def test_a_class_of_anomalous_pixels_only_has_no_auroc_and_no_aupro_but_ap_and_f1_of_one():
    result = evaluate(np.arange(8.0).reshape(2, 2, 2), np.ones((2, 2, 2), dtype=bool))
    exact = result["per_class"]["all"]["exact"]
    assert missing(exact) == {"image_auroc", "pixel_auroc", "region_aupro", "mad_image", "mad_pixel", "mad"}
    assert [exact[k] for k in ("image_ap", "image_f1_max", "pixel_ap", "pixel_f1_max", "pixel_iou_max")] == [1.0] * 5
    assert_each_missing_value_has_a_note(result)


@pytest.mark.parametrize("anomalous", [False, True])
def test_one_image_of_one_pixel(anomalous):
    result = evaluate(np.array([[[0.5]]]), np.array([[[anomalous]]]))
    assert result["per_class"]["all"]["exact"]["pixel_auroc"] is None
    assert result["per_class"]["all"]["exact"]["pixel_ap"] == (1.0 if anomalous else None)
    assert_each_missing_value_has_a_note(result)


def test_labels_without_masks_still_give_image_metrics_in_the_exact_protocol():
    result = evaluate(np.array([[[1.0]], [[2.0]]]), np.zeros((2, 1, 1), dtype=bool), labels=[0, 1])
    assert result["per_class"]["all"]["exact"]["mad_image"] == 1.0
    assert result["per_class"]["all"]["paper"]["mad_image"] is None
    assert result["per_class"]["all"]["exact"]["mad"] is None
    assert_each_missing_value_has_a_note(result)


def test_the_mean_is_unweighted_over_classes_that_have_the_value_and_says_which_it_leaves_out():
    maps, masks = random_data(n=12)
    masks[10:] = False
    classes = ["big"] * 8 + ["small"] * 2 + ["sound"] * 2
    result = evaluate(maps, masks, classes)
    big, small = result["per_class"]["big"]["paper"], result["per_class"]["small"]["paper"]
    for key in KEYS:
        assert result["mean"]["paper"][key] == pytest.approx((big[key] + small[key]) / 2, abs=1e-15)
    assert any("mean, protocol paper" in n and "pixel_auroc" in n and "class 'sound'" in n for n in result["notes"])
    assert_each_missing_value_has_a_note(result)


def test_complete_data_gives_no_notes():
    assert evaluate(*random_data())["notes"] == []


# ---------------------------------------------------------------- masks are optional

NEED_MASKS = {key for key in KEYS if not key.startswith("image_")} - {"mad_image"}
NO_MASK_NOTE = ", ".join(key for key in KEYS if key in NEED_MASKS) + ": not available: no anomalous image has a mask"


def test_a_mask_that_is_empty_in_the_paper_protocol_adds_normal_pixels_there_and_nothing_else():
    maps, masks = random_data()
    labels, has_mask = np.array([0, 1, 1, 1, 0, 1]), np.array([True, True, False, True, True, True])
    options = {"classes": ["a"] * 6, "labels": labels, "image_scores": np.array([0.0, 3, 1, 3, 2, 4])}
    unknown = evaluate(maps, masks, **options, has_mask=has_mask)
    empty = evaluate(maps, masks, **options)  # masks[2] has no pixel
    both = evaluate(maps, masks, **options, has_mask=has_mask, empty_in_paper=~has_mask)
    values = {"both": both, "empty": empty, "unknown": unknown}
    paper, exact = ({name: one["per_class"]["a"][each] for name, one in values.items()} for each in ("paper", "exact"))
    assert exact["both"] == exact["unknown"]
    # It is an anomalous image, below one of the two normal ones.
    assert [paper["both"][key] for key in KEYS[:3]] == [paper["unknown"][key] for key in KEYS[:3]]
    assert (paper["both"]["image_auroc"], paper["empty"]["image_auroc"]) == (7 / 8, 1.0)
    for key in KEYS[3:11]:
        assert paper["both"][key] == paper["empty"][key]
    assert paper["both"]["pixel_auroc"] != paper["unknown"]["pixel_auroc"]
    assert (
        "1 of 4 anomalous images have no mask and are left out of the exact protocol's pixel and region"
        in both["notes"][0]
    )
    assert evaluate(maps, masks, **options, has_mask=has_mask, empty_in_paper=[False] * 6) == unknown


def test_an_image_of_unknown_mask_counts_for_image_metrics_only_by_hand():
    """The row of eight pixels, a normal row of ones and, between them, an anomalous image without a mask, of maximum 0.5.

    Pixel and region values are those of `test_averages_are_means_of_their_parts_by_hand`, where that image is not there; its
    -50 would change the scaled thresholds. Image scores 9 and 0.5 against 1: AU-ROC 1/2, AP (1 + 2/3) / 2, F1 at 0.5: 4/5.
    """
    maps, masks = [ROW[0], [[-50.0] * 7 + [0.5]], [[1] * 8]], [ROW_MASK[0], [[0] * 8], [[0] * 8]]
    result = evaluate(np.array(maps), np.array(masks), labels=[1, 1, 0], has_mask=[True, False, True])
    without = evaluate(np.array([maps[0], maps[2]]), np.array([masks[0], masks[2]]))
    for protocol in ("paper", "exact"):
        values, expected = result["per_class"]["all"][protocol], without["per_class"]["all"][protocol]
        assert [values[key] for key in KEYS[3:11]] == [expected[key] for key in KEYS[3:11]]
        assert values["pixel_auroc"] == pytest.approx(27 / 28, abs=1e-15)
        assert values["image_auroc"] == 0.5
        assert values["image_ap"] == pytest.approx(5 / 6, abs=1e-15)
        assert values["image_f1_max"] == pytest.approx(4 / 5, abs=1e-15)
    assert result["notes"] == [
        "class 'all': 1 of 2 anomalous images have no mask and are left out of the pixel and region metrics",
        "class 'all': 1 image(s) without a mask take the data set's own label, anomalous, "
        "in the paper protocol's image metrics too",
    ]


def test_without_masks_image_metrics_run_and_the_rest_is_missing_with_the_reason():
    maps, masks = random_data()
    labels = masks.any(axis=(1, 2))
    result, complete = evaluate(maps, None, labels=labels), evaluate(maps, masks)
    for where in (result["per_class"]["all"], result["mean"]):
        for protocol, values in where.items():
            assert missing(values) == NEED_MASKS
            for key in ("image_auroc", "image_ap", "image_f1_max", "mad_image"):
                assert values[key] == complete["per_class"]["all"][protocol][key]
    assert result["notes"] == [
        "class 'all': 3 image(s) without a mask take the data set's own label, anomalous, "
        "in the paper protocol's image metrics too",
        *(f"{where}, protocol {p}: {NO_MASK_NOTE}" for where in ("class 'all'", "mean") for p in ("paper", "exact")),
    ]
    assert evaluate(maps, masks, labels=labels, has_mask=[False] * 6) == result
    assert evaluate(maps, masks & False, labels=labels, has_mask=~labels) == result


@pytest.mark.parametrize("placeholder", [np.nan, 255.0, -1.0])
def test_what_stands_for_a_mask_that_is_not_there_is_ignored(placeholder):
    maps, masks = random_data()
    labels, has_mask = masks.any(axis=(1, 2)), np.array([False, True, True, False, True, True])
    filled = masks.astype(float)
    filled[~has_mask] = placeholder
    before = filled.copy()
    assert evaluate(maps, filled, labels=labels, has_mask=has_mask) == evaluate(
        maps, masks, labels=labels, has_mask=has_mask
    )
    assert np.array_equal(filled, before, equal_nan=True)


def test_a_class_with_and_one_without_masks():
    maps, masks = random_data(n=12)
    classes, labels = ["bare"] * 6 + ["masked"] * 6, masks.any(axis=(1, 2))
    result = evaluate(maps, masks, classes, labels, has_mask=[False] * 6 + [True] * 6)
    bare, masked = (result["per_class"][name] for name in ("bare", "masked"))
    assert masked == evaluate(maps[6:], masks[6:])["per_class"]["all"]
    for protocol, mean in result["mean"].items():
        assert missing(bare[protocol]) == NEED_MASKS
        assert {key: mean[key] for key in NEED_MASKS} == {key: masked[protocol][key] for key in NEED_MASKS}
        image_auroc = (bare[protocol]["image_auroc"] + masked[protocol]["image_auroc"]) / 2
        assert mean["image_auroc"] == pytest.approx(image_auroc, abs=1e-15)
        left_out = [note for note in result["notes"] if note.startswith(f"mean, protocol {protocol}: region_aupro")]
        assert [note.endswith("left out of the mean: class 'bare'") for note in left_out] == [True]
    assert len(set(result["notes"])) == len(result["notes"])
    assert_each_missing_value_has_a_note(result)


def test_masks_that_are_all_there_change_nothing():
    maps, masks = random_data()
    labels = [1, 1, 0, 1, 0, 0]
    expected = evaluate(maps, masks, labels=labels)
    assert evaluate(maps, masks, labels=labels, has_mask=[True] * 6) == expected
    assert any("no anomalous pixel" in note for note in expected["notes"])


@pytest.mark.parametrize("masks", [None, np.zeros((3, 2, 2), dtype=bool)])
def test_a_test_set_of_normal_images_only_lacks_everything_for_want_of_anomalies(masks):
    result = evaluate(np.arange(12.0).reshape(3, 2, 2), masks, labels=[0, 0, 0])
    assert missing(result["mean"]["paper"]) == missing(result["per_class"]["all"]["exact"]) == set(KEYS)
    assert {note.rpartition("not available: ")[2] for note in result["notes"] if "needs" not in note} == {
        "no anomalous image",
        "no anomalous pixel",
    }
    assert_each_missing_value_has_a_note(result)


def test_a_class_of_anomalous_images_without_masks_still_has_ap_and_f1_of_images():
    result = evaluate(np.arange(12.0).reshape(3, 2, 2), None, labels=[1, 1, 1])
    paper = result["per_class"]["all"]["paper"]
    assert missing(paper) == NEED_MASKS | {"image_auroc", "mad_image"}
    assert (paper["image_ap"], paper["image_f1_max"]) == (1.0, 1.0)
    assert_each_missing_value_has_a_note(result)


# ---------------------------------------------------------------- the interface


def test_result_has_all_keys_in_table_order_and_is_plain_json():
    result = evaluate(*random_data())
    assert set(result) == {"per_class", "mean", "notes", "protocol_version"}
    assert result["protocol_version"] == PROTOCOL_VERSION
    for values in (*result["per_class"]["all"].values(), *result["mean"].values()):
        assert tuple(values) == KEYS
        assert all(type(value) is float for value in values.values())
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert len(KEYS) == 15


def test_one_protocol_may_be_asked_for():
    maps, masks = random_data()
    both, one = evaluate(maps, masks), evaluate(maps, masks, protocol="exact")
    assert one["mean"] == {"exact": both["mean"]["exact"]}
    assert evaluate(maps, masks, protocol=("exact",)) == one


def test_arguments_are_left_unchanged():
    maps, masks = random_data()
    maps_before, masks_before = maps.copy(), masks.copy()
    evaluate(maps, masks)
    assert np.array_equal(maps, maps_before)
    assert np.array_equal(masks, masks_before)


MAPS, MASKS = random_data(n=4, size=3)


def changed(array, index, value, dtype=None):
    array = array.astype(dtype or array.dtype)
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"anomaly_maps": changed(MAPS, (2, 1, 1), np.nan)}, "image 2 (class 'all')"),
        ({"anomaly_maps": changed(MAPS, (3, 0, 0), -np.inf), "classes": list("abab")}, "image 3 (class 'b')"),
        ({"image_scores": [0, 1, np.inf, 2]}, "image 2 (class 'all')"),
        ({"image_scores": [0, 1]}, "expected 4 values"),
        ({"image_scores": ["a"] * 4}, "unexpected type"),
        ({"anomaly_maps": MAPS[0]}, "three dimensions"),
        ({"anomaly_maps": MAPS[:, None]}, "three dimensions"),
        ({"anomaly_maps": MAPS[:3]}, "masks: there are more of them than anomaly_maps, 3"),
        ({"masks": MASKS[:, :2]}, "masks: height and width (2, 3) differ"),
        ({"anomaly_maps": [MAPS[:2], MAPS[2:, :2]]}, "one height and width"),
        ({"anomaly_maps": list(MAPS)}, "anomaly_maps, batch 0: expected three dimensions"),
        ({"anomaly_maps": MAPS.astype(complex)}, "unexpected type complex128"),
        ({"anomaly_maps": MAPS > 0}, "unexpected type bool"),
        ({"anomaly_maps": "maps.npy"}, "anomaly_maps, batch 0: expected three dimensions"),
        ({"anomaly_maps": None}, "got NoneType"),
        ({"anomaly_maps": MAPS[:0], "masks": MASKS[:0]}, "anomaly_maps: empty"),
        ({"anomaly_maps": MAPS[:, :0], "masks": MASKS[:, :0]}, "anomaly_maps: empty"),
        ({"anomaly_maps": iter(())}, "anomaly_maps: empty"),
        ({"masks": [None] * 4}, "masks, batch 0"),
        ({"masks": changed(MASKS, (1, 0, 0), 2, np.uint8)}, "masks: image 1 (class 'all') holds 2"),
        ({"masks": changed(MASKS, (1, 0, 0), -1, np.int8)}, "image 1 (class 'all') holds -1"),
        ({"masks": changed(changed(MASKS, 3, 1, np.uint8), (3, 0, 0), 255)}, "only 0 and 1, or only 0 and 255"),
        ({"masks": changed(MASKS, (2, 0, 0), 255.0, np.float32)}, "image 2 (class 'all') holds 255.0"),
        ({"masks": changed(MASKS, (2, 0, 0), np.nan, np.float32)}, "image 2 (class 'all') holds nan"),
        ({"classes": ["a"] * 3}, "classes: expected 4 values"),
        ({"classes": "abcd"}, "classes: expected 4 values, one for each image, got shape ()"),
        ({"classes": ["a", "a", "", "a"]}, "image 2"),
        ({"classes": [0, 1, 2, 3]}, "classes: unexpected type int64; expected text"),
        ({"labels": [0, 1, 1]}, "expected 4 values"),
        ({"labels": [0, 1, 2, 1]}, "image 2 has 2"),
        ({"labels": [0, 1, np.nan, 1]}, "image 2 has nan"),
        ({"masks": None}, "labels: are required"),
        ({"has_mask": [True, True, False, True]}, "labels: are required"),
        ({"masks": None, "labels": [0, 1, 0, 1], "has_mask": [True] * 4}, "has_mask: must be left out"),
        ({"has_mask": [True] * 3}, "has_mask: expected 4 values"),
        ({"has_mask": [1, 1, 1, 1]}, "has_mask: unexpected type"),
        ({"protocol": "publication"}, "paper, exact"),
        ({"protocol": ()}, "paper, exact"),
    ],
)
def test_bad_input_is_one_line_that_says_what_is_wrong(arguments, told):
    with pytest.raises(InputError) as error:
        evaluate(**({"anomaly_maps": MAPS, "masks": MASKS} | arguments))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_samples_are_scored_by_the_highest_of_their_images():
    """Two classes, of which one has the same name of an object as the other, and images out of order."""
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    classes = np.repeat(["a", "b"], 40)
    groups = np.tile([f"S{number % 13}" for number in range(40)], 2)
    groups[[5, 6]] = ""  # two images that stand alone
    scores, labels = rng.normal(size=80).round(1), rng.random(80) < 0.15
    maps = np.broadcast_to(scores[:, None, None], (80, 2, 2))
    masks = np.zeros((80, 2, 2), bool)
    masks[labels & (rng.random(80) < 0.5)] = True  # some defects are too small for the mask
    images = (maps, masks, classes, labels.astype(int))
    result = evaluate(*images, groups=groups)
    plain = evaluate(*images)
    for name in "ab":
        objects = {}
        for number in np.flatnonzero(classes == name):
            key = groups[number] or number
            score, label = objects.get(key, (-np.inf, False))
            objects[key] = max(score, scores[number]), label or labels[number]
        highest, anomalous = map(np.array, zip(*objects.values(), strict=True))
        precision, recall, _ = sklearn.precision_recall_curve(anomalous, highest)
        best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
        expected = {
            "sample_auroc": sklearn.roc_auc_score(anomalous, highest),
            "sample_ap": sklearn.average_precision_score(anomalous, highest),
            "sample_f1_max": best,
        }
        for protocol in ("paper", "exact"):
            values = dict(result["per_class"][name][protocol])
            assert {key: values.pop(key) for key in expected} == pytest.approx(expected)
            assert values == plain["per_class"][name][protocol]
    assert result["mean"]["exact"]["sample_ap"] == pytest.approx(
        np.mean([result["per_class"][name]["exact"]["sample_ap"] for name in "ab"])
    )
    assert evaluate(*images, groups=[str(number) for number in range(80)]) == plain  # as many objects as images
    with pytest.raises(InputError, match=r"^groups: expected 80 values, one for each image, got shape \(3,\)"):
        evaluate(*images, groups=["a", "b", "a"])
