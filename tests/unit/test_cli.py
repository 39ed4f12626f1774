"""The command line and the stage scripts: quick, and one line with exit code 2 for a mistake."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commands import pipe, stage
from conftest import REPOSITORY, save_image, save_mask

import invad
from invad.config.profiles import profile_text


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(params_dict, write_params) -> Path:
    return write_params(params_dict).parent


def test_help_and_version_need_nothing_heavy(folder):
    code = "import sys; from invad import cli, config, metrics; from invad.data import splits; print(*sys.modules)"
    modules = set(run("-c", code, cwd=folder).stdout.split())
    assert "invad.data.splits" in modules
    assert not modules & {"torch", "timm", "ray", "mlflow", "matplotlib"}
    assert pipe("--version", cwd=folder).stdout.strip() == invad.__version__
    assert "check" in pipe("--help", cwd=folder).stdout


def test_the_module_is_the_command_and_completes_its_options(folder):
    assert run("-m", "invad", "--version", cwd=folder).stdout.strip() == invad.__version__
    done = run("-m", "invad", "data", "remove", "shpo", cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("invad-pipe: error: unknown data set 'shpo'")
    environment = {
        **os.environ,
        "_INVAD_PIPE_COMPLETE": "complete_bash",
        "COMP_WORDS": "invad-pipe data im",
        "COMP_CWORD": "2",
    }
    code = "import sys; sys.argv[0] = 'invad-pipe'; from invad.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["import"]


def test_check_shows_what_is_asked_for(folder):
    done = pipe("check", cwd=folder)
    assert done.returncode == 0
    assert "benchmark  mvtec        invad on mobilenetv2_100 (packaged weights), 128 px" in done.stdout
    assert "data set   coco         embedded" in done.stdout


def test_check_shows_the_ablations_too(folder, params_dict):
    params_dict["ablations"] = {"blocks": {"benchmark": "mvtec", "variants": ["paper", "1"], "seeds": 3}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params_dict))
    assert "ablation   blocks       of mvtec: paper, 1; 3 seeds" in pipe("check", cwd=folder).stdout


@pytest.mark.parametrize(
    ("module", "changes", "message"),
    [
        ("attention", {}, "params.yaml: ablations.attention: unknown module 'attention'; known are method, ssm, "),
        (
            "blocks",
            {"variants": ["3"]},
            "params.yaml: ablations.blocks: unknown variant '3' of the module blocks; known are 1, 2, 4",
        ),
        (
            "blocks",
            {"set": {"train.epohs": 1}},
            "params.yaml: ablations.blocks: --set train.epohs: unknown key; known are ",
        ),
        (
            "blocks",
            {"set": {"train.epochs": 0}},
            "params.yaml: ablations.blocks: --set train.epochs: must be greater than or equal to 1",
        ),
    ],
)
def test_check_names_a_mistake_in_an_ablation(folder, params_dict, module, changes, message):
    params_dict["ablations"] = {module: {"benchmark": "mvtec", **changes}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params_dict))
    done = pipe("check", cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith(f"invad-pipe: error: {message}")
    assert len(done.stderr.splitlines()) == 1


def test_a_wrong_key_is_one_line_with_exit_code_2_everywhere(folder, params_dict):
    params_dict["train"]["mvtec"]["epochz"] = 3
    (folder / "params.yaml").write_text(yaml.safe_dump(params_dict))
    message = "error: params.yaml: train.mvtec.epochz: unknown key; known are precision, channels_last, compile, epochs, learning_rate"
    for done in (
        run("-c", "from invad.cli import main; main()", "check", cwd=folder),
        run(str(REPOSITORY / "stages/download.py"), "coco", cwd=folder),
        run(str(REPOSITORY / "stages/report.py"), cwd=folder),
    ):
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in folder.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize(
    ("script", "name", "message"),
    [
        ("download", "imagenet", "unknown data set 'imagenet'; params.yaml has coco, mvtec, visa"),
        ("splits", "mvtek", "unknown benchmark 'mvtek'; params.yaml has coco_ad_0, "),
        ("splits", "mvtec", "data/raw/mvtec/source.json: no such file"),
        ("evaluate", "mvtec", "data/splits/mvtec/split.parquet: no such split table; `dvc repro splits` builds it"),
    ],
)
def test_a_stage_names_what_is_missing(folder, script, name, message):
    done = stage(script, name, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"{script}@{name}: error: {message}")


def test_own_images_become_a_benchmark_and_are_checked(folder, tmp_path):
    shutil.copy(REPOSITORY / "params.yaml", folder)  # with its comments
    images = tmp_path / "my pictures"
    for number in range(10):
        save_image(images / f"good/{number}.png", value=number)
    save_image(images / "bad/scratch.png", value=90)
    save_image(images / "bad/no mask.png", value=91)
    save_mask(images / "masks/scratch.png")
    done = pipe("data", "import", "shop", "--images", str(images), "--like", "visa", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "8 normal images to train on, 2 normal and 2 anomalous to test on (1 without a mask" in done.stdout
    assert "copied from visa" in done.stdout
    assert "data set   shop         path" in pipe("check", cwd=folder).stdout
    again = pipe("data", "import", "shop", "--images", str(images), cwd=folder)
    assert again.returncode == 2
    assert "--force imports it again" in again.stderr

    for script in ("download", "splits"):
        done = stage(script, "shop", cwd=folder)
        assert done.returncode == 0, done.stderr
    done = pipe("data", "check", "shop", "--json", "findings.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("no errors, 1 warning\n")
    (images / "good/3.png").write_bytes(b"no image")
    done = pipe("data", "check", "shop", "--json", "findings.json", cwd=folder)
    assert done.returncode == 1
    assert done.stdout.endswith("1 error, 1 warning\n")
    findings = json.loads((folder / "findings.json").read_text())
    assert findings["benchmark"] == "shop"
    assert ["good/3.png"] in [finding["files"] for finding in findings["findings"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("data", "import", "shop", "--images", "nowhere"), "nowhere"),
        (("data", "import", "visa", "--images", "."), "visa: is the name of a published data set"),
        (("data", "import", "shop", "--images", ".", "--test-share", "1"), "--test-share: must lie between 0 and 1"),
        (("data", "check", "shop"), "unknown benchmark 'shop'; params.yaml has coco_ad_0"),
        (("data", "check", "visa"), "data/splits/visa/split.parquet: no such split table; `dvc repro splits`"),
        (("profile", "show", "papr"), "unknown profile 'papr'; known are quick, paper, paper-lite"),
    ],
)
def test_commands_name_what_is_wrong(folder, arguments, message):
    done = pipe(*arguments, cwd=folder)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_plan_of_the_paper_is_told_before_anything_is_fetched(folder):
    (folder / "params.yaml").write_text(profile_text("paper"))
    done = pipe("plan", cwd=folder)
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
    assert lines["visa"] == ["visa", "8,659", "0", "2,162", "27,000", "39.7GB", "708MB"]
    assert "33,900" in lines["mvtec"]  # 3,629 images, batch 32, 300 epochs
    assert [path.name for path in folder.iterdir()] == ["params.yaml"]


def test_profiles_are_listed_shown_and_used(folder):
    shutil.copy(REPOSITORY / "params.yaml", folder)
    listed = pipe("profile", "list", cwd=folder).stdout.splitlines()
    assert [line.split()[0] for line in listed] == [
        "quick",
        "paper",
        "paper-lite",
        "all",
        "paper-rd",
        "paper-patchcore",
        "paper-simplenet",
        "paper-uniad",
        "paper-dinomaly",
        "paper-draem",
        "paper-destseg",
        "paper-mvad",
        "paper-tocoad",
        "paper-short",
    ]
    shown = pipe("profile", "show", "paper", cwd=folder).stdout
    used = pipe("profile", "use", "paper", cwd=folder).stdout
    assert used == "params.yaml is now the profile paper\nbefore params.yaml.bak\n"
    assert (folder / "params.yaml").read_text() == shown
    assert (folder / "params.yaml.bak").read_text() == (REPOSITORY / "params.yaml").read_text()
    assert pipe("profile", "use", "paper", cwd=folder).stdout == "params.yaml is now the profile paper\n"


def test_an_unset_up_folder_says_where_to_run(tmp_path):
    done = pipe("check", cwd=tmp_path)
    assert done.returncode == 2
    assert "params.yaml: no such file; run from the folder that holds params.yaml" in done.stderr
