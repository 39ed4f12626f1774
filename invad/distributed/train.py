"""Ray Train around the training loop.

A run's storage lies in the workspace under a name that carries a hash of everything that determines the result, so an interrupted
run continues from its last checkpoint and a run of other settings never does.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from invad.config import FeaturesConfig, ResourcesConfig, TrainConfig, WorkersConfig
from invad.datasets.split_table import Split
from invad.devices import make_deterministic, place
from invad.distributed.cluster import gpus_per_worker, here, input_error, needs_cluster, quiet, ray_session
from invad.errors import InputError
from invad.features import FeatureKey, FeatureSource, open_features
from invad.files import atomic_path, remove
from invad.methods import build_method
from invad.training.curve import Step, append_step, read_curve, truncate_curve
from invad.training.loop import NotFiniteError, Share, Trainer, steps_per_epoch

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

CHECKPOINT_FILE, CURVE_FILE = "checkpoint.pt", "curve.csv"
_POLL_SECONDS = 2.0  # reading the curve and telling MLflow costs the workers time on a small machine


@dataclass(frozen=True)
class TrainJob:
    """What a worker needs to know; sent to it by Ray, so all paths are absolute.

    `folder`, `split`, `features`: where the training features come from, as for `open_features`. `storage`: folder of the run's checkpoint
    and curve. On a cluster all of them have to be on a file system that all nodes see.
    """

    folder: str
    split: Split
    features: FeaturesConfig
    storage: str
    train: TrainConfig
    threads: int
    use_gpu: bool

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint, replaced as a whole."""
        return Path(self.storage) / CHECKPOINT_FILE

    @property
    def curve(self) -> Path:
        """The file that worker 0 appends a line to after every step."""
        return Path(self.storage) / CURVE_FILE

    def open_features(self) -> FeatureSource:
        """Open the features of the training images."""
        return open_features(Path(self.folder), "train", self.split, self.features)


def train_with_ray(
    folder: Path,
    split: Split,
    features: FeaturesConfig,
    key: FeatureKey,
    config: TrainConfig,
    *,
    name: str,
    workers: WorkersConfig,
    storage: Path,
    on_progress: Callable[[list[Step], int], None],
) -> tuple[nn.Module, list[Step]]:
    """Train on the features of a split and return the method (on the CPU) and its loss curve, one entry for each step.

    Args:
        folder: What the stage `features` has written.
        split: The benchmark's images.
        features: Its settings.
        key: What the features depend on.
        config: The recipe.
        name: Of the run; the name of its storage begins with it.
        workers: Number of data-parallel processes, and the CPUs and GPUs of each.
        storage: Folder for checkpoints; the run's own folder is removed when it has ended well.
        on_progress: Called on the driver every now and then with the new steps and the number of all steps.

    Raises:
        InputError: The settings do not fit the data or the cluster, or the loss is not finite.
    """
    total = steps_per_epoch(len(split.phase("train")), config) * config.epochs
    if config.batch_size % workers.workers:
        raise InputError(
            f"params.yaml: train.workers: {workers.workers} workers cannot share a batch of {config.batch_size} evenly"
        )
    run_name = f"{name}-{_result_hash(key, config, workers)}"
    run_storage = storage.absolute() / run_name
    run_storage.mkdir(parents=True, exist_ok=True)

    def job(gpus: float) -> TrainJob:
        threads = max(1, int(workers.resources_per_worker.cpu))
        return TrainJob(
            str(folder.absolute()),
            split.absolute(),
            features.absolute(),
            str(run_storage),
            config,
            threads,
            use_gpu=gpus > 0,
        )

    with _following(run_storage / CURVE_FILE, total, on_progress):
        _fit(job, run_name, storage.absolute(), workers)
    method = build_method(key.output, config)
    method.load_state_dict(_read_checkpoint(run_storage / CHECKPOINT_FILE, torch.device("cpu"))["trainer"]["method"])
    steps = read_curve(run_storage / CURVE_FILE)
    remove(run_storage)
    return method.eval(), steps


