"""ToCoAD: sizes, losses by hand, what each stage moves, the switch of stages after a stop, and the bank of each class."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from toys import CPU, image_split

from invad.config import FeaturesConfig, FolderSplitConfig, ScoreConfig, ToCoADConfig
from invad.data.embedded import GENERATORS
from invad.data.mvtec import build_mvtec
from invad.data.split_table import Split
from invad.errors import InputError
from invad.features import extract_features, open_features
from invad.features.batches import Batch, batch_source
from invad.methods import EncoderOutput, build_method, tocoad
from invad.methods.base import Position
from invad.methods.tocoad import (
    ToCoAD,
    attraction,
    focal_loss,
    negative_features,
    photometric,
    repulsion,
)
from invad.metrics import evaluate
from invad.scoring.score import predictions, resized_masks
from invad.training.cost import count_multiply_adds
from invad.training.job import TrainJob, run_job

STRIDES = (4, 8, 16, 32)
FEATURES = FeaturesConfig("mobilenetv2_100", image_size=64, mode="live", levels=STRIDES)
OUTPUT = EncoderOutput("mobilenetv2_100", (24, 32, 96, 320), 64, STRIDES)
CONFIG = ToCoADConfig(epochs=1, contrast_epochs=2, batch_size=4, share=0.1, dimensions=16)  # 2 + 4 steps of ten images
VECTORS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [3.0, 4.0]])  # of length 1, 1, 1, 5


def places(*rows: int) -> torch.Tensor:
    """Those of `VECTORS` as one image, (1, 2, 1, places)."""
    return VECTORS[list(rows)].T[None, :, None]


@pytest.fixture(scope="module")
def method() -> ToCoAD:
    torch.manual_seed(0)
    return ToCoAD(OUTPUT, CONFIG)


# Sizes


@pytest.mark.parametrize(
    ("encoder", "parameters", "multiply_adds"),
    [("wide_resnet50_2", 26_295_809, 11.946e9), ("resnet34", 5_857_153, None), ("mobilenetv2_100", 826_273, None)],
)
def test_the_discriminative_network_has_the_size_of_the_recipe(encoder, parameters, multiply_adds):
    with torch.device("meta"):
        levels = timm.create_model(encoder, features_only=True).feature_info
        channels = [c for c, s in zip(levels.channels(), levels.reduction(), strict=True) if s in STRIDES]
        output = EncoderOutput(encoder, tuple(channels), 256, STRIDES)
        method = build_method(output, ToCoADConfig()).eval()
        features = [torch.empty(1, *shape) for shape in output.shapes]
        logits = method.discriminator(features)
    assert logits.shape == (1, 1, 64, 64)
    assert sum(each.numel() for each in method.discriminator.parameters()) == parameters
    if multiply_adds:
        found = count_multiply_adds(lambda: method.discriminator(features))
        assert found == pytest.approx(multiply_adds, rel=1e-4)
        assert sum(each.numel() for each in method.extractor.parameters()) == 66_834_240


def test_without_lateral_convolutions_nothing_but_the_coarsest_level_is_seen():
    network = ToCoAD(OUTPUT, replace(CONFIG, lateral=False)).discriminator.eval()
    levels = [torch.randn(1, *shape) for shape in OUTPUT.shapes]
    assert torch.equal(network(levels), network([torch.zeros_like(x) for x in levels[:3]] + levels[3:]))


@pytest.mark.parametrize("strides", [(4, 8, 16), (4, 8, 16, 16)])
def test_it_takes_four_levels_that_double_the_stride(strides):
    with pytest.raises(InputError, match=r"levels: `model: tocoad` takes four strides, .* such as \[4, 8, 16, 32\]"):
        ToCoAD(EncoderOutput("mobilenetv2_100", (8,) * len(strides), 64, strides), CONFIG)


# Losses


def test_the_focal_loss_by_hand():
    masks = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)
    assert float(focal_loss(torch.zeros_like(masks), masks, 2)) == pytest.approx(0.25 * 0.5 * math.log(2))  # 0.0866
    logits = torch.tensor([math.log(3), math.log(3)]).reshape(masks.shape)  # probabilities of 3/4 where 1, and 1/4
    by_hand = 0.5 * (-(0.25**2) * math.log(0.75) - 0.75**2 * math.log(0.25)) / 2
    assert float(focal_loss(logits, masks, 2)) == pytest.approx(by_hand)
    assert float(focal_loss(logits, masks, 0)) == pytest.approx(-0.5 * (math.log(0.75) + math.log(0.25)) / 2)


def test_the_attraction_is_the_negative_cosine_to_a_target_without_gradient():
    p, z = places(0, 1).requires_grad_(), places(3, 3).requires_grad_()
    loss = attraction(p, places(2, 2), z, places(0, 2))  # cosines 1 and 0 of the first, -0.6 twice of the second
    assert loss.item() == pytest.approx(-0.5 * (0.5 - 0.6))
    loss.backward()
    assert z.grad is None
    assert p.grad is not None


def test_a_negative_is_the_weighted_mean_of_an_images_places():
    weights = torch.tensor([[1.0, 0.5, 0.0, 0.5, 0.0, 0.0], [0.001] * 6, [0.0009] * 6]).reshape(3, 1, 1, 6)
    negative, counts = negative_features(places(0, 1, 3).expand(3, -1, -1, -1), weights)  # two pixels a place
    assert negative[0].flatten().tolist() == pytest.approx([0.75, 0.25])
    assert counts.tolist() == [True, True, False]
    nothing, counts = negative_features(places(0, 1), torch.zeros(1, 1, 2, 4))
    assert (nothing.tolist(), counts.tolist()) == ([[[[0.0]], [[0.0]]]], [False])


def test_the_repulsion_pushes_what_points_towards_the_negative_alone():
    negative = VECTORS[0].reshape(1, 2, 1, 1).expand(2, -1, -1, -1)
    p = places(0, 1, 2, 3).expand(2, -1, -1, -1)  # cosines 1, 0, -1 and 0.6
    assert float(repulsion(p, p, negative, torch.tensor([True, True]))) == pytest.approx(0.4)
    assert float(repulsion(p, p, negative, torch.tensor([True, False]))) == pytest.approx(0.2)
    away = places(2, 2, 2, 2).expand(2, -1, -1, -1)  # with the other view's the mean is 0, -0.5, -1 and -0.2
    assert float(repulsion(p, away, negative, torch.tensor([True, True]))) == 0


def test_views_differ_in_brightness_contrast_and_noise_within_their_bounds():
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    draws = torch.zeros(2, 3 + 3 * 64)
    torch.testing.assert_close(photometric(images, draws), images)
    brighter = photometric(images / 2, draws.index_fill(1, torch.tensor([0]), 9.0))
    torch.testing.assert_close(brighter, 1.2 * images / 2)
    flatter = photometric(images, draws.index_fill(1, torch.tensor([1]), -9.0))
    torch.testing.assert_close(flatter.std((1, 2, 3)), 0.8 * images.std((1, 2, 3)))
    noisy = photometric(images / 2 + 0.25, torch.cat([draws[:, :2], torch.full((2, 1 + 3 * 64), 9.0)], dim=1))
    torch.testing.assert_close(noisy, images / 2 + 0.25 + 9 * 5 / 255)


def test_half_of_the_images_of_the_first_stage_carry_their_anomaly(method, monkeypatch):
    monkeypatch.setattr(method, "levels", lambda images: images)
    monkeypatch.setattr(method, "marks", lambda images: images)
    seen = []
    monkeypatch.setattr(tocoad, "focal_loss", lambda marks, masks, gamma: seen.append((marks, masks, gamma)))
    ones = torch.ones(400, 1, 2, 2)
    batch = Batch(images=0 * ones, corrupted=ones, masks=ones, seeds=tuple((0, 0, row) for row in range(400)))
    method.loss(batch, Position(0, 0, 1, 0, 1))
    [(marks, masks, gamma)] = seen
    assert torch.equal(marks, masks)
    assert 0.42 < float(masks.mean()) < 0.58
    assert gamma == 2


@pytest.mark.parametrize("negatives", ["guided", "mask", "none"])
def test_negatives_come_from_where_the_setting_says(negatives):
    torch.manual_seed(0)
    method = ToCoAD(OUTPUT, replace(CONFIG, negatives=negatives))
    images, seeds = torch.rand(4, 3, 64, 64), tuple((0, 0, row) for row in range(4))

    def loss(side: int, marks: float) -> float:
        masks = torch.zeros(4, 1, 64, 64)
        masks[..., :side, :side] = 1
        method.marks = lambda levels: torch.full_like(masks, marks)
        batch = Batch(images=images, corrupted=images.flip(3), masks=masks, seeds=seeds)
        return method.contrast_loss(batch).item()

    plain, other_mask, no_marks = loss(32, 9.0), loss(16, 9.0), loss(32, -99.0)
    assert (plain != other_mask, plain != no_marks) == (negatives == "mask", negatives == "guided")


# Training


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Split:
    return image_split(tmp_path_factory.mktemp("split"), train=10, test=0)


def job_of(split: Split, storage: Path, config: ToCoADConfig = CONFIG) -> TrainJob:
    storage.mkdir()
    extract_features(split, FEATURES, storage / "features")
    return TrainJob(str(storage / "features"), split, FEATURES, str(storage), config, 1, threads=1)


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def states(split, tmp_path_factory) -> dict[int, dict[str, torch.Tensor]]:
    """The state after each step of a training, and after `fit`."""
    job, found = job_of(split, tmp_path_factory.mktemp("whole") / "storage"), {}

    def keep(step: int) -> None:
        found[step] = job.checkpoints.newest()["trainer"]["method"]

    run_job(job, CPU, at_checkpoint=keep)
    return found


def test_each_stage_moves_its_part_alone(states):
    assert sorted(states) == [1, 2, 3, 4, 5, 6, 7]

    def moved(before: int, after: int) -> set[str]:
        one, two = states[before], states[after]
        return {name for name in one if not torch.equal(one[name], two[name])}

    first, second = moved(1, 2), moved(2, 6)
    assert {name.split(".")[0] for name in first} == {"discriminator"}
    assert {name.split(".")[0] for name in second} == {"extractor", "heads"}
    assert not any("running" in name or "batches" in name for name in second if name.startswith("extractor"))
    assert moved(6, 7) == {"memory"}


@pytest.mark.parametrize("after", [2, 3, 6])
def test_a_stop_around_the_switch_of_stages_leaves_no_trace(states, split, tmp_path, after):
    def stop(step: int) -> None:
        if step == after:
            raise StoppedError

    job = job_of(split, tmp_path / "storage")
    with pytest.raises(StoppedError):
        run_job(job, CPU, at_checkpoint=stop)
    assert job.checkpoints.newest()["step"] == after
    method, _ = run_job(job, CPU)
    found = method.state_dict()
    assert found.keys() == states[7].keys()
    assert all(torch.equal(found[name], states[7][name]) for name in found)


def test_stages_may_be_left_out(split, tmp_path):
    plain, steps = run_job(job_of(split, tmp_path / "none", replace(CONFIG, stages="none")), CPU)
    assert steps == []
    assert len(plain.memory) == 64  # a tenth of ten images of 8 x 8 places
    second, steps = run_job(job_of(split, tmp_path / "second", replace(CONFIG, stages="second")), CPU)
    assert len(steps) == 4
    assert torch.equal(second.discriminator.head.weight, plain.discriminator.head.weight)


@pytest.mark.slow
def test_the_contrast_does_not_collapse(split, tmp_path):
    method, steps = run_job(job_of(split, tmp_path / "long", replace(CONFIG, contrast_epochs=12)), CPU)
    assert steps[-1].loss < steps[2].loss - 0.2
    images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for z, _ in method.train().heads_of(method.levels(images)):
            unit = torch.nn.functional.normalize(z, dim=1).transpose(0, 1).flatten(1)
            assert float(unit.std(dim=1, correction=0).mean()) * 512**0.5 > 0.9  # at most 1, where their mean is 0


@pytest.mark.slow
def test_on_generated_images_the_guide_sees_synthetic_anomalies_and_the_bank_real_ones(tmp_path):
    root = tmp_path / "images"
    GENERATORS["mvtec"](root, seed=0, train_images=16, test_images=10, image_size=128)
    rows = build_mvtec(root, FolderSplitConfig(strict=False))
    split = Split(tuple(row for row in rows if row.class_name == "hazelnut"), root, root)
    features = replace(FEATURES, image_size=128)
    config = ToCoADConfig(epochs=30, contrast_epochs=2, batch_size=8, share=0.1)
    (tmp_path / "run").mkdir()
    extract_features(split, features, tmp_path / "features")
    job = TrainJob(str(tmp_path / "features"), split, features, str(tmp_path / "run"), config, 10_000, threads=1)
    method = run_job(job, CPU)[0].eval()

    trained = batch_source(job.open_features(), method.needs, split, "train", features)
    (batch,) = trained.batches([range(0, len(trained), 3)], CPU, seed=(1, 0))  # anomalies that it has not seen
    with torch.no_grad():
        marks = method.marks(method.levels(batch.corrupted))
    pixels = [np.asarray(x).squeeze(1) for x in (marks, batch.masks)]
    assert evaluate(pixels[0], pixels[1], protocol="exact")["mean"]["exact"]["pixel_auroc"] > 0.7

    source = open_features(tmp_path / "features", "test", split, features)
    batches = batch_source(source, method.needs, split, "test", features)
    parts = zip(*predictions(method, batches, ScoreConfig(sigma=2.0, channels_last=False)), strict=True)
    maps, scores = (np.concatenate(part) for part in parts)
    tested = split.phase("test")
    classes, labels = [row.class_name for row in tested], [row.label for row in tested]
    found = evaluate(maps, resized_masks(split, tested, 128), classes, labels, scores, "exact")["mean"]["exact"]
    assert found["pixel_auroc"] > 0.9
    assert found["image_auroc"] > 0.8


# The bank


def test_each_class_has_its_share_of_the_bank_and_distances_are_not_squared(method, monkeypatch):
    monkeypatch.setattr(method, "config", replace(CONFIG, share=0.25, most_vectors=6, dimensions=2))
    monkeypatch.setattr(method, "vectors", lambda images: images.flatten(2).transpose(1, 2)[..., :2])
    rows = torch.arange(12.0).reshape(12, 1, 1, 1)
    batches = [Batch(images=part.expand(-1, 2, 2, 2), classes=("a",) * 4) for part in (rows[:4], rows[4:8])]
    method.fit(lambda: [*batches, Batch(images=rows[8:].expand(-1, 2, 2, 2), classes=("b", "b", "b", "c"))])
    # Of 32, 12 and 4 vectors a quarter, of the first six looked through that is all of them.
    memory = method.memory[:, 0]
    assert method.memory.dtype == torch.float16
    assert [int((memory < 8).sum()), int(((memory >= 8) & (memory < 11)).sum()), int((memory == 11).sum())] == [6, 3, 1]
    query = torch.full((1, 2, 8, 8), 14.0)
    maps = method.predict(Batch(images=query), ScoreConfig()).maps
    assert maps.shape == (1, 8, 8)
    assert torch.allclose(maps, torch.tensor(3 * 2**0.5))
