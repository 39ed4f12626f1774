import json

import pytest

from invad.config import DownloadConfig
from invad.data.download import prepare_dataset
from invad.data.embedded import GENERATORS
from invad.data.source import read_source
from invad.errors import InputError
from invad.workspace import Workspace


def test_embedded_data_lie_beside_their_source_file_and_have_a_digest_of_their_contents(tmp_path):
    config = DownloadConfig("embedded", seed=3, train_images=4, test_images=6, image_size=64)
    first = prepare_dataset("mvtec", config, Workspace(tmp_path / "first"))
    assert first.root == tmp_path / "first/data/raw/mvtec"
    assert list(first.root.glob("*/train/good/000.png"))
    again = prepare_dataset("mvtec", config, Workspace(tmp_path / "again"))
    other_config = DownloadConfig("embedded", seed=4, train_images=4, test_images=6, image_size=64)
    other = prepare_dataset("mvtec", other_config, Workspace(tmp_path / "other"))
    assert first.sha256 == again.sha256 != other.sha256
    assert "first" not in (first.root / "source.json").read_text()  # no path of this machine


def test_the_users_own_copy_is_used_where_it_is(mvtec_root, tmp_path):
    source = prepare_dataset("mvtec", DownloadConfig("path", path=str(mvtec_root)), Workspace(tmp_path))
    assert source.root == mvtec_root
    raw = tmp_path / "data/raw/mvtec"
    assert [path.name for path in raw.iterdir()] == ["source.json"]
    assert read_source(raw) == source
    (mvtec_root / "valve/train/good/.DS_Store").write_text("looked at")
    same = prepare_dataset("mvtec", DownloadConfig("path", path=str(mvtec_root)), Workspace(tmp_path))
    assert same.sha256 == source.sha256
    (mvtec_root / "valve/train/good/002.png").touch()
    changed = prepare_dataset("mvtec", DownloadConfig("path", path=str(mvtec_root)), Workspace(tmp_path))
    assert changed.sha256 != source.sha256


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("coco", "is no coco root, annotations/instances_train2017.json is missing"),
        ("visa", "is no visa root, split_csv/1cls.csv is missing"),
    ],
)
def test_a_folder_of_something_else_is_refused(mvtec_root, tmp_path, dataset, message):
    with pytest.raises(InputError, match=message):
        prepare_dataset(dataset, DownloadConfig("path", path=str(mvtec_root)), Workspace(tmp_path))
    assert not (tmp_path / "data/raw" / dataset).exists()


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"download\.coco\.path: .*nowhere is not a folder"):
        prepare_dataset("coco", DownloadConfig("path", path=str(tmp_path / "nowhere")), Workspace(tmp_path))


def test_a_failed_generation_keeps_the_old_data(tmp_path, monkeypatch):
    config = DownloadConfig("embedded", train_images=4, test_images=6, image_size=64)
    prepare_dataset("visa", config, Workspace(tmp_path))
    before = json.loads((tmp_path / "data/raw/visa/source.json").read_text())

    def broken(*_args, **_kwargs):
        raise OSError("disk full")

    monkeypatch.setitem(GENERATORS, "visa", broken)
    with pytest.raises(OSError, match="disk full"):
        prepare_dataset("visa", config, Workspace(tmp_path))
    assert json.loads((tmp_path / "data/raw/visa/source.json").read_text()) == before
