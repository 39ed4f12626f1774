"""The method of docs/extending.md, put where the page says, is trained, scored and used."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY, repository_params

PAGE = (REPOSITORY / "docs/extending.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
YAML = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
USE = """
import json
import invad
from invad.pipeline import stages as pipeline
from invad.config import load_params
from invad.workspace import Workspace

params, workspace = load_params(), Workspace()
pipeline.download("mvtec", params, workspace)
for stage in (pipeline.splits, pipeline.features, pipeline.train, pipeline.score, pipeline.evaluate):
    stage("mvtec", params, workspace)
model = invad.load("models/mvtec")
image = next(iter(sorted(workspace.raw("mvtec").glob("wood/test/*/*.png"))))
print(json.dumps([type(model.detector.method).__name__, model.predict(image).scores.tolist()]))
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> Path:
    """A folder with a copy of the package in which the page's pieces stand."""
    root = tmp_path_factory.mktemp("extended")
    shutil.copytree(REPOSITORY / "invad", root / "invad", ignore=shutil.ignore_patterns("__pycache__"))
    settings, method, lines = PYTHON
    (root / "invad/methods/bottleneck.py").write_text(method)
    sections = root / "invad/config/methods.py"
    head, mark, tail = sections.read_text().partition("TRAIN_CONFIGS: ")
    sections.write_text(f"{head}{settings}\n\n{mark}{tail}")
    for path, piece in re.findall(r"# (invad/\S+\.py)\n(.*?)(?=# invad|\Z)", lines, re.DOTALL):
        for line in piece.strip().splitlines():
            insert(root / path, line)
    return root


def insert(path: Path, line: str) -> None:
    """Put a line in the place of the one that gives the same name, or an import before the first one."""
    text, name = path.read_text(), re.match(r"\w+", line)[0]
    if name == "from":
        text = text.replace("from invad.", f"{line}\nfrom invad.", 1)
    else:  # a dictionary: its line joins those that are there
        entry = re.search(r"\{(.*)\}", line)[1]
        text, count = re.subn(rf"^({name}\b.* = \{{)$", rf"\1\n    {entry},", text, flags=re.MULTILINE)
        assert count == 1, f"{path} has {count} definitions of {name}"
    path.write_text(text)


def test_the_method_on_the_page_is_one_of_fifty_lines():
    lines = [line for piece in PYTHON[:2] for line in piece.splitlines() if line]
    assert 40 <= len(lines) <= 55


def test_the_method_on_the_page_trains_scores_and_predicts(extended):
    params = repository_params("mvtec")
    params["download"]["mvtec"] |= {"train_images": 16, "test_images": 12, "image_size": 96}
    params["features"]["mvtec"]["image_size"] = 64
    params["train"]["mvtec"] = yaml.safe_load(YAML[0])["train"]["mvtec"] | {"epochs": 4}
    (extended / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    environment = os.environ | {"PYTHONPATH": str(extended)}
    done = subprocess.run(
        [sys.executable, "-c", USE], cwd=extended, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    method, scores = json.loads(done.stdout.splitlines()[-1])
    assert method == "Bottleneck"
    assert 0 < scores[0] < 2
    result = json.loads((extended / "reports/metrics/mvtec.json").read_text())
    assert result["mean"]["exact"]["pixel_auroc"] > 0.7  # it has learnt something
