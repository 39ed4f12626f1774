"""One training and all that is scored of it, in one process: features -> network -> maps -> metrics -> `result.json`."""

import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
from invad.report.ablations import TrialResult
from invad.scoring.score import predictions, write_phase
from invad.scoring.store import open_scores
from invad.studies.study import Trial
from invad.training.cost import forget_peak_memory, model_cost, peak_memory
from invad.training.job import TrainJob, run_job
from invad.training.loop import views_of

VALIDATION_SCORE = "validation_score"
SCORED_BY = ("image_auroc", "pixel_auroc", "pixel_ap")  # whose mean it is
SECONDS_FILE = "seconds.json"  # of a training, beside its curve
RESULT_FILE, TRACE_FILE = "result.json", "traceback.txt"  # of a trial


@dataclass(frozen=True)
class TrialTask:
    """A training and the trials that score it, which are equal but for the section `score`. Ray sends it, so paths are absolute.

    `folder`: of the study. `trials`: by name. `judged`, `judged_features`: the images, in phase `test`, that trials are scored on, and the
    folder of their features; `lacking`: why there are none.
    """

    folder: str
    trials: tuple[tuple[str, Trial], ...]
    job: TrainJob
    judged: Split
    judged_features: str = ""
    lacking: str = ""

    @property
    def storage(self) -> Path:
        """The folder of checkpoints and curve, called like the training."""
        return Path(self.job.storage)

    def pending(self) -> dict[str, Trial]:
        """Return the trials without a result."""
        folders = {name: trial_folder(self.folder, name) for name, _ in self.trials}
        return {name: trial for name, trial in self.trials if not (folders[name] / RESULT_FILE).exists()}

    def result(self, name: str) -> TrialResult:
        """Return the result of a trial that has ended."""
        if (result := read_result(trial_folder(self.folder, name))) is None:
            raise RuntimeError(f"trial {name} has ended without a result")
        return result


def trial_folder(study: str, name: str) -> Path:
    """Return the folder of a trial's result in the study's folder."""
    return Path(study) / "trials" / name


def read_result(folder: Path) -> TrialResult | None:
    """Return the result of the trial whose folder is `folder`, or None where it has none yet; `InputError` where the file is damaged."""
    path = folder / RESULT_FILE
    try:
        return TrialResult(**read_json(path)) if path.exists() else None
    except TypeError:
        raise InputError(f"{path}: not the result of a trial; remove it, and the trial runs again") from None


def attempt(tasks: Mapping[str, TrialTask], name: str) -> None:
    """Run the task of a training; whatever it raises becomes the result of its trials, and the traceback a file beside it."""
    task = tasks[name]
    try:
        run_task(task)
    except Exception as error:
        for trial in task.pending():
            write_text(trial_folder(task.folder, trial) / TRACE_FILE, traceback.format_exc())
        fail(task, reason(error))


def run_task(task: TrialTask) -> None:
    """Train, from the newest checkpoint, and write all results that lack; `InputError`: settings or features do not fit."""
    if task.lacking:
        raise InputError(task.lacking)
    forget_peak_memory()
    device = best_device()
    method, seconds = _trained(task, device)
    benchmark = task.trials[0][1].benchmark
    cost = model_cost(benchmark, method.eval(), views_of(task.judged.phase("test"), benchmark.train))
    for name, trial in task.pending().items():
        started = time.monotonic()
        values = _metrics(method, task, trial.benchmark)
        result = TrialResult(
            trial.variant,
            trial.seed,
            "finished",
            parameters=cost.trainable,
            multiply_adds=cost.multiply_adds,
            seconds=seconds,
            images_per_second=len(task.judged.phase("test")) / (time.monotonic() - started),
            memory=peak_memory(),
            epochs=trial.benchmark.train.epochs,
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
            metrics=values,
        )
        folder = trial_folder(task.folder, name)
        write_json(folder / RESULT_FILE, asdict(result))
        remove(folder / TRACE_FILE)
    for path in task.storage.glob("checkpoint-*"):  # the curve stays
        remove(path)


def fail(task: TrialTask, error: str) -> None:
    """Give the trials that have no result the one that they have failed."""
    for name, trial in task.pending().items():
        result = TrialResult(trial.variant, trial.seed, "failed", error)
        write_json(trial_folder(task.folder, name) / RESULT_FILE, asdict(result))


def reason(error: BaseException) -> str:
    """Return one line that says what went wrong."""
    text = " ".join((str(error).strip() or "no message").splitlines()[0].split())[:300]
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


def _trained(task: TrialTask, device: torch.device) -> tuple[Method, float]:
    """Return the trained method on `device`, and the seconds that its training took, without interruptions."""
    task.storage.mkdir(parents=True, exist_ok=True)
    path, started = task.storage / SECONDS_FILE, time.monotonic()
    before = read_json(path) if path.exists() else 0.0

    def at_checkpoint(_step: int) -> None:
        write_json(path, round(before + time.monotonic() - started, 3))

    method, _ = run_job(task.job, device, at_checkpoint=at_checkpoint)
    return method, read_json(path)


def _metrics(method: Method, task: TrialTask, benchmark: BenchmarkConfig) -> dict[str, float | None]:
    """Return the means by the paper's protocol, and the score of validation; maps and masks lie on the disk meanwhile."""
    config, source = benchmark.score, open_features(Path(task.judged_features), "test", task.judged, benchmark.features)
    batches = batch_source(source, method.needs, task.judged, "test", benchmark.features)
    with TemporaryDirectory(dir=task.storage) as folder:
        scored = predictions(place(method, best_device(), config), batches, config)
        write_phase(scored, task.judged, "test", benchmark.features.image_size, Path(folder) / "scores")
        scores = open_scores(Path(folder) / "scores")
        images = (scores.maps_nhw, scores.masks_nhw, scores.classes, scores.labels, scores.image_scores)
        how = {"has_mask": scores.has_mask, "groups": scores.groups, "empty_in_paper": scores.empty_masks(task.judged)}
        result = metrics.evaluate(*images, protocol="paper", **how)
    values = dict(result["mean"]["paper"])
    if task.job.rows is None:  # by the test images, which choose nothing
        return values
    parts = [value for key in SCORED_BY if (value := values[key]) is not None]
    return {VALIDATION_SCORE: sum(parts) / len(parts) if len(parts) == len(SCORED_BY) else None, **values}
