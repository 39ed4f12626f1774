"""What `make` says where it cannot work, before it installs anything."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import REPOSITORY

# Without what a `make test` around this one has told its children.
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
ENVIRONMENT |= {"LC_ALL": "C", "GIT_CEILING_DIRECTORIES": "/", "PYTHON": "false"}


def make(folder: Path, *goals: str) -> tuple[int, list[str]]:
    """Return exit code and what `make` says in a folder with the project's Makefile; its interpreter would fail."""
    folder.mkdir(exist_ok=True)
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(REPOSITORY / name, folder)
    done = subprocess.run(
        ["make", *goals, "PYTHON=false"], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()


@pytest.mark.parametrize("name", ["with space", "with:colon"])
@pytest.mark.parametrize("goal", ["run", "setup"])
def test_a_folder_that_make_cannot_work_in_is_one_line(tmp_path, name, goal):
    code, (line,) = make(tmp_path / name, goal)
    assert code == 2
    assert f"{tmp_path / name}: make and PATH take no folder with a space or a colon in its path" in line


def test_a_folder_without_git_is_said_before_the_installation(tmp_path):
    code, lines = make(tmp_path / "unpacked", "run")
    assert code == 2
    assert lines[0].startswith(f"{tmp_path / 'unpacked'}: not a git repository, and DVC needs one")
    assert len(lines) == 2  # the other one is make's own
    assert not (tmp_path / "unpacked/.venv").exists()


@pytest.mark.parametrize("kind", ["git", "worktree", "no_scm"])
def test_a_repository_or_dvcs_own_setting_is_enough(tmp_path, kind):
    folder = tmp_path / "checkout"
    folder.mkdir()
    if kind == "git":
        subprocess.run(["git", "init", "--quiet", folder], check=True)
    elif kind == "worktree":
        (folder / ".git").write_text("gitdir: elsewhere")
    else:
        (folder / ".dvc").mkdir()
        (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    assert make(folder, "versioned") == (0, [])


def test_what_mlflow_has_is_not_logged_again(tmp_path):
    """MLflow's imports take longer than all else of a run that has nothing to do."""
    folder = tmp_path / "checkout"
    bins = folder / ".venv/bin"
    bins.mkdir(parents=True)
    for name in ("dvc", "invad-pipe"):
        (bins / name).write_text(f'#!/bin/sh\necho {name} "$@" >> calls\ntouch mlflow.db\n')
        (bins / name).chmod(0o755)
    for path in (folder / ".git", folder / ".invad/runs"):
        path.mkdir(parents=True)
    lock = folder / "dvc.lock"
    lock.touch()

    def calls(**environment: str) -> list[str]:
        (folder / "calls").unlink(missing_ok=True)
        for name in ("Makefile", "pyproject.toml", "requirements.lock"):
            shutil.copy(REPOSITORY / name, folder)  # with its time, older than the set-up
        (folder / ".venv/.installed").touch()
        command = ["make", "run", "PYTHON=false"]
        subprocess.run(command, cwd=folder, env=ENVIRONMENT | environment, check=True, capture_output=True)
        return (folder / "calls").read_text().splitlines()

    both = ["dvc repro", "invad-pipe runs sync"]
    assert calls() == both
    assert calls() == both[:1]
    later = (folder / ".invad/synced").stat().st_mtime_ns + 10**9
    os.utime(lock, ns=(later, later))  # a stage has run
    assert calls() == both
    os.utime(lock, ns=(0, 0))
    assert calls() == both[:1]
    record = folder / ".invad/runs/record.json"
    record.touch()  # a study has ended
    os.utime(record, ns=(later + 10**9, later + 10**9))
    assert calls() == both
    os.utime(record, ns=(0, 0))
    assert calls(MLFLOW_TRACKING_URI="http://127.0.0.1:5000") == both
    (folder / "mlflow.db").unlink()
    (bins / "dvc").write_text('#!/bin/sh\necho dvc "$@" >> calls\n')
    assert calls() == both
