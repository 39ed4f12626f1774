"""The process of a stage: how it ends."""

import subprocess
import sys

# What is registered first is called last.
STAGE = """
import atexit
import gc
from pathlib import Path

atexit.register(lambda: print("frozen at the end", gc.get_freeze_count() > 10_000))
from invad.pipeline import frame

frame.load_params = lambda: None
frame.main(lambda name, params, workspace: print("frozen within", gc.get_freeze_count()))
"""


def test_a_process_does_not_look_for_garbage_before_it_ends(tmp_path):
    run = subprocess.run([sys.executable, "-c", STAGE], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["frozen within 0", "frozen at the end True"]
