"""The feature store: what is written is what is read, in any order, and nothing that does not belong."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import save_image
from tqdm import tqdm

from invad import features
from invad.config import FeaturesConfig
from invad.datasets.split_table import Split, SplitRow
from invad.errors import InputError
from invad.features import FeatureKey, FeatureStore, extract_features, open_features, write_shards

KEY = FeatureKey("encoder", "weights", 32, "float32", "train", "split")


def made_features(count: int) -> list[torch.Tensor]:
    """Two levels whose every value says which image it belongs to."""
    images = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1)
    return [images.expand(count, 3, 4, 4).clone(), (images + 0.5).expand(count, 5, 2, 2).clone()]


def write(folder, count: int, batch: int = 16, key: FeatureKey = KEY) -> FeatureStore:
    folder.mkdir(exist_ok=True)
    levels = made_features(count)
    batches = ([level[start : start + batch] for level in levels] for start in range(0, count, batch))
    write_shards(batches, folder, key, tqdm(disable=True))
    return FeatureStore(folder, "train")


@pytest.mark.parametrize("batch", [1, 7, 16, 40])
def test_any_image_in_any_order(tmp_path, batch):
    store = write(tmp_path / "store", 37, batch)
    assert len(store) == 37
    assert store.shapes == [(3, 4, 4), (5, 2, 2)]
    assert store.key == KEY
    fine, coarse = store.batch(np.array([36, 0, 16, 15, 0]))
    assert fine.shape == (5, 3, 4, 4)
    assert fine[:, 0, 0, 0].tolist() == [36, 0, 16, 15, 0]
    assert coarse[:, 4, 1, 1].tolist() == [36.5, 0.5, 16.5, 15.5, 0.5]
    assert fine.dtype == torch.float32


def test_shards_are_bounded_and_read_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "SHARD_BYTES", 5_000)  # an image has 272 bytes in float32
    store = write(tmp_path / "store", 64)
    assert [path.name for path in sorted((tmp_path / "store").iterdir())] == [f"train-{n:05d}.arrow" for n in range(4)]
    assert store.batch([63])[0][0, 0, 0, 0] == 63


def test_float16_is_stored_and_float32_read(tmp_path):
    store = write(tmp_path / "store", 3, key=replace(KEY, dtype="float16"))
    assert store.batch([2])[1].dtype == torch.float32
    assert store.batch([2])[1][0, 0, 0, 0] == 2.5


def test_the_same_features_are_the_same_bytes(tmp_path):
    write(tmp_path / "one", 20)
    write(tmp_path / "two", 20)
    assert (tmp_path / "one/train-00000.arrow").read_bytes() == (tmp_path / "two/train-00000.arrow").read_bytes()


def test_a_missing_a_damaged_and_a_mixed_store_are_named(tmp_path):
    with pytest.raises(InputError, match="no train features; `dvc repro features` writes them"):
        FeatureStore(tmp_path, "train")
    write(tmp_path / "store", 4)
    path = tmp_path / "store/train-00000.arrow"
    (tmp_path / "store/train-00001.arrow").write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"train-00001\.arrow: damaged feature shard"):
        FeatureStore(tmp_path / "store", "train")
    write(tmp_path / "other", 4, key=replace(KEY, image_size=64))
    (tmp_path / "store/train-00001.arrow").write_bytes((tmp_path / "other/train-00000.arrow").read_bytes())
    with pytest.raises(InputError, match="do not belong together"):
        FeatureStore(tmp_path / "store", "train")


# Extraction, with the real encoder on tiny images


@pytest.fixture
def split(tmp_path) -> Split:
    def row(name: str, phase: str) -> SplitRow:
        return SplitRow(name, "bottle", phase, 0, "good", None, 40, 40, "mvtec")

    for index in range(5):
        save_image(tmp_path / f"images/{index}.png", size=40, value=40 * index)
    rows = tuple(row(f"{index}.png", "train" if index < 3 else "test") for index in range(5))
    return Split(rows, tmp_path / "images", tmp_path / "images")


CONFIG = FeaturesConfig("mobilenetv2_100", image_size=32, batch_size=2, dtype="float32")


def test_extraction_is_the_encoder_of_each_image_in_order(split, tmp_path):
    from invad.datasets.images import read_image
    from invad.encoders import normalize

    encoder = extract_features(split, CONFIG, tmp_path / "store")
    store = open_features(tmp_path / "store", "train", split, CONFIG)
    expected = encoder(normalize(read_image(tmp_path / "images/2.png", 32)[None]))
    for stored, level in zip(store.batch([2]), expected, strict=True):
        assert torch.allclose(stored, level, atol=1e-5)
    assert len(open_features(tmp_path / "store", "test", split, CONFIG)) == 2


def test_features_of_other_settings_or_another_split_are_refused(split, tmp_path):
    extract_features(split, CONFIG, tmp_path / "store")
    with pytest.raises(InputError, match="features have image_size 32, expected 64"):
        open_features(tmp_path / "store", "train", split, replace(CONFIG, image_size=64))
    with pytest.raises(InputError, match="features have split_sha256 "):
        open_features(tmp_path / "store", "train", replace(split, rows=split.rows[1:]), CONFIG)


def test_a_truncated_image_is_named_and_the_old_store_stays(split, tmp_path):
    extract_features(split, CONFIG, tmp_path / "store")
    before = {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()}
    image = tmp_path / "images/4.png"
    image.write_bytes(image.read_bytes()[:70])
    with pytest.raises(InputError, match=r"4\.png: damaged image"):
        extract_features(split, CONFIG, tmp_path / "store")
    assert {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()} == before
    assert not list(tmp_path.glob(".*tmp"))
