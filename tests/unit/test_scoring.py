"""Maps, image scores and masks as the score store keeps them."""

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import save_mask
from toys import CPU, FEATURES, MemoryFeatures, ToyMethod, image_split, split_of, write_toy_store

from invad.config import BenchmarkConfig, FeaturesConfig, FolderSplitConfig, InvADConfig, RDConfig, ScoreConfig
from invad.data.split_table import Split, SplitRow
from invad.devices import make_deterministic
from invad.errors import InputError
from invad.features import FeatureKey, extract_features
from invad.features import ahead as ahead_module
from invad.features.batches import BatchSource
from invad.features.encoder import EncoderOutput
from invad.methods import METHODS, Method, build_method
from invad.methods.base import Prediction
from invad.scoring import score as scoring
from invad.scoring import store as score_store
from invad.scoring.store import Scores, open_scores, write_scores
from invad.training.model_folder import ModelConfig, save_model


def table(count: int) -> pa.Table:
    return pa.table(
        {
            "image": [f"{n}.png" for n in range(count)],
            "class": ["bottle"] * count,
            "label": pa.array([n % 2 for n in range(count)], pa.int8()),
            "defect_type": ["broken" if n % 2 else "good" for n in range(count)],
            "has_mask": [n != 1 for n in range(count)],
        }
    )


def batches(count: int, size: int = 4):
    for start in range(0, count, 3):
        rows = np.arange(start, min(start + 3, count), dtype=np.float32)
        maps = np.broadcast_to(rows[:, None, None], (len(rows), size, size)).copy()
        maps[:, 0, 0] += 0.5
        yield maps, maps > rows[:, None, None], maps.max((1, 2))


def test_scores_survive_in_order_and_the_image_score_is_the_maps_maximum(tmp_path):
    write_scores(table(10), batches(10), tmp_path / "scores")
    scores = open_scores(tmp_path / "scores")
    assert len(scores) == 10
    assert scores.images[9] == "9.png"
    assert scores.image_scores.tolist() == [n + 0.5 for n in range(10)]
    assert scores.labels.tolist() == [0, 1] * 5
    assert scores.has_mask.tolist() == [True, False] + [True] * 8
    anomaly_map, mask = scores.map_and_mask(7)
    assert anomaly_map[1, 1] == 7
    assert mask.tolist()[0] == [True, False, False, False]
    assert sum(len(maps) for maps, _ in scores.scored()) == 10
    with pytest.raises(IndexError):
        scores.map_and_mask(10)


