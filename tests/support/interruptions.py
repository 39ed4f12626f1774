"""A toy training that waits, raises or dies at a step, in this process or in Ray's workers: for the tests that kill it."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, distributed, multiprocessing, nn
from toys import CPU, FEATURES, split_of, train_model, write_toy_store

from invad.cluster import train as distributed_train
from invad.config import InvADConfig, ResourcesConfig, TrainingConfig
from invad.features import FeatureStore
from invad.training.curve import Step, read_curve
from invad.training.job import TrainJob, run_job
from invad.training.loop import Share, Trainer

STEPS = 20
CONFIG = InvADConfig(epochs=10, batch_size=4, style_channels=8, latent_channels=4, blocks=1)  # two steps in an epoch
ALONE = TrainingConfig(resources_per_worker=ResourcesConfig(cpu=1, gpu=0), checkpoint_steps=5)
TWO = replace(ALONE, workers=2, resources_per_worker=ResourcesConfig(cpu=0.5, gpu=0))
_worker = distributed_train._train_worker
_steps = Trainer.steps


def make_folder(folder: Path) -> None:
    """Write the features of ten images."""
    write_toy_store(folder / "features", split_of(folder, train=10, test=0))


def train(
    folder: Path, workers: TrainingConfig, on_progress: Callable[[list[Step], int, int], None] = lambda *_: None
) -> tuple[nn.Module, list[Step]]:
    """Train on the features of `make_folder`."""
    key = FeatureStore(folder / "features", "train").key
    split = split_of(folder, train=10, test=0)
    return train_model(
        folder / "features",
        split,
        FEATURES,
        key,
        CONFIG,
        name="toy",
        workers=workers,
        storage=folder / "storage",
        on_progress=on_progress,
    )


def train_undisturbed(folder: Path, count: int) -> tuple[dict[str, Tensor], list[float]]:
    """Train on the features of `make_folder` with as many processes of this machine, without Ray; return the weights and the losses."""
    job = TrainJob(
        str(folder / "features"),
        split_of(folder, train=10, test=0),
        FEATURES,
        str(folder),
        CONFIG,
        checkpoint_steps=5,
        threads=1,
    )
    multiprocessing.spawn(_undisturbed, (count, job), nprocs=count)
    state = job.checkpoints.newest()
    assert state is not None
    return state["trainer"]["method"], [step.loss for step in read_curve(job.curve)]


def _undisturbed(rank: int, count: int, job: TrainJob) -> None:
    distributed.init_process_group("gloo", f"file://{job.storage}/meet", rank=rank, world_size=count)
    wrap = partial(distributed_train._data_parallel, device=CPU)
    share = Share(rank, count, wrap, distributed_train._mean_over_workers)
    run_job(job, CPU, share=share, at_checkpoint=lambda step: distributed.barrier())
    distributed.destroy_process_group()


def plan(folder: Path, action: str, after: int, rank: int = 0) -> None:
    """Have the worker `rank` wait, raise or die after the step `after`, every time it gets there.

    One that waits writes down its process id, and waits until `go_on` is called.
    """
    (folder / "plan.json").write_text(json.dumps({"action": action, "after": after, "rank": rank}))


def go_on(folder: Path) -> None:
    """Let the waiting go on."""
    (folder / "go").touch()


def waiting(folder: Path, seconds: float = 240) -> int:
    """Return the process id of the worker that waits, as soon as it does."""
    end = time.monotonic() + seconds
    while not (folder / "waits").exists():
        assert time.monotonic() < end, "no worker has got there"
        time.sleep(0.02)
    return int((folder / "waits").read_text())


def interrupted_worker(loop_config: dict) -> None:
    """What Ray Train runs instead of the worker: the same, but for the plan; writes down where it began and what GPUs it has."""
    import ray

    folder = Path(loop_config["job"].folder).parent
    ids = {"ray": ray.get_gpu_ids(), "cuda": os.environ.get("CUDA_VISIBLE_DEVICES")} if ray.is_initialized() else {}
    (folder / f"gpus-{os.getpid()}.json").write_text(json.dumps(ids))
    Trainer.steps = _interrupted(folder)
    try:
        _worker(loop_config)
    finally:
        Trainer.steps = _steps


def _interrupted(folder: Path) -> Callable[[Trainer, int], Iterator[Step]]:
    def steps(self: Trainer, done: int = 0) -> Iterator[Step]:
        if self._share.rank == 0:
            with (folder / "begun").open("a") as file:
                file.write(f"{done}\n")
        for step in _steps(self, done):
            yield step
            _interrupt(folder, step.step, self._share.rank)

    return steps


def _interrupt(folder: Path, step: int, rank: int) -> None:
    path = folder / "plan.json"
    wanted = json.loads(path.read_text()) if path.exists() else {}
    if (wanted.get("after"), wanted.get("rank")) != (step, rank):
        return
    if wanted["action"] == "raise":
        raise ValueError("an index is out of range")
    if wanted["action"] == "die":
        os._exit(1)
    (folder / "waits.new").write_text(str(os.getpid()))
    (folder / "waits.new").rename(folder / "waits")
    while not (folder / "go").exists():
        time.sleep(0.02)


def begun(folder: Path) -> list[int]:
    """Return after which step each start of worker 0 has gone on."""
    return [int(line) for line in (folder / "begun").read_text().split()]


def main() -> None:
    """Train alone in the folder that the command line names, as a stage does, and write the weights."""
    folder = Path(sys.argv[1])
    Trainer.steps = _interrupted(folder)
    method, _ = train(folder, ALONE)
    torch.save(method.state_dict(), folder / "weights.pt")
    print("ray" in sys.modules)


if __name__ == "__main__":
    main()
