"""The process of a stage or a command: when it looks for garbage."""

import subprocess
import sys

# What is registered first is called last.
STAGE = """
import atexit
import gc

atexit.register(lambda: print("frozen at the end", gc.get_freeze_count() > 10_000))
from invad.pipeline import frame

frame.load_params = lambda: None
frame.main(lambda name, params, workspace: print(gc.get_threshold()[0], gc.get_freeze_count()))
"""
COMMAND = """
import atexit
import gc
import sys

threshold = gc.get_threshold()  # `serve` runs for months
atexit.register(lambda: print("frozen at the end", gc.get_freeze_count() > 10_000, gc.get_threshold() == threshold))
from invad.cli import main

sys.argv = ["invad-pipe", "--version"]
main()
"""


def printed(code, folder):
    """The lines that a process of this code prints."""
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


def test_a_stage_looks_seldom_for_garbage_and_not_before_it_ends(tmp_path):
    assert printed(STAGE, tmp_path) == ["10000 0", "frozen at the end True"]


def test_a_command_looks_as_often_as_python_does_but_not_before_it_ends(tmp_path):
    assert printed(COMMAND, tmp_path)[1:] == ["frozen at the end True True"]


def test_the_library_leaves_the_collector_of_its_user_alone(tmp_path):
    code = "import gc; before = gc.get_threshold(); import invad.predict.predictor; print(gc.get_threshold() == before)"
    assert printed(code, tmp_path) == ["True"]
