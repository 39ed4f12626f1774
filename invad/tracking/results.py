"""What the run of a benchmark has in MLflow, made of the workspace's files: by the stages as they end, or later of what is there."""

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from invad.config import BenchmarkConfig, Params
from invad.data.source import read_source
from invad.data.split_table import open_split
from invad.errors import InputError
from invad.files import read_json, write_json
from invad.tracking.origin import data_sets, dvc_md5
from invad.tracking.run import (
    RECORD_FILE,
    Content,
    Files,
    Run,
    continue_run,
    end_training,
    has_tag,
    known_run,
    read_run,
    start_run,
)
from invad.tracking.store import answering, connection
from invad.workspace import CONFIG_FILE, EVIDENCE_FOLDER, SEGAD_FILE, WEIGHTS_FILE, Workspace

if TYPE_CHECKING:
    from invad.training.curve import Step

FIGURES = ("heatmaps", "scores", "curves", "learning", "synthetic")
_METRICS = "invad.metrics_sha256"  # the tag of a further seed's run
logger = logging.getLogger(__name__)


def sync_runs(params: Params, workspace: Workspace) -> list[str]:
    """Log to MLflow what it lacks of records and present results; return a line for each; `InputError`: it does not answer."""
    lines = sync_records(workspace)
    for name, benchmark in params.benchmarks.items():
        if workspace.model(name).exists():
            run = continue_run(benchmark, workspace)
            done = _log_results(run, benchmark, workspace)
            lines.append(f"{name}: run {run.run_id}, {done}")
            _log_seeds(benchmark, workspace)
    if connection(workspace).is_down:
        raise InputError("MLflow has not got everything: call `invad-pipe runs sync` again")
    return lines


def sync_records(workspace: Workspace) -> list[str]:
    """Log what MLflow lacks of all runs that have ended, and return a line for each; `InputError`: it does not answer."""
    with answering(workspace) as client:
        client.search_experiments(max_results=1)
    names = [path.parent.name for path in (workspace.private / "runs").glob(f"*/{RECORD_FILE}")]
    runs = [run for name in names if (run := read_run(name, workspace)) is not None]
    runs.sort(key=lambda run: (run.parent is not None, run.start, run.key))  # studies before their trials
    return [f"{run.name}: run {run.run_id}, {run.status.lower()}" for run in runs if run.sync()]


def log_training(run: Run, benchmark: BenchmarkConfig, workspace: Workspace, tags: Mapping[str, str]) -> None:
    """Log a run whose training has written a model: what it worked on and what came out; `tags`: what it took."""
    run.tags |= tags
    end_training(run, benchmark, workspace)
    _log_results(run, benchmark, workspace)


def log_evaluation(benchmark: BenchmarkConfig, workspace: Workspace) -> None:
    """Log metrics, thresholds and evidence with the run of the present model, and what else it lacks."""
    _log_results(continue_run(benchmark, workspace), benchmark, workspace)
    _log_seeds(benchmark, workspace)


def _log_seeds(benchmark: BenchmarkConfig, workspace: Workspace) -> None:
    """Log a run for each further seed of the present results, found again by its model."""
    trainings = workspace.trainings(benchmark.name)
    by_seed = read_json(trainings)["seeds"] if trainings.exists() else {}
    if not by_seed:
        return
    from invad.training.curve import read_curve
    from invad.training.snapshots import CURVE_FILE, read_snapshots  # no part of the stages that log something else

    for snapshot in read_snapshots(workspace.snapshots(benchmark.name)):
        metrics = by_seed.get(str(snapshot.seed)) if snapshot.is_last else None
        if metrics is None:
            continue
        folder, one = workspace.snapshots(benchmark.name) / snapshot.folder, benchmark.of_seed(snapshot.seed)
        key = hashlib.sha256((folder / CONFIG_FILE).read_bytes()).hexdigest()[:32]
        digest = hashlib.sha256(json.dumps(metrics).encode()).hexdigest()
        if has_tag(key, _METRICS, digest, workspace):
            continue
        tags = {"invad.protocol_version": metrics["protocol_version"], _METRICS: digest}
        run = start_run(one, workspace, key=key, tags=tags)
        source = read_source(workspace.raw(one.dataset)).source
        curves = loss_curves(read_curve(folder / CURVE_FILE))
        data = data_sets(open_split(one, workspace), one, source)
        with TemporaryDirectory() as temporary:
            path = Path(temporary) / f"{one.name}.json"  # where `report --runs` looks for it
            write_json(path, metrics)
            run.finish("FINISHED", Content({}, flatten_result(metrics), curves, lambda data=data: data), [path])


def log_report(benchmark: BenchmarkConfig, workspace: Workspace) -> None:
    """Log the figures of the report with the run of the present model, where that is known here; `runs sync` makes a new one."""
    if (run := known_run(benchmark, workspace)) is not None:
        _log_results(run, benchmark, workspace)
    else:
        logger.warning("%s: which run made its model is not known here; `invad-pipe runs sync` logs it", benchmark.name)


