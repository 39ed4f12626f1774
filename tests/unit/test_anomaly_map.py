"""Anomaly maps: values derived by hand, and the blur against scipy's."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from invad.errors import InputError
from invad.methods.maps import gaussian_blur, reconstruction_map


def anomaly_map(features, reconstructions, size, sigma, **choices):
    return gaussian_blur(reconstruction_map(features, reconstructions, size, **choices), sigma)


def random_levels(seed=0, batch=2):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, c, n, n, generator=generator) for c, n in ((4, 16), (6, 8), (8, 4))]


def test_identical_features_give_zero():
    levels = random_levels()
    maps = anomaly_map(levels, levels, size=64, sigma=4)
    torch.testing.assert_close(maps, torch.zeros(2, 64, 64), rtol=0, atol=1e-6)


def test_opposite_features_give_two_before_and_after_the_blur():
    levels = random_levels()
    opposite = [-x for x in levels]
    for sigma in (0, 4):
        maps = anomaly_map(levels, opposite, size=64, sigma=sigma)
        torch.testing.assert_close(maps, torch.full((2, 64, 64), 2.0), rtol=0, atol=1e-6)


def test_the_length_of_a_feature_does_not_matter():
    levels, other = random_levels(0), random_levels(1)
    torch.testing.assert_close(
        anomaly_map([3 * x for x in levels], [0.5 * y for y in other], size=32, sigma=1),
        anomaly_map(levels, other, size=32, sigma=1),
        rtol=0,
        atol=1e-6,
    )


def test_levels_weigh_the_same_whatever_their_channels():
    # One level agrees (cosine 1), one of three times the channels is orthogonal (cosine 0): the concatenation has cosine 1/2.
    fine, coarse = torch.ones(1, 2, 8, 8), torch.ones(1, 6, 4, 4)
    orthogonal = torch.tensor([1.0, -1.0] * 3).reshape(1, 6, 1, 1).expand(1, 6, 4, 4)
    maps = anomaly_map([fine, coarse], [fine, orthogonal], size=8, sigma=0)
    torch.testing.assert_close(maps, torch.full((1, 8, 8), 0.5))


def test_a_chosen_level_is_that_level_alone_and_the_sum_is_theirs():
    features, other = random_levels(0), random_levels(1)
    alone = [anomaly_map([x], [y], size=32, sigma=1) for x, y in zip(features, other, strict=True)]
    for expected, levels in zip(alone, ("fine", "middle", "coarse"), strict=True):
        assert torch.equal(anomaly_map(features, other, size=32, sigma=1, levels=levels), expected)
    torch.testing.assert_close(
        anomaly_map(features, other, size=32, sigma=1, levels="sum"), sum(alone), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    ("levels", "expected"), [("concatenated", 13.0), ("sum", 17.0), ("fine", 5.0), ("coarse", 12.0)]
)
def test_l2_is_the_length_of_the_difference(levels, expected):
    fine = torch.ones(1, 2, 8, 8)
    coarse = torch.ones(1, 1, 4, 4)
    shifted = fine + torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    maps = anomaly_map([fine, coarse], [shifted, coarse + 12], size=8, sigma=0, levels=levels, distance="l2")
    torch.testing.assert_close(maps, torch.full((1, 8, 8), expected))


def test_resizing_aligns_the_corners():
    # Cosines 1, 0 from left to right on a 2-pixel grid: 1 - cosine at 5 pixels is 0, 1/4, 1/2, 3/4, 1.
    features = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 2, 2)
    turned = torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1).expand(1, 2, 2, 1)
    reconstruction = torch.cat([features[..., :1], turned], dim=3)
    maps = anomaly_map([features], [reconstruction], size=(3, 5), sigma=0)
    torch.testing.assert_close(maps, torch.linspace(0, 1, 5).expand(1, 3, 5))


def test_a_local_defect_is_found_where_it_is():
    features = torch.ones(1, 4, 16, 16)
    reconstruction = features.clone()
    reconstruction[:, :, 12, 3] *= -1
    maps = anomaly_map([features], [reconstruction], size=16, sigma=1)
    assert divmod(maps.argmax().item(), 16) == (12, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_maps_are_float32_whatever_the_features_are(dtype):
    levels = [x.to(dtype) for x in random_levels()]
    assert anomaly_map(levels, levels, size=16, sigma=0).dtype == torch.float32
    assert anomaly_map(levels, levels, size=16, sigma=2).dtype == torch.float32
    assert gaussian_blur(torch.ones(1, 4, 4, dtype=dtype), 0).dtype == torch.float32


def test_autocast_does_not_change_the_maps():
    levels, other = random_levels(0), random_levels(1)
    expected = anomaly_map(levels, other, size=32, sigma=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = anomaly_map(levels, other, size=32, sigma=2)
    assert torch.equal(maps, expected)


def test_an_all_zero_feature_is_no_division_by_zero():
    levels = [torch.zeros(1, 4, 4, 4)]
    assert torch.equal(anomaly_map(levels, levels, size=4, sigma=0), torch.ones(1, 4, 4))


@pytest.mark.parametrize("sigma", [0, 0.5, 4, 50])
def test_blur_keeps_a_constant_map(sigma):
    maps = torch.full((2, 9, 12), 1.5)
    torch.testing.assert_close(gaussian_blur(maps, sigma), maps, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(64, 64), (17, 40), (3, 5), (1, 7), (1, 1)])
@pytest.mark.parametrize(
    "sigma", [0.1, 0.7, 1, 4, 10.3]
)  # at 10.3 the radius is 41: larger than most of the maps, some times over
def test_blur_is_scipys(shape, sigma):
    maps = np.random.default_rng(0).uniform(0, 2, (3, *shape)).astype(np.float32)
    expected = np.stack([gaussian_filter(m.astype(np.float64), sigma, mode="reflect", truncate=4.0) for m in maps])
    blurred = gaussian_blur(torch.from_numpy(maps), sigma)
    np.testing.assert_allclose(blurred.numpy(), expected, rtol=0, atol=1e-6)


def test_wrong_input_is_refused_by_name():
    levels = random_levels()
    with pytest.raises(InputError, match="reconstructions"):
        anomaly_map(levels, levels[:2], size=16, sigma=1)
    with pytest.raises(InputError, match="reconstructions"):
        anomaly_map(levels, [x[:1] for x in levels], size=16, sigma=1)
