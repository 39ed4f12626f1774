"""DeSTSeg: its phases, what they move, how it begins, and what it refuses; tests/reference has the authors' values."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from toys import CPU, image_split

from invad.config import DeSTSegConfig, FeaturesConfig, parse
from invad.data.split_table import Split
from invad.errors import InputError
from invad.features import extract_features
from invad.features.batches import Batch
from invad.features.encoder import EncoderOutput, build_encoder, normalize
from invad.methods import build_method
from invad.methods.base import Position
from invad.methods.destseg import DeSTSeg, feature_loss, segmentation_loss
from invad.training.job import TrainJob, run_job

SIZE = 64
MOBILE = EncoderOutput("mobilenetv2_100", (24, 32, 96), SIZE)
RESNET = EncoderOutput("resnet18", (64, 128, 256), SIZE)
FEATURES = FeaturesConfig("mobilenetv2_100", image_size=SIZE, mode="live")
CONFIG = DeSTSegConfig(steps=5, batch_size=2, width=8)
START = Position(0, 0, 1, 0, 1)


def built(output: EncoderOutput = MOBILE, config: DeSTSegConfig = CONFIG, seed: int = 0) -> DeSTSeg:
    torch.manual_seed(seed)
    method = build_method(output, config)
    assert isinstance(method, DeSTSeg)
    return method


# Phases


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        ({"epochs": 100}, [(20, 0), (80, 0)]),
        ({"epochs": 2}, [(1, 0), (1, 0)]),
        ({"epochs": 6}, [(2, 0), (4, 0)]),
        ({"steps": 5000}, [(0, 1000), (0, 4000)]),
    ],
)
def test_a_fifth_of_the_training_and_no_less_than_one_is_the_students(length, expected):
    phases = built(config=DeSTSegConfig(width=8, **length)).phases()
    assert [(phase.epochs, phase.steps) for phase in phases] == expected


@pytest.mark.parametrize(("recipe", "clip", "decayed"), [("re-run", 5.0, False), ("paper", float("inf"), True)])
def test_recipes_differ_in_clipping_and_in_what_is_decayed(recipe, clip, decayed):
    method = built(config=replace(CONFIG, recipe=recipe))
    (student,), (segmentation,) = (phase.optimisations() for phase in method.phases())
    assert (student.clip, segmentation.clip) == (clip, clip)
    assert (student.rate(START), segmentation.rate(START)) == (0.4, 0.01)
    flat = [group for group in student.optimizer.param_groups for each in group["params"] if each.ndim == 1]
    assert {group["weight_decay"] == 1e-4 for group in flat} == {decayed}
    assert {group["weight_decay"] for group in segmentation.optimizer.param_groups} == {1e-4}
    first, rest = segmentation.optimizer.param_groups
    assert (first["factor"], "factor" in rest) == (10.0, False)
    assert {id(each) for each in first["params"]} == {id(each) for each in method.segmentation.stage.parameters()}
    for optimisation, part in ((student, method.student), (segmentation, method.segmentation)):
        trained = [each for group in optimisation.optimizer.param_groups for each in group["params"]]
        assert {id(each) for each in trained} == {id(each) for each in part.parameters()}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> tuple[Path, Split]:
    root = tmp_path_factory.mktemp("destseg")
    split = image_split(root / "images", train=7, test=0)
    extract_features(split, FEATURES, root / "features")
    return root, split


def trained(prepared: tuple[Path, Split], name: str, stop: int = 0) -> tuple[DeSTSeg, list[dict[str, Any]]]:
    """The method after five steps, the first of them the student's, and what is kept after each; killed once behind step `stop`."""
    root, split = prepared
    (root / name).mkdir()
    job = TrainJob(str(root / "features"), split, FEATURES, str(root / name), CONFIG, 1, threads=1)
    states = []

    def at_checkpoint(step: int) -> None:
        states.append(job.checkpoints.newest()["trainer"])
        if step == stop and len(states) == stop:
            raise InterruptedError

    if stop:
        with pytest.raises(InterruptedError):
            run_job(job, CPU, at_checkpoint=at_checkpoint)
    method, _ = run_job(job, CPU, at_checkpoint=at_checkpoint)
    assert isinstance(method, DeSTSeg)
    return method, states


@pytest.mark.slow
def test_each_phase_moves_its_network_alone_and_a_killed_training_goes_on_from_any_step(prepared):
    method, states = trained(prepared, "whole")
    pretrained = build_encoder("mobilenetv2_100").network.state_dict()
    assert all(torch.equal(method.teacher.network.state_dict()[name], tensor) for name, tensor in pretrained.items())
    rates = [[group["lr"] for group in state["optimizers"][0]["param_groups"]] for state in states]
    assert rates == [[0.4, 0.4], *[[0.1, 0.01]] * 4]
    moved = [
        {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
        for before, after in pairwise([built(seed=CONFIG.seed).state_dict(), *(state["method"] for state in states)])
    ]
    assert moved == [{"teacher", "student"}, *[{"segmentation"}] * 4]  # at first the teacher gets its weights
    still = {name for name, each in method.named_parameters() if not each.requires_grad}
    assert still == {name for name, _ in method.named_parameters() if name.startswith("teacher.")}
    for stop in (1, 3):  # at the end of the first phase, and within the second
        again, _ = trained(prepared, f"killed{stop}", stop)
        assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in method.state_dict().items())


