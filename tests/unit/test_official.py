"""`source: official`, from the archives of a server to a split table, at toy size."""

import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import replace

import pytest
from conftest import image_bytes, mask_bytes
from http_server import Answer, http_server  # noqa: F401  (the fixture `server`)

from invad.config import (
    BenchmarkConfig,
    CocoAdSplitConfig,
    DownloadConfig,
    FeaturesConfig,
    FolderSplitConfig,
    InvADConfig,
    ScoreConfig,
    VadSplitConfig,
)
from invad.data.datasets import DATASETS
from invad.data.download import prepare_dataset
from invad.data.official import store
from invad.data.official.store import Archive
from invad.data.splits import build_split
from invad.errors import InputError
from invad.workspace import Workspace

LENIENT = FolderSplitConfig(strict=False)


def benchmark(dataset: str, splits, name: str | None = None) -> BenchmarkConfig:
    return BenchmarkConfig(
        name or dataset, dataset, splits, FeaturesConfig("mobilenetv2_100"), InvADConfig(), ScoreConfig()
    )


def tar_bytes(files: dict[str, bytes], mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def zip_bytes(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def archives_of(dataset: str) -> tuple[Archive, ...]:
    return DATASETS[dataset].release.archives


def publish(monkeypatch, dataset: str, *contents: bytes) -> None:
    """Make `contents` the first published archives of a data set."""
    archives = list(archives_of(dataset))
    for index, content in enumerate(contents):
        size, sha256 = len(content), hashlib.sha256(content).hexdigest()
        archives[index] = replace(archives[index], size=size, sha256=sha256, unpacked_size=size)
    release = replace(DATASETS[dataset].release, archives=tuple(archives))
    monkeypatch.setitem(DATASETS, dataset, replace(DATASETS[dataset], release=release))


def visa_files() -> dict[str, bytes]:
    lines = [
        "object,split,label,image,mask",
        "candle,train,normal,candle/Data/Images/Normal/0000.JPG,",
        "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png",
    ]
    return {
        "split_csv/1cls.csv": "\n".join(lines).encode(),
        "candle/Data/Images/Normal/0000.JPG": image_bytes(),
        "candle/Data/Images/Anomaly/000.JPG": image_bytes(),
        "candle/Data/Masks/Anomaly/000.png": mask_bytes(),
    }


@pytest.fixture
def visa(server, monkeypatch) -> DownloadConfig:
    content = tar_bytes(visa_files())
    publish(monkeypatch, "visa", content)
    server.files["visa.tar"] = content
    return DownloadConfig("official", files={"VisA_20220922.tar": server.url("visa.tar")})


def test_visa_from_its_archive(visa, server, tmp_path):
    workspace = Workspace(tmp_path)
    source = prepare_dataset("visa", visa, workspace)
    assert source.root.resolve() == (tmp_path / "data/store/visa/files").resolve()
    assert str(tmp_path) not in (workspace.raw("visa") / "source.json").read_text()
    assert len(list(workspace.raw("visa").iterdir())) == 1
    split = build_split(benchmark("visa", LENIENT), workspace)
    assert [row.label for row in split.rows] == [0, 1]
    prepare_dataset("visa", visa, workspace)
    assert server.requests("visa.tar") == 1


def test_published_counts_are_checked(visa, tmp_path):
    workspace = Workspace(tmp_path)
    prepare_dataset("visa", visa, workspace)
    message = r"not the published images .*: candle has 1 \+ 0 \+ 1, published 900 \+ 100 \+ 100; mend the data, or set `strict: false`"
    with pytest.raises(InputError, match=message):
        build_split(benchmark("visa", FolderSplitConfig()), workspace)
    assert not workspace.split("visa").exists()


def test_archives_can_go_once_they_are_unpacked(visa, server, tmp_path):
    frugal = replace(visa, keep_archives=False, store=str(tmp_path / "elsewhere"))
    first = prepare_dataset("visa", frugal, Workspace(tmp_path))
    assert first.root == tmp_path / "elsewhere/files"
    assert list((tmp_path / "elsewhere/archives").iterdir()) == []
    assert prepare_dataset("visa", frugal, Workspace(tmp_path)) == first
    assert server.requests("visa.tar") == 1


def test_a_local_file_is_used_where_it_is(visa, server, tmp_path):
    local = tmp_path / "my.tar"
    local.write_bytes(server.files["visa.tar"])
    source = prepare_dataset("visa", replace(visa, files={"VisA_20220922.tar": str(local)}), Workspace(tmp_path))
    assert (source.root / "split_csv/1cls.csv").is_file()
    assert server.seen == []
    assert [path.name for path in tmp_path.glob("my.tar*")] == ["my.tar"]


def test_a_damaged_archive_is_never_unpacked_and_the_old_source_stays(visa, server, tmp_path):
    workspace = Workspace(tmp_path)
    server.script["visa.tar"] = [Answer(body=b"x" * len(server.files["visa.tar"]))]
    with pytest.raises(InputError, match=r"VisA_20220922\.tar"):
        prepare_dataset("visa", visa, workspace)
    assert not (tmp_path / "data/store/visa/files").exists()
    assert not workspace.raw("visa").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"visa.zip": "x"}, r"download\.visa\.files\.visa\.zip: unknown; the archives are VisA_20220922\.tar"),
        ({"VisA_20220922.tar": "/nowhere/visa.tar"}, r"/nowhere/visa\.tar: no such file"),
        ({"VisA_20220922.tar": "http://127.0.0.1:1/"}, r"127\.0\.0\.1:1.*download\.visa\.files"),
    ],
)
def test_a_wrong_address_is_named(visa, tmp_path, monkeypatch, files, message):
    monkeypatch.setattr(store, "RETRIES", replace(store.RETRIES, attempts=1, backoff=0.001))
    with pytest.raises(InputError, match=message):
        prepare_dataset("visa", replace(visa, files=files), Workspace(tmp_path))


