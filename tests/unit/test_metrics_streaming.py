"""Metrics of more scores than are kept apart: histograms, their bounds, second readings, accumulators that are merged."""

import json
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invad.errors import InputError
from invad.metrics import KEYS, Accumulator, class_scores, evaluate, histogram
from invad.metrics.exact import SortedScores
from invad.metrics.histogram import ScoreHistogram
from invad.metrics.keys import key_scores, paged_keys, score_keys, whole_scores
from invad.metrics.measure import errors, measure, rank_values, region_and_threshold_values
from invad.metrics.part import Part
from invad.metrics.regions import region_areas


@pytest.fixture
def few_pixels(monkeypatch):
    """Classes of more than 50 pixels become a histogram."""
    monkeypatch.setattr(class_scores, "EXACT_PIXELS", 50)


def random_data(n=12, size=16, dtype=np.float32, seed=0):
    """Maps of scores from 1 on, almost without ties, higher where anomalous; every third mask is empty."""
    rng = np.random.default_rng(seed)
    masks = rng.random((n, size, size)) < 0.2
    masks[::3] = False
    return (1 + rng.gamma(2, 0.05, masks.shape) + 0.1 * masks).astype(dtype), masks


def part_of(maps, masks):
    areas, regions = region_areas(masks)
    return Part(maps[~masks], maps[masks], areas, regions)


def all_values(measured):
    return rank_values(measured) | {
        f"{protocol}/{key}": value
        for protocol in ("paper", "exact")
        for key, value in region_and_threshold_values(measured, exact=protocol == "exact").items()
    }


def exact_values(part):
    ranked = SortedScores([part])
    return all_values(measure([ranked], ranked.totals("pixel")))


def counted(*parts):
    scores = ScoreHistogram()
    for part in parts:
        scores.add(part)
    return scores


# ---------------------------------------------------------------- keys


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=30))
@settings(deadline=None, derandomize=True, database=None)
def test_keys_are_in_the_order_of_the_scores_and_lead_back_to_the_lowest_score_of_their_bin(scores):
    scores = np.sort(np.array(scores))
    keys, _ = score_keys(scores)
    assert (np.diff(keys) >= 0).all()
    assert (key_scores(keys) <= scores).all()
    assert (key_scores(keys + 1) > scores).all()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=30))
@settings(deadline=None, derandomize=True, database=None)
def test_a_float32_is_its_key_and_the_shorter_way_to_it_gives_the_same(scores):
    scores = np.sort(np.array(scores, dtype=np.float32))
    keys, inexact = score_keys(scores)
    assert not inexact
    assert np.array_equal(whole_scores(keys), scores)
    pages = paged_keys(scores)
    shift = np.repeat(np.array(pages.pages) - pages.bases, np.diff(pages.starts, append=scores.size))
    assert np.array_equal((shift << 16) + pages.values, keys)
    assert pages.pages == sorted(set((keys >> 16).tolist()))
    assert (pages.lowest, pages.highest) == (scores[0], scores[-1])


@pytest.mark.parametrize(
    ("scores", "inexact"),
    [
        (np.array([1.0, 0.1]), True),
        (np.array([1.0, 0.5, -0.0, -3.25]), False),
        (np.array([2**23, -5]), False),
        (np.array([2**60 + 1]), True),
        (np.array([7], dtype=np.uint8), False),
    ],
)
def test_whether_scores_may_share_a_key_is_known(scores, inexact):
    assert score_keys(scores)[1] is inexact


# ---------------------------------------------------------------- the histogram


@pytest.mark.parametrize("dtype", ["float16", "float32", "int16", "uint8"])
def test_a_histogram_of_scores_that_have_their_own_bins_gives_what_the_scores_give(dtype):
    maps, masks = random_data()
    part = part_of((maps * 100).astype(dtype), masks)
    scores = counted(part)
    assert not scores.rounded
    measured = measure([scores], scores.totals())
    for key, value in exact_values(part).items():
        tolerance = 1e-3 if "aupro" in key else 1e-15  # few pixels: the weights of four bins are kept together
        assert all_values(measured)[key] == pytest.approx(value, abs=tolerance), key
    bounds = errors(measured, exact=True) | {"paper": errors(measured, exact=False)["pixel_mf1"]}
    assert {key: bound for key, bound in bounds.items() if key != "region_aupro"} == dict.fromkeys(
        bounds.keys() - {"region_aupro"}, 0.0
    )