# How it begins


def test_networks_begin_as_the_authors_and_depend_on_the_seed():
    method, other = (built(RESNET, seed=seed).requires_grad_(False) for seed in (0, 1))
    encoder = method.student.encoder
    blocks = [block for name, stage in encoder.named_children() if name.startswith("layer") for block in stage]
    assert [bool(block.bn2.weight.any()) for block in blocks] == [False] * 8
    fan_out = {"decoder": 256 * 9, "stage": 8 * 9}
    for name, convolution in (
        ("decoder", method.student.decoder[1][1].conv1),
        ("stage", method.segmentation.stage[1].conv1),
    ):
        assert float(convolution.weight.std()) == pytest.approx((2 / fan_out[name]) ** 0.5, rel=0.1)
    assert all(float(block.bn2.weight.min()) == 1 for stage in method.student.decoder for block in stage)
    fusion = method.segmentation.pyramid.fusion[0].weight  # as torch begins: uniform, up to the root of 1 / fan in
    assert float(fusion.abs().max()) == pytest.approx((1 / (4 * 8 * 9)) ** 0.5, rel=0.01)
    assert not torch.equal(encoder.conv1.weight, other.student.encoder.conv1.weight)
    assert torch.equal(method.teacher.network.conv1.weight, other.teacher.network.conv1.weight)


def test_features_of_a_resnet_are_not_negative_and_those_of_others_may_be():
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    for output, lowest in ((RESNET, 0.0), (MOBILE, -100.0)):
        levels = built(output).student(images)
        assert [tuple(level.shape[1:]) for level in levels] == list(output.shapes)
        assert {bool(level.min() < 0) for level in levels} == {lowest < 0}


def test_the_teacher_sees_what_stored_features_are_made_of_whatever_its_weights_were_trained_with(tmp_path):
    pretrained = build_encoder("mobilenetv2_100")
    statistics = {"input_scale": torch.tensor([2.0, 3.0, 4.0]), "input_shift": torch.tensor([0.1, 0.2, 0.3])}
    save_file({**pretrained.network.state_dict(), **statistics}, tmp_path / "others.safetensors")
    images = torch.randint(0, 256, (2, SIZE, SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = []
    for encoder in (pretrained, build_encoder("mobilenetv2_100", str(tmp_path / "others.safetensors"))):
        method = built()
        method.adopt(encoder)
        seen = []
        method.teacher.register_forward_hook(lambda module, given, levels, seen=seen: seen.append(levels))
        method.eval().predict(Batch(images=images.permute(0, 3, 1, 2) / 255), None)
        for level, expected in zip(seen[0], encoder(normalize(images)), strict=True):
            torch.testing.assert_close(level, expected, rtol=1e-4, atol=1e-4)
        found.append(seen[0][0])
    assert not torch.allclose(*found, atol=0.1)


# Losses


def test_a_place_without_features_has_a_gradient_and_its_distance_is_one():
    teacher, student = torch.ones(1, 4, 1, 2), torch.zeros(1, 4, 1, 2, requires_grad=True)
    loss = feature_loss([teacher], [student.relu()])
    assert loss.item() == 1
    loss.backward()
    assert bool(torch.isfinite(student.grad).all())


def test_a_hopeless_probability_is_a_finite_loss():
    probabilities = torch.tensor([0.0, 1.0, 0.25, 0.5]).reshape(1, 1, 2, 2).requires_grad_()
    masks = torch.tensor([1.0, 0.0, 1.0, 0.0]).reshape(1, 1, 2, 2)
    loss = segmentation_loss(probabilities, masks)
    focal = [100, 100, 0.75**4 * 1.3862944, 0.5**4 * 0.6931472]
    assert loss.item() == pytest.approx((sum(focal) + 1 + 1 + 0.75 + 0.5) / 4)
    loss.backward()
    assert bool(torch.isfinite(probabilities.grad).all())


# What it refuses


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"batch_size": 1}, r"train\.batch_size: must be greater than or equal to 2, not 1"),
        ({"epochs": 1}, r"train\.epochs: must be greater than or equal to 2, not 1"),
        ({"steps": 1}, r"train\.steps: must be greater than or equal to 2"),
    ],
)
def test_too_little_to_normalise_or_for_two_phases_is_refused(values, problem):
    with pytest.raises(InputError, match=problem):
        parse(DeSTSegConfig, {"model": "destseg"} | values, "train")


def test_an_encoder_that_ends_at_the_teachers_last_stride_is_refused():
    with pytest.raises(InputError, match=r"mobilenetv2_100 has no features at stride 64, only at \[2, 4, 8, 16, 32\]"):
        DeSTSeg(EncoderOutput("mobilenetv2_100", (96, 320), 128, (16, 32)), CONFIG)


# What it finds
