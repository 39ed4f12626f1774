"""MLflow's view of a study: a run for the study, and below it one for each trial that has ended."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

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
        """Start or continue the run, unless MLflow knows all trials already.

        Args:
            study: What is compared.
            tasks: All of its trainings.
            workspace: Holds the records of runs.
            folder: The study's, which remembers the run.
            command: That runs the study again.
        """
        self._experiment: Literal["ablation", "tune"] = "ablation" if study.test else "tune"
        self._study, self._tasks, self._workspace, self._file = study, tasks, workspace, folder / RUN_FILE
        self._source = read_source(workspace.raw(study.base.dataset)).source
        self._command = f"dvc repro features@{study.base.name} && {command}"
        self._run: tracking.Run | None = None
        if not all(_is_told(task, name) for task in tasks for name, _ in task.trials):
            self._run = self._continued() or self._started(f"{study.name} on {study.base.name}")
            write_text(self._file, f"{self._run.record.key}\n")

    def _continued(self) -> tracking.Run | None:
        """Return the run of an earlier start, None where it is not there any more."""
        if not self._file.exists():
            return None
        run = tracking.open_run(self._file.read_text(encoding="utf-8").strip(), self._workspace)
        if run is not None:
            run.go_on()
        return run

    def _started(self, name: str, trial: Trial | None = None, **tags: str) -> tracking.Run:
        """Start the run of the study, or below it that of a trial."""
        benchmark = trial.benchmark if trial else self._study.base
        run = tracking.start_run(
            benchmark,
            self._workspace,
            experiment=self._experiment,
            name=name,
            parent=self._run,
            tags={"invad.module": self._study.name, "invad.command": self._command} | tags,
            params={"variant": trial.variant, "seed": str(trial.seed)} if trial else None,
        )
        split = self._tasks[0].job.split
        run.log(tracking.Content(data=lambda: tracking.data_sets(split, benchmark, self._source)))
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

    @contextmanager
    def failing(self) -> Generator[None]:
        """Mark the study's run as failed when the block fails."""
        try:
            yield
        except BaseException:
            if self._run is not None:
                self._run.finish("FAILED")
            raise

    def finish(self, files: Iterable[Path]) -> None:
        """Log the study's tables and mark its run as ended: failed where a trial has."""
        if self._run is not None:
            self._run.keep_files(list(files))
            results = [task.result(name) for task in self._tasks for name, _ in task.trials]
            self._run.finish("FAILED" if any(result.status == "failed" for result in results) else "FINISHED")


def _is_told(task: TrialTask, name: str) -> bool:
    return (task.trial_folder(name) / LOGGED_FILE).exists()
