"""The report as a whole: what is collected, how results are grouped, which files are written."""

import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import REPOSITORY, save_image, save_mask
from reporting_toys import toy_result

from invad.config import (
    BenchmarkConfig,
    FeaturesConfig,
    FolderSplitConfig,
    InvADConfig,
    ScoreConfig,
)
from invad.data.source import Source, write_source
from invad.data.split_table import FILE_NAME, SplitRow, write_split_table
from invad.errors import InputError
from invad.files import write_json, write_text
from invad.metrics import KEYS
from invad.report.ablations import AblationReport, TrialResult, VariantRow, write_ablation
from invad.report.collect import collect_result, read_evidence, write_evidence
from invad.report.labels import OWN
from invad.report.report import write_report
from invad.report.results import grouped, select_samples, shown_images
from invad.scoring.store import write_scores
from invad.training.cost import Cost
from invad.workspace import Workspace

COST = Cost(parameters=30, trainable=20, multiply_adds=400)
RUN_INFO = {"rendered": "2026-01-01 10:00 UTC", "commit": "abcdef0123", "results": [{"machine": "a machine"}]}


@pytest.fixture(scope="module")
def ablations(tmp_path_factory) -> Path:
    """The folder of one whole study, and of a damaged one."""
    folder = tmp_path_factory.mktemp("ablations")
    values = dict.fromkeys(KEYS, 0.5)
    results = [TrialResult(name, 0, "finished", metrics=values) for name in ("paper", "other")]
    variants = [VariantRow("paper", "the paper's", True, {}), VariantRow("other", "another", False, {})]
    for module in ("ssm", "loss"):
        write_ablation(AblationReport(module, "What it brings", "mvtec", "embedded", variants, results), folder)
    (folder / "loss.json").write_text("{")
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory, ablations) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    write_report(folder, **inputs(ablations))
    return folder


def inputs(ablations: Path | None = None, **changes: object) -> dict[str, object]:
    results = [toy_result("visa", classes=("candle",)), toy_result("coco_ad_1", classes=("coco",))]
    return {"results": results, "ablations": ablations, "run_info": RUN_INFO, **changes}


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_every_file_is_written(report):
    plots = [f"{kind}_{name}" for kind in ("curves", "scores") for name in ("coco_ad_1", "visa")]
    tables = [
        "ablation_ssm",
        "datasets",
        "efficiency",
        "main",
        "operating_point",
        "overview",
        "per_class_coco_ad_1",
        "per_class_visa",
        "published",
    ]
    expected = [
        *(f"figures/{name}.{suffix}" for name in plots for suffix in ("png", "svg")),
        *(f"figures/heatmaps_{name}.png" for name in ("coco_ad_1", "visa")),
        *(f"tables/{name}.{suffix}" for name in tables for suffix in ("csv", "md", "tex")),
        "index.html",
        "run_info.json",
    ]
    assert sorted(files_of(report)) == sorted(expected)


@pytest.mark.slow
def test_only_run_info_tells_one_rendering_from_another(report, ablations, tmp_path):
    other = {"rendered": "2027-02-02 11:11 UTC", "commit": "0123abcdef", "results": []}
    write_report(tmp_path, **inputs(ablations, results=inputs()["results"][::-1], run_info=other))
    before, after = files_of(report), files_of(tmp_path)
    assert json.loads(after.pop("run_info.json")) == other
    assert json.loads(before.pop("run_info.json")) == RUN_INFO
    aside = re.compile(rb'<aside id="run-info".*?</aside>', re.DOTALL)
    pages = [files.pop("index.html") for files in (before, after)]
    assert b"abcdef0123" in aside.search(pages[0]).group()
    assert aside.sub(b"", pages[0]) == aside.sub(b"", pages[1])
    assert before == after
    for content in before.values():
        assert not any(fact in content for fact in (b"abcdef0123", b"a machine", b"2026-01-01", str(tmp_path).encode()))


def test_a_damaged_study_is_named_and_left_out(report):
    page = (report / "index.html").read_text()
    assert "ablation loss: left out: " in page and "loss.json: not a table" in page
    assert (
        "<h3>" not in page.partition('<h2 id="ablations">')[2].partition("<h2")[0]
    )  # one table needs no heading of its own
    assert "ablation_loss" not in "".join(files_of(report))


@pytest.mark.slow
def test_what_is_left_out_stands_on_the_page(tmp_path):
    left_out = ["mvtec: left out: metrics/mvtec.json: not valid JSON."]
    write_report(tmp_path, **inputs(results=[replace(toy_result(), tests=None, curves={})], left_out=left_out))
    assert left_out[0] in (tmp_path / "index.html").read_text()
    assert not [name for name in files_of(tmp_path) if name.startswith("figures/")]


def test_without_any_result_the_old_report_stays(tmp_path):
    write_text(tmp_path / "index.html", "old")
    with pytest.raises(InputError, match=r"no result to report; .*; mvtec: left out: gone\."):
        write_report(tmp_path, [], left_out=["mvtec: left out: gone."])
    assert files_of(tmp_path) == {"index.html": b"old"}


