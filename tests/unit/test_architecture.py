"""The order of the packages: data flows one way, and nothing imports back."""

import ast
from pathlib import Path

import pytest

INVAD = Path(__file__).parents[2] / "invad"

# From the ground up: a module imports from its own floor and from those above it in this list, never from one below.
FLOORS = (
    "errors", "text", "files", "disk", "workspace", "config", "devices", "metrics",
    "data", "features", "methods", "training", "scoring", "supervised", "report", "predict", "__init__",
    "tracking", "cluster", "studies", "pipeline", "cli", "__main__",
)  # fmt: skip


def floor_of(path: Path) -> str:
    first = path.relative_to(INVAD).parts[0]
    return first.removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The modules of `invad` that a file names in an import, wherever it stands, also those that only type checkers read."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.partition(".")[0] == "invad"}


@pytest.mark.parametrize("path", sorted(INVAD.rglob("*.py")), ids=lambda path: path.relative_to(INVAD).as_posix())
def test_nothing_imports_back(path):
    here = FLOORS.index(floor_of(path))
    for name in imported(path):
        first = [*name.split("."), ""][1]
        floor = first if first in FLOORS else "__init__"
        if path == INVAD / "__init__.py" or (floor == "__init__" and first in ("__version__", "")):
            continue  # the public interface imports lazily, and everybody may read the version
        assert FLOORS.index(floor) <= here, f"{path.relative_to(INVAD)} imports {name}"


def test_few_modules_stand_loose():
    assert {floor_of(path) for path in INVAD.rglob("*.py")} == set(FLOORS)
    assert len(list(INVAD.glob("*.py"))) <= 8
