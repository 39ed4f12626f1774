"""What the run of a benchmark is told: by the stages as they end, or later of what is there."""

from invad import tracking
from invad.config import BenchmarkConfig, Params
from invad.data.source import read_source
from invad.data.split_table import open_split
from invad.errors import InputError
from invad.files import read_json
from invad.workspace import EVIDENCE_FOLDER, Workspace


def sync_runs(params: Params, workspace: Workspace) -> list[str]:
    """Log to MLflow what is missing there of the present results, and return a line for each benchmark.

    DVC skips a stage whose result is known already, for example in a fresh clone, which has the committed reports; the run of a model
    that was trained there would stay without metrics, figures and the evidence of a report.
    """
    lines = []
    for name, benchmark in params.benchmarks.items():
        if not (workspace.metrics(name).exists() and workspace.model(name).exists()):
            lines.append(f"{name}: no results yet")
            continue
        run = continued_run(benchmark, workspace)
        there = {
            "metrics": run.has_metrics(),
            "figures": run.has_files("figures"),
            "evidence": run.has_files(EVIDENCE_FOLDER) or not workspace.scores(name).exists(),
        }
        missing = [what for what, known in there.items() if not known]
        if "metrics" in missing:
            log_metrics(run, benchmark, workspace)
        if "figures" in missing:
            log_figures(run, benchmark, workspace)
        lacking = _log_evidence(run, benchmark, workspace) if "evidence" in missing else ""
        if lacking:
            missing.remove("evidence")
        done = f"{', '.join(missing)} added" if missing else "complete"
        lines.append(f"{name}: run {run.mlflow_id or run.run_id}, {done}{lacking}")
    return lines


def _log_evidence(run: tracking.Run, benchmark: BenchmarkConfig, workspace: Workspace) -> str:
    """Log what a report shows of the test images; return why not, where a part of it is missing."""
    from invad.pipeline.rendering import log_evidence
    from invad.report.collect import collect_result  # with matplotlib

    try:
        log_evidence(collect_result(benchmark, workspace), run)
    except InputError as error:
        return f", but for the evidence ({error})"
    run.finish()
    return ""


def continued_run(benchmark: BenchmarkConfig, workspace: Workspace) -> tracking.Run:
    """Return the run that trained the present model, or a new one that is told what it would have been told by then."""
    return tracking.continue_run(benchmark, workspace, lambda run: describe_run(run, benchmark, workspace))


def describe_run(run: tracking.Run, benchmark: BenchmarkConfig, workspace: Workspace) -> None:
    """Log what a training worked on and what came out: data sets, loss curve and model."""
    run.log_split(open_split(benchmark, workspace), benchmark, read_source(workspace.raw(benchmark.dataset)).source)
    run.log_file(workspace.loss(benchmark.name))
    run.log_model(workspace.model(benchmark.name), benchmark)


def log_metrics(run: tracking.Run, benchmark: BenchmarkConfig, workspace: Workspace) -> None:
    """Log all metrics of each protocol and of the operating point, and the rows of all classes as a table."""
    path = workspace.metrics(benchmark.name)
    result = read_json(path)
    rows = [
        {"class": class_name, "protocol": protocol, **values}
        for class_name, protocols in result["per_class"].items()
        for protocol, values in protocols.items()
    ]
    run.log_table({column: [row[column] for row in rows] for column in rows[0]}, "per_class")
    run.log_file(path)
    if (thresholds := workspace.calibration(benchmark.name)).exists():
        run.log_file(thresholds)
    run.tag("invad.protocol_version", result["protocol_version"])
    tracking.tag_outputs(run, benchmark, workspace)
    # Last and at once: whoever asks has_metrics finds all or nothing.
    run.log_metrics(tracking.flatten_result(result))
    run.finish()


def log_figures(run: tracking.Run, benchmark: BenchmarkConfig, workspace: Workspace) -> None:
    """Log the figures of the report that show this benchmark."""
    for kind in ("heatmaps", "scores", "curves", "thresholds"):
        if (figure := workspace.reports / "figures" / f"{kind}_{benchmark.name}.png").exists():
            run.log_file(figure, "figures")
    run.finish()
