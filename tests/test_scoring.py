"""Maps, image scores and masks as the score store keeps them."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import save_mask

from invad import score_store, scoring
from invad.datasets.split_table import Split, SplitRow
from invad.errors import InputError
from invad.score_store import open_scores, write_scores


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
        yield maps, maps > rows[:, None, None]


def test_scores_survive_in_order_and_the_image_score_is_the_maps_maximum(tmp_path, monkeypatch):
    monkeypatch.setattr(score_store, "SHARD_IMAGES", 6)
    write_scores(table(10), batches(10), tmp_path / "scores")
    assert len(list((tmp_path / "scores").glob("maps-*.arrow"))) == 2
    scores = open_scores(tmp_path / "scores")
    assert len(scores) == 10
    assert scores.images[9] == "9.png"
    assert scores.image_scores.tolist() == [n + 0.5 for n in range(10)]
    assert scores.labels.tolist() == [0, 1] * 5
    assert scores.has_mask.tolist() == [True, False] + [True] * 8
    anomaly_map, mask = scores.map_and_mask(7)
    assert anomaly_map[1, 1] == 7
    assert mask.tolist()[0] == [True, False, False, False]
    assert sum(len(maps) for maps, _ in scores.batches()) == 10
    with pytest.raises(IndexError):
        scores.map_and_mask(10)


def test_the_same_scores_are_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_scores(table(4), batches(4), tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


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
    with pytest.raises(InputError, match=r"scores\.parquet: the columns has_mask are missing"):
        open_scores(tmp_path / "scores")


class ZeroMaps(torch.nn.Module):
    """A method whose maps are all zero."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, features):
        return features

    def anomaly_map(self, features, reproduced, size, sigma):
        return torch.zeros(len(features[0]), size, size)


def test_an_anomalous_image_without_a_mask_is_scored_and_its_mask_is_not_known(tmp_path, monkeypatch):
    save_mask(tmp_path / "1.png")
    rows = [
        SplitRow(f"{n}.jpg", "bolt", "test", label, "", mask, 8, 8, "shop")
        for n, (label, mask) in enumerate([(0, None), (1, "1.png"), (1, None)])
    ]
    store = SimpleNamespace(key=None, batch=lambda indices: [torch.zeros(len(indices), 1, 2, 2)])
    monkeypatch.setattr(scoring, "load_model", lambda folder: (ZeroMaps(), None))
    monkeypatch.setattr(scoring, "open_features", lambda *arguments: store)
    monkeypatch.setattr(scoring, "check_features", lambda *arguments: None)
    benchmark = SimpleNamespace(
        name="shop", features=SimpleNamespace(image_size=8), score=SimpleNamespace(batch_size=2, sigma=1.0)
    )
    split = Split(tuple(rows), tmp_path, tmp_path)
    scoring.score_test_images(benchmark, split, tmp_path / "features", tmp_path / "model", tmp_path / "scores")
    scores = open_scores(tmp_path / "scores")
    assert scores.has_mask.tolist() == [True, True, False]
    assert [int(scores.map_and_mask(index)[1].sum()) for index in range(3)] == [0, 16, 0]
