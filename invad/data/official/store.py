"""Fetch, verify and unpack the official archives of a data set.

They live in a store outside DVC's outputs, `<store>/archives` and `<store>/files`: DVC is slow with folders of 100,000 files, and it
deletes the outputs of a stage before the stage runs, which would end every resumption.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from invad.config import DownloadConfig
from invad.data.official.http import Remote, RetryPolicy, download, verify
from invad.data.official.unpack import unpack, unpacked_sha256
from invad.disk import free_bytes
from invad.errors import InputError
from invad.files import remove

RETRIES = RetryPolicy()


@dataclass(frozen=True)
class Archive(Remote):
    """An official archive; `wanted` takes files by their names, by default all."""

    unpacked_size: int = 0  # bytes; by default those of the archive, because photographs hardly shrink
    wanted: Callable[[str], bool] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "unpacked_size", self.unpacked_size or self.size)


@dataclass(frozen=True)
class Release:
    """What is published of a data set: archives, licence and its `terms`; `accept` where its owner asks for acceptance first."""

    archives: tuple[Archive, ...]
    licence: str
    terms: str
    accept: bool = False


def put_in_place(dataset: str, release: Release, config: DownloadConfig, store: Path) -> tuple[Path, str]:
    """Fetch and unpack what is missing in `store`; return the folder laid out as published, and the digest of its archives.

    `InputError`: the licence is not accepted; an address or local file is unknown, missing or damaged; there is no room on the disk.
    """
    key, files, archives = f"params.yaml: download.{dataset}", store / "files", release.archives
    if not archives:
        raise InputError(
            f"{key}.source: {dataset} cannot be fetched, its owner gives access to those who ask; read {release.terms} "
            f"({release.licence}), ask for the files there, and set `source: path` and `path:` to the folder of your copy"
        )
    if release.accept and not config.accept_license:
        raise InputError(
            f"{key}.accept_license: the owner of {dataset} asks for acceptance of its licence ({release.licence}); read {release.terms} "
            f"and set it to true"
        )
    known = [each.name for each in archives]
    for name in config.files:
        if name not in known:
            raise InputError(f"{key}.files.{name}: unknown; the archives are {', '.join(known)}")
    missing = [each for each in archives if unpacked_sha256(each.name, files) != each.sha256]
    for each, path in zip(missing, _fetch(missing, config, store / "archives", dataset), strict=True):
        published = {"name": each.name, "sha256": each.sha256, "unpacked_size": each.unpacked_size, "only": each.wanted}
        unpack(path, files, **published, label=f"download@{dataset} {each.name}")
    if not config.keep_archives:
        for path in (path for each in archives for path in (store / "archives").glob(f"{each.name}*")):
            remove(path)
    lines = "".join(f"{each.name} {each.sha256}\n" for each in archives)
    return files, hashlib.sha256(lines.encode()).hexdigest()


def is_address(text: str) -> bool:
    """Return whether a text is the address of a server, not a local file."""
    return text.startswith(("http://", "https://"))


def _fetch(archives: Sequence[Archive], config: DownloadConfig, folder: Path, dataset: str) -> list[Path]:
    """Return where each archive lies, verified; fetch those that are no local files."""
    label, hint = f"download@{dataset}", f"set another address or a local file in params.yaml: download.{dataset}.files"
    remotes = [replace(each, url=config.files.get(each.name, each.url), hint=hint) for each in archives]
    paths = [folder / each.name if is_address(each.url) else Path(each.url).expanduser().absolute() for each in remotes]
    folder.mkdir(parents=True, exist_ok=True)
    there = sum(path.stat().st_size for each in paths for path in each.parent.glob(f"{each.name}*"))  # also in part
    free_bytes(folder, sum(each.size for each in remotes) - there, label)
    for each, path in zip(remotes, paths, strict=True):
        if is_address(each.url):
            download(each, path, label=f"{label} {each.name}", policy=RETRIES)
        else:
            verify(each, path)
    return paths
