"""What several workers train is what one trains, for every method: noise, normalisation and memory do not depend on their number."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_methods import SMALL, VIEWS, benchmark_of, job_of
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel
from toys import CPU, image_split

from invad.data.split_table import Split
from invad.features import extract_features
from invad.methods import METHODS, uniad
from invad.training.curve import read_curve
from invad.training.job import run_job
from invad.training.loop import Share

pytestmark = pytest.mark.slow
WORKERS = 2


def mean_over_workers(value: torch.Tensor) -> float:
    distributed.all_reduce(value)
    return float(value / WORKERS)


def train_all(rank: int, root: Path, split: Split) -> None:
    """What each worker does: train every method, worker 0 with checkpoints and curve."""
    torch.set_num_threads(1)
    uniad.DROPOUT = 0.0  # every worker draws for its own part of a batch
    distributed.init_process_group("gloo", f"file://{root}/meet", rank=rank, world_size=WORKERS)
    for name, config in SMALL.items():
        run_job(
            replace(job_of(benchmark_of(config), split, root / name, "two"), threads=1),
            CPU,
            share=Share(
                rank,
                WORKERS,
                lambda method: DistributedDataParallel(method, broadcast_buffers=False),
                mean_over_workers,
            ),
            at_checkpoint=lambda step: distributed.barrier(),
        )
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Split]:
    """A folder for each method, in which two workers have trained it."""
    root = tmp_path_factory.mktemp("workers")
    split = image_split(root / "images", train=10, test=0, views=VIEWS)
    for name, config in SMALL.items():
        extract_features(split, benchmark_of(config).features, root / name / "features")
        (root / name / "two").mkdir()
    multiprocessing.spawn(train_all, (root, split), nprocs=WORKERS)
    return root, split


@pytest.mark.parametrize("name", METHODS)
def test_two_workers_train_as_one(trained, name, monkeypatch):
    root, split = trained
    monkeypatch.setattr(uniad, "DROPOUT", 0.0)
    job = job_of(benchmark_of(SMALL[name]), split, root / name, "one")
    method, steps = run_job(job, CPU)
    two = replace(job, storage=str(root / name / "two"))
    # The first loss tells what depends on the number of workers; Adam then makes steps of what is rounding.
    tolerances = [1e-5] + [0.02] * (len(steps) - 1)
    assert [step.loss for step in read_curve(two.curve)] == [
        pytest.approx(step.loss, rel=tolerance) for step, tolerance in zip(steps, tolerances, strict=False)
    ]
    state = two.checkpoints.newest()
    assert state["step"] == len(steps) + method.fits
    mine, theirs = method.state_dict(), state["trainer"]["method"]
    assert mine.keys() == theirs.keys()
    if not steps:
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert all(bool(torch.isfinite(value).all()) for value in theirs.values())
