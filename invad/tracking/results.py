"""What the run of a benchmark has in MLflow, made of the workspace's files: by the stages as they end, or later of what is there."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invad.config import BenchmarkConfig, Params
from invad.data.source import read_source
from invad.data.split_table import open_split
from invad.errors import InputError
from invad.files import read_json
from invad.tracking.connection import connection
from invad.tracking.names import flatten_result
from invad.tracking.provenance import data_sets, model_tags
from invad.tracking.run import Content, Files, Run
from invad.tracking.runs import continue_run, known_run, remember_model, sync_records
from invad.workspace import EVIDENCE_FOLDER, Workspace

if TYPE_CHECKING:
    from invad.training.curve import Step

FIGURES = ("heatmaps", "scores", "curves")
logger = logging.getLogger(__name__)


def sync_runs(params: Params, workspace: Workspace) -> list[str]:
    """Log to MLflow what it lacks of the records and of the present results, and return a line for each; `InputError` without an answer.

    It has not what was made while it did not answer, and not what DVC brought from its cache, for which it runs no stage.
    """
    lines = sync_records(workspace)
    for name, benchmark in params.benchmarks.items():
        if not workspace.model(name).exists():
            lines.append(f"{name}: no results yet")
            continue
        run = continue_run(benchmark, workspace)
        done = _log_results(run, benchmark, workspace)
        lines.append(f"{name}: run {run.run_id}, {done}")
    if connection(workspace).is_down:
        raise InputError("MLflow has not got everything: call `invad-pipe runs sync` again")
    return lines


def log_training(run: Run, benchmark: BenchmarkConfig, workspace: Workspace, tags: Mapping[str, str]) -> None:
    """Note the model that a training has written, end its run, and log what it worked on and what came out; `tags`: what it took."""
    run.log(Content(tags))
    remember_model(run, benchmark, workspace)
    run.finish()
    _log_results(run, benchmark, workspace)


def log_evaluation(benchmark: BenchmarkConfig, workspace: Workspace) -> None:
    """Log metrics, thresholds and evidence with the run of the present model, and what else it lacks."""
    _log_results(continue_run(benchmark, workspace), benchmark, workspace)


def log_report(benchmark: BenchmarkConfig, workspace: Workspace) -> None:
    """Log the figures of the report with the run of the present model, where that is known here; `runs sync` makes a new one."""
    if (run := known_run(benchmark, workspace)) is not None:
        _log_results(run, benchmark, workspace)
    else:
        logger.warning("%s: which run made its model is not known here; `invad-pipe runs sync` logs it", benchmark.name)


def _log_results(run: Run, benchmark: BenchmarkConfig, workspace: Workspace) -> str:
    """Log all that a run lacks of the present results, with a warning for what cannot be read; return in words what was logged."""
    added, is_whole = [], True
    for what, content in _contents(benchmark, workspace).items():
        try:
            if run.log(content()):
                added.append(what)
        except InputError as error:
            is_whole = False
            logger.warning("MLflow's run of %s is not complete: %s: %s", benchmark.name, what, error)
    return f"{', '.join(added)} added" if added else "complete" if is_whole else "not complete"


def _contents(benchmark: BenchmarkConfig, workspace: Workspace) -> dict[str, Callable[[], Content]]:
    """Return what there is for the run of a benchmark, by name, each as a function that reads it: `InputError` where it is damaged."""
    name = benchmark.name
    loss, metrics, thresholds = workspace.loss(name), workspace.metrics(name), workspace.calibration(name)

    def data() -> list[dict[str, Any]]:
        return data_sets(
            open_split(benchmark, workspace), benchmark, read_source(workspace.raw(benchmark.dataset)).source
        )

    def training() -> Content:
        from invad.training.curve import read_curve

        return Content(curves=loss_curves(read_curve(loss)), files=_there("loss", [loss]))

    def results() -> Content:
        result = read_json(metrics)
        tags = {"invad.protocol_version": result["protocol_version"], **model_tags(benchmark, workspace)}
        return Content(tags, flatten_result(result), files={"results": Files.of([metrics, thresholds])})

    def figures() -> Content:
        paths = [workspace.reports / "figures" / f"{kind}_{name}.png" for kind in FIGURES]
        return Content(files=_there("figures", paths, "figures"))

    def write_evidence(folder: Path) -> None:
        from invad.report.collect import collect_result, write_evidence

        write_evidence(collect_result(benchmark, workspace), folder / EVIDENCE_FOLDER)

    found = {
        "data sets": lambda: Content(data=data),
        "loss": training,
        "model": lambda: Content(model=(workspace.model(name), benchmark)),
    }
    # A training removes the thresholds: metrics without them are of an earlier model.
    if metrics.exists() and thresholds.exists():
        found |= {"metrics": results, "figures": figures}
        if workspace.scores(name).exists():
            digest = Files.of([metrics]).digest
            found["evidence"] = lambda: Content(files={EVIDENCE_FOLDER: Files(digest, write_evidence)})
    return found


def loss_curves(steps: Sequence["Step"]) -> dict[str, list[tuple[int, float]]]:
    """Return the curves of a training."""
    return {
        "train/loss": [(step.step, step.loss) for step in steps],
        "train/learning_rate": [(step.step, step.learning_rate) for step in steps],
    }


def _there(group: str, paths: list[Path], folder: str = "") -> dict[str, Files]:
    there = [path for path in paths if path.exists()]
    return {group: Files.of(there, folder)} if there else {}
