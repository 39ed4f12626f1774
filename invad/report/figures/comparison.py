"""Which methods a comparison shows: the rows of the tables, as figures."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from invad.report.figures.dots import ComparisonRow, comparison_figure
from invad.report.grouping import by_benchmark
from invad.report.labels import BENCHMARKS, FOLDS
from invad.report.results import Result
from invad.report.tables.files import Tables
from invad.report.tables.table import Row, Table


def comparison_figures(results: Sequence[Result], tables: Tables) -> dict[str, Figure | None]:
    """Return a comparison for each published benchmark at hand, and for each of which several results were measured.

    Published and measured numbers share a figure only where `incomparable` finds nothing against it. A single fold of COCO-AD has no
    figure of published numbers, the mean of the folds has.
    """
    figures = {}
    for table in tables.published:
        name = table.rows[0].keys["benchmark"]
        if name not in FOLDS:
            rows = [_row(row) for row in table.rows if row.kind in ("plain", "published")]
            measured = any(row.series == "measured" for row in rows)
            title = (
                f"{BENCHMARKS[name]}: published numbers{' and measured ones' if measured else ', none measured here'}"
            )
            figures[f"comparison_{name}"] = comparison_figure(title, rows)
    for name, members in by_benchmark(results).items():
        if len(members) > 1:
            names = {result.benchmark for result in members}
            figures[f"measured_{name}"] = comparison_figure(
                f"{members[0].marked_title}: measured", _measured(tables.measured[0], names)
            )
    return figures


def _measured(table: Table, benchmarks: set[str]) -> list[ComparisonRow]:
    return [_row(row) for row in table.rows if row.kind == "plain" and row.keys["benchmark"] in benchmarks]


def _row(row: Row) -> ComparisonRow:
    series = "measured"
    if row.kind == "published":
        series = f"{row.keys['source']}_{row.keys['epochs']}" if row.keys["source"] == "rerun" else row.keys["source"]
    return ComparisonRow(
        method=row.keys["label"],
        series=series,
        values={key: cell.value for key, cell in row.cells.items()},
        std={key: cell.std for key, cell in row.cells.items() if cell.std is not None},
    )
