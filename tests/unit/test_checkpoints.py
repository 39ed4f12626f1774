"""Checkpoints, the job that resumes from them at any step, BatchNorm over several workers, and what a person follows."""

import logging
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn
from toys import CPU, FEATURES, KEY, ToyMethod, split_of, write_toy_store

from invad.config import InvADConfig
from invad.data.split_table import Split
from invad.errors import InputError
from invad.features import open_features
from invad.features.batches import BatchSource
from invad.methods import build_method
from invad.methods.base import Needs
from invad.training import job as job_module
from invad.training.batch_norm import SynchronisedBatchNorm2d, synchronised
from invad.training.checkpoints import Checkpoints, newest_step
from invad.training.curve import Step
from invad.training.job import TrainJob, run_job
from invad.training.loop import Share
from invad.training.owner import OWNER_FILE, claim, owner
from invad.training.progress import Progress

CONFIG = InvADConfig(epochs=3, batch_size=2, style_channels=8, latent_channels=4, blocks=1)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# Files


def test_the_newest_two_stay(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.newest() is None
    assert newest_step(tmp_path) == 0
    for step in (9, 10, 200):
        checkpoints.save(step, {"step": step, "weight": torch.ones(2)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-00000010.pt", "checkpoint-00000200.pt"]
    assert checkpoints.newest()["step"] == newest_step(tmp_path) == 200


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "foreign"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, damage, caplog):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, {"step": step, "weight": torch.full((1000,), 3.25)})
    path = tmp_path / "checkpoint-00000002.pt"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(torch.full((4,), 3.25).numpy().tobytes()) + 400] ^= 1
    path.write_bytes({"cut": whole[:-100], "empty": b"", "flipped": bytes(flipped), "foreign": b"hello"}[damage])
    with caplog.at_level(logging.WARNING, "invad"):
        assert checkpoints.newest()["step"] == 1
    (record,) = caplog.records
    assert record.message.startswith(f"{path}: damaged checkpoint (")
    assert "\n" not in record.message


def test_a_checkpoint_that_would_run_code_is_not_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "hacked"),)

    torch.save({"step": Evil()}, tmp_path / "checkpoint-00000001.pt")
    assert Checkpoints(tmp_path).newest() is None
    assert not (tmp_path / "hacked").exists()


# The job


@pytest.fixture
def split(tmp_path) -> Split:
    """A split of seven images, whose features exist: an epoch has three steps."""
    split = split_of(tmp_path, train=7, test=0)
    write_toy_store(tmp_path / "features", split)
    return split


def job(split: Split, tmp_path: Path, storage: str = "storage", every: int = 2, **settings) -> TrainJob:
    (tmp_path / storage).mkdir(exist_ok=True)
    folders = {"folder": str(tmp_path / "features"), "storage": str(tmp_path / storage)}
    return TrainJob(
        split=split, features=FEATURES, train=CONFIG, checkpoint_steps=every, threads=1, **folders, **settings
    )


class Killed(BaseException):
    pass


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("killed_after", [2, 3, 5, 8, 9])
@pytest.mark.slow
def test_a_job_goes_on_from_the_middle_of_an_epoch_to_the_same_bits(
    split, tmp_path, killed_after, precision, monkeypatch
):
    def of(storage: str, every: int) -> TrainJob:
        return replace(job(split, tmp_path, storage, every), train=replace(CONFIG, precision=precision))

    whole, curve = run_job(of("whole", 100), CPU)
    append = job_module.append_step

    def dies(path: Path, step: Step) -> None:
        append(path, step)
        if step.step == killed_after:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(job_module, "append_step", dies)
        with pytest.raises(Killed):
            run_job(of("storage", 1 if killed_after == 9 else 2), CPU)
    done = newest_step(tmp_path / "storage")
    assert done == {2: 0, 3: 2, 5: 4, 8: 6, 9: 8}[killed_after]
    again = []
    monkeypatch.setattr(job_module, "append_step", lambda path, step: (again.append(step.step), append(path, step)))
    resumed, same_curve = run_job(of("storage", 2), CPU)
    assert again == list(range(done + 1, 10))
    assert same_curve == curve
    assert same(resumed.state_dict(), whole.state_dict())


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_costs_steps_and_not_the_result(split, tmp_path):
    whole, curve = run_job(job(split, tmp_path, "whole"), CPU)
    settings = job(split, tmp_path)
    run_job(settings, CPU)
    newest, before = settings.checkpoints.paths()
    assert (newest.name, before.name) == ("checkpoint-00000009.pt", "checkpoint-00000008.pt")
    newest.write_bytes(b"half")
    resumed, same_curve = run_job(settings, CPU)
    assert same_curve == curve
    assert same(resumed.state_dict(), whole.state_dict())


class NoisyMethod(ToyMethod):
    """A method that draws random numbers while it trains."""

    def __init__(self, output, config):
        super().__init__(output, config)
        self.dropout = nn.Dropout(0.5)

    def reconstructions(self, batch):
        return [self.dropout(x) for x in super().reconstructions(batch)]


