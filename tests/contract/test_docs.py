"""The pages for people are right: every command and example on them is run or checked, links lead somewhere, the reference is the code's.

A command that cannot run in a test stands in `NOT_RUN` with the reason, and even so has to exist, with its options.
"""

import contextlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import yaml
from conftest import REPOSITORY
from docs_pages import GENERATED, PAGES, SHELL, WRITTEN, Block, anchors, blocks, links, problem, shell_commands, spans
from docs_toys import make_checkout, run_pipe, run_program

import invad
from invad.config import load_params
from invad.pipeline.in_process import FEATURES
from invad.predict.predictor import Predictor

LANGUAGES = {"", "bash", "python", "yaml", "json", "text", "http"}
# The beginning of a command, and why no test of the pages runs it.
NOT_RUN = {
    "curl": "tests/pipeline/test_serve.py asks the service",
    "dvc exp run": "tests/pipeline/test_pipeline.py runs the stages",
    "dvc metrics show": "tests/pipeline/test_pipeline.py reads them",
    "dvc plots show": "tests/pipeline/test_pipeline.py looks at them",
    "dvc repro": "tests/pipeline/test_pipeline.py runs the stages",
    "make": "sets up an environment of its own; .ci/run calls it",
    "mlflow models serve": "runs until it is ended; tests/pipeline/test_register.py has it",
    "pip install": "tests/pipeline/test_wheel.py installs the wheel",
    "pytest": "this is it",
    "source .venv/bin/activate": "the tests run in that environment",
    "git pull": "there is no remote",
    "git push": "there is no remote",
    "ray get-auth-token": "writes into the home directory",
    "ray start": "tests/pipeline/test_two_nodes.py has two nodes",
    "export": "there is neither a cluster nor a server",
    "invad-pipe export": "half a minute; tests/contract/test_export.py exports",
    "invad-pipe serve": "runs until it is ended; tests/pipeline/test_serve.py has it",
    "invad-pipe ui": "runs until it is ended; tests/unit/test_tracking_places.py has it",
    "invad-pipe ablate --module": "minutes; tests/unit/test_studies.py trains variants",
    "invad-pipe report --runs": "half a minute; tests/unit/test_report_runs.py reports of runs",
    "invad-pipe runs register": "tests/pipeline/test_register.py registers models",
    "invad-pipe tune": "minutes; tests/pipeline/test_tune.py searches",
}
REPRODUCED = {"dvc repro splits@shop", "dvc repro evaluate@mvtec"}  # all the same, and in seconds
OUTSIDE = {"runs"}  # MLflow keeps connections to the database of an earlier checkout
# What stands for something of the reader's, and what it is here.
STAND_INS = {"/data/shop": "shop", "/mnt/backup/invad": "../backup"}
PYTHON_NOT_RUN = {
    "docs/export.md": "tests/contract/test_export.py runs them on an exported model",
    "docs/extending.md": "tests/contract/test_extending.py puts the pieces together and trains",
    "docs/methods.md": "tests/unit/test_supervised_stage.py loads one that it has trained",
}
YAML_NOT_READ = {"docs/extending.md": "tests/contract/test_extending.py trains with it"}
# Of a piece of params.yaml that does not begin at its top: its first key, where it belongs, and what has to stand beside it.
YAML_PLACES = {"files": ("download", "coco", {"source": "official"})}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("docs") / "checkout"
    root.mkdir()
    make_checkout(root)
    return root.rename(root.with_name("made"))


@pytest.fixture
def checkout(made) -> Iterator[Path]:
    """A fresh one, always in the same place, since MLflow keeps absolute paths."""
    root = shutil.copytree(made, made.with_name("checkout"), symlinks=True)
    yield root
    shutil.rmtree(root)


def in_pages(*languages: str) -> pytest.MarkDecorator:
    found = blocks(*languages)
    return pytest.mark.parametrize("block", found, ids=[block.place for block in found])


def reason(words: list[str]) -> str | None:
    """The entry of `NOT_RUN` that keeps a command from running."""
    line = " ".join(words)
    return (
        None if line in REPRODUCED else next((start for start in NOT_RUN if f"{line} ".startswith(f"{start} ")), None)
    )


@pytest.fixture(scope="module")
def ran() -> list[list[list[str]]]:
    """The commands of each block that have run, each time in a fresh checkout."""
    return []


@pytest.mark.slow
@in_pages("bash")
def test_commands_of_a_block_run(block: Block, ran, request):
    commands = [*shell_commands(block.text)]
    for words in commands:
        wrong = problem(words)
        assert wrong is None, f"{block.place}: {' '.join(words)}: {wrong}"
    commands = [words for words in commands if reason(words) is None]
    if commands and commands not in ran:  # two pages may say the same
        folder = request.getfixturevalue("checkout")
        for words in commands:
            run(words, folder, block.place)
        ran.append(commands)


