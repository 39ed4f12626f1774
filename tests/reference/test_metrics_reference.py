"""Metrics against reference values, made once by the paper's own implementation. Skipped where these are not at hand."""

import json

import numpy as np
import pytest
from reference_files import reference_files

from invad.metrics import AVERAGES, KEYS, evaluate, ranking


@pytest.fixture(scope="module", params=reference_files("metrics_*.npz"))
def data(request):
    """Maps, masks and classes, and the values expected of them, with `per_class` and `mean`."""
    with np.load(request.param) as arrays:
        given = [arrays[name] for name in ("anomaly_maps", "masks", "classes")]
    return given, json.loads(request.param.with_suffix(".json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def reference(data):
    """(result, expected), both with `per_class` and `mean`."""
    given, expected = data
    return evaluate(*given), expected


@pytest.mark.parametrize("protocol", ["paper", "exact"])
@pytest.mark.parametrize("key", KEYS)
def test_agrees_with_the_reference_per_class_and_in_the_mean(reference, protocol, key):
    result, expected = reference
    pairs = [
        (got[protocol][key], want[protocol][key])
        for got, want in [
            *((result["per_class"][name], expected["per_class"][name]) for name in expected["per_class"]),
            (result["mean"], expected["mean"]),
        ]
        if key in want[protocol]
    ]
    # the reference holds averages of the mean only, and no threshold family under "exact", where it is the same
    family = ("pixel_mf1", "pixel_macc", "pixel_miou")
    without = protocol == "exact" and (key in family or key in AVERAGES)
    assert len(pairs) == (0 if without else 1 if key in AVERAGES else 1 + len(expected["per_class"]))
    for got, want in pairs:
        assert got == pytest.approx(want, abs=1e-10)


def test_the_threshold_family_is_the_same_in_both_protocols(reference):
    result, _ = reference
    for key in ("pixel_mf1", "pixel_macc", "pixel_miou", "mad_threshold"):
        assert result["mean"]["exact"][key] == result["mean"]["paper"][key]


@pytest.mark.slow
def test_batches_give_the_same_bits_as_arrays(data, monkeypatch):
    given, _ = data
    arrays = evaluate(*given)
    monkeypatch.setattr(ranking, "RANGE_ITEMS", 5000)
    monkeypatch.setattr(ranking, "PAGE_ITEMS", 500)
    maps, masks = (np.array_split(values, 5) for values in given[:2])
    assert evaluate(maps, masks, given[2]) == arrays
