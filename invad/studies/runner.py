"""Hands the tasks of a study to Ray Tune, and tells people and MLflow of each trial that has ended."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from invad.studies.results import TrialResult, read_result
from invad.studies.tasks import Task
from invad.studies.trial import Report, TrialTask, attempt, trial_folder, write_failure, write_stop

if TYPE_CHECKING:
    from invad.cluster.tune import Demand, EarlyStop
    from invad.studies.log import StudyLog


class Runner:
    """Hands tasks to Ray Tune and tells of each that has ended."""

    def __init__(self, folder: Path, log: "StudyLog | None") -> None:
        self._folder = folder
        self._log = log
        self._progress = tqdm(unit="trial", mininterval=1)

    def run(self, tasks: Sequence[Task], demand: "Demand", early_stop: "EarlyStop | None") -> None:
        """Run the tasks; one that comes with a reason why it cannot be run has failed."""
        from invad.cluster.tune import run_trials

        self._progress.total = sum(len(task.trials) for task, _ in tasks)
        with self._progress:
            for task, error in tasks:
                if error:
                    write_failure(task, error)
                    self._tell(task)
            possible = {task.training: task for task, error in tasks if not error}

            def on_end(name: str, epochs: int, lost: str) -> None:
                task = possible[name]
                if lost:
                    write_failure(task, lost)
                elif all(read_result(task.trial_folder(trial)) is None for trial, _ in task.pending()):
                    write_stop(task, epochs)
                self._tell(task)

            if possible:
                run_trials(
                    list(possible),
                    partial(_work, possible),
                    demand=demand,
                    early_stop=early_stop,
                    storage=self._folder / "ray",
                    on_end=on_end,
                )

    def _tell(self, task: TrialTask) -> None:
        for name, trial in task.trials:
            result = finished_result(self._folder, name)
            what = {
                "finished": f"finished after {result.seconds or 0:.1f} s of training",
                "stopped": f"stopped early after epoch {result.epochs}",
                "failed": f"failed: {result.error}",
            }[result.status]
            tqdm.write(f"{trial.variant}, seed {trial.seed}: {what}", file=sys.stderr)
            self._progress.update()
            if self._log is not None:
                self._log.trial_ended(name, trial, result, task.curve)


def _work(tasks: Mapping[str, TrialTask], name: str, report: Report) -> None:
    attempt(tasks[name], report)


def finished_result(folder: Path, name: str) -> TrialResult:
    """Return the result of a trial that has ended, in the study's folder."""
    result = read_result(trial_folder(folder, name))
    if result is None:
        raise RuntimeError(f"trial {name} has ended without a result")
    return result
