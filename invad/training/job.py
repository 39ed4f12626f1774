"""One training from its settings to its weights: resumed where it was interrupted, its checkpoints and curve in a folder of its own.

Plain torch: a process of its own, or one of several workers that Ray has started.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import torch

from invad.config import FeaturesConfig, TrainConfig, WorkersConfig
from invad.config.closure import code_digest
from invad.data.split_table import Split
from invad.devices import make_deterministic, place
from invad.errors import InputError
from invad.features import FeatureKey, FeatureSource, open_features
from invad.features.batches import batch_source
from invad.features.encoder import configured_encoder
from invad.methods import METHODS, Method, build_method
from invad.training.batch_norm import synchronised
from invad.training.checkpoints import Checkpoints
from invad.training.curve import Step, append_step, read_curve, truncate_curve
from invad.training.loop import ALONE, NotFiniteError, Share, Trainer
from invad.training.model_folder import write_weights

CURVE_FILE = "curve.csv"


@dataclass(frozen=True)
class TrainJob:
    """What a worker needs to know; Ray sends it, so paths are absolute. On a cluster all nodes have to see them.

    `folder`, `split`, `features`: where the training features come from, as for `open_features`. `storage`: folder of the checkpoints
    and the curve of this run alone. `checkpoint_steps`: a checkpoint is written after each so many steps, and after the last one.
    `threads`: of torch, in each worker. `rows`: which of the training images are used, None for all. `snapshots`: after which steps the
    weights are kept beside the checkpoints, in `snapshot(step)`.
    """

    folder: str
    split: Split
    features: FeaturesConfig
    storage: str
    train: TrainConfig
    checkpoint_steps: int
    threads: int
    rows: tuple[int, ...] | None = None
    snapshots: tuple[int, ...] = ()

    def snapshot(self, step: int) -> Path:
        """The file of the weights after a step, as safetensors."""
        return Path(self.storage) / f"snapshot-{step:08d}.safetensors"

    @property
    def checkpoints(self) -> Checkpoints:
        """The run's checkpoints."""
        return Checkpoints(Path(self.storage))

    @property
    def curve(self) -> Path:
        """The file that worker 0 appends a line to after every step."""
        return Path(self.storage) / CURVE_FILE

    def open_features(self) -> FeatureSource:
        """Open the features of all training images."""
        return open_features(Path(self.folder), "train", self.split, self.features)


def run_job(
    job: TrainJob,
    device: torch.device,
    *,
    share: Share = ALONE,
    after_step: Callable[[Step], None] = lambda step: None,
    at_checkpoint: Callable[[int], None] = lambda step: None,
) -> tuple[Method, list[Step]]:
    """Train, from the newest checkpoint in the job's storage where there is one; return the method on `device` and the whole curve.

    Worker 0 of `share` writes the curve and the checkpoints, and only its curve is whole when this returns. Every worker calls `after_step`
    after every step, and `at_checkpoint` with the step after which a checkpoint was written. `InputError`: the settings do not fit the
    data, or the loss is not finite; then it names the last good checkpoint.
    """
    torch.set_num_threads(job.threads)
    features = job.open_features()
    make_deterministic(job.train.seed, device)
    method = build_method(features.key.output, job.train)
    if job.train.ENCODER == "own":
        method.adopt(configured_encoder(job.features))
    if share.world_size > 1:
        method = synchronised(method)
    source = batch_source(features, method.needs, job.split, "train", job.features, job.rows)
    trainer = Trainer(place(method, device, job.train), source, job.train, share)
    done = _resume(trainer, job, share)
    try:
        for step in trainer.steps(done):
            if share.rank == 0:
                append_step(job.curve, step)
            after_step(step)
            if step.step in job.snapshots and share.rank == 0:
                write_weights(method, job.snapshot(step.step))
            if step.step % job.checkpoint_steps == 0 or step.step == trainer.total:
                _save(trainer, job, step.step, share)
                at_checkpoint(step.step)
        if method.fits and done <= trainer.total:
            if share.rank == 0:  # whose checkpoint is the result; the others wait for it
                trainer.fit()
            _save(trainer, job, trainer.total + 1, share)
            at_checkpoint(trainer.total + 1)
    except NotFiniteError as error:
        paths = job.checkpoints.paths()
        last = f"the last good checkpoint is {paths[0]}" if paths else "there is no checkpoint yet"
        other = " or `precision: float32`" if job.train.precision != "float32" else ""
        raise InputError(f"{error}; {last}; try a lower learning_rate{other}") from None
    return method, read_curve(job.curve)


def _resume(trainer: Trainer, job: TrainJob, share: Share) -> int:
    """Load the newest checkpoint and return after how many steps it was written; 0 when there is none."""
    state, done = job.checkpoints.newest(), 0
    if state is not None:
        done = state["step"]
        trainer.load_state_dict(state["trainer"], done)
    # A file system may show them different files.
    if share.mean(torch.tensor(float(done), device=trainer.method.device)) != done:
        raise InputError(
            f"{job.storage}: the workers do not see the same checkpoints; put it on a file system they share"
        )
    if share.rank == 0:
        truncate_curve(job.curve, done)
    return done


def _save(trainer: Trainer, job: TrainJob, step: int, share: Share) -> None:
    if share.rank == 0:
        job.checkpoints.save(step, {"trainer": trainer.state_dict(), "step": step})


def storage_name(
    name: str, key: FeatureKey, config: TrainConfig, workers: WorkersConfig, snapshots: Sequence[int] = ()
) -> str:
    """Return the name of the storage of a benchmark's training; how often a checkpoint is written is no part of it."""
    # Several workers round otherwise than one, and so do several threads. A training that went on would lack earlier snapshots.
    return f"{name}-{result_hash(key, config, workers.workers, workers.resources_per_worker, *snapshots)}"


def result_hash(key: FeatureKey, config: TrainConfig, *more: Any) -> str:  # noqa: ANN401  (anything that JSON can hold)
    """Return 16 hex digits of all that trained weights depend on: features, recipe, code, torch, and `more` (plain or dataclass)."""
    value = [
        key,
        config,
        *more,
        code_digest("invad.cluster.train", METHODS[config.model].__module__),
        torch.__version__,
    ]
    plain = [asdict(item) if is_dataclass(item) and not isinstance(item, type) else item for item in value]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
