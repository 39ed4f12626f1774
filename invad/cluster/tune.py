"""Ray Tune around a study: it starts the trials, as many at a time as there is room for, and stops those that fall behind.

What a trial does and where its result lies is none of Tune's business: it is told names, and calls back when one has ended.
"""

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invad.cluster.cluster import Cluster, here, quiet, ray_session
from invad.errors import InputError
from invad.files import remove

if TYPE_CHECKING:
    from ray.tune import Callback

REDUCTION = 3  # of the trials at a milestone of early stopping, the best one of so many goes on
_RETRIES = 1  # of a process that was lost
_LOST = "its process was lost twice: killed, out of memory, or a crash of native code"

Report = Callable[[int, float], None]
Work = Callable[[str, Report], None]


@dataclass(frozen=True)
class Demand:
    """What trials ask for. `cpus`: of each. `trials_per_gpu`: how many share a GPU, None for one each. `max_concurrent`: at a time."""

    cpus: float = 1
    trials_per_gpu: float | None = None
    max_concurrent: int | None = None

    def resources(self, cluster: Cluster) -> dict[str, float]:
        """Return what each trial gets; `InputError` says what the cluster has instead."""
        gpus = cluster.total("GPU")
        each = {"CPU": self.cpus} | ({"GPU": 1 / (self.trials_per_gpu or 1)} if gpus else {})
        fitting = cluster.fitting(each)
        needs = " and ".join(f"{value:g} {kind}s" for kind, value in each.items())
        if self.trials_per_gpu is not None and not gpus:
            problem = f"--trials-per-gpu: {self.trials_per_gpu:g} asked for, but there is no GPU"
        elif not fitting:
            problem = f"a trial needs {needs} (params.yaml: train.resources_per_worker.cpu), which no node has"
        elif (self.max_concurrent or 0) > fitting:
            problem = f"--max-concurrent: {self.max_concurrent} trials of {needs} asked for, {fitting} fit"
        else:
            return each
        raise InputError(f"{problem}; {cluster.text()}")


def milestones(epochs: int) -> tuple[int, ...]:
    """Return after which epochs, counted from 1, trials of at most `epochs` are compared: the first time after a ninth of them."""
    first = max(1, epochs // REDUCTION**2)
    return tuple(epoch for power in range(32) if (epoch := first * REDUCTION**power) < epochs)


def trials_at_a_time(demand: Demand) -> int:
    """Return how many trials run at a time on this machine, or on the cluster of RAY_ADDRESS; `InputError` where none can."""
    if os.environ.get("RAY_ADDRESS"):
        quiet()
    with ray_session() if os.environ.get("RAY_ADDRESS") else nullcontext(here()) as cluster:
        each = demand.resources(cluster)
        return demand.max_concurrent or cluster.fitting(each)


def run_trials(
    names: Sequence[str],
    work: Work,
    *,
    demand: Demand,
    milestones: tuple[int, ...],
    storage: Path,
    on_end: Callable[[str, int, str], None],
) -> None:
    """Run `work` for every name, in this order, each in a process of its own; one that is lost is started again, once.

    `work`: called with a name and a function that takes an epoch, counted from 1, and a score, higher is better; it catches its exceptions.
    `milestones`: the epochs after which trials tell their scores, and the best third goes on (asynchronous successive halving). `storage`:
    Ray Tune's own folder, removed before and after. `on_end`: called here when a trial has ended, with its name, the last epoch that it
    told, and why it was lost (empty if it was not). Raises `InputError` where the cluster cannot give what is asked for.
    """
    _quiet()
    from ray import tune
    from ray.tune.schedulers import AsyncHyperBandScheduler

    remove(storage)
    scheduler = None
    if milestones:  # the last epoch is one that no trial tells
        first, last = milestones[0], milestones[-1] * REDUCTION
        scheduler = AsyncHyperBandScheduler("epoch", "score", "max", last, first, REDUCTION)
    # Standard output is for results; Ray tells there that a worker has died.
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), ray_session() as cluster:
        resources = {kind.lower(): value for kind, value in demand.resources(cluster).items()}
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(_trainable, work=work), resources),
            param_space={"trial": tune.grid_search(list(names))},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=demand.max_concurrent,
                scheduler=scheduler,
                reuse_actors=True,  # starts take longer than small trials
            ),
            run_config=tune.RunConfig(
                name=storage.name,
                storage_path=str(storage.parent.absolute()),
                failure_config=tune.FailureConfig(max_failures=_RETRIES),
                callbacks=[_callback(on_end)],
                verbose=0,
            ),
        )
        tuner.fit()
    remove(storage)


def _trainable(config: dict[str, str], work: Work) -> None:
    from ray import tune

    work(config["trial"], lambda epoch, score: tune.report({"epoch": epoch, "score": score}))


def _quiet() -> None:
    """Leave Tune without loggers, tables and tracebacks of its own; Ctrl-C ends the study at once."""
    quiet()
    for name in ("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "TUNE_DISABLE_SIGINT_HANDLER"):
        os.environ[name] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # it prints its settings however quiet it is told to be
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


def _callback(on_end: Callable[[str, int, str], None]) -> "Callback":
    """Return what Ray Tune tells that a trial has ended: its `ResultGrid` comes when all have. As all of Ray it is imported late."""
    from ray.tune import Callback

    def tell(trial: Any, lost: str = "") -> None:  # noqa: ANN401
        on_end(trial.config["trial"], (trial.last_result or {}).get("epoch", 0), lost)

    class Ends(Callback):
        def __reduce__(self) -> tuple[type[Callback], tuple[()]]:
            return Callback, ()  # Tune keeps a copy of its settings on the disk, which nobody reads

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: object) -> None:  # noqa: ANN401
            tell(trial)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: object) -> None:  # noqa: ANN401
            tell(trial, _why(str(trial.get_error() or "")))

    return Ends()


def _why(error: str) -> str:
    """Return one line on a process that has ended, of which Ray writes pages."""
    lost = not error.strip() or "actor died" in error or "OutOfMemory" in error
    return _LOST if lost else error.strip().splitlines()[-1].strip()[:200]
