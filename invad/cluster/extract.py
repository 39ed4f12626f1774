"""Ray Data around the extraction of features: shards are handed out to workers, each of which keeps an encoder."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from invad.cluster.cluster import gpus_per_worker, needs_cluster, quiet, ray_session
from invad.config import WorkersConfig
from invad.devices import best_device
from invad.errors import InputError
from invad.features.extract import Extraction, Run, Shard, ShardWriter, run_here


def shard_runner(workers: WorkersConfig) -> Run:
    """Return what writes shards: this process, or as many workers as are asked for."""
    return partial(_run_on_ray, workers=workers) if needs_cluster(workers) else run_here


class _Worker:
    """An actor of Ray Data: takes a shard as a row, writes it, and says how many images it had."""

    def __init__(self, extraction: Extraction, threads: int, use_gpu: bool) -> None:
        torch.set_num_threads(threads)
        self._writer = ShardWriter(extraction, best_device() if use_gpu else torch.device("cpu"))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"images": sum(self._writer.write([Shard(**row)])), "error": ""}
        except InputError as error:  # as a result, because Ray would wrap an exception in pages of its own
            return {"images": 0, "error": str(error)}


def _run_on_ray(extraction: Extraction, shards: Sequence[Shard], workers: WorkersConfig) -> Iterator[int]:
    import ray.data

    quiet()
    # Ray Data gives restartable actors arguments that a restart may not find again, and reports that on stderr every time.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray.data.DataContext.get_current().enable_progress_bars = False
    with ray_session() as cluster:
        count, resources = min(workers.workers, len(shards)), workers.resources_per_worker
        gpus = gpus_per_worker(workers.workers, resources, cluster, "features")
        rows: list[dict[str, Any]] = [asdict(shard) for shard in shards]
        written = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Worker,  # pyrefly: ignore[bad-argument-type]  (Ray takes a class too, but does not say so)
            fn_constructor_args=(extraction, max(1, int(resources.cpu)), gpus > 0),
            compute=ray.data.ActorPoolStrategy(size=count),
            num_cpus=resources.cpu,
            num_gpus=gpus,
        )
        for row in written.iter_rows():
            if row["error"]:
                raise InputError(row["error"])
            yield row["images"]
