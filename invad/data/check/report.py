"""The result of a check: counts for each class, and findings."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Literal

from invad.data.counts import Counts
from invad.text import aligned

Severity = Literal["error", "warning"]

_SHOWN = 10  # findings of a kind, and files of a finding, that the summary shows


@dataclass(frozen=True)
class Finding:
    """Something that is wrong (error) or that one should know (warning).

    Attributes:
        kind: short and stable, such as `mask-size`.
        files: the paths of the split table that it is about.
        message: one line that does not repeat the files.
    """

    severity: Severity
    kind: str
    files: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class CheckReport:
    """Counts of each class and how many of its rows name a mask, by name; errors before warnings, by kind, files and message."""

    classes: Mapping[str, tuple[Counts, int]]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """Number of findings that are errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """Number of findings that are warnings."""
        return len(self.findings) - self.errors

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary that JSON can hold: `errors`, `warnings`, `classes`, `findings` (all files are listed)."""
        classes = [{"name": name, **counts._asdict(), "masks": masks} for name, (counts, masks) in self.classes.items()]
        findings = [asdict(finding) for finding in self.findings]
        return {"errors": self.errors, "warnings": self.warnings, "classes": classes, "findings": findings}

    def summary(self) -> str:
        """Return the table of classes, the findings by kind (ten of each, with ten files each), and a last line of totals."""
        lines = _table(self.classes)
        for (severity, kind), group in groupby(self.findings, key=lambda finding: (finding.severity, finding.kind)):
            findings = list(group)
            lines += ["", f"{severity}: {kind} ({len(findings)})"]
            lines += [f"  {_line(finding)}" for finding in findings[:_SHOWN]]
            if len(findings) > _SHOWN:
                lines.append(f"  and {len(findings) - _SHOWN} more")
        totals = f"{_count(self.errors, 'error')}, {_count(self.warnings, 'warning')}"
        return "\n".join([*lines, "", totals])


def _table(classes: Mapping[str, tuple[Counts, int]]) -> list[str]:
    rows: list[tuple[Any, ...]] = [(name, *counts, masks) for name, (counts, masks) in classes.items()]
    if len(rows) > 1:
        rows.append(("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])))
    return aligned(
        [["class", "train", "test normal", "test anomalous", "masks"], *([str(cell) for cell in row] for row in rows)]
    )


def _line(finding: Finding) -> str:
    files = ", ".join(finding.files[:_SHOWN])
    more = f" and {len(finding.files) - _SHOWN} more" if len(finding.files) > _SHOWN else ""
    return f"{files}{more}: {finding.message}" if files else finding.message


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
