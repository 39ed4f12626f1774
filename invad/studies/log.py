"""MLflow's view of a study: a run for the study, and below it one for each trial that has ended."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from invad import tracking
from invad.data.source import read_source
from invad.data.split_table import Split
from invad.files import write_text
from invad.studies.results import TrialResult
from invad.studies.study import Study, Trial
from invad.studies.trial import VALIDATION_SCORE
from invad.training.curve import read_curve
from invad.workspace import Workspace

RUN_FILE = "mlflow_run"  # of the study's folder: the key of its run's record


class StudyLog:
    """The run of a study that is under way; one that goes on has the run that it had before."""

    def __init__(
        self, study: Study, split: Split, workspace: Workspace, folder: Path, command: Callable[[Trial | None], str]
    ) -> None:
        """Start or continue the run.

        Args:
            study: What is compared.
            split: The images that trials may see.
            workspace: Holds the records of runs.
            folder: The study's, which remembers the run.
            command: Says the command that runs a trial alone, or of the whole study for None.
        """
        self._experiment: Literal["ablation", "tune"] = "ablation" if study.test else "tune"
        self._workspace = workspace
        self._study = study
        self._split = split
        self._source = read_source(workspace.raw(study.base.dataset)).source
        self._command = command
        self._run = self._continued(folder / RUN_FILE)

    def _continued(self, file: Path) -> tracking.Run:
        if file.exists():
            run = tracking.open_run(file.read_text(encoding="utf-8").strip(), self._workspace)
            if run is not None:
                run.go_on()
                return run
        run = tracking.start_run(
            self._study.base,
            self._workspace,
            experiment=self._experiment,
            name=f"{self._study.name} on {self._study.base.name}",
            tags={"invad.module": self._study.name, "invad.command": self._built_by(None)},
        )
        run.log_split(self._split, self._study.base, self._source)
        write_text(file, f"{run.record.key}\n")
        return run

    def _built_by(self, trial: Trial | None) -> str:
        return f"dvc repro features@{self._study.base.name} && {self._command(trial)}"

    def trial_ended(self, name: str, trial: Trial, result: TrialResult, curve: Path) -> None:
        """Log a trial: settings, loss curve, metrics and costs; one that failed says why."""
        run = tracking.start_run(
            trial.benchmark,
            self._workspace,
            experiment=self._experiment,
            name=f"{self._study.name} {trial.variant}, seed {trial.seed}",
            parent=self._run,
            tags={
                "invad.module": self._study.name,
                "invad.trial": name,
                "invad.status": result.status,
                "invad.command": self._built_by(trial),
            },
            params={"variant": trial.variant, "seed": str(trial.seed)},
        )
        run.log_split(self._split, trial.benchmark, self._source)
        if result.error:
            run.tags({"invad.error": result.error})
        steps = read_curve(curve)
        run.log_curve("train/loss", [(step.step, step.loss) for step in steps])
        run.log_curve("train/learning_rate", [(step.step, step.learning_rate) for step in steps])
        prefix = "paper" if self._study.test else "validation"
        values = {key if key == VALIDATION_SCORE else f"{prefix}/{key}": value for key, value in result.metrics.items()}
        costs = {
            "parameters": result.parameters,
            "multiply_adds": result.multiply_adds,
            "train_seconds": result.seconds,
        }
        run.log_metrics(values | costs)
        run.finish(failed=result.status == "failed")

    def finish(self, files: Iterable[Path], *, failed: bool) -> None:
        """Log the study's tables and mark its run as ended."""
        for file in files:
            self._run.log_file(file)
        self._run.finish(failed=failed)
