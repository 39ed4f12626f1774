"""The report: all tables, all figures and the page, written from results in memory."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any

from invad.errors import InputError
from invad.files import atomic_path, write_json, write_text
from invad.report.benchmarks import (
    datasets_table,
    efficiency_table,
    measured_tables,
    operating_table,
    per_class_tables,
    published_tables,
)
from invad.report.learning import learning_results, learning_tables
from invad.report.overview import overview_table
from invad.report.page import render_page
from invad.report.pictures import heatmap_sheet, synthetic_sheet
from invad.report.plots import curves_figure, learning_figure, save_plot, score_figure
from invad.report.results import Result, grouped, select_samples
from invad.report.spread import spread_tables
from invad.report.tables import Table
from invad.report.writers import read_table, write_tables

logger = logging.getLogger(__name__)


def write_report(
    folder: Path,
    results: Sequence[Result],
    *,
    ablations: Path | None = None,
    supervised: Sequence[Table] = (),
    left_out: Sequence[str] = (),
    run_info: Mapping[str, Any] | None = None,
) -> None:
    """Write `tables/`, `figures/`, `run_info.json` and `index.html` into `folder`, each replaced as a whole; `InputError` without results.

    ablations: folder of the files of studies. supervised: tables of supervised methods. left_out: `<name>: left out: <why>` for each
    result that is missing or damaged. run_info: what differs from run to run (times, machine, commit); it stands in `run_info.json` and on
    the page, and in no table or figure.
    """
    if not results:
        reasons = "".join(f"; {sentence}" for sentence in left_out)
        raise InputError(f"{folder}: no result to report; `dvc repro` makes them{reasons}")
    results, run_info, left_out = grouped(results), dict(run_info or {}), list(left_out)
    tables = make_tables(results) | ({"supervised": supervised} if supervised else {})
    with ExitStack() as stack:
        parts = ("tables", "figures", "run_info.json", "index.html")
        new = {name: stack.enter_context(atomic_path(folder / name)) for name in parts}
        for path in sorted(ablations.glob("*.json")) if ablations is not None else ():
            try:
                tables[f"ablation_{path.stem}"] = [read_table(path)]
            except InputError as error:
                left_out.append(f"ablation {path.stem}: left out: {error}.")
        for sentence in left_out:
            logger.warning("%s", sentence)
        for name, members in tables.items():
            write_tables(members, new["tables"], name)
        new["figures"].mkdir(parents=True)
        write_figures(results, new["figures"])
        write_json(new["run_info.json"], run_info)
        write_text(new["index.html"], render_page(results, tables, new["figures"], run_info, left_out))


def make_tables(results: Sequence[Result]) -> dict[str, Sequence[Table]]:
    """All tables of these results, which `grouped` has ordered, by the name of their files."""
    benchmarks = {name: list(members) for name, members in groupby(results, key=lambda result: result.published_or_own)}
    with_classes = {name: those for name, those in benchmarks.items() if any(one.metrics["per_class"] for one in those)}
    return {
        "overview": [overview_table(results)],
        "main": measured_tables(results),
        **({"spread": spread} if (spread := spread_tables(results)) else {}),
        **({"learning": learning} if (learning := learning_tables(results)) else {}),
        **({"published": published} if (published := published_tables(results)) else {}),
        **{f"per_class_{name}": per_class_tables(members) for name, members in with_classes.items()},
        "operating_point": [operating_table(results)],
        "efficiency": [efficiency_table(results)],
        "datasets": [datasets_table(results)],
    }


def write_figures(results: Sequence[Result], folder: Path) -> None:
    """Write every figure that the results allow into `folder`: plots as PNG and SVG, sheets of pictures as PNG."""
    for result in results:
        for kind, figure in (("scores", score_figure(result)), ("curves", curves_figure(result))):
            if figure is not None:
                save_plot(figure, folder, f"{kind}_{result.key}")
        if result.tests is not None and result.tests.pictures:
            path = folder / f"heatmaps_{result.key}.png"
            heatmap_sheet(result, result.tests, select_samples(result.tests), path)
        if result.synthetic:
            synthetic_sheet(result, folder / f"synthetic_{result.key}.png")
    for result in learning_results(results):
        save_plot(learning_figure(result), folder, f"learning_{result.key}")
