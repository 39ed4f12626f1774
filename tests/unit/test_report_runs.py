"""Reports of the runs that MLflow keeps, and of a folder where something is missing."""

import csv
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from reporting_toys import toy_config, toy_result
from toys import split_of
from typer.testing import CliRunner

from invad import tracking
from invad.cli import app
from invad.config import BenchmarkConfig, Params, RDConfig, load_params
from invad.errors import InputError
from invad.files import write_json
from invad.pipeline.rendering import report_runs, report_workspace
from invad.report.collect import write_evidence
from invad.report.results import Result
from invad.tracking.results import results_of
from invad.workspace import Workspace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, empty_database) -> Workspace:
    root = tmp_path_factory.mktemp("workspace")
    shutil.copyfile(empty_database, root / "mlflow.db")
    return Workspace(root)


def data(config: BenchmarkConfig, workspace: Workspace) -> Callable[[], list[dict]]:
    return lambda: tracking.data_sets(split_of(workspace.root, train=3, test=2), config, "embedded")


def logged(result: Result, workspace: Workspace, *, evidence: bool = True) -> tracking.Run:
    """A finished run of a result, with the artifacts that the stages log."""
    name = result.config.name
    run = tracking.start_run(result.config, workspace)
    folder = workspace.root / "to_log"
    write_json(folder / f"{name}.json", result.metrics)
    files = {"results": tracking.Files.of([folder / f"{name}.json"])}
    if evidence:
        files["evidence"] = tracking.Files("", lambda temporary: write_evidence(result, temporary / "evidence"))
    run.log(
        tracking.Content(
            {"train.seconds": "12.5", "train.steps": "59"}, data=data(result.config, workspace), files=files
        )
    )
    run.finish("FINISHED")
    return run


@pytest.fixture(scope="module")
def runs(workspace) -> dict[str, tracking.Run]:
    def of(**changes: object) -> Result:
        return toy_result("visa", classes=("candle",), **changes)

    rd = of(seeds=(3,))
    trial = tracking.start_run(toy_config("visa", epochs=2), workspace, experiment="ablation", name="ssm global")
    metrics = {"paper/image_auroc": 0.75, "paper/pixel_auroc": 0.5}
    trial.finish("FINISHED", tracking.Content(metrics=metrics, data=data(toy_config("visa"), workspace)))
    tuned = tracking.start_run(toy_config("visa", epochs=2), workspace, experiment="tune", name="sample")
    tuned.finish("FINISHED", tracking.Content(metrics={"validation/image_auroc": 0.75}))
    failed = tracking.start_run(toy_config("visa"), workspace)
    failed.finish("FAILED")
    return {
        "one": logged(of(seeds=(1,), seed=1), workspace),
        "two": logged(of(seeds=(2,), seed=2), workspace),
        "rd": logged(
            replace(rd, config=replace(rd.config, train=RDConfig(epochs=9, seed=3)), label="", key=""), workspace
        ),
        "bare": logged(of(epochs=4), workspace, evidence=False),
        "trial": trial,
        "tuned": tuned,
        "failed": failed,
    }


@pytest.fixture(scope="module")
def report(runs, workspace) -> Path:
    """The report of all runs, two seeds among them, asked for by both kinds of id."""
    folder = workspace.root / "report"
    ids = [runs["one"].run_id, runs["two"].run_id, *(runs[name].run_id for name in ("rd", "bare", "trial"))]
    report_runs([*ids, runs["one"].run_id, runs["tuned"].run_id, runs["failed"].run_id], workspace, folder)
    return folder


def rows_of(path: Path) -> list[list[str]]:
    lines = path.read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_models_and_seeds_stand_in_one_table(report):
    head, _, *rows = rows_of(report / "tables" / "main.md")
    by_method = {row[1]: dict(zip(head, row, strict=True)) for row in rows[:3]}
    assert list(by_method) == [
        "InvAD (mobilenetv2_100), epochs 15",
        "InvAD (mobilenetv2_100), epochs 4",
        "RD (mobilenetv2_100)",
    ]
    seeds = by_method["InvAD (mobilenetv2_100), epochs 15"]
    assert seeds["Seeds"] == "1, 2"
    assert " ± " in seeds["Pixel AU-ROC"]


