"""Two nodes of Ray with addresses of their own: features, maps and a training over both are those of one, also when a node is lost."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cluster_work
import interruptions
import pytest
import torch
from two_nodes import HEAD, OTHER, TwoNodes, two_nodes

from invad.config import WorkersConfig

pytestmark = pytest.mark.ray
SUPPORT = Path(cluster_work.__file__).parent


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("places")


@pytest.fixture(scope="module")
def nodes(places) -> Iterator[TwoNodes]:
    with two_nodes(PLACES=str(places), PYTHONPATH=str(SUPPORT)) as nodes:
        yield nodes


def begin(work: str, folder: Path, nodes: TwoNodes) -> subprocess.Popen[str]:
    code = f"from pathlib import Path; import cluster_work; cluster_work.{work}(Path({str(folder)!r}))"
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], env=nodes.environment, **pipes)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_workers_on_two_nodes_write_the_features_and_maps_of_one_process(nodes, places, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    torch.set_num_threads(1)  # as the workers have
    cluster_work.make_images(tmp_path)
    done = begin("share", tmp_path, nodes)
    assert done.wait() == 0, done.stderr.read()
    assert cluster_work.noted(places, "Shard") == cluster_work.noted(places, "MapFile") == [HEAD, OTHER]
    for module, name in ((cluster_work.feature_store, "SHARD_BYTES"), (cluster_work.score_store, "FILE_BYTES")):
        monkeypatch.setattr(module, name, getattr(module, name))  # put back afterwards
    cluster_work.small_files()
    cluster_work.extract_and_score(tmp_path, tmp_path / "alone", WorkersConfig())
    alone = contents(tmp_path / "alone")
    assert len([name for name in alone if name.startswith("features/")]) == 3
    assert len([name for name in alone if name.startswith("scores/maps-")]) == 4
    assert contents(tmp_path / "shared") == alone


def test_a_training_on_two_nodes_ends_on_one_with_the_same_bytes_when_the_other_is_lost(nodes, tmp_path):
    interruptions.make_folder(tmp_path)
    interruptions.plan(tmp_path, "wait", after=8, rank=1)
    training = begin("train", tmp_path, nodes)
    interruptions.waiting(tmp_path)
    assert cluster_work.noted(tmp_path, "places") == [HEAD, OTHER]
    (tmp_path / "leave").touch()
    cluster_work.until(lambda: not (tmp_path / "leave").exists())
    nodes.other.kill()
    interruptions.go_on(tmp_path)
    assert training.wait() == 0, training.stderr.read()
    assert interruptions.begun(tmp_path) == [0, 5]
    weights, losses = torch.load(tmp_path / "result.pt", weights_only=True)
    expected, expected_losses = interruptions.train_undisturbed(tmp_path, 2)
    assert losses == expected_losses
    assert len(losses) == interruptions.STEPS
    assert weights.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights.items())
