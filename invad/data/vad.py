"""VAD, the Valeo Anomaly Dataset: `train/{good,bad}`, `test/{good,bad,bad_unseen_defects}`, one class and no masks at all."""

import logging
from collections import Counter
from pathlib import Path

import msgspec

from invad.config import VadSplitConfig, reading_of
from invad.data.counts import Counts, PublishedDataset, deviate
from invad.data.listing import image_files, inner_folder, named
from invad.data.official.store import Archive, Release
from invad.data.own.table import GOOD, ImportRow, split_rows
from invad.data.split_table import ANOMALOUS, NORMAL, Phase, SplitRow
from invad.errors import InputError

logger = logging.getLogger(__name__)

FOLDER = CLASS_NAME = "vad"
BAD, UNSEEN = "bad", "bad_unseen_defects"
LOW_SHOT = "low_shot_train.json"
LABELLED = 1_000  # images of `train/bad`
OF_KIND = {BAD: 835, UNSEEN: 165}  # of the authors' description, which nobody has counted
_FOLDERS: dict[str, tuple[Phase, int]] = {
    f"train/{GOOD}": ("train", NORMAL),
    f"test/{GOOD}": ("test", NORMAL),
    f"test/{BAD}": ("test", ANOMALOUS),
    f"test/{UNSEEN}": ("test", ANOMALOUS),
}


def build_vad(root: Path, config: VadSplitConfig) -> list[SplitRow]:
    """Return the rows below `root` or its folder `vad`: those of `train/bad` that the protocol takes have the phase `labelled`.

    `InputError`: a folder has no images, or `low_shot_train.json` is damaged, lacks the key, or names a file that is not in `train/bad`.
    """
    base = inner_folder(root, FOLDER)
    rows = []
    for name, (phase, label) in _FOLDERS.items():
        rows += [_row(root, image, phase, label) for image in _images(base / name)]
    if config.protocol != "one-class":
        labelled = _images(base / "train" / BAD)
        chosen = labelled if config.low_shot is None else _low_shot(base, labelled, config.low_shot)
        rows += [_row(root, image, "labelled", ANOMALOUS) for image in chosen]
    return split_rows(root, rows, reading_of(config), "vad", str(base))


def _images(folder: Path) -> list[Path]:
    if not (images := image_files(folder)):
        raise InputError(
            f"{folder}: has no images; VAD has train/good, test/good, test/bad and test/bad_unseen_defects"
        )
    return images


def _row(root: Path, image: Path, phase: Phase, label: int) -> ImportRow:
    return ImportRow(image.relative_to(root).as_posix(), CLASS_NAME, phase, label, image.parent.name, None)


def _low_shot(base: Path, images: list[Path], key: str) -> list[Path]:
    path = base / LOW_SHOT
    try:
        names_of = msgspec.json.decode(path.read_bytes(), type=dict[str, list[str]])
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: not a table of file names by key ({error})") from None
    if key not in names_of:
        raise InputError(f"{path}: has no key {key!r}, which low_shot names; it has {', '.join(names_of) or 'none'}")
    names = set(names_of[key])
    if unknown := names - {image.name for image in images}:
        raise InputError(f"{path}: the key {key!r} names {named(unknown)}, which is not in {base / 'train' / BAD}")
    return [image for image in images if image.name in names]


def check_vad(rows: list[SplitRow], root: Path, config: VadSplitConfig) -> None:
    """Raise `InputError` for another number of labelled images than published, warn of other numbers of the two kinds of tests."""
    labelled = sum(row.phase == "labelled" for row in rows)
    if config.protocol == "high-shot" and labelled != LABELLED:
        deviate(f"{root}: train/bad has {labelled} images, published are {LABELLED}", strict=config.strict)
    kinds = Counter(row.defect_type for row in rows if row.phase == "test")
    for kind, count in OF_KIND.items():
        if kinds[kind] != count:
            logger.warning("%s: test/%s has %d images, the authors speak of %d", root, kind, kinds[kind], count)


VAD = PublishedDataset(
    build=lambda root, config, _out: build_vad(root, config),
    release=Release(
        archives=(
            # Not the authors' address, which is a page of Google Drive, but another library's copy.
            Archive(
                "VAD.zip",
                "https://eu.mydrive.ch/shares/90677/c42f2e42db42dd710153dbadc2160f88/download/453437487-1757245265/VAD.zip",
                4_000_000_000,
                "8655b46d9de19f1c50d3eb79567cc3504773979892281a669d0c36680050050a",
                size_is_known=False,
            ),
        ),
        licence="CC BY-NC-SA 4.0, no commercial use",
        terms="https://github.com/abc-125/vad",
        accept=True,
    ),
    counts={CLASS_NAME: Counts(2_000, 1_000, 1_000)},
    check=check_vad,
)
