"""Ray around training and extraction: the results of one process, resuming, mistakes in one line. test_survival.py has real workers."""

import logging
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import pytest
import torch
from distributed_toys import ALONE, CONFIG, TWO, check_not_finite, first_used_in_epoch, run, spoil, storages
from toys import CPU, KEY, split_of, write_toy_store

from invad.cluster import train as distributed_train
from invad.cluster.cluster import Cluster, gpus_per_worker, needs_cluster, ray_session
from invad.cluster.extract import shard_runner
from invad.cluster.train import after_failure
from invad.config import (
    RDConfig,
    ResourcesConfig,
    TrainConfig,
    TrainingConfig,
)
from invad.data.split_table import Split
from invad.devices import make_deterministic, place
from invad.errors import InputError
from invad.features import FeatureKey, FeatureStore
from invad.features.batches import BatchSource
from invad.features.extract import run_here
from invad.methods import build_method
from invad.methods.invad.network import InvAD
from invad.training import job as job_module
from invad.training.checkpoints import Checkpoints
from invad.training.curve import Step
from invad.training.job import storage_name
from invad.training.loop import Trainer, epoch_batches


@pytest.fixture(autouse=True)
def no_other_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    torch.set_num_threads(1)  # as the workers here have


# Training


@pytest.fixture
def split(tmp_path) -> Split:
    """A split of ten images, whose features exist."""
    split = split_of(tmp_path, train=10, test=0)
    write_toy_store(tmp_path / "features", split)
    return split


# One worker, in this process


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.slow
def test_ray_gives_the_curve_and_weights_of_the_plain_loop_and_leaves_no_storage(split, tmp_path, precision):
    config = replace(CONFIG, precision=precision)
    features = FeatureStore(tmp_path / "features", "train")
    make_deterministic(config.seed, CPU)
    method = place(build_method(features.key.output, config), CPU, config)
    trainer = Trainer(method, BatchSource(features, method.needs), config)
    expected = list(trainer.steps())
    seen = []
    method, steps = run(split, tmp_path, config, on_progress=lambda new, total, _: seen.append((len(new), total)))
    assert [step.step for step in steps] == list(range(1, 9))
    assert [step.loss for step in steps] == pytest.approx([step.loss for step in expected], rel=1e-8)
    for name, tensor in method.state_dict().items():
        assert torch.equal(tensor, trainer.method.state_dict()[name]), name
    assert not method.training
    assert sum(count for count, _ in seen) == 8
    assert {total for _, total in seen} == {8}
    assert storages(tmp_path) == []


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_an_interrupted_training_continues_to_the_same_bytes(split, tmp_path, monkeypatch):
    whole, _ = run(split, tmp_path)
    steps_seen = []

    def dies(path: Path, step: Step) -> None:
        steps_seen.append(step.step)
        if step.step == 7:
            raise Killed
        original(path, step)

    original = job_module.append_step
    monkeypatch.setattr(job_module, "append_step", dies)
    with pytest.raises(Killed):
        run(split, tmp_path)
    assert len(storages(tmp_path)) == 1
    resumed_steps = []
    monkeypatch.setattr(
        job_module, "append_step", lambda path, step: (resumed_steps.append(step.step), original(path, step))
    )
    resumed, curve = run(split, tmp_path)
    assert steps_seen == [1, 2, 3, 4, 5, 6, 7]
    assert resumed_steps == [5, 6, 7, 8]  # the checkpoint was written after step 4
    assert [step.step for step in curve] == list(range(1, 9))
    assert whole.state_dict().keys() == resumed.state_dict().keys()
    assert all(torch.equal(tensor, resumed.state_dict()[name]) for name, tensor in whole.state_dict().items())


@pytest.mark.slow
def test_a_training_that_is_killed_while_it_writes_a_checkpoint_keeps_the_one_before(split, tmp_path, monkeypatch):
    often = replace(ALONE, checkpoint_steps=2)
    whole, _ = run(split, tmp_path)
    save, written = torch.save, []

    def dies(state: dict, file: BinaryIO) -> None:
        if len(written) == 2:
            file.write(b"half")
            raise Killed
        written.append(state["step"])
        save(state, file)

    monkeypatch.setattr(torch, "save", dies)
    with pytest.raises(Killed):
        run(split, tmp_path, workers=often)
    monkeypatch.setattr(torch, "save", save)
    (storage,) = storages(tmp_path)
    checkpoints = ["checkpoint-00000002.pt", "checkpoint-00000004.pt"]
    assert sorted(path.name for path in storage.iterdir()) == [*checkpoints, "curve.csv", "pid"]
    assert torch.load(storage / checkpoints[1], weights_only=True)["step"] == written[-1] == 4
    resumed, _ = run(split, tmp_path, workers=often)
    assert all(torch.equal(tensor, resumed.state_dict()[name]) for name, tensor in whole.state_dict().items())


