"""Ray Train around the training loop: the only module that knows Ray.

A run's storage lies in the workspace under a name that carries a hash of everything that determines the result, so an interrupted
run continues from its last checkpoint and a run of other settings never does.
"""

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from invad.config import ResourcesConfig, TrainConfig
from invad.devices import make_deterministic, place
from invad.errors import InputError
from invad.features import FeatureKey, FeatureStore
from invad.files import atomic_path, remove, write_text
from invad.methods import build_method
from invad.training.loop import Share, Step, steps_per_epoch, train_epoch

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

CHECKPOINT_FILE, CURVE_FILE = "checkpoint.pt", "curve.csv"
CURVE_HEADER = "step,epoch,loss,learning_rate"
_POLL_SECONDS = 2.0  # reading the curve and telling MLflow costs the workers time on a small machine


@dataclass(frozen=True)
class TrainJob:
    """What a worker needs to know; sent to it by Ray.

    `features`: absolute folder of the feature store. `storage`: absolute folder of the run's checkpoint and curve. On a cluster both
    have to be on a file system that all nodes see.
    """

    features: str
    storage: str
    train: TrainConfig
    threads: int
    use_gpu: bool = False

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint, replaced as a whole."""
        return Path(self.storage) / CHECKPOINT_FILE

    @property
    def curve(self) -> Path:
        """The file that worker 0 appends a line to after every step."""
        return Path(self.storage) / CURVE_FILE


def train_with_ray(
    features: Path,
    config: TrainConfig,
    *,
    name: str,
    workers: int,
    resources: ResourcesConfig,
    storage: Path,
    on_progress: Callable[[list[Step], int], None],
) -> tuple[nn.Module, list[Step]]:
    """Train on the stored features and return the method (on the CPU) and its loss curve, one entry for each step.

    Args:
        features: Folder of the feature store.
        config: The recipe.
        name: Of the run; the name of its storage begins with it.
        workers: Number of data-parallel processes.
        resources: CPUs and GPUs of each.
        storage: Folder for checkpoints; the run's own folder is removed when it has ended well.
        on_progress: Called on the driver every now and then with the new steps and the number of all steps.

    Raises:
        InputError: The settings do not fit the data or the cluster, or the loss is not finite.
    """
    store = FeatureStore(features, "train")
    total = steps_per_epoch(len(store), config) * config.epochs
    if config.batch_size % workers:
        raise InputError(
            f"params.yaml: train.workers: {workers} workers cannot share a batch of {config.batch_size} evenly"
        )
    run_name = f"{name}-{_result_hash(store.key, config, workers, resources)}"
    run_storage = storage.absolute() / run_name
    run_storage.mkdir(parents=True, exist_ok=True)
    job = TrainJob(str(features.absolute()), str(run_storage), config, threads=max(1, int(resources.cpu)))
    with _following(job.curve, total, on_progress):
        _fit(job, run_name, storage.absolute(), workers, resources)
    method = build_method([shape[0] for shape in store.shapes], store.key.image_size, config)
    method.load_state_dict(_read_checkpoint(job.checkpoint, torch.device("cpu"))["method"])
    steps = read_curve(job.curve)
    remove(run_storage)
    return method.eval(), steps


def _fit(job: TrainJob, run_name: str, storage: Path, workers: int, resources: ResourcesConfig) -> None:
    """Run the trainer to its end.

    A single worker runs in this process (Ray Train's local mode: no cluster has to start for it); several run on a Ray of their own,
    and with RAY_ADDRESS any number on that cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray.train  # sets its own log level, so ours has to come after it

    for name in ("ray", "ray.train"):
        logging.getLogger(name).setLevel(logging.WARNING)
    address = os.environ.get("RAY_ADDRESS")
    if workers == 1 and not address:
        available = {"CPU": os.cpu_count() or 1, "GPU": torch.cuda.device_count()}
        _trainer(job, run_name, storage, 0, _gpus_per_worker(workers, resources, available), resources).fit()
        return
    if not address:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # else Ray puts a token into the home directory
    from ray.train.v2.api.exceptions import TrainingFailedError

    local = {} if address else {"include_dashboard": False}
    ray.init(address=address, logging_level="ERROR", log_to_driver=False, **local)
    try:
        gpus = _gpus_per_worker(workers, resources, ray.cluster_resources())
        _trainer(job, run_name, storage, workers, gpus, resources).fit()
    except TrainingFailedError as error:
        raise _cause(error) from error
    finally:
        ray.shutdown()


def _trainer(
    job: TrainJob, run_name: str, storage: Path, workers: int, gpus: float, resources: ResourcesConfig
) -> "TorchTrainer":
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    each = {"CPU": resources.cpu, "GPU": gpus}
    return TorchTrainer(
        _train_worker,
        train_loop_config={"job": replace(job, use_gpu=gpus > 0)},
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
    make_deterministic(config.seed, device)
    store = FeatureStore(Path(job.features), "train")
    method = place(build_method([shape[0] for shape in store.shapes], store.key.image_size, config), device)
    optimizer = method.optimizer(method.parameters())
    first_epoch = 0
    if job.checkpoint.exists():
        state = _read_checkpoint(job.checkpoint, device)
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
        first_epoch = state["epoch"]
    model = ray.train.torch.prepare_model(method, move_to_device=False)

    if share.rank == 0:
        _truncate_curve(job.curve, first_epoch * steps_per_epoch(len(store), config))
    for epoch in range(first_epoch, config.epochs):
        for step in train_epoch(model, method, optimizer, store, config, epoch, share, _mean_over_workers):
            if share.rank == 0:
                _append_curve(job.curve, step)
        done = epoch + 1
        if done % config.checkpoint_epochs == 0 or done == config.epochs:
            if share.rank == 0:
                state = {"method": method.state_dict(), "optimizer": optimizer.state_dict(), "epoch": done}
                with atomic_path(job.checkpoint) as temporary:
                    torch.save(state, temporary)
            ray.train.report({"epoch": done})  # every worker waits here for the others


def _read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    return torch.load(path, weights_only=True, map_location=device)


def _mean_over_workers(value: Tensor) -> float:
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        torch.distributed.all_reduce(value)
        value = value / torch.distributed.get_world_size()
    return float(value)


def _gpus_per_worker(workers: int, resources: ResourcesConfig, available: dict[str, float]) -> float:
    """Return the GPUs of each worker; `InputError` when the cluster does not have what is asked for (Ray would wait for ever)."""
    gpus = available.get("GPU", 0)
    per_worker = (1 if gpus >= workers else 0) if resources.gpu == "auto" else resources.gpu
    for kind, each in (("cpu", resources.cpu), ("gpu", per_worker)):
        there = available.get(kind.upper(), 0)
        if each * workers > there:
            raise InputError(
                f"params.yaml: train.resources_per_worker.{kind}: {workers} x {each:g} asked for, Ray has {there:g} {kind.upper()}s"
            )
    return per_worker


def _cause(error: Exception) -> Exception:
    """Return the mistake behind a failed run as an `InputError` of one line, or the failure itself."""
    failures = list(getattr(error, "worker_failures", {}).values()) or [error.__cause__]
    for failure in failures:
        cause = getattr(failure, "cause", failure)
        if isinstance(cause, InputError):
            return cause
    return error


def _result_hash(key: FeatureKey, config: TrainConfig, workers: int, resources: ResourcesConfig) -> str:
    """Hash of all that the trained weights depend on (how often a checkpoint is written is no part of it)."""
    recipe = {name: value for name, value in asdict(config).items() if name != "checkpoint_epochs"}
    value = [asdict(key), recipe, workers, asdict(resources), torch.__version__]
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def curve_csv(steps: Iterable[Step]) -> str:
    """Return a loss curve as CSV with the columns `CURVE_HEADER`; epochs are counted from 1."""
    return "".join([f"{CURVE_HEADER}\n", *map(_curve_line, steps)])


def _curve_line(step: Step) -> str:
    return f"{step.step},{step.epoch + 1},{step.loss:.9g},{step.learning_rate:.9g}\n"


def _append_curve(path: Path, step: Step) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(_curve_line(step))


def _truncate_curve(path: Path, steps: int) -> None:
    """Start the curve, or after a resume forget what came behind the checkpoint."""
    write_text(path, curve_csv(step for step in read_curve(path) if step.step <= steps))


def read_curve(path: Path) -> list[Step]:
    """Read the steps of a loss curve (CSV with the columns `CURVE_HEADER`, epochs counted from 1); a half-written line is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[1:-1]
    rows = (line.split(",") for line in lines)
    return [Step(int(step), int(epoch) - 1, float(loss), float(rate)) for step, epoch, loss, rate in rows]


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
