"""Runs a study to its end: what is missing of it, one feature store for each encoder and size, and one trial after the other."""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from invad.config import Params
from invad.data.source import read_source
from invad.data.split_table import Split, open_split
from invad.files import remove
from invad.studies.folder import only_one, prepare
from invad.studies.results import FILE_NAME, TrialResult, read_result
from invad.studies.runner import Runner, finished_result
from invad.studies.stores import Stores, trial_split
from invad.studies.study import Identity, Study, Trial
from invad.studies.tasks import make_tasks
from invad.studies.trial import is_done, trial_folder
from invad.studies.validation import ValidationSplit, validation_split
from invad.workspace import Workspace

if TYPE_CHECKING:
    from invad.studies.log import StudyLog

Summary = TypeVar("Summary")  # what a study is about to show: tables of variants, or the best settings


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


Command = Callable[[Trial | None], str]


def run_study(
    study: Study,
    options: StudyOptions,
    params: Params,
    workspace: Workspace,
    *,
    report: Callable[[Sequence[TrialResult]], Summary],
    write: Callable[[Summary], Sequence[Path]],
    command: Command,
) -> Summary:
    """Run what is missing of a study, and write and return its report.

    Args:
        study: What is compared.
        options: How it is run.
        params: For the workers of extraction and training.
        workspace: Where data and results lie.
        report: Sums up the results of all trials, which come in their order.
        write: Writes that for people and returns the files.
        command: Says the command that runs a trial alone, or of the whole study for None.

    Raises:
        InputError: The settings are wrong, the split is not built, or there are fewer resources than asked for; before anything starts.
    """
    from invad.cluster.extract import shard_runner
    from invad.cluster.tune import Demand, EarlyStop, check_demand

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
                for name in pending:
                    remove(trial_folder(folder, name) / FILE_NAME)
                validation = _validation(study, split, folder)
                stores = Stores(identity, split, workspace, shard_runner(params.extraction))
                milestones = early_stop.milestones if early_stop else ()
                tasks = make_tasks(list(pending.values()), stores, validation, milestones, params.training, folder)
                Runner(folder, log).run(tasks, demand, early_stop)
            results = [finished_result(folder, name) for name in names]
            summary = report(results)
            files = write(summary)
            if log is not None:
                log.finish(files, failed=any(result.status == "failed" for result in results))
    return summary


def _validation(study: Study, split: Split, folder: Path) -> ValidationSplit | None:
    if not study.validation_share:
        return None
    return validation_split(
        split, study.validation_share, study.validation_seed, folder / "validation", study.validation_side
    )


@contextmanager
def _logged(
    study: Study, split: Split, workspace: Workspace, folder: Path, command: Command, pending: Mapping[str, Trial]
) -> Generator["StudyLog | None"]:
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
