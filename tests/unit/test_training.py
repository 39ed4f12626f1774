"""The training loop, its curve, what it asks of a method, and the folder that a trained model becomes."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys import (
    CHANNELS,
    CPU,
    FEATURES,
    KEY,
    SIZE,
    MemoryFeatures,
    ToyMethod,
    batch_of,
    image_split,
    random_levels,
    split_of,
    write_toy_store,
)

from invad.config import TRAIN_CONFIGS, FeaturesConfig, InvADConfig, RDConfig, ScoreConfig, TrainConfig
from invad.devices import autocast, make_deterministic, place
from invad.errors import InputError
from invad.features import FeatureSource, FeatureStore, extract_features, open_features
from invad.features.batches import BatchSource
from invad.methods import METHODS, Method, build_method
from invad.methods.base import Optimisation, Position, TrainingPhase
from invad.scoring.score import finished
from invad.training.curve import CURVE_HEADER, Step, append_step, curve_csv, read_curve, truncate_curve
from invad.training.loop import NotFiniteError, Share, Trainer, epoch_batches, steps_per_epoch, training_steps
from invad.training.model_folder import ModelConfig, check_features, load_model, save_model

CONFIG = InvADConfig(epochs=4, batch_size=4, style_channels=8, latent_channels=4, blocks=1)
CONFIGS = {"invad": CONFIG, "rd": RDConfig(epochs=4, batch_size=4)}
START = Position(0, 0, 8, 0, 4)
PRECISIONS = ("float32", "bfloat16", "float16")


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    """Features of ten images."""
    write_toy_store(tmp_path / "features", split_of(tmp_path, train=10, test=0))
    return FeatureStore(tmp_path / "features", "train")


def new_trainer(features: FeatureSource, config: TrainConfig, **settings) -> Trainer:
    make_deterministic(config.seed, CPU)
    method = place(build_method(features.key.output, config), CPU, config)
    return Trainer(method, BatchSource(features, method.needs), config, **settings)


def epoch_of(trainer: Trainer, epoch: int) -> Iterator[Step]:
    """Train one epoch, counted from 0."""
    steps = steps_per_epoch(len(trainer.source), trainer.config)
    return islice(trainer.steps(epoch * steps), steps)


def parts_of(method: Method) -> tuple[TrainingPhase, Optimisation]:
    """The only phase of a method and its only optimiser."""
    (phase,) = method.phases()
    (optimisation,) = phase.optimisations()
    return phase, optimisation


def rate_of(method: Method, epoch: int, epochs: int) -> float:
    return parts_of(method)[1].rate(Position(0, 2 * epoch, 2 * epochs, epoch, epochs))


def train(features: FeatureSource, config: TrainConfig, epochs: int) -> tuple[list[Step], dict[str, Tensor]]:
    trainer = new_trainer(features, config)
    steps = [step for epoch in range(epochs) for step in epoch_of(trainer, epoch)]
    return steps, trainer.method.state_dict()


def same_tensors(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def parameters(method: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in method.named_parameters()}


# The recipe


def test_an_epoch_is_every_image_once_but_for_the_incomplete_batch():
    batches = epoch_batches(10, 0, CONFIG)
    assert [len(batch) for batch in batches] == [4, 4]
    assert len(set(np.concatenate(batches))) == 8
    assert steps_per_epoch(10, CONFIG) == 2


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(epoch: int, seed: int) -> list[int]:
        return np.concatenate(epoch_batches(100, epoch, replace(CONFIG, seed=seed))).tolist()

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(epoch, seed)) for epoch in (0, 1) for seed in (1, 2)}) == 4


def test_workers_share_every_global_batch():
    for batch in epoch_batches(10, 3, CONFIG):
        first, second = (Share(rank, 2).of(batch) for rank in (0, 1))
        assert len(first) == len(second) == 2
        assert sorted([*first, *second]) == sorted(batch)
        assert Share().of(batch).tolist() == batch.tolist()


def test_the_learning_rate_falls_to_a_tenth_after_four_fifths_of_the_epochs(store):
    config = replace(CONFIG, epochs=10, learning_rate=0.001)
    method = build_method(KEY.output, config)
    assert [rate_of(method, epoch, 10) for epoch in (0, 7, 8, 9)] == [0.001, 0.001, 0.0001, 0.0001]
    trainer = new_trainer(store, config)
    for epoch in (7, 8):
        before = parameters(trainer.method)
        steps = list(epoch_of(trainer, epoch))
        assert {step.learning_rate for step in steps} == {rate_of(method, epoch, 10)}
        # Adam's first steps move a weight by about the learning rate each, its later ones by not much more.
        after = parameters(trainer.method)
        moved = max(float((after[name] - before[name]).abs().max()) for name in before)
        assert 0.5 * rate_of(method, epoch, 10) < moved < 10 * rate_of(method, epoch, 10)


def test_a_batch_larger_than_the_data_is_an_error():
    with pytest.raises(InputError, match="batch_size: 4 is more than the 3 training images"):
        steps_per_epoch(3, CONFIG)


def test_the_optimiser_and_the_loss_are_the_papers(store):
    method = build_method(KEY.output, replace(CONFIG, learning_rate=0.003, loss_weight=5.0))
    _, optimisation = parts_of(method)
    (group,) = optimisation.optimizer.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.003, (0.0, 0.99), 0)
    assert optimisation.clip == 5.0
    features = store.batch([0, 1])
    method.network.forward = lambda levels: [torch.zeros_like(level) for level in levels]
    expected = 5 * sum(float((level**2).mean()) for level in features)
    assert float(method.loss(batch_of(features), START)) == pytest.approx(expected, rel=1e-5)


# The trainer


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.slow
def test_training_lowers_the_loss_and_is_the_same_twice(store, precision):
    config = replace(CONFIG, epochs=10, precision=precision)
    first, weights = train(store, config, 10)
    second, same = train(store, config, 10)
    assert first == second
    assert [(step.step, step.epoch) for step in first[:3]] == [(1, 0), (2, 0), (3, 1)]
    assert same_tensors(weights, same)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32, torch.int64}  # int64: BatchNorm's counts
    assert np.mean([step.loss for step in first[-4:]]) < 0.75 * first[0].loss
    assert train(store, replace(config, seed=1), 1)[0][0].loss != first[0].loss


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_checkpoint_holds_all_that_the_next_steps_depend_on(store, tmp_path, precision):
    config = replace(CONFIG, precision=precision)
    trainer = new_trainer(store, config)
    list(epoch_of(trainer, 0))
    torch.save(trainer.state_dict(), tmp_path / "checkpoint.pt")
    expected = list(epoch_of(trainer, 1))
    resumed = new_trainer(store, replace(config, seed=7))
    resumed.config = config
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert bool(state["scaler"]) == (precision == "float16")
    resumed.load_state_dict(state, 2)
    assert list(epoch_of(resumed, 1)) == expected
    assert same_tensors(resumed.method.state_dict(), trainer.method.state_dict())
    assert resumed.state_dict()["scaler"] == trainer.state_dict()["scaler"]


def test_half_precision_rounds_the_reconstructions_and_nothing_else(store):
    whole, _ = train(store, CONFIG, 1)
    for precision, tolerance in (("bfloat16", 0.01), ("float16", 0.001)):
        half, _ = train(store, replace(CONFIG, precision=precision), 1)
        assert half[0].loss != whole[0].loss
        assert half[0].loss == pytest.approx(whole[0].loss, rel=tolerance)


def test_the_trainer_asks_for_its_share_and_reports_the_mean_over_all_workers(store, monkeypatch):
    asked = []
    wrapped = []
    batches = store.batches
    monkeypatch.setattr(store, "batches", lambda rows, device: batches((asked.append(r) or r for r in rows), device))
    trainer = new_trainer(
        store,
        CONFIG,
        share=Share(1, 2, wrap=lambda method: wrapped.append(method) or method, mean=lambda loss: 42.0),
    )
    assert [step.loss for step in epoch_of(trainer, 0)] == [42.0, 42.0]
    assert [rows.tolist() for rows in asked] == [batch[1::2].tolist() for batch in epoch_batches(10, 0, CONFIG)]
    assert wrapped == [trainer.method]


def test_averaging_in_place_leaves_the_loss_of_this_worker_as_it_is(monkeypatch):
    monkeypatch.setitem(METHODS, "invad", ToyMethod)
    loss = ToyMethod.loss
    monkeypatch.setattr(
        ToyMethod, "loss", lambda self, *given: loss(self, *given).sqrt()
    )  # whose gradient needs its value
    features = MemoryFeatures(random_levels(10))
    expected, weights = train(features, CONFIG, 1)
    trainer = new_trainer(features, CONFIG, share=Share(mean=lambda value: float(value.mul_(2))))
    assert [step.loss for step in epoch_of(trainer, 0)] == [2 * step.loss for step in expected]
    assert same_tensors(trainer.method.state_dict(), weights)


def one_nan(image: int) -> MemoryFeatures:
    levels = random_levels(10)
    levels[1][image, 0, 0, 0] = float("nan")
    return MemoryFeatures(levels)


@pytest.mark.parametrize("model", CONFIGS)
def test_a_loss_that_is_not_finite_stops_the_training_before_it_spoils_the_weights(model):
    config = CONFIGS[model]
    unused = set(range(10)) - {int(image) for batch in epoch_batches(10, 0, config) for image in batch}
    image = next(image for batch in epoch_batches(10, 1, config) for image in batch if image in unused)
    features = one_nan(image)
    trainer = new_trainer(features, config)
    steps, before = [], {}
    expected = [*epoch_batches(10, 0, config), *epoch_batches(10, 1, config)]
    bad = next(number for number, batch in enumerate(expected) if image in batch)
    assert bad >= 2
    with pytest.raises(NotFiniteError) as caught:
        for epoch in (0, 1):
            for step in epoch_of(trainer, epoch):
                steps.append(step)
                before = parameters(trainer.method)
    names = ", ".join(f"{index:03d}.png" for index in expected[bad])
    assert str(caught.value) == f"the loss is nan at step {bad + 1} (epoch 2); its batch: {names}"
    assert isinstance(caught.value, InputError)
    assert len(steps) == bad
    assert same_tensors(parameters(trainer.method), before)


def test_the_whole_global_batch_is_named_by_every_worker():
    trainer = new_trainer(
        MemoryFeatures(random_levels(10)),
        CONFIG,
        share=Share(1, 2, mean=lambda loss: float("inf")),  # another worker's
    )
    names = ", ".join(f"{index:03d}.png" for index in epoch_batches(10, 0, CONFIG)[0])
    with pytest.raises(NotFiniteError, match=rf"^the loss is inf at step 1 \(epoch 1\); its batch: {names}$"):
        next(epoch_of(trainer, 0))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("model", CONFIGS)
def test_a_gradient_that_is_not_finite_stops_the_training_before_it_spoils_the_weights(model, precision, monkeypatch):
    config = replace(CONFIGS[model], precision=precision, batch_size=2, epochs=20)
    trainer = new_trainer(MemoryFeatures(random_levels(10)), config)
    loss = trainer.method.loss
    weight = next(trainer.method.parameters())
    list(epoch_of(trainer, 0))
    before = parameters(trainer.method)
    # The square root of nothing is finite, its slope is not.
    monkeypatch.setattr(trainer.method, "loss", lambda *given: loss(*given) + (weight.sum() * 0).sqrt())
    with pytest.raises(
        NotFiniteError, match=r"^the gradient is nan at step (\d+) \(epoch \d+\); its batch: \d"
    ) as caught:
        for epoch in range(1, 20):
            list(epoch_of(trainer, epoch))
    # float16 takes it for an overflow at first, and lowers the scale of the loss until there is none left.
    step = int(str(caught.value).split(" at step ")[1].split()[0])
    assert step == 6 if precision != "float16" else 16 < step <= 6 + 16
    assert same_tensors(parameters(trainer.method), before)


def test_float16_leaves_out_steps_that_overflow_until_its_scale_fits(monkeypatch):
    monkeypatch.setitem(METHODS, "invad", ToyMethod)
    loss = ToyMethod.loss
    monkeypatch.setattr(ToyMethod, "loss", lambda self, *given: 1e3 * loss(self, *given))
    config = replace(CONFIG, precision="float16", learning_rate=0.003, epochs=20)
    trainer = new_trainer(MemoryFeatures(random_levels(8)), config)
    before = parameters(trainer.method)
    steps = (step for epoch in range(20) for step in epoch_of(trainer, epoch))
    first = next(steps)
    assert same_tensors(parameters(trainer.method), before)
    *_, last = steps
    assert not same_tensors(parameters(trainer.method), before)
    assert last.loss < first.loss
    assert 1 < trainer.state_dict()["scaler"]["scale"] < 65536


def test_the_memory_format_changes_rounding_only(store):
    for config in CONFIGS.values():
        fast, _ = train(store, config, 1)
        plain, _ = train(store, replace(config, channels_last=False), 1)
        assert [step.loss for step in plain] == pytest.approx([step.loss for step in fast], rel=1e-3)


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler on this machine")
@pytest.mark.slow
def test_compiled_training_has_the_same_losses(store, monkeypatch, fresh_compiler):
    monkeypatch.setitem(METHODS, "invad", ToyMethod)  # small: to compile a real method takes minutes
    config = replace(CONFIG, learning_rate=0.1)
    plain, weights = train(store, config, 2)
    compiled, same = train(store, replace(config, compile=True), 2)
    assert [step.loss for step in compiled] == pytest.approx([step.loss for step in plain], rel=1e-3)
    assert weights.keys() == same.keys()  # no prefix from the wrapper, so checkpoints fit


@pytest.mark.parametrize("model", CONFIGS)
@pytest.mark.slow
def test_every_method_can_be_captured_by_the_compiler(model, store, captured):
    plain, _ = train(store, CONFIGS[model], 1)
    compiled, _ = train(store, replace(CONFIGS[model], compile=True), 1)
    assert [step.loss for step in compiled] == pytest.approx([step.loss for step in plain], rel=1e-3)
    assert len(captured) == 1  # in one piece, and once for all batches


# Live features


@pytest.mark.slow
def test_live_features_train_to_the_weights_of_a_float32_store(tmp_path):
    split = image_split(tmp_path, train=8, test=1)
    results = []
    for mode in ("store", "live"):
        # As many images at a time as in training: how the encoder rounds depends on that.
        features = FeaturesConfig("mobilenetv2_100", image_size=SIZE, dtype="float32", batch_size=4, mode=mode)
        extract_features(split, features, tmp_path / mode)
        results.append(train(open_features(tmp_path / mode, "train", split, features), CONFIG, 3))
    (stored, weights), (live, same) = results
    assert live == stored
    assert same_tensors(weights, same)


def test_training_names_an_image_that_is_damaged(tmp_path):
    split = image_split(tmp_path, train=8, test=1)
    features = FeaturesConfig("mobilenetv2_100", image_size=SIZE, mode="live")
    extract_features(split, features, tmp_path / "features")
    image = tmp_path / "images/005.png"
    image.write_bytes(image.read_bytes()[:100])
    with pytest.raises(InputError, match=r"images/005\.png: damaged image"):
        train(open_features(tmp_path / "features", "train", split, features), CONFIG, 1)


# What a method has to be


def test_every_method_has_its_settings():
    assert list(METHODS) == list(TRAIN_CONFIGS)
    assert {name: config().model for name, config in TRAIN_CONFIGS.items()} == {name: name for name in METHODS}


@pytest.mark.parametrize("model", CONFIGS)
@pytest.mark.slow
def test_every_method_predicts_maps_and_learns(model, store):
    """The contract of `Method`."""
    torch.manual_seed(0)
    method = build_method(KEY.output, CONFIGS[model])
    (features,) = store.batches([[0, 1, 2]], CPU)
    loss = method(batch_of(features), START)
    assert loss.shape == ()
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())
    maps, scores = finished(method, method.predict, batch_of(features), ScoreConfig(sigma=1.0))
    assert maps.shape == (3, SIZE, SIZE)
    assert maps.dtype == torch.float32
    assert torch.equal(scores, maps.amax((1, 2)))
    _, optimisation = parts_of(method)
    assert optimisation.clip > 0
    assert all(0 < rate_of(method, epoch, 4) <= CONFIGS[model].learning_rate for epoch in range(4))
    parameters = [p for group in optimisation.optimizer.param_groups for p in group["params"]]
    assert len(parameters) == len(list(method.parameters()))
    steps, _ = train(store, replace(CONFIGS[model], epochs=8), 8)
    assert np.mean([step.loss for step in steps[-4:]]) < 0.95 * steps[0].loss


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("model", CONFIGS)
def test_losses_and_maps_are_float32_in_every_precision(model, precision, store):
    method = build_method(KEY.output, CONFIGS[model])
    (features,) = store.batches([[0, 1, 2]], CPU)
    with autocast(CPU, precision):
        loss = method(batch_of(features), START)
        maps, _ = method.predict(batch_of(features), ScoreConfig())
    assert loss.dtype == maps.dtype == torch.float32
    assert torch.isfinite(maps).all()


def test_a_method_needs_nothing_but_what_method_says(store, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "invad", ToyMethod)
    trainer = new_trainer(store, replace(CONFIG, learning_rate=0.5))
    losses = [step.loss for epoch in range(4) for step in epoch_of(trainer, epoch)]
    assert losses[-1] < 0.9 * losses[0]
    save_model(trainer.method, MODEL, tmp_path / "model")
    loaded, _ = load_model(tmp_path / "model")
    assert isinstance(loaded, ToyMethod)
    assert same_tensors(loaded.state_dict(), trainer.method.state_dict())


# The curve

STEPS = [Step(1, 0, 1.25, 0.004), Step(2, 0, 0.5, 0.0004), Step(3, 1, 1e-7, 4e-05)]


def test_a_curve_is_a_csv_file_with_epochs_from_1():
    assert CURVE_HEADER == "step,epoch,loss,learning_rate"
    assert curve_csv(STEPS) == (
        "step,epoch,loss,learning_rate\n1,1,1.25,0.004\n2,1,0.5,0.0004\n3,2,1e-07,4e-05\n"
    )  # fmt: skip


def test_a_curve_survives_and_a_half_written_line_is_left_out(tmp_path):
    path = tmp_path / "curve.csv"
    path.write_text(curve_csv(STEPS) + "4,2,0.2")
    assert read_curve(path) == STEPS
    assert read_curve(tmp_path / "none.csv") == []
    path.write_text("step,epo")
    assert read_curve(path) == []


def test_a_loss_in_the_curve_is_the_same_float32(tmp_path):
    losses = np.random.default_rng(0).random(200, np.float32) * np.logspace(-6, 6, 200, dtype=np.float32)
    (tmp_path / "curve.csv").write_text(curve_csv(Step(n, 0, float(loss), 1.0) for n, loss in enumerate(losses)))
    assert np.array_equal(np.float32([step.loss for step in read_curve(tmp_path / "curve.csv")]), losses)


def test_a_curve_grows_line_by_line_and_forgets_what_came_behind_the_checkpoint(tmp_path):
    path = tmp_path / "curve.csv"
    truncate_curve(path, 0)
    assert path.read_text() == f"{CURVE_HEADER}\n"
    for step in STEPS:
        append_step(path, step)
    assert path.read_text() == curve_csv(STEPS)
    with path.open("a") as file:
        file.write("4,2,0.")
    truncate_curve(path, 2)
    assert path.read_text() == curve_csv(STEPS[:2])
    append_step(path, STEPS[2])
    assert read_curve(path) == STEPS
    truncate_curve(path, 0)
    assert read_curve(path) == []


# The model folder

MODEL = ModelConfig("mvtec", ("bottle",), CHANNELS, "weights", FEATURES, CONFIG)


@pytest.mark.parametrize("model", CONFIGS)
def test_a_model_folder_survives_and_is_the_same_bytes_twice(model, tmp_path, store):
    config = replace(MODEL, train=CONFIGS[model])
    method = place(build_method(KEY.output, config.train), CPU, config.train).eval()
    save_model(method, config, tmp_path / "one")
    save_model(method, config, tmp_path / "two")
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["config.json", "model.safetensors"]
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    loaded, same = load_model(tmp_path / "one")
    assert same == config
    assert same_tensors(loaded.state_dict(), method.state_dict())
    features = store.batch([0])
    assert not loaded.training
    batch = batch_of(features).formatted(config.train)
    maps = [each.predict(batch, ScoreConfig()).maps for each in (place(loaded, CPU, config.train), method)]
    assert torch.equal(*maps)


def test_a_model_folder_of_before_the_switches_is_the_papers_network(tmp_path):
    method = build_method(KEY.output, CONFIG)
    save_model(method, MODEL, tmp_path / "model")
    path = tmp_path / "model/config.json"
    value = json.loads(path.read_text())
    for key in (
        "loss",
        "modulation",
        "modulation_terms",
        "normalisation",
        "upsampler",
        "style_translator",
        "aggregation",
    ):
        del value["train"][key]
    path.write_text(json.dumps(value))
    loaded, config = load_model(tmp_path / "model")
    assert config == MODEL
    assert same_tensors(loaded.state_dict(), method.state_dict())


def test_the_memory_format_leaves_no_trace_in_a_model_folder(tmp_path):
    for name, channels_last in (("one", True), ("two", False)):
        torch.manual_seed(0)
        method = build_method(KEY.output, CONFIG)
        save_model(place(method, CPU, replace(CONFIG, channels_last=channels_last)), MODEL, tmp_path / name)
    weights = [tmp_path / name / "model.safetensors" for name in ("one", "two")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_damaged_or_foreign_model_folders_are_named(tmp_path):
    save_model(build_method(KEY.output, CONFIG), MODEL, tmp_path / "model")
    check_features(MODEL, KEY, tmp_path)
    for change in ({"image_size": 128}, {"weights_sha256": "other"}):
        with pytest.raises(InputError, match="run `dvc repro train`"):
            check_features(MODEL, replace(KEY, **change), tmp_path)
    weights = tmp_path / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged model"):
        load_model(tmp_path / "model")
    config = tmp_path / "model/config.json"
    for text, reason in (
        (
            '{"format": 99, "version": "7.1"}',
            "a model of format 99, made by invad 7.1; .* reads format 1: train it again, or install",
        ),
        ('{"format": 0}', "a model of format 0, .*: train it again"),
        ("{}", "a model of format None, "),
        ("[]", "not the settings of a model"),
    ):
        config.write_text(text)
        with pytest.raises(InputError, match=rf"config\.json: {reason}"):
            load_model(tmp_path / "model")
    with pytest.raises(InputError, match="nowhere: no model folder"):
        load_model(tmp_path / "nowhere")


# Phases


class TwoPhases(ToyMethod):
    """Trains its first layer, then the others, a step more than an epoch; then fits a mean."""

    fitted = ("mean",)

    def __init__(self, output, config):
        super().__init__(output, config)
        self.register_buffer("mean", torch.empty(0))

    def phases(self):
        def of(layers):
            return lambda: [
                Optimisation(torch.optim.Adam(layers.parameters(), lr=0.01), lambda at: 0.01 / (1 + at.step))
            ]

        return [
            TrainingPhase(of(self.layers[:1]), epochs=2, frozen=("layers.1", "layers.2")),
            TrainingPhase(of(self.layers[1:]), steps=3, frozen=("layers.0",)),
        ]

    def fit(self, batches):
        self.mean = torch.stack([batch.features[0].mean() for batch in batches()])


@pytest.fixture
def two_phases(monkeypatch):
    monkeypatch.setitem(METHODS, "invad", TwoPhases)


def test_phases_train_what_they_name_one_after_the_other(two_phases, store):
    trainer = new_trainer(store, CONFIG)
    assert trainer.total == 2 * 2 + 3
    before = parameters(trainer.method)
    first = list(islice(trainer.steps(), 4))
    middle = parameters(trainer.method)
    assert [step.learning_rate for step in first] == [0.01, 0.005, 0.01 / 3, 0.0025]
    changed = {name.split(".")[1] for name in before if not torch.equal(before[name], middle[name])}
    assert changed == {"0"}
    second = list(trainer.steps(4))
    assert [(step.step, step.epoch) for step in second] == [(5, 2), (6, 2), (7, 3)]
    assert [step.learning_rate for step in second] == [0.01, 0.005, 0.01 / 3]
    after = parameters(trainer.method)
    assert {name.split(".")[1] for name in middle if not torch.equal(middle[name], after[name])} == {"1", "2"}


@pytest.mark.parametrize("stop", range(1, 7))
def test_a_training_of_phases_goes_on_from_any_step(two_phases, store, stop):
    whole = new_trainer(store, CONFIG)
    expected = list(whole.steps())
    half = new_trainer(store, CONFIG)
    list(islice(half.steps(), stop))
    resumed = new_trainer(store, replace(CONFIG, seed=CONFIG.seed))
    resumed.load_state_dict(half.state_dict(), stop)
    assert list(resumed.steps(stop)) == expected[stop:]
    assert same_tensors(resumed.method.state_dict(), whole.method.state_dict())


def test_what_is_fitted_has_the_length_that_the_images_give(two_phases, store, tmp_path):
    trainer = new_trainer(store, CONFIG)
    trainer.fit()
    assert trainer.method.mean.shape == (3,)  # batches of 4, 4 and the last 2
    save_model(trainer.method, MODEL, tmp_path / "model")
    loaded, _ = load_model(tmp_path / "model")
    assert torch.equal(loaded.mean, trainer.method.mean)
    assert training_steps(10, KEY.output, CONFIG) == 8
