"""Dinomaly: what it discards, its dropout, blur and refusals by hand; tests/reference has the authors' values."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate
from torch.nn import functional

from invad.config import DinomalyConfig, ScoreConfig
from invad.errors import InputError
from invad.features.batches import Batch
from invad.methods import EncoderOutput
from invad.methods.base import Position
from invad.methods.dinomaly import Dinomaly, blurred, hard_mined

OUTPUT = EncoderOutput("vit", (8, 8), 64, (16, 16), 1)
CONFIG = DinomalyConfig(blocks=2, head_width=4, map_size=16)


def batch_of(images: int, seeds: tuple[tuple[int, ...], ...] = ()) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(tuple(torch.randn(images, *shape, generator=generator) for shape in OUTPUT.shapes), seeds=seeds)


@pytest.fixture
def method() -> Dinomaly:
    torch.manual_seed(0)
    return Dinomaly(OUTPUT, CONFIG)


def test_places_that_fit_already_get_a_tenth_of_the_gradient_and_the_loss_stays():
    target = torch.tensor([[1.0, 0.0]]).reshape(1, 2, 1, 1).expand(1, 2, 1, 5)
    angles = torch.tensor([0.1, 1.0, 0.5, 1.5, 0.3])
    y = torch.stack([angles.cos(), angles.sin()]).reshape(1, 2, 1, 5).requires_grad_()
    mined = hard_mined(target, y, 0.6)  # 5 places, of which floor(5 * 0.4) = 2 are hard
    assert torch.equal(mined, y)
    mined.sum().backward()
    assert y.grad[0, 0, 0].tolist() == pytest.approx([0.1, 1, 0.1, 1, 0.1])


def test_the_share_that_is_discarded_rises_over_a_thousand_steps(method, monkeypatch):
    shares = []
    monkeypatch.setattr(method, "mined_loss", lambda batch, discarded: shares.append(discarded))
    for step in (0, 500, 1000, 9999):
        method.loss(batch_of(1), Position(0, step, 10_000, 0, 1))
    assert shares == pytest.approx([0, 0.45, 0.9, 0.9])


def test_dropout_depends_on_seed_epoch_and_image_alone(method):
    one, two, later = (0, 3, 7), (0, 3, 8), (0, 4, 7)
    together, apart = batch_of(2, (one, two)), [batch_of(1, (seed,)) for seed in (one, two, later)]
    masks = together.kept(0.8, 17, 6 * 8)
    assert torch.equal(masks, torch.cat([each.kept(0.8, 17, 6 * 8) for each in apart[:2]]))
    assert not torch.equal(masks[:1], apart[2].kept(0.8, 17, 6 * 8))
    many = batch_of(2, (one, two)).kept(0.8, 500, 100).float().mean()
    assert many == pytest.approx(0.8, abs=0.01)
    x, y = (method.train().reconstructions(each)[0] for each in (together, together))
    assert torch.equal(x, y)
    torch.testing.assert_close(
        x[0], method.reconstructions(Batch(tuple(f[:1] for f in together.features), seeds=(one,)))[0][0]
    )
    assert not torch.allclose(x, method.eval().reconstructions(together)[0])


def test_the_last_blocks_reconstruct_the_first_level(method):
    seen = []
    for block in method.eval().decoder:
        block.register_forward_hook(lambda block, inputs, output: seen.append(output))
    first, second = method.reconstructions(batch_of(2))
    for found, tokens in ((first, seen[1]), (second, seen[0])):
        assert torch.equal(found[1, :, 2, 3], tokens[1, 1 + 2 * 4 + 3])


@pytest.mark.parametrize("zeros", [True, False])
def test_the_blur_is_five_pixels_wide_and_its_border_is_named(zeros):
    maps = np.random.default_rng(0).random((1, 9, 12))
    taps = np.array([math.exp(-(x**2) / 32) for x in range(-2, 3)])
    kernel = np.outer(taps, taps) / taps.sum() ** 2
    expected = correlate(maps[0], kernel, mode="constant" if zeros else "nearest")
    np.testing.assert_allclose(blurred(torch.from_numpy(maps), zeros=zeros)[0], expected, rtol=1e-9)


def test_maps_are_means_of_levels_and_scores_means_of_the_largest_pixels(method):
    batch = batch_of(2)
    sharp, scores = method.eval().predict(batch, ScoreConfig(sigma=0.0))
    distances = [
        1 - functional.cosine_similarity(x, y, dim=1)
        for x, y in zip(batch.features[:2], method.reconstructions(batch), strict=True)
    ]
    large = [functional.interpolate(d[:, None], (64, 64), mode="bilinear", align_corners=True) for d in distances]
    expected = functional.interpolate((large[0] + large[1]) / 2, (16, 16), mode="bilinear")[:, 0]
    torch.testing.assert_close(sharp, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        scores, sharp.flatten(1).sort(descending=True).values[:, :2].mean(1)
    )  # 1 % of 256 pixels
    torch.testing.assert_close(method.predict(batch, ScoreConfig()).maps, blurred(sharp, zeros=True))


@pytest.mark.parametrize(
    ("output", "config", "message"),
    [
        (
            EncoderOutput("resnet18", (64, 128, 256), 64),
            CONFIG,
            "levels: dinomaly takes groups of a ViT's blocks.*strides",
        ),
        (OUTPUT, DinomalyConfig(blocks=2), "head_width: must divide the width 8 of vit"),
        (OUTPUT, DinomalyConfig(blocks=3, head_width=4), "the number of levels the blocks, not 4, 2 and 3"),
    ],
)
def test_what_it_does_not_take_is_named(output, config, message):
    with pytest.raises(InputError, match=message):
        Dinomaly(output, config)
