"""`exif_rotation` and `grey16_white`, from the settings to the prediction: all that reads images does it so, and keys know."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import REPOSITORY, save_mask
from PIL import Image
from PIL.ExifTags import Base
from prediction_toys import toy_model_folder

import invad
from invad.config import (
    AS_STORED,
    BenchmarkConfig,
    FeaturesConfig,
    FolderSplitConfig,
    InvADConfig,
    ReadingConfig,
    ScoreConfig,
    TableSplitConfig,
    load_params,
)
from invad.data.check import check_split
from invad.data.images import resized
from invad.data.own.importing import import_data
from invad.data.source import Source, write_source
from invad.data.split_table import Split, read_split_table
from invad.data.splits import build_split
from invad.errors import InputError
from invad.features.encoder import build_encoder
from invad.features.source import LiveFeatures, split_sha256
from invad.predict.serve import Limits
from invad.predict.serve.service import Service
from invad.studies.study import rows_sha256
from invad.training.model_folder import read_config, save_model
from invad.workspace import Workspace

TURNED, DEEP = ReadingConfig(exif_rotation=True), ReadingConfig(grey16_white=4095)
ENCODER = FeaturesConfig("mobilenetv2_100", "none", image_size=64, mode="live")


@pytest.fixture
def photographs(mvtec_root) -> Path:
    """The small MVTec AD root with images that lie on their side, and masks of them upright."""
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    for number, path in enumerate(sorted(mvtec_root.glob("valve/t*/*/*.png"))):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 12, 3), np.uint8)
        Image.fromarray(pixels).save(path, exif=exif)
    for path in mvtec_root.glob("valve/ground_truth/*/*.png"):
        Image.fromarray(np.eye(12, 8, dtype=np.uint8) * 255).save(path)
    return mvtec_root


def split_of(root: Path, workspace: Workspace, reading: ReadingConfig) -> Split:
    splits = FolderSplitConfig(exif_rotation=reading.exif_rotation, grey16_white=reading.grey16_white)
    benchmark = BenchmarkConfig("mvtec", "mvtec", splits, ENCODER, InvADConfig(), ScoreConfig())
    workspace.raw("mvtec").mkdir(parents=True, exist_ok=True)
    write_source(workspace.raw("mvtec"), Source("mvtec", "path", root, "abc"))
    return build_split(benchmark, workspace)


def test_a_split_knows_how_its_images_are_read_and_says_nothing_by_default(photographs, tmp_path):
    workspace = Workspace(tmp_path)
    with pytest.raises(InputError, match=r"_mask\.png: has 8x12 pixels, but its image .* has 12x8"):
        split_of(photographs, workspace, AS_STORED)
    split = split_of(photographs, workspace, TURNED)
    assert split.reading == TURNED
    assert {(row.width, row.height) for row in split.rows} == {(8, 12)}
    table = workspace.split("mvtec") / "split.parquet"
    assert json.loads(read_split_table(table)[1]["reading"]) == {"exif_rotation": True, "grey16_white": None}
    report = check_split(split, workers=1, label="check")
    assert report.findings == ()  # nothing is said of a rotation that is applied
    for path in photographs.glob("valve/ground_truth/*/*.png"):
        save_mask(path)
    for path in photographs.glob("valve/t*/*/*.png"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    assert split_of(photographs, workspace, AS_STORED).reading == AS_STORED
    assert read_split_table(table)[1] == {"benchmark": "mvtec", "dataset": "mvtec", "data_sha256": "abc"}


def test_features_are_of_the_turned_images_and_their_key_tells(photographs, tmp_path):
    split = split_of(photographs, Workspace(tmp_path), TURNED)
    encoder = build_encoder(ENCODER.encoder, ENCODER.weights)
    stored = LiveFeatures(replace(split, reading=AS_STORED), "train", ENCODER, encoder)
    turned = LiveFeatures(split, "train", ENCODER, encoder)
    assert turned.key != stored.key == replace(turned.key, split_sha256=stored.key.split_sha256)
    names = "\n".join(row.image for row in split.phase("train"))
    assert split_sha256(split.phase("train")) == hashlib.sha256(names.encode()).hexdigest()  # as it always was
    assert rows_sha256(split) != rows_sha256(replace(split, reading=AS_STORED))
    grouped = tuple(replace(row, group="one", view=str(number)) for number, row in enumerate(split.rows))
    assert rows_sha256(split) != rows_sha256(replace(split, rows=grouped))  # MVAD trains on other views together
    device = next(encoder.parameters()).device
    (levels,), (others,) = (list(each.batches([[0]], device)) for each in (turned, stored))
    assert not any(bool((a == b).all()) for a, b in zip(levels, others, strict=True))


def test_a_model_predicts_as_it_was_trained(tmp_path):
    folder = toy_model_folder(tmp_path / "model")
    assert "reading" not in json.loads((folder / "config.json").read_text())
    predictor = invad.load(folder, device="cpu")
    assert predictor.config.reading == AS_STORED
    values = np.random.default_rng(0).integers(0, 4096, (70, 50), np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match="has the pixel format I;16"):
        predictor.predict(tmp_path / "deep.png")
    config = replace(predictor.config, reading=DEEP)
    save_model(predictor.detector.method, config, tmp_path / "deep", predictor.detector.encoder)
    shutil.copy(folder / "calibration.json", tmp_path / "deep")
    assert read_config(tmp_path / "deep") == config
    deep = invad.load(tmp_path / "deep", device="cpu")
    scaled = Image.fromarray(((values.astype(np.uint32) * 255 + 2047) // 4095).astype(np.uint8))
    for image in (tmp_path / "deep.png", Image.open(tmp_path / "deep.png")):
        assert deep.predict(image).scores.tolist() == predictor.predict(scaled).scores.tolist()
    (of_file,) = deep.predict(tmp_path / "deep.png")
    assert of_file.overlay().tobytes() == of_file.overlay(scaled).tobytes()
    service = Service(deep, "deep", Limits())
    served, _ = service._decode((tmp_path / "deep.png").read_bytes(), "image/png", heatmap=False)
    assert np.array_equal(served.pixels, resized(scaled.convert("RGB"), 64))

    path = tmp_path / "deep/config.json"
    value = json.loads(path.read_text())
    assert value["reading"] == {"exif_rotation": False, "grey16_white": 4095}
    path.write_text(json.dumps(value | {"reading": {"grey16_white": "white"}}))
    with pytest.raises(InputError, match=r"reading\.grey16_white: must be a valid integer"):
        read_config(tmp_path / "deep")


def test_an_import_writes_how_images_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text((REPOSITORY / "params.yaml").read_text())
    Path("deep").mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 4096, (8, 8), np.uint16)
        Image.fromarray(pixels).save(f"deep/{number}.png")
    options = {"workspace": Workspace(), "like": None, "params_path": Path("params.yaml"), "force": False}
    text = import_data("deep", Path("deep"), None, config=TableSplitConfig(grey16_white=4095), **options)
    assert "deep: 1 class" in text
    splits = yaml.safe_load(Path("params.yaml").read_text())["splits"]["deep"]
    assert splits == {"seed": 0, "test_share": 0.2, "grey16_white": 4095}
    assert load_params().benchmark("deep").splits == TableSplitConfig(grey16_white=4095)
