"""One training and all that is scored of it, in one process: features -> network -> maps -> metrics -> `result.json`."""

import math
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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
from invad.report.ablations import TrialResult
from invad.scoring.score import predictions, write_phase
from invad.scoring.store import open_scores
from invad.studies.study import Trial
from invad.training.cost import model_cost
from invad.training.job import TrainJob, run_job
from invad.training.model_folder import ModelConfig, load_model, save_model

VALIDATION_SCORE = "validation_score"
SCORED_BY = ("image_auroc", "pixel_auroc", "pixel_ap")  # whose mean it is
MODEL, NOTES_FILE = "model", "notes.json"  # of a training, beside its curve
RESULT_FILE, TRACE_FILE, LOGGED_FILE = "result.json", "traceback.txt", "logged"  # of a trial

Report = Callable[[int, float], None]


@dataclass(frozen=True)
class TrialTask:
    """A training and the trials that score it, which are equal but for the section `score`. Ray sends it, so paths are absolute.

    `folder`: of the study. `trials`: by name. `judged`, `judged_features`: the images, in phase `test`, that trials are scored on, and the
    folder of their features; `lacking`: why there are none. `milestones`: the epochs after which the score is told. `keep`: the weights.
    """

    folder: str
    trials: tuple[tuple[str, Trial], ...]
    job: TrainJob
    judged: Split
    keep: bool = False
    judged_features: str = ""
    lacking: str = ""
    milestones: tuple[int, ...] = ()

    @property
    def benchmark(self) -> BenchmarkConfig:
        """The settings of the first trial; those of features and training are the same for all."""
        return self.trials[0][1].benchmark

    @property
    def storage(self) -> Path:
        """The folder of checkpoints, curve and trained weights, called like the training."""
        return Path(self.job.storage)

    def trial_folder(self, name: str) -> Path:
        """Return the folder of a trial's result."""
        return trial_folder(Path(self.folder), name)

    def pending(self) -> list[tuple[str, Trial]]:
        """Return the trials without a result."""
        return [(name, trial) for name, trial in self.trials if not (self.trial_folder(name) / RESULT_FILE).exists()]

    def result(self, name: str) -> TrialResult:
        """Return the result of a trial that has ended."""
        if (result := read_result(self.trial_folder(name))) is None:
            raise RuntimeError(f"trial {name} has ended without a result")
        return result


def trial_folder(study: Path, name: str) -> Path:
    """Return the folder of a trial's result in the study's folder."""
    return study / "trials" / name


def write_result(result: TrialResult, folder: Path) -> None:
    """Write the result of the trial whose folder is `folder`, all of it or nothing."""
    numbers = {
        key: value if value is not None and math.isfinite(value) else None for key, value in result.metrics.items()
    }
    write_json(folder / RESULT_FILE, asdict(result) | {"metrics": numbers})


def read_result(folder: Path) -> TrialResult | None:
    """Return the result of the trial whose folder is `folder`, or None where it has none yet; `InputError` where the file is damaged."""
    path = folder / RESULT_FILE
    try:
        return TrialResult(**read_json(path)) if path.exists() else None
    except TypeError:
        raise InputError(f"{path}: not the result of a trial; remove it, and the trial runs again") from None


def attempt(task: TrialTask, report: Report) -> None:
    """Run a task; whatever it raises becomes the result of its trials, and the traceback a file beside it."""
    try:
        run_task(task, report)
    except Exception as error:
        for name, _ in task.pending():
            write_text(task.trial_folder(name) / TRACE_FILE, traceback.format_exc())
        end_without_metrics(task, reason(error))


def run_task(task: TrialTask, report: Report) -> None:
    """Train, from the newest checkpoint where there is one, and write the result of every trial that has none.

    `report`: called with an epoch of `milestones` that has ended, counted from 1, and its score; first with those of earlier starts, also
    where nothing is left to do.

    Raises:
        InputError: There are no features, the settings do not fit the data, or the loss is not finite.
    """
    path = task.storage / NOTES_FILE
    notes = read_json(path) if path.exists() else {"seconds": 0.0, "scores": {}}
    for epoch, score in notes["scores"].items():
        report(int(epoch), score)
    if not task.pending():
        return
    if task.lacking:
        raise InputError(task.lacking)
    device = best_device()
    method = _trained(task, device, report, notes).eval()
    cost = model_cost(task.benchmark, method)
    for name, trial in task.pending():
        result = TrialResult(
            trial.variant,
            trial.seed,
            "finished",
            parameters=cost.trainable,
            multiply_adds=cost.multiply_adds,
            seconds=notes["seconds"],
            epochs=trial.benchmark.train.epochs,
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
            metrics=_metrics(method, task, trial.benchmark),
        )
        write_result(result, task.trial_folder(name))
        remove(task.trial_folder(name) / TRACE_FILE)
    _tidy(task)


