"""The command line and the stage scripts: quick, and one line with exit code 2 for a mistake."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parent.parent


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False)


def pipe(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run("-c", "from invad.cli import main; main()", *arguments, cwd=cwd)


@pytest.fixture
def folder(params_dict, write_params) -> Path:
    return write_params(params_dict).parent


def test_help_and_version_need_nothing_heavy(folder):
    code = "import sys; from invad import cli, config, metrics; from invad.datasets import splits; print(*sys.modules)"
    modules = set(run("-c", code, cwd=folder).stdout.split())
    assert "invad.datasets.splits" in modules
    assert not modules & {"torch", "timm", "ray", "mlflow", "matplotlib"}
    assert pipe("--version", cwd=folder).stdout.strip() == "0.1.0"
    assert "check" in pipe("--help", cwd=folder).stdout


def test_check_shows_what_is_asked_for(folder):
    done = pipe("check", cwd=folder)
    assert done.returncode == 0
    assert "benchmark  mvtec        invad on mobilenetv2_100 (packaged weights), 128 px" in done.stdout
    assert "data set   coco         embedded" in done.stdout


def test_a_wrong_key_is_one_line_with_exit_code_2_everywhere(folder, params_dict):
    params_dict["train"]["mvtec"]["epochz"] = 3
    (folder / "params.yaml").write_text(yaml.safe_dump(params_dict))
    message = "error: params.yaml: train.mvtec.epochz: unknown key; known are model, epochs"
    for done in (
        pipe("check", cwd=folder),
        run(str(REPOSITORY / "stages/download.py"), "coco", cwd=folder),
        run(str(REPOSITORY / "stages/report.py"), cwd=folder),
    ):
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in folder.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize(
    ("stage", "name", "message"),
    [
        ("download", "imagenet", "unknown data set 'imagenet'; params.yaml has coco, mvtec, visa"),
        ("splits", "mvtek", "unknown benchmark 'mvtek'; params.yaml has coco_ad_0, "),
        ("splits", "mvtec", "data/raw/mvtec/source.json: no such file"),
        ("evaluate", "mvtec", "data/scores/mvtec: missing or damaged scores"),
    ],
)
def test_a_stage_names_what_is_missing(folder, stage, name, message):
    done = run(str(REPOSITORY / f"stages/{stage}.py"), name, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"{stage}@{name}: error: {message}")


def test_an_unset_up_folder_says_where_to_run(tmp_path):
    done = pipe("check", cwd=tmp_path)
    assert done.returncode == 2
    assert "params.yaml: no such file; run from the folder that holds params.yaml" in done.stderr