def _fit(job: Callable[[float], TrainJob], run_name: str, storage: Path, workers: WorkersConfig) -> None:
    """Run the trainer to its end.

    A single worker runs in this process (Ray Train's local mode: no cluster has to start for it); several run on a Ray of their own,
    and with RAY_ADDRESS any number on that cluster.
    """

    quiet()
    count, resources = workers.workers, workers.resources_per_worker
    if not needs_cluster(workers):
        gpus = gpus_per_worker(count, resources, here(), "train")
        _trainer(job(gpus), run_name, storage, 0, gpus, resources).fit()
        return
    from ray.train.v2.api.exceptions import TrainingFailedError

    with ray_session() as available:
        gpus = gpus_per_worker(count, resources, available, "train")
        try:
            _trainer(job(gpus), run_name, storage, count, gpus, resources).fit()
        except TrainingFailedError as error:
            raise input_error(error) or error from error


def _trainer(
    job: TrainJob, run_name: str, storage: Path, workers: int, gpus: float, resources: ResourcesConfig
) -> "TorchTrainer":
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    each = {"CPU": resources.cpu, "GPU": gpus}
    return TorchTrainer(
        _train_worker,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=gpus > 0, resources_per_worker=each if workers else None
        ),
        run_config=RunConfig(name=run_name, storage_path=str(storage)),
    )


def _train_worker(loop_config: dict[str, TrainJob]) -> None:
    """Run on every worker: build, resume where there is a checkpoint, train, write checkpoints."""
    import ray.train
    import ray.train.torch

    job = loop_config["job"]
    config = job.train
    context = ray.train.get_context()
    share = Share(context.get_world_rank(), context.get_world_size())
    device = ray.train.torch.get_device() if job.use_gpu else torch.device("cpu")
    torch.set_num_threads(job.threads)
    features = job.open_features()
    make_deterministic(config.seed, device)
    trainer = Trainer(
        place(build_method(features.key.output, config), device, config),
        features,
        config,
        share=share,
        wrap=lambda method: ray.train.torch.prepare_model(method, move_to_device=False),
        mean_over_workers=_mean_over_workers,
    )
    first_epoch = 0
    if job.checkpoint.exists():
        state = _read_checkpoint(job.checkpoint, device)
        trainer.load_state_dict(state["trainer"])
        first_epoch = state["epoch"]
    if share.rank == 0:
        truncate_curve(job.curve, first_epoch * steps_per_epoch(len(features), config))
    for epoch in range(first_epoch, config.epochs):
        try:
            for step in trainer.epoch(epoch):
                if share.rank == 0:
                    append_step(job.curve, step)
        except NotFiniteError as error:
            raise InputError(f"{error}; {_advice(job)}") from None
        done = epoch + 1
        if done % config.checkpoint_epochs == 0 or done == config.epochs:
            if share.rank == 0:
                with atomic_path(job.checkpoint) as temporary:
                    torch.save({"trainer": trainer.state_dict(), "epoch": done}, temporary)
            ray.train.report({"epoch": done})  # every worker waits here for the others


def _advice(job: TrainJob) -> str:
    """Return what to do about a loss that is not finite."""
    if job.checkpoint.exists():
        epoch = _read_checkpoint(job.checkpoint, torch.device("cpu"))["epoch"]
        last = f"the last good checkpoint, after epoch {epoch}, is {job.checkpoint}"
    else:
        last = "there is no checkpoint yet"
    remedies = ["a lower learning_rate", *(["`precision: float32`"] if job.train.precision != "float32" else [])]
    return f"{last}; try {' or '.join(remedies)}"


def _read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    return torch.load(path, weights_only=True, map_location=device)


def _mean_over_workers(value: Tensor) -> float:
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        torch.distributed.all_reduce(value)
        value = value / torch.distributed.get_world_size()
    return float(value)


def _result_hash(key: FeatureKey, config: TrainConfig, workers: WorkersConfig) -> str:
    """Hash of all that the trained weights depend on (how often a checkpoint is written is no part of it)."""
    recipe = {name: value for name, value in asdict(config).items() if name != "checkpoint_epochs"}
    value = [asdict(key), recipe, asdict(workers), torch.__version__]
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def _following(path: Path, total: int, on_progress: Callable[[list[Step], int], None]) -> Iterator[None]:
    """Call `on_progress` with the steps that appear in the curve while the block runs."""
    seen = 0
    stop = threading.Event()

    def tell() -> None:
        nonlocal seen
        steps = read_curve(path)
        if len(steps) > seen:
            on_progress(steps[seen:], total)
            seen = len(steps)

    def follow() -> None:
        while not stop.wait(_POLL_SECONDS):
            tell()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        tell()