def assert_within_bounds(part, scores):
    measured, expected = measure([scores], scores.totals()), exact_values(part)
    values = all_values(measured)
    checked = 0
    for protocol in ("paper", "exact"):
        for key, bound in errors(measured, exact=protocol == "exact").items():
            name = key if key in values else f"{protocol}/{key}"
            if key == "pixel_f1_max":
                name = "pixel_f1_max" if protocol == "exact" else "paper/pixel_f1_max"
            if isinstance(values[name], float) and isinstance(expected[name], float):
                assert abs(values[name] - expected[name]) <= bound + 1e-7, (name, bound)
                checked += 1
    return checked


@given(st.data())
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@pytest.mark.slow
def test_rounding_changes_no_metric_by_more_than_its_bound(data):
    """Doubles that differ in bits that their keys lack: several of them share a bin."""
    shape = (data.draw(st.integers(1, 3)), data.draw(st.integers(2, 5)), data.draw(st.integers(2, 5)))
    seed = data.draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    steps = rng.integers(0, data.draw(st.sampled_from([2, 4, 50])), shape) / 16
    maps = 1 + steps + rng.integers(0, 5, shape) * 2.0**-40
    masks = rng.random(shape) < 0.3
    part = part_of(maps, masks)
    assert_within_bounds(part, counted(part))


def test_wider_bins_change_no_metric_by_more_than_their_bound(monkeypatch):
    monkeypatch.setattr(histogram, "MAX_BINS", 1 << 18)  # 4 pages at level 0
    maps, masks = random_data(n=40)
    part = part_of(maps, masks)
    scores = counted(part)
    assert scores.level > 3
    assert assert_within_bounds(part, scores) == 16


def test_counts_and_weights_of_a_histogram_are_all_there(monkeypatch):
    monkeypatch.setattr(histogram, "MAX_BINS", 1 << 18)
    maps, masks = random_data(n=40)
    part = part_of(maps, masks)
    totals = counted(part).totals()
    assert (totals.normal, totals.anomalous) == (part.normal.size, part.anomalous.size)
    assert (totals.lowest, totals.highest) == (maps.min(), maps.max())
    assert totals.weight / 2**38 == pytest.approx(part.regions, abs=1e-6)
    last = list(counted(part).blocks())[-1]
    assert (last.true_positives[-1], last.weight[-1]) == (totals.anomalous, totals.weight)


@pytest.mark.slow
def test_counts_beyond_32_bits_do_not_wrap(monkeypatch):
    maps, masks = random_data()
    part = part_of(maps, masks)
    expected = counted(part, part)
    monkeypatch.setattr(histogram, "_MAX_COUNT", part.size + 1)
    wide = counted(part, part)
    assert [counts.dtype for counts in wide._counts] == [np.int64] * 3
    assert state(wide) == state(expected)


def state(scores):
    """Everything a histogram holds, in an order that does not depend on how it came in."""
    pages = {n: [counts.astype(np.int64).tobytes() for counts in scores._page(n)] for n in sorted(scores._rows)}
    return pages, scores.level, scores.totals(), scores.rounded


@pytest.mark.parametrize("max_bins", [1 << 26, 1 << 18])
def test_the_same_scores_make_the_same_histogram_in_any_order_and_from_any_parts(monkeypatch, max_bins):
    monkeypatch.setattr(histogram, "MAX_BINS", max_bins)
    maps, masks = random_data(n=40)
    maps[7] *= 1000  # pages of its own
    parts = [part_of(maps[i : i + 8], masks[i : i + 8]) for i in range(0, 40, 8)]
    expected = state(counted(*parts))
    assert state(counted(*parts[::-1])) == expected
    one, two, three = counted(*parts[:2]), counted(*parts[2:3]), counted(*parts[3:])
    before = state(two)
    one.merge(two)
    one.merge(three)
    assert state(one) == expected
    assert state(two) == before
    three.merge(two)
    three.merge(counted(*parts[:2]))
    assert state(three) == expected


def test_a_range_of_float32_scores_is_not_widened_by_its_limits():
    """The limits of a range are doubles: rounded to float32, 1 + 2 ** -30 would be 1."""
    part = part_of(np.float32([[[1.0, 2.0]]]), np.array([[[True, False]]]))
    above = part.between(1 + 2**-30, np.inf)
    assert (above.anomalous.size, above.normal.tolist()) == (0, [2.0])


