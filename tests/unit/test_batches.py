"""What a method asks for: levels of features, images, synthetic anomalies; and that their randomness is of seed, epoch and image alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import CPU, MemoryFeatures, image_split, random_levels

from invad.config import ComputeConfig, FeaturesConfig
from invad.data.images import read_image
from invad.features.batches import Batch, BatchSource, Needs, batch_source
from invad.features.source import LiveFeatures
from invad.features.synthesis import Corruption
from invad.training.loop import Share

SIZE = 64
IMAGES_ALONE = FeaturesConfig("none", "none", SIZE, mode="live")


def test_only_the_levels_that_are_asked_for_come():
    features = MemoryFeatures(random_levels(5))
    (batch,) = BatchSource(features, Needs(levels=(1, 2))).batches([[3, 0]], CPU)
    assert [level.shape[1] for level in batch.features] == [8, 12]
    assert torch.equal(batch.features[0], features.levels[1][[3, 0]])
    assert (batch.images, batch.corrupted, batch.seeds, batch.size) == (None, None, (), 2)
    with pytest.raises(ValueError, match="no level 3"):
        BatchSource(features, Needs(levels=(3,)))


def test_numbers_of_an_image_depend_on_seed_epoch_and_image_alone():
    source = BatchSource(MemoryFeatures(random_levels(6)), Needs(levels=(0,)), rows=[1, 3, 5])
    (together,) = source.batches([[0, 1, 2]], CPU, seed=(7, 2))
    alone = list(source.batches([[2], [0]], CPU, seed=(7, 2)))
    draws = together.normal(4, 3)
    assert draws.shape == (3, 4, 3)
    assert torch.equal(draws[2], alone[0].normal(4, 3)[0])
    assert torch.equal(draws[0], alone[1].normal(4, 3)[0])
    (later,) = source.batches([[0]], CPU, seed=(7, 3))
    assert not torch.equal(draws[0], later.normal(4, 3)[0])
    assert abs(float(together.normal(1000).mean())) < 0.1
    assert together.seeds == ((7, 2, 1), (7, 2, 3), (7, 2, 5))


@pytest.fixture
def split(tmp_path):
    return image_split(tmp_path, train=6, test=2, size=80)


def source_of(split, needs: Needs, phase="train") -> BatchSource:
    return batch_source(LiveFeatures(split, phase, IMAGES_ALONE), needs, split, phase, IMAGES_ALONE)


def test_images_are_as_they_are_read(split):
    (batch,) = source_of(split, Needs(images=True)).batches([[4, 1]], CPU)
    expected = np.stack([read_image(split.image_path(split.rows[row]), SIZE) for row in (4, 1)])
    assert batch.features == ()
    assert batch.images.dtype == torch.float32
    assert torch.equal(batch.images, torch.from_numpy(expected).permute(0, 3, 1, 2).float() / 255)


def test_the_classes_of_training_images_are_known_and_no_others(split):
    rows = [replace(row, class_name=f"class {index}") for index, row in enumerate(split.rows)]
    named = replace(split, rows=tuple(rows))
    (batch,) = source_of(named, Needs(images=True)).batches([[4, 1]], CPU)
    assert batch.classes == batch.formatted(ComputeConfig()).classes == ("class 4", "class 1")
    (batch,) = source_of(named, Needs(images=True), "test").batches([[0]], CPU)
    assert batch.classes == ()


def test_synthetic_anomalies_lie_under_their_masks_and_nowhere_else(split):
    recipe = Corruption(probability=1.0, rotation=0.0)
    source = source_of(split, Needs(images=True, corruption=recipe))
    batches = [next(source.batches([range(6)], CPU, seed=(0, epoch))) for epoch in range(4)]
    assert any(batch.masks.any() for batch in batches)
    for batch in batches:
        outside = (batch.masks == 0).expand_as(batch.images)
        assert torch.equal(batch.images[outside], batch.corrupted[outside])
        assert set(batch.masks.unique().tolist()) <= {0.0, 1.0}
        assert 0 <= batch.corrupted.min() <= batch.corrupted.max() <= 1
    assert not torch.equal(batches[0].masks, batches[1].masks)
    (again,) = source.batches([[5, 2]], CPU, seed=(0, 3))
    assert torch.equal(again.corrupted, batches[3].corrupted[[5, 2]])
    assert torch.equal(again.masks, batches[3].masks[[5, 2]])


def test_workers_paint_what_one_alone_would(split):
    needs, batch = Needs(images=True, corruption=Corruption(probability=1.0)), np.array([5, 0, 3, 2])
    (together,) = source_of(split, needs).batches([batch], CPU, seed=(0, 1))
    for rank in range(2):
        share = Share(rank, 2)
        (mine,) = source_of(split, needs).batches([share.of(batch)], CPU, seed=(0, 1))
        for name in ("images", "corrupted", "masks"):
            assert torch.equal(getattr(mine, name), getattr(together, name)[share.of(np.arange(4))])


def test_images_to_predict_are_left_alone(split):
    needs = Needs(images=True, corruption=Corruption(probability=1.0))
    (batch,) = source_of(split, needs, "test").batches([[0, 1]], CPU)
    assert batch.corrupted is None and batch.masks is None
    (unseeded,) = source_of(split, needs).batches([[0]], CPU)
    assert unseeded.corrupted is None


def test_an_empty_batch_has_no_images():
    assert Batch().size == 0
