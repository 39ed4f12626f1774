"""Writing files so that a killed process never leaves half of one, and reading JSON with errors that name the file."""

import json
import os
import shutil
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from invad.errors import InputError


@contextmanager
def atomic_path(path: Path) -> Generator[Path]:
    """Yield a temporary sibling of `path`, renamed to it on success, in place of what is there, and removed on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    remove(temporary)
    try:
        yield temporary
        if temporary.is_dir():
            remove(path)  # a rename cannot replace a folder that is not empty
        temporary.replace(path)
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder; nothing happens when there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401  (anything that JSON can hold)
    """Write `value` as indented JSON in the given key order. A NaN or infinity is an error: JSON has neither."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, most_bytes: int | None = None) -> Any:  # noqa: ANN401
    """Read a JSON file without NaN or infinity; `InputError`: it is missing, no file, longer than `most_bytes`, or not JSON."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # to open a pipe would wait forever
            raise InputError(f"{path}: not a file")
        if most_bytes is not None and status.st_size > most_bytes:
            raise InputError(f"{path}: has {status.st_size} bytes; at most {most_bytes} are expected here")
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except RecursionError:
        raise InputError(f"{path}: not valid JSON (too many brackets within each other)") from None
    except ValueError as error:  # also for bytes that are not UTF-8, and numbers of thousands of digits
        raise InputError(f"{path}: not valid JSON ({error})") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
