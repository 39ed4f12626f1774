"""Fetch, verify and unpack the official archives of a data set.

They live in a store outside DVC's outputs, `<store>/archives` and `<store>/files`: DVC is slow with folders of 100,000 files, and it
deletes the outputs of a stage before the stage runs, which would end every resumption.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from invad.config import DownloadConfig
from invad.data.official.http import Remote, RetryPolicy, download_all, file_sha256, verify_local
from invad.data.official.releases import COCO_ADDRESS, LICENCES, VAL_ANNOTATIONS, Archive, official_archives
from invad.data.official.unpack import unpack, unpacked_sha256
from invad.errors import InputError
from invad.files import remove

RETRIES = RetryPolicy()
# An archive without a published checksum may hold anything: what it unpacks to is bounded by what is expected, which for a single class
# is an estimate by its number of images.
MOST_TIMES, SMALLEST_BOUND = 4, 1 << 20
IMAGE_ADDRESS = "images"  # the key of `files` for another address of COCO's single images


def put_in_place(dataset: str, config: DownloadConfig, store: Path) -> tuple[Path, str]:
    """Fetch and unpack what is missing in `store`; return the folder laid out as published, and the digest of its archives.

    Raises:
        InputError: The licence is not accepted; an address or local file is unknown, missing or damaged; there is no room on the disk.
    """
    key = f"params.yaml: download.{dataset}"
    _require_licence(dataset, config, key)
    archives = official_archives(dataset, config)
    _check_overrides(archives, dataset, config, key)
    files = store / "files"
    missing = [archive for archive in archives if not _is_in_place(archive.remote, files)]
    paths = _fetch([archive.remote for archive in missing], config, store / "archives", dataset)
    for archive, path in zip(missing, paths, strict=True):
        unpack(
            path,
            files,
            name=archive.remote.name,
            only=archive.wanted,
            unpacked_size=archive.unpacked_size,
            most=MOST_TIMES * archive.unpacked_size + SMALLEST_BOUND,
            label=f"download@{dataset} {archive.remote.name}",
        )
    if dataset == "coco":
        _check_val_annotations(files)
    if not config.keep_archives:
        _remove_archives(archives, store / "archives")
    return files, _digest(archives, files)


def images_address(config: DownloadConfig) -> str | None:
    """Return the address below which COCO's single images are fetched, or None when the archives hold them."""
    return config.files.get(IMAGE_ADDRESS, COCO_ADDRESS).rstrip("/") if config.images == "needed" else None


def _require_licence(dataset: str, config: DownloadConfig, key: str) -> None:
    licence = LICENCES[dataset]
    if licence.accept and not config.accept_license:
        raise InputError(
            f"{key}.accept_license: the owner of {dataset} asks for acceptance of its licence ({licence.name}); read {licence.terms} "
            f"and set it to true"
        )


def _check_overrides(archives: Sequence[Archive], dataset: str, config: DownloadConfig, key: str) -> None:
    known = [archive.remote.name for archive in archives]
    if dataset == "coco" and config.images == "needed":
        known.append(IMAGE_ADDRESS)
    for name, address in config.files.items():
        if name not in known:
            raise InputError(f"{key}.files.{name}: unknown; these settings need {', '.join(known)}")
        if name == IMAGE_ADDRESS and not _is_address(address):
            raise InputError(f"{key}.files.{name}: must be an http or https address, not {address!r}")


def _fetch(remotes: Sequence[Remote], config: DownloadConfig, folder: Path, dataset: str) -> list[Path]:
    """Return where each archive lies, verified; fetch those that are no local files."""
    paths, wanted = [], []
    for remote in remotes:
        address = config.files.get(remote.name, remote.url)
        if _is_address(address):
            paths.append(folder / remote.name)
            wanted.append((replace(remote, url=address), paths[-1]))
        else:
            paths.append(Path(address).expanduser().absolute())
            verify_local(remote, paths[-1])
    hint = f"set another address or a local file in params.yaml: download.{dataset}.files"
    download_all(wanted, label=f"download@{dataset}", policy=RETRIES, hint=hint)
    return paths


def _is_in_place(remote: Remote, files: Path) -> bool:
    sha256 = unpacked_sha256(remote.name, files)
    return sha256 is not None and remote.checksum in (None, f"sha256:{sha256}")


def _check_val_annotations(files: Path) -> None:
    name, size, start = VAL_ANNOTATIONS
    path = files / name
    if not path.is_file() or path.stat().st_size != size or not file_sha256(path).startswith(start):
        raise InputError(
            f"{path}: not the published annotations ({size} bytes, sha256 {start}...); remove {files} and fetch them again"
        )


def _remove_archives(archives: Sequence[Archive], folder: Path) -> None:
    for archive in archives:
        for path in folder.glob(f"{archive.remote.name}*"):
            remove(path)


def _digest(archives: Sequence[Archive], files: Path) -> str:
    """SHA-256 over the names and SHA-256 of the archives."""
    lines = [f"{archive.remote.name} {unpacked_sha256(archive.remote.name, files)}\n" for archive in archives]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _is_address(text: str) -> bool:
    return text.startswith(("http://", "https://"))
