"""The throughput benchmark: its arithmetic, its plain loops compute what the stages compute, and one run from end to end."""

import io
import json
import sys
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from benchmark_scripts import HARDWARE_KEYS, script

from invad.data.images import read_image, read_mask
from invad.devices import best_device
from invad.scoring import score as scoring

OPTIONS = (
    "--images 8 --extracted 12 --image-size 64 --encoder mobilenetv2_100 --model invad --batch 4 --threads 1 --workers 1 --rounds 1 "
    "--precisions float32 --device cpu"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What a small run without Ray prints, its result and the folder of its files."""
    out, printed, threads = tmp_path_factory.mktemp("throughput"), io.StringIO(), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setenv("CUDA_VISIBLE_DEVICES", "")  # as the script does, but for this run only
        patch.setattr(sys, "argv", ["throughput.py", *OPTIONS.split(), "--out", str(out)])
        assert script("throughput").main() == 0
    torch.set_num_threads(threads)
    return printed.getvalue(), json.loads((out / "throughput_mobilenetv2_100_cpu.json").read_text()), out


@pytest.mark.slow
def test_a_run_writes_json_and_tables_that_name_hardware_and_command_but_no_path(run):
    printed, result, out = run
    text = (out / "throughput_mobilenetv2_100_cpu.md").read_text()
    assert printed == text
    assert result["command"] == f"python benchmarks/throughput.py {OPTIONS}"
    assert f"Made by `{result['command']}`." in text
    assert set(result["hardware"]) == HARDWARE_KEYS
    assert (result["settings"]["images"], result["settings"]["extracted"], result["ray"]) == (8, 12, None)
    assert str(out) not in text + json.dumps(result)
    assert text.count("\n\n| ") == 4  # tables: extraction, scoring, shares, maps


def test_rows_have_speeds_and_the_shares_of_a_plain_loop_add_up(run):
    _, result, _ = run
    rows = {(task, row["way"]): row for task in ("extraction", "scoring") for row in result[task]}
    shared = {"method", "blur", "masks", "writing"}
    assert {key: set(row["shares"]) for key, row in rows.items()} == {
        ("extraction", "plain loop"): {"decode", "encoder", "writing"},
        ("extraction", "stage, one process"): {"rest"},
        ("scoring", "plain loop, stored features"): shared | {"reading"},
        ("scoring", "stage, stored features"): {"all"},
        ("scoring", "plain loop, live features"): shared | {"decode", "encoder"},
        ("scoring", "stage, live features"): {"all"},
    }
    for (task, _), row in rows.items():
        assert row["images_per_s"] == pytest.approx({"extraction": 12, "scoring": 8}[task] / row["seconds"])
        assert sum(row["shares"].values()) == pytest.approx(1)


def test_the_blur_is_scipys_and_precision_changes_the_maps_a_little(run):
    _, result, _ = run
    assert result["blur"]["largest_difference"] < 1e-5
    changes = {row["what"]: row for row in result["maps"]}
    assert list(changes) == ["features stored as float16", "scoring in bfloat16", "scoring in float16"]
    assert all(0 < row["mean"] < row["largest"] for row in changes.values())
    assert changes["features stored as float16"]["mean"] < changes["scoring in bfloat16"]["mean"] < 0.5


def test_the_start_counts_as_time_but_has_no_share():
    row = script("throughput").speed("plain loop", "float32", 12, {"start": 2.0, "decode": 1.0, "encoder": 3.0})
    assert (row["seconds"], row["start_s"]) == (6, 2)
    assert (row["images_per_s"], row["images_per_s_after_start"]) == (2, 3)
    assert row["shares"] == {"decode": 0.25, "encoder": 0.75}


def test_ways_take_turns_and_the_median_of_each_part_counts():
    seen = []

    def way(name, *seconds):
        remaining = iter(seconds)
        return lambda: (seen.append(name), {"all": next(remaining)})[1]

    ways = {"a": way("a", 5.0, 1.0, 2.0), "b": way("b", 7.0, 9.0, 8.0)}
    assert script("throughput").take_turns(ways, 3) == {"a": {"all": 2}, "b": {"all": 8}}
    assert seen == ["a", "b"] * 3


@pytest.mark.parametrize(("seconds", "holds"), [(14.0, True), (16.0, False)])
def test_ray_may_be_slower_than_the_plain_loop_by_its_start(monkeypatch, seconds, holds):
    throughput = script("throughput")
    monkeypatch.setattr(throughput, "time_idle_ray", lambda: {"all": 3.0})
    speeds = [
        {"way": throughput.PLAIN, "seconds": 10.0, "start_s": 1.0},
        {"way": throughput.RAY, "seconds": seconds, "start_s": 5.0},
    ]
    expected = {"slower_s": seconds - 10, "start_s": 5, "idle_s": 3, "holds": holds}
    assert throughput.compare_ray(speeds, rounds=1) == expected


def test_generated_images_are_the_same_every_time_and_every_other_one_has_a_mask(tmp_path):
    workload = script("workload")
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    first, again = (workload.write_images(folder, 4) for folder in folders)
    assert first == again
    assert [row.mask for row in first] == [None, "00001.png", None, "00003.png"]
    for path in folders[0].iterdir():
        assert path.read_bytes() == (folders[1] / path.name).read_bytes()
    assert read_image(folders[0] / "00000.jpg").shape == (480, 640, 3)
    assert 0 < read_mask(folders[0] / "00001.png").mean() < 0.5


@pytest.mark.slow
def test_the_plain_loop_computes_the_stages_maps_and_masks(tmp_path, monkeypatch):
    loops, workload = script("loops"), script("workload")
    settings = workload.Settings(
        images=5,
        extracted=5,
        image_size=32,
        encoder="mobilenetv2_100",
        model="rd",
        batch=2,
        threads=1,
        workers=1,
        device=best_device().type,  # which the stage takes
    )
    work = workload.Workload(settings, tmp_path)
    written = []

    def write_scores(table, batches, folder):
        written.append((table, list(batches)))
        folder.mkdir()

    for module in (loops, scoring):
        monkeypatch.setattr(module, "write_scores", write_scores)
    for live in (False, True):
        loops.score_plainly(work, "float32", live)
        loops.score_as_stage(work, "float32", live)
        (plain_table, plain), (stage_table, stage) = written[-2:]
        assert plain_table.equals(stage_table)
        assert [len(maps) for maps, *_ in plain] == [2, 2, 1]
        for (maps, masks, scores), (expected_maps, expected_masks, expected_scores) in zip(plain, stage, strict=True):
            np.testing.assert_allclose(maps, expected_maps, atol=1e-5)
            np.testing.assert_allclose(scores, expected_scores, atol=1e-5)
            assert np.array_equal(masks, expected_masks)


def test_wrong_options_are_refused_by_name(monkeypatch, capsys):
    for wrong, message in (
        (("--rounds", "0"), "--rounds are at least 1"),
        (("--image-size", "48", "--model", "rd"), "image_size: must be a multiple of 32, such as 32 or 64, not 48"),
        (("--precisions", "float32,half"), "--precisions: unknown half"),
    ):
        monkeypatch.setattr(sys, "argv", ["throughput.py", *wrong])
        with pytest.raises(SystemExit, match="2"):
            script("throughput").main()
        assert message in capsys.readouterr().err