def test_random_numbers_go_on_where_they_were(split, tmp_path, monkeypatch):
    monkeypatch.setattr(job_module, "build_method", NoisyMethod)
    whole, curve = run_job(job(split, tmp_path, "whole"), CPU)
    settings = job(split, tmp_path)

    def dies(step: int) -> None:
        if step == 4:
            raise Killed

    with pytest.raises(Killed):
        run_job(settings, CPU, at_checkpoint=dies)
    torch.manual_seed(99)
    resumed, same_curve = run_job(settings, CPU)
    assert same_curve == curve
    assert same(resumed.state_dict(), whole.state_dict())


@pytest.mark.slow
def test_what_is_told_of_checkpoints_and_what_a_checkpoint_holds(split, tmp_path):
    told = []

    settings = job(split, tmp_path, every=4)
    method, _ = run_job(settings, CPU, at_checkpoint=told.append)
    assert told == [4, 8, 9]
    state = settings.checkpoints.newest()
    assert state["step"] == 9
    assert state["trainer"].keys() == {"method", "optimizers", "scaler", "random"}
    assert same(state["trainer"]["method"], method.state_dict())


def test_only_worker_0_writes(split, tmp_path):
    told = []
    settings = job(split, tmp_path, every=4)
    run_job(settings, CPU, share=Share(1, 2), at_checkpoint=told.append)
    assert told == [4, 8, 9]
    assert list((tmp_path / "storage").iterdir()) == []


def test_workers_that_do_not_see_the_same_checkpoints_stop(split, tmp_path):
    run_job(job(split, tmp_path), CPU)
    with pytest.raises(InputError, match="the workers do not see the same checkpoints"):
        run_job(job(split, tmp_path), CPU, share=Share(1, 2, mean=lambda value: float(value) / 2))


def test_a_job_can_train_on_some_of_the_images(split, tmp_path):
    rows = (1, 3, 4, 6)
    few, curve = run_job(job(split, tmp_path, rows=rows), CPU)
    assert len(curve) == 6
    source = open_features(tmp_path / "features", "train", split, FEATURES)
    some = BatchSource(source, Needs(levels=(0, 1, 2)), rows=rows)
    assert some.images == [split.rows[row].image for row in rows]
    assert len(some) == len(rows)
    (batch,), (expected,) = some.batches([[2, 0]], CPU), source.batches([[4, 1]], CPU)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(batch.features, expected, strict=True))
    assert same(few.state_dict(), run_job(job(split, tmp_path, "again", rows=rows), CPU)[0].state_dict())


# BatchNorm over several workers


SIZES = ((3, 3), (1, 5))  # of the parts of a batch


def norm_and_batch() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    batch = torch.randn(6, 3, 5, 4) + torch.tensor([0.0, 1.0, -3.0])[:, None, None]
    return norm, batch, torch.randn(6, 3, 5, 4)


