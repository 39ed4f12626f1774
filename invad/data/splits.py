"""Build the split table of a benchmark, whichever data set it comes from."""

from pathlib import Path

from invad.config import BenchmarkConfig, FolderSplitConfig, LabelledSplitConfig, TableSplitConfig, reading_of
from invad.data.counts import check_counts
from invad.data.datasets import DATASETS
from invad.data.labelled import set_apart
from invad.data.own.table import build_table
from invad.data.source import Source, read_source
from invad.data.split_table import FILE_NAME, Split, SplitRow, hold_out, open_split, reading_metadata, write_split_table
from invad.errors import InputError
from invad.files import atomic_path
from invad.workspace import Workspace


def build_split(benchmark: BenchmarkConfig, workspace: Workspace) -> Split:
    """Write the benchmark's split table (and masks, where it draws them) and return it.

    `InputError`, and nothing is written: the raw data are missing, damaged or do not fit together.
    """
    source = read_source(workspace.raw(benchmark.dataset))
    folder = workspace.split(benchmark.name)
    metadata = {"benchmark": benchmark.name, "dataset": benchmark.dataset, "data_sha256": source.sha256}
    metadata |= reading_metadata(reading_of(benchmark.splits))
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        rows = hold_out(_build_rows(benchmark, source, temporary), benchmark.calibration)
        if isinstance(benchmark.splits, LabelledSplitConfig) and benchmark.splits.labelled is not None:
            rows = set_apart(rows, benchmark.splits.labelled, f"params.yaml: splits.{benchmark.settings}.labelled")
        write_split_table(rows, temporary / FILE_NAME, metadata)
    return open_split(benchmark, workspace)


def _build_rows(benchmark: BenchmarkConfig, source: Source, out: Path) -> list[SplitRow]:
    """Return the rows of the benchmark; masks that it draws itself go to `out`."""
    root, config = source.root, benchmark.splits
    if isinstance(config, TableSplitConfig):
        if source.table is None:
            again = f"`dvc repro -f download@{benchmark.dataset}`"
            raise InputError(f"{root}: the download stage has left no table of these images; run {again}")
        return build_table(root, source.table, config, benchmark.dataset)
    published = DATASETS[benchmark.dataset]
    rows = published.build(root, config, out)
    if isinstance(config, FolderSplitConfig) and source.source != "embedded":  # whose classes have the same names
        check_counts(rows, published.counts, root, strict=config.strict)
        if published.check is not None:
            published.check(rows, root, config)
    return rows