def test_a_histogram_survives_pickling_without_its_empty_bins():
    maps, masks = random_data()
    scores = counted(part_of(maps, masks))
    content = pickle.dumps(scores)
    assert len(content) < 1.1 * len(scores._rows) * 65536 * 10
    restored = pickle.loads(content)
    assert state(restored) == state(scores)
    restored.merge(scores)
    assert restored.totals().normal == 2 * scores.totals().normal


@pytest.mark.parametrize("at_most", [1, 7, 1000, 10**6])
def test_ranges_follow_each_other_and_hold_what_they_say(at_most):
    maps, masks = random_data()
    maps = np.round(maps, 2).astype(np.float64)
    ranges = list(counted(part_of(maps, masks)).ranges(at_most))
    assert (ranges[0][1], ranges[-1][0]) == (np.inf, -np.inf)
    assert all(upper[0] == lower[1] for upper, lower in pairwise(ranges))
    held = [int(((maps >= low) & (maps < high)).sum()) for low, high, _ in ranges]
    assert held == [count for _, _, count in ranges]
    assert sum(held) == maps.size
    many = [n for n, (low, high, _) in zip(held, ranges, strict=True) if n > at_most]
    assert all(n in np.unique(maps, return_counts=True)[1] for n in many)


# ---------------------------------------------------------------- evaluate and Accumulator


def close(result, expected, tolerance=1e-6):
    for protocol, values in expected["mean"].items():
        for key, value in values.items():
            got = result["mean"][protocol][key]
            assert got == (None if value is None else pytest.approx(value, abs=tolerance)), (protocol, key)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scores_are_read_again_where_rounding_could_show(monkeypatch, dtype):
    """float64 scores lose bits, and float32 ones when the bins are few: after a second reading all metrics are exact."""
    maps, masks = random_data(n=30, dtype=dtype)
    expected = evaluate(maps, masks)
    monkeypatch.setattr(class_scores, "EXACT_PIXELS", 500)
    monkeypatch.setattr(histogram, "MAX_BINS", 1 << 18)
    again = evaluate(maps, masks)
    close(again, expected, 1e-11)
    assert again["notes"] == []
    batches = [maps[i : i + 7] for i in range(0, 30, 7)]
    assert evaluate(batches, masks) == again


@pytest.mark.parametrize("shift", [0.0, -1.2])
@pytest.mark.slow
def test_many_pixels_of_one_score_are_no_obstacle_to_a_second_reading(monkeypatch, shift):
    maps, masks = random_data(n=30, dtype=np.float64)
    maps += shift  # negative scores as well: nearly all doubles lie between the lowest and the highest
    maps[:, :8] = 0.3 + shift  # more pixels than may be kept, and neighbours in their bin
    maps[:, 8] = 0.3 + shift + 1e-12
    expected = evaluate(maps, masks)
    monkeypatch.setattr(class_scores, "EXACT_PIXELS", 500)
    result = evaluate(maps, masks)
    assert result["notes"] == []
    close(result, expected, 1e-4)  # AU-PRO: the weights of neighbouring doubles are kept together
    for key in set(KEYS) - {"region_aupro", "mad"}:
        assert result["mean"]["exact"][key] == pytest.approx(expected["mean"]["exact"][key], abs=1e-9)


def test_what_cannot_be_read_again_says_how_far_off_it_may_be(few_pixels):
    maps, masks = random_data(n=30, dtype=np.float64)
    maps = np.round(maps, 1) + np.arange(30)[:, None, None] * 1e-13
    result = evaluate((maps[i : i + 7] for i in range(0, 30, 7)), masks)
    notes = [note for note in result["notes"] if "more different scores than are kept apart" in note]
    assert len(notes) == 1
    assert "pixel_auroc by up to" in notes[0]
    assert evaluate(maps, masks)["notes"] == []


@pytest.mark.slow
def test_the_order_of_images_and_batches_changes_no_bit(few_pixels):
    maps, masks = random_data(n=30)
    classes = np.array(["b", "a", "c"] * 10)
    expected = evaluate(maps, masks, classes)
    order = np.random.default_rng(1).permutation(30)
    assert evaluate(maps[order], masks[order], classes[order]) == expected
    for step in (1, 4, 30):
        batches = (maps[i : i + step] for i in range(0, 30, step))
        assert json.dumps(evaluate(batches, iter([masks[:11], masks[11:]]), classes)) == json.dumps(expected)


