"""The frame around every stage script: settings checked, progress told, mistakes and full disks reported in one line with exit code 2."""

import atexit
import gc
import logging
import os
import sys
import time
from collections.abc import Callable

from invad.config import Params, load_params
from invad.disk import disk_problem
from invad.errors import InputError
from invad.training.cost import peak_memory
from invad.workspace import Workspace

YOUNG_OBJECTS = 10_000
"""So many more objects are made than deleted between two looks for garbage in a stage; Python's own number is 700 or 2,000."""


def end_at_once() -> None:
    """Let this process end without a last look for garbage, which takes a second where torch has been imported (docs/speed.md)."""
    atexit.register(gc.freeze)


def main(stage: Callable[[str, Params, Workspace], None]) -> None:
    """Run `stage` in the current folder for the name (data set or benchmark) that the command line gives."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    label = f"{stage.__name__}@{name}" if name else stage.__name__
    logging.basicConfig(level=logging.WARNING, format=f"{label}: %(message)s", stream=sys.stderr)
    logging.getLogger("invad").setLevel(logging.INFO)
    # Threads that spin while they wait make every step ten times slower as soon as another process wants one of the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Half a million objects are imported and stay: torch, timm and MLflow take four fifths of the time with few looks at them.
    gc.set_threshold(YOUNG_OBJECTS)
    end_at_once()
    started = time.monotonic()
    try:
        stage(name, load_params(), Workspace())
    except Exception as error:
        problem = str(error) if isinstance(error, InputError) else disk_problem(error)
        if problem is None:
            raise
        print(f"{label}: error: {problem}", file=sys.stderr)
        sys.exit(2)
    print(
        f"{label}: done in {time.monotonic() - started:.1f} s, {peak_memory() / 1e6:.0f} MB of memory", file=sys.stderr
    )
