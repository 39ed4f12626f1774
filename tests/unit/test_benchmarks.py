"""The benchmark scripts: the yardstick computes what the network computes, the helpers' files, and one run from end to end."""

import json
import multiprocessing
import operator
import subprocess
import sys
import threading

import pytest
import torch
from benchmark_scripts import BENCHMARKS, HARDWARE_KEYS, script
from conftest import REPOSITORY
from networks import TINY, random_features, seeded

from invad.methods.maps import reconstruction_loss

# The yardstick


def test_the_naive_form_gives_the_networks_outputs_and_gradients():
    network = seeded(**TINY).double()
    naive = script("naive").NaiveFeatureInversion(seeded(**TINY).double())
    assert list(naive.state_dict()) == list(network.state_dict())
    features = [x.double() for x in random_features(network)]
    outputs, expected = naive(features), network(features)
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-9)
    reconstruction_loss(features, outputs).backward()
    reconstruction_loss(features, expected).backward()
    gradients = {name: parameter.grad for name, parameter in naive.named_parameters()}
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-9, msg=name)


def test_an_ablation_has_no_naive_form():
    with pytest.raises(ValueError, match="not one with ablations"):
        script("naive").NaiveFeatureInversion(seeded(**TINY, modulation="global"))


# Helpers


def test_hardware_is_described_without_naming_the_machine():
    facts = script("hardware").hardware(torch.device("cpu"), threads=3)
    assert set(facts) == HARDWARE_KEYS
    assert (facts["threads"], facts["gpu"], facts["torch"]) == (3, None, torch.__version__)
    assert f"{facts['cpu_cores']} cores, 3 threads used" in script("hardware").hardware_line(facts)


def test_the_peak_of_memory_is_never_less_than_what_is_held():
    hardware = script("hardware")
    before = hardware.resident_bytes()
    block = bytearray(64_000_000)
    block[:] = b"x" * len(block)
    assert hardware.peak_bytes() >= before + 64_000_000
    assert 0 < hardware.resident_bytes() <= hardware.peak_bytes()


def test_tables_are_aligned_and_commands_leave_out_where_to_write():
    results = script("results")
    assert results.markdown_table([("Variant", "s"), ("ours", "1.25")]) == [
        "| Variant |    s |",
        "| ------- | ---: |",
        "| ours    | 1.25 |",
    ]
    options = {"image_size": 32, "variants": "a,b", "out": "somewhere"}
    assert results.command("x.py", options) == "python benchmarks/x.py --image-size 32 --variants a,b"
    assert [results.number(value) for value in (None, 0.012345, 3.14159, 1536.7)] == ["-", "0.0123", "3.14", "1537"]


class Counter:
    """What a child process could hold."""

    def __init__(self, start):
        self.value = start

    def up(self):
        self.value += 1
        return self.value

    def fail(self):
        raise ValueError("/a/folder/x.so: file too short\nsecond line " + 100 * "x")


def test_a_child_answers_one_method_after_another_and_says_what_failed():
    parent, child = multiprocessing.Pipe()
    serving = threading.Thread(target=script("children").serve, args=(child, Counter, (5,)))
    serving.start()
    answers = []
    for method in ("up", "up", "fail", "absent"):
        parent.send(method)
        answers.append(parent.recv())
    parent.close()
    serving.join()
    assert answers[:3] == [(6, None), (7, None), (None, "ValueError: x.so: file too short second line ...")]
    assert answers[3][1].startswith("AttributeError")


def test_a_child_that_is_too_slow_or_dies_fails_and_answers_no_more():
    slow, dying = (script("children").Child(operator.methodcaller, name) for name in ("a", "b"))
    assert slow.ask("__repr__", limit=0) is None
    assert slow.failure == "not done within 0 s"
    dying._process.kill()
    assert dying.ask("__repr__", limit=60) is None
    assert dying.failure == "its process ended with exit code -9"
    for child in (slow, dying):
        assert child.ask("__repr__", limit=60) is None
        child.close()


# The training step