def test_a_reader_may_fill_the_same_array_again():
    maps, masks = random_data(n=30)
    buffers = np.empty_like(maps[:2]), np.empty_like(masks[:2])

    def batches(values, buffer):
        for start in range(0, 30, 2):
            buffer[:] = values[start : start + 2]
            yield buffer

    assert evaluate(batches(maps, buffers[0]), batches(masks, buffers[1])) == evaluate(maps, masks)


def filled(maps, masks, classes, order):
    accumulator = Accumulator()
    for index in order:
        accumulator.update(maps[index], masks[index], classes[index])
    return accumulator


@pytest.mark.parametrize("exact_pixels", [10**6, 50])
@pytest.mark.slow
def test_accumulators_merge_in_any_order_to_the_same_bytes(monkeypatch, exact_pixels):
    monkeypatch.setattr(class_scores, "EXACT_PIXELS", exact_pixels)
    maps, masks = random_data(n=30)
    classes = np.array(["b", "a", "c"] * 10)
    pieces = np.array_split(np.random.default_rng(2).permutation(30), 6)
    expected = json.dumps(evaluate(maps, masks, classes))
    together = filled(maps, masks, classes, pieces)
    assert json.dumps(together.compute()) == expected
    one, two, three = (filled(maps, masks, classes, pieces[i : i + 2]) for i in (0, 2, 4))
    one.merge(pickle.loads(pickle.dumps(two)))
    one.merge(three)
    assert json.dumps(one.compute()) == expected
    three.merge(filled(maps, masks, classes, pieces[:2]))
    three.merge(two)
    assert json.dumps(three.compute()) == expected
    assert json.dumps(three.compute()) == expected  # computing changes nothing


def test_an_accumulator_takes_labels_scores_and_images_without_a_mask():
    maps, masks = random_data(n=6)
    labels, has_mask = [1, 1, 0, 1, 0, 1], [False, True, True, True, False, True]
    scores = np.linspace(0, 1, 6)
    expected = evaluate(maps, masks, None, labels, scores, has_mask=has_mask)
    accumulator = Accumulator()
    for i in range(6):
        accumulator.update(
            maps[i : i + 1], masks[i : i + 1], None, labels[i : i + 1], scores[i : i + 1], has_mask[i : i + 1]
        )
    assert accumulator.compute() == expected


def test_a_batch_that_is_wrong_changes_nothing_and_names_the_image_by_all_so_far():
    maps, masks = random_data(n=6)
    accumulator = Accumulator()
    accumulator.update(maps[:3], masks[:3])
    before = accumulator.compute()
    wrong = maps[3:].copy()
    wrong[1, 0, 0] = np.nan
    with pytest.raises(InputError, match=r"image 4 \(class 'all'\) holds NaN"):
        accumulator.update(wrong, masks[3:])
    accumulator.update(maps[4:5], masks[4:5].astype(np.uint8))
    other = Accumulator()
    other.update(maps[5:], masks[5:].astype(np.uint8) * 255)
    with pytest.raises(InputError, match="images with 1 and images with 255"):
        accumulator.update(maps[5:], masks[5:].astype(np.uint8) * 255)
    with pytest.raises(InputError, match="images with 1 and images with 255"):
        accumulator.merge(other)
    expected = Accumulator()
    expected.update(maps[[0, 1, 2, 4]], masks[[0, 1, 2, 4]])
    assert accumulator.compute() == expected.compute() != before


def test_an_accumulator_without_images_has_nothing_to_compute():
    with pytest.raises(InputError, match="anomaly_maps: empty"):
        Accumulator().compute()


@pytest.mark.parametrize(
    ("maps", "masks", "classes", "told"),
    [
        ((4, 3), (2, 2), None, "masks: end after 4 images"),
        ((4,), (2, 3), None, "masks: there are more of them than anomaly_maps"),
        ((4,), (4,), ["a"] * 3, "given for 3 images, but there are more anomaly_maps"),
        ((4,), (4,), ["a"] * 5, "given for 5 images, but there are 4 anomaly_maps"),
    ],
)
def test_streams_of_different_lengths_are_refused(maps, masks, classes, told):
    def batches(lengths, dtype):
        return (np.zeros((n, 2, 2), dtype) for n in lengths)

    with pytest.raises(InputError) as error:
        evaluate(batches(maps, float), batches(masks, bool), classes)
    assert told in str(error.value)


def test_streams_of_different_image_sizes_are_refused():
    with pytest.raises(InputError, match=r"masks: height and width \(2, 3\) differ"):
        evaluate(iter([np.zeros((1, 2, 2))]), iter([np.zeros((1, 2, 3), bool)]))