def test_other_settings_never_resume(monkeypatch):
    def name(key: FeatureKey = KEY, config: TrainConfig = CONFIG, workers: TrainingConfig = ALONE) -> str:
        return storage_name("mvtec", key, config, workers)

    def of_other(module: object, function: str, value: object) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(module, function, value)
            return name()

    names = [
        name(),
        name(key=replace(KEY, split_sha256="other")),
        name(key=replace(KEY, precision="bfloat16")),
        name(config=replace(CONFIG, epochs=5)),
        name(config=replace(CONFIG, precision="float16")),
        name(config=RDConfig(epochs=4, batch_size=4)),
        name(workers=TrainingConfig(2, ALONE.resources_per_worker)),
        name(workers=TrainingConfig(1, ResourcesConfig(cpu=2))),
        of_other(torch, "__version__", "1.0"),
        of_other(job_module, "code_digest", lambda *roots: f"other code of {roots}"),
    ]
    assert len(set(names)) == len(names)
    assert name(workers=replace(ALONE, checkpoint_steps=1)) == names[0]
    assert re.fullmatch("mvtec-[0-9a-f]{16}", names[0])


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        (TrainingConfig(3), "params.yaml: train.workers: 3 workers cannot share a batch of 4 evenly"),
        (
            TrainingConfig(1, ResourcesConfig(cpu=999, gpu=0)),
            r"params.yaml: train\.resources_per_worker: of 1 workers with 999 CPUs, 0 GPUs each, 0 fit; Ray has 1 node",
        ),
        (
            TrainingConfig(1, ResourcesConfig(cpu=1, gpu=64)),
            r"params.yaml: train\.resources_per_worker: of 1 workers with 1 CPUs, 64 GPUs each, 0 fit; Ray has 1 node",
        ),
    ],
)
def test_what_does_not_fit_is_said_at_once(split, tmp_path, workers, message):
    with pytest.raises(InputError, match=message):
        run(split, tmp_path, workers=workers)


def test_a_loss_that_is_not_finite_names_the_last_good_checkpoint(split, tmp_path):
    image = first_used_in_epoch(1)
    spoil(split, tmp_path, image)
    with pytest.raises(InputError) as caught:
        run(split, tmp_path, workers=replace(ALONE, checkpoint_steps=2))
    (storage,) = storages(tmp_path)
    check_not_finite(str(caught.value), image, storage)


@pytest.mark.parametrize(
    ("precision", "remedy"),
    [
        ("float32", "try a lower learning_rate"),
        ("bfloat16", "try a lower learning_rate or `precision: float32`"),
        ("float16", "try a lower learning_rate or `precision: float32`"),
    ],
)
def test_without_a_checkpoint_the_message_says_so(split, tmp_path, precision, remedy):
    spoil(split, tmp_path, int(epoch_batches(10, 0, CONFIG)[0][0]))
    with pytest.raises(
        InputError,
        match=rf"^the loss is nan at step 1 \(epoch 1\); its batch: .*; there is no checkpoint yet; {remedy}$",
    ):
        run(split, tmp_path, replace(CONFIG, precision=precision))


def test_a_gradient_that_is_not_finite_names_the_last_good_checkpoint(split, tmp_path, monkeypatch):
    loss, calls = InvAD.loss, []

    def breaks(self, features, reconstructions):
        calls.append(1)
        slope = 0.0 if len(calls) == 6 else 1.0  # that of a square root at 0 is infinite
        weight = next(self.parameters()).sum() * 0
        return loss(self, features, reconstructions) + (weight + slope).sqrt() - slope

    monkeypatch.setattr(InvAD, "loss", breaks)
    with pytest.raises(
        InputError,
        match=r"^the gradient is nan at step 6 \(epoch 3\); .*; the last good checkpoint is .*checkpoint-00000004",
    ):
        run(split, tmp_path)
    (storage,) = storages(tmp_path)
    assert torch.load(storage / "checkpoint-00000004.pt", weights_only=True)["step"] == 4
    run(split, tmp_path)  # goes on from there
    assert len(calls) == 6 + 4


# What a cluster has, and what its failures mean


