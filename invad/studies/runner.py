"""Runs a study to its end: makes sure of the features, hands one training after the other to Ray Tune, and tells MLflow what has ended.

What has ended stands in the study's folder, a file for each trial, whose name is a digest of all that its result depends on. Ray Tune's own
state cannot take its place: `Tuner.restore` takes no other trials than those it began with, while more seeds and variants join a study;
it is written every ten seconds at most, while a finished trial is never run again; and to read a pickle is to run what is in it.
"""

import functools
import json
import os
import shlex
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from invad import tracking
from invad.config import FeaturesConfig, Params, TrainingConfig
from invad.data.source import read_source
from invad.data.split_table import Phase, Split, open_split
from invad.errors import InputError
from invad.features import extract_features, open_features
from invad.features.encoder import configured_encoder
from invad.features.extract import Run, image_bar
from invad.files import remove
from invad.studies.study import Study, Trial
from invad.studies.trial import (
    RESULT_FILE,
    VALIDATION_SCORE,
    TrialResult,
    TrialTask,
    attempt,
    fail,
    read_result,
    reason,
    trial_folder,
)
from invad.studies.validation import rows_for_training, validation_split
from invad.training.curve import read_curve
from invad.training.job import TrainJob
from invad.training.owner import OWNER_FILE, claim
from invad.workspace import Workspace

_LOGGED_FILE = "logged"  # of a trial that MLflow was told of
_PHASES: tuple[Phase, ...] = ("train", "test")
Find = Callable[[FeaturesConfig, Split], Path]  # the folder of features


