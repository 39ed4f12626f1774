"""All tables of a report: which are made, and what their files are called."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invad.files import write_text
from invad.report.grouping import by_benchmark
from invad.report.results import Result
from invad.report.tables.beside_published import beside_tables
from invad.report.tables.datasets import datasets_table
from invad.report.tables.efficiency import efficiency_table
from invad.report.tables.main import measured_tables
from invad.report.tables.operating_point import operating_table
from invad.report.tables.per_class import per_class_tables
from invad.report.tables.table import Table
from invad.report.tables.writing import csv_text, latex, markdown


@dataclass(frozen=True)
class Tables:
    """The tables of a report: measured results, one for each protocol, published ones for each benchmark, ...; per_class: by benchmark."""

    measured: Sequence[Table]
    published: Sequence[Table]
    per_class: Mapping[str, Sequence[Table]]
    operating_point: Table
    efficiency: Table
    datasets: Table

    def files(self) -> dict[str, Sequence[Table]]:
        """Return the tables by the name of their files."""
        return {
            "main": [*self.measured, *self.published],
            **{f"per_class_{name}": tables for name, tables in self.per_class.items()},
            "operating_point": [self.operating_point],
            "efficiency": [self.efficiency],
            "datasets": [self.datasets],
        }


def make_tables(results: Sequence[Result], measurements: Sequence[Mapping[str, Any]] = ()) -> Tables:
    """Return all tables of these results, which `grouped` has ordered."""
    return Tables(
        measured=measured_tables(results),
        published=beside_tables(results),
        per_class={
            name: per_class_tables(members)
            for name, members in by_benchmark(results).items()
            if any(result.metrics["per_class"] for result in members)
        },
        operating_point=operating_table(results),
        efficiency=efficiency_table(results, measurements),
        datasets=datasets_table(results),
    )


def write_tables(tables: Tables, folder: Path, left_out: Sequence[str] = ()) -> None:
    """Write every table as Markdown, CSV and LaTeX into `folder`. left_out: names of the results that are not in them, for `main.md`."""
    for name, members in tables.files().items():
        for suffix, text in (("md", markdown), ("csv", csv_text), ("tex", latex)):
            note = f"\nLeft out, and the page says why: {', '.join(left_out)}.\n" if left_out and name == "main" else ""
            write_text(folder / f"{name}.{suffix}", text(members) + (note if suffix == "md" else ""))
