"""Real workers of Ray: their results, kills of them and of the whole process, bugs that come back, GPUs that exist only for Ray.

One Ray for all tests.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import distributed_toys
import interruptions
import pytest
import ray
import torch
from interruptions import ALONE, STEPS, TWO, begun, go_on, make_folder, plan, train, waiting
from toys import image_split, split_of, write_toy_store

from invad.cluster import shards as distributed_shards
from invad.cluster import train as distributed_train
from invad.cluster.cluster import Cluster, ray_session
from invad.cluster.extract import shard_runner
from invad.config import FeaturesConfig, ResourcesConfig
from invad.data.split_table import Split
from invad.errors import InputError
from invad.features import extract_features
from invad.features import store as store_module
from invad.training.job import CURVE_FILE

pytestmark = pytest.mark.ray
TINY = FeaturesConfig("mobilenetv2_100", image_size=32, batch_size=8)


@pytest.fixture(autouse=True)
def no_other_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    torch.set_num_threads(1)  # as the workers here have


@pytest.fixture(scope="module")
def session():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("PYTHONPATH", str(Path(interruptions.__file__).parent))  # so that the workers find `interruptions`
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # after which Ray sees that one is lost
        patch.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # one process less to start
        with ray_session(num_cpus=2, num_gpus=2) as cluster:
            yield cluster


@pytest.fixture
def real_ray(session, monkeypatch) -> Cluster:
    for module in (distributed_shards, distributed_train):
        monkeypatch.setattr(module, "ray_session", lambda: nullcontext(session))
    monkeypatch.setattr(distributed_train, "_train_worker", interruptions.interrupted_worker)
    return session


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The weights and the losses of one worker that nothing disturbs."""
    folder = tmp_path_factory.mktemp("alone")
    make_folder(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        method, steps = train(folder, ALONE)
    return method.state_dict(), [step.loss for step in steps]


@pytest.fixture(scope="module")
def two(session, tmp_path_factory):
    """The weights and the losses of two workers that nothing disturbs, and the GPUs that each of them was given."""
    folder = tmp_path_factory.mktemp("two")
    make_folder(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed_train, "ray_session", lambda: nullcontext(session))
        patch.setattr(distributed_train, "_train_worker", interruptions.interrupted_worker)
        method, steps = train(folder, replace(TWO, resources_per_worker=ResourcesConfig(cpu=0.5, gpu=1)))
    gpus = [json.loads(path.read_text())["ray"] for path in folder.glob("gpus-*.json")]
    return method.state_dict(), [step.loss for step in steps], gpus


@pytest.fixture
def folder(tmp_path) -> Path:
    make_folder(tmp_path)
    return tmp_path


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def kill_when_it_waits(folder: Path) -> threading.Thread:
    def kill() -> None:
        try:
            os.kill(waiting(folder), signal.SIGKILL)
        finally:
            go_on(folder)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def test_a_killed_stage_goes_on_from_its_checkpoint_to_the_same_bits(folder, alone):
    command = [sys.executable, str(Path(interruptions.__file__)), str(folder)]
    plan(folder, "wait", after=8)
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert waiting(folder) == killed.pid
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    (storage,) = (folder / "storage").iterdir()
    assert (storage / CURVE_FILE).read_text().splitlines()[-1].startswith("8,")
    assert not (folder / "weights.pt").exists()

    go_on(folder)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "False\n"  # one worker needs no Ray, and does not import it
    assert begun(folder) == [0, 5]
    assert same(torch.load(folder / "weights.pt", weights_only=True), alone[0])
    assert not storage.exists()


def test_two_workers_have_the_losses_of_one(two, alone):
    assert len(two[1]) == len(alone[1]) == STEPS
    assert max(abs(a - b) for a, b in zip(two[1], alone[1], strict=True)) < 1e-4


def test_a_killed_worker_of_two_costs_the_steps_since_the_checkpoint(folder, real_ray, two, caplog):
    plan(folder, "wait", after=8, rank=1)
    killer = kill_when_it_waits(folder)
    resumed = []
    with caplog.at_level(logging.WARNING, "invad"):
        method, steps = train(folder, TWO, on_progress=lambda *told: resumed.append(told[2]))
    killer.join()
    assert begun(folder) == [0, 5]
    assert [step.step for step in steps] == list(range(1, STEPS + 1))
    assert [step.loss for step in steps] == two[1]
    assert same(method.state_dict(), two[0])
    assert set(resumed) == {0}
    (warning,) = [record.message for record in caplog.records if record.name.startswith("invad")]
    assert warning.startswith("a worker was lost (")
    assert warning.endswith("); going on after step 5")
    assert "\n" not in warning


def test_a_worker_of_a_cluster_gives_the_bits_of_one_in_this_process(folder, real_ray, alone, monkeypatch):
    monkeypatch.setattr(distributed_train, "needs_cluster", lambda _workers: True)
    method, _ = train(folder, ALONE)
    assert begun(folder) == [0]
    assert same(method.state_dict(), alone[0])


def test_a_failure_that_comes_back_at_the_same_step_is_called_a_bug(folder, real_ray):
    plan(folder, "die", after=7, rank=1)
    with pytest.raises(RuntimeError) as caught:
        train(folder, TWO)
    assert begun(folder) == [0, 5]
    message = str(caught.value)
    (storage,) = (folder / "storage").iterdir()
    assert message.startswith(
        "training failed twice after the checkpoint of step 5; this is a bug or a machine that cannot hold it, not "
    )
    assert message.endswith(f"The checkpoints: {storage}")
    assert "\n" not in message


def test_every_worker_has_a_gpu_of_its_own_and_more_than_there_are_is_refused(folder, real_ray, two):
    assert sorted(two[2]) == [[0], [1]]
    with pytest.raises(
        InputError,
        match=r"^params\.yaml: train\.resources_per_worker: of 2 workers with 0\.5 CPUs, 2 GPUs each, 1 fit; Ray has 1 node",
    ):
        train(folder, replace(TWO, resources_per_worker=ResourcesConfig(cpu=0.5, gpu=2)))


def test_the_cluster_that_ray_address_names_is_joined(session):
    code = "from invad.cluster.cluster import ray_session\nwith ray_session() as cluster: print(cluster.text())"
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address, "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "Ray has 1 node of 2 CPUs, 2 GPUs\n", done.stderr


# Results and mistakes


@pytest.fixture
def images(tmp_path, monkeypatch) -> Split:
    """Images for five shards."""
    monkeypatch.setattr(store_module, "SHARD_BYTES", 1)
    return image_split(tmp_path, train=60, test=10, size=8)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_two_real_workers_extract_the_bytes_of_one(images, tmp_path, real_ray):
    extract_features(images, TINY, tmp_path / "alone")
    seen = []
    run = shard_runner(distributed_toys.TWO)
    key = extract_features(images, TINY, tmp_path / "shared", run, on_progress=lambda *a: seen.append(a))
    assert key.phase == "train"
    assert len(contents(tmp_path / "shared")) == 5
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")
    assert seen[0] == (0, 70)
    assert sorted(seen[1:]) == [(10, 70), (12, 70), (16, 70), (16, 70), (16, 70)]
    assert not list(tmp_path.glob(".*"))


def test_an_image_that_is_damaged_is_one_line_from_real_workers_too(images, tmp_path, real_ray):
    image = tmp_path / "images/063.png"
    whole = image.read_bytes()
    image.write_bytes(whole[:70])
    with pytest.raises(InputError) as caught:
        extract_features(images, TINY, tmp_path / "store", shard_runner(distributed_toys.TWO))
    assert str(caught.value).startswith(f"{image}: damaged image (")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_two_real_workers_stop_at_a_nan(tmp_path, real_ray):
    split = split_of(tmp_path, train=10, test=0)
    write_toy_store(tmp_path / "features", split)
    image = distributed_toys.first_used_in_epoch(1)
    distributed_toys.spoil(split, tmp_path, image)
    with pytest.raises(InputError) as caught:
        distributed_toys.run(split, tmp_path, replace(distributed_toys.CONFIG, epochs=2), distributed_toys.TWO)
    (storage,) = distributed_toys.storages(tmp_path)
    distributed_toys.check_not_finite(str(caught.value), image, storage)