def log_supervised(name: str, params: Params, result: Mapping[str, Any], workspace: Workspace) -> None:
    """Log the run of a supervised method that has ended: settings, mean metrics over its seeds, its images, model and result."""
    config = params.supervised_method(name)
    first = params.benchmark(config.detectors[0])
    run = start_run(
        first,
        workspace,
        experiment="supervised",
        name=f"{name}, {result['method']} on {', '.join(config.detectors)}",
        tags={"invad.benchmark": name, "invad.command": f"dvc repro supervise@{name}"},
        params={"train.model": result["method"]}
        | {f"supervised.{key}": str(each) for key, each in asdict(config).items()},
    )
    by_seed: dict[str, list[float]] = {}
    for each in result["per_seed"]:
        for key, value in each["mean"].items():
            if value is not None:
                by_seed.setdefault(f"exact/{key}", []).append(value)
    source = read_source(workspace.raw(first.dataset)).source
    content = Content(
        metrics={key: fmean(values) for key, values in by_seed.items()},
        data=lambda: data_sets(open_split(first, workspace), first, source),
    )
    run.finish("FINISHED", content, [workspace.model(name) / SEGAD_FILE, workspace.supervised / f"{name}.json"])


def _log_results(run: Run, benchmark: BenchmarkConfig, workspace: Workspace) -> str:
    """Log all that a run lacks of the present results, with a warning where they cannot be read; return in a word what was done."""
    try:
        return "logged" if run.log(results_of(benchmark, workspace)) else "complete"
    except InputError as error:
        logger.warning("MLflow's run of %s is not complete: %s", benchmark.name, error)
        return "not complete"


def results_of(benchmark: BenchmarkConfig, workspace: Workspace) -> Content:
    """Return what there is for the run of a benchmark, which was trained; `InputError` where it is damaged."""
    from invad.training.curve import read_curve  # no part of `evaluate`

    name = benchmark.name
    loss, metrics, thresholds = workspace.loss(name), workspace.metrics(name), workspace.calibration(name)
    tags: dict[str, str] = {}
    values: dict[str, float | None] = {}
    files = {"loss": Files.of([loss])} if loss.exists() else {}

    def data() -> list[dict[str, str]]:
        source = read_source(workspace.raw(benchmark.dataset)).source
        return data_sets(open_split(benchmark, workspace), benchmark, source)

    def write_evidence(folder: Path) -> None:
        from invad.report.collect import collect_result, write_evidence

        write_evidence(collect_result(benchmark, workspace), folder / EVIDENCE_FOLDER)

    # A training removes the thresholds: metrics without them are of an earlier model.
    if metrics.exists() and thresholds.exists():
        result = read_json(metrics)
        values = flatten_result(result)
        tags["invad.protocol_version"] = result["protocol_version"]
        if md5 := dvc_md5(workspace, f"train@{name}", WEIGHTS_FILE):  # which DVC writes when the training has ended
            tags["dvc.model"] = md5
        files["results"] = Files.of([metrics, thresholds])
        figures = [workspace.reports / "figures" / f"{kind}_{name}.png" for kind in FIGURES]
        if figures := [path for path in figures if path.exists()]:
            files["figures"] = Files.of(figures, "figures")
        if workspace.scores(name).exists():
            files[EVIDENCE_FOLDER] = Files(Files.of([metrics]).digest, write_evidence)
    curves = loss_curves(read_curve(loss)) | _learning_curves(benchmark, workspace)
    return Content(tags, values, curves, data, files, (workspace.model(name), benchmark))


def _learning_curves(benchmark: BenchmarkConfig, workspace: Workspace) -> dict[str, list[tuple[int, float]]]:
    """Return the metrics of test images on the way of the model's training, by name; none where none were asked for."""
    from invad.report.labels import HEADLINES  # no part of `train`

    path, curves = workspace.trainings(benchmark.name), {}
    for point in read_json(path)["learning"] if path.exists() else ():
        if point["seed"] == benchmark.train.seed:
            for key in (metric.key for metric in HEADLINES):
                if (value := point["mean"]["paper"][key]) is not None:
                    curves.setdefault(f"learning/{key}", []).append((point["step"], value))
    return curves


def flatten_result(result: Mapping[str, Any]) -> dict[str, float | None]:
    """Return metrics by name: `<protocol>/<metric>[/<class>]`, protocol `calibrated` for those at thresholds; None: not computable."""
    point = result.get("operating_point", {})
    rows = [("", kind, values) for kind, values in result["mean"].items()]
    rows += [(name, kind, values) for name, kinds in result["per_class"].items() for kind, values in kinds.items()]
    rows += [(name, "calibrated", values) for name, values in point.get("per_class", {}).items()]
    rows += [("", "calibrated", point.get("mean", {}))]
    return {f"{kind}/{key}{_ending(name)}": value for name, kind, values in rows for key, value in values.items()}


def _ending(class_name: str) -> str:
    """Return the end of the name of a class's metrics: what MLflow does not take there is a number between colons."""
    allowed = re.sub(r"[^\w\- .]", lambda match: f":{ord(match[0]):x}:", class_name)
    return f"/{allowed}" if class_name else ""


def loss_curves(steps: Sequence["Step"]) -> dict[str, list[tuple[int, float]]]:
    """Return the curves of a training."""
    return {
        "train/loss": [(step.step, step.loss) for step in steps],
        "train/learning_rate": [(step.step, step.learning_rate) for step in steps],
    }