def normalise_parts(rank: int, folder: str) -> None:
    """What each of two workers does, for every way to share the batch."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    for sizes in SIZES:
        torch.save(normalise_part(rank, sizes), f"{folder}/{rank} of {sizes}.pt")
    distributed.destroy_process_group()


def normalise_part(rank: int, sizes: tuple[int, int]) -> dict[str, object]:
    norm, batch, weight = norm_and_batch()
    norm = synchronised(nn.Sequential(norm))
    start, stop = (0, sizes[0]) if rank == 0 else (sizes[0], sum(sizes))
    outputs, gradients = [], []
    for _ in range(3):
        part = batch[start:stop].clone().requires_grad_()
        output = norm(part)
        (output * weight[start:stop]).square().sum().backward()
        outputs.append(output.detach())
        gradients.append(part.grad)
    inner = norm[0]
    return {
        "output": outputs[-1],
        "gradient": gradients[-1],
        "weight": inner.weight.grad,
        "bias": inner.bias.grad,
        "state": {name: value.clone() for name, value in inner.state_dict().items()},
        "eval": norm.eval()(batch).detach(),
        "far": norm.train()(batch[start:stop] + 1000).detach(),
        "half": norm.train()(batch[start:stop].bfloat16()).dtype,
    }


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory) -> Path:
    """The folder of what two processes have computed."""
    folder = tmp_path_factory.mktemp("workers")
    multiprocessing.spawn(normalise_parts, (str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.slow
def test_two_workers_normalise_as_one_with_the_whole_batch(two_workers, sizes):
    parts = [torch.load(two_workers / f"{rank} of {sizes}.pt", weights_only=True) for rank in (0, 1)]
    norm, batch, weight = norm_and_batch()
    for _ in range(3):
        whole = batch.clone().requires_grad_()
        output = norm(whole)
        (output * weight).square().sum().backward()

    def check(mine: torch.Tensor, expected: torch.Tensor) -> None:
        assert torch.allclose(mine, expected, rtol=1e-5, atol=1e-6 * max(1.0, float(expected.abs().max())))

    check(torch.cat([part["output"] for part in parts]), output.detach())
    check(torch.cat([part["gradient"] for part in parts]), whole.grad)
    check(parts[0]["weight"] + parts[1]["weight"], norm.weight.grad)
    check(parts[0]["bias"] + parts[1]["bias"], norm.bias.grad)
    assert parts[0]["state"].keys() == norm.state_dict().keys()
    for name, value in norm.state_dict().items():
        check(parts[0]["state"][name].double(), value.double())
    assert same(parts[0]["state"], parts[1]["state"])
    check(parts[0]["eval"], norm.eval()(batch).detach())
    # A mean that is large beside the spread: a variance in one pass would have no digit left.
    far = norm.train().double()((batch + 1000).double()).detach()
    assert (torch.cat([part["far"] for part in parts]) - far).abs().max() < 1e-3
    assert parts[0]["half"] == torch.bfloat16


def test_alone_it_is_the_ordinary_one():
    (norm, batch, _), (other, _, _) = norm_and_batch(), norm_and_batch()
    synchronised(other)
    assert isinstance(other, SynchronisedBatchNorm2d)
    assert torch.equal(norm(batch), other(batch))
    assert same(norm.state_dict(), other.state_dict())


def test_every_batch_norm_of_a_method_is_replaced_and_nothing_else_changes():
    torch.manual_seed(0)
    method = build_method(KEY.output, CONFIG)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in method.modules())
    assert synchronised(method) is method
    assert sum(isinstance(module, SynchronisedBatchNorm2d) for module in method.modules()) == norms > 0
    assert same(method.state_dict(), before)


# What a person follows


def test_the_log_has_a_line_for_every_interval(tmp_path, capsys):
    now = [100.0]
    steps = [Step(number, (number - 1) // 10, 1 / number, 0.004) for number in range(1, 31)]
    path = tmp_path / "logs/train@mvtec.log"
    with Progress("train@mvtec", path, batch_size=4, checkpoint_steps=10, clock=lambda: now[0]) as progress:
        now[0] += 5  # Ray starts
        progress(steps[:2], 30)
        now[0] += 2
        progress(steps[2:6], 30)
        now[0] += 4
        progress(steps[6:8], 30)
        now[0] += 2
        progress(steps[8:12], 30)
        assert path.read_text().count("\n") == 3  # at once
        now[0] += 1
        progress(steps[12:30], 30)
    lines = [line.split(" ", 1)[1] for line in path.read_text().splitlines()]
    assert lines == [
        "train@mvtec: starts, 30 steps",
        # From the first steps on: 6 steps in 6 seconds, 10 in 8, 28 in 9.
        "step 8/30, epoch 1, loss 0.125, learning rate 0.004, 4.0 images/s, 0:00:22 left",
        "step 10/30, epoch 1, loss 0.1, learning rate 0.004, 5.0 images/s, 0:00:16 left",
        "step 20/30, epoch 2, loss 0.05, learning rate 0.004, 12.4 images/s, 0:00:03 left",
        "step 30/30, epoch 3, loss 0.0333333, learning rate 0.004, 12.4 images/s, 0:00:00 left",
    ]
    terminal = capsys.readouterr().err
    for part in ("train@mvtec", "30/30", "loss=0.03333", "epoch=3", "12.4 images/s"):
        assert part in terminal


def test_after_a_resume_speed_and_lines_are_of_the_new_steps(tmp_path):
    now = [0.0]
    steps = [Step(number, 0, 1.0, 0.004) for number in range(1, 101)]
    path = tmp_path / "train.log"
    path.write_text("of before\n")
    with Progress("train", path, batch_size=1, checkpoint_steps=10, clock=lambda: now[0]) as progress:
        progress(steps[:90], 100, 90)
        now[0] += 10
        progress(steps[90:], 100, 90)
    lines = path.read_text().splitlines()
    assert lines[0] == "of before"
    assert lines[1].endswith("train: goes on after step 90, 100 steps")
    assert [line.split(" ", 1)[1] for line in lines[2:]] == [
        "step 100/100, epoch 1, loss 1, learning rate 0.004, 1.0 images/s, 0:00:00 left"
    ]


# Who works in a folder


def test_a_folder_of_a_living_process_is_refused_and_one_of_a_dead_one_taken_over(tmp_path):
    assert owner(tmp_path) is None
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (tmp_path / OWNER_FILE).write_text(f"{socket.gethostname()} {sleeper.pid}")
    with pytest.raises(InputError, match=f"process {sleeper.pid} on .* works there"):
        claim(tmp_path)
    sleeper.communicate(b"\n")
    assert not owner(tmp_path).is_alive()
    claim(tmp_path)
    assert owner(tmp_path).pid == os.getpid()
    assert owner(tmp_path).is_alive()
    claim(tmp_path)  # this process may
    assert not replace(owner(tmp_path), since=1e9).is_alive()  # its id belongs to another process now
    assert replace(owner(tmp_path), host="elsewhere", pid=1).is_alive()
    (tmp_path / OWNER_FILE).write_text("nonsense")
    assert owner(tmp_path) is None
