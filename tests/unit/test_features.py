"""Features: what is written is what is read, in any order, and nothing that does not belong; a killed extraction goes on; live ones."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from toys import CPU, image_split, random_levels, write_features

from invad.config import FeaturesConfig
from invad.data.arrow import map_file, tensor_chunks
from invad.data.images import read_image
from invad.data.split_table import Split
from invad.errors import InputError
from invad.features import FeatureKey, FeatureStore, extract_features, open_features
from invad.features import ahead as ahead_module
from invad.features import extract as extract_module
from invad.features import source as source_module
from invad.features import store as store_module
from invad.features.encoder import build_encoder, configured_encoder, normalize
from invad.features.extract import LIVE_FILE, run_here
from invad.features.store import ROWS, images_per_shard, is_whole_shard, shard_name, write_shard

KEY = FeatureKey("encoder", "weights", (3, 5, 2), 32, "float32", "float32", "train", "split")


def made_features(count: int) -> list[torch.Tensor]:
    """Three levels whose every value says which image it belongs to."""
    images = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1)
    return [(images + level / 4).expand(count, *shape).clone() for level, shape in enumerate(KEY.output.shapes)]


def write(folder: Path, count: int, batch: int = 16, key: FeatureKey = KEY) -> FeatureStore:
    write_features(folder, key, [f"{index}.png" for index in range(count)], made_features(count), batch)
    return FeatureStore(folder, key.phase)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# The store


@pytest.mark.parametrize("batch", [1, 7, 16, 40])
def test_any_image_in_any_order(tmp_path, batch):
    store = write(tmp_path / "store", 37, batch)
    assert len(store) == 37
    assert store.images == [f"{index}.png" for index in range(37)]
    assert store.key == KEY
    fine, middle, coarse = store.batch(np.array([36, 0, 16, 15, 0]))
    assert fine.shape == (5, 3, 8, 8)
    assert middle.shape == (5, 5, 4, 4)
    assert coarse.shape == (5, 2, 2, 2)
    assert fine[:, 2, 7, 7].tolist() == [36, 0, 16, 15, 0]
    assert coarse[:, 1, 1, 1].tolist() == [36.5, 0.5, 16.5, 15.5, 0.5]
    batches = list(store.batches(iter([[5], np.array([20, 36]), range(3)]), CPU))
    assert [levels[1][:, 0, 0, 0].tolist() for levels in batches] == [[5.25], [20.25, 36.25], [0.25, 1.25, 2.25]]


@pytest.mark.parametrize("batch", [1, 7, 16, 40])
def test_the_bytes_do_not_depend_on_the_batches_that_were_written(tmp_path, batch):
    write(tmp_path / "one", 37, 37)
    write(tmp_path / "two", 37, batch)
    table = map_file(tmp_path / "two/train-00000.arrow")
    assert [len(rows) for rows in table.to_batches()] == [ROWS, ROWS, 5]
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_shards_are_bounded_by_the_features_size_alone_and_read_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "SHARD_BYTES", 50_000)  # an image has (3 * 64 + 5 * 16 + 2 * 4) * 4 = 1120 bytes
    assert images_per_shard(KEY) == 32  # 44 would fit, whole record batches are 32
    assert images_per_shard(replace(KEY, dtype="float16")) == 80  # 89 would fit
    assert images_per_shard(replace(KEY, image_size=1024)) == ROWS  # the least
    store = write(tmp_path / "store", 70)
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "store").iterdir()}
    assert sorted(sizes) == [f"train-0000{n}.arrow" for n in range(3)]
    assert max(sizes.values()) < 50_000
    assert len(store) == 70
    assert store.batch([69, 31, 32])[0][:, 0, 0, 0].tolist() == [69, 31, 32]
    assert store.images[31:33] == ["31.png", "32.png"]


def test_float16_is_stored_and_float32_handed_out(tmp_path):
    store = write(tmp_path / "store", 3, key=replace(KEY, dtype="float16"))
    assert store.batch([2])[1].dtype == torch.float16
    (levels,) = store.batches([[2]], CPU)
    assert [level.dtype for level in levels] == [torch.float32] * 3
    assert levels[1][0, 0, 0, 0] == 2.25
    float32 = write(tmp_path / "wide", 3)
    assert float32.batch([2])[1].dtype == torch.float32


def test_the_same_features_are_the_same_bytes(tmp_path):
    write(tmp_path / "one", 20)
    write(tmp_path / "two", 20)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_batch_touches_only_its_rows(tmp_path):
    key = replace(KEY, channels=(24, 32, 96), image_size=64)
    write_features(tmp_path, key, [f"{n}.png" for n in range(512)], random_levels(512, key))
    path = tmp_path / "train-00000.arrow"
    assert path.stat().st_size > 19e6
    copies = any(chunk.flags.owndata or chunk.flags.writeable for chunk in tensor_chunks(map_file(path), "level_0"))
    assert not copies
    before = pa.total_allocated_bytes()
    store = FeatureStore(tmp_path, "train")
    levels = store.batch([3, 300, 511])
    assert pa.total_allocated_bytes() - before < 100_000
    assert [len(level) for level in levels] == [3, 3, 3]
    if sys.platform == "linux":  # which says how much of a mapped file this process has touched
        maps = Path("/proc/self/smaps").read_text()
        resident = re.findall(rf"{re.escape(str(path))}\n(?:\w+: .*\n)*?Rss: *(\d+) kB", maps)
        assert 0 < sum(map(int, resident)) < 5_000  # kB of 20 MB


def test_a_shard_is_whole_only_with_its_key_and_its_images(tmp_path):
    path = tmp_path / "train-00000.arrow"
    assert not is_whole_shard(path, KEY, ["0.png"])
    write(tmp_path, 2)
    assert is_whole_shard(path, KEY, ["0.png", "1.png"])
    assert not is_whole_shard(path, KEY, ["0.png"])
    assert not is_whole_shard(path, KEY, ["1.png", "0.png"])
    assert not is_whole_shard(path, replace(KEY, precision="bfloat16"), ["0.png", "1.png"])
    path.write_bytes(path.read_bytes()[:-200])
    assert not is_whole_shard(path, KEY, ["0.png", "1.png"])


def test_a_shard_that_fails_leaves_nothing(tmp_path):
    def batches():
        yield made_features(2)
        raise InputError("a damaged image")

    with pytest.raises(InputError, match="a damaged image"):
        write_shard(tmp_path / "train-00000.arrow", KEY, ["0.png", "1.png", "2.png"], batches())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", [0, 7, -200])
def test_a_missing_and_a_damaged_store_are_named(tmp_path, cut):
    with pytest.raises(InputError, match="no train features; `dvc repro features` writes them"):
        FeatureStore(tmp_path, "train")
    write(tmp_path / "store", 4)
    content = (tmp_path / "store/train-00000.arrow").read_bytes()
    (tmp_path / "store/train-00001.arrow").write_bytes(content[:cut])
    with pytest.raises(InputError, match=r"train-00001\.arrow: damaged feature shard .*; run `dvc repro -f features`"):
        FeatureStore(tmp_path / "store", "train")


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": 64},
        {"precision": "float16"},
        {"channels": (3, 5)},
        {"weights_sha256": "other"},
        {"split_sha256": "other"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_shards_of_several_stores_are_refused(tmp_path, change):
    write(tmp_path / "store", 4)
    shard = map_file(tmp_path / "store/train-00000.arrow")
    metadata = {b"invad.features": json.dumps(asdict(replace(KEY, **change))).encode()}
    write_table(tmp_path / "store/train-00001.arrow", shard.replace_schema_metadata(metadata))
    with pytest.raises(InputError, match="store: the train shards do not belong together; run `dvc repro -f features`"):
        FeatureStore(tmp_path / "store", "train")


def write_table(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(exist_ok=True)
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


# The key of version 0.1: it knew neither channels nor precision.
OLD_KEY = {
    "encoder": "encoder",
    "weights_sha256": "weights",
    "image_size": 32,
    "dtype": "float32",
    "phase": "train",
    "split_sha256": "split",
}


@pytest.mark.parametrize("stored", [None, "[1]", "{", json.dumps(OLD_KEY)], ids=["none", "list", "damaged", "old"])
def test_shards_of_another_version_and_foreign_files_are_refused(tmp_path, stored):
    table = pa.table({"level_0": [1.0]})
    if stored is not None:
        table = table.replace_schema_metadata({b"invad.features": stored.encode()})
    write_table(tmp_path / "train-00000.arrow", table)
    with pytest.raises(InputError, match="the train shards do not belong together; run `dvc repro -f features`"):
        FeatureStore(tmp_path, "train")
    assert not is_whole_shard(tmp_path / "train-00000.arrow", KEY, ["0.png"])


# Extraction, with the real encoder on tiny images


built_once = cache(configured_encoder)
CONFIG = FeaturesConfig("mobilenetv2_100", image_size=32, batch_size=2, dtype="float32")


@pytest.fixture(autouse=True)
def encoders_are_built_once(monkeypatch):
    for module in (extract_module, source_module):
        monkeypatch.setattr(module, "configured_encoder", built_once)


@pytest.fixture
def split(tmp_path) -> Split:
    return image_split(tmp_path, train=3, test=2)


def test_extraction_is_the_encoder_of_each_image_in_order(split, tmp_path):
    key = extract_features(split, CONFIG, tmp_path / "store")
    store = open_features(tmp_path / "store", "train", split, CONFIG)
    encoder = build_encoder("mobilenetv2_100")
    image = torch.tensor(read_image(tmp_path / "images/002.png", 32))
    expected = encoder(normalize(image[None]))
    for stored, level in zip(store.batch([2]), expected, strict=True):
        assert torch.allclose(stored, level, atol=1e-5)
    assert store.key == key
    assert store.images == ["000.png", "001.png", "002.png"]
    assert (key.channels, key.output.encoder) == ((24, 32, 96), "mobilenetv2_100")
    test = open_features(tmp_path / "store", "test", split, CONFIG)
    assert test.images == ["003.png", "004.png"]
    assert test.key == replace(key, phase="test", split_sha256=test.key.split_sha256)


def test_features_of_any_levels_are_stored_and_those_of_the_default_say_nothing_of_it(split, tmp_path):
    plain = {"encoder", "weights_sha256", "channels", "image_size", "precision", "dtype", "phase", "split_sha256"}
    key = extract_features(split, CONFIG, tmp_path / "default")
    assert set(key.as_plain()) == plain
    config = replace(CONFIG, levels=(2, 4, 8, 16))
    key = extract_features(split, config, tmp_path / "store")
    store = open_features(tmp_path / "store", "train", split, config)
    assert store.key == key == FeatureKey.of_plain(json.loads(json.dumps(key.as_plain())))
    assert (key.levels, key.channels) == ((2, 4, 8, 16), (16, 24, 32, 96))
    assert key.output.shapes == ((16, 16, 16), (24, 8, 8), (32, 4, 4), (96, 2, 2))
    default = open_features(tmp_path / "default", "train", split, CONFIG)
    for of_four, of_three in zip(store.batch([0, 2])[1:], default.batch([0, 2]), strict=True):
        torch.testing.assert_close(of_four, of_three)


def test_features_of_other_settings_or_another_split_are_refused(split, tmp_path):
    extract_features(split, CONFIG, tmp_path / "store")
    folder = re.escape(str(tmp_path / "store"))
    for change, message in [
        ({"encoder": "resnet18", "weights": "none"}, "encoder mobilenetv2_100, expected resnet18"),
        ({"image_size": 64}, "image_size 32, expected 64"),
        ({"precision": "bfloat16"}, "precision float32, expected bfloat16"),
        ({"dtype": "float16"}, "dtype float32, expected float16"),
        ({"levels": (8, 16)}, r"levels \(4, 8, 16\), expected \(8, 16\)"),
    ]:
        with pytest.raises(InputError, match=f"{folder}: train features have {message}; run `dvc repro features`"):
            open_features(tmp_path / "store", "train", split, replace(CONFIG, **change))
    with pytest.raises(InputError, match="test features have split_sha256 "):
        open_features(tmp_path / "store", "test", replace(split, rows=split.rows[:-1]), CONFIG)
    with pytest.raises(InputError, match=r"live\.json: no such file; `dvc repro features` writes it for `mode: live`"):
        open_features(tmp_path / "store", "train", split, replace(CONFIG, mode="live"))


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_shard_is_an_error_wherever_it_was(tmp_path, monkeypatch, missing):
    monkeypatch.setattr(store_module, "SHARD_BYTES", 1)
    split = image_split(tmp_path, train=40, test=1, size=8)
    extract_features(split, CONFIG, tmp_path / "store")
    (tmp_path / "store" / shard_name("train", missing)).unlink()
    with pytest.raises(InputError, match="shards of train features are missing; run `dvc repro -f features`"):
        open_features(tmp_path / "store", "train", split, CONFIG)


def test_a_truncated_image_is_named_and_the_old_store_stays(split, tmp_path):
    extract_features(split, CONFIG, tmp_path / "store")
    before = contents(tmp_path / "store")
    image = tmp_path / "images/004.png"
    whole = image.read_bytes()
    image.write_bytes(whole[:70])
    with pytest.raises(InputError, match=r"004\.png: damaged image"):
        extract_features(split, CONFIG, tmp_path / "store")
    assert contents(tmp_path / "store") == before
    assert not list(tmp_path.rglob("*tmp"))
    image.unlink()
    with pytest.raises(InputError, match=r"004\.png: no such image"):
        extract_features(split, CONFIG, tmp_path / "store")
    assert contents(tmp_path / "store") == before
    image.write_bytes(whole)
    extract_features(split, CONFIG, tmp_path / "store")
    assert contents(tmp_path / "store") == before
    assert not list(tmp_path.glob(".*"))


def test_progress_is_told_image_by_image_of_both_phases(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "SHARD_BYTES", 1)
    seen = []
    extract_features(
        image_split(tmp_path, train=20, test=3, size=8),
        CONFIG,
        tmp_path / "store",
        on_progress=lambda *a: seen.append(a),
    )
    assert seen == [(0, 23), (16, 23), (4, 23), (3, 23)]


def test_what_a_lost_worker_was_writing_is_no_part_of_the_store(tmp_path):
    split = image_split(tmp_path, train=4, test=2, size=8)

    def run(extraction, shards):
        (Path(extraction.folder) / ".train-00000.arrow.1234.tmp").write_bytes(b"half of a shard")
        yield from run_here(extraction, shards)

    extract_features(split, CONFIG, tmp_path / "store", run)
    assert sorted(contents(tmp_path / "store")) == [shard_name("test", 0), shard_name("train", 0)]


def test_images_are_read_ahead_of_the_encoder_and_it_goes_on_while_a_shard_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "SHARD_BYTES", 1)
    split = image_split(tmp_path, train=40, test=0, size=8)
    monkeypatch.setattr(ahead_module, "leaves_cores", lambda device: False)
    extract_features(split, CONFIG, tmp_path / "one_after_the_other")
    read, encoded = ([threading.Event() for _ in range(21)] for _ in range(2))
    encoder, numbers = built_once(CONFIG), iter(range(20))

    def reading(path: Path, *how) -> np.ndarray:
        read[int(path.stem) // 2].set()
        return read_image(path, *how)

    def encode(images: torch.Tensor) -> list[torch.Tensor]:
        number = next(numbers)
        encoded[number].set()
        assert number == 19 or read[number + 1].wait(20)
        return encoder.levels(images)

    def writing(path: Path, key: FeatureKey, images: list[str], batches) -> None:
        last = int(images[-1].removesuffix(".png")) // 2
        held = list(batches)
        assert last == 19 or encoded[last + 1].wait(20)
        write_shard(path, key, images, held)

    threads = threading.active_count()
    for module, name, replacement in (
        (ahead_module, "leaves_cores", lambda device: True),
        (source_module, "read_image", reading),
        (encoder, "forward", encode),
        (extract_module, "write_shard", writing),
    ):
        monkeypatch.setattr(module, name, replacement)
    extract_features(split, CONFIG, tmp_path / "store")
    assert contents(tmp_path / "store") == contents(tmp_path / "one_after_the_other")
    assert threading.active_count() == threads


def test_a_damaged_image_leaves_no_thread_while_its_error_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(ahead_module, "leaves_cores", lambda device: True)
    split, threads = image_split(tmp_path, train=20, test=1, size=8), threading.active_count()
    (tmp_path / "images/009.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"009\.png: not an image") as kept:
        extract_features(split, CONFIG, tmp_path / "store")
    assert kept.value.__traceback__ is not None
    assert threading.active_count() == threads


# A killed extraction


class Killed(BaseException):
    pass


def dies_after(count: int):
    """Return what writes `count` shards and ends."""

    def run(extraction, shards):
        yield from run_here(extraction, shards[:count])
        raise Killed

    return run


def partial_folders(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob(".store.*.partial"))


@pytest.fixture
def interrupted(tmp_path, monkeypatch) -> Split:
    """The split of an extraction into five shards that died after two of them."""
    monkeypatch.setattr(store_module, "SHARD_BYTES", 1)
    split = image_split(tmp_path, train=60, test=10, size=8)
    with pytest.raises(Killed):
        extract_features(split, CONFIG, tmp_path / "store", dies_after(2))
    assert not (tmp_path / "store").exists()
    (partial,) = partial_folders(tmp_path)
    assert sorted(contents(partial)) == [shard_name("train", 0), shard_name("train", 1)]
    return split


def continue_extraction(split: Split, tmp_path: Path, config: FeaturesConfig = CONFIG) -> list[str]:
    """Extract again, check the result against an undisturbed extraction, and return the shards that were written."""
    written = []

    def run(extraction, shards):
        written.extend(shard_name(shard.phase, shard.number) for shard in shards)
        return run_here(extraction, shards)

    extract_features(split, config, tmp_path / "store", run)
    extract_features(split, config, tmp_path / "undisturbed")
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")
    assert not list(tmp_path.glob(".*"))
    return written


TRAIN_SHARDS = [shard_name("train", number) for number in range(4)]
ALL_SHARDS = [*TRAIN_SHARDS, shard_name("test", 0)]

KILLED_SCRIPT = """
import sys, time
from pathlib import Path
import torch
from test_features import CONFIG
from toys import split_of
from invad.features import extract_features, source, store

