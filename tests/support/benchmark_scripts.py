"""The scripts of `benchmarks/`, and what their results say of the hardware."""

import importlib
import sys
from types import ModuleType

from conftest import REPOSITORY

BENCHMARKS = REPOSITORY / "benchmarks"
HARDWARE_KEYS = {
    "cpu",
    "cpu_cores",
    "cpu_half_precision",
    "threads",
    "ram_gib",
    "gpu",
    "gpu_memory_gib",
    "os",
    "python",
    "torch",
}


def script(name: str) -> ModuleType:
    """A module of the benchmarks' folder, which is on the path of its scripts alone."""
    if str(BENCHMARKS) not in sys.path:
        sys.path.append(str(BENCHMARKS))
    return importlib.import_module(name)
