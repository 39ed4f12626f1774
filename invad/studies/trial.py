"""One training and all that is scored of it, in one process: features -> network -> maps -> metrics -> `result.json`."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from invad import metrics
from invad.config import BenchmarkConfig
from invad.data.split_table import Split
from invad.devices import best_device, place
from invad.errors import InputError
from invad.features import open_features
from invad.features.batches import batch_source
from invad.files import read_json, remove, write_json, write_text
from invad.methods import Method
from invad.scoring.score import predictions, write_phase
from invad.scoring.store import open_scores
from invad.studies.results import TrialResult, read_result, write_result
from invad.studies.study import Trial
from invad.studies.validation import ValidationSplit
from invad.training.checkpoints import newest_step
from invad.training.counting import multiply_adds, parameter_count
from invad.training.job import CURVE_FILE, TrainJob, run_job
from invad.training.model_folder import ModelConfig, load_model, save_model

VALIDATION_SCORE = "validation_score"
SCORED_BY = ("image_auroc", "pixel_auroc", "pixel_ap")  # whose mean it is
MODEL, TIME_FILE, TRACE_FILE = "model", "time.json", "traceback.txt"

Report = Callable[[int, float], None]


@dataclass(frozen=True)
class Validation:
    """What a trial is judged by while it runs, or instead of the test images. `features`: the folder of the images' features."""

    split: ValidationSplit
    features: str


@dataclass(frozen=True)
class TrialTask:
    """A training and the trials that score it, which are equal but for the section `score`. Ray sends it, so paths are absolute.

    `folder`: of the study; `training`: name of the training. `trials`: by name. `split`, `features`: images, and the folder of their
    features. `test`: whether the test images are scored, else those of `validation`. `milestones`: the epochs after which the score on
    these is told. `keep`: leave the trained weights there, for trials to come.
    """

    folder: str
    training: str
    trials: tuple[tuple[str, Trial], ...]
    split: Split
    features: str
    validation: Validation | None
    test: bool
    checkpoint_steps: int
    threads: int
    milestones: tuple[int, ...] = ()
    keep: bool = False

    @property
    def benchmark(self) -> BenchmarkConfig:
        """The settings of the first trial; those of features and training are the same for all."""
        return self.trials[0][1].benchmark

    @property
    def storage(self) -> Path:
        """The folder of checkpoints, curve and trained weights."""
        return Path(self.folder) / "trained" / self.training

    @property
    def curve(self) -> Path:
        """The loss curve."""
        return self.storage / CURVE_FILE

    def trial_folder(self, name: str) -> Path:
        """Return the folder of a trial's result."""
        return trial_folder(Path(self.folder), name)

    def pending(self) -> list[tuple[str, Trial]]:
        """Return the trials without a final result."""
        return [(name, trial) for name, trial in self.trials if not is_done(read_result(self.trial_folder(name)))]


def trial_folder(study: Path, name: str) -> Path:
    """Return the folder of a trial's result in the study's folder."""
    return study / "trials" / name


def is_done(result: TrialResult | None) -> bool:
    """Return whether a trial has ended for good; one that has failed is tried again."""
    return result is not None and result.status != "failed"


def attempt(task: TrialTask, report: Report) -> None:
    """Run a task; whatever it raises becomes the result of its trials, and the traceback a file beside it."""
    try:
        run_task(task, report)
    except Exception as error:
        write_failure(task, reason(error))
        for name, _ in task.pending():
            write_text(task.trial_folder(name) / TRACE_FILE, traceback.format_exc())


def run_task(task: TrialTask, report: Report) -> None:
    """Train, from the newest checkpoint where there is one, and write the result of every trial that has none.

    Args:
        task: What to run.
        report: Called with an epoch of `milestones` that has ended, counted from 1, and the score on the validation images.

    Raises:
        InputError: The settings do not fit the data, or the loss is not finite.
    """
    device = best_device()
    method, seconds = _trained(task, device, report)
    method = method.eval()
    cost = multiply_adds(task.benchmark, method)
    for name, trial in task.pending():
        result = TrialResult(
            variant=trial.variant,
            seed=trial.seed,
            status="finished",
            parameters=parameter_count(method),
            multiply_adds=cost,
            seconds=seconds,
            epochs=trial.benchmark.train.epochs,
            device=_device_name(device),
            metrics=_test_metrics(method, task, trial) if task.test else _validation_metrics(method, task, trial),
        )
        write_result(result, task.trial_folder(name))
        remove(task.trial_folder(name) / TRACE_FILE)
    tidy(task)