def test_the_mean_and_deviation_of_seeds_are_those_of_the_runs(report, workspace):
    values = [
        toy_result("visa", classes=("candle",), seeds=(seed,)).metrics["mean"]["paper"]["pixel_ap"] for seed in (1, 2)
    ]
    with (report / "tables" / "main.csv").open(newline="") as file:
        cells = next(row for row in csv.DictReader(file) if row["seeds"] == "1, 2" and row["protocol"] == "paper")
    assert float(cells["pixel_ap"]) == pytest.approx(sum(values) / 2, abs=1e-12)
    assert float(cells["pixel_ap_std"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5, abs=1e-12)


def test_figures_of_runs_have_names_of_their_own(report):
    figures = {path.name for path in (report / "figures").iterdir()}
    assert "heatmaps_visa_invad-mobilenetv2-100-epochs-15.png" in figures
    assert "scores_visa_rd-mobilenetv2-100.svg" in figures
    assert "heatmaps_visa_invad-mobilenetv2-100-epochs-4.png" not in figures  # no evidence was logged


def test_runs_without_results_are_named_and_left_out(report, runs, workspace):
    page = (report / "index.html").read_text()
    assert "its status is FAILED, it has to be FINISHED" in page
    assert (
        page.count("no metrics of test images: not evaluated, or a trial of a study") == 2
    )  # a trial of an ablation and one of a search
    assert page.count("No scores, maps and pictures of the test images") == 1
    facts = json.loads((report / "run_info.json").read_text())["results"]
    assert len(facts) == 4
    assert facts[0]["train.seconds"] == 12.5
    assert facts[0]["mlflow_run"] == runs["one"].run_id
    assert "python" not in facts[0]  # the same for all


def test_the_report_of_a_run_has_the_pictures_of_the_report_of_its_folder(runs, workspace, tmp_path):
    from invad.report.report import write_report
    from invad.report.results import grouped

    report_runs([runs["one"].run_id], workspace, tmp_path / "runs")
    (result,) = grouped([toy_result("visa", classes=("candle",), seeds=(1,), seed=1)])
    write_report(tmp_path / "folder", [result])
    files = {path.relative_to(tmp_path / "folder") for path in (tmp_path / "folder").rglob("*") if path.is_file()}
    for file in files - {Path("index.html"), Path("run_info.json")}:
        assert (tmp_path / "runs" / file).read_bytes() == (tmp_path / "folder" / file).read_bytes(), file


def test_an_unknown_run_is_an_error(workspace, runs, tmp_path):
    with pytest.raises(InputError, match="run 0123456789abcdef: MLflow has none of this id"):
        report_runs([runs["one"].run_id, "0123456789abcdef"], workspace, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_whole_run_is_an_error_that_says_why(workspace, runs, tmp_path):
    with pytest.raises(InputError, match=r"no result to report; .*its status is FAILED"):
        report_runs([runs["failed"].run_id], workspace, tmp_path / "out")


def test_the_command_takes_several_runs_after_one_option(workspace, runs, monkeypatch):
    monkeypatch.chdir(workspace.root)
    asked = []
    monkeypatch.setattr("invad.pipeline.rendering.report_runs", lambda *arguments: asked.append(arguments))
    result = CliRunner().invoke(app, ["report", "--runs", "a", "b", "--runs", "c", "--out", "here"])
    assert result.exit_code == 0, result.output
    assert asked == [(["a", "c", "b"], Workspace(), Path("here"))]
    assert result.stdout == "open here/index.html\n"
    assert CliRunner().invoke(app, ["report", "--runs", "a"]).stdout == "open reports/runs/index.html\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["report", "a", "b"], "runs are given as --runs a b"), (["report", "--out", "file"], "--out file: is a file")],
)
def test_wrong_arguments_are_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)


# A folder where something is missing


def params_of(*names: str) -> Params:
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    return replace(params, benchmarks={name: params.benchmarks[name] for name in names})


@pytest.fixture
def collected(monkeypatch) -> Callable[..., None]:
    """Say which benchmarks have results; collecting any other fails."""

    def give(*names: str) -> None:
        def collect(benchmark, workspace):
            if benchmark.name not in names:
                raise InputError(f"reports/metrics/{benchmark.name}.json: not valid JSON (half a file)")
            return replace(toy_result(benchmark.name, classes=("coco",)), tests=None, curves={})

        monkeypatch.setattr("invad.pipeline.rendering.collect_result", collect)

    return give


def test_a_half_written_result_is_named_and_the_others_are_reported(collected, tmp_path, caplog):
    collected("visa")
    with caplog.at_level(logging.WARNING):
        results = report_workspace(params_of("mvtec", "visa"), Workspace(tmp_path), tmp_path / "reports")
    assert list(results) == ["visa"]
    page = (tmp_path / "reports/index.html").read_text()
    sentence = "mvtec: left out: reports/metrics/mvtec.json: not valid JSON (half a file)."
    assert sentence in page
    assert sentence in caplog.text
    assert not (tmp_path / "reports/tables/per_class_mvtec.md").exists()


def test_no_result_at_all_is_an_error(collected, tmp_path):
    collected()
    with pytest.raises(InputError, match=r"no result to report; .*mvtec: left out: "):
        report_workspace(params_of("mvtec"), Workspace(tmp_path), tmp_path / "reports")
    assert not (tmp_path / "reports").exists()


def test_a_model_whose_training_is_not_known_here_has_no_facts(collected, tmp_path):
    collected("visa")
    report_workspace(params_of("visa"), Workspace(tmp_path), tmp_path / "reports")
    info = json.loads((tmp_path / "reports/run_info.json").read_text())
    assert info["results"] == [{"benchmark": "VisA", "method": "InvAD (mobilenetv2_100)", "seed": 42}]
    assert {"hardware.cpu", "python", "package.torch"} <= set(info["rendered_with"])


def test_what_lacks_for_the_evidence_is_said(runs, tmp_path):
    workspace = Workspace(tmp_path)
    for path in (workspace.calibration("visa"), workspace.scores("visa") / "any"):
        write_json(path, {})
    write_json(workspace.metrics("visa"), {"protocol_version": "1", "mean": {}, "per_class": {}})
    with pytest.raises(InputError, match="notes missing; expected a metrics file"):
        runs["bare"].log(replace(results_of(toy_config("visa"), workspace), data=None))
