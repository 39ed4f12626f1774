"""The report: all tables, all figures and the page, written from results in memory."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from invad.errors import InputError
from invad.files import atomic_path, write_json, write_text
from invad.report.ablations import SUFFIXES, read_ablation
from invad.report.benchmarks import measured_tables, per_class_tables, published_tables
from invad.report.grouping import by_benchmark, companions, grouped
from invad.report.operating_point import operating_table
from invad.report.page.page import page_context, render_page
from invad.report.pictures import heatmap_sheet
from invad.report.plots import loss_figure, rates_figure, score_figure, threshold_figure
from invad.report.results import Result
from invad.report.selection import select_samples
from invad.report.sizes import datasets_table, efficiency_table
from invad.report.style import save_plot
from invad.report.tables import Table, write_tables

logger = logging.getLogger(__name__)


def write_report(
    folder: Path,
    results: Sequence[Result],
    *,
    ablations: Path | None = None,
    left_out: Sequence[str] = (),
    run_info: Mapping[str, Any] | None = None,
) -> None:
    """Write `tables/`, `figures/`, `run_info.json` and `index.html` into `folder`; other files there stay as they are.

    Each of the four is replaced as a whole.

    Args:
        folder: Is made where it is not there.
        results: Those of several seeds are folded.
        ablations: Folder of the tables of ablation studies.
        left_out: `<name>: left out: <why>` for each result that is missing or damaged.
        run_info: What differs from run to run (times, machine, commit); it stands in `run_info.json` and on the page, and in no table or
            figure.

    Raises:
        InputError: There are no results.
    """
    if not results:
        reasons = "".join(f"; {sentence}" for sentence in left_out)
        raise InputError(f"{folder}: no result to report; `dvc repro` makes them{reasons}")
    results, run_info = grouped(results), dict(run_info or {})
    modules, studies, damaged = _ablations(ablations)
    left_out = (*left_out, *damaged)
    for sentence in left_out:
        logger.warning("%s", sentence)
    tables = make_tables(results)
    with ExitStack() as stack:
        parts = ("tables", "figures", "run_info.json", "index.html")
        new = {name: stack.enter_context(atomic_path(folder / name)) for name in parts}
        names = ", ".join(sentence.partition(": left out")[0] for sentence in left_out)
        for name, members in tables.items():
            remark = f"Left out, and the page says why: {names}." if names and name == "main" else ""
            write_tables(members, new["tables"], name, remark)
        new["figures"].mkdir(parents=True)
        write_figures(results, new["figures"])
        for module, path in modules.items():
            for suffix in SUFFIXES:
                place = new["figures" if suffix == "png" else "tables"] / f"ablation_{module}.{suffix}"
                place.write_bytes(path.with_suffix(f".{suffix}").read_bytes())
        write_json(new["run_info.json"], run_info)
        page = render_page(page_context(results, tables, studies, new["figures"], run_info, left_out))
        write_text(new["index.html"], page)


def make_tables(results: Sequence[Result]) -> dict[str, Sequence[Table]]:
    """All tables of these results, which `grouped` has ordered, by the name of their files. In `main`, measured ones come first."""
    groups = by_benchmark(results).items()
    with_classes = {name: members for name, members in groups if any(one.metrics["per_class"] for one in members)}
    return {
        "main": [*measured_tables(results), *published_tables(results)],
        **{f"per_class_{name}": per_class_tables(members) for name, members in with_classes.items()},
        "operating_point": [operating_table(results)],
        "efficiency": [efficiency_table(results)],
        "datasets": [datasets_table(results)],
    }


def _ablations(folder: Path | None) -> tuple[dict[str, Path], dict[str, Table], list[str]]:
    """Return the CSV files and the tables of the studies in a folder by module, and a sentence for each that is damaged or not whole."""
    paths, tables, damaged = {}, {}, []
    for path in sorted(folder.glob("*.csv")) if folder is not None else ():
        missing = [suffix for suffix in SUFFIXES if not path.with_suffix(f".{suffix}").exists()]
        try:
            if missing:
                raise InputError(f"the study has no {' and no '.join(f'.{suffix}' for suffix in missing)}")
            tables[path.stem] = read_ablation(path)
            paths[path.stem] = path
        except InputError as error:
            damaged.append(f"ablation {path.stem}: left out: {error}.")
    return paths, tables, damaged


def write_figures(results: Sequence[Result], folder: Path) -> None:
    """Write every figure that the results allow into `folder`: plots as PNG and SVG, sheets of pictures as PNG."""
    figures: dict[str, Figure | None] = {"loss": loss_figure(loss_curves(results))}
    for result in results:
        figures[f"scores_{result.key}"] = score_figure(result)
        figures[f"curves_{result.key}"] = rates_figure(result)
        figures[f"thresholds_{result.key}"] = threshold_figure(result)
        tests = result.tests
        if tests is not None and tests.pictures:
            scores, labels = tests.image_scores.tolist(), tests.labels.tolist()
            chosen = select_samples(tests.classes, labels, scores, tests.defect_types)
            beside = companions(result, results)
            heatmap_sheet([result, *beside], chosen, folder / f"heatmaps_{result.key}.png")
    for name, figure in figures.items():
        if figure is not None:
            save_plot(figure, folder, name)


def loss_curves(results: Sequence[Result]) -> dict[str, Sequence[tuple[int, float]]]:
    """Return the loss curves by what they are called in a legend; the method is said where a benchmark has several."""
    several = {name for name, members in by_benchmark(results).items() if len(members) > 1}
    return {
        f"{result.title}, {result.label}" if result.published_or_own in several else result.title: result.loss
        for result in results
    }