def write_failure(task: TrialTask, error: str) -> None:
    """Give the trials that have no final result the one that they failed."""
    for name, trial in task.pending():
        write_result(TrialResult(trial.variant, trial.seed, "failed", error), task.trial_folder(name))


def write_stop(task: TrialTask, epochs: int) -> None:
    """Give the trials that have no final result the one that they were stopped after `epochs`."""
    for name, trial in task.pending():
        write_result(TrialResult(trial.variant, trial.seed, "stopped", epochs=epochs), task.trial_folder(name))
    tidy(task)


def tidy(task: TrialTask) -> None:
    """Remove checkpoints, and the trained weights unless they are kept; the curve stays."""
    for path in task.storage.glob("checkpoint-*"):
        remove(path)
    if not task.keep:
        remove(task.storage / MODEL)


def reason(error: BaseException) -> str:
    """Return one line that says what went wrong."""
    text = " ".join((str(error).strip() or "no message").splitlines()[0].split())[:300]
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


def _trained(task: TrialTask, device: torch.device, report: Report) -> tuple[Method, float]:
    """Return the trained method on `device`, and the seconds that its training took, all interruptions left out."""
    benchmark, folder, times = task.benchmark, task.storage / MODEL, task.storage / TIME_FILE
    if folder.is_dir():
        torch.set_num_threads(task.threads)
        method, _ = load_model(folder)
        return place(method, device, benchmark.train), read_json(times)["seconds"]
    job = TrainJob(
        folder=task.features,
        split=task.split,
        features=benchmark.features,
        storage=str(task.storage),
        train=benchmark.train,
        checkpoint_steps=task.checkpoint_steps,
        threads=task.threads,
        rows=None if task.validation is None else task.validation.split.train_rows,
    )
    task.storage.mkdir(parents=True, exist_ok=True)
    known = read_json(times) if times.exists() else {}
    before = known["seconds"] if known.get("step") == newest_step(task.storage) else 0.0
    started, judging = time.monotonic(), 0.0

    def elapsed() -> float:
        return round(before + time.monotonic() - started - judging, 3)

    def after_epoch(epoch: int, method: Method) -> None:
        nonlocal judging
        if epoch in task.milestones:
            since = time.monotonic()
            report(epoch, _validation_metrics(method.eval(), task, task.trials[0][1])[VALIDATION_SCORE] or 0.0)
            place(method, device, benchmark.train)
            judging += time.monotonic() - since

    method, _ = run_job(
        job,
        device,
        at_checkpoint=lambda step: write_json(times, {"step": step, "seconds": elapsed()}),
        after_epoch=after_epoch,
    )
    seconds = elapsed() if newest_step(task.storage) != known.get("step") else before
    write_json(times, {"step": newest_step(task.storage), "seconds": seconds})
    save_model(method, ModelConfig.of(benchmark, task.split, job.open_features().key), folder)
    return method, seconds


def _test_metrics(method: Method, task: TrialTask, trial: Trial) -> dict[str, float | None]:
    return _metrics(method, task.split, Path(task.features), trial.benchmark, task.storage)


def _validation_metrics(method: Method, task: TrialTask, trial: Trial) -> dict[str, float | None]:
    """Return the metrics on the validation images, and the one number that trials are compared by."""
    if task.validation is None:
        raise ValueError("a task without test images needs a validation split")
    values = _metrics(
        method, task.validation.split.split, Path(task.validation.features), trial.benchmark, task.storage
    )
    parts = [value for value in (values[key] for key in SCORED_BY) if value is not None]
    score = sum(parts) / len(parts) if len(parts) == len(SCORED_BY) else None
    return {VALIDATION_SCORE: score, **values}


def _metrics(
    method: Method, split: Split, features: Path, benchmark: BenchmarkConfig, scratch: Path
) -> dict[str, float | None]:
    """Return the mean over the classes by the paper's protocol; maps and masks lie in `scratch` meanwhile, never together in memory."""
    config = benchmark.score
    source = open_features(features, "test", split, benchmark.features)
    batches = batch_source(source, method.needs, split, "test", benchmark.features)
    with TemporaryDirectory(dir=scratch) as folder:
        scored = predictions(place(method, best_device(), config), batches, config)
        write_phase(scored, split, "test", benchmark.features.image_size, Path(folder) / "scores")
        scores = open_scores(Path(folder) / "scores")
        result = metrics.evaluate(
            scores.maps_nhw,
            scores.masks_nhw,
            scores.classes,
            scores.labels,
            scores.image_scores,
            protocol="paper",
            has_mask=scores.has_mask,
        )
    return dict(result["mean"]["paper"])


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