def test_a_report_that_fails_leaves_the_old_one_whole(tmp_path, monkeypatch):
    write_text(tmp_path / "index.html", "old")
    write_text(tmp_path / "tables" / "main.md", "old")
    monkeypatch.setattr("invad.report.report.write_figures", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(tmp_path, **inputs())
    assert files_of(tmp_path) == {"index.html": b"old", "tables/main.md": b"old"}


# Evidence


def test_evidence_reads_back_as_it_was(tmp_path):
    result = toy_result(classes=("wood",))
    write_evidence(result, tmp_path / "one")
    write_evidence(result, tmp_path / "two")
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    found = read_evidence(tmp_path / "one")
    assert {key: found[key] for key in ("source", "counts", "cost", "curves")} == {
        "source": result.source, "counts": result.counts, "cost": result.cost, "curves": result.curves,
    }  # fmt: skip
    tests, expected = found["tests"], result.tests
    assert (tests.names, tests.classes, tests.defect_types) == (expected.names, expected.classes, expected.defect_types)
    for name in ("labels", "has_mask", "image_scores", "maps"):
        np.testing.assert_array_equal(getattr(tests, name), getattr(expected, name))
        assert getattr(tests, name).dtype == getattr(expected, name).dtype
    assert tests.value_ranges == expected.value_ranges
    assert list(tests.pictures) == list(expected.pictures)
    for index, picture in expected.pictures.items():
        np.testing.assert_array_equal(tests.pictures[index].image, picture.image)
        np.testing.assert_array_equal(tests.pictures[index].mask, picture.mask)


def test_collecting_and_writing_evidence_need_no_plots_and_no_network():
    heavy = "matplotlib", "torch", "jinja2", "mlflow"
    code = f"import sys, invad.report.collect; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", ["result.json", "test_images.npz"])
def test_damaged_evidence_is_an_error_of_one_line(tmp_path, name):
    write_evidence(toy_result(classes=("wood",)), tmp_path / "evidence")
    path = tmp_path / "evidence" / name
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError, match="evidence") as caught:
        read_evidence(tmp_path / "evidence")
    assert "\n" not in str(caught.value)


def test_evidence_of_another_version_is_refused(tmp_path):
    write_evidence(toy_result(classes=("wood",)), tmp_path)
    facts = json.loads((tmp_path / "result.json").read_text())
    write_json(tmp_path / "result.json", facts | {"version": 1})
    with pytest.raises(InputError, match="not of version 2"):
        read_evidence(tmp_path)


# Grouping


def test_results_that_differ_in_the_seed_become_one():
    results = [toy_result(seeds=(seed,), seed=seed) for seed in (3, 1, 2)]
    (folded,) = grouped(results)
    assert tuple(folded.metrics_by_seed) == (1, 2, 3)
    assert folded.config.train.seed == 1
    assert folded.tests is results[1].tests
    assert (folded.label, folded.key) == (results[0].label, "mvtec")


def test_results_of_other_settings_say_what_sets_them_apart():
    results = [
        toy_result(),
        toy_result(epochs=5),
        toy_result(epochs=5, batch_size=4),
        toy_result("visa", classes=("candle",)),
    ]
    found = grouped(results)
    assert [result.label for result in found] == [
        "InvAD (mobilenetv2_100), epochs 15, batch_size 8",
        "InvAD (mobilenetv2_100), epochs 5, batch_size 4",
        "InvAD (mobilenetv2_100), epochs 5, batch_size 8",
        "InvAD (mobilenetv2_100)",
    ]
    assert [result.key for result in found][1:] == [
        "mvtec_invad-mobilenetv2-100-epochs-5-batch-size-4",
        "mvtec_invad-mobilenetv2-100-epochs-5-batch-size-8",
        "visa",
    ]


def test_the_same_settings_and_seed_twice_stay_two_runs():
    found = grouped([toy_result(), toy_result()])
    assert [result.label for result in found] == ["InvAD (mobilenetv2_100), run 1", "InvAD (mobilenetv2_100), run 2"]
    assert len({result.key for result in found}) == 2


# Selection


def images_of(classes, labels, scores):
    arrays = {"labels": np.array(labels), "image_scores": np.array(scores), "names": classes}
    return replace(toy_result().tests, classes=classes, defect_types=[""] * len(classes), **arrays)


def test_a_large_gallery_shares_its_places_out_evenly():
    classes = ["many"] * 300 + ["few"] * 10
    labels = [0, 1] * 155
    scores = [(index * 37 % 310) / 310 for index in range(310)]
    shown = shown_images(images_of(classes, labels, scores), {"many": 0.5, "few": 0.5}, limit=80)
    assert 40 < len(shown) <= 80
    assert shown == sorted(set(shown))
    assert sum(classes[index] == "few" for index in shown) == 10  # fewer than their share: all of them
    outcomes = [(labels[index], scores[index] > 0.5) for index in shown if classes[index] == "many"]
    assert len(set(outcomes)) == 4 and len({outcomes.count(each) for each in outcomes}) == 1
    best = max((index for index in range(300) if labels[index]), key=lambda index: scores[index])
    assert best in shown


