"""PatchCore, SimpleNet, DRAEM and synthetic anomalies against values made with their authors' code."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import profile_params
from PIL import Image, ImageEnhance, ImageOps
from reference_files import reference_arrays, rounding

from invad.config import DRAEMConfig, PatchCoreConfig, ScoreConfig, SimpleNetConfig
from invad.features import synthesis, texture_operations
from invad.features.batches import Batch
from invad.features.encoder import EncoderOutput
from invad.methods.base import Position
from invad.methods.coreset import greedy_coreset
from invad.methods.draem import DRAEM, focal_loss, ssim_loss, ssim_window
from invad.methods.patchcore import PatchCore
from invad.methods.patches import patch_vectors
from invad.methods.simplenet import SimpleNet
from invad.scoring.score import finished
from invad.training.cost import model_cost

OUTPUT = EncoderOutput("toy", (8, 16, 24), 64)
START = Position(0, 0, 1, 0, 1)


def tensors(name: str) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(np.asarray(value)) for key, value in reference_arrays(name).items()}


def close(one: torch.Tensor, two: torch.Tensor, tolerance: float = 2e-6) -> None:
    assert one.shape == two.shape
    torch.testing.assert_close(one, two, rtol=0, atol=tolerance * max(1.0, float(two.abs().max())))


# PatchCore


def test_patchcore_is_the_authors():
    known = tensors("patchcore_a")
    method = PatchCore(OUTPUT, PatchCoreConfig(dimensions=32)).eval()
    test = Batch((known["test/0"], known["test/1"]))
    close(method.vectors(test), known["test/embedding"])
    vectors = method.vectors(Batch((known["train/0"], known["train/1"])))
    projected = vectors @ known["coreset/projection"].T
    chosen = greedy_coreset(projected, known["coreset/start_points"].numpy(), len(known["coreset/indices"]))
    assert torch.equal(chosen, known["coreset/indices"])
    close(vectors[chosen], known["memory_bank"])
    method.memory = known["memory_bank"]
    close(method.predict(test, ScoreConfig()).maps, known["test/patch_score"])
    maps, scores = finished(method, method.predict, test, ScoreConfig(sigma=4.0))
    close(maps, known["test/anomaly_map"])
    close(scores, known["test/image_score"])
    _, maxima = finished(method, method.predict, test, ScoreConfig(sigma=4.0, image_score="maximum"))
    assert torch.equal(maxima, maps.amax((1, 2)))


# SimpleNet


@pytest.fixture
def simplenet():
    known = tensors("simplenet_a")
    method = SimpleNet(OUTPUT, SimpleNetConfig(dimensions=24, hidden=20))
    return method, known, Batch((known["input/0"], known["input/1"]))


def loaded(method: SimpleNet, known: dict[str, torch.Tensor], prefix: str) -> SimpleNet:
    parts = {
        "adaptor.weight": "pre_projection.layers.0fc.weight",
        "adaptor.bias": "pre_projection.layers.0fc.bias",
        "discriminator.hidden.weight": "discriminator.body.block1.0.weight",
        "discriminator.hidden.bias": "discriminator.body.block1.0.bias",
        "discriminator.tail.weight": "discriminator.tail.weight",
        **{
            f"discriminator.norm.{name}": f"discriminator.body.block1.1.{name}"
            for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        },
    }
    method.load_state_dict({own: known[f"{prefix}/{theirs}"] for own, theirs in parts.items()})
    return method


def test_simplenets_vectors_are_the_authors(simplenet):
    _, known, batch = simplenet
    for name, sizes in (("embedding", (24, 24)), ("embedding_32_32", (32, 32)), ("embedding_40_28", (40, 28))):
        close(patch_vectors(batch.features, *sizes).flatten(0, 1), known[name])


@pytest.mark.parametrize(("state", "values"), [("state", "eval"), ("after_step", "eval_after_step")])
def test_simplenet_predicts_as_the_authors(simplenet, state, values):
    method, known, batch = simplenet
    maps, scores = finished(method, loaded(method, known, state).eval().predict, batch, ScoreConfig(sigma=4.0))
    close(maps, known[f"{values}/anomaly_map"])
    close(scores, known[f"{values}/image_score"])


def test_a_step_of_simplenet_is_the_authors(simplenet, monkeypatch):
    method, known, batch = simplenet
    loaded(method, known, "state").train()
    noise = known["train/noise"].unflatten(0, (2, -1)) / method.config.noise
    monkeypatch.setattr(Batch, "normal", lambda self, *shape: noise)
    (phase,) = method.phases()
    optimisations = phase.optimisations()
    loss = method(batch, START)
    assert loss.item() == pytest.approx(known["train/loss"].item(), rel=2e-6)
    loss.backward()
    assert method.adaptor.weight.grad.norm().item() == pytest.approx(
        known["gradnorm/pre_projection.layers.0fc.weight"].item(), rel=1e-3
    )
    for optimisation in optimisations:
        assert optimisation.clip == float("inf")
        optimisation.optimizer.step()
    close(method.adaptor.weight, known["after_step/pre_projection.layers.0fc.weight"])
    close(method.discriminator.hidden.weight, known["after_step/discriminator.body.block1.0.weight"])
    close(method.discriminator.tail.weight, known["after_step/discriminator.tail.weight"])
    close(method.discriminator.norm.running_var, known["after_step/discriminator.body.block1.1.running_var"])


def test_simplenet_has_the_published_number_of_parameters():
    with torch.device("meta"):
        method = SimpleNet(EncoderOutput("wide_resnet50_2", (256, 512, 1024), 256), SimpleNetConfig())
    counts = [sum(p.numel() for p in part.parameters()) for part in (method.adaptor, method.discriminator)]
    assert counts == [2_360_832, 1_576_960]


# DRAEM


@pytest.fixture
def draem():
    known = tensors("draem_a")
    method = DRAEM(EncoderOutput("none", (), 64), DRAEMConfig(width=3, segmentation_width=3))
    theirs = [value for name, value in known.items() if name.startswith("state/")]
    method.load_state_dict(dict(zip(method.state_dict(), theirs, strict=True)))  # in the same order
    return method, known


def test_draem_predicts_as_the_authors(draem):
    method, known = draem
    images = known["input/corrupted"]
    with torch.no_grad():
        restored, _ = method.eval().restored_and_marked(images)
        maps, scores = finished(method, method.predict, Batch(images=images), ScoreConfig(channels_last=False))
        method.config = replace(method.config, recipe="re-run")
        _, rerun = finished(method, method.predict, Batch(images=images), ScoreConfig(channels_last=False))
    tolerance = rounding(2e-6, 1e-3)
    close(restored, known["eval/reconstruction"], tolerance)
    close(maps, known["eval/anomaly_map"], tolerance)  # no blur
    close(scores, known["eval/image_score"], tolerance)
    close(rerun, known["eval/image_score_without_padding"], tolerance)


def test_draems_losses_are_the_authors(draem):
    method, known = draem
    batch = Batch(images=known["input/image"], corrupted=known["input/corrupted"], masks=known["input/mask"])
    expected = sum(known[f"train/{name}_loss"].item() for name in ("l2", "ssim", "focal"))
    assert method.train()(batch, START).item() == pytest.approx(expected, rel=2e-6)
    one, two = known["loss/ssim/a"], known["loss/ssim/b"]
    assert ssim_loss(one, two).item() == pytest.approx(known["loss/ssim/range1"].item(), rel=2e-6)
    assert ssim_loss(2 * one - 1, 2 * two - 1).item() == pytest.approx(known["loss/ssim/range2"].item(), rel=2e-6)
    assert ssim_loss(200 * one, 200 * two).item() == pytest.approx(known["loss/ssim/range255"].item(), rel=2e-6)
    close(ssim_window(1)[0, 0], known["loss/ssim/window"])
    value = focal_loss(known["loss/focal/probabilities"], known["loss/focal/mask"])
    assert value.item() == pytest.approx(known["loss/focal/value"].item(), rel=2e-6)


def test_draems_gradients_are_the_authors(draem):
    method, known = draem
    batch = Batch(images=known["input/image"], corrupted=known["input/corrupted"], masks=known["input/mask"])
    method.train()(batch, START).backward()
    theirs = [name.removeprefix("state/") for name in known if name.startswith("state/")]
    names = dict(zip(method.state_dict(), theirs, strict=True))
    ratios = []
    for name, parameter in method.named_parameters():
        expected = known[f"gradnorm/{names[name]}"].item()
        if expected > 1e-4:  # a bias in front of a normalisation has rounding for a gradient
            ratios.append(parameter.grad.norm().item() / expected)
            assert ratios[-1] == pytest.approx(1, rel=rounding(1e-3, 0.3)), name
    assert len(ratios) > 60
    assert np.median(np.abs(np.array(ratios) - 1)) < rounding(1e-3, 0.03)


def test_draem_has_the_published_numbers_of_parameters_and_multiply_adds():
    with torch.device("meta"):
        method = DRAEM(EncoderOutput("none", (), 256), DRAEMConfig())
    parts = (
        method.reconstructive.encoder,
        method.reconstructive,
        method.discriminative.encoder,
        method.discriminative,
    )
    counts = [sum(p.numel() for p in part.parameters()) for part in parts]
    assert counts == [37_622_400, 69_048_579, 14_134_272, 28_374_146]
    cost = model_cost(profile_params("paper-draem").benchmark("mvtec"))
    assert cost.parameters == cost.trainable == 97_422_725
    assert cost.multiply_adds == pytest.approx(197.95e9, rel=1e-4)


# Synthetic anomalies


@pytest.mark.parametrize("case", range(3))
def test_noise_rotation_mask_and_blending_are_the_authors(case):
    known = reference_arrays("synthetic_anomalies_a")
    noise = synthesis.perlin_noise(known[f"{case}/gradient_angles"], (64, 64))
    np.testing.assert_allclose(noise, known[f"{case}/noise"], atol=1e-6)
    rotated = texture_operations.rotated(known[f"{case}/noise"], float(known[f"{case}/rotation_degrees"]))
    # Theirs rounds the places that it reads to 1/32 pixel.
    np.testing.assert_allclose(rotated, known[f"{case}/rotated_noise"], atol=0.02)
    mask = known[f"{case}/rotated_noise"] > synthesis.THRESHOLD
    assert np.array_equal(mask, known[f"{case}/mask"].astype(bool))
    blended = synthesis.blended(known["image"], known["texture"], mask, float(known[f"{case}/beta"]))
    np.testing.assert_allclose(blended / 255, known[f"{case}/draem_result"], atol=1e-6)


@pytest.mark.parametrize("case", range(3))
def test_draems_noise_is_the_same_noise(case):
    known = reference_arrays("draem_a")
    noise = synthesis.perlin_noise(known[f"perlin/{case}/angles"], (64, 64))
    np.testing.assert_allclose(noise, known[f"perlin/{case}/noise"], atol=1e-6)


def test_the_operations_on_textures_are_the_authors_where_they_can_be():
    known = reference_arrays("synthetic_anomalies_a")
    image = Image.fromarray(known["augment/input"])
    exact = {
        "gamma_1.7": texture_operations.gamma(image, [1.7] * 3),
        "sharpness_0.3": ImageEnhance.Sharpness(image).enhance(0.3),
        "sharpness_1.8": ImageEnhance.Sharpness(image).enhance(1.8),
        "solarize_60": ImageOps.solarize(image, 60),
        "posterize_3_bits": ImageOps.posterize(image, 3),
        "invert": ImageOps.invert(image),
        "autocontrast_10": ImageOps.autocontrast(image, 10),
        "equalize": ImageOps.equalize(image),
    }
    for name, result in exact.items():
        assert np.array_equal(np.asarray(result), known[f"augment/{name}"]), name
    # Rounded otherwise: hue to 256 steps instead of 180, chroma to whole numbers, places of a rotation to 1/32 pixel in theirs.
    near = {
        "hue_20_saturation_-30": (texture_operations.shifted_hue(image, 20, -30), 0.8, 10),
        "brightness_ycrcb_mul1.1_add15": (texture_operations.scaled_brightness(image, "YCbCr", 1.1, 15), 1.5, 4),
        "rotate_30": (Image.fromarray(texture_operations.rotated(np.asarray(image), 30)), 0.6, 3),
    }
    for name, (result, mean, largest) in near.items():
        difference = np.abs(np.asarray(result).astype(int) - known[f"augment/{name}"])
        assert difference.mean() < mean and difference.max() <= largest, name
