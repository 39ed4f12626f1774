"""Runs a study to its end: says what there is to do, makes sure of the features, and hands one training after the other to Ray Tune.

What has ended stands in the study's folder, a file for each trial, whose name is a digest of all that its result depends on. Ray Tune's own
state cannot take its place: `Tuner.restore` takes no other trials than those it began with, while more seeds and variants join a study;
it is written every ten seconds at most, while a finished trial is never run again; and to read a pickle is to run what is in it.
"""

import fcntl
import functools
import json
import shlex
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from invad.config import FeaturesConfig, Params, TrainingConfig
from invad.data.source import read_source
from invad.data.split_table import Split, open_split
from invad.errors import InputError
from invad.files import remove
from invad.studies.stores import Stores, trial_split
from invad.studies.study import Identity, Study, Trial
from invad.studies.trial import (
    LOGGED_FILE,
    MODEL,
    RESULT_FILE,
    Report,
    TrialResult,
    TrialTask,
    attempt,
    end_without_metrics,
    read_result,
    reason,
    trial_folder,
)
from invad.studies.validation import rows_for_training, validation_split
from invad.training.checkpoints import newest_step
from invad.training.job import TrainJob
from invad.training.progress import meanwhile
from invad.workspace import Workspace

if TYPE_CHECKING:
    from invad.cluster.tune import Demand
    from invad.studies.log import StudyLog

_LOCK = "lock"


