"""What every method has to do, whatever it is: train, go on after an interruption, be saved and loaded, predict, cost, and export."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.export import ExportedProgram
from toys import CPU, image_split

import invad
from invad.cluster import score as cluster_score
from invad.cluster.score import score_by_workers
from invad.config import (
    TRAIN_CONFIGS,
    BenchmarkConfig,
    CalibrationConfig,
    DeSTSegConfig,
    DinomalyConfig,
    DRAEMConfig,
    FeaturesConfig,
    FolderSplitConfig,
    InvADConfig,
    MVADConfig,
    PatchCoreConfig,
    RDConfig,
    ScoreConfig,
    SimpleNetConfig,
    ToCoADConfig,
    TrainConfig,
    UniADConfig,
    WorkersConfig,
)
from invad.config.constants import STRIDES
from invad.data.split_table import Split
from invad.devices import place
from invad.errors import InputError
from invad.features import extract_features, open_features
from invad.features.batches import batch_source
from invad.features.encoder import hollow_encoder
from invad.methods import METHODS, Method, build_method
from invad.predict.export import model as export_module
from invad.predict.export.model import Graph, exported_program, load_graph
from invad.scoring import store as score_store
from invad.scoring.score import predictions, score_images
from invad.scoring.store import open_scores
from invad.training.cost import model_cost
from invad.training.job import TrainJob, run_job
from invad.training.loop import training_steps
from invad.training.model_folder import ModelConfig, load_model, save_model

SIZE, VIEWS = 64, 2
SMALL: dict[str, TrainConfig] = {
    "invad": InvADConfig(epochs=3, batch_size=4, style_channels=8, latent_channels=4, blocks=1),
    "rd": RDConfig(epochs=3, batch_size=4, recipe="re-run"),
    "patchcore": PatchCoreConfig(batch_size=4, share=0.25, dimensions=16, neighbours=2, reweighted=True),
    "simplenet": SimpleNetConfig(epochs=3, batch_size=4, dimensions=16, hidden=8, recipe="re-run"),
    "uniad": UniADConfig(epochs=3, batch_size=4, layers=2, width=16, heads=2, feed_forward=32),
    "dinomaly": DinomalyConfig(steps=6, batch_size=4, blocks=2, head_width=32, warm_up=2, map_size=32),
    "draem": DRAEMConfig(epochs=3, batch_size=4, width=4, segmentation_width=4),
    "destseg": DeSTSegConfig(epochs=3, batch_size=4, width=8),
    "mvad": MVADConfig(epochs=3, batch_size=4, learning_rate=0.002, attention_blocks=(1, 1, 1), chosen=(2, 2, 2)),
    "tocoad": ToCoADConfig(epochs=1, contrast_epochs=2, batch_size=4, share=0.1, dimensions=16),
}
EXPORTS = {"invad", "rd", "patchcore", "simplenet", "uniad", "dinomaly", "draem", "destseg", "tocoad"}
# Of those that export, what is translated to ONNX here: half a minute each. What a user has is compared when it is made.
IN_ONNX = {"invad", "uniad", "mvad"}


def features_of(config: TrainConfig) -> FeaturesConfig:
    if config.ENCODER == "none":
        return FeaturesConfig("none", "none", SIZE, mode="live")
    if config.model == "dinomaly":
        return FeaturesConfig("test_vit", "none", SIZE, levels=((0, 1), (2, 3)))
    if config.ENCODER == "own":
        levels = (4, 8, 16, 32) if config.model == "tocoad" else STRIDES
        return FeaturesConfig("mobilenetv2_100", image_size=SIZE, mode="live", levels=levels)
    return FeaturesConfig("mobilenetv2_100", image_size=SIZE)


def benchmark_of(config: TrainConfig) -> BenchmarkConfig:
    return BenchmarkConfig(
        "toys",
        "mvtec",
        FolderSplitConfig(),
        features_of(config),
        config,
        ScoreConfig(batch_size=4),
        CalibrationConfig(0.0, 0.01, 0),
    )


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Split:
    return image_split(tmp_path_factory.mktemp("split"), train=10, test=4, views=VIEWS)


@pytest.fixture(params=METHODS, scope="module")
def model(request, tmp_path_factory, split) -> tuple[BenchmarkConfig, Path, Method]:
    """Settings, a folder with features and model, and the trained method in eval mode."""
    benchmark, root = benchmark_of(SMALL[request.param]), tmp_path_factory.mktemp(request.param)
    key = extract_features(split, benchmark.features, root / "features")
    method, steps = run_job(job_of(benchmark, split, root, "once"), CPU)
    assert len(steps) + method.fits == training_steps(10, key.output, benchmark.train)
    save_model(method, ModelConfig.of(benchmark, split, key), root / "model")
    return benchmark, root, method.eval()


def job_of(benchmark: BenchmarkConfig, split: Split, root: Path, name: str) -> TrainJob:
    storage = root / name
    storage.mkdir(exist_ok=True)
    return TrainJob(str(root / "features"), split, benchmark.features, str(storage), benchmark.train, 1, threads=1)


def same(one: Method, two: Method) -> bool:
    first, second = one.state_dict(), two.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_every_method_has_settings_and_is_small_here():
    assert list(METHODS) == list(TRAIN_CONFIGS) == list(SMALL)
    assert {name: config.model for name, config in SMALL.items()} == {name: name for name in METHODS}


@pytest.mark.parametrize("name", METHODS)
def test_settings_know_whether_a_method_trains_on_synthetic_anomalies(name):
    config = SMALL[name]
    with torch.device("meta"):
        method = build_method(hollow_encoder(features_of(config)).output(SIZE), config)
    assert (method.needs.corruption is not None) == config.SYNTHETIC_ANOMALIES


class StoppedError(Exception):
    pass


def test_a_training_that_was_interrupted_ends_with_the_same_bytes(model, split):
    benchmark, root, method = model
    job, told = job_of(benchmark, split, root, "twice"), []

    def stop(step: int) -> None:
        told.append(step)
        if len(told) == 3:
            raise StoppedError

    for _ in range(2):
        try:
            again, _ = run_job(job, CPU, at_checkpoint=stop)
        except StoppedError:
            continue
    again, _ = run_job(job, CPU)
    assert same(again, method)


def test_a_model_folder_gives_the_same_model_and_the_same_scores(model, split):
    benchmark, root, method = model
    loaded, _ = load_model(root / "model")
    assert same(loaded, method)
    assert not loaded.training
    score_images(benchmark, split, root / "features", root / "model", root / "scores")
    scores = open_scores(root / "scores")
    source = open_features(root / "features", "test", split, benchmark.features)
    batches = batch_source(source, method.needs, split, "test", benchmark.features)
    (expected,) = predictions(place(method, CPU, benchmark.score), batches, benchmark.score)
    assert np.array_equal(np.concatenate(scores.maps_nhw), expected.maps)
    assert np.array_equal(scores.image_scores, expected.scores)
    assert scores.groups == [row.group for row in split.phase("test")]
    assert expected.maps.shape == (4, SIZE, SIZE)
    assert np.ptp(expected.maps) > 0
    maxima = replace(benchmark.score, image_score="maximum")
    (plain,) = predictions(method, batches, maxima)
    assert np.array_equal(plain.scores, plain.maps.max((1, 2)))


def test_workers_that_share_the_images_write_the_files_of_one(model, split, monkeypatch):
    benchmark, root, _ = model
    benchmark = replace(benchmark, score=replace(benchmark.score, batch_size=2))
    monkeypatch.setattr(score_store, "FILE_BYTES", 1)
    monkeypatch.setattr(cluster_score, "by_workers", in_turns)
    folders = [root / name for name in ("features", "model")]
    score_images(benchmark, split, *folders, root / "one")
    score_by_workers(benchmark, split, *folders, root / "two", WorkersConfig(2))
    one, two = ({path.name: path.read_bytes() for path in (root / name).iterdir()} for name in ("one", "two"))
    assert sorted(one) == ["maps-00000.arrow", "maps-00001.arrow", "scores.parquet"]
    assert two == one


def in_turns(build, shards, workers, section):
    """What Ray does with shards: two workers, neither of which has them in their order."""
    assert (workers.workers, section) == (2, "score")
    writers = [build(CPU), build(CPU)]
    for number, shard in reversed(list(enumerate(shards))):
        yield shard, writers[number % 2].write(shard)


def test_a_model_folder_predicts_as_the_stage_scores(model, split):
    benchmark, root, method = model
    source = open_features(root / "features", "test", split, benchmark.features)
    batches = batch_source(source, method.needs, split, "test", benchmark.features)
    (expected,) = predictions(place(method, CPU, benchmark.score), batches, benchmark.score)
    predictor = invad.load(root / "model", device="cpu")
    views = VIEWS if benchmark.train.VIEWS else 1
    found = predictor.predict([split.image_path(row) for row in split.phase("test")], views=views)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(np.stack([each.anomaly_map for each in found]), expected.maps, rtol=1e-3, atol=1e-4)


def test_what_a_method_costs_is_counted(model):
    benchmark, _, method = model
    cost = model_cost(benchmark, method, VIEWS if benchmark.train.VIEWS else 1)
    assert cost.trainable == sum(p.numel() for p in method.parameters() if p.requires_grad)
    assert cost.multiply_adds > 0


@pytest.fixture(scope="module")
def exported(model) -> tuple[Graph, ExportedProgram] | str:
    """The graph of the model and what it is traced to, or why it is not."""
    try:
        graph = load_graph(model[1] / "model")
        return graph, exported_program(graph)
    except InputError as error:
        return str(error)


def test_a_method_exports_or_says_why_not(model, exported):
    benchmark, _, _ = model
    assert isinstance(exported, str) == (benchmark.train.model not in EXPORTS)
    if isinstance(exported, str):
        assert benchmark.train.model in exported
        return
    graph, program = exported
    images = torch.randint(0, 256, (3, SIZE, SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for mine, theirs in zip(program.module()(images), graph(images), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_prediction_is_the_same_in_both_runtimes_or_says_why_not(model, exported, split, tmp_path, monkeypatch):
    benchmark, root, _ = model
    if benchmark.train.model not in IN_ONNX:
        return
    monkeypatch.setattr(export_module, "exported_program", lambda graph: exported[1])  # tracing takes long
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    predictor = invad.load(root / "model", device="cpu", runtime="auto")
    views = VIEWS if benchmark.train.VIEWS else 1
    images = [split.image_path(row) for row in split.phase("test")]
    predicted, expected = (
        each.predict(images, views=views) for each in (predictor, invad.load(root / "model", device="cpu"))
    )
    exports = benchmark.train.model in EXPORTS
    assert {image.runtime for image in predicted} == {predictor.runtime} == {"onnx" if exports else "torch"}
    assert (predictor.why_torch == "") == exports
    most = 1e-4 * np.abs(expected.maps).max()
    np.testing.assert_allclose(predicted.maps, expected.maps, rtol=0, atol=most)
    np.testing.assert_allclose(predicted.scores, expected.scores, rtol=0, atol=most)
    assert exports == (len(list(tmp_path.rglob("*.graph"))) == 1)
