"""The order of the packages and modules: data flows one way, nothing imports back, and little is imported."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
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


def test_no_modules_import_each_other():
    """Nor in a circle of several, nor by imports within functions; a package stands for its `__init__.py`."""
    modules = {
        ".".join(("invad", *path.relative_to(INVAD).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in INVAD.rglob("*.py")
    }
    graph = {
        module: {
            next(name for name in (target, target.rpartition(".")[0]) if name in modules)
            for target in imported(path)
            if target != "invad" and not target.startswith("invad.__")
        }
        for module, path in modules.items()
    }
    graph["invad"] = set()  # the public interface imports lazily
    order = list(TopologicalSorter(graph).static_order())  # a CycleError names them
    assert order.index("invad.predict.detector") < order.index("invad.predict.export.model")


def test_scoring_imports_no_encoders():
    """They take a second and more; the stage `score` reads stored features."""
    code = "import sys, invad.methods, invad.scoring.score; print({'timm', 'torchvision', 'ray', 'mlflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
