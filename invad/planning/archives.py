"""What is still to be fetched and unpacked of the official archives, and of COCO's single images."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from invad.config import DownloadConfig
from invad.datasets.coco_ad import COCO_IMAGES
from invad.datasets.official import Archive, official_archives
from invad.datasets.split_table import Phase
from invad.fetch.archives import unpacked_sha256
from invad.fetch.resume import partial_path

_, _VAL, _TRAIN = official_archives("coco", DownloadConfig("official", images="archive"))
IMAGE_BYTES: dict[Phase, float] = {
    "train": _TRAIN.remote.size / COCO_IMAGES["train"],
    "test": _VAL.remote.size / COCO_IMAGES["test"],
}
"""Of one of COCO's images in the mean: the archives' sizes by their numbers of images."""
ANNOTATION_BYTES = 468_000_000
"""Of COCO's two files of instance annotations."""
ANNOTATED_TRAIN_IMAGES = 117_266  # of train2017


@dataclass(frozen=True)
class Amounts:
    """Bytes: still to download; on the disk when done; still to be written. `estimated`: which archives are of unpublished size."""

    download: int
    disk: int
    to_write: int
    estimated: tuple[str, ...] = ()


def archive_amounts(dataset: str, config: DownloadConfig, store: Path) -> Amounts:
    """Return the amounts of a data set's official archives; local files given in `files` are neither fetched nor copied."""
    download = disk = to_write = 0
    archives = official_archives(dataset, config)
    for archive in archives:
        local = not config.files.get(archive.remote.name, archive.remote.url).startswith(("http://", "https://"))
        size = 0 if local else archive_bytes(archive)
        if unpacked_sha256(archive.remote.name, store / "files") is None:
            missing = max(0, size - _fetched(store / "archives" / archive.remote.name))
            download += missing
            to_write += missing + archive.unpacked_size
        disk += archive.unpacked_size + (size if config.keep_archives else 0)
    unknown = tuple(archive.remote.name for archive in archives if archive.remote.size is None)
    return Amounts(download, disk, to_write, unknown)


def archive_bytes(archive: Archive) -> int:
    """Return the size of an archive; where none is published about as much as its files, which are compressed already."""
    return archive.remote.size or archive.unpacked_size


def _fetched(path: Path) -> int:
    return next((file.stat().st_size for file in (path, partial_path(path)) if file.is_file()), 0)


class ImageFetches:
    """COCO's single images, fetched fold by fold: what an earlier fold has brought is not fetched again.

    Images are counted by name where the annotations are there. Else the folds' test images are taken to be the same, as they are,
    and their training images to be different ones, up to all that there are: more than will be needed.
    """

    def __init__(self, files: Path) -> None:
        self._files = files
        self._named: set[str] = set()
        self._counted: dict[Phase, int] = {"train": 0, "test": 0}

    def of_names(self, images: Collection[str]) -> Amounts:
        """Return the amounts of a fold with these images (`train2017/<file>`, `val2017/<file>`)."""
        new = set(images) - self._named
        self._named |= new
        folders = {image.split("/")[0] for image in new}
        there = {f"{name}/{path.name}" for name in folders for path in (self._files / name).glob("*.jpg")}
        disk = round(sum(map(_image_bytes, new)))
        missing = round(sum(map(_image_bytes, new - there)))
        return Amounts(missing, disk, missing)

    def of_counts(self, train: int, test: int) -> Amounts:
        """Return the amounts of a fold with so many training and test images, none of which is there."""
        before = dict(self._counted)
        self._counted["train"] = min(before["train"] + train, ANNOTATED_TRAIN_IMAGES)
        self._counted["test"] = max(before["test"], test)
        size = round(sum((self._counted[phase] - before[phase]) * IMAGE_BYTES[phase] for phase in before))
        return Amounts(size, size, size)


def _image_bytes(image: str) -> float:
    return IMAGE_BYTES["train" if image.startswith("train") else "test"]
