"""The notebooks run from top to bottom, and what stands in them is what they give."""

import nbformat
import pytest
from conftest import REPOSITORY
from nbclient import NotebookClient

FOLDER = REPOSITORY / "docs/notebooks"
# What has to stand among the outputs, whatever the machine rounds.
SAID = {
    "first_steps.ipynb": ("<predictions of 2 images: 1 anomalous, ", "<prediction: anomalous, ", "[Region(", "True"),
    "own_maps.ipynb": ("((20, 96, 96, 3), (20, 96, 96))", "image_auroc", "pixel_auroc", "True"),
}


def outputs(notebook: nbformat.NotebookNode) -> list[dict]:
    """The outputs of all cells in their order, without what libraries warn of."""
    found = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output for output in found if output.get("name") != "stderr"]


def kinds(notebook: nbformat.NotebookNode) -> list[list[str]]:
    return [sorted({*output.get("data", {"text": ""})} - {"image/jpeg"}) for output in outputs(notebook)]


def test_there_is_an_expectation_of_every_notebook():
    assert {path.name for path in FOLDER.iterdir()} == set(SAID)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAID)
def test_a_notebook_runs_and_shows_what_is_stored(name):
    stored = nbformat.read(FOLDER / name, as_version=4)
    run = NotebookClient(nbformat.from_dict(stored), timeout=300, kernel_name="python3").execute()
    text = "\n".join(output.get("text") or output["data"]["text/plain"] for output in outputs(run))
    for said in SAID[name]:
        assert said in text
    assert kinds(run) == kinds(stored)