def test_one_process_is_enough_for_one_worker_unless_a_cluster_is_named(monkeypatch):
    assert not needs_cluster(ALONE)
    assert needs_cluster(TWO)
    assert shard_runner(ALONE) is run_here
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    assert needs_cluster(ALONE)
    assert shard_runner(ALONE) is not run_here


@pytest.mark.parametrize(
    ("workers", "gpu", "nodes", "expected"),
    [
        (1, "auto", [{"CPU": 4}], 0),
        (1, "auto", [{"CPU": 4, "GPU": 1}], 1),
        (2, "auto", [{"CPU": 4, "GPU": 1}], 0),  # not enough for all
        (2, "auto", [{"CPU": 4, "GPU": 2}], 1),
        (2, "auto", [{"CPU": 2, "GPU": 1}, {"CPU": 2, "GPU": 1}], 1),
        (2, "auto", [{"CPU": 2, "GPU": 2}, {"CPU": 2}], 0),  # the CPUs beside the GPUs suffice for one worker
        (2, 0.5, [{"CPU": 4, "GPU": 1}], 0.5),
        (1, 0, [{"CPU": 4, "GPU": 1}], 0),
    ],
)
def test_auto_takes_a_gpu_for_each_worker_or_none(workers, gpu, nodes, expected):
    assert gpus_per_worker(workers, ResourcesConfig(cpu=2, gpu=gpu), Cluster(tuple(nodes)), "train") == expected


def test_gpus_that_are_too_few_are_not_left_alone_silently(caplog):
    resources = ResourcesConfig(cpu=2, gpu="auto")
    assert gpus_per_worker(2, resources, Cluster(({"CPU": 4, "GPU": 1},)), "train") == 0
    assert caplog.messages == [
        "of 2 workers of train, 1 would have a GPU and 2 CPUs, so all compute on CPUs; Ray has 1 node of 4 CPUs, 1 GPUs"
    ]
    caplog.clear()
    gpus_per_worker(2, resources, Cluster(({"CPU": 4},)), "train")
    gpus_per_worker(2, replace(resources, gpu=0), Cluster(({"CPU": 4, "GPU": 1},)), "train")
    assert not caplog.messages


def test_what_fits_in_all_but_on_no_node_is_refused_with_what_is_there():
    cluster = Cluster(({"CPU": 2}, {"CPU": 4, "GPU": 1}, {"CPU": 2}))
    with pytest.raises(InputError) as caught:
        gpus_per_worker(2, ResourcesConfig(cpu=3, gpu=0), cluster, "train")
    assert str(caught.value) == (
        "params.yaml: train.resources_per_worker: of 2 workers with 3 CPUs, 0 GPUs each, 1 fit; "
        "Ray has 2 nodes of 2 CPUs, 0 GPUs and 1 node of 4 CPUs, 1 GPUs"
    )
    assert gpus_per_worker(4, ResourcesConfig(cpu=2, gpu=0), cluster, "train") == 0
    assert gpus_per_worker(10, ResourcesConfig(cpu=0.1, gpu=0), Cluster(({"CPU": 1},)), "train") == 0


