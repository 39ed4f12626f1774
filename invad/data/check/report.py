"""The result of a check: counts for each class, and findings."""

from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Literal

from invad.text import aligned

Severity = Literal["error", "warning"]

_SHOWN = 10  # findings of a kind, and files of a finding, that the summary shows


@dataclass(frozen=True)
class ClassCounts:
    """How many rows of the split table a class has.

    `train`: normal ones to train on, those held out for calibration included; `masks`: those that name a mask.
    """

    name: str
    train: int
    test_normal: int
    test_anomalous: int
    masks: int


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
    """Counts in the order of the class names; errors before warnings, each in the order of kind, files and message."""

    classes: tuple[ClassCounts, ...]
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
        return {"errors": self.errors, "warnings": self.warnings, **asdict(self)}

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


def _table(classes: tuple[ClassCounts, ...]) -> list[str]:
    rows = [[str(value) for value in asdict(counts).values()] for counts in classes]
    if len(classes) > 1:
        columns = list(zip(*(list(asdict(counts).values())[1:] for counts in classes), strict=True))
        rows.append(["all", *(str(sum(column)) for column in columns)])
    rows.insert(0, ["class", "train", "test normal", "test anomalous", "masks"])
    return aligned(rows)


def _line(finding: Finding) -> str:
    files = ", ".join(finding.files[:_SHOWN])
    more = f" and {len(finding.files) - _SHOWN} more" if len(finding.files) > _SHOWN else ""
    return f"{files}{more}: {finding.message}" if files else finding.message


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
