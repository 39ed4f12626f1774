"""`invad-pipe clean`: what is shown of earlier runs, and what is removed of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from invad.cli.project import clean
from invad.files import atomic_path
from invad.pipeline.leftovers import find_leftovers, remove_leftovers
from invad.training.owner import claim
from invad.workspace import Workspace

app = typer.Typer()
app.command()(clean)


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A workspace with leftovers of every kind, and outputs beside them."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path
    for folder in (
        ".invad/ray/mvtec-0123456789abcdef",
        ".invad/ray/visa-0123456789abcdef/ray/logs",
        ".invad/studies/loss-mvtec-012345678901/trials/l1-s0-0",
        ".invad/features/mvtec-0123456789abcdef",
        ".invad/mlflow",
        ".invad/runs",
        "data/features/.mvtec.0123456789abcdef.partial",
        "data/models/.mvtec.4194305.tmp",  # above the largest process id
        "data/features/mvtec",
        "models/mvtec",
    ):
        (root / folder).mkdir(parents=True)
        (root / folder / "file").write_bytes(b"0" * 1000)
    for path in root.rglob("*"):
        os.utime(path, (1e9, 1e9))
    return root


def states(root: Path) -> dict[str, str]:
    return {str(each.path): each.state for each in find_leftovers(Workspace(root))}


def test_all_that_is_left_is_shown_and_judged(root):
    found = {str(each.path.relative_to(root)): (each.state, each.what) for each in find_leftovers(Workspace(root))}
    assert found == {
        ".invad/ray/mvtec-0123456789abcdef": ("useful", "checkpoints of a training"),
        ".invad/ray/visa-0123456789abcdef": ("useful", "checkpoints of a training"),
        ".invad/studies/loss-mvtec-012345678901": ("useful", "trials of a study"),
        ".invad/features/mvtec-0123456789abcdef": ("useful", "features of studies"),
        "data/features/.mvtec.0123456789abcdef.partial": ("useful", "features of an extraction"),
        "data/models/.mvtec.4194305.tmp": ("old", "was being written"),
    }
    (visa,) = (each for each in find_leftovers(Workspace(root)) if "visa" in each.path.name)
    assert visa.size == 1000
    assert visa.age > 86400


def test_what_killed_stages_were_writing_is_old_and_what_a_process_writes_is_in_use(root):
    code = "import os, signal; from pathlib import Path; from invad.files import atomic_path\nblocks = []\n"
    code += "for path in ('data/splits/mvtec', 'reports/metrics/mvtec.json', 'params.yaml'):\n"
    code += "  blocks.append(atomic_path(Path(path))); at = blocks[-1].__enter__()\n"
    code += "  at.mkdir() if path == 'data/splits/mvtec' else at.write_text('half')\n"
    code += "Path(f'.mlflow.db.{os.getpid()}.tmp-journal').touch()\n"  # SQLite's, of a database that was being created
    code += "Path(at).with_name('pid').write_text(str(os.getpid())); os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", code], check=False, cwd=root)
    killed = (root / "pid").read_text()
    with atomic_path(root / "models/mvtec") as temporary:
        temporary.mkdir()
        before = {path: state for path, state in states(root).items() if ".tmp" in path and "4194305" not in path}
        assert before == {
            str(root / f"data/splits/.mvtec.{killed}.tmp"): "old",
            str(root / f"reports/metrics/.mvtec.json.{killed}.tmp"): "old",
            str(root / f".params.yaml.{killed}.tmp"): "old",
            str(root / f".mlflow.db.{killed}.tmp-journal"): "old",
            str(temporary): "running",
        }
        remove_leftovers(find_leftovers(Workspace(root)), everything=True)
        assert [path for path in states(root) if ".tmp" in path] == [str(temporary)]


def test_an_id_that_another_process_has_got_since_keeps_nothing(root):
    path = root / f"data/splits/.mvtec.{os.getpid()}.tmp"
    path.mkdir(parents=True)
    assert states(root)[str(path)] == "running"
    os.utime(path, (1e9, 1e9))  # this process did not run then
    assert states(root)[str(path)] == "old"


def test_without_yes_nothing_is_removed_and_the_last_line_says_how(root):
    before = sorted(root.rglob("*"))
    for arguments in ([], ["--all"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert sorted(root.rglob("*")) == before
        lines = result.stdout.splitlines()
        assert len(lines) == 7
        assert lines[-1].startswith("nothing was removed; --yes removes")
        assert any("visa-0123456789abcdef  0.0 MB, " in line and "a start may go on from it" in line for line in lines)


def test_yes_removes_what_is_old_and_all_the_rest(root):
    outputs = [root / "data/features/mvtec", root / "models/mvtec", root / ".invad/mlflow", root / ".invad/runs"]
    assert CliRunner().invoke(app, ["--yes"]).stdout.splitlines()[-1] == "1 removed (0.0 MB), 5 kept"
    assert set(states(root).values()) == {"useful"}
    result = CliRunner().invoke(app, ["--yes", "--all"])
    assert result.stdout.splitlines()[-1] == "5 removed (0.0 MB), 0 kept"
    assert states(root) == {}
    assert all((path / "file").exists() for path in outputs)
    assert CliRunner().invoke(app, []).stdout == "nothing is left of earlier runs\n"


def test_what_is_in_use_stays(root):
    training, study = root / ".invad/ray/mvtec-0123456789abcdef", root / ".invad/studies/loss-mvtec-012345678901"
    extraction = root / "data/features/.mvtec.0123456789abcdef.partial"
    claim(training)
    claim(study)
    (extraction / "train-00000.arrow").write_bytes(b"just now")
    found = find_leftovers(Workspace(root))
    assert {each.path for each in found if each.state == "running"} == {training, study, extraction}
    remove_leftovers(found, everything=True)
    assert set(states(root)) == {str(training), str(study), str(extraction)}
    # A process that has ended leaves its id behind.
    for folder in (training, study):
        (folder / "pid").unlink()
        code = f"from pathlib import Path; from invad.training.owner import claim; claim(Path({str(folder)!r}))"
        subprocess.run([sys.executable, "-c", code], check=True)
        assert states(root)[str(folder)] == "useful"


def test_a_training_that_starts_after_the_look_is_not_removed(root):
    found = find_leftovers(Workspace(root))
    claim(root / ".invad/ray/mvtec-0123456789abcdef")
    removed = remove_leftovers(found, everything=True)
    assert len(removed) == len(found) - 1
    assert (root / ".invad/ray/mvtec-0123456789abcdef/pid").exists()
