import gzip
import io
import json
import lzma
import os
import random
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from types import SimpleNamespace

import pytest

from invad.data.official import unpack as module
from invad.data.official.unpack import unpacked_sha256
from invad.errors import InputError

FILES = {
    "bottle/train/000.png": b"abc" * 1000,
    "bottle/test/000.png": b"",
    "cable/x.png": b"x",
    "readme.txt": b"read me",
}
MODES = {"a.tar": "w", "a.tar.gz": "w:gz", "a.tar.xz": "w:xz", "a.tar.bz2": "w:bz2"}
KINDS = ["a.zip", *MODES]


def make(folder, name, files=FILES):
    path = folder / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in files.items():
                archive.writestr(member, data)
    else:
        with tarfile.open(path, MODES[name]) as archive:
            for member, data in files.items():
                archive.addfile(tar_member(member, size=len(data)), io.BytesIO(data))
    return path


def unpack(archive, target, *, label="x", name=None, unpacked_size=1_000_000, only=None):
    name = name or archive.name
    module.unpack(archive, target, name=name, sha256=f"of {name}", unpacked_size=unpacked_size, label=label, only=only)


def tar_member(name, **attributes):
    info = tarfile.TarInfo(name)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


def contents(folder):
    """All files below `folder` but the markers."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name != ".unpacked"
    }


@pytest.fixture
def target(tmp_path):
    return tmp_path / "files"


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_unpacked_whatever_its_name_says(tmp_path, target, name, capsys):
    archive = make(tmp_path, name).rename(tmp_path / "archive.bin")
    unpack(archive, target, label="unpack@test", name=name)
    assert contents(target) == FILES
    assert "unpack@test: 3.01kB" in capsys.readouterr().err
    assert json.loads((target / f".unpacked/{name}.json").read_text()) == {
        "archive": name,
        "sha256": f"of {name}",
        "entries": {"bottle": 2, "cable": 1, "readme.txt": 1},
    }
    assert unpacked_sha256(name, target) == f"of {name}"


def test_unpacked_means_this_archive_and_every_file_of_it(tmp_path, target):
    archive = make(tmp_path, "a.zip")
    sha256 = "of a.zip"
    assert unpacked_sha256("a.zip", target) is None
    unpack(archive, target)
    assert unpacked_sha256("a.zip", target) == sha256
    assert unpacked_sha256("b.zip", target) is None
    (target / "bottle/train/000.png").unlink()
    assert unpacked_sha256("a.zip", target) is None
    unpack(archive, target)
    (target / "readme.txt").unlink()
    assert unpacked_sha256("a.zip", target) is None


@pytest.mark.parametrize("name", KINDS)
def test_only_the_wanted_files_are_written(tmp_path, target, name):
    unpack(make(tmp_path, name), target, only=lambda member: member.startswith("cable/"))
    assert contents(target) == {"cable/x.png": b"x"}
    assert [path.name for path in sorted(target.iterdir())] == [".unpacked", "cable"]


def test_an_entry_is_replaced_whole_and_others_are_left(tmp_path, target):
    for path in (target / "bottle/old.png", target / "mine/own.png"):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"old")
    unpack(make(tmp_path, "a.zip"), target)
    assert contents(target) == FILES | {"mine/own.png": b"old"}


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_files_get_no_mode_that_gives_rights_away(tmp_path, target, name):
    path = tmp_path / name
    if name == "a.zip":
        with zipfile.ZipFile(path, "w") as archive:
            info = zipfile.ZipInfo("a/b")
            info.external_attr = (stat.S_IFREG | 0o6777) << 16
            archive.writestr(info, b"x")
    else:
        with tarfile.open(path, "w") as archive:
            archive.addfile(tar_member("a", type=tarfile.DIRTYPE, mode=0o7777))
            archive.addfile(tar_member("a/b", size=1, mode=0o6777), io.BytesIO(b"x"))
    old = os.umask(0o022)
    try:
        unpack(path, target)
    finally:
        os.umask(old)
    assert stat.S_IMODE((target / "a/b").stat().st_mode) in (0o644, 0o755)
    assert stat.S_IMODE((target / "a").stat().st_mode) == 0o755


@pytest.mark.parametrize("kind", ["a.zip", "a.tar"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/evil", "could lead outside"),
        ("../evil", "could lead outside"),
        ("a/../../evil", "could lead outside"),
        ("a/..", "could lead outside"),
        (".unpacked/a.json", "the unpacking itself"),
        (".unpacking-a.zip/a", "the unpacking itself"),
        (".", "or is none"),
        ("x" * 256, "File name too long"),
        ("good.txt/inside", "a damaged one"),
        ("folder", "a damaged one"),
    ],
)
def test_a_member_with_a_hostile_name_is_refused_and_nothing_is_left(tmp_path, target, kind, name, reason):
    files = [("good.txt", b"good"), ("folder/b", b"b"), (name, b"evil")]
    path = tmp_path / kind
    if kind == "a.zip":
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in files:
                archive.writestr(member, data)
    else:
        with tarfile.open(path, "w") as archive:
            for member, data in files:
                archive.addfile(tar_member(member, size=len(data)), io.BytesIO(data))
    with pytest.raises(InputError) as error:
        unpack(path, target)
    assert str(error.value).startswith((f"{path}: member {name!r} is refused: ", f"{path}: not a zip or tar archive"))
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert list(target.iterdir()) == []
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    "attributes",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.SYMTYPE, "linkname": "good.txt"},
        {"type": tarfile.LNKTYPE, "linkname": "../../outside"},
        {"type": tarfile.LNKTYPE, "linkname": "good.txt"},
        {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3},
        {"type": tarfile.BLKTYPE},
        {"type": tarfile.FIFOTYPE},
        {"type": tarfile.GNUTYPE_SPARSE},
        {"type": b"Z"},
    ],
)
def test_a_tar_holds_files_and_folders_only(tmp_path, target, attributes):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tar_member("good.txt", size=4), io.BytesIO(b"good"))
        archive.addfile(tar_member("evil", **attributes))
    with pytest.raises(InputError, match=r"a\.tar: (member 'evil' is refused: it is a link|not a zip or tar)"):
        unpack(tmp_path / "a.tar", target, only=lambda name: name != "evil")
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_zip_holds_files_and_folders_only(tmp_path, target, kind):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("good.txt", b"good")
        info = zipfile.ZipInfo("evil")
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(InputError, match=r"a\.zip: member 'evil' is refused: it is a link or a device"):
        unpack(tmp_path / "a.zip", target)
    assert list(target.iterdir()) == []


def patch_zip(path, offset_local, offset_central, value, size):
    """Overwrite a field in the local and the central header of the only member."""
    data = bytearray(path.read_bytes())
    for header, offset in ((b"PK\3\4", offset_local), (b"PK\1\2", offset_central)):
        start = data.index(header) + offset
        data[start : start + size] = value.to_bytes(size, "little")
    path.write_bytes(data)


def test_an_encrypted_zip_is_refused(tmp_path, target):
    path = make(tmp_path, "a.zip", {"secret": b"x"})
    patch_zip(path, 6, 8, 1, 2)
    with pytest.raises(InputError, match="member 'secret' is refused: it is encrypted, or its compression"):
        unpack(path, target)


def test_a_zip_member_that_is_longer_than_declared_is_refused(tmp_path, target):
    path = make(tmp_path, "a.zip", {"bomb": b"0" * 100_000})
    patch_zip(path, 22, 24, 10, 4)
    with pytest.raises(InputError, match=r"a\.zip: .*"):
        unpack(path, target)
    assert list(target.iterdir()) == []


def test_a_compression_that_nobody_knows_is_refused(tmp_path, target):
    path = make(tmp_path, "a.zip", {"a": b"x"})
    patch_zip(path, 8, 10, 77, 2)
    with pytest.raises(InputError, match="or its compression may need any amount of memory"):
        unpack(path, target)


def test_a_zip_with_a_name_that_is_none_is_refused(tmp_path, target):
    path = make(tmp_path, "a.zip", {"\u00e9": b"x"})
    path.write_bytes(path.read_bytes().replace("\u00e9".encode(), b"\xc3\xc3"))
    with pytest.raises(InputError, match=r"a\.zip: not a zip or tar archive, or a damaged one .*utf-8"):
        unpack(path, target)
    path = make(tmp_path, "b.zip", {"a": b"x"})
    patch_zip(path, 26, 28, 1 << 16, 4)  # no byte of name, one of extra data
    with pytest.raises(InputError, match=r"member '' is refused: its path .* or is none"):
        unpack(path, target)


@pytest.mark.parametrize("name", KINDS)
def test_room_on_the_disk_is_checked_before_a_file_is_written(tmp_path, target, name, monkeypatch):
    archive = make(tmp_path, name)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=9998))
    with pytest.raises(InputError, match=rf"/{name} to be unpacked: 10\.0kB are needed in .*files.*, 10\.0kB are free"):
        unpack(archive, target, unpacked_size=9999)
    assert list(target.iterdir()) == []
    unpack(archive, target, unpacked_size=9998)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("taken", [True, False])
def test_an_archive_that_unpacks_to_more_than_expected_is_stopped(tmp_path, target, name, taken, monkeypatch):
    monkeypatch.setattr(module, "SMALLEST_BOUND", 0)
    archive = make(tmp_path, name, {f"{index}": bytes(100_000) for index in range(20)})
    message = rf"{name}: unpacks to more than 500kB, far more than the published one"
    with pytest.raises(InputError, match=message):
        unpack(archive, target, unpacked_size=125_000, only=lambda member: taken or member == "0")
    assert list(target.iterdir()) == []
    unpack(archive, target, unpacked_size=525_000)
    assert len(contents(target)) == 20


def test_zeros_without_end_behind_a_tar_are_not_read_to_their_end(tmp_path, target, monkeypatch):
    monkeypatch.setattr(module, "SMALLEST_BOUND", 0)
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(gzip.compress(make(tmp_path, "a.tar").read_bytes() + bytes(50_000_000)))
    with pytest.raises(InputError, match=r"a\.tar\.gz: unpacks to more than 80\.0kB"):
        unpack(archive, target, unpacked_size=20_000)


def test_an_xz_with_a_huge_dictionary_is_refused(tmp_path, target):
    archive = make(tmp_path, "a.tar")
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 26}]
    for size, data in ((26, None), (31, b"\x26")):  # the dictionary's size is a byte of the header
        packed = bytearray(lzma.compress(archive.read_bytes(), lzma.FORMAT_XZ, filters=filters))
        if data is not None:
            at = packed.index(b"\x21\x01", 12) + 2
            packed[at : at + 1] = data
            header = 4 * (packed[12] + 1)
            packed[12 + header - 4 : 12 + header] = zlib.crc32(packed[12 : 12 + header - 4]).to_bytes(4, "little")
        (tmp_path / f"{size}.tar.xz").write_bytes(packed)
    unpack(tmp_path / "26.tar.xz", target)
    with pytest.raises(InputError, match=r"31\.tar\.xz: needs more than 1\.07GB of memory to be unpacked"):
        unpack(tmp_path / "31.tar.xz", target)


def test_an_xz_of_several_streams_is_one_archive(tmp_path, target):
    data = make(tmp_path, "a.tar").read_bytes()
    archive = tmp_path / "b.tar.xz"
    archive.write_bytes(lzma.compress(data[:700]) + lzma.compress(data[700:]))
    unpack(archive, target)
    assert contents(target) == FILES


def test_a_huge_extended_header_of_a_tar_is_refused(tmp_path, target):
    info = tar_member("a", size=2)
    info.pax_headers = {"comment": "x" * (2 << 20)}
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as file:
        file.addfile(info, io.BytesIO(b"ab"))
    with pytest.raises(InputError, match="a header of 20971"):
        unpack(archive, target)


def test_a_zip_whose_compression_takes_any_memory_is_refused(tmp_path, target):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", b"abc")
    with pytest.raises(
        InputError, match="'a' is refused: it is encrypted, or its compression may need any amount of memory"
    ):
        unpack(tmp_path / "a.zip", target)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("keep", [0.02, 0.5, 0.9])
def test_a_truncated_archive_is_never_unpacked(tmp_path, target, name, keep):
    noise = random.Random(0).randbytes
    path = make(tmp_path, name, {f"a/{index}": noise(5000) for index in range(20)})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InputError, match=rf"{name}: "):
        unpack(path, target)
    assert list(target.iterdir()) == []


def test_a_tar_that_ends_between_two_members_is_seen(tmp_path, target):
    path = make(tmp_path, "a.tar", {"a": b"a", "b": b"b"})
    path.write_bytes(path.read_bytes()[:1024])  # the first member: a header, a block
    with pytest.raises(InputError, match=r"a\.tar: not a zip or tar archive, or a damaged one"):
        unpack(path, target)


def test_a_tar_with_a_damaged_header_is_seen(tmp_path, target):
    path = make(tmp_path, "a.tar", {"a": b"a", "b": b"b", "c": b"c"})
    data = bytearray(path.read_bytes())
    data[1024] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.tar: not a zip or tar archive, or a damaged one"):
        unpack(path, target)


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar.xz", "a.tar.bz2"])
def test_no_single_wrong_byte_of_the_data_passes(tmp_path, target, name):
    path = make(tmp_path, name, {"a": random.Random(0).randbytes(3000)})
    data = path.read_bytes()
    for position in range(200, 2800, 200):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(InputError, match=rf"{name}: "):
            unpack(path, target)
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_a_wrong_byte_anywhere_is_refused_or_does_no_harm(tmp_path, target, name):
    data = make(tmp_path, name, {"a": b"abc"}).read_bytes()
    path, refused = tmp_path / "damaged", 0
    for position in range(0, min(len(data), 1100), 8 if name == "a.tar" else 1):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :])
        try:
            unpack(path, target / str(position))
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
            assert list((target / str(position)).iterdir()) == []
        else:  # a date or an owner was hit; a tar has no checksum of the data
            whole = list(contents(target / str(position)).values()) == [b"abc"]
            assert whole or (name == "a.tar" and 512 <= position < 515)
    assert refused > 40


def test_a_wrong_checksum_at_the_end_of_a_gzip_is_seen(tmp_path, target):
    path = make(tmp_path, "a.tar.gz")
    data = path.read_bytes()
    path.write_bytes(data[:-8] + struct.pack("<I", 0) + data[-4:])
    with pytest.raises(InputError, match="CRC"):
        unpack(path, target)
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"PK", b"<html>", b"\x1f\x8b", gzip.compress(b"no tar", mtime=0)])
def test_what_is_no_archive_is_named(tmp_path, target, data):
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.zip: not a zip or tar archive, or a damaged one"):
        unpack(tmp_path / "a.zip", target)


@pytest.mark.parametrize("name", KINDS)
def test_an_archive_without_the_expected_files_is_named(tmp_path, target, name):
    make(tmp_path, name)
    with pytest.raises(InputError, match=rf"{name}: holds none of the files expected"):
        unpack(tmp_path / name, target, only=lambda member: member.startswith("annotations/"))
    (tmp_path / "empty").write_bytes(bytes(10240))  # the end mark alone: a tar of nothing
    with pytest.raises(InputError, match="empty: holds none of the files expected"):
        unpack(tmp_path / "empty", target)
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("name", ["a.zip", "a.tar.xz"])
def test_a_killed_unpacking_never_looks_finished_and_the_next_one_succeeds(tmp_path, target, name):
    archive = make(tmp_path, name, {f"a/{index}": b"new" for index in range(50)})
    (target / "a").mkdir(parents=True)
    (target / "a/0").write_bytes(b"old")
    code = (
        "import sys, time; from pathlib import Path; from invad.data.official import unpack\n"
        "archive, target = map(Path, sys.argv[1:])\n"
        "slow = lambda name: time.sleep(0.05) is None\n"
        "unpack.unpack(archive, target, name=archive.name, sha256='', unpacked_size=1, label='x', only=slow)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(archive), str(target)], stderr=subprocess.DEVNULL)
    staging = target / f".unpacking-{name}"
    end = time.monotonic() + 20
    while not (staging / "a/2").exists():
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 3 <= len(list((staging / "a").iterdir())) < 50
    assert unpacked_sha256(name, target) is None
    assert [path.read_bytes() for path in (target / "a").iterdir()] == [b"old"]
    unpack(archive, target)
    assert contents(target) == {f"a/{index}": b"new" for index in range(50)}
    assert not staging.exists()
    assert unpacked_sha256(name, target) == f"of {name}"


def test_an_unpacking_killed_while_it_replaces_entries_does_not_look_finished(tmp_path, target, monkeypatch):
    archive = make(tmp_path, "a.zip")
    unpack(archive, target)

    def killed(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("invad.data.official.unpack.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            unpack(archive, target)
    assert contents(target) == FILES
    assert unpacked_sha256("a.zip", target) is None
