"""Build and open the split table of a benchmark, whichever data set it comes from."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invad.config import BenchmarkConfig
from invad.datasets.coco_ad import build_coco_ad
from invad.datasets.mvtec import build_mvtec
from invad.datasets.source import read_source
from invad.datasets.split_table import FILE_NAME, Split, SplitRow, read_split_table, write_split_table
from invad.datasets.visa import build_visa
from invad.files import atomic_path
from invad.workspace import Workspace

# Each takes (root of the data set, the benchmark's split section, folder for masks that it draws itself).
BUILDERS: dict[str, Callable[[Path, Any, Path], list[SplitRow]]] = {
    "coco": build_coco_ad,
    "mvtec": build_mvtec,
    "visa": build_visa,
}
DRAWS_MASKS = frozenset({"coco"})


def build_split(benchmark: BenchmarkConfig, workspace: Workspace) -> Split:
    """Write the benchmark's split table (and masks, where it draws them) and return it.

    Raises:
        InputError: The raw data are missing, damaged or do not fit together; nothing is written then.
    """
    source = read_source(workspace.raw(benchmark.dataset))
    folder = workspace.split(benchmark.name)
    metadata = {"benchmark": benchmark.name, "dataset": benchmark.dataset, "data_sha256": source.sha256}
    with atomic_path(folder) as temporary:
        rows = BUILDERS[benchmark.dataset](source.root, benchmark.splits, temporary)
        write_split_table(rows, temporary / FILE_NAME, metadata)
    return open_split(benchmark, workspace)


def open_split(benchmark: BenchmarkConfig, workspace: Workspace) -> Split:
    """Open a benchmark's split table; `InputError` when it or the raw data are missing."""
    folder = workspace.split(benchmark.name)
    rows, _ = read_split_table(folder / FILE_NAME)
    image_root = read_source(workspace.raw(benchmark.dataset)).root
    return Split(tuple(rows), image_root, folder if benchmark.dataset in DRAWS_MASKS else image_root)


def describe(split: Split) -> str:
    """Return one line of counts: classes, training images, normal and anomalous test images."""
    counts = Counter((row.phase, row.label) for row in split.rows)
    classes = len({row.class_name for row in split.rows})
    return (
        f"{classes} {'class' if classes == 1 else 'classes'}, {counts['train', 0]} normal images to train on, "
        f"{counts['test', 0]} normal and {counts['test', 1]} anomalous to test on"
    )
