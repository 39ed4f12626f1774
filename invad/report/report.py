"""The report: all tables, all figures and the page, written from results in memory."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from invad.errors import InputError
from invad.files import atomic_path, write_json, write_text
from invad.report.figures.files import write_figures
from invad.report.grouping import grouped
from invad.report.page.ablations import ablation_table
from invad.report.page.content import page_context
from invad.report.page.page import render_page
from invad.report.results import Result
from invad.report.tables.files import make_tables, write_tables
from invad.report.tables.table import Table

logger = logging.getLogger(__name__)

ABLATION_SUFFIXES = {"csv": "tables", "md": "tables", "tex": "tables", "png": "figures"}


@dataclass(frozen=True)
class ReportInputs:
    """Everything that a report is made of.

    measurements: contents of the files in `reports/benchmarks`, for the table `efficiency`. ablations: folder of the tables of ablation
    studies, or None. left_out: `<name>: left out: <why>` for each result that is missing or damaged. run_info: what differs from run to
    run (times, machine, commit); it stands in `run_info.json` and on the page, and in no table or figure.
    """

    results: Sequence[Result]
    measurements: Sequence[Mapping[str, Any]] = ()
    ablations: Path | None = None
    left_out: Sequence[str] = ()
    run_info: Mapping[str, Any] = field(default_factory=dict)


def write_report(inputs: ReportInputs, folder: Path) -> None:
    """Write `tables/`, `figures/`, `run_info.json` and `index.html` into `folder`; other files there stay as they are.

    Each of the four is replaced as a whole. Raises `InputError` when there are no results.
    """
    if not inputs.results:
        reasons = "".join(f"; {sentence}" for sentence in inputs.left_out)
        raise InputError(f"{folder}: no result to report; `dvc repro` makes them{reasons}")
    results = grouped(inputs.results)
    modules, damaged = _ablations(inputs.ablations)
    left_out = (*inputs.left_out, *damaged)
    for sentence in left_out:
        logger.warning("%s", sentence)
    tables = make_tables(results, inputs.measurements)
    with ExitStack() as stack:
        names = ("tables", "figures", "run_info.json", "index.html")
        new = {name: stack.enter_context(atomic_path(folder / name)) for name in names}
        write_tables(tables, new["tables"], [sentence.partition(": left out")[0] for sentence in left_out])
        new["figures"].mkdir(parents=True)
        write_figures(results, tables, new["figures"])
        _copy_ablations(inputs.ablations, modules, {"tables": new["tables"], "figures": new["figures"]})
        write_json(new["run_info.json"], dict(inputs.run_info))
        page = render_page(page_context(results, tables, modules, new["figures"], inputs.run_info, left_out))
        write_text(new["index.html"], page)


def _ablations(folder: Path | None) -> tuple[dict[str, Table], list[str]]:
    """Return the tables of the studies in a folder by module, and a sentence for each that is damaged or not whole."""
    tables, damaged = {}, []
    for path in sorted(folder.glob("*.csv")) if folder is not None else ():
        missing = [suffix for suffix in ABLATION_SUFFIXES if not path.with_suffix(f".{suffix}").exists()]
        try:
            if missing:
                raise InputError(f"the study has no {' and no '.join(f'.{suffix}' for suffix in missing)}")
            tables[path.stem] = ablation_table(path)
        except InputError as error:
            damaged.append(f"ablation {path.stem}: left out: {error}.")
    return tables, damaged


def _copy_ablations(folder: Path | None, modules: Mapping[str, Table], places: Mapping[str, Path]) -> None:
    if folder is None:
        return
    for module in modules:
        for suffix, place in ABLATION_SUFFIXES.items():
            content = (folder / f"{module}.{suffix}").read_bytes()
            (places[place] / f"ablation_{module}.{suffix}").write_bytes(content)
