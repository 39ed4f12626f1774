"""Ray Train around the training loop: the only module that knows Ray.

A run's storage lies in the workspace under a name that carries a hash of everything that determines the result, so an interrupted
run continues from its last checkpoint and a run of other settings never does.
"""

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from invad.config import ResourcesConfig, TrainConfig
from invad.devices import make_deterministic, place
from invad.errors import InputError
from invad.features import FeatureKey, FeatureStore
from invad.files import remove, write_text
from invad.methods import build_method
from invad.training.loop import Share, Step, steps_per_epoch, train_epoch

CHECKPOINT_FILE, CURVE_FILE = "checkpoint.pt", "curve.csv"
CURVE_HEADER = "step,epoch,loss,learning_rate"
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class TrainJob:
    """What a worker needs to know; sent to it by Ray.

    `features`: absolute folder of the feature store. `storage`: absolute folder of the run's checkpoints and curve.
    """

    features: str
    storage: str
    key: FeatureKey
    train: TrainConfig
    threads: int

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
    job = TrainJob(str(features.absolute()), str(run_storage), store.key, config, threads=max(1, int(resources.cpu)))
    with _following(job.curve, total, on_progress):
        state = _fit(job, run_name, storage.absolute(), workers, resources)
    method = build_method([shape[0] for shape in store.shapes], store.key.image_size, config)
    method.load_state_dict(state)
    steps = read_curve(job.curve)
    remove(run_storage)
    return method.eval(), steps


def _fit(job: TrainJob, run_name: str, storage: Path, workers: int, resources: ResourcesConfig) -> dict[str, Tensor]:
    """Run the trainer on a local Ray, or on the cluster of RAY_ADDRESS, and return the trained weights."""
    address = os.environ.get("RAY_ADDRESS")
    if address is None:  # a Ray of our own: no token in the home directory, no usage report
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

    import ray
    from ray.train import CheckpointConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    local = {} if address else {"include_dashboard": False}
    ray.init(address=address, logging_level="ERROR", log_to_driver=False, **local)
    try:
        gpus = _gpus_per_worker(workers, resources, ray.cluster_resources())
        trainer = TorchTrainer(
            _train_worker,
            train_loop_config={"job": job},
            scaling_config=ScalingConfig(
                num_workers=workers, use_gpu=gpus > 0, resources_per_worker={"CPU": resources.cpu, "GPU": gpus}
            ),
            run_config=RunConfig(
                name=run_name, storage_path=str(storage), checkpoint_config=CheckpointConfig(num_to_keep=2)
            ),
        )
        try:
            result = trainer.fit()
        except TrainingFailedError as error:
            raise _cause(error) from error
        with result.checkpoint.as_directory() as folder:
            return torch.load(Path(folder) / CHECKPOINT_FILE, weights_only=True, map_location="cpu")["method"]
    finally:
        ray.shutdown()


def _train_worker(loop_config: dict[str, TrainJob]) -> None:
    """Run on every worker: build, resume where there is a checkpoint, train, report checkpoints."""
    import ray.train
    import ray.train.torch

    job = loop_config["job"]
    config = job.train
    context = ray.train.get_context()
    share = Share(context.get_world_rank(), context.get_world_size())
    device = ray.train.torch.get_device()
    torch.set_num_threads(job.threads)
    make_deterministic(config.seed, device)
    store = FeatureStore(Path(job.features), "train")
    method = place(build_method([shape[0] for shape in store.shapes], store.key.image_size, config), device)
    optimizer = method.optimizer(method.parameters())
    first_epoch = 0
    if checkpoint := ray.train.get_checkpoint():
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder) / CHECKPOINT_FILE, weights_only=True, map_location=device)
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
        first_epoch = state["epoch"]
    model = ray.train.torch.prepare_model(method)

    if share.rank == 0:
        _truncate_curve(job.curve, first_epoch * steps_per_epoch(len(store), config))
    for epoch in range(first_epoch, config.epochs):
        steps = train_epoch(model, method, optimizer, store, config, epoch, share, _mean_over_workers)
        for step in steps:
            if share.rank == 0:
                _append_curve(job.curve, step)
        done = epoch + 1
        if done % config.checkpoint_epochs == 0 or done == config.epochs:
            _report({"method": method.state_dict(), "optimizer": optimizer.state_dict(), "epoch": done}, share)


def _report(state: dict[str, object], share: Share) -> None:
    """Hand Ray a checkpoint: every worker must call, worker 0 brings the files."""
    import ray.train
    from ray.train import Checkpoint

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = None
        if share.rank == 0:
            torch.save(state, Path(folder) / CHECKPOINT_FILE)
            checkpoint = Checkpoint.from_directory(folder)
        ray.train.report({"epoch": state["epoch"]}, checkpoint=checkpoint)


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
        if isinstance(cause, InputError | FloatingPointError):
            return InputError(str(cause))
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
