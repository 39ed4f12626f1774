"""The benchmark of the metrics: its ways agree about what they compute, and one run from end to end."""

import json
import sys

import pytest
from benchmark_scripts import HARDWARE_KEYS, script

OPTIONS = "--maps 4 --scale 2,3 --rounds 2"


class Here:
    """A `Child` that stays in this process."""

    def __init__(self, build, *arguments):
        self.held, self.failure = build(*arguments), None

    def ask(self, method, limit):
        return getattr(self.held, method)()

    def close(self):
        pass


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The JSON and the text of a small run, and where they lie."""
    out = tmp_path_factory.mktemp("metrics")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script("metrics"), "Child", Here)
        patch.setattr(sys, "argv", ["metrics.py", *OPTIONS.split(), "--out", str(out)])
        script("metrics").main()
    return json.loads((out / "metrics_4.json").read_text()), (out / "metrics_4.md").read_text(), out


def test_a_run_writes_a_row_for_each_way_and_each_number_of_maps(run):
    result, text, out = run
    assert result["command"] == f"python benchmarks/metrics.py {OPTIONS}"
    assert f"Made by `{result['command']}`." in text
    assert set(result["hardware"]) == HARDWARE_KEYS
    assert {len(way["all_seconds"]) for way in result["ways"].values()} == {2}
    assert [(row["maps"], row["scores"], row["way"]) for row in result["scaling"]] == [
        (count, scores, way)
        for scores in ("of one sign", "around zero")
        for count in (2, 3)
        for way in ("everything", "with_intervals")
    ]
    assert text.count("of one sign") + text.count("around zero") == len(result["scaling"])
    assert str(out) not in text + json.dumps(result)


def test_the_ways_agree(run):
    values = {name: way["values"] for name, way in run[0]["ways"].items()}
    assert values["with_intervals"] == values["everything"]
    ours = {key: value for key, value in values["everything"].items() if key in values["direct"]}
    assert len(ours) == len(values["direct"])
    for key in ours:
        # Of AU-PRO the direct way has 100 thresholds, and all thresholds of ours.
        assert ours[key] == pytest.approx(values["direct"][key], abs=0.02 if key == "region_aupro" else 1e-6), key
    assert values["two_pixel_metrics"].items() <= values["direct"].items()
