"""How benchmark scripts write what they measured: a JSON file, and beside it a Markdown table with hardware and command."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hardware import hardware_line

from invad.files import write_json, write_text
from invad.report import labels

DASH = "-"  # nothing to show
HEADLINES = {  # the five metrics that stand for all, by key
    metric.key: f"{metric.group.lower()} {metric.label}" if metric.group in ("Image", "Pixel") else metric.label
    for metric in labels.HEADLINES
}


def write_results(
    path: Path, title: str, result: Mapping[str, Any], table: Sequence[Sequence[str]], notes: str
) -> None:
    """Write `<path>.json` and `<path>.md`.

    Args:
        path: Of both files, without their suffix.
        title: Heading of the Markdown file.
        result: For the JSON file; has the keys "hardware" (of `hardware.hardware`) and "command".
        table: Rows of the table; the first one is the heading, the first column is text, the others are numbers.
        notes: What the columns mean; a paragraph below the table.
    """
    write_json(path.with_name(f"{path.name}.json"), result)
    lines = [
        f"# {title}",
        "",
        f"Hardware: {hardware_line(result['hardware'])}.",
        "",
        f"Made by `{result['command']}`.",
        "",
        *markdown_table(table),
        "",
        notes,
    ]
    write_text(path.with_name(f"{path.name}.md"), "".join(f"{line}\n" for line in lines))


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a GitHub-flavoured table, aligned in its source as well; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * width if column == 0 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return [
        "| "
        + " | ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in (rows[0], rule, *rows[1:])
    ]


def command(script: str, options: Mapping[str, object]) -> str:
    """Return the command that gives `script`, a file of this folder, these options; where to write is not among them."""
    words = [
        f"--{name.replace('_', '-')} {value}" for name, value in options.items() if name != "out" and value is not None
    ]
    return " ".join([f"python benchmarks/{script}", *words])


def number(value: float | None, digits: int = 3) -> str:
    """Format with `digits` significant digits, or a dash where there is no value."""
    if value is None:
        return DASH
    return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"