def mvtec_files(class_name: str) -> dict[str, bytes]:
    return {
        f"{class_name}/train/good/000.png": image_bytes(),
        f"{class_name}/test/good/000.png": image_bytes(),
        f"{class_name}/test/poke/000.png": image_bytes(),
        f"{class_name}/ground_truth/poke/000_mask.png": mask_bytes(),
    }


def test_mvtec_asks_for_acceptance_of_its_licence(tmp_path):
    message = r"download\.mvtec\.accept_license: the owner .*CC BY-NC-SA 4\.0.* read https://www\.mvtec\.com/\S+ and set it to true"
    with pytest.raises(InputError, match=message):
        prepare_dataset("mvtec", DownloadConfig("official"), Workspace(tmp_path))
    assert not (tmp_path / "data").exists() or not any((tmp_path / "data").rglob("*.json"))


def test_btad_from_its_archive_whose_size_nobody_has_published(server, tmp_path, monkeypatch):
    base = "BTech_Dataset_transformed/01"
    content = zip_bytes(
        {
            "README.txt": b"left out",
            f"{base}/train/ok/0000.bmp": image_bytes(),
            f"{base}/test/ok/0000.bmp": image_bytes(),
            f"{base}/test/ko/0000.bmp": image_bytes(),
            f"{base}/ground_truth/ko/0000.png": mask_bytes(),
        }
    )
    publish(monkeypatch, "btad", content)
    assert not archives_of("btad")[0].size_is_known
    server.files["btad.zip"] = content
    workspace = Workspace(tmp_path)
    source = prepare_dataset("btad", DownloadConfig("official", files={"btad.zip": server.url("btad.zip")}), workspace)
    assert [path.name for path in source.root.iterdir() if path.name[0] != "."] == ["BTech_Dataset_transformed"]
    assert [row.label for row in build_split(benchmark("btad", LENIENT), workspace).rows] == [0, 1, 0]
    with pytest.raises(InputError, match=r"01 has 1 \+ 1 \+ 1, published 400 \+ 21 \+ 49"):
        build_split(benchmark("btad", FolderSplitConfig()), workspace)


