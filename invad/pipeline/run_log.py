"""What the run of a benchmark has in MLflow, made of the workspace's files: by the stages as they end, or later of what is there."""

import hashlib
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from invad import tracking
from invad.config import BenchmarkConfig, Params
from invad.data.source import read_source
from invad.data.split_table import open_split
from invad.errors import InputError
from invad.files import read_json
from invad.workspace import EVIDENCE_FOLDER, Workspace

if TYPE_CHECKING:
    from invad.report.results import Result

FIGURES = ("heatmaps", "scores", "curves", "thresholds")
logger = logging.getLogger(__name__)


def sync_runs(params: Params, workspace: Workspace) -> list[str]:
    """Log to MLflow what it lacks of the present results, and return a line for each benchmark.

    It has not what was made while it did not answer, and not what DVC brought from its cache, for which it runs no stage.

    Raises:
        InputError: MLflow does not answer.
    """
    lines = []
    for name, benchmark in params.benchmarks.items():
        if not workspace.model(name).exists():
            lines.append(f"{name}: no results yet")
            continue
        run = tracking.continue_run(benchmark, workspace, strict=True)
        run.open()
        added, lacking = log_results(run, benchmark, workspace)
        done = f"{', '.join(added)} added" if added else "complete"
        lines.append(f"{name}: run {run.run_id}, {done}{lacking and f', but not {lacking}'}")
    return lines


def log_training(run: tracking.Run, benchmark: BenchmarkConfig, workspace: Workspace) -> None:
    """Note the model that a training has written, end its run, and log what it worked on and what came out."""
    tracking.remember_model(run, benchmark, workspace)
    run.finish()
    _log_all(run, benchmark, workspace)


def log_evaluation(benchmark: BenchmarkConfig, workspace: Workspace) -> None:
    """Log metrics, thresholds and evidence with the run of the present model, and what else it lacks."""
    _log_all(tracking.continue_run(benchmark, workspace), benchmark, workspace)


def log_report(benchmark: BenchmarkConfig, workspace: Workspace) -> None:
    """Log the figures of the report with the run of the present model, where that is known here; `runs sync` makes a new one."""
    run = tracking.known_run(benchmark, workspace)
    if run is None:
        logger.warning("%s: which run made its model is not known here; `invad-pipe runs sync` logs it", benchmark.name)
    else:
        _log_all(run, benchmark, workspace)


def _log_all(run: tracking.Run, benchmark: BenchmarkConfig, workspace: Workspace) -> None:
    _, lacking = log_results(run, benchmark, workspace)
    if lacking:
        logger.warning("MLflow's run of %s is not complete: %s", benchmark.name, lacking)


def log_results(run: tracking.Run, benchmark: BenchmarkConfig, workspace: Workspace) -> tuple[list[str], str]:
    """Log all that a run lacks of the present results; return what was logged, and why not the rest."""
    parts = {"data sets": _log_data, "loss": _log_loss, "model": _log_model}
    # A training removes the thresholds: metrics without them are of an earlier model.
    if workspace.metrics(benchmark.name).exists() and workspace.calibration(benchmark.name).exists():
        parts |= {"metrics": _log_metrics, "figures": _log_figures, "evidence": _log_evidence}
    added, lacking = [], []
    for what, log in parts.items():
        try:
            if log(run, benchmark, workspace):
                added.append(what)
        except InputError as error:
            lacking.append(f"{what}: {error}")
    return added, "; ".join(lacking)


def _log_data(run: tracking.Run, benchmark: BenchmarkConfig, workspace: Workspace) -> bool:
    raw = workspace.raw(benchmark.dataset)
    return run.log_data(
        lambda: tracking.data_sets(open_split(benchmark, workspace), benchmark, read_source(raw).source)
    )


def _log_loss(run: tracking.Run, benchmark: BenchmarkConfig, workspace: Workspace) -> bool:
    from invad.training.curve import read_curve

    path = workspace.loss(benchmark.name)
    steps = read_curve(path)
    loss = run.log_curve("train/loss", [(step.step, step.loss) for step in steps])
    rate = run.log_curve("train/learning_rate", [(step.step, step.learning_rate) for step in steps])
    return any([_log_files(run, "loss", [path]), loss, rate])


def _log_model(run: tracking.Run, benchmark: BenchmarkConfig, workspace: Workspace) -> bool:
    return run.log_model(workspace.model(benchmark.name), benchmark)


def _log_metrics(run: tracking.Run, benchmark: BenchmarkConfig, workspace: Workspace) -> bool:
    """Log all metrics of each protocol and of the operating point, the rows of all classes as a table, and the thresholds."""
    path, thresholds = workspace.metrics(benchmark.name), workspace.calibration(benchmark.name)
    result = read_json(path)
    changed = run.log_metrics(tracking.flatten_result(result))
    if not _log_files(run, "results", [path, thresholds]):
        return changed
    protocols = [(name, kind, values) for name, kinds in result["per_class"].items() for kind, values in kinds.items()]
    run.log_table([{"class": name, "protocol": kind, **values} for name, kind, values in protocols], "per_class")
    run.tags({"invad.protocol_version": result["protocol_version"], **tracking.model_tags(benchmark, workspace)})
    return True


def _log_figures(run: tracking.Run, benchmark: BenchmarkConfig, workspace: Workspace) -> bool:
    """Log the figures of the report that show this benchmark."""
    paths = [workspace.reports / "figures" / f"{kind}_{benchmark.name}.png" for kind in FIGURES]
    return _log_files(run, "figures", paths, "figures")


def _log_evidence(run: tracking.Run, benchmark: BenchmarkConfig, workspace: Workspace) -> bool:
    from invad.report.collect import collect_result

    if not workspace.scores(benchmark.name).exists():
        return False
    digest = _digest([workspace.metrics(benchmark.name)])
    return not run.has(EVIDENCE_FOLDER, digest) and log_evidence(collect_result(benchmark, workspace), run, digest)


def log_evidence(result: "Result", run: tracking.Run, digest: str = "") -> bool:
    """Log what a report shows of a result's test images, so that the run can stand in another one; return whether it was logged."""
    from invad.report.evidence import write_evidence

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / EVIDENCE_FOLDER
        write_evidence(result, folder)
        return run.log_files(EVIDENCE_FOLDER, digest, [folder])


def _log_files(run: tracking.Run, group: str, paths: list[Path], folder: str | None = None) -> bool:
    there = [path for path in paths if path.exists()]
    return bool(there) and run.log_files(group, _digest(there), there, folder)


def _digest(paths: list[Path]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths)).hexdigest()
