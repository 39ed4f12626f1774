"""The benchmark of what loops take beyond their networks: its arithmetic, and one run from end to end."""

import json
import sys

import pytest
import torch
from benchmark_scripts import HARDWARE_KEYS, script

from invad.features import ahead as ahead_module

OPTIONS = "--images 3 --simulated 5 --seconds 0.01 --image-size 32 --encoder mobilenetv2_100 --model rd --batch 2 --threads 1 --rounds 1"


def test_loops_are_divided_by_their_networks_round_by_round_and_the_median_counts():
    seen, alone, loops = [], iter([(2.0, 1.0), (4.0, 1.0), (1.0, 1.0)]), iter(range(1, 7))

    def loop() -> tuple[float, float]:
        seen.append(ahead_module.leaves_cores(torch.device("cpu")))
        return 8.0, float(next(loops))

    result = script("overlap").compare(lambda: next(alone), loop, 3)
    assert seen == [False, True] * 3
    assert result == {
        "alone_s": 2, "one_after_the_other": 4, "ahead": 4, "one_after_the_other_cpu": 3, "ahead_cpu": 4,
    }  # fmt: skip


@pytest.mark.slow
def test_a_run_writes_a_row_for_each_loop_beside_its_networks_and_the_simulated_device(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["overlap.py", *OPTIONS.split(), "--out", str(tmp_path)])
    threads = torch.get_num_threads()
    script("overlap").main()
    torch.set_num_threads(threads)
    result = json.loads((tmp_path / "overlap_mobilenetv2_100.json").read_text())
    assert result["command"] == f"python benchmarks/overlap.py {OPTIONS}"
    assert set(result["hardware"]) == HARDWARE_KEYS
    devices = [row["device"] for row in result["rows"]]
    assert devices == ["CPU, torch on 1"] * 3 + ["simulated"] * 3
    alone = [round(row["alone_s"], 6) for row in result["rows"][3:]]
    assert alone == [0.03, 0.03, 0.06]  # three batches, of live features with two networks
    assert all(row["ahead"] >= 1 for row in result["rows"][3:])  # nothing is quicker than its device
    text = (tmp_path / "overlap_mobilenetv2_100.md").read_text()
    assert f"Made by `{result['command']}`." in text
    assert str(tmp_path) not in text + json.dumps(result)
