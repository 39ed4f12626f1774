"""Intervals over test images: against direct resampling with the exact metrics, by hand, and what must hold for any input."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from invad.errors import InputError
from invad.metrics import KEYS, bootstrap, evaluate, intervals
from invad.metrics.binning import bins_of
from invad.metrics.evaluation import samples
from invad.metrics.protocol import PIXEL_KEYS, SAMPLE_KEYS


def noise(n=40, size=64, decimals=None):
    """Maps float32 of independent pixels, the hardest for bins; every second mask is empty."""
    rng = np.random.default_rng(0)
    masks = rng.random((n, size, size)) < 0.1
    masks[::2] = False
    maps = rng.normal(size=masks.shape) + masks
    return (maps if decimals is None else np.round(maps, decimals)).astype(np.float32), masks


def blobs(n=40, size=64, shift=0.0, spread=16):
    """Smooth maps and one region in every second image."""
    rng = np.random.default_rng(0)
    rows, columns = np.ogrid[:size, :size]
    masks = np.zeros((n, size, size), bool)
    for mask in masks[1::2]:
        (row, column), (height, width) = rng.integers(0, size, 2), rng.integers(4, spread, 2)
        mask |= ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 < 1
    maps = [ndimage.gaussian_filter(rng.gamma(6, 0.05, mask.shape) + 0.1 * mask, 2) for mask in masks]
    return (np.stack(maps) + shift).astype(np.float32), masks


def one_region(n=40, size=64):
    maps, masks = noise(n, size)
    masks[np.arange(n) != 3] = False
    return maps, masks


SCORES = {
    "one sign": blobs(),
    "around zero": blobs(shift=-0.3),
    "independent": noise(),
    "ties": noise(decimals=1),
    "some ties": noise(decimals=2),
    "half of them zero": (np.maximum(noise()[0], 0), noise()[1]),
    "saturated": (np.minimum(noise()[0], 1), noise()[1]),
    "constant": (np.ones((6, 8, 8)), noise(6, 8)[1]),
    "a huge offset": (1e9 + 1e-3 * noise()[0].astype(np.float64), noise()[1]),
    "a long tail": (np.exp(4 * noise()[0]), noise()[1]),
    "the whole range": (noise(4, 8)[0] * np.float32(7e37), noise(4, 8)[1]),
    "bytes": ((100 * blobs()[0]).astype(np.uint8), blobs()[1]),
    "one anomalous image": one_region(),
}


FEW_SCORES = ("ties", "constant", "the whole range", "bytes")


@pytest.mark.parametrize("scores", SCORES)
def test_images_as_they_are_have_the_values_of_evaluate(scores, monkeypatch):
    """An interval of a single replicate reaches from its value to the exact one."""
    monkeypatch.setattr(intervals, "draws", lambda kinds, replicates, _: np.ones((replicates, kinds.size)))
    values = evaluate(*SCORES[scores], protocol="exact")["mean"]["exact"]
    mean = bootstrap(*SCORES[scores], replicates=1)["mean"]
    assert list(mean) == list(KEYS)
    assert all(low <= values[key] <= high for key, (low, high) in mean.items())
    apart = {key: high - low for key, (low, high) in mean.items()}
    assert max(apart.values()) < 1e-3
    assert max(apart[key] for key in KEYS if key.startswith("image_")) < 1e-12
    assert max(apart[key] for key in ("pixel_mf1", "pixel_macc", "pixel_miou")) < 1e-12
    if scores in FEW_SCORES:
        assert max(apart.values()) < 1e-7


def test_values_of_many_pixels_are_closer(monkeypatch):
    monkeypatch.setattr(intervals, "draws", lambda kinds, replicates, _: np.ones((replicates, kinds.size)))
    mean = bootstrap(*blobs(n=60, size=128, spread=60), replicates=1)["mean"]
    assert max(high - low for low, high in mean.values()) < 1e-4


# ---------------------------------------------------------------- direct resampling


def toy(n=13, size=6):
    """Few pixels, of which each image has the lowest and the highest normal, so that all replicates have one scale; image 3 has no mask."""
    rng = np.random.default_rng(1)
    masks = rng.random((n, size, size)) < 0.25
    masks[::3] = masks[:, 0, :2] = False
    maps = (np.round(rng.normal(size=masks.shape), 1) + masks).astype(np.float32)
    maps[:, 0, 0], maps[:, 0, 1] = -9, 9
    labels = masks.any(axis=(1, 2))
    labels[3] = True
    return maps, masks, labels, rng.normal(size=n) + labels, np.arange(n) != 3


@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_are_those_of_direct_resampling(grouped):
    maps, masks, labels, scores, has_mask = toy()
    names = np.array(["a", "", "a", "b", "c", "b", "", "c", "c", "d", "d", "", ""]) if grouped else np.full(13, "")
    shown, _, anomalous = samples(scores, labels, names)
    masked = np.array([masks[shown == number].any() for number in range(anomalous.size)])
    weights = intervals.draws(anomalous + 2 * masked, 60, np.random.default_rng([5, *b"all"]))
    assert set(weights[:, ~anomalous].sum(axis=1)) == {np.sum(~anomalous)}
    drawn = []
    for times in weights[:, shown].astype(int):
        at = np.repeat(np.arange(13), times)
        copies = np.concatenate([np.arange(each) for each in times])
        objects = [f"{names[i]}{copy}" if names[i] else "" for i, copy in zip(at, copies, strict=True)]
        given = maps[at], masks[at], None, labels[at], scores[at], "exact", has_mask[at]
        drawn.append(evaluate(*given, groups=objects)["mean"]["exact"])
    given = maps, masks, None, labels, scores, has_mask
    mean = bootstrap(*given, groups=names if grouped else None, replicates=60, confidence=0.6, seed=5)["mean"]
    assert list(mean) == [*KEYS, *(SAMPLE_KEYS if grouped else ())]
    exact = evaluate(*given[:5], "exact", has_mask, groups=names)["mean"]["exact"]
    for key, interval in mean.items():
        low, high = np.quantile([values[key] for values in drawn], [0.2, 0.8])
        assert interval == pytest.approx([min(low, exact[key]), max(high, exact[key])], abs=1e-8), key
        assert interval[0] < interval[1] or low == high, key


def test_image_au_roc_by_hand():
    """Normal images at 1 and 3, an anomalous one at 2: both normal ones drawn at 1, one of each, both at 3, in 1/4, 1/2, 1/4 of all."""
    given = np.array([1.0, 3, 2]).reshape(3, 1, 1), None, None, [0, 0, 1]
    for confidence, interval in ((0.4, [0.5, 0.5]), (0.6, [0.0, 1.0])):
        assert bootstrap(*given, confidence=confidence)["mean"]["image_auroc"] == interval


def test_each_kind_of_item_is_drawn_as_often_as_there_are():
    kinds = np.array([0, 1, 0, 0, 3, 1])
    weights = intervals.draws(kinds, 4000, np.random.default_rng(0))
    assert all((weights[:, kinds == kind].sum(axis=1) == np.sum(kinds == kind)).all() for kind in kinds)
    assert (weights[:, 4] == 1).all()
    assert weights.mean(axis=0) == pytest.approx(1, abs=0.05)
    assert weights[:, kinds == 0].var(axis=0) == pytest.approx(2 / 3, abs=0.05)  # binomial, 3 draws of 1/3


# ---------------------------------------------------------------- what must hold

CLASSES = ["b", "a"] * 10


def two_classes():
    maps, masks = noise(20, 8)
    return maps, np.roll(masks, 1, axis=0) | masks, CLASSES, np.arange(20) % 4 > 1


def test_the_same_images_give_the_same_numbers_however_they_come():
    maps, masks, classes, labels = two_classes()
    whole = bootstrap(maps, masks, classes, labels)
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole
    assert (whole["replicates"], whole["confidence"], whole["seed"]) == (1000, 0.95, 0)
    evaluation = evaluate(maps, masks, classes, labels)
    batches = [maps[:3], maps[3:4], maps[4:]], [masks[:19], masks[19:]]
    assert bootstrap(*batches, classes, labels, evaluation=evaluation) == whole
    assert bootstrap(maps, masks.astype(np.uint8) * 255, classes, labels.tolist()) == whole
    assert bootstrap(maps, masks * 0.75, classes, labels) == whole
    other = bootstrap(maps, masks, classes, labels, seed=1)
    assert other["per_class"]["a"]["pixel_ap"] != whole["per_class"]["a"]["pixel_ap"]


def test_blocks_change_nothing(monkeypatch):
    maps, masks, classes, labels = two_classes()
    whole = bootstrap(maps, masks, classes, labels, replicates=50)
    monkeypatch.setattr("invad.metrics.reading.BLOCK_PIXELS", 192)
    monkeypatch.setattr(intervals, "CHUNK", 7)
    assert bootstrap(maps, masks, classes, labels, replicates=50) == whole


def test_a_class_does_not_depend_on_others_and_the_mean_is_narrower():
    maps, masks, classes, labels = two_classes()
    both = bootstrap(maps, masks, classes, labels)
    alone = bootstrap(maps[1::2], masks[1::2], classes[1::2], labels[1::2])
    assert list(both["per_class"]) == ["a", "b"]
    assert alone["per_class"]["a"] == both["per_class"]["a"] == alone["mean"]
    for key in ("image_ap", "pixel_auroc", "region_aupro", "mad"):
        low, high = both["mean"][key]
        assert high - low < max(each[key][1] - each[key][0] for each in both["per_class"].values())


def test_a_metric_without_a_value_has_no_interval():
    maps, masks, classes, labels = two_classes()
    masks[1::2] = labels[1::2] = False
    found = bootstrap(maps, masks, classes, labels, replicates=20)
    assert set(found["per_class"]["a"].values()) == {None}
    assert found["mean"] == found["per_class"]["b"]
    without = bootstrap(maps, None, classes, labels, replicates=20)
    assert {key for key, interval in without["mean"].items() if interval is None} >= set(PIXEL_KEYS)
    assert without["mean"]["image_ap"] == found["mean"]["image_ap"]


def test_a_single_image_of_a_kind_is_in_every_replicate():
    maps, masks = one_region(6, 8)
    assert None not in bootstrap(maps, masks, replicates=200)["mean"].values()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"replicates": 0}, "replicates: expected at least 1, got 0"),
        ({"confidence": 1.0}, "confidence: expected a number above 0 and below 1, got 1.0"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
        ({"evaluation": evaluate(*noise(4, 8), protocol="paper")}, "evaluation: lacks the exact protocol"),
        ({"anomaly_maps": iter([noise(4, 8)[0]])}, "anomaly_maps: an iterator is read once"),
        ({"masks": iter([noise(4, 8)[1]])}, "masks: an iterator is read once"),
        ({"labels": [0, 1]}, "labels: expected 4 values"),
    ],
)
def test_mistakes(options, problem):
    maps, masks = noise(4, 8)
    with pytest.raises(InputError, match=problem):
        bootstrap(**({"anomaly_maps": maps, "masks": masks} | options))


@given(
    hnp.arrays(np.float32, (3, 2, 3), elements=st.floats(allow_nan=False, allow_infinity=False, width=32)),
    hnp.arrays(bool, (3, 2, 3)),
)
@settings(deadline=None, derandomize=True, database=None)
def test_pixels_are_counted_at_or_above_each_edge(maps, masks):
    """Whatever the range of the scores is, one that overflows among them."""
    bins = bins_of(maps[~masks], maps[masks], float(maps.min()), float(maps.max()))
    counts = bins.counts(maps, masks)
    above = maps[:, :, :, None] >= bins.edges
    assert np.array_equal(counts.normal, np.sum(above & ~masks[..., None], axis=(1, 2)))
    assert np.array_equal(counts.anomalous, np.sum(above & masks[..., None], axis=(1, 2)))
    assert (bins.edges[0] > maps.max(), bins.edges[-1]) == (True, maps.min())
