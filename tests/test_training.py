"""The training loop by itself, then Ray around it: recipe, determinism, resuming, publishing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tqdm import tqdm

from invad.config import FeaturesConfig, ResourcesConfig, TrainConfig
from invad.devices import make_deterministic, place
from invad.errors import InputError
from invad.features import FeatureKey, FeatureStore, write_shards
from invad.methods import METHODS, build_method
from invad.model_folder import ModelConfig, check_features, load_model, save_model
from invad.training import ray_train
from invad.training.loop import Share, Step, epoch_batches, learning_rate, steps_per_epoch, train_epoch
from invad.training.ray_train import curve_csv, read_curve, train_with_ray

CONFIG = TrainConfig(epochs=4, batch_size=4, style_channels=8, latent_channels=4, blocks=1, checkpoint_epochs=2)
CHANNELS = (6, 8, 12)
KEY = FeatureKey("encoder", "weights", 32, "float32", "train", "split")


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    """Features of ten images of 32x32 pixels."""
    (tmp_path / "features").mkdir()
    generator = torch.Generator().manual_seed(0)
    levels = [
        torch.randn(10, c, 32 // s, 32 // s, generator=generator) for c, s in zip(CHANNELS, (4, 8, 16), strict=True)
    ]
    write_shards([levels], tmp_path / "features", KEY, tqdm(disable=True))
    return FeatureStore(tmp_path / "features", "train")


# The loop


def test_an_epoch_is_every_image_once_but_for_the_incomplete_batch():
    batches = list(epoch_batches(10, 0, CONFIG, Share()))
    assert [len(batch) for batch in batches] == [4, 4]
    assert len(set(np.concatenate(batches))) == 8
    assert steps_per_epoch(10, CONFIG) == 2


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(epoch: int, seed: int) -> list[int]:
        return np.concatenate(list(epoch_batches(100, epoch, replace(CONFIG, seed=seed), Share()))).tolist()

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(epoch, seed)) for epoch in (0, 1) for seed in (1, 2)}) == 4


def test_workers_share_every_global_batch():
    whole = list(epoch_batches(10, 3, CONFIG, Share()))
    halves = [list(epoch_batches(10, 3, CONFIG, Share(rank, 2))) for rank in (0, 1)]
    for batch, first, second in zip(whole, *halves, strict=True):
        assert len(first) == len(second) == 2
        assert sorted([*first, *second]) == sorted(batch)


def test_the_learning_rate_falls_to_a_tenth_after_four_fifths_of_the_epochs():
    config = replace(CONFIG, epochs=10, learning_rate=1.0)
    assert [learning_rate(epoch, config) for epoch in (0, 7, 8, 9)] == [1.0, 1.0, 0.1, 0.1]


def test_a_batch_larger_than_the_data_is_an_error():
    with pytest.raises(InputError, match="batch_size: 4 is more than the 3 training images"):
        steps_per_epoch(3, CONFIG)


def train(store: FeatureStore, config: TrainConfig, epochs: int) -> tuple[list[Step], dict[str, torch.Tensor]]:
    make_deterministic(config.seed, torch.device("cpu"))
    method = place(build_method(CHANNELS, 32, config), torch.device("cpu"))
    optimizer = method.optimizer(method.parameters())
    steps = [
        step
        for epoch in range(epochs)
        for step in train_epoch(method, method, optimizer, store, config, epoch, Share(), float)
    ]
    return steps, method.state_dict()


def test_training_lowers_the_loss_and_is_the_same_twice(store):
    config = replace(CONFIG, epochs=10)
    first, weights = train(store, config, 10)
    second, same = train(store, config, 10)
    assert first == second
    assert [(step.step, step.epoch) for step in first[:3]] == [(1, 0), (2, 0), (3, 1)]
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert np.mean([step.loss for step in first[-4:]]) < 0.7 * first[0].loss
    assert train(store, replace(config, seed=1), 1)[0][0].loss != first[0].loss


def test_the_optimiser_and_the_loss_are_the_papers(store):
    method = build_method(CHANNELS, 32, replace(CONFIG, learning_rate=0.003, loss_weight=5.0))
    (group,) = method.optimizer(method.parameters()).param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.003, (0.0, 0.99), 0)
    features = store.batch([0, 1])
    zeros = [torch.zeros_like(level) for level in features]
    expected = 5 * sum(float((level**2).mean()) for level in features)
    assert float(method.loss(features, zeros)) == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_is_not_finite_stops_the_training(store):
    method = build_method(CHANNELS, 32, CONFIG)
    with torch.no_grad():
        next(method.parameters()).fill_(float("nan"))
    epoch = train_epoch(method, method, method.optimizer(method.parameters()), store, CONFIG, 1, Share(), float)
    with pytest.raises(InputError, match=r"the loss is nan at step 3 \(epoch 2, training images \["):
        next(epoch)


@pytest.mark.parametrize("model", METHODS)
def test_every_method_reconstructs_maps_and_learns(model, store):
    """The contract of `Method`."""
    method = build_method(CHANNELS, 32, replace(CONFIG, model=model))
    features = store.batch([0, 1, 2])
    reconstructions = method(features)
    assert [level.shape for level in reconstructions] == [level.shape for level in features]
    loss = method.loss(features, reconstructions)
    assert loss.shape == ()
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())
    maps = method.anomaly_map(features, reconstructions, 32, 1.0)
    assert maps.shape == (3, 32, 32)
    assert maps.dtype == torch.float32


# Ray around it


def run(store: FeatureStore, tmp_path, config: TrainConfig = CONFIG, **changes):
    arguments = {
        "name": "mvtec",
        "workers": 1,
        "resources": ResourcesConfig(cpu=1, gpu=0),
        "on_progress": lambda *_: None,
    }
    return train_with_ray(tmp_path / "features", config, storage=tmp_path / "ray", **(arguments | changes))


def test_ray_gives_the_curve_and_weights_of_the_plain_loop_and_leaves_no_storage(store, tmp_path):
    torch.set_num_threads(1)
    expected, weights = train(store, CONFIG, CONFIG.epochs)
    seen = []
    method, steps = run(store, tmp_path, on_progress=lambda new, total: seen.append((len(new), total)))
    assert [step.step for step in steps] == list(range(1, 9))
    assert [step.loss for step in steps] == pytest.approx([step.loss for step in expected], rel=1e-8)
    for name, tensor in method.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    assert sum(count for count, _ in seen) == 8
    assert {total for _, total in seen} == {8}
    assert list((tmp_path / "ray").glob("mvtec-*")) == []


class Killed(BaseException):
    pass


def test_an_interrupted_training_continues_to_the_same_bytes(store, tmp_path, monkeypatch):
    whole, _ = run(store, tmp_path)
    steps_seen = []

    def dies(path, step):
        steps_seen.append(step.step)
        if step.step == 7:
            raise Killed
        original(path, step)

    original = ray_train._append_curve
    monkeypatch.setattr(ray_train, "_append_curve", dies)
    with pytest.raises(Killed):
        run(store, tmp_path)
    monkeypatch.setattr(ray_train, "_append_curve", original)
    before = len(list((tmp_path / "ray").glob("mvtec-*")))
    resumed_steps = []
    monkeypatch.setattr(ray_train, "_append_curve", lambda p, s: (resumed_steps.append(s.step), original(p, s)))
    resumed, curve = run(store, tmp_path)
    assert before == 1
    assert steps_seen == [1, 2, 3, 4, 5, 6, 7]
    assert resumed_steps == [5, 6, 7, 8]  # the checkpoint was written after epoch 2, that is after step 4
    assert [step.step for step in curve] == list(range(1, 9))
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


def test_other_settings_never_resume(store, tmp_path):
    hashes = {
        ray_train._result_hash(key, config, workers, resources)
        for key, config, workers, resources in [
            (KEY, CONFIG, 1, ResourcesConfig()),
            (replace(KEY, split_sha256="other"), CONFIG, 1, ResourcesConfig()),
            (KEY, replace(CONFIG, epochs=5), 1, ResourcesConfig()),
            (KEY, CONFIG, 2, ResourcesConfig()),
            (KEY, CONFIG, 1, ResourcesConfig(cpu=2)),
        ]
    }
    assert len(hashes) == 5
    same = ray_train._result_hash(KEY, replace(CONFIG, checkpoint_epochs=1), 1, ResourcesConfig())
    assert same in hashes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workers": 3}, "train.workers: 3 workers cannot share a batch of 4 evenly"),
        (
            {"resources": ResourcesConfig(cpu=999, gpu=0)},
            r"train\.resources_per_worker\.cpu: 1 x 999 asked for, Ray has",
        ),
        ({"resources": ResourcesConfig(cpu=1, gpu=64)}, r"train\.resources_per_worker\.gpu: 1 x 64 asked for"),
    ],
)
def test_what_does_not_fit_is_said_at_once(store, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        run(store, tmp_path, **changes)


def test_two_real_workers_give_the_losses_of_one(store, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = replace(CONFIG, epochs=1)
    _, alone = run(store, tmp_path, config)
    _, shared = run(store, tmp_path, config, workers=2)
    assert len(shared) == 2
    # The first loss is that of the same weights on the same global batch, but for BatchNorm, whose statistics each
    # worker takes over its own half of the batch.
    assert shared[0].loss == pytest.approx(alone[0].loss, rel=0.05)


def test_a_curve_survives_and_a_half_written_line_is_left_out(tmp_path):
    steps = [Step(1, 0, 1.25, 0.004), Step(2, 0, 0.5, 0.0004)]
    (tmp_path / "curve.csv").write_text(curve_csv(steps) + "3,1,0.2")
    assert read_curve(tmp_path / "curve.csv") == steps
    assert read_curve(tmp_path / "none.csv") == []


# The model folder

MODEL = ModelConfig("mvtec", ("bottle",), CHANNELS, "weights", FeaturesConfig("mobilenetv2_100", image_size=32), CONFIG)


def test_a_model_folder_survives_and_is_the_same_bytes_twice(tmp_path, store):
    method = build_method(CHANNELS, 32, CONFIG).eval()
    save_model(method, MODEL, tmp_path / "one")
    save_model(method, MODEL, tmp_path / "two")
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["config.json", "model.safetensors"]
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    loaded, config = load_model(tmp_path / "one")
    assert config == MODEL
    features = store.batch([0])
    assert all(torch.equal(a, b) for a, b in zip(loaded(features), method(features), strict=True))


def test_damaged_or_foreign_model_folders_are_named(tmp_path):
    save_model(build_method(CHANNELS, 32, CONFIG), MODEL, tmp_path / "model")
    check_features(MODEL, KEY, tmp_path)
    with pytest.raises(InputError, match="run `dvc repro train`"):
        check_features(MODEL, replace(KEY, image_size=64), tmp_path)
    weights = tmp_path / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged model"):
        load_model(tmp_path / "model")
    (tmp_path / "model/config.json").write_text('{"format": 99}')
    with pytest.raises(InputError, match=r"config\.json: not a model of format 1"):
        load_model(tmp_path / "model")
    with pytest.raises(InputError, match="no such file"):
        load_model(tmp_path / "nowhere")