def test_a_small_gallery_has_every_image():
    assert shown_images(images_of(["a"] * 4, [0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4]), {}, limit=4) == [0, 1, 2, 3]


def test_samples_are_best_median_and_worst_and_the_likeliest_false_alarm():
    tests = images_of(["b"] * 7 + ["a"], [1, 1, 1, 1, 1, 0, 0, 1], [0.5, 0.9, 0.1, 0.7, 0.3, 0.2, 0.6, 0.4])
    assert select_samples(tests) == [7, 1, 0, 2, 6]


# Collecting


def test_own_data_are_collected_with_what_is_known_of_their_masks(tmp_path):
    workspace, benchmark = own_workspace(tmp_path)
    result = collect_result(benchmark, workspace)
    assert (result.source, result.title, result.marked_title) == (OWN, "mvtec", "mvtec (own data)")
    assert (result.published_name, result.method) == (None, None)
    counts = result.counts
    assert (counts.train, counts.test_normal, counts.test_anomalous, counts.without_mask) == (1, 1, 2, 1)
    assert counts.anomalous_pixels == pytest.approx(64 / (2 * 32 * 32))  # of the two images whose masks are known
    tests = result.tests
    assert list(tests.has_mask) == [True, True, False]
    assert sorted(tests.pictures) == [0, 1, 2]
    assert tests.maps.shape == (3, 8, 8)
    assert tests.maps[0, 0, 0] == np.float16(np.mean([row * 32 + column for row in range(4) for column in range(4)]))
    assert tests.value_ranges == {"bolt": (0.0, 3 * 32 * 32 - 1.0)}
    assert tests.pictures[1].mask.sum() == 64
    assert result.cost == COST


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda workspace: workspace.metrics("mvtec").write_text('{"per_class": {'), "mvtec.json: not valid JSON"),
        (
            lambda workspace: workspace.metrics("mvtec").write_text("{}"),
            "per_class, mean, .* missing; expected a metrics",
        ),
        (lambda workspace: workspace.curves("mvtec").unlink(), "curves/mvtec.json: no such file"),
        (lambda workspace: workspace.cost("mvtec").write_text('{"parameters": 1}'), "not the cost of a model"),
        (lambda workspace: (workspace.scores("mvtec") / "scores.parquet").write_bytes(b"PAR"), "damaged scores"),
    ],
)
def test_a_damaged_part_of_a_result_is_named(tmp_path, damage, message):
    workspace, benchmark = own_workspace(tmp_path)
    damage(workspace)
    with pytest.raises(InputError, match=message):
        collect_result(benchmark, workspace)


def own_workspace(root: Path) -> tuple[Workspace, BenchmarkConfig]:
    """The outputs of all stages for three test images of one's own: normal, anomalous with a mask, anomalous without."""
    workspace, images = Workspace(root), root / "photos"
    rows = []
    for n, (phase, label, mask) in enumerate(
        [("train", 0, None), ("test", 0, None), ("test", 1, "mask.png"), ("test", 1, None)]
    ):
        save_image(images / f"{n}.png")
        rows.append(SplitRow(f"{n}.png", "bolt", phase, label, "", mask, 8, 8, "mine"))
    save_mask(images / "mask.png")
    write_source(workspace.raw("mine"), Source("mine", "path", images, "0" * 64))
    write_split_table(rows, workspace.split("mvtec") / FILE_NAME, {})
    test = rows[1:]
    table = pa.table(
        {
            "image": [row.image for row in test],
            "class": ["bolt"] * 3,
            "label": pa.array([row.label for row in test], pa.int8()),
            "defect_type": [""] * 3,
            "has_mask": [True, True, False],
        }
    )
    maps = np.arange(3 * 32 * 32, dtype=np.float32).reshape(3, 32, 32)
    masks = np.zeros(maps.shape, dtype=bool)
    masks[1, :8, :8] = True
    write_scores(table, [(maps, masks, maps.max((1, 2)))], workspace.scores("mvtec"))
    values = {protocol: dict.fromkeys(KEYS, 0.5) for protocol in ("paper", "exact")}
    metrics = {
        "benchmark": "mvtec",
        "per_class": {"bolt": values},
        "mean": values,
        "notes": [],
        "protocol_version": "1",
    }
    write_json(workspace.metrics("mvtec"), metrics)
    write_json(workspace.curves("mvtec"), {"bolt": {}})
    write_json(workspace.cost("mvtec"), asdict(COST))
    write_json(workspace.trainings("mvtec"), {"benchmark": "mvtec", "seeds": {}, "learning": []})
    features = FeaturesConfig("mobilenetv2_100", image_size=32)
    return workspace, BenchmarkConfig("mvtec", "mine", FolderSplitConfig(), features, InvADConfig(), ScoreConfig())


def test_git_keeps_nothing_that_it_ignores():
    """DVC refuses an output that is in git; its own `.gitignore` names it."""
    command = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("not a checkout")
    assert done.stdout == ""
