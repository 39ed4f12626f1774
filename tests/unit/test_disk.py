"""A full disk, or a folder that cannot be written, is one line, whatever a library makes of it."""

import errno
import logging
import resource
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors import SafetensorError

from invad import cli
from invad.cluster.train import after_failure
from invad.data.split_table import SplitRow, write_split_table
from invad.disk import disk_problem
from invad.errors import InputError
from invad.files import atomic_path, write_json
from invad.pipeline.frame import main
from invad.training.checkpoints import Checkpoints

FULL = OSError(errno.ENOSPC, "No space left on device")


@contextmanager
def small_files(most: int = 4096) -> Iterator[None]:
    """Let no file grow beyond `most` bytes: what every library meets where a disk is full, but without one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_checkpoint(folder: Path) -> None:
    Checkpoints(folder).save(1, {"weight": torch.zeros(100_000)})


def write_table(folder: Path) -> None:
    rows = (SplitRow(f"{np.sin(n)}.png", "a", "train", 0, "good", None, n, n, "own") for n in range(2000))
    write_split_table(rows, folder / "split.parquet", {})


def write_shard(folder: Path) -> None:
    table = pa.table({"a": np.arange(10_000)})
    with atomic_path(folder / "a.arrow") as temporary, pa.ipc.new_file(temporary, table.schema) as writer:
        writer.write_table(table)


def write_record(folder: Path) -> None:
    write_json(folder / "a.json", list(range(10_000)))


@pytest.mark.parametrize("write", [write_checkpoint, write_table, write_shard, write_record])
def test_what_every_writer_of_outputs_raises_speaks_of_the_disk_and_leaves_nothing(tmp_path, write):
    with pytest.raises(Exception) as error, small_files():
        write(tmp_path)
    assert "File too large" in (disk_problem(error.value) or "")
    assert list(tmp_path.iterdir()) == []


def behind(error: Exception, first: Exception) -> Exception:
    """`error`, raised while `first` was handled."""
    error.__context__ = first
    return error


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space left on device"),  # pyarrow
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        behind(RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598"), FULL),  # torch
        RuntimeError("training failed: ray.exceptions.RayTaskError(OSError): [Errno 28] No space left on device"),
    ],
    ids=["OSError", "pyarrow", "safetensors", "torch", "Ray"],
)
def test_a_full_disk_is_one_line_with_what_is_free_and_how_to_make_room(error, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1500))
    problem = disk_problem(error)
    assert problem is not None
    assert problem.startswith(f"No space left on device; 1.50kB are free in {tmp_path}, 1.50kB in ")
    assert "`invad-pipe clean`" in problem
    assert "\n" not in problem


def test_other_folders_and_databases_are_named():
    error = PermissionError(errno.EACCES, "Permission denied", "models/mvtec")
    assert disk_problem(error) == "models/mvtec: Permission denied"
    assert disk_problem(OSError(errno.EROFS, "Read-only file system", "reports")) == "reports: Read-only file system"
    full = disk_problem(sqlite3.OperationalError("database or disk is full")) or ""
    assert full.startswith("database or disk is full; ")
    for other in (ValueError("x"), FileNotFoundError(errno.ENOENT, "No such file", "a"), EOFError("at the end")):
        assert disk_problem(other) is None


def fail_with(error: Exception) -> None:
    raise error


def test_a_stage_and_a_command_end_with_one_line(write_params, params_dict, monkeypatch, capsys):
    write_params(params_dict)
    level = logging.getLogger("invad").level

    def train(*_: object) -> None:
        raise behind(RuntimeError("unexpected pos 704 vs 598"), FULL)

    monkeypatch.setattr(sys, "argv", ["train.py", "mvtec"])
    with pytest.raises(SystemExit) as end:
        main(train)
    assert end.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("train@mvtec: error: No space left on device; ")
    monkeypatch.setattr(cli, "app", lambda: fail_with(FULL))
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("invad-pipe: error: No space left on device; ")
    monkeypatch.setattr(cli, "app", lambda: fail_with(ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):  # with its traceback
        cli.main()
    logging.getLogger("invad").setLevel(level)


def test_a_worker_without_room_ends_the_training_at_once():
    error = RuntimeError("workers failed")
    error.worker_failures = {0: behind(RuntimeError("unexpected pos"), FULL)}  # pyrefly: ignore[missing-attribute]
    with pytest.raises(InputError, match="No space left on device; "):
        after_failure(error, job=None, before=None)  # pyrefly: ignore[bad-argument-type]
