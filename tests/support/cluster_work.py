"""What a process does on the cluster of `two_nodes`: features and maps, or a training; workers note the nodes that take part."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import interruptions
import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from toys import image_split, split_of

from invad.cluster import shards
from invad.cluster import train as distributed_train
from invad.cluster.cluster import ray_session
from invad.cluster.extract import shard_runner
from invad.cluster.score import score_by_workers
from invad.config import BenchmarkConfig, FeaturesConfig, FolderSplitConfig, ResourcesConfig, ScoreConfig, WorkersConfig
from invad.features import extract_features
from invad.features import store as feature_store
from invad.methods import build_method
from invad.scoring import store as score_store
from invad.training.model_folder import ModelConfig, save_model

IMAGES = {"train": 8, "test": 27}
EACH = ResourcesConfig(cpu=1.5, gpu=0)  # of two, so that a node has room for one worker; it has one thread
WORKERS = WorkersConfig(2, EACH)
TRAINING = replace(interruptions.TWO, resources_per_worker=ResourcesConfig(cpu=1, gpu=0))
BENCHMARK = BenchmarkConfig(
    "toy",
    "mvtec",
    FolderSplitConfig(),
    FeaturesConfig("mobilenetv2_100", image_size=32, batch_size=8),
    interruptions.CONFIG,
    ScoreConfig(batch_size=4),
)


def small_files() -> None:
    """Have shards of 16 images, and files of two batches of maps."""
    feature_store.SHARD_BYTES = 1
    score_store.FILE_BYTES = 8 * score_store.PIXEL_BYTES * 32**2


def make_images(folder: Path) -> None:
    """Write the images of three shards, and of four files of maps."""
    image_split(folder, **IMAGES)


def extract_and_score(folder: Path, out: Path, workers: WorkersConfig) -> None:
    """Write features, an untrained model and scores of the images in `folder` to folders in `out`."""
    split = split_of(folder, **IMAGES)
    key = extract_features(split, BENCHMARK.features, out / "features", shard_runner(workers))
    torch.manual_seed(0)
    save_model(build_method(key.output, BENCHMARK.train), ModelConfig.of(BENCHMARK, split, key), out / "model")
    score_by_workers(BENCHMARK, split, *(out / name for name in ("features", "model", "scores")), workers)


class NotedWorker(shards._Worker):
    """A worker of shards that notes its node, and begins when there is one on the other node too."""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        places = Path(os.environ["PLACES"])
        kind = type(self._shards[0]).__name__
        note(places, kind)
        until(lambda: len(noted(places, kind)) == 2)
        return super().__call__(row)


def noted_worker(loop_config: dict) -> None:
    """A worker of a training that notes its node, and the plan of `interruptions`."""
    note(Path(loop_config["job"].folder).parent, "places")
    interruptions.interrupted_worker(loop_config)


def note(folder: Path, kind: str) -> None:
    (folder / f"{kind}-{ray.util.get_node_ip_address()}").touch()


def noted(folder: Path, kind: str) -> list[str]:
    """Return the addresses of the nodes that took part."""
    return sorted(path.name.removeprefix(f"{kind}-") for path in folder.glob(f"{kind}-*"))


def until(true: Callable[[], object], seconds: float = 120) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def share(folder: Path) -> None:
    """Extract and score with one worker on each node."""
    small_files()
    shards._Worker = NotedWorker
    extract_and_score(folder, folder / "shared", WORKERS)


def train(folder: Path) -> None:
    """Train with one worker on each node, where something else has the rest, until one node is lost and the rest is free."""
    distributed_train._train_worker = noted_worker
    with ray_session():
        nodes = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes()]
        others = [
            Occupied.options(
                scheduling_strategy=node, lifetime="detached", namespace="other", name=str(number)
            ).remote()
            for number, node in enumerate(nodes)
        ]
        ray.get([other.ready.remote() for other in others])
    threading.Thread(target=leave, args=(folder / "leave", len(others)), daemon=True).start()
    method, steps = interruptions.train(folder, TRAINING)
    torch.save((method.state_dict(), [step.loss for step in steps]), folder / "result.pt")


def leave(told: Path, count: int) -> None:
    """Make room when the file `told` is there."""
    until(told.exists)
    for number in range(count):
        ray.kill(ray.get_actor(str(number), namespace="other"))
    told.unlink()


@ray.remote(num_cpus=1)
class Occupied:
    """What takes a CPU."""

    def ready(self) -> None:
        """Return when it has it."""
