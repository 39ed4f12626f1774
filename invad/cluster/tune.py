"""Ray Tune starts the trials of a study, as many at a time as fit, each once more when its process is lost; it keeps no results."""

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from invad.cluster.cluster import Cluster, amounts, quiet, ray_session
from invad.errors import InputError
from invad.files import remove

_LOST = "its process was lost twice: killed, out of memory, or a crash of native code"


def trial_resources(cpus: float, trials_per_gpu: float | None, cluster: Cluster) -> dict[str, float]:
    """Return what each trial gets, of a GPU its share; `InputError` where no node has that, for which Ray would wait for ever."""
    each = {"CPU": cpus} | ({"GPU": 1 / (trials_per_gpu or 1)} if cluster.total("GPU") else {})
    if not cluster.fitting(each):
        key = "params.yaml: train.resources_per_worker.cpu"
        raise InputError(f"{key}: a trial needs {amounts(each)}, which no node has; {cluster.text()}")
    return each


def run_trials(
    names: Sequence[str],
    work: Callable[[str], None],
    *,
    demand: Callable[[Cluster], dict[str, float]],
    most: int | None,
    storage: Path,
    on_end: Callable[[str, str], None],
) -> None:
    """Run `work`, which catches its exceptions, for every name, in this order, each in a process; one that is lost is started again, once.

    `demand`: what each gets of a cluster; `most`: how many run at a time, None for as many as fit. `storage`: Ray Tune's own folder,
    removed before and after. `on_end`: called here when a trial has ended, with its name, and why it was lost (empty if it was not).
    """
    quiet()
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C ends the study at once
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # it prints its settings however quiet it is told to be
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    from ray import tune

    remove(storage)
    # Standard output is for results; Ray tells there that a worker has died.
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), ray_session() as cluster:
        resources = {kind.lower(): value for kind, value in demand(cluster).items()}
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(_trainable, work=work), resources),
            param_space={"trial": tune.grid_search(list(names))},
            # To start a process takes longer than a small trial.
            tune_config=tune.TuneConfig(max_concurrent_trials=most, reuse_actors=True),
            run_config=tune.RunConfig(
                name=storage.name,
                storage_path=str(storage.parent.absolute()),
                failure_config=tune.FailureConfig(max_failures=1),
                callbacks=[_callback(on_end)],
                verbose=0,
            ),
        )
        tuner.fit()
    remove(storage)


def _trainable(config: dict[str, str], work: Callable[[str], None]) -> None:
    work(config["trial"])


def _callback(on_end: Callable[[str, str], None]) -> Any:  # noqa: ANN401
    """Return what Ray Tune tells that a trial has ended: its `ResultGrid` comes when all have. As all of Ray it is imported late."""
    from ray.tune import Callback

    class Ends(Callback):
        def __reduce__(self) -> tuple[type[Callback], tuple[()]]:
            return Callback, ()  # Tune keeps a copy of its settings on the disk, which nobody reads

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: object) -> None:  # noqa: ANN401
            on_end(trial.config["trial"], "")

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: object) -> None:  # noqa: ANN401
            pages = str(trial.get_error() or "").strip() or _LOST
            on_end(trial.config["trial"], _LOST if "actor died" in pages else pages.splitlines()[-1].strip()[:200])

    return Ends()