@dataclass(frozen=True)
class StudyOptions:
    """How a study is run, and on what.

    `benchmark`: its name. `set`: other values of its settings, by dotted key. `max_concurrent`: trials at a time, None for as many as
    fit. `trials_per_gpu`: how many share one, None for one each. `resume`: go on with a study that is there; `restart`: remove it first.
    Of an ablation, `variants`: some of the module's, all where none are named; `seeds`: how many trainings of each. Of a search,
    `early_stop`: whether Ray Tune ends what falls behind, judged by the validation images.
    """

    benchmark: str
    set: Mapping[str, Any] = field(default_factory=dict)
    max_concurrent: int | None = None
    trials_per_gpu: float | None = None
    resume: bool = False
    restart: bool = False
    variants: tuple[str, ...] = ()
    seeds: int = 1
    early_stop: bool = False

    def command(self, *start: str) -> str:
        """Return the command line that begins with `start` and says all that the results depend on."""
        words = [*start, "--benchmark", self.benchmark]
        words += [word for key, value in self.set.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        words += ["--variants", ",".join(self.variants)] if self.variants else []
        words += ["--seeds", str(self.seeds)] if self.seeds > 1 else []
        return shlex.join([*words, *(["--early-stop"] if self.early_stop else [])])


@contextmanager
def finished_study(
    study: Study, options: StudyOptions, params: Params, workspace: Workspace, *start: str
) -> Generator[tuple[list[TrialResult], Callable[[Iterable[Path]], None]]]:
    """Run what is missing of a study; yield the results of all its trials, and what logs the files that sum them up.

    `params`: has the workers of extraction and training. `start`: the first words of the command that runs the study again.

    Raises:
        InputError: The settings are wrong, the split is not built, or there are fewer resources than asked for; before anything starts.
    """
    from invad.cluster.extract import shard_runner
    from invad.cluster.tune import Demand, trials_at_a_time
    from invad.studies.log import StudyLog

    demand = Demand(params.training.resources_per_worker.cpu, options.trials_per_gpu, options.max_concurrent)
    at_a_time = trials_at_a_time(demand)
    split = open_split(study.base, workspace)
    identity = Identity.of(study, split, read_source(workspace.raw(study.base.dataset)).sha256)
    folder = (workspace.private / "studies" / identity.folder).absolute()
    split = trial_split(split, test=study.test).absolute()
    tasks = _tasks(identity, split, params.training, folder)
    with only_one(folder):
        prepare(folder, [name for task in tasks for name, _ in task.trials], options)
        print(_plan(identity, tasks, at_a_time), file=sys.stderr)
        with StudyLog(study, tasks, workspace, folder, options.command("invad-pipe", *start)) as log:
            for task in tasks:
                log.tell(task)  # a start may have been killed between a result and MLflow
            if any(task.pending() for task in tasks):
                stores = Stores(identity, split, workspace, shard_runner(params.extraction))
                _run(tasks, stores, demand, log, early_stop=options.early_stop)
            yield [task.result(name) for task in tasks for name, _ in task.trials], log.finish


@contextmanager
def only_one(folder: Path) -> Generator[None]:
    """Hold the study's folder against other processes, which get an `InputError`; one that dies lets go of it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: another process runs this study; wait for it, or end it") from None
        yield


def prepare(folder: Path, names: Sequence[str], options: StudyOptions) -> None:
    """Remove the results of the trials that have failed, which are tried again, or all that is there when the study begins anew.

    Raises:
        InputError: There are results of these trials, and the options do not say what to do.
    """
    for path in folder.iterdir() if options.restart else ():
        if path.name != _LOCK:
            remove(path)
    results = {name: result for name in names if (result := read_result(trial_folder(folder, name)))}
    failed = [name for name, result in results.items() if result.status == "failed"]
    if len(results) > len(failed) and not options.resume:
        raise InputError(
            f"a study of these settings has {len(results) - len(failed)} of {len(names)} trials finished; "
            "--resume goes on with it, --restart begins anew"
        )
    for name in failed:
        for file in (RESULT_FILE, LOGGED_FILE):
            remove(trial_folder(folder, name) / file)


def _tasks(identity: Identity, split: Split, training: TrainingConfig, folder: Path) -> list[TrialTask]:
    """Return a task for every training, without features yet."""
    study = identity.study
    groups: dict[str, list[tuple[str, Trial]]] = {}
    for trial in study.trials():
        groups.setdefault(identity.training(trial), []).append((identity.trial(trial), trial))
    rows = None if study.test else rows_for_training(split, study.validation_share, study.validation_seed)
    threads = max(1, int(training.resources_per_worker.cpu))
    tasks = []
    for name, trials in groups.items():
        benchmark, storage = trials[0][1].benchmark, str(folder / "trained" / name)
        steps = training.checkpoint_steps
        job = TrainJob("", split, benchmark.features, storage, benchmark.train, steps, threads, rows)
        tasks.append(TrialTask(str(folder), tuple(trials), job, judged=split, keep=study.shares_training))
    return tasks


def _plan(identity: Identity, tasks: Sequence[TrialTask], at_a_time: int) -> str:
    """Return a line on what there is to do; how long it takes nobody knows before the first steps."""
    study, waiting = identity.study, [task for task in tasks if task.pending()]
    trials, pending = sum(len(task.trials) for task in tasks), sum(len(task.pending()) for task in tasks)
    parts = [f"{_count(trials, 'trial')} ({len(study.variants)} settings x {_count(study.seeds, 'seed')})"]
    parts += [f"{trials - pending} finished before"] if pending < trials else []
    if waiting:
        stores = {identity.features(task.benchmark.features, task.job.split) for task in waiting}
        steps = [_steps(task) for task in waiting]
        parts.append(f"{_count(len(steps) - steps.count(0), 'training')} of {_count(sum(steps), 'step')} in all")
        parts.append(f"{min(at_a_time, len(waiting))} at a time, on {_count(len(stores), 'feature store')}")
    return f"{study.name} on {study.base.name}: {', '.join(parts)}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _steps(task: TrialTask) -> int:
    """Return the steps of a training; none where it is there already, or cannot be trained, which its trials say."""
    images = len(task.job.split.phase("train") if task.job.rows is None else task.job.rows)
    return 0 if (task.storage / MODEL).is_dir() else task.benchmark.train.training_steps(images)


def _run(tasks: Sequence[TrialTask], stores: Stores, demand: "Demand", log: "StudyLog", *, early_stop: bool) -> None:
    """Run all that is pending; each trial has a result then, and is logged."""
    from invad.cluster.tune import milestones, run_trials

    stops = milestones(max(task.benchmark.train.epochs for task in tasks)) if early_stop else ()
    # Ended trainings tell Tune their scores again, so that a study that goes on stops the same trials as an uninterrupted one.
    ready = _with_features([task for task in tasks if stops or task.pending()], stores, stops)
    with _progress([task for task in tasks if task.pending()]) as bar:

        def on_end(name: str, epochs: int, lost: str) -> None:
            end_without_metrics(ready[name], lost, epochs)
            for trial, result in log.tell(ready[name]):
                how = f"after {result.seconds or 0:.1f} s of training"
                if result.status != "finished":
                    how = f"after epoch {result.epochs}" if result.status == "stopped" else f"({result.error})"
                bar.write(f"{trial.variant}, seed {trial.seed}: {result.status} {how}", file=sys.stderr)

        work, storage = partial(_attempt, ready), Path(tasks[0].folder) / "ray"
        run_trials(list(ready), work, demand=demand, milestones=stops, storage=storage, on_end=on_end)


def _attempt(tasks: Mapping[str, TrialTask], name: str, report: Report) -> None:
    attempt(tasks[name], report)


def _with_features(tasks: Sequence[TrialTask], stores: Stores, milestones: tuple[int, ...]) -> dict[str, TrialTask]:
    """Return the tasks as they can be run, by training; features are extracted where they are missing."""
    study, judged = stores.identity.study, stores.split
    if not study.test:
        folder = Path(tasks[0].folder) / "validation"
        judged = validation_split(judged, study.validation_share, study.validation_seed, folder).split

    @functools.cache
    def folders(config: FeaturesConfig) -> tuple[str, str, str]:
        try:
            images = stores.training(config)
            judging = images if study.test else stores.kept(config, judged)
        except Exception as error:  # one encoder that fails, whyever, does not end the trials of the others
            return "", "", reason(error)
        return str(images.absolute()), str(judging.absolute()), ""

    ready = {}
    for task in tasks:
        images, judging, lacking = folders(task.benchmark.features) if task.pending() else ("", "", "")
        job = replace(task.job, folder=images)
        full = replace(task, job=job, judged=judged, judged_features=judging, lacking=lacking, milestones=milestones)
        ready[task.storage.name] = full
    return ready


@contextmanager
def _progress(tasks: Sequence[TrialTask]) -> Generator["tqdm[Any]"]:
    """Yield a bar of the steps of all trainings, by their checkpoints, and of how many trials have ended."""
    steps, trials = [_steps(task) for task in tasks], sum(len(task.pending()) for task in tasks)

    def done() -> int:
        return sum(newest_step(task.storage) if task.pending() else of for task, of in zip(tasks, steps, strict=True))

    def show() -> None:
        ended, before = trials - sum(len(task.pending()) for task in tasks), (bar.desc, bar.n)
        bar.set_description(f"{ended} of {_count(trials, 'trial')}", refresh=False)
        bar.n = done()
        if sys.stderr.isatty() or (bar.desc, bar.n) != before:  # a log file does not want to hear of the time alone
            bar.refresh()

    with tqdm(total=sum(steps), initial=done(), unit="step") as bar, meanwhile(show):
        yield bar