@dataclass(frozen=True)
class StudyOptions:
    """How a study is run, and on what; `set`: other values of the benchmark's settings, by dotted key.

    `max_concurrent`: trials at a time, None for as many as fit. `trials_per_gpu`: how many share one, None for one each. Of an ablation,
    `variants`: some of the module's, all where none are named; `seeds`: how many trainings of each.
    """

    benchmark: str
    set: Mapping[str, Any] = field(default_factory=dict)
    max_concurrent: int | None = None
    trials_per_gpu: float | None = None
    resume: bool = False
    restart: bool = False
    variants: tuple[str, ...] = ()
    seeds: int = 1

    def command(self, *start: str) -> str:
        """Return the command line that begins with `start` and says all that the results depend on."""
        words = [*start, "--benchmark", self.benchmark]
        words += [word for key, value in self.set.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        words += ["--variants", ",".join(self.variants)] if self.variants else []
        words += ["--seeds", str(self.seeds)] if self.seeds > 1 else []
        return shlex.join(words)


@contextmanager
def finished_study(
    study: Study, options: StudyOptions, params: Params, workspace: Workspace, *start: str
) -> Generator[tuple[list[TrialResult], Callable[[Iterable[Path]], None]]]:
    """Run what is missing of a study; yield all results, and what logs files of them; `InputError`: it does not fit, or runs already."""
    from invad.cluster.cluster import here
    from invad.cluster.extract import shard_runner
    from invad.cluster.tune import run_trials, trial_resources

    demand = partial(trial_resources, params.training.resources_per_worker.cpu, options.trials_per_gpu)
    if not os.environ.get("RAY_ADDRESS"):  # what a cluster has is known when it is joined
        demand(here())
    split = open_split(study.base, workspace)
    study = study.of(split, read_source(workspace.raw(study.base.dataset)).sha256)
    folder = (workspace.private / "studies" / study.folder).absolute()
    split = trial_split(split, test=study.test).absolute()
    names = [study.trial(trial) for trial in study.trials()]
    folder.mkdir(parents=True, exist_ok=True)
    claim(folder)
    ended = prepare(folder, names, options)
    print(f"{study.name} on {study.base.name}: {len(names)} trials, {ended} finished before", file=sys.stderr)
    find = partial(features_folder, study, workspace, shard_runner(params.extraction))
    tasks = _tasks(study, split, params.training, folder, find)
    waiting = {task.storage.name: task for task in tasks if task.pending()}
    log = StudyLog(study, tasks, workspace, options.command("invad-pipe", *start))
    try:
        for task in tasks:
            log.tell(task)  # a start may have been killed between a result and MLflow
        if waiting:
            run = partial(run_trials, demand=demand, most=options.max_concurrent, storage=folder / "ray")
            _run(waiting, run, log)
        yield [task.result(name) for task in tasks for name, _ in task.trials], log.finish
    except BaseException:
        log.finish((), "FAILED")
        raise


def prepare(folder: Path, names: Sequence[str], options: StudyOptions) -> int:
    """Remove failed results, or all where the study begins anew; return how many stay; `InputError`: `options` do not say which."""
    for path in folder.iterdir() if options.restart else ():
        if path.name != OWNER_FILE:
            remove(path)
    results = {name: result for name in names if (result := read_result(trial_folder(str(folder), name)))}
    failed = [name for name, result in results.items() if result.status == "failed"]
    if len(results) > len(failed) and not options.resume:
        raise InputError(
            f"a study of these settings has {len(results) - len(failed)} of {len(names)} trials finished; "
            "--resume goes on with it, --restart begins anew"
        )
    for name in failed:
        for file in (RESULT_FILE, _LOGGED_FILE):
            remove(trial_folder(str(folder), name) / file)
    return len(results) - len(failed)


def _tasks(study: Study, split: Split, training: TrainingConfig, folder: Path, find: Find) -> list[TrialTask]:
    """Return a task for every training; where trials have no result yet, features are extracted if need be."""
    groups: dict[str, list[tuple[str, Trial]]] = {}
    for trial in study.trials():
        groups.setdefault(study.training(trial), []).append((study.trial(trial), trial))
    judged, rows = split, None
    if not study.test:
        how = study.validation_share, study.validation_seed
        judged, rows = validation_split(split, *how, folder / "validation"), rows_for_training(split, *how)

    @functools.cache
    def folders(config: FeaturesConfig) -> tuple[str, str, str]:
        try:
            return str(find(config, split).absolute()), str(find(config, judged).absolute()), ""
        except Exception as error:  # one encoder that fails, whyever, does not end the trials of the others
            return "", "", reason(error)

    threads, steps = max(1, int(training.resources_per_worker.cpu)), training.checkpoint_steps
    tasks = []
    for name, trials in groups.items():
        benchmark, storage = trials[0][1].benchmark, str(folder / "trained" / name)
        job = TrainJob("", split, benchmark.features, storage, benchmark.train, steps, threads, rows)
        task = TrialTask(str(folder), tuple(trials), job, judged)
        if task.pending():
            images, judging, lacking = folders(benchmark.features)
            task = replace(task, job=replace(job, folder=images), judged_features=judging, lacking=lacking)
        tasks.append(task)
    return tasks


def _run(tasks: dict[str, TrialTask], run_trials: Callable[..., None], log: "StudyLog") -> None:
    """Run tasks; each trial has a result then, and is logged."""
    trials = sum(len(task.pending()) for task in tasks.values())
    with tqdm(total=trials, unit="trial") as bar:

        def on_end(name: str, lost: str) -> None:
            fail(tasks[name], lost)
            for trial, result in log.tell(tasks[name]):
                why = f" ({result.error})" if result.error else ""
                bar.write(f"{trial.variant}, seed {trial.seed}: {result.status}{why}", file=sys.stderr)
                bar.update()

        run_trials(list(tasks), partial(attempt, tasks), on_end=on_end)


def trial_split(split: Split, *, test: bool) -> Split:
    """Return what trials may see of a split: training and test images, or the training images alone."""
    phases = _PHASES if test else ("train",)
    return replace(split, rows=tuple(row for row in split.rows if row.phase in phases))


def features_folder(study: Study, workspace: Workspace, run: Run, config: FeaturesConfig, split: Split) -> Path:
    """Return the folder of a split's features: the benchmark's own where they fit, else one that is extracted once by `run`."""
    own = workspace.features(study.base.name)
    weights = _weights_in(own, split, config)
    if weights is not None and weights == configured_encoder(config).weights_sha256:
        return own
    folder = workspace.private / "features" / study.features(config, split)
    if _weights_in(folder, split, config) is None:
        with image_bar(f"features {config.encoder} {config.image_size} px") as show:
            extract_features(split, config, folder, run, show)
    return folder


def _weights_in(folder: Path, split: Split, config: FeaturesConfig) -> str | None:
    """Return the digest of the weights of which `folder` has features of all images by these settings, None where it has not."""
    if not folder.is_dir():
        return None
    try:
        keys = [open_features(folder, phase, split, config).key for phase in _PHASES if split.phase(phase)]
    except InputError:
        return None
    return keys[0].weights_sha256


class StudyLog:
    """MLflow's view of a study: a run for the study, and below it one for each trial that has ended; those of before go on."""

    def __init__(self, study: Study, tasks: Sequence[TrialTask], workspace: Workspace, command: str) -> None:
        """Start or continue the run; `command` runs the study again."""
        self._study, self._tasks, self._workspace = study, tasks, workspace
        self._command = f"dvc repro features@{study.base.name} && {command}"
        self._run = self._started(f"{study.name} on {study.base.name}", Path(tasks[0].folder).name)
        self._run.log()

    def _started(
        self, name: str, key: str, parent: tracking.Run | None = None, trial: Trial | None = None, **tags: str
    ) -> tracking.Run:
        """Start the run of the study, or below it that of a trial."""
        benchmark = trial.benchmark if trial else self._study.base
        return tracking.start_run(
            benchmark,
            self._workspace,
            experiment="ablation" if self._study.test else "tune",
            key=key,
            name=name,
            parent=parent,
            tags={"invad.module": self._study.name, "invad.command": self._command} | tags,
            params={"variant": trial.variant, "seed": str(trial.seed)} if trial else {},
        )

    def tell(self, task: TrialTask) -> list[tuple[Trial, TrialResult]]:
        """Log the trials that have ended and MLflow does not know yet, and return them: settings, loss curve, metrics, costs, reason."""
        pending, told = task.pending(), []
        for name, trial in task.trials:
            marker = trial_folder(task.folder, name) / _LOGGED_FILE
            if name in pending or marker.exists():
                continue
            result = task.result(name)
            tags = {"invad.trial": name, "invad.status": result.status, "invad.error": result.error}
            title = f"{self._study.name} {trial.variant}, seed {trial.seed}"
            run = self._started(title, name, self._run, trial, **tags)
            kind = "paper" if self._study.test else "validation"
            scores = {key if key == VALIDATION_SCORE else f"{kind}/{key}": one for key, one in result.metrics.items()}
            costs = {"parameters": result.parameters, "multiply_adds": result.multiply_adds}
            curves = tracking.loss_curves(read_curve(task.job.curve))
            content = tracking.Content(
                metrics=scores | costs | {"train_seconds": result.seconds}, curves=curves, data=self._data
            )
            run.finish("FAILED" if result.status == "failed" else "FINISHED", content)
            marker.touch()
            told.append((trial, result))
        return told

    def finish(self, files: Iterable[Path], status: str = "FINISHED") -> None:
        """Log the study's tables and mark its run as ended."""
        self._run.finish(status, tracking.Content(data=self._data), list(files))

    def _data(self) -> list[dict[str, str]]:
        source = read_source(self._workspace.raw(self._study.base.dataset)).source
        return tracking.data_sets(self._tasks[0].job.split, self._study.base, source)