def read_image(path, size, reading):
    if path.name == "040.png":  # in the middle of the third shard
        print("hangs", flush=True)
        time.sleep(60)
    return original(path, size, reading)

original, source.read_image, store.SHARD_BYTES = source.read_image, read_image, 1
root = Path(sys.argv[1])
torch.set_num_threads(int(sys.argv[2]))  # as the test: their number changes rounding
extract_features(split_of(root, 60, 10, 8), CONFIG, root / "store")
"""


@pytest.mark.slow
def test_a_killed_extraction_leaves_the_old_store_and_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "SHARD_BYTES", 1)
    split = image_split(tmp_path, train=60, test=10, size=8)
    write(tmp_path / "store", 20, key=replace(KEY, dtype="float16"))
    before = contents(tmp_path / "store")
    command = [sys.executable, "-c", KILLED_SCRIPT, str(tmp_path), str(torch.get_num_threads())]
    with subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "hangs\n"
        child.kill()
    assert child.returncode == -signal.SIGKILL
    assert contents(tmp_path / "store") == before
    (partial,) = partial_folders(tmp_path)
    finished = {path.name: path.stat().st_mtime_ns for path in partial.glob("*.arrow")}
    assert sorted(finished) == TRAIN_SHARDS[:2]
    (partial / f".{TRAIN_SHARDS[2]}.1.tmp").write_bytes(b"half written")
    assert continue_extraction(split, tmp_path) == ALL_SHARDS[2:]
    assert {name: (tmp_path / "store" / name).stat().st_mtime_ns for name in finished} == finished


@pytest.mark.slow
def test_an_extraction_that_ended_early_goes_on_and_says_what_is_done(interrupted, tmp_path):
    seen = []
    with pytest.raises(Killed):
        extract_features(interrupted, CONFIG, tmp_path / "store", dies_after(1), on_progress=lambda *a: seen.append(a))
    assert seen == [(32, 70), (16, 70)]
    assert continue_extraction(interrupted, tmp_path) == ALL_SHARDS[3:]


@pytest.mark.slow
def test_with_every_shard_there_nobody_is_started(interrupted, tmp_path):
    with pytest.raises(Killed):
        extract_features(interrupted, CONFIG, tmp_path / "store", dies_after(99))
    assert continue_extraction(interrupted, tmp_path) == []


@pytest.mark.slow
def test_a_damaged_shard_is_written_again(interrupted, tmp_path):
    (partial,) = partial_folders(tmp_path)
    shard = partial / TRAIN_SHARDS[0]
    shard.write_bytes(shard.read_bytes()[:-100])
    assert continue_extraction(interrupted, tmp_path) == [TRAIN_SHARDS[0], *ALL_SHARDS[2:]]


@pytest.mark.slow
def test_a_replaced_image_makes_it_start_over(interrupted, tmp_path):
    image = tmp_path / "images/000.png"
    image.write_bytes((tmp_path / "images/069.png").read_bytes())
    assert continue_extraction(interrupted, tmp_path) == ALL_SHARDS


@pytest.mark.parametrize("change", [{"precision": "bfloat16"}, {"dtype": "float16"}, {"image_size": 48}], ids=str)
@pytest.mark.slow
def test_of_an_extraction_with_other_settings_nothing_is_left(interrupted, tmp_path, change):
    assert continue_extraction(interrupted, tmp_path, replace(CONFIG, **change)) == ALL_SHARDS


def test_only_the_stores_own_remains_are_removed(interrupted, tmp_path):
    other = tmp_path / ".store_2.0123456789abcdef.partial"
    other.mkdir()
    extract_features(interrupted, CONFIG, tmp_path / "store")
    assert list(tmp_path.glob(".*")) == [other]


# Live


LIVE = replace(CONFIG, mode="live")


def test_live_writes_what_its_features_depend_on_and_no_features(split, tmp_path):
    key = extract_features(split, LIVE, tmp_path / "features")
    assert [path.name for path in (tmp_path / "features").iterdir()] == [LIVE_FILE]
    stored = json.loads((tmp_path / "features" / LIVE_FILE).read_text())
    assert stored["train"] == {**key.as_plain(), "channels": [24, 32, 96]}
    assert stored["test"]["phase"] == "test"
    assert stored["train"]["split_sha256"] != stored["test"]["split_sha256"]
    features = open_features(tmp_path / "features", "train", split, LIVE)
    assert features.key == key
    assert features.images == ["000.png", "001.png", "002.png"]
    assert len(features) == 3
    same = extract_features(split, CONFIG, tmp_path / "store")
    assert same == key
    assert extract_features(split, replace(LIVE, dtype="float16"), tmp_path / "features") == key  # there is no store


def test_live_of_other_settings_or_another_split_is_refused(split, tmp_path):
    extract_features(split, LIVE, tmp_path / "features")
    random = build_encoder("mobilenetv2_100", "none").weights_sha256
    for change, message in [
        ({"encoder": "resnet18", "weights": "none"}, "encoder mobilenetv2_100, expected resnet18"),
        ({"weights": "none"}, f"weights_sha256 [0-9a-f]{{64}}, expected {random}"),
        ({"image_size": 64}, "image_size 32, expected 64"),
        ({"precision": "bfloat16"}, "precision float32, expected bfloat16"),
        ({"levels": (8, 16)}, r"channels \(24, 32, 96\), expected \(32, 96\)"),
    ]:
        with pytest.raises(InputError, match=f"train features have {message}; run `dvc repro features`"):
            open_features(tmp_path / "features", "train", split, replace(LIVE, **change))
    with pytest.raises(InputError, match="test features have split_sha256 "):
        open_features(tmp_path / "features", "test", replace(split, rows=split.rows[:-1]), LIVE)
    with pytest.raises(InputError, match="no train features; `dvc repro features` writes them"):
        open_features(tmp_path / "features", "train", split, CONFIG)


def test_live_batches_are_those_of_a_float32_store(tmp_path):
    """To the last bit where the encoder got as many images at a time; how a convolution rounds depends on that number."""
    split = image_split(tmp_path, train=8, test=4)
    rng = np.random.default_rng(0)
    for precision in ("float32", "bfloat16"):
        config = replace(CONFIG, batch_size=4, precision=precision)
        live = replace(config, mode="live", batch_size=1)
        extract_features(split, config, tmp_path / "store")
        extract_features(split, live, tmp_path / "live")
        for phase, images in (("train", 8), ("test", 4)):
            store = open_features(tmp_path / "store", phase, split, config)
            features = open_features(tmp_path / "live", phase, split, live)
            fours = rng.permutation(images).reshape(-1, 4)
            for stored, computed in zip(store.batches(fours, CPU), features.batches(fours, CPU), strict=True):
                assert [level.dtype for level in computed] == [torch.float32] * 3
                assert all(torch.equal(a, b) for a, b in zip(stored, computed, strict=True))
            (stored,), (computed,) = (source.batches([[3, 0, 3]], CPU) for source in (store, features))
            tolerance = 1e-5 if precision == "float32" else 0.1
            assert all(torch.allclose(a, b, atol=tolerance) for a, b in zip(stored, computed, strict=True))


def test_live_names_a_damaged_and_a_missing_image(split, tmp_path):
    extract_features(split, LIVE, tmp_path / "features")
    features = open_features(tmp_path / "features", "train", split, LIVE)
    image = tmp_path / "images/001.png"
    image.write_bytes(image.read_bytes()[:70])
    batches = features.batches([[0, 2], [1]], CPU)
    assert len(next(batches)[0]) == 2
    with pytest.raises(InputError, match=r"001\.png: damaged image"):
        next(batches)
    image.unlink()
    with pytest.raises(InputError, match=r"001\.png: no such image"):
        extract_features(split, LIVE, tmp_path / "features")


def test_live_replaces_a_store_and_leaves_no_remains_of_one(interrupted, tmp_path):
    extract_features(interrupted, LIVE, tmp_path / "store")
    assert sorted(contents(tmp_path / "store")) == [LIVE_FILE]
    assert partial_folders(tmp_path) == []
    extract_features(interrupted, CONFIG, tmp_path / "store")
    assert sorted(contents(tmp_path / "store")) == sorted(ALL_SHARDS)


# The encoder


def test_random_weights_are_the_same_twice():
    torch.manual_seed(5)
    first = build_encoder("resnet18", "none")
    second = build_encoder("resnet18", "none")
    assert first.weights_sha256 == second.weights_sha256
    images = torch.rand(1, 3, 32, 32)
    assert all(torch.equal(a, b) for a, b in zip(first(images), second(images), strict=True))


@pytest.mark.parametrize(("height", "width", "odd"), [(64, 100, 100), (100, 64, 100), (72, 64, 72)])
def test_odd_image_sides_are_refused_and_the_accepted_ones_named(height, width, odd):
    encoder = build_encoder("mobilenetv2_100", "none")
    below = odd // 16 * 16
    message = f"images: mobilenetv2_100 takes sides that are multiples of 16, such as {below} or {below + 16}, not {odd} pixels"
    with pytest.raises(InputError, match=message):
        encoder(torch.zeros(1, 3, height, width))
    assert encoder(torch.zeros(1, 3, 64, 96))[2].shape == (1, 96, 4, 6)
