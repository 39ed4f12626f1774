"""`invad.training.job` in this process, or as many workers as are asked for through Ray Train.

A run's storage lies in the workspace under a name that carries a hash of everything that determines the result, so an interrupted
run continues from its last checkpoint and a run of other settings never does.
"""

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from invad.cluster.cluster import Cluster, gpus_per_worker, here, needs_cluster, nodes, quiet, ray_session
from invad.config import FeaturesConfig, ResourcesConfig, TrainConfig, TrainingConfig
from invad.data.split_table import Split
from invad.devices import best_device
from invad.disk import causes, disk_problem
from invad.errors import InputError
from invad.features import FeatureKey
from invad.files import remove
from invad.methods import EncoderOutput, Method, build_method
from invad.methods.base import load_fitted
from invad.training.checkpoints import newest_step
from invad.training.curve import Step, read_curve, truncate_curve
from invad.training.job import TrainJob, run_job, storage_name
from invad.training.loop import ALONE, Share, training_steps, views_of
from invad.training.owner import claim
from invad.training.progress import meanwhile

_RAY_FOLDER = "ray"  # of Ray's own files, in the run's storage
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A training of `total` steps that has ended, whose storage is still there."""

    job: TrainJob
    output: EncoderOutput
    total: int

    def method(self) -> Method:
        """Return the method as it is in the end, in eval mode, on the CPU; `InputError`: the last checkpoint is gone or damaged."""
        state = self.job.checkpoints.newest()
        if state is None or state["step"] != self.total:
            raise InputError(f"{self.job.storage}: the last checkpoint is gone or damaged; start the training again")
        return self._loaded(state["trainer"]["method"])

    def snapshot(self, step: int) -> Method:
        """Return the method as it was after one of `TrainJob.snapshots`."""
        return self._loaded(load_file(self.job.snapshot(step)))

    def steps(self) -> list[Step]:
        """Return the loss curve, one entry for each step."""
        return read_curve(self.job.curve)

    def _loaded(self, state: dict[str, Tensor]) -> Method:
        method = build_method(self.output, self.job.train)
        load_fitted(method, state)
        return method.eval()


@contextmanager
def trained(
    folder: Path,
    split: Split,
    features: FeaturesConfig,
    key: FeatureKey,
    configs: Sequence[TrainConfig],
    *,
    name: str,
    workers: TrainingConfig,
    storage: Path,
    on_progress: Sequence[Callable[[list[Step], int, int], None]],
    snapshots: Sequence[int] = (),
) -> Generator[list[Trained]]:
    """Train on the features of a split once for each of `configs`, which differ in the seed; as many at a time as there is room for.

    `folder`: of the features, which depend on `key`. `storage`: of checkpoints, in folders whose names begin with `name`, until the block
    has ended without an error. `on_progress`: of each training, called every now and then with new steps, the number of all, and how many
    earlier starts have made, first with those. `snapshots`: steps after which weights are kept.
    `InputError`: the settings do not fit the data or the cluster, the loss is not finite, or another process trains the same.
    """
    images, count = split.phase("train"), workers.workers
    views = views_of(images, configs[0])
    total = training_steps(len(images), key.output, configs[0], views)
    if configs[0].batch_size % (count * views):
        of = f"a batch of {configs[0].batch_size}" + (f" of {views} views each" if views > 1 else "")
        raise InputError(f"params.yaml: train.workers: {count} workers cannot share {of} evenly")
    jobs = []
    for config in configs:
        run_storage = storage.absolute() / storage_name(name, key, config, workers, snapshots)
        run_storage.mkdir(parents=True, exist_ok=True)
        claim(run_storage)
        jobs.append(
            TrainJob(
                str(folder.absolute()),
                split.absolute(),
                features.absolute(),
                str(run_storage),
                config,
                workers.checkpoint_steps,
                max(1, int(workers.resources_per_worker.cpu)),
                snapshots=tuple(snapshots),
            )
        )
    waiting = [job for job in jobs if newest_step(Path(job.storage)) < total]
    with ExitStack() as stack:
        for job, tell in zip(jobs, on_progress, strict=True):
            stack.enter_context(_following(job, total, tell))
        if count == 1 and len(waiting) > 1 and _fitting(workers) > 1:
            _fit_side_by_side(waiting, workers)
        else:
            for job in waiting:
                _fit(job, workers)
    yield [Trained(job, key.output, total) for job in jobs]
    for job in jobs:
        remove(Path(job.storage))


def _fitting(workers: TrainingConfig) -> int:
    """Return how many trainings of one worker there is room for at a time on this machine; on a cluster Ray finds out."""
    if needs_cluster(workers):
        return 2
    each = workers.resources_per_worker
    return here().fitting({"CPU": each.cpu, "GPU": gpus_per_worker(1, each, here(), "train")})


def _fit_side_by_side(jobs: Sequence[TrainJob], workers: TrainingConfig) -> None:
    """Train all to the end, each in a process that Ray starts where there is room; one that is lost goes on from its checkpoint."""
    quiet()
    import ray
    from ray.exceptions import RayError

    with ray_session() as cluster:
        each = workers.resources_per_worker
        gpus = gpus_per_worker(1, each, cluster, "train")
        start = ray.remote(num_cpus=each.cpu, num_gpus=gpus, max_retries=0)(_train_alone)
        running = {start.remote(job, gpus > 0): job for job in jobs}
        failed_after: dict[str, int] = {}
        while running:
            (ended,), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(ended)
            try:
                ray.get(ended)
            except RayError as error:
                check_room(error, job, 1, replace(each, gpu=gpus))
                failed_after[job.storage] = after_failure(error, job, failed_after.get(job.storage))
                running[start.remote(job, gpus > 0)] = job


def _train_alone(job: TrainJob, use_gpu: bool) -> None:
    run_job(job, best_device() if use_gpu else torch.device("cpu"))


def _fit(job: TrainJob, workers: TrainingConfig) -> None:
    """Train to the end: one worker in this process, without Ray; several on a Ray of their own, any number on that of RAY_ADDRESS."""
    count, each = workers.workers, workers.resources_per_worker
    if not needs_cluster(workers):
        run_job(job, best_device() if gpus_per_worker(count, each, here(), "train") > 0 else torch.device("cpu"))
        return
    quiet()
    from ray.train import TrainingFailedError

    with ray_session() as cluster:
        gpus, failed_after = gpus_per_worker(count, each, cluster, "train"), None
        while True:
            # Ray would take up what it knows of an attempt of that name, and then find nothing to do.
            remove(Path(job.storage) / _RAY_FOLDER)
            try:
                _trainer(job, workers, gpus, _backend(gpus, cluster)).fit()
                return
            except TrainingFailedError as error:
                check_room(error, job, count, replace(each, gpu=gpus))
                failed_after = after_failure(error, job, failed_after)


def check_room(error: Exception, job: TrainJob, count: int, each: ResourcesConfig) -> None:
    """Raise `InputError` where the cluster has no room for `count` workers any more, and Ray would wait for it for ever."""
    kept = f"the checkpoint of step {newest_step(Path(job.storage))} is kept, and the same stage goes on from there"
    try:
        gpus_per_worker(count, each, nodes(), "train")
    except InputError as lacking:
        raise InputError(f"{lacking}: a node is lost; {kept} when there is one in its place") from None
    if type(getattr(error, "controller_failure", None)).__name__ == "WorkerGroupStartupTimeoutError":
        raise InputError(f"the cluster is busy: there was no room for {count} workers in time; {kept} when there is")


def after_failure(error: Exception, job: TrainJob, before: int | None) -> int:
    """Return the step that a training goes on from; `InputError`: a mistake or a full disk; `RuntimeError`: it is that of `before`."""
    for cause in causes(error):
        if isinstance(cause, InputError):
            raise cause from error
    if (problem := disk_problem(error)) is not None:
        raise InputError(problem) from error  # another start would end the same way
    step = newest_step(Path(job.storage))
    first, *_ = [*(getattr(error, "worker_failures", None) or {}).values(), error]
    reason = f"{type(first).__name__}: {(str(first).strip() or 'no reason given').splitlines()[-1]}"  # of pages
    if step == before:
        raise RuntimeError(
            f"training failed twice after the checkpoint of step {step}; this is a bug or a machine that cannot hold it, not bad luck. "
            f"The last failure: {reason}. The checkpoints: {job.storage}"
        ) from None
    logger.warning("a worker was lost (%s); going on after step %d", reason, step)
    return step


def _backend(gpus: float, cluster: Cluster) -> str:
    """Return torch's means of communication: NCCL needs a whole GPU for each worker, and a real one (Ray may be told of others)."""
    return "nccl" if gpus >= 1 and gpus == int(gpus) and cluster.has_real_gpus else "gloo"