def end_without_metrics(task: TrialTask, error: str, epochs: int = 0) -> None:
    """Give the trials that have no result the one that they have failed, or without an `error`, that they were stopped after `epochs`."""
    status, after = ("failed", None) if error else ("stopped", epochs)
    for name, trial in task.pending():
        write_result(TrialResult(trial.variant, trial.seed, status, error, epochs=after), task.trial_folder(name))
    if not error:  # what has failed is tried again
        _tidy(task)


def _tidy(task: TrialTask) -> None:
    """Remove checkpoints, and the trained weights unless they are kept; the curve stays."""
    for path in task.storage.glob("checkpoint-*"):
        remove(path)
    if not task.keep:
        remove(task.storage / MODEL)


def reason(error: BaseException) -> str:
    """Return one line that says what went wrong."""
    text = " ".join((str(error).strip() or "no message").splitlines()[0].split())[:300]
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


def _trained(task: TrialTask, device: torch.device, report: Report, notes: dict[str, Any]) -> Method:
    """Return the trained method on `device`; note the seconds that its training took, without interruptions, and scores by epoch."""
    benchmark, folder = task.benchmark, task.storage / MODEL
    if folder.is_dir():
        torch.set_num_threads(task.job.threads)
        return place(load_model(folder)[0], device, benchmark.train)
    task.storage.mkdir(parents=True, exist_ok=True)
    before, started, scoring = notes["seconds"], time.monotonic(), 0.0

    def at_checkpoint(_step: int) -> None:
        notes["seconds"] = round(before + time.monotonic() - started - scoring, 3)
        write_json(task.storage / NOTES_FILE, notes)

    def after_epoch(epoch: int, method: Method) -> None:
        nonlocal scoring
        if epoch in task.milestones and str(epoch) not in notes["scores"]:
            since = time.monotonic()
            score = _metrics(method.eval(), task, benchmark)[VALIDATION_SCORE] or 0.0
            notes["scores"][str(epoch)] = score
            write_json(task.storage / NOTES_FILE, notes)
            place(method, device, benchmark.train)
            scoring += time.monotonic() - since
            report(epoch, score)

    method, _ = run_job(task.job, device, at_checkpoint=at_checkpoint, after_epoch=after_epoch)
    save_model(method, ModelConfig.of(benchmark, task.job.split, task.job.open_features().key), folder)
    return method


def _metrics(method: Method, task: TrialTask, benchmark: BenchmarkConfig) -> dict[str, float | None]:
    """Return the mean over the classes by the paper's protocol on the judging images, and the one number that samples are compared by.

    Maps and masks lie on the disk meanwhile, never together in memory.
    """
    config, source = benchmark.score, open_features(Path(task.judged_features), "test", task.judged, benchmark.features)
    batches = batch_source(source, method.needs, task.judged, "test", benchmark.features)
    with TemporaryDirectory(dir=task.storage) as folder:
        scored = predictions(place(method, best_device(), config), batches, config)
        write_phase(scored, task.judged, "test", benchmark.features.image_size, Path(folder) / "scores")
        scores = open_scores(Path(folder) / "scores")
        images = (scores.maps_nhw, scores.masks_nhw, scores.classes, scores.labels, scores.image_scores)
        result = metrics.evaluate(*images, protocol="paper", has_mask=scores.has_mask)
    values = dict(result["mean"]["paper"])
    if task.job.rows is None:  # by the test images, which choose nothing
        return values
    parts = [value for key in SCORED_BY if (value := values[key]) is not None]
    return {VALIDATION_SCORE: sum(parts) / len(parts) if len(parts) == len(SCORED_BY) else None, **values}
