"""Fetch, verify and unpack the official archives of a data set.

They live in a store outside DVC's outputs, `<store>/archives` and `<store>/files`: DVC is slow with folders of 100,000 files, and it
deletes the outputs of a stage before the stage runs, which would end every resumption.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from invad.config import DownloadConfig
from invad.data.official.http import RetryPolicy, download, partial_path, verify
from invad.data.official.releases import COCO_ADDRESS, LICENCES, Archive, official_archives
from invad.data.official.unpack import unpack, unpacked_sha256
from invad.disk import free_bytes
from invad.errors import InputError
from invad.files import remove

RETRIES = RetryPolicy()
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
    missing = [archive for archive in archives if unpacked_sha256(archive.remote.name, files) != archive.remote.sha256]
    paths = _fetch(missing, config, store / "archives", dataset)
    for archive, path in zip(missing, paths, strict=True):
        name, sha256, size = archive.remote.name, archive.remote.sha256, archive.unpacked_size
        label = f"download@{dataset} {name}"
        unpack(path, files, name=name, sha256=sha256, unpacked_size=size, label=label, only=archive.wanted)
    if not config.keep_archives:
        _remove_archives(archives, store / "archives")
    lines = [f"{archive.remote.name} {archive.remote.sha256}\n" for archive in archives]
    return files, hashlib.sha256("".join(lines).encode()).hexdigest()


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


def _fetch(archives: Sequence[Archive], config: DownloadConfig, folder: Path, dataset: str) -> list[Path]:
    """Return where each archive lies, verified; fetch those that are no local files."""
    label, hint = f"download@{dataset}", f"set another address or a local file in params.yaml: download.{dataset}.files"
    remotes = [
        replace(archive.remote, url=config.files.get(archive.remote.name, archive.remote.url)) for archive in archives
    ]
    wanted = {remote: folder / remote.name for remote in remotes if _is_address(remote.url)}
    folder.mkdir(parents=True, exist_ok=True)
    free_bytes(folder, sum(remote.size - _bytes_there(path) for remote, path in wanted.items()), label)
    paths = []
    for remote in remotes:
        path = wanted.get(remote) or Path(remote.url).expanduser().absolute()
        if remote in wanted:
            download(remote, path, label=f"{label} {remote.name}", policy=RETRIES, hint=hint)
        else:
            verify(remote, path)
        paths.append(path)
    return paths


def _bytes_there(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, partial_path(path)) if file.is_file())


def _remove_archives(archives: Sequence[Archive], folder: Path) -> None:
    for archive in archives:
        for path in folder.glob(f"{archive.remote.name}*"):
            remove(path)


def _is_address(text: str) -> bool:
    return text.startswith(("http://", "https://"))
