"""MLflow's view of a study: a run for the study, and below it one for each trial that has ended."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from invad import tracking
from invad.data.source import read_source
from invad.files import write_text
from invad.report.ablations import TrialResult
from invad.studies.study import Study, Trial
from invad.studies.trial import LOGGED_FILE, VALIDATION_SCORE, TrialTask
from invad.training.curve import read_curve
from invad.workspace import Workspace

RUN_FILE = "mlflow_run"  # of the study's folder: the key of its run's record


class StudyLog:
    """The run of a study that is under way; one that goes on has the run that it had before."""

    def __init__(
        self, study: Study, tasks: Sequence[TrialTask], workspace: Workspace, folder: Path, command: str
    ) -> None:
        """Start or continue the run, unless MLflow knows all trials already; `command` runs the study again."""
        self._study, self._tasks, self._workspace = study, tasks, workspace
        self._command = f"dvc repro features@{study.base.name} && {command}"
        self._run: tracking.Run | None = None
        if all(_is_told(task, name) for task in tasks for name, _ in task.trials):
            return
        file = folder / RUN_FILE
        if file.exists():  # the run may be gone all the same
            self._run = tracking.open_run(file.read_text(encoding="utf-8").strip(), workspace)
        if self._run is not None:
            self._run.go_on()
        else:
            self._run = self._started(f"{study.name} on {study.base.name}")
        write_text(file, f"{self._run.record.key}\n")

    def _started(self, name: str, trial: Trial | None = None, **tags: str) -> tracking.Run:
        """Start the run of the study, or below it that of a trial."""
        benchmark = trial.benchmark if trial else self._study.base
        run = tracking.start_run(
            benchmark,
            self._workspace,
            experiment="ablation" if self._study.test else "tune",
            name=name,
            parent=self._run,
            tags={"invad.module": self._study.name, "invad.command": self._command} | tags,
            params={"variant": trial.variant, "seed": str(trial.seed)} if trial else None,
        )
        split, source = self._tasks[0].job.split, read_source(self._workspace.raw(benchmark.dataset)).source
        run.log(tracking.Content(data=lambda: tracking.data_sets(split, benchmark, source)))
        return run

    def tell(self, task: TrialTask) -> list[tuple[Trial, TrialResult]]:
        """Log the trials that have ended and MLflow does not know yet, and return them: settings, loss curve, metrics, costs, reason."""
        pending = task.pending()
        ended = [one for one in task.trials if one not in pending and not _is_told(task, one[0])]
        for name, trial in ended:
            self._tell(name, trial, task.result(name), task)
        return [(trial, task.result(name)) for name, trial in ended]

    def _tell(self, name: str, trial: Trial, result: TrialResult, task: TrialTask) -> None:
        tags = {"invad.trial": name, "invad.status": result.status}
        tags |= {"invad.error": result.error} if result.error else {}
        run = self._started(f"{self._study.name} {trial.variant}, seed {trial.seed}", trial, **tags)
        prefix = "paper" if self._study.test else "validation"
        values = {key if key == VALIDATION_SCORE else f"{prefix}/{key}": value for key, value in result.metrics.items()}
        costs = {
            "parameters": result.parameters,
            "multiply_adds": result.multiply_adds,
            "train_seconds": result.seconds,
        }
        run.log(tracking.Content(metrics=values | costs, curves=tracking.loss_curves(read_curve(task.job.curve))))
        run.finish("FAILED" if result.status == "failed" else "FINISHED")
        write_text(task.trial_folder(name) / LOGGED_FILE, f"{run.record.key}\n")

    def __enter__(self) -> "StudyLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Mark the study's run as failed when the block fails."""
        if kind is not None and self._run is not None:
            self._run.finish("FAILED")

    def finish(self, files: Iterable[Path]) -> None:
        """Log the study's tables and mark its run as ended: failed where a trial has."""
        if self._run is not None:
            self._run.keep_files(list(files))
            statuses = {task.result(name).status for task in self._tasks for name, _ in task.trials}
            self._run.finish("FAILED" if "failed" in statuses else "FINISHED")


def _is_told(task: TrialTask, name: str) -> bool:
    return (task.trial_folder(name) / LOGGED_FILE).exists()
