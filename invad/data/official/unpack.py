"""Unpack zip and tar archives: nothing lands outside the target, and a killed unpacking never looks finished."""

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from invad.data.official.members import Member, open_archive
from invad.data.official.verify import file_sha256
from invad.disk import free_bytes
from invad.errors import InputError
from invad.files import read_json, remove, write_json

MARKERS = ".unpacked"  # in the target: one file for each archive that was unpacked there
BLOCK = 1 << 20


def unpack(
    archive: Path,
    target: Path,
    *,
    label: str,
    only: Callable[[str], bool] | None = None,
    unpacked_size: int | None = None,
    most: int | None = None,
    name: str | None = None,
) -> None:
    """Unpack a .zip, .tar, .tar.gz, .tar.xz or .tar.bz2, told apart by their contents, into the folder `target`.

    Each top-level entry of the archive replaces the one of the same name in `target`; before, it is complete in a temporary folder
    there. All members are files (mode 0644 by the usual umask) and folders. A progress bar on stderr counts bytes.

    Args:
        archive: the file.
        target: the folder; made when missing.
        label: the name of the progress bar.
        only: takes or leaves a file by its name in the archive (`annotations/a.json`); by default all are taken.
        unpacked_size: the bytes needed on the disk, for a tar; by default those of the archive, twice as many when it is compressed.
        most: the most bytes that it may unpack to, in memory or on the disk; by default there is no bound but the disk.
        name: the name by which `unpacked_sha256` knows the archive; by default its file name.

    Raises:
        InputError: The archive is damaged, is none of these kinds, has a member that is refused (a path that leads outside, a link, a
            device, a name that comes twice, an encrypted one), holds no file that is taken, unpacks to more than `most`, or does not fit
            on the disk. `target` is as it was.
    """
    if not archive.is_file():
        raise InputError(f"{archive}: no such file; expected a zip or tar archive")
    name = name or archive.name
    target.mkdir(parents=True, exist_ok=True)
    staging = target / f".unpacking-{name}"
    remove(staging)  # of a process that was killed
    staging.mkdir()
    try:
        files = _unpack_into(staging, archive, label, only, unpacked_size, most)
        marker = {"archive": name, "sha256": file_sha256(archive), "entries": dict(sorted(files.items()))}
        _marker(name, target).unlink(missing_ok=True)  # from here until the end `target` is neither the old nor the new
        for entry in marker["entries"]:
            remove(target / entry)
            (staging / entry).rename(target / entry)
        write_json(_marker(name, target), marker)
    finally:
        remove(staging)


def unpacked_sha256(archive_name: str, target: Path) -> str | None:
    """Return the SHA-256 of the archive of this name that was unpacked into `target`; None when none was, or files of it are gone."""
    try:
        marker = read_json(_marker(archive_name, target))
    except InputError:
        return None
    complete = all(_count_files(target / entry) >= files for entry, files in marker["entries"].items())
    return marker["sha256"] if complete else None


def _marker(name: str, target: Path) -> Path:
    return target / MARKERS / f"{name}.json"


def _unpack_into(
    folder: Path,
    archive: Path,
    label: str,
    only: Callable[[str], bool] | None,
    unpacked_size: int | None,
    most: int | None,
) -> Counter[str]:
    """Write the files that `only` takes below `folder`; return how many there are in each top-level entry."""
    files: Counter[str] = Counter()
    with (
        tqdm(desc=label, unit="B", unit_scale=True) as progress,
        open_archive(archive, only, unpacked_size, progress, most) as (members, needed),
    ):
        free = free_bytes(folder, needed, f"{archive} to be unpacked")
        for member in members:
            free -= member.size
            if free < 0:
                raise InputError(
                    f"{archive}: its files do not fit on the disk of {folder.parent.absolute()}; make room"
                )
            _write(folder / member.path, member, archive)
            files[member.path.parts[0]] += 1
    if not files:
        raise InputError(f"{archive}: holds none of the files expected in it; give the archive as it is published")
    return files


def _write(path: Path, member: Member, archive: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as source, path.open("xb") as file:
        shutil.copyfileobj(source, file, BLOCK)  # zipfile and tarfile return no more bytes than declared
        complete = file.tell() == member.size
    if not complete:
        raise InputError(f"{archive}: {str(member.path)!r} has not the {member.size} bytes declared; fetch it again")


def _count_files(path: Path) -> int:
    if path.is_file():
        return 1
    return sum(len(files) for _, _, files in os.walk(path))
