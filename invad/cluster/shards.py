"""Ray Data around work that is cut into shards: workers take one after the other, and what a lost one had is done again."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch

from invad.cluster.cluster import gpus_per_worker, quiet, ray_session
from invad.config import WorkersConfig
from invad.devices import best_device
from invad.errors import InputError

Shard = TypeVar("Shard", contravariant=True)
Result = TypeVar("Result", covariant=True)


class Writer(Protocol[Shard, Result]):
    """What makes a result of a shard."""

    def write(self, shard: Shard, /) -> Result:
        """Write the shard and return what is to be said of it; `InputError`: it cannot be."""


class _Worker(Generic[Shard, Result]):
    """An actor of Ray Data: takes the number of a shard as a row, and adds the result."""

    def __init__(
        self,
        build: Callable[[torch.device], Writer[Shard, Result]],
        shards: Sequence[Shard],
        threads: int,
        use_gpu: bool,
    ) -> None:
        torch.set_num_threads(threads)
        self._writer = build(best_device() if use_gpu else torch.device("cpu"))
        self._shards = shards

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {**row, "result": self._writer.write(self._shards[row["shard"]]), "error": ""}
        except InputError as error:  # as a result, because Ray would wrap an exception in pages of its own
            return {**row, "result": None, "error": str(error)}


def by_workers(
    build: Callable[[torch.device], Writer[Shard, Result]],
    shards: Sequence[Shard],
    workers: WorkersConfig,
    section: str,
) -> Iterator[tuple[Shard, Result]]:
    """Yield every shard with its result, as they come; `InputError`: one of a worker, or the cluster lacks what `section` asks for.

    `build` is called once in each worker, with its device.
    """
    import ray.data

    quiet()
    # Ray Data gives restartable actors arguments that a restart may not find again, and reports that on stderr every time.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray.data.DataContext.get_current().enable_progress_bars = False
    with ray_session() as cluster:
        count, resources = min(workers.workers, len(shards)), workers.resources_per_worker
        gpus = gpus_per_worker(workers.workers, resources, cluster, section)
        rows = [{"shard": number} for number in range(len(shards))]
        results = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Worker,  # pyrefly: ignore[bad-argument-type]  (Ray takes a class too, but does not say so)
            fn_constructor_args=(build, shards, max(1, int(resources.cpu)), gpus > 0),
            # None waits behind another one, or the worker that is ready first takes those of the others.
            compute=ray.data.ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=1),
            num_cpus=resources.cpu,
            num_gpus=gpus,
        )
        for row in results.iter_rows():
            if row["error"]:
                raise InputError(row["error"])
            yield shards[row["shard"]], row["result"]
