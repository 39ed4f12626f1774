"""SegAD against what its authors' implementation makes of the same maps, segments and labels."""

import numpy as np
import pytest
from reference_files import reference_arrays

from invad.metrics.images import image_values
from invad.supervised.forest import fit, margins
from invad.supervised.statistics import feature_names, image_features

DETECTORS = {"one": 1, "all": 2}


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return reference_arrays("segad_a")


def features_of(arrays: dict[str, np.ndarray], which: str) -> np.ndarray:
    count, maps = int(arrays["components"]), arrays["maps"][: DETECTORS[which]]
    return np.array([image_features(maps[:, index], each, count) for index, each in enumerate(arrays["segments"])])


@pytest.mark.parametrize("which", DETECTORS)
def test_the_features_are_those_of_the_authors(arrays, which):
    found, expected = features_of(arrays, which), arrays[f"features64_{which}"]
    assert np.isnan(expected).any()
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found, arrays[f"features_{which}"], rtol=1e-5, atol=1e-5)
    assert found.shape[1] == len(feature_names(DETECTORS[which], int(arrays["components"])))


@pytest.mark.parametrize("which", DETECTORS)
def test_the_margins_and_their_metrics_are_those_of_the_authors(arrays, which):
    features, labels = features_of(arrays, which), arrays["labels"]
    for seed in arrays["seeds"].tolist():
        train, test = arrays[f"train_rows_{seed}"], arrays[f"test_rows_{seed}"]
        forest = fit(features[train], labels[train], seed=seed)
        for rows, key in ((test, "scores"), (train, "train_scores")):
            expected, found = arrays[f"{key}_{which}_{seed}"], margins(forest, features[rows])
            assert np.abs(found - expected).max() <= 0.15
            assert np.corrcoef(found, expected)[0, 1] >= 0.999
        values = image_values(margins(forest, features[test]), labels[test])
        auroc, fpr95 = arrays[f"metrics_{which}_{seed}"]
        assert abs(values["image_auroc"] - auroc) <= 0.01
        # The wheel for CPUs rounds otherwise: it may move one image over the threshold.
        assert abs(values["image_fpr95"] - fpr95) * np.sum(labels[test] == 0) <= 1 + 1e-9
        exact = image_values(arrays[f"scores_{which}_{seed}"], labels[test])
        np.testing.assert_allclose([exact["image_auroc"], exact["image_fpr95"]], [auroc, fpr95], atol=1e-12)
        # The detector alone, on the same rows: there nothing is rounded differently.
        alone = image_values(arrays["maps"][0][test].max(axis=(1, 2)), labels[test])
        np.testing.assert_allclose(
            [alone["image_auroc"], alone["image_fpr95"]], arrays[f"metrics_base_{seed}"], atol=1e-12
        )
