"""How long the imports of each stage take, and what takes longest: compiled, and as where nothing ever was.

python benchmarks/imports.py
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from hardware import hardware
from results import command, number, write_results

from invad.config.closure import STAGES, stage_imports

PACKAGES = ("torch", "timm", "mlflow", "pandas", "matplotlib", "ray", "pyarrow", "scipy")
NOTES = (
    "Seconds that a new process takes from its start to the end of all imports of a stage, median of the rounds. Not compiled: "
    "the same in an environment whose packages were installed with `--no-compile` and where `PYTHONDONTWRITEBYTECODE` is set, "
    "as in many container images; `make` unsets it and compiles at set-up. Within: what `-X importtime` says of the largest "
    "packages, each with all that it imports first."
)
_LINE = re.compile(r"import time:\s*\d+ \|\s*(\d+) \|\s*(\S+)$", re.MULTILINE)


def seconds(code: str, environment: dict[str, str]) -> float:
    """Return the seconds of a process that runs `code`."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    return time.perf_counter() - started


def packages(code: str) -> dict[str, float]:
    """Return the seconds of the largest packages that `code` imports."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], check=True, capture_output=True, text=True)
    found = {name: int(microseconds) / 1e6 for microseconds, name in _LINE.findall(done.stderr)}
    return {name: found[name] for name in PACKAGES if found.get(name, 0) >= 0.1}


@dataclass(frozen=True)
class Row:
    """Seconds of the imports of a stage, and of the largest packages among them."""

    stage: str
    compiled_s: float
    uncompiled_s: float
    packages_s: dict[str, float]


def measure(stages: list[str], rounds: int) -> list[Row]:
    """Return one row for each stage; both forms are measured in every round."""
    compiled = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    rows = []
    with tempfile.TemporaryDirectory() as empty:
        uncompiled = compiled | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": empty}
        for stage in stages:
            code = stage_imports(stage)
            seconds(code, compiled)  # compiles what is not, and warms the disk's cache
            pairs = [(seconds(code, compiled), seconds(code, uncompiled)) for _ in range(rounds)]
            fast, slow = (statistics.median(times) for times in zip(*pairs, strict=True))
            rows.append(Row(stage, fast, slow, packages(code)))
    return rows


def table(rows: list[Row]) -> list[list[str]]:
    """Return the rows of the Markdown table."""
    lines = [["stage", "compiled", "not compiled", "within"]]
    for row in rows:
        within = ", ".join(f"{name} {number(value, 2)}" for name, value in row.packages_s.items())
        lines.append([row.stage, number(row.compiled_s, 2), number(row.uncompiled_s, 2), within or "-"])
    return lines


def main() -> None:
    """Measure what the command line asks for, and write a JSON file and a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", default=",".join(STAGES), help="names, with commas between them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    options = parser.parse_args()
    rows = measure(options.stages.split(","), options.rounds)
    made_by = command("imports.py", {"rounds": options.rounds})
    facts = hardware(torch.device("cpu"), torch.get_num_threads())
    result = {"command": made_by, "hardware": facts, "rows": [asdict(row) for row in rows]}
    write_results(options.out / "imports", "Imports of the stages", result, table(rows), NOTES)


if __name__ == "__main__":
    main()
