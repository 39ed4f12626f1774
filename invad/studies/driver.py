"""Runs a study to its end: what is missing of it, one feature store for each encoder and size, and one trial after the other."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from invad.config import FeaturesConfig, Params
from invad.datasets.source import read_source
from invad.datasets.split_table import Split
from invad.datasets.splits import open_split
from invad.files import remove
from invad.studies.folder import only_one, prepare
from invad.studies.results import FILE_NAME, TrialResult, read_result
from invad.studies.stores import Stores, trial_split
from invad.studies.study import Identity, Study, Trial, same_training
from invad.studies.trial import (
    Report,
    TrialTask,
    Validation,
    attempt,
    is_done,
    reason,
    trial_folder,
    write_failure,
    write_stop,
)
from invad.studies.validation import ValidationSplit, validation_split
from invad.workspace import Workspace

if TYPE_CHECKING:
    from invad.distributed.tune import Demand, EarlyStop
    from invad.studies.log import StudyLog


@dataclass(frozen=True)
class StudyOptions:
    """How a study is run, and on what.

    `benchmark`: its name. `set`: other values of its settings, by dotted key. `max_concurrent`: trials at a time, None for as many as
    fit. `trials_per_gpu`: how many share one, None for one each. `early_stop`: whether Ray Tune ends what falls behind. `resume`: go on
    with a study that is there; `restart`: remove it first.
    """

    benchmark: str
    set: Mapping[str, Any] = field(default_factory=dict)
    max_concurrent: int | None = None
    trials_per_gpu: float | None = None
    early_stop: bool = False
    resume: bool = False
    restart: bool = False

    def words(self) -> list[str]:
        """Return the words of a command line that say benchmark, settings and early stopping: what the results depend on."""
        settings = [word for key, value in self.set.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        return ["--benchmark", self.benchmark, *settings, *(["--early-stop"] if self.early_stop else [])]


@dataclass(frozen=True)
class Outcome:
    """What a study gave: the results of all its trials in their order, and the images it had."""

    trials: tuple[Trial, ...]
    results: tuple[TrialResult, ...]


Tables = Callable[[Outcome], Sequence[Path]]
Command = Callable[[Trial | None], str]


def run_study(
    study: Study, options: StudyOptions, params: Params, workspace: Workspace, tables: Tables, command: Command
) -> Outcome:
    """Run what is missing of a study and write its tables.

    Args:
        study: What is compared.
        options: How it is run.
        params: For the workers of extraction and training.
        workspace: Where data and results lie.
        tables: Writes the results for people and returns the files.
        command: Says the command that runs a trial alone, or of the whole study for None.

    Raises:
        InputError: The settings are wrong, the split is not built, or there are fewer resources than asked for; before anything starts.
    """
    from invad.distributed.extract import shard_runner
    from invad.distributed.tune import Demand, EarlyStop, check_demand

    trials = study.trials()
    demand = Demand(params.training.resources_per_worker.cpu, options.trials_per_gpu, options.max_concurrent)
    check_demand(demand)
    whole = open_split(study.base, workspace)
    identity = Identity.of(study, whole, read_source(workspace.raw(study.base.dataset)).sha256)
    folder = (workspace.private / "studies" / identity.folder).absolute()
    names = {identity.trial(trial): trial for trial in trials}
    with only_one(folder):
        prepare(folder, names, resume=options.resume, restart=options.restart)
        pending = {name: trial for name, trial in names.items() if not is_done(read_result(trial_folder(folder, name)))}
        split = trial_split(whole, test=study.test).absolute()
        early_stop = EarlyStop(max(trial.benchmark.train.epochs for trial in trials)) if options.early_stop else None
        with _logged(study, split, workspace, folder, command, pending) as log:
            if pending:
                validation = _validation(study, split, folder)
                find = _feature_finder(Stores(identity, split, workspace, shard_runner(params.extraction)), validation)
                for name in pending:
                    remove(trial_folder(folder, name) / FILE_NAME)
                milestones = early_stop.milestones if early_stop else ()
                tasks = []
                for group in same_training(list(pending.values()), identity).values():
                    features = find(group[0].benchmark.features)
                    task = _task(group, identity, split, features, validation, milestones, params, folder)
                    tasks.append((task, features.error))
                _Runner(folder, log).run(tasks, demand, early_stop)
            outcome = Outcome(tuple(trials), tuple(_result(folder, name) for name in names))
            files = tables(outcome)
            if log is not None:
                log.finish(files, failed=any(result.status == "failed" for result in outcome.results))
    return outcome


def _validation(study: Study, split: Split, folder: Path) -> ValidationSplit | None:
    if not study.validation_share:
        return None
    return validation_split(
        split, study.validation_share, study.validation_seed, folder / "validation", study.validation_side
    )


@dataclass(frozen=True)
class _Features:
    """The folders of the features of a task's images, and of its validation images; or why there are none."""

    images: str = ""
    validation: str = ""
    error: str = ""


