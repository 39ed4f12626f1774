"""Stages of a toy pipeline are killed at random moments and run again.

python tests/checks/kills.py --trials 100 --seed 0

A trial kills one stage, from whole inputs. Until it runs again every file in place is whole; then all outputs have the bytes of the run
that nothing disturbs, MLflow works and no run is left running, and `invad-pipe clean` knows whatever else there is. The moment of a seed is
a share of the stage's time, so that the same one may hit another line.
"""

import os
import random
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import yaml
from check_frame import Trial, child, main
from conftest import repository_params

from invad import tracking
from invad.pipeline import frame as stage_frame
from invad.pipeline import stages
from invad.pipeline.leftovers import find_leftovers, remove_leftovers
from invad.tracking.results import sync_records
from invad.workspace import Workspace

NAME = "mvtec"
STAGES = ("download", "splits", "features", "train", "score", "evaluate")
OUTPUTS = ("data", "models", "reports")


def toy_params() -> dict:
    """Seconds of work: three checkpoints in training, a dozen images."""
    params = repository_params(NAME)
    params["download"][NAME] |= {"train_images": 6, "test_images": 6, "image_size": 64}
    params["features"][NAME]["image_size"] = 64
    params["train"][NAME] |= {"epochs": 3, "batch_size": 4}
    params["train"]["checkpoint_steps"] = 3
    params["score"][NAME]["sigma"] = 1.0
    return params


def run_stage(name: str, root: Path) -> None:
    """What `python -m stages.NAME mvtec` does in the folder `root`."""
    os.chdir(root)
    sys.argv = [name, NAME]
    stage_frame.main(getattr(stages, name))


def finish(name: str, root: Path, log: Path) -> None:
    """Run a stage to its end."""
    process = child(run_stage, name, root, log=log)
    process.join(600)
    process.kill()
    assert process.exitcode == 0, f"{name} ended with {process.exitcode}: {log.read_text()[-2000:]}"


def time_of(function: Callable[..., object], *arguments: object) -> float:
    started = time.monotonic()
    function(*arguments)
    return time.monotonic() - started


def outputs(root: Path) -> dict[str, bytes]:
    """All files at their places; those that are being written have a name, or a folder, that begins with a dot."""
    paths = [path for part in OUTPUTS for path in (root / part).rglob("*") if path.is_file()]
    names = {path.relative_to(root).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if "/." not in name}


def others(root: Path) -> set[str]:
    """What is there beside outputs and MLflow's files; records of runs are named after them."""
    paths = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    known = ("mlflow.db", "mlruns/", ".invad/runs/", ".invad/mlflow/")
    return {path for path in paths - outputs(root).keys() if not path.startswith(known)}


@contextmanager
def check(folder: Path) -> Iterator[Trial]:
    """Run the pipeline without a kill, keeping what is there before each stage; a trial kills one of them."""
    root, log = folder / "workspace", folder / "log"
    root.mkdir()
    (root / "params.yaml").write_text(yaml.safe_dump(toy_params(), sort_keys=False))
    database = time_of(tracking.list_runs, Workspace(root))
    time_of(finish, "check", root, log)  # until a child can be forked, seconds
    states, seconds = [], []
    for name in STAGES:
        states.append(shutil.copytree(root, folder / f"before_{name}"))
        seconds.append(time_of(finish, name, root, log))
    beside = others(root)
    states.append(root.rename(folder / "end"))

    def trial(seed: int) -> str:
        number, rng = seed % len(STAGES), random.Random(seed)
        name, after, most = STAGES[number], outputs(states[number + 1]), seconds[number]
        shutil.copytree(states[number], root)  # always the same place: what is written may name it
        try:
            if name == "train" and rng.random() < 0.5:
                (root / "mlflow.db").unlink()
                most += database
            return _killed(name, root, log, rng.uniform(0, most), after, beside)
        finally:
            shutil.rmtree(root)

    yield trial


def _killed(name: str, root: Path, log: Path, moment: float, after: dict[str, bytes], beside: set[str]) -> str:
    process = child(run_stage, name, root, log=log)
    process.join(moment)
    process.kill()
    process.join()
    said = f"{name} killed after {moment:.2f} s"
    half = {path for path, data in outputs(root).items() if data != after.get(path)}
    assert not half, f"{said}: half written: {', '.join(sorted(half))}"
    finish(name, root, log)
    now = outputs(root)
    differing = {path for path in now.keys() | after.keys() if now.get(path) != after.get(path)}
    assert not differing, f"{said}: other bytes than without it: {', '.join(sorted(differing))}"
    if name in ("train", "evaluate"):
        check_mlflow(root, said)
    remove_leftovers(find_leftovers(Workspace(root)), everything=True)
    left = others(root) - beside
    assert not left, f"{said}: left, and unknown to clean: {', '.join(sorted(left))}"
    return f"{name} {'after its end' if process.exitcode == 0 else 'killed'}"


def check_mlflow(root: Path, said: str) -> None:
    """The database is whole, and after `runs sync` no run is left running and one has ended well (two, if it was killed after that)."""
    sync_records(Workspace(root))
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        damage = database.execute("PRAGMA integrity_check").fetchall()
        states = [state for (state,) in database.execute("SELECT status FROM runs")]
    assert damage == [("ok",)], f"{said}: damaged mlflow.db"
    assert "FINISHED" in states and "RUNNING" not in states and len(states) < 3, f"{said}: runs in MLflow are {states}"


if __name__ == "__main__":
    main(__file__, check)
