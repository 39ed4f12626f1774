"""The command line and the stage scripts, run in this process, where torch and MLflow are there already."""

import contextlib
import io
import logging
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from conftest import REPOSITORY

from invad.cli import main


@dataclass(frozen=True)
class Done:
    """What a process would have left: its exit code and what it has printed."""

    returncode: int
    stdout: str
    stderr: str


def pipe(*arguments: str, cwd: Path) -> Done:
    """Run `invad-pipe` in the folder `cwd`."""
    return _run(["invad-pipe", *arguments], main, cwd)


def stage(name: str, *arguments: str, cwd: Path) -> Done:
    """Run a script of `stages/` in the folder `cwd`."""
    script = str(REPOSITORY / f"stages/{name}.py")
    return _run([script, *arguments], lambda: runpy.run_path(script, run_name="__main__"), cwd)


def _run(argv: list[str], run: Callable[[], object], cwd: Path) -> Done:
    out, err, code, level = io.StringIO(), io.StringIO(), 0, logging.getLogger("invad").level
    with (
        contextlib.chdir(cwd),
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            run()
        except SystemExit as end:
            code = end.code or 0
        finally:
            logging.getLogger("invad").setLevel(level)
    return Done(code, out.getvalue(), err.getvalue())