def test_differences_are_relative_and_leave_out_rounding_noise():
    reference = {"loss": 2.0, "norms": {"large": 3.0, "small": 0.4, "noise": 1e-9}}
    effect = {"loss": 2.5, "norms": {"large": 3.3, "small": 0.2, "noise": 1.0}}
    differences = script("training_step").differences
    assert differences(effect, reference) == {"loss_difference": 0.25, "gradient_difference": 0.5}
    assert differences(effect, None) == {"loss_difference": None, "gradient_difference": None}


def test_variants_are_compared_with_the_naive_one_and_one_that_failed_shows_why():
    training_step = script("training_step")
    numbers = {"images_per_s": 4.0, "loss_difference": 0.0, "gradient_difference": 2e-5}
    measured = {
        "naive": {"label": "naive", "step_s": 3.0, "peak_mb": 800.0, "peak_above_imports_mb": 400.0, **numbers},
        "ours": {"label": "ours", "step_s": 2.0, "peak_mb": 600.0, "peak_above_imports_mb": 100.0, **numbers},
        "compile": {"label": "ours, compile", "reason": "RuntimeError: no compiler"},
    }
    training_step.compare_with_naive(measured)
    heading, _, *rows = training_step.table(measured)
    assert rows[0] == ("ours", "2", "4", "1.5", "600", "0.75", "100", "0.25", "0", "2e-05")
    assert rows[1] == ("ours, compile: cannot run, RuntimeError: no compiler", *[""] * (len(heading) - 1))


def test_without_the_naive_variant_there_is_nothing_to_compare_with():
    measured = {"ours": {"step_s": 2.0, "peak_mb": 600.0, "peak_above_imports_mb": None}}
    script("training_step").compare_with_naive(measured)
    assert measured["ours"]["times_faster"] is None
    assert measured["ours"]["peak_mb_of_naive"] is None


@pytest.mark.slow
def test_the_script_measures_variants_and_writes_json_and_table(tmp_path):
    options = "--network tiny --image-size 32 --batch 2 --rounds 1 --threads 1 --device cpu --variants naive,ours"
    run = subprocess.run(
        [sys.executable, BENCHMARKS / "training_step.py", *options.split(), "--out", tmp_path],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    result = json.loads((tmp_path / "training_step_tiny_batch2_cpu.json").read_text())
    table = (tmp_path / "training_step_tiny_batch2_cpu.md").read_text()
    assert run.stdout == table
    assert result["command"] == f"python benchmarks/training_step.py {options}"
    assert result["command"] in table
    assert set(result["hardware"]) == HARDWARE_KEYS
    assert result["settings"]["batch"] == 2
    assert str(tmp_path) not in json.dumps(result) + table
    naive, ours = result["variants"]["naive"], result["variants"]["ours"]
    assert ours["images_per_s"] == pytest.approx(2 / ours["step_s"])
    assert ours["times_faster"] == pytest.approx(naive["step_s"] / ours["step_s"])
    assert ours["peak_mb_of_naive"] == pytest.approx(ours["peak_mb"] / naive["peak_mb"])
    assert 0 < ours["peak_above_imports_mb"] < ours["peak_mb"]
    assert naive["loss_difference"] < 1e-5
    assert naive["gradient_difference"] < 1e-3
    assert (ours["loss_difference"], ours["gradient_difference"]) == (0, 0)


def test_a_wrong_option_is_refused_by_name(monkeypatch, capsys):
    for wrong, message in (
        (("--variants", "ours,fast"), "--variants: unknown fast"),
        (("--image-size", "40"), "--image-size takes a multiple of 16"),
        (("--rounds", "0"), "--rounds and --threads are at least 1"),
    ):
        monkeypatch.setattr(sys, "argv", ["training_step.py", *wrong])
        with pytest.raises(SystemExit, match="2"):
            script("training_step").main()
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_imports_of_a_stage_are_measured_in_both_forms(tmp_path):
    script = BENCHMARKS / "imports.py"
    run = subprocess.run(
        [sys.executable, script, "--stages", "splits", "--rounds", "1", "--out", tmp_path],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    (row,) = json.loads((tmp_path / "imports.json").read_text())["rows"]
    assert row["stage"] == "splits"
    assert 0 < row["compiled_s"] < row["uncompiled_s"]
    assert "| splits" in (tmp_path / "imports.md").read_text()
