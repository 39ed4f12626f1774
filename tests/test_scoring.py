"""Maps, image scores and masks as the score store keeps them."""

import numpy as np
import pyarrow as pa
import pytest

from invad import score_store
from invad.errors import InputError
from invad.score_store import open_scores, write_scores


def table(count: int) -> pa.Table:
    return pa.table(
        {
            "image": [f"{n}.png" for n in range(count)],
            "class": ["bottle"] * count,
            "label": pa.array([n % 2 for n in range(count)], pa.int8()),
            "defect_type": ["broken" if n % 2 else "good" for n in range(count)],
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