def test_vad_from_an_archive_whose_licence_is_accepted(server, tmp_path, monkeypatch):
    names = ("train/good/1", "train/bad/2", "test/good/3", "test/bad/4", "test/bad_unseen_defects/5")
    content = zip_bytes({f"vad/{name}.png": image_bytes() for name in names})
    publish(monkeypatch, "vad", content)
    server.files["VAD.zip"] = content
    files = {"VAD.zip": server.url("VAD.zip")}
    with pytest.raises(InputError, match=r"download\.vad\.accept_license: .*CC BY-NC-SA 4\.0.*github\.com/abc-125/vad"):
        prepare_dataset("vad", DownloadConfig("official", files=files), Workspace(tmp_path))
    prepare_dataset("vad", DownloadConfig("official", files=files, accept_license=True), Workspace(tmp_path))
    split = build_split(benchmark("vad", VadSplitConfig(strict=False)), Workspace(tmp_path))
    assert [row.image for row in split.rows] == [f"vad/{name}.png" for name in (names[0], names[3], names[4], names[2])]


def test_real_iad_has_to_be_asked_for(tmp_path):
    message = (
        r"download\.realiad\.source: realiad cannot be fetched, .* read https://realiad4ad\.github\.io/Real-IAD \(CC BY-NC-SA 4\.0, "
        r"no commercial use\), ask for the files there, and set `source: path` and `path:` to the folder of your copy"
    )
    for accepted in (False, True):
        with pytest.raises(InputError, match=message):
            prepare_dataset("realiad", DownloadConfig("official", accept_license=accepted), Workspace(tmp_path))
    assert not (tmp_path / "data").exists() or not any((tmp_path / "data").rglob("*.json"))


def coco_annotations(images: list[list[int]]) -> bytes:
    """The annotations of 8x8 images; each image is the list of its annotations' category numbers."""
    annotations = [
        {"id": 100 * image + n, "image_id": image, "category_id": 10 + category, "iscrowd": 0}
        | {"segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]}
        for image, categories in enumerate(images)
        for n, category in enumerate(categories)
    ]
    value = {
        "images": [{"id": n, "file_name": f"{n:012d}.jpg", "width": 8, "height": 8} for n in range(len(images))],
        "annotations": annotations,
        "categories": [{"id": 10 + index, "name": f"category {index}"} for index in range(80)],
    }
    return json.dumps(value).encode()


def test_coco_from_its_archives(server, tmp_path, monkeypatch):
    """Train images 0 and 1 are of fold 0, image 2 is normal nowhere but in fold 1; test image 2 has no annotation."""
    annotations = {
        "annotations/instances_train2017.json": coco_annotations([[25], [45], [5], []]),
        "annotations/instances_val2017.json": coco_annotations([[0], [25], []]),
        "annotations/captions_val2017.json": b"not wanted",
    }
    contents = [zip_bytes(annotations)]
    for phase, images in (("val", 3), ("train", 4)):
        contents.append(zip_bytes({f"{phase}2017/{n:012d}.jpg": image_bytes() for n in range(images)}))
    publish(monkeypatch, "coco", *contents)
    server.files |= {archive.name: content for archive, content in zip(archives_of("coco"), contents, strict=True)}
    files = {archive.name: server.url(archive.name) for archive in archives_of("coco")}
    workspace = Workspace(tmp_path)
    source = prepare_dataset("coco", DownloadConfig("official", files=files), workspace)
    assert sorted(path.name for path in (source.root / "annotations").iterdir()) == [
        "instances_train2017.json",
        "instances_val2017.json",
    ]
    split = build_split(benchmark("coco", CocoAdSplitConfig(fold=0), "coco_ad_0"), workspace)
    assert [row.image for row in split.rows] == [
        f"{phase}2017/{n:012d}.jpg" for phase in ("train", "val") for n in (0, 1)
    ]
    assert all(split.image_path(row).is_file() for row in split.rows)


def test_the_published_archives_are_complete():
    """Every address is https or COCO's own, every name is the one at the end of the address."""
    for dataset in DATASETS.values():
        for archive in dataset.release.archives:
            assert archive.url.startswith(("https://", "http://images.cocodataset.org/"))
            assert archive.url.endswith(f"/{archive.name}")
            assert len(archive.sha256) == 64
            assert archive.size > 10**8