def test_the_same_scores_are_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_scores(table(4), batches(4), tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_file_of_maps_holds_whole_batches_and_the_next_one_begins_where_it_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(
        score_store, "FILE_BYTES", 7 * 16 * score_store.PIXEL_BYTES
    )  # seven images, in batches of three
    write_scores(table(10), batches(10), tmp_path / "scores")
    sizes = {path.name: pa.ipc.open_file(path).read_all().num_rows for path in (tmp_path / "scores").glob("maps-*")}
    assert sizes == {"maps-00000.arrow": 6, "maps-00001.arrow": 4}
    assert open_scores(tmp_path / "scores").image_scores.tolist() == [n + 0.5 for n in range(10)]
    number = score_store.file_numbers(first=5)
    assert [number(images, 16) for images in (3, 3, 1, 3, 9, 1)] == [5, 5, 5, 6, 7, 8]


def test_missing_damaged_and_incomplete_scores_are_named(tmp_path):
    with pytest.raises(InputError, match="missing or damaged scores"):
        open_scores(tmp_path / "nowhere")
    write_scores(table(4), batches(4), tmp_path / "scores")
    shard = next((tmp_path / "scores").glob("maps-*"))
    content = shard.read_bytes()
    shard.write_bytes(content[:-100])
    with pytest.raises(InputError, match="missing or damaged scores"):
        open_scores(tmp_path / "scores")
    shard.unlink()
    with pytest.raises(InputError, match="differ in length"):
        open_scores(tmp_path / "scores")


def test_scores_without_a_column_name_it(tmp_path):
    write_scores(table(4), batches(4), tmp_path / "scores")
    path = tmp_path / "scores" / score_store.TABLE_FILE
    pq.write_table(pq.read_table(path).drop_columns(["has_mask"]), path)
    with pytest.raises(InputError, match=r"missing or damaged scores .*has_mask"):
        open_scores(tmp_path / "scores")


class ZeroMaps(Method):
    """A method whose maps are all zero."""

    def __init__(self):
        super().__init__(EncoderOutput("toy", (1,), 8), InvADConfig())
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def predict(self, batch, score):
        return Prediction(torch.zeros(batch.size, 2, 2))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_map_that_is_no_number_stops_the_scoring(value):
    features = MemoryFeatures([torch.full((3, 1, 2, 2), value)])
    method = ZeroMaps()
    method.predict = lambda batch, score: Prediction(batch.features[0].mean(dim=1))
    with pytest.raises(InputError, match="score@shop: NaN or infinite; `precision: float32` helps"):
        list(scoring.predictions(method, BatchSource(features, method.needs), ScoreConfig(), label="score@shop"))


def test_an_anomalous_image_without_a_mask_is_scored_and_its_mask_is_not_known(tmp_path, monkeypatch):
    save_mask(tmp_path / "1.png")
    rows = [
        SplitRow(f"{n}.jpg", "bolt", "test", label, "", mask, 8, 8, "shop")
        for n, (label, mask) in enumerate([(0, None), (1, "1.png"), (1, None)])
    ]
    store = MemoryFeatures([torch.zeros(3, 1, 2, 2)])
    monkeypatch.setattr(scoring, "load_model", lambda folder: (ZeroMaps(), None))
    monkeypatch.setattr(scoring, "open_features", lambda *arguments: store)
    monkeypatch.setattr(scoring, "check_features", lambda *arguments: None)
    benchmark = SimpleNamespace(
        name="shop", features=SimpleNamespace(image_size=8), score=ScoreConfig(sigma=1.0, batch_size=2)
    )
    split = Split(tuple(rows), tmp_path, tmp_path)
    scoring.score_images(benchmark, split, tmp_path / "features", tmp_path / "model", tmp_path / "scores")
    scores = open_scores(tmp_path / "scores")
    assert scores.has_mask.tolist() == [True, True, False]
    assert [int(scores.map_and_mask(index)[1].sum()) for index in range(3)] == [0, 16, 0]


def scored_batches(begun: list[threading.Event]):
    """Two images a batch, and the event of each batch as it is computed."""
    for number, event in enumerate(begun):
        event.set()
        maps = np.full((2, 8, 8), number, np.float32)
        yield scoring.Predictions(maps, maps.max((1, 2)))


def test_masks_are_read_and_maps_written_while_the_device_goes_on(tmp_path, monkeypatch):
    split, begun = split_of(tmp_path, train=0, test=8), [threading.Event() for _ in range(4)]
    masks, threads = scoring.resized_masks, threading.active_count()

    def waiting(split: Split, rows: list[SplitRow], size: int) -> np.ndarray:
        following = int(rows[-1].image.removesuffix(".png")) // 2 + 1
        assert following == 4 or begun[following].wait(20)
        return masks(split, rows, size)

    for name, cores in (("after", False), ("ahead", True)):
        monkeypatch.setattr(ahead_module, "leaves_cores", lambda device, cores=cores: cores)
        monkeypatch.setattr(scoring, "resized_masks", waiting if cores else masks)
        scoring.write_phase(scored_batches(begun), split, "test", 8, tmp_path / name)
        for event in begun:
            event.clear()
    assert open_scores(tmp_path / "ahead").image_scores.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    for path in (tmp_path / "after").iterdir():
        assert path.read_bytes() == (tmp_path / "ahead" / path.name).read_bytes()
    assert threading.active_count() == threads


def test_a_disk_that_is_full_stops_the_device_and_leaves_nothing(tmp_path, monkeypatch):
    split, begun = split_of(tmp_path, train=0, test=40), [threading.Event() for _ in range(20)]
    monkeypatch.setattr(ahead_module, "leaves_cores", lambda device: True)
    monkeypatch.setattr(score_store, "tensor_column", lambda values: (_ for _ in ()).throw(OSError("full")))
    scored, threads = scored_batches(begun), threading.active_count()
    with pytest.raises(OSError, match="full") as kept:
        scoring.write_phase(scored, split, "test", 8, tmp_path / "scores")
    assert kept.value.__traceback__ is not None
    assert threading.active_count() == threads
    assert sum(event.is_set() for event in begun) <= 1 + ahead_module.BATCHES
    assert next(scored, None) is None  # closed
    assert not (tmp_path / "scores").exists()


# A model and features on disk


CONFIGS = {"invad": InvADConfig(style_channels=8, latent_channels=4, blocks=1), "rd": RDConfig()}


def benchmark_of(features: FeaturesConfig, model: str = "invad", **score) -> BenchmarkConfig:
    settings = ScoreConfig(**({"sigma": 1.0, "batch_size": 2} | score))
    return BenchmarkConfig("shop", "mvtec", FolderSplitConfig(), features, CONFIGS[model], settings)


def save_untrained(benchmark: BenchmarkConfig, key: FeatureKey, folder: Path) -> None:
    make_deterministic(0, CPU)
    config = ModelConfig("shop", ("bottle",), key.channels, key.weights_sha256, benchmark.features, benchmark.train)
    save_model(build_method(key.output, benchmark.train), config, folder)


def score(benchmark: BenchmarkConfig, split: Split, tmp_path: Path, features: str = "features") -> Scores:
    scoring.score_images(benchmark, split, tmp_path / features, tmp_path / "model", tmp_path / "scores")
    return open_scores(tmp_path / "scores")


def all_maps(scores: Scores) -> np.ndarray:
    return np.concatenate(scores.maps_nhw)


@pytest.fixture
def split(tmp_path) -> Split:
    """Three test images, of which nothing but random features will exist."""
    return split_of(tmp_path, train=1, test=3)


@pytest.mark.parametrize("model", CONFIGS)
def test_maps_are_float32_in_every_precision_and_close_to_each_other(model, split, tmp_path):
    key = write_toy_store(tmp_path / "features", split, "test")
    save_untrained(benchmark_of(FEATURES, model), key, tmp_path / "model")
    expected = all_maps(score(benchmark_of(FEATURES, model), split, tmp_path))
    assert expected.shape == (3, 64, 64)
    assert expected.std() > 0
    for settings, tolerance in (
        ({"precision": "bfloat16"}, 0.05),
        ({"precision": "float16"}, 0.01),
        ({"channels_last": False}, 1e-4),
    ):
        maps = all_maps(score(benchmark_of(FEATURES, model, **settings), split, tmp_path))
        assert maps.dtype == np.float32
        assert np.isfinite(maps).all()
        assert not np.array_equal(maps, expected) or "channels_last" in settings
        assert np.abs(maps - expected).max() < tolerance


def test_a_batch_size_is_no_part_of_the_result(split, tmp_path):
    key = write_toy_store(tmp_path / "features", split, "test")
    save_untrained(benchmark_of(FEATURES), key, tmp_path / "model")
    two, one = (all_maps(score(benchmark_of(FEATURES, batch_size=size), split, tmp_path)) for size in (2, 1))
    assert np.allclose(two, one, atol=1e-5)


def test_the_map_is_the_one_that_the_settings_choose(split, tmp_path):
    key = write_toy_store(tmp_path / "features", split, "test")
    save_untrained(benchmark_of(FEATURES), key, tmp_path / "model")
    by_default = all_maps(score(benchmark_of(FEATURES), split, tmp_path))
    named = benchmark_of(FEATURES, map_levels="concatenated", map_distance="cosine")
    assert np.array_equal(all_maps(score(named, split, tmp_path)), by_default)
    levels = ("fine", "middle", "coarse")
    alone = [all_maps(score(benchmark_of(FEATURES, map_levels=level), split, tmp_path)) for level in levels]
    summed = all_maps(score(benchmark_of(FEATURES, map_levels="sum"), split, tmp_path))
    assert np.allclose(summed, sum(alone), atol=1e-5)
    lengths = all_maps(score(benchmark_of(FEATURES, map_distance="l2"), split, tmp_path))
    assert lengths.min() > 2  # no cosine distance is as large


def test_any_method_scores_that_has_what_method_asks_for(split, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "invad", ToyMethod)
    key = write_toy_store(tmp_path / "features", split, "test")
    benchmark = benchmark_of(FEATURES)
    save_untrained(benchmark, key, tmp_path / "model")
    scores = score(benchmark, split, tmp_path)
    assert scores.images == ["001.png", "002.png", "003.png"]
    assert (scores.image_scores > 0).all()


@pytest.mark.slow
def test_live_features_score_to_the_maps_of_a_float32_store(tmp_path):
    split = image_split(tmp_path, train=2, test=4)
    maps = {}
    for mode in ("store", "live"):
        # As many images at a time as in scoring: how the encoder rounds depends on that.
        features = FeaturesConfig("mobilenetv2_100", image_size=32, dtype="float32", batch_size=2, mode=mode)
        key = extract_features(split, features, tmp_path / mode)
        save_untrained(benchmark_of(features), key, tmp_path / "model")
        maps[mode] = all_maps(score(benchmark_of(features), split, tmp_path, mode))
    assert maps["store"].shape == (4, 32, 32)
    assert np.array_equal(maps["store"], maps["live"])


def test_a_model_of_other_features_is_refused(split, tmp_path):
    benchmark = benchmark_of(FEATURES)
    key = write_toy_store(tmp_path / "features", split, "test")
    save_untrained(benchmark, replace(key, weights_sha256="other"), tmp_path / "model")
    with pytest.raises(
        InputError, match=r"model: trained on features of encoder other at 64 pixels, .* these are of weights"
    ):
        score(benchmark, split, tmp_path)
    levels = replace(benchmark, features=replace(benchmark.features, levels=(2, 4, 8)))
    save_untrained(levels, replace(key, levels=(2, 4, 8)), tmp_path / "model")
    with pytest.raises(InputError, match=r"levels \[2, 4, 8\], but these are of weights at 64, \[4, 8, 16\]; run"):
        score(benchmark, split, tmp_path)
    assert not (tmp_path / "scores").exists()
