"""The extraction of features in this process, or by as many workers as are asked for."""

from collections.abc import Iterator, Sequence
from functools import partial

from invad.cluster.cluster import needs_cluster
from invad.cluster.shards import by_workers
from invad.config import WorkersConfig
from invad.features.extract import Extraction, Run, Shard, ShardWriter, run_here


def shard_runner(workers: WorkersConfig) -> Run:
    """Return what writes shards: this process, or workers, each of which keeps an encoder."""
    return partial(_run_on_ray, workers=workers) if needs_cluster(workers) else run_here


def _run_on_ray(extraction: Extraction, shards: Sequence[Shard], workers: WorkersConfig) -> Iterator[int]:
    for _, images in by_workers(partial(ShardWriter, extraction), shards, workers, "features"):
        yield images
