"""The profile `all`: every data set and every method through all stages at toy size, in one process; of COCO-AD the last fold."""

from pathlib import Path

import pytest
import yaml

from invad.config import load_params
from invad.config.constants import PUBLISHED_DATASETS
from invad.config.profiles import profile_text
from invad.files import read_json
from invad.methods import METHODS
from invad.pipeline import stages
from invad.workspace import Workspace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    """A folder in which all stages have run."""
    root = tmp_path_factory.mktemp("all")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        settings = yaml.safe_load(profile_text("all"))
        for fold in range(3):  # of the same settings
            del settings["benchmarks"][f"coco_ad_{fold}"]
        Path("params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
        params, workspace = load_params(), Workspace()
        stages.check("", params, workspace)
        for dataset in params.download:
            stages.download(dataset, params, workspace)
        for stage in (stages.splits, stages.features, stages.train, stages.score, stages.evaluate):
            for name in params.benchmarks:
                stage(name, params, workspace)
        for name in params.supervised:
            stages.supervise(name, params, workspace)
        stages.report("", params, workspace)
    return Workspace(root)


def test_the_profile_has_every_data_set_and_every_method(workspace):
    params = load_params(workspace.root / "params.yaml")
    assert {one.dataset for one in params.benchmarks.values()} == set(PUBLISHED_DATASETS)
    assert {one.train.model for one in params.benchmarks.values()} == set(METHODS)
    assert list(params.supervised) == ["visa_segad"]


def test_every_benchmark_has_the_metrics_that_its_data_define(workspace):
    for name in load_params(workspace.root / "params.yaml").benchmarks:
        metrics = read_json(workspace.metrics(name))
        means, intervals = metrics["mean"]["exact"], metrics["intervals"]["mean"]
        assert {key: value is None for key, value in means.items()} == {key: intervals[key] is None for key in means}
        assert 0 <= means["image_auroc"] <= 1, name
        assert (means["pixel_auroc"] is None) == (name == "vad"), name
        assert ("sample_auroc" in means) == (name == "realiad"), name


def test_the_report_has_a_row_of_each(workspace):
    rows = (workspace.reports / "tables" / "main.md").read_text()
    page = (workspace.reports / "index.html").read_text()
    for title in ("COCO-AD fold 3", "MVTec AD", "VisA", "BTAD", "VAD (Valeo)", "Real-IAD"):
        assert title in rows
        assert title in page
    assert "supervised, " in (workspace.reports / "tables" / "supervised.md").read_text()