def _feature_finder(stores: Stores, validation: ValidationSplit | None) -> Callable[[FeaturesConfig], _Features]:
    """Return what makes sure that features are there; asked twice for the same it answers, or fails, as before."""
    known: dict[str, _Features] = {}

    def find(config: FeaturesConfig) -> _Features:
        name = stores.identity.features(config, stores.split)
        if name not in known:
            known[name] = _found(config)
        return known[name]

    def _found(config: FeaturesConfig) -> _Features:
        try:
            images = str(stores.training(config).absolute())
            if validation is None:
                return _Features(images)
            return _Features(images, str(stores.validation(config, validation.split).absolute()))
        except Exception as error:  # one encoder that fails, whyever, does not end the trials of the others
            return _Features(error=reason(error))

    return find


def _task(
    trials: Sequence[Trial],
    identity: Identity,
    split: Split,
    features: _Features,
    validation: ValidationSplit | None,
    milestones: tuple[int, ...],
    params: Params,
    folder: Path,
) -> TrialTask:
    """Return what a process has to do for trials that share a training."""
    return TrialTask(
        folder=str(folder),
        training=identity.training(trials[0]),
        trials=tuple((identity.trial(trial), _anywhere(trial)) for trial in trials),
        split=split,
        features=features.images,
        validation=None if validation is None else Validation(validation, features.validation),
        test=identity.study.test,
        checkpoint_steps=params.training.checkpoint_steps,
        threads=max(1, int(params.training.resources_per_worker.cpu)),
        milestones=milestones,
        keep=identity.study.shares_training,
    )


class _Runner:
    """Hands tasks to Ray Tune and tells of each that has ended."""

    def __init__(self, folder: Path, log: "StudyLog | None") -> None:
        self._folder = folder
        self._log = log
        self._progress = tqdm(unit="trial", mininterval=1)

    def run(self, tasks: Sequence[tuple[TrialTask, str]], demand: "Demand", early_stop: "EarlyStop | None") -> None:
        """Run the tasks; one that comes with a reason why it cannot be run has failed."""
        from invad.distributed.tune import run_trials

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
            result = _result(self._folder, name)
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


def _result(folder: Path, name: str) -> TrialResult:
    result = read_result(trial_folder(folder, name))
    if result is None:
        raise RuntimeError(f"trial {name} has ended without a result")
    return result


def _anywhere(trial: Trial) -> Trial:
    """Return the trial with the absolute path of a weights file: it runs in another folder."""
    return replace(trial, benchmark=replace(trial.benchmark, features=trial.benchmark.features.absolute()))


@contextmanager
def _logged(
    study: Study, split: Split, workspace: Workspace, folder: Path, command: Command, pending: Mapping[str, Trial]
) -> Iterator["StudyLog | None"]:
    """Yield MLflow's run of the study, None where nothing is left to run; it fails when the block does."""
    if not pending:
        yield None
        return
    from invad.studies.log import StudyLog

    log = StudyLog(study, split, workspace, folder, command)
    try:
        yield log
    except BaseException:
        log.finish((), failed=True)
        raise
