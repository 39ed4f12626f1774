"""The benchmarks of intervals and of synthetic anomalies, from end to end with few of each."""

import json
import sys

import torch
from benchmark_scripts import script


def run(name, options, out, monkeypatch):
    """Run a script and return its result."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *options.split(), "--out", str(out)])
    script(name).main()
    torch.set_num_threads(threads)
    (path,) = out.glob("*.json")
    result = json.loads(path.read_text())
    assert result["command"] == f"python benchmarks/{name}.py {options}"
    assert f"Made by `{result['command']}`." in path.with_suffix(".md").read_text()
    return result


def test_intervals_are_shorter_with_more_images(tmp_path, monkeypatch):
    few, many = run("intervals", "--tests 5 --images 5,40 --auroc 0.9", tmp_path, monkeypatch)["coverage"]
    assert (few["images"], many["images"]) == (5, 40)
    assert 0 < many["length"] < few["length"] < 1
    assert 0 <= few["within"] <= 1


def test_each_recipe_and_each_of_its_parts_is_timed(tmp_path, monkeypatch):
    rows = run("synthesis", "--images 3 --size 64", tmp_path, monkeypatch)["rows"]
    parts = [row["part"] for row in rows]
    assert [part for part in parts if part.startswith("whole")] == [
        "whole, DRAEM's", "whole, texture as it is", "whole, shuffled tiles",
    ]  # fmt: skip
    assert len(set(parts)) == len(parts)
    assert set(script("synthesis").NAMES) < set(parts)
    assert all(0 < row["median_ms"] <= row["p95_ms"] for row in rows)
