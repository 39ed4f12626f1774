"""Metrics of many scores: sorted runs, ranges of them, batches of any kind."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from invad.errors import InputError
from invad.metrics import evaluate, ranking, reading
from invad.metrics.ranking import Keys, Ranking, Run, key_scores, region_areas, score_keys


def make_ranges_small(monkeypatch, page_items):
    """Blocks of 500 pixels, ranges of about 300."""
    monkeypatch.setattr(reading, "BLOCK_PIXELS", 500)
    monkeypatch.setattr(ranking, "RANGE_ITEMS", 300)
    monkeypatch.setattr(ranking, "PAGE_ITEMS", page_items)


@pytest.fixture(params=[20, 10**9])
def small_ranges(request, monkeypatch):
    """Pages of many items are ranges of their own, or none is."""
    make_ranges_small(monkeypatch, request.param)


def random_data(n=12, size=16, dtype=np.float32, seed=0):
    """Maps of scores around 0, almost without ties, higher where anomalous; every third mask is empty."""
    rng = np.random.default_rng(seed)
    masks = rng.random((n, size, size)) < 0.2
    masks[::3] = False
    return (rng.gamma(2, 0.05, masks.shape) + 0.1 * masks - 0.1).astype(dtype), masks


def run_of(normal, anomalous=(), dtype=np.float32):
    ones = np.ones(len(anomalous), np.int32)
    return Run.of(np.array(normal, dtype), np.array(anomalous, dtype), ones, ones)


# ---------------------------------------------------------------- keys and runs


@pytest.mark.parametrize("width", [32, 64])
@given(st.data())
@settings(deadline=None, derandomize=True, database=None)
def test_keys_are_in_the_order_of_the_scores_and_lead_back_to_them(width, data):
    finite = st.floats(allow_nan=False, allow_infinity=False, width=width)
    scores = np.sort(np.array(data.draw(st.lists(finite, min_size=1, max_size=30)), dtype=f"float{width}"))
    keys = score_keys(scores)
    assert keys.itemsize == scores.itemsize
    assert ((np.diff(keys.astype(object)) > 0) == (np.diff(scores.astype(np.longdouble)) > 0)).all()
    assert np.array_equal(key_scores(keys), scores)
    shuffled = np.random.default_rng(0).permutation(scores)
    by_page, order = Keys.of(shuffled, np.arange(keys.size, dtype=np.int32))
    whole = by_page.read(slice(0, keys.size))
    assert np.array_equal(whole, score_keys(shuffled[order]))
    assert (np.diff(whole >> (8 * keys.itemsize - 16)) >= 0).all()
    assert np.array_equal(np.sort(whole), keys)


def test_zero_has_one_key():
    assert score_keys(np.float32([-0.0, 0.0])).tolist() == score_keys(np.array([-0.0, 0.0])).tolist() == [0, 0]


def test_a_run_takes_half_of_the_bytes_of_single_precision_scores():
    maps = random_data(n=300)[0] + 1
    run = run_of(maps.ravel())
    assert run.normal.low.nbytes == maps.nbytes / 2
    assert (run.normal.pages.nbytes + run.normal.starts.nbytes) < maps.nbytes / 10
    assert (run.lowest, run.highest) == (maps.min(), maps.max())


def test_an_array_is_not_copied_and_doubles_that_single_precision_holds_take_its_memory():
    maps, masks = random_data(dtype=np.float64)
    singles = maps.astype(np.float32).astype(np.float64)
    for stack, low in ((singles, np.uint16), (maps, np.int64)):
        table = reading.ImageTable(stack, masks, None, None, None, None)
        block = next(table.blocks())
        assert np.shares_memory(block[1], stack)
        assert np.shares_memory(block[2], masks)
        assert [each.pixels.normal.low.dtype for each in table.prepared(block)] == [low]
    assert evaluate(singles, masks) == evaluate(singles.astype(np.float32), masks)


def test_areas_follow_their_scores():
    run = Run.of(np.float32([]), np.float32([0.3, 0.1, 0.2]), np.int32([30, 10, 20]), np.int32([10, 20, 30]))
    assert run.areas.tolist() == [10, 20, 30]
    assert key_scores(run.anomalous.read(slice(0, 3))).tolist() == np.float32([0.1, 0.2, 0.3]).tolist()
    assert run.areas.dtype == np.uint8


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_regions_are_those_of_scipy(share):
    rng = np.random.default_rng(0)
    for shape in [(1, 1, 1), (2, 1, 9), (2, 9, 1), *rng.integers(1, 9, (20, 3)).tolist()]:
        masks = rng.random(shape) < share
        of_pixels, of_regions = region_areas(masks)
        labels = [ndimage.label(mask, np.ones((3, 3)))[0] for mask in masks]
        areas = [np.bincount(label.ravel()) for label in labels]
        each = zip(areas, labels, masks, strict=True)
        assert of_pixels.tolist() == np.concatenate([area[label[mask]] for area, label, mask in each]).tolist()
        assert sorted(of_regions.tolist()) == sorted(np.concatenate([area[1:] for area in areas]).tolist())


# ---------------------------------------------------------------- ranges


def walked(runs, thresholds):
    """The blocks of a walk as one, and what is above the thresholds."""
    blocks = []
    above = Ranking(runs, "pixel").walk(thresholds, blocks.append)
    return ranking.Block(*map(np.concatenate, zip(*blocks, strict=True))), above


def test_a_walk_counts_all_items_at_all_anomalous_scores_from_the_highest_down(small_ranges):
    maps, masks = random_data()
    runs = [run_of(maps[~masks], maps[masks]), run_of(maps[~masks])]
    normal, anomalous = np.repeat(maps[~masks], 2), maps[masks]
    assert len(Ranking(runs, "pixel")._first_pages()) > 10
    block, above = walked(runs, [0.5])
    expected = np.unique(anomalous)[::-1]
    assert np.array_equal(block.scores, expected)
    assert block.gained.sum() == anomalous.size
    assert block.true_positives.tolist() == [np.sum(anomalous >= score) for score in expected]
    assert block.false_positives.tolist() == [np.sum(normal >= score) for score in expected]
    assert block.false_positives_above.tolist() == [np.sum(normal > score) for score in expected]
    middle = (float(maps.min()) + float(maps.max())) / 2
    assert above[:2, 0].tolist() == [np.sum(anomalous > middle), np.sum(normal > middle)]


def test_a_page_of_many_items_is_one_range(monkeypatch):
    monkeypatch.setattr(ranking, "PAGE_ITEMS", 100)
    runs = [run_of([0.5] * 40 + [0.25], [0.5, 0.75]) for _ in range(40)]
    pages = Ranking(runs, "pixel")._first_pages()
    many = int(score_keys(np.float32([0.5]))[0]) >> 16
    assert pages[pages.index(many) + 1] == many + 1
    block, above = walked(runs, [0.0, 0.5])
    assert block.scores.tolist() == [0.75, 0.5]
    assert (block.gained.tolist(), block.false_positives_above.tolist()) == ([40, 40], [0, 0])
    assert block.false_positives.tolist() == [0, 1600]
    # Scaled, 0.25, 0.5 and 0.75 are 0, 0.5 and 1.
    assert above[:2].tolist() == [[80, 40], [1600, 0]]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("decimals", [1, 4])
@pytest.mark.parametrize("page_items", [20, 10**9])
def test_how_scores_are_cut_into_blocks_and_ranges_changes_no_bit(monkeypatch, dtype, decimals, page_items):
    maps, masks = random_data(n=30, dtype=dtype)
    maps = np.round(maps, decimals)
    classes = np.array(["b", "a", "c"] * 10)
    expected = json.dumps([evaluate(maps, masks), evaluate(maps, masks, classes, curves=True)])
    make_ranges_small(monkeypatch, page_items)
    assert json.dumps([evaluate(maps, masks), evaluate(maps, masks, classes, curves=True)]) == expected


# ---------------------------------------------------------------- batches


@pytest.mark.slow
def test_the_order_of_images_and_batches_changes_no_bit(small_ranges):
    maps, masks = random_data(n=30)
    classes = np.array(["b", "a", "c"] * 10)
    expected = evaluate(maps, masks, classes)
    order = np.random.default_rng(1).permutation(30)
    assert evaluate(maps[order], masks[order], classes[order]) == expected
    for step in (1, 4, 30):
        batches = (maps[i : i + step] for i in range(0, 30, step))
        assert json.dumps(evaluate(batches, iter([masks[:11], masks[11:]]), classes)) == json.dumps(expected)


def test_batches_of_different_types_are_one_class():
    """Single and double precision, integers and bool masks; a double that single precision cannot hold is not rounded."""
    maps, masks = random_data(n=6, dtype=np.float64)
    maps[0], maps[2:4] = np.float32(maps[0]), np.round(100 * maps[2:4])
    batches = [maps[:1].astype(np.float32), maps[1:2], maps[2:4].astype(np.int8), maps[4:]]
    assert evaluate(batches, [masks[:2], masks[2:].astype(np.uint8)]) == evaluate(maps, masks)


def test_a_reader_may_fill_the_same_array_again():
    maps, masks = random_data(n=30)
    buffers = np.empty_like(maps[:2]), np.empty_like(masks[:2])

    def batches(values, buffer):
        for start in range(0, 30, 2):
            buffer[:] = values[start : start + 2]
            yield buffer

    assert evaluate(batches(maps, buffers[0]), batches(masks, buffers[1])) == evaluate(maps, masks)


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