def run(words: list[str], folder: Path, place: str) -> None:
    line = " ".join(words)
    words = [STAND_INS.get(word, word) for word in words]
    if "ID" in words:
        words = ["mvtec" if word == "ID" else word for word in words]
    if words[1:3] == ["profile", "use"]:
        shutil.copy(REPOSITORY / "params.yaml", folder)  # of a fresh clone, so that there are no edits to lose
    if words[0] == "invad-pipe" and words[1] not in OUTSIDE and not SHELL & set(words):
        run_pipe(words[1:], folder)
    else:
        assert words[0] in ("invad-pipe", "dvc", "python"), (
            f"{place}: {line}: run it in tests/contract/test_docs.py, or add it to NOT_RUN with the reason"
        )
        run_program(words, folder)


def test_every_reason_is_needed():
    used = {reason(words) for block in blocks("bash") for words in shell_commands(block.text)}
    assert set(NOT_RUN) - used == set(), "no page has such commands any more"
    lines = {" ".join(words) for block in blocks("bash") for words in shell_commands(block.text)}
    assert REPRODUCED - lines == set(), "no page has these commands any more"


@pytest.mark.parametrize("page", WRITTEN)
def test_commands_in_running_text_exist(page):
    wrong = [f"{place}: {' '.join(words)}: {problem(words)}" for place, words in spans(page) if problem(words)]
    assert wrong == []


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("invad-pipe predikt model", "invad-pipe has no command predikt model"),
        ("invad-pipe data check shop --all", "invad-pipe data check has no option --all"),
        ("make runn", "the Makefile has no target runn"),
        ("dvc repro train@mvtek", "dvc.yaml has no stage train@mvtek"),
        ("dvc exp run -S train.mvtec.epohs=3", "params.yaml has no train.mvtec.epohs"),
        ("pip install '.[serv]'", "there is no extra serv"),
        ("python benchmarks/metric.py", "there is no benchmarks/metric.py"),
    ],
)
def test_a_command_that_does_not_exist_is_found(command, message):
    assert problem(shlex.split(command)) == message


def test_no_command_hides_in_a_block_that_no_test_runs():
    for block in blocks():
        assert block.language in LANGUAGES, (
            f"{block.place}: a block of {block.language}; commands stand in blocks of bash"
        )
        if block.language != "bash":
            hidden = [line for line in block.text.splitlines() if line.startswith(("invad-pipe ", "dvc ", "$ "))]
            assert hidden == [], f"{block.place}: commands stand in blocks of bash"


@pytest.mark.slow
@in_pages("python")
def test_python_runs(block: Block, request):
    code = compile(block.text, block.place, "exec")
    if block.page not in PYTHON_NOT_RUN:
        with (
            contextlib.chdir(request.getfixturevalue("checkout")),
            mock.patch.object(invad, "train", partial(small_training, invad.train)),
        ):
            exec(code, names())


def small_training(train: Callable[..., Predictor], images: object, **settings: Any) -> Predictor:
    """Train as the page says, but for small images, few of them at a time and one epoch."""
    features = replace(settings.pop("features", FEATURES), image_size=64)
    return train(images, features=features, **settings | {"epochs": 1, "batch_size": 4})


def names() -> dict[str, object]:
    """What examples take as given: maps of a method, masks and classes."""
    maps = np.random.default_rng(0).random((4, 16, 16), np.float32)
    masks = np.zeros((4, 16, 16), np.uint8)
    masks[::2, :4, :4] = 1
    classes = ["wood", "wood", "valve", "valve"]
    return {"anomaly_maps": maps, "masks": masks, "classes": classes}


@in_pages("yaml")
def test_settings_are_accepted(block: Block, tmp_path):
    piece = yaml.safe_load(block.text)
    if block.page in YAML_NOT_READ:
        return
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    if next(iter(piece)) in YAML_PLACES:
        section, name, beside = YAML_PLACES[next(iter(piece))]
        piece = {section: {name: beside | piece}}
    for section, values in piece.items():
        assert section in params, (
            f"{block.place}: {section} is no section of params.yaml; say in YAML_PLACES where it belongs"
        )
        params[section] |= values
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    load_params(path)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for path, anchor in links(page):
        target = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        assert target.exists(), f"{page}: there is no {path}"
        assert not anchor or anchor in anchors(target), f"{page}: {path} has no heading #{anchor}"


def test_every_page_is_found_from_the_readme():
    linked = {path for path, _ in links("README.md")}
    assert {page for page in PAGES if page != "README.md"} - linked == set()


def test_the_reference_of_the_commands_is_that_of_the_code():
    command = [sys.executable, "-m", "typer", "invad.cli", "utils", "docs", "--name", "invad-pipe"]
    written = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (REPOSITORY / GENERATED).read_text().strip() == written.strip(), "`make docs` writes docs/cli.md anew"
