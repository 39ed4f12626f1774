"""The benchmark of the time to a good model: which trainings it makes, what its table says, and one run on a toy folder."""

import json
import math

import numpy as np
import pytest
from benchmark_scripts import script
from PIL import Image

quality = script("time_to_quality")


def test_methods_have_the_settings_of_their_studies():
    assert quality.sections("rd")["train"] == {"model": "rd", "recipe": "re-run"}
    assert quality.sections("uniad")["features"] == {"levels": (2, 4, 8, 16)}
    quick = quality.sections("invad-quick")
    assert (quick["train"]["batch_size"], quick["train"]["loss"]) == (8, "local-cosine")
    assert quick["score"] == {"map_levels": "sum"}


def test_trainings_take_turns_seed_by_seed_and_methods_without_epochs_run_once_a_seed():
    found = [(one.method, one.epochs, one.seed) for one in quality.trainings(["memory-bank", "rd"], [5, 10], [0, 1])]
    of_seed = [("memory-bank", None), ("rd", 5), ("rd", 10)]
    assert found == [(*one, seed) for seed in (0, 1) for one in of_seed]
    assert [quality.has_epochs(name) for name in ("patchcore", "anomalib-patchcore", "anomalib-rd")] == [
        False,
        False,
        True,
    ]


def row(method, epochs, seed, mad, seconds):
    values = dict.fromkeys(quality.SHOWN, 50.0) | {"mad": mad, "seconds": seconds, "cpu_seconds": 2 * seconds}
    return {"method": method, "epochs": epochs, "seed": seed} | values


def test_the_time_to_a_target_is_the_median_of_the_shortest_length_that_reaches_it_on_average():
    rows = [row("rd", 5, seed, mad, seconds) for seed, mad, seconds in ((0, 69, 10), (1, 74, 12), (2, 73, 50))]
    rows += [row("rd", 20, seed, 81, 40) for seed in range(3)]
    rows += [row("memory-bank", None, 0, 82, 4)]
    heads, rd, bank = quality.table(rows)
    assert dict(zip(heads, rd, strict=True)) | {"Method": "rd"} == {
        "Method": "rd", "s to 70": "12", "s to 75": "40", "s to 80": "40", "s to 85": "-", "best of epochs": "20",
        "seconds": "40", "CPU seconds": "80", "mAD": "81.0 (0.0)",
        "image AU-ROC": "50.0", "pixel AU-ROC": "50.0", "pixel AP": "50.0", "AU-PRO": "50.0",
    }  # fmt: skip
    assert bank[:6] == ["memory-bank", "4", "4", "4", "-", "-"]


class Given:
    """A task whose trainings are as long as they have epochs, and fail where they are of another Python."""

    def measure(self, training):
        if training.method in quality.PEERS:
            raise RuntimeError("anomalib-rd: no such decoder")
        return row(training.method, training.epochs, training.seed, 50.0, float(training.epochs or 1))


def test_no_longer_training_follows_one_that_takes_too_long_and_a_failure_is_said():
    wanted = quality.trainings(["rd", "anomalib-rd"], [5, 10, 20], [0, 1])
    *_, (rows, failures) = quality.measured(Given(), wanted, most_seconds=16)
    assert [(one["epochs"], one["seed"]) for one in rows] == [(5, 0), (10, 0), (5, 1), (10, 1)]
    assert failures == ["anomalib-rd: no such decoder"]


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.mark.slow
def test_the_script_measures_methods_from_the_image_files_on(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for number in range(10):
        mask = np.zeros((64, 64), np.uint8)
        mask[20:40, 20:40] = 255
        for part in ("train/good", "test/good", "test/bad"):
            pixels = rng.integers(0, 60, (64, 64, 3), np.uint8)
            if part == "test/bad":
                pixels[mask > 0] = 255
            save(tmp_path / f"box/{part}/{number:03d}.png", pixels)
        save(tmp_path / f"box/ground_truth/bad/{number:03d}_mask.png", mask)
    options = ["--methods", "memory-bank,invad-quick", "--epochs", "1", "--seeds", "0", "--image-size", "64"]
    command = ["time_to_quality.py", str(tmp_path), *options, "--threads", "1", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", command)
    quality.main()
    text = (tmp_path / "out/time_to_quality_mobilenetv2_100_64.json").read_text()
    bank, quick = json.loads(text)["rows"]
    assert bank["image_auroc"] > 90
    assert (quick["method"], quick["epochs"]) == ("invad-quick", 1)
    assert all(math.isfinite(quick[key]) for key in quality.SHOWN)
    assert 0 < bank["seconds"] < 100
    assert str(tmp_path) not in text
    assert "| memory-bank" in (tmp_path / "out/time_to_quality_mobilenetv2_100_64.md").read_text()