def fails_to_join(address: str, monkeypatch) -> str:
    """The message with which `ray_session` refuses an address, in one line and in time."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    started = time.monotonic()
    with pytest.raises(InputError) as caught, ray_session():
        pass
    assert time.monotonic() - started < 30
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("length", [37, 150])
def test_ray_starts_whatever_the_length_of_the_temporary_folder(length):
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        folder = Path(short, "t" * (length - len(short) - 1))
        folder.mkdir()
        code = "from invad.cluster.cluster import ray_session\nwith ray_session(num_cpus=1) as cluster: print(cluster.text())"
        environment = {**os.environ, "TMPDIR": str(folder)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert done.stdout == f"Ray has 1 node of 1 CPUs, {torch.cuda.device_count()} GPUs\n", done.stderr
        assert any(folder.iterdir()) == (length == 37)  # Ray's own choice where it will do


@pytest.mark.parametrize("address", ["nonsense", "host:", "host:port", "host:99999", "ray://host:10001"])
def test_a_malformed_ray_address_is_named(address, monkeypatch):
    message = fails_to_join(address, monkeypatch)
    assert message.startswith(f"RAY_ADDRESS: cannot reach {address!r} (")
    assert message.endswith("expected HOST:PORT of a running cluster, as `ray start` prints it, or `auto`")


def test_a_closed_port_and_a_host_that_cannot_be_reached_are_named(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{free.getsockname()[1]}"
    for address in (closed, "192.0.2.1:6379", "no-such-host.invalid:6379"):
        assert fails_to_join(address, monkeypatch).startswith(f"RAY_ADDRESS: cannot reach {address!r} (")


def test_nccl_is_for_whole_gpus_that_ray_has_found_itself():
    told, real = (
        Cluster(({"CPU": 4, "GPU": 2},)),
        Cluster(({"CPU": 4, "GPU": 2, "accelerator_type:H100": 1}, {"CPU": 1})),
    )
    assert [distributed_train._backend(gpus, real) for gpus in (1, 2, 0.5, 0)] == ["nccl", "nccl", "gloo", "gloo"]
    assert distributed_train._backend(1, told) == "gloo"


def test_the_users_mistake_is_found_behind_what_ray_wraps_it_in():
    mistake = InputError("images/1.png: damaged")

    def chained(error: Exception, cause: BaseException) -> Exception:
        error.__cause__ = cause
        return error

    wrapped = RuntimeError("of a task")
    wrapped.cause = mistake
    group = RuntimeError("of all workers")
    group.worker_failures = {1: chained(ValueError("of a worker"), mistake)}
    both = RuntimeError("of two workers, of which one broke the other")
    both.worker_failures = {
        0: RuntimeError("Connection closed by peer"),
        1: chained(ValueError("of a worker"), mistake),
    }
    for error in (
        both,
        chained(RuntimeError("outer"), mistake),
        wrapped,
        group,
        chained(KeyError("outer"), group),
    ):
        with pytest.raises(InputError, match=r"^images/1\.png: damaged$"):
            after_failure(error, SimpleNamespace(), None)


# What becomes of a failed training; test_survival.py has real ones


class WorkersError(RuntimeError):
    """A failure of Ray Train's, of the worker that raised `cause`."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("pages of\nRay's own")
        self.worker_failures = {1: cause}


def test_a_failure_is_a_line_in_the_log_and_one_without_a_new_checkpoint_a_bug(tmp_path, caplog):
    job = SimpleNamespace(storage=str(tmp_path))
    error = WorkersError(ValueError("in pages\nan index is out of range"))
    assert after_failure(error, job, None) == 0
    Checkpoints(tmp_path).save(5, {})
    assert after_failure(error, job, 0) == 5
    with pytest.raises(RuntimeError) as caught:
        after_failure(error, job, 5)
    cause = "ValueError: an index is out of range"
    assert [record.message for record in caplog.records] == [
        f"a worker was lost ({cause}); going on after step {step}" for step in (0, 5)
    ]
    assert str(caught.value) == (
        "training failed twice after the checkpoint of step 5; this is a bug or a machine that cannot hold it, not bad luck. "
        f"The last failure: {cause}. The checkpoints: {tmp_path}"
    )


@pytest.mark.parametrize("timed_out", [False, True])
def test_a_cluster_that_is_too_small_after_a_loss_or_too_busy_is_said_with_what_is_kept(
    tmp_path, monkeypatch, timed_out
):
    class WorkerGroupStartupTimeoutError(RuntimeError):  # Ray's own is private
        pass

    Checkpoints(tmp_path).save(5, {})
    error, job = RuntimeError(), SimpleNamespace(storage=str(tmp_path))
    each = ResourcesConfig(cpu=2, gpu=1)
    left = [{"CPU": 4, "GPU": 1}] * 2
    monkeypatch.setattr(distributed_train, "nodes", lambda: Cluster(tuple(left)))
    distributed_train.check_room(error, job, 2, each)
    if timed_out:
        error.controller_failure = WorkerGroupStartupTimeoutError()
        expected = "the cluster is busy: there was no room for 2 workers in time; the checkpoint of step 5 is kept, "
    else:
        left.pop()
        expected = (
            "params.yaml: train.resources_per_worker: of 2 workers with 2 CPUs, 1 GPUs each, 1 fit; Ray has 1 node of 4 "
            "CPUs, 1 GPUs: a node is lost; the checkpoint of step 5 is kept, "
        )
    with pytest.raises(InputError) as caught:
        distributed_train.check_room(error, job, 2, each)
    assert str(caught.value).startswith(expected)


@pytest.mark.slow
def test_ray_stays_quiet_whatever_is_imported_after_it_was_asked_to():
    code = (
        "import logging; from invad.cluster.cluster import quiet; quiet(); import ray.train, ray.train.torch; "
        "print(min(logging.getLogger(name).level for name in ('ray', 'ray.train', 'ray.data')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout.splitlines()[-1]) >= logging.WARNING
