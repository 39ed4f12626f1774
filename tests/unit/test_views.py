"""Objects seen in several views: they are trained on, held out, scored and predicted whole."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from commands import pipe
from toys import CPU, MemoryFeatures, image_split, random_levels, split_of

import invad
from invad.config import CalibrationConfig, MVADConfig, RealIadSplitConfig, TrainConfig
from invad.config.loading import parse_benchmark
from invad.data.embedded.real_iad import generate_real_iad
from invad.data.real_iad import build_real_iad
from invad.data.split_table import Split, hold_out, read_split_table, view_count, views_together, write_split_table
from invad.errors import InputError
from invad.features.batches import BatchSource, Needs, batch_source
from invad.predict.export.model import load_graph
from invad.scoring.score import resized_masks
from invad.studies.validation import rows_for_training, validation_split
from invad.training.loop import Share, epoch_batches, training_steps

VIEWS = 5
CONFIG = MVADConfig(batch_size=10, epochs=1, attention_blocks=(1, 1, 1), chosen=(2, 2, 2))


@pytest.fixture
def rows(tmp_path):
    return list(split_of(tmp_path, train=30, test=10, views=VIEWS).rows)


def test_batches_are_whole_objects_in_an_order_that_the_seed_gives():
    batches = epoch_batches(30, 2, CONFIG, VIEWS)
    assert [len(batch) for batch in batches] == [10, 10, 10]
    objects = np.random.default_rng((42, 2)).permutation(6)
    assert np.concatenate(batches).tolist() == [
        view for one in objects for view in range(VIEWS * one, VIEWS * (one + 1))
    ]
    shares = [Share(rank, 2).of(batches[0], VIEWS) for rank in range(2)]
    assert [share.tolist() for share in shares] == batches[0].reshape(2, 5).tolist()


def test_without_views_the_order_is_what_it_was():
    order = np.random.default_rng((42, 3)).permutation(23)[:20]
    assert np.array_equal(np.concatenate(epoch_batches(23, 3, TrainConfig(batch_size=10))), order)


def test_no_batch_of_all_images_splits_an_object(tmp_path):
    split = split_of(tmp_path, train=30, test=0, views=VIEWS)
    source = batch_source(MemoryFeatures(random_levels(30)), Needs((0,), views=True), split, "train", None)
    batches = list(source.in_order(13, CPU))
    assert [batch.size for batch in batches] == [10, 10, 10]
    assert {batch.views for batch in batches} == {VIEWS}
    assert [batch.size for batch in source.in_order(3, CPU)] == [5] * 6
    single = batch_source(MemoryFeatures(random_levels(30)), Needs((0,)), split, "train", None)
    assert [batch.size for batch in single.in_order(13, CPU)] == [13, 13, 4]


def test_views_are_brought_together_in_their_order(tmp_path, rows):
    shuffled = [rows[index] for index in np.random.default_rng(0).permutation(len(rows))]
    write_split_table(shuffled, tmp_path / "split.parquet", {})
    read, _ = read_split_table(tmp_path / "split.parquet")
    assert [row.view for row in read] == [f"C{view}" for view in range(1, 6)] * 8
    assert len({row.group for row in read[:5]}) == 1
    assert view_count(read) == VIEWS
    alone = [replace(row, group="", view="") for row in shuffled]
    assert views_together(alone) == alone


def test_objects_are_held_out_whole(tmp_path, rows):
    held = [row for row in hold_out(rows, CalibrationConfig(0.3, 0.01, 0)) if row.phase == "calibration"]
    assert len(held) == 2 * VIEWS
    assert view_count(held) == VIEWS
    split = image_split(tmp_path / "images", train=30, test=0, views=VIEWS)
    kept = rows_for_training(split, 0.3, 0)
    assert len(kept) == 4 * VIEWS
    assert view_count([split.rows[index] for index in kept]) == VIEWS
    judged = validation_split(split, 0.3, 0, tmp_path / "validation")
    assert view_count(judged.rows) == VIEWS
    assert len(judged.rows) == 4 * VIEWS
    by_object = {row.group: set() for row in judged.rows}
    for row in judged.rows:
        by_object[row.group].add(row.label)
    assert sorted(map(sorted, by_object.values())) == [[0], [0], [1], [1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: [replace(row, group="", view="") for row in rows],
            "'bottle': has images that stand alone; the method",
        ),
        (lambda rows: rows[:11], "class 'bottle': has object '002', which has a single view"),
        (lambda rows: rows[:9], "object '001' has 4 views, but '000' of class 'bottle' has 5"),
        (lambda rows: [*rows[:4], *rows[5:10], rows[4]], "views of an object must stand side by side"),
    ],
)
def test_what_are_no_views_is_refused(rows, change, message):
    with pytest.raises(InputError, match=message):
        view_count(change(rows))


def test_settings_that_do_not_fit_to_views_are_refused(tmp_path):
    sections = {
        "splits": {},
        "calibration": {"share": 0.0, "false_positive_rate": 0.01, "seed": 0},
        "features": {"encoder": "resnet34", "weights": "none", "image_size": 64},
        "train": {"model": "mvad"},
        "score": {},
    }
    with pytest.raises(
        InputError, match=r"^p: train\.model: mvad sees objects in several views; images of mvtec stand"
    ):
        parse_benchmark("x", "mvtec", sections, "p: ")
    output = MemoryFeatures(random_levels(10)).key.output
    with pytest.raises(InputError, match=r"^batch_size: 12 images are no whole number of objects of 5 views"):
        training_steps(20, replace(output, channels=(8, 16, 32)), replace(CONFIG, batch_size=12), VIEWS)


def test_a_model_of_views_predicts_objects_and_refuses_single_images(tmp_path):
    split = image_split(tmp_path / "images", train=20, test=10, size=40, views=VIEWS)
    features = invad.config.FeaturesConfig("mobilenetv2_100", image_size=64)
    model = invad.train(split, method=CONFIG, features=features, progress=False, device="cpu")
    images = [split.image_path(row) for row in split.phase("test")]
    both, second = model.predict(images, views=VIEWS), model.predict(images[5:], views=VIEWS)
    assert [both[index].score for index in range(5, 10)] == pytest.approx([one.score for one in second], rel=1e-4)
    swapped = model.predict([*images[:4], images[9]], views=VIEWS)
    assert swapped[0].score != both[0].score  # what another view shows counts
    with pytest.raises(InputError, match=r"^views: mvad sees objects in several views; 1 is no such number"):
        model.predict(images)
    with pytest.raises(InputError, match=r"^images: the last object has 2 images, not 4 views"):
        model.predict(images, views=4)
    model.save(tmp_path / "model")
    with pytest.raises(InputError, match=r"mvad needs all views of an object together; in Python: invad.load"):
        load_graph(tmp_path / "model")
    done = pipe("predict", "model", str(images[0]), "--out", "out", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("mvad needs all views of an object together")) == (2, 1)
    assert not (tmp_path / "out").exists()


def test_dropout_is_of_seed_epoch_and_image_alone():
    from invad.methods.base import Position
    from invad.methods.mvad import MVAD

    torch.manual_seed(0)
    levels = random_levels(10)
    output = replace(MemoryFeatures(levels).key.output, channels=(6, 8, 12))
    method = MVAD(output, replace(CONFIG, heads=2)).train()
    source = BatchSource(MemoryFeatures(levels), method.needs, views=VIEWS)

    def loss(seed: tuple[int, ...], order: list[int]) -> float:
        (batch,) = source.batches([order], CPU, seed)
        return method(batch, Position(0, 0, 1, 0, 1)).item()

    ahead, behind = list(range(10)), [*range(5, 10), *range(5)]
    first = loss((42, 0), ahead)
    assert loss((42, 0), ahead) == first
    assert loss((42, 0), behind) == pytest.approx(first, rel=1e-5)
    assert loss((42, 1), ahead) != pytest.approx(first, rel=1e-4)


@pytest.fixture(scope="module")
def real_iad(tmp_path_factory) -> Split:
    """The generated Real-IAD: three classes of twelve objects to train on and eight to test, half of them defective."""
    root = tmp_path_factory.mktemp("realiad")
    generate_real_iad(root, seed=0, train_images=60, test_images=40, image_size=96)
    rows = build_real_iad(root, RealIadSplitConfig())
    return Split(tuple(rows), root, root)


def measured(split: Split, **settings: float) -> dict[str, float]:
    """The mean metrics of an MVAD that was trained on a split, exact protocol."""
    config = MVADConfig(batch_size=20, **settings)
    features = invad.config.FeaturesConfig("mobilenetv2_100", weights="packaged", image_size=96)
    none_held_out = CalibrationConfig(0.0, 0.01, 0)
    model = invad.train(
        split, method=config, features=features, calibration=none_held_out, progress=False, device="cpu"
    )
    rows = split.phase("test")
    found = model.predict([split.image_path(row) for row in rows], views=VIEWS)
    result = invad.metrics.evaluate(
        found.maps,
        resized_masks(split, rows, 96),
        [row.class_name for row in rows],
        [row.label for row in rows],
        groups=[row.group for row in rows],
    )
    return result["mean"]["exact"]


@pytest.mark.slow
def test_mvad_finds_defects_that_an_untrained_one_does_not(real_iad):
    trained = measured(real_iad, epochs=20, learning_rate=0.003)
    untrained = measured(real_iad, epochs=1, learning_rate=1e-12)
    print(trained, untrained)  # 94.4, 81.8 and 64.6 against 45.0, 8.4 and 41.7 percent
    for key, floor in (("pixel_auroc", 0.9), ("region_aupro", 0.7), ("sample_auroc", 0.55)):
        assert trained[key] > floor > untrained[key] + 0.05
