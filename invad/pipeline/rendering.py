"""Reports of this workspace's results or of runs that MLflow keeps: what is there is rendered, what is not is named and left out."""

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from invad import tracking
from invad.config import BenchmarkConfig, Params
from invad.data.split_table import open_split
from invad.errors import InputError
from invad.report.collect import collect_result, result_of_run
from invad.report.results import Result, SyntheticAnomaly
from invad.report.supervised import supervised_tables
from invad.report.tables import Table
from invad.workspace import Workspace

FINISHED = "FINISHED"
_FACTS = re.compile(
    r"(git|train|hardware|package)\.(?!remote)\w+|machine|python"
)  # tags of a run that `run_info.json` shows


def report_workspace(params: Params, workspace: Workspace, folder: Path) -> dict[str, Result]:
    """Write the report of all benchmarks into `folder`; return the results by name; `InputError`: there is no whole one."""
    results, left_out = {}, []
    for name, benchmark in params.benchmarks.items():
        try:
            result = collect_result(benchmark, workspace)
            results[name] = replace(result, synthetic=_synthetic(benchmark, workspace))
        except InputError as error:
            left_out.append(_left_out(name, error))
    facts = []
    for name, result in results.items():
        run = tracking.known_run(params.benchmarks[name], workspace)
        facts.append(_facts(result, run.tags if run else {}))
    supervised, lacking = supervised_tables(params.supervised, workspace.supervised, results)
    left_out += [_left_out(name, error) for name, error in lacking.items()]
    _write(list(results.values()), left_out, facts, workspace, folder, workspace.ablations, supervised)
    return results


def _synthetic(benchmark: BenchmarkConfig, workspace: Workspace) -> list[SyntheticAnomaly]:
    """Return what a method that trains on synthetic anomalies has seen of the training images."""
    if not benchmark.train.SYNTHETIC_ANOMALIES:
        return []
    import torch

    from invad.features.encoder import hollow_encoder
    from invad.methods import build_method
    from invad.report.synthetic import synthetic_anomalies

    size = benchmark.features.image_size
    output = hollow_encoder(benchmark.features).output(size)
    with torch.device("meta"):  # shapes without values
        recipe = build_method(output, benchmark.train).needs.corruption
    split = open_split(benchmark, workspace)
    return [] if recipe is None else synthetic_anomalies(split, recipe, size, benchmark.train.seed)


def report_runs(run_ids: Sequence[str], workspace: Workspace, folder: Path) -> None:
    """Write the report of runs of MLflow, each once, into `folder`; `InputError`: one is not known, or none has a whole result."""
    results, left_out, facts = [], [], []
    with tempfile.TemporaryDirectory() as temporary:
        fetched = [
            tracking.fetch_run(run_id, workspace, Path(temporary) / str(number))
            for number, run_id in enumerate(dict.fromkeys(run_ids))
        ]
        for run in {run.id: run for run in fetched}.values():
            try:
                if run.status != FINISHED:
                    raise InputError(f"its status is {run.status}, it has to be {FINISHED}")
                result = result_of_run(run.folder, run.source)
            except InputError as error:
                left_out.append(_left_out(run.title, InputError(str(error).replace(f"{run.folder}/", ""))))
                continue
            results.append(result)
            facts.append(_facts(result, run.tags, run.id))
    _write(results, left_out, facts, workspace, folder)


def _write(
    results: Sequence[Result],
    left_out: Sequence[str],
    facts: Sequence[Mapping[str, Any]],
    workspace: Workspace,
    folder: Path,
    ablations: Path | None = None,
    supervised: Sequence[Table] = (),
) -> None:
    from invad.report.report import write_report  # with matplotlib

    shared = [tag for tag in (facts[0] if facts else {}) if _FACTS.fullmatch(tag) and not tag.startswith("train.")]
    same = [tag for tag in shared if all(each.get(tag) == facts[0][tag] for each in facts)]
    run_info = {
        "rendered": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "rendered_with": _shown(tracking.environment_tags(workspace)),
        "all_trained_with": {name: facts[0][name] for name in same},
        "results": [{name: value for name, value in each.items() if name not in same} for each in facts],
    }
    write_report(folder, results, ablations=ablations, supervised=supervised, left_out=left_out, run_info=run_info)


def _facts(result: Result, tags: Mapping[str, str], run_id: str | None = None) -> dict[str, Any]:
    """Return what is true of a result's training alone; what is not known is left out."""
    first = {"benchmark": result.title, "method": result.label, "seed": result.config.train.seed}
    return {**first, **({"mlflow_run": run_id} if run_id else {}), **_shown(tags)}


def _shown(tags: Mapping[str, str]) -> dict[str, Any]:
    return {
        tag: json.loads(value) if tag.startswith("train.") else value
        for tag, value in sorted(tags.items())
        if _FACTS.fullmatch(tag)
    }


def _left_out(name: str, error: InputError) -> str:
    return f"{name}: left out: {error}{'' if str(error).endswith('.') else '.'}"