def _trainer(job: TrainJob, workers: TrainingConfig, gpus: float, backend: str) -> Any:  # noqa: ANN401
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    config: Any = ray.train  # in which a type checker sees the classes of version 1 as well
    each = {"CPU": workers.resources_per_worker.cpu, "GPU": gpus}
    # Ray cannot tell a bug from a lost worker, see `after_failure`.
    once = config.FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0)
    return TorchTrainer(
        _train_worker,
        train_loop_config={"job": job, "use_gpu": gpus > 0},
        torch_config=TorchConfig(backend=backend),
        scaling_config=config.ScalingConfig(num_workers=workers.workers, use_gpu=gpus > 0, resources_per_worker=each),
        run_config=config.RunConfig(name=_RAY_FOLDER, storage_path=job.storage, failure_config=once),
    )


def _train_worker(loop_config: dict[str, Any]) -> None:
    """Run on every worker: train its share of every batch."""
    import ray.train
    import ray.train.torch

    context = ray.train.get_context()
    use_gpu = loop_config["use_gpu"] and torch.cuda.is_available()
    device = ray.train.torch.get_device() if use_gpu else torch.device("cpu")
    rank, size = context.get_world_rank(), context.get_world_size()
    wrap = partial(_data_parallel, device=device) if size > 1 else ALONE.wrap
    share = Share(rank, size, wrap, _mean_over_workers)
    run_job(loop_config["job"], device, share=share, at_checkpoint=lambda step: ray.train.report({"step": step}))


def _data_parallel(method: nn.Module, device: torch.device) -> nn.Module:
    """Average the gradients of all workers. Buffers are the same everywhere, since BatchNorm is synchronised."""
    devices = [device] if device.type == "cuda" else None
    return DistributedDataParallel(method, device_ids=devices, broadcast_buffers=False)


def _mean_over_workers(value: Tensor) -> float:
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        torch.distributed.all_reduce(value)
        value = value / torch.distributed.get_world_size()
    return float(value)


@contextmanager
def _following(job: TrainJob, total: int, on_progress: Callable[[list[Step], int, int], None]) -> Generator[None]:
    """Call `on_progress` with the steps that appear in the curve while the block runs, first with those that are there already."""
    resumed = newest_step(Path(job.storage))
    truncate_curve(job.curve, resumed)
    seen = 0

    def tell() -> None:
        nonlocal seen
        steps = read_curve(job.curve)
        if len(steps) > seen:
            on_progress(steps[seen:], total, resumed)
            seen = len(steps)

    with meanwhile(tell):
        yield
