"""A small checkout after a whole run, for the commands of the pages, and how each command runs in it."""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import yaml
from conftest import REPOSITORY, repository_params, save_image, save_mask
from typer.testing import CliRunner

from invad.cli import app
from invad.config import load_params
from invad.errors import InputError
from invad.pipeline import stages as pipeline
from invad.workspace import Workspace

CLASSES = ("wood", "valve")  # of the maps and masks that belong to nobody's method


def make_checkout(root: Path) -> None:
    """Make a checkout whose one benchmark, mvtec, is up to date for DVC; the stages have run in this process, which is faster."""
    for name in ("invad", "stages", "reports/ablations", "reports/benchmarks", "reports/supervised"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(REPOSITORY / name, root)
    (root / "params.yaml").write_text(yaml.safe_dump(small_params(), sort_keys=False))
    for command in ("git init -q", "git config user.name test", "git config user.email test@localhost", "dvc init -q"):
        run_program(shlex.split(command), root)
    shutil.copytree(REPOSITORY / ".dvc/plots", root / ".dvc/plots")
    with contextlib.chdir(root):
        params, workspace = load_params(), Workspace()
        stages = ("check", "download", "splits", "features", "train", "score", "evaluate")
        for stage in stages:
            getattr(pipeline, stage)("mvtec", params, workspace)
    run_program(["dvc", "commit", "-q", "-f", "--with-deps", "evaluate@mvtec"], root)
    run_program(["git", "add", "-A"], root)
    run_program(["git", "commit", "-qm", "results"], root)
    make_inputs(root)


def small_params() -> dict:
    params = repository_params("mvtec")
    params["download"]["mvtec"] |= {"train_images": 8, "test_images": 6, "image_size": 96}
    params["features"]["mvtec"]["image_size"] = 64
    params["train"]["mvtec"] |= {"epochs": 1, "batch_size": 4}
    return params


def make_inputs(root: Path) -> None:
    """Write what the pages' commands take: photographs, somebody's maps and masks, images for a benchmark."""
    shop = root / "shop"
    for number in range(10):
        save_image(shop / f"good/{number}.png", size=64, value=10 * number)
        save_image(root / f"parts/{('nuts', 'bolts')[number % 2]}/{number}.png", size=64, value=10 * number)
    save_image(shop / "bad/0.png", size=64, value=200)
    for number in (1, 2):
        save_image(root / f"photos/{number}.png", size=64, value=100 * number)
    rng = np.random.default_rng(0)
    maps = {f"{name}/{kind}/000": rng.random((16, 16), np.float32) for name in CLASSES for kind in ("good", "broken")}
    for name, values in maps.items():
        (root / "maps" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / f"maps/{name}.npy", values)
        if "broken" in name:
            save_mask(root / f"masks/{name}.png", size=16)
    np.save(root / "maps.npy", np.stack(list(maps.values())))
    np.save(root / "masks.npy", np.stack([np.eye(16, dtype=np.uint8) * ("broken" in name) for name in maps]))


def run_program(words: list[str], folder: Path) -> str:
    """Run a program with the code of the checkout; `words` may have pipes and redirections. What it asks is answered with yes."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
    }
    line = " ".join(word if set(word) <= set("|<>&") else shlex.quote(word) for word in words)
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, input="y\n", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_pipe(words: list[str], folder: Path) -> None:
    """Run `invad-pipe` with these arguments in this process, where torch is there already."""
    with contextlib.chdir(folder):
        result = CliRunner().invoke(app, words)
    line = shlex.join(["invad-pipe", *words])
    assert not isinstance(result.exception, InputError), f"{line}\n{result.exception}"
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise AssertionError(f"{line}\n{''.join(traceback.format_exception(result.exception))}")
    assert result.exit_code == 0, f"{line}\n{result.output}"
