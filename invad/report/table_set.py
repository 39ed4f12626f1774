"""All tables of a report: which are made, and what their files are called."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from invad.report.benchmarks import measured_tables, per_class_tables, published_tables
from invad.report.datasets import datasets_table
from invad.report.efficiency import efficiency_table
from invad.report.grouping import by_benchmark
from invad.report.operating_point import operating_table
from invad.report.results import Result
from invad.report.tables import Table


@dataclass(frozen=True)
class TableSet:
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


def make_tables(results: Sequence[Result], measurements: Sequence[Mapping[str, Any]] = ()) -> TableSet:
    """Return all tables of these results, which `grouped` has ordered."""
    return TableSet(
        measured=measured_tables(results),
        published=published_tables(results),
        per_class={
            name: per_class_tables(members)
            for name, members in by_benchmark(results).items()
            if any(result.metrics["per_class"] for result in members)
        },
        operating_point=operating_table(results),
        efficiency=efficiency_table(results, measurements),
        datasets=datasets_table(results),
    )
