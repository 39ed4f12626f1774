"""All tables of a report: which are made, and what their files are called."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from invad.report.benchmarks import measured_tables, per_class_tables, published_tables
from invad.report.grouping import by_benchmark
from invad.report.operating_point import operating_table
from invad.report.results import Result
from invad.report.sizes import datasets_table, efficiency_table
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


def make_tables(results: Sequence[Result]) -> TableSet:
    """Return all tables of these results, which `grouped` has ordered."""
    groups = by_benchmark(results).items()
    with_classes = {name: members for name, members in groups if any(one.metrics["per_class"] for one in members)}
    return TableSet(
        measured=measured_tables(results),
        published=published_tables(results),
        per_class={name: per_class_tables(members) for name, members in with_classes.items()},
        operating_point=operating_table(results),
        efficiency=efficiency_table(results),
        datasets=datasets_table(results),
    )
