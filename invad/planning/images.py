"""How many images each benchmark has, from the best source at hand."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from invad.config import BenchmarkConfig, CalibrationConfig, CocoAdSplitConfig, DownloadConfig, Params, dataset_kind
from invad.datasets.calibration_rows import held_out_images
from invad.datasets.coco_ad import CLASS_NAME, FULL_COUNTS, FULL_HELD_OUT, fold_rows, held_out_categories, read_both
from invad.datasets.counts import MVTEC_COUNTS, VISA_COUNTS, Counts, count_images
from invad.datasets.download import ROOT_ENTRIES, store_folder
from invad.datasets.embedded.coco import CATEGORIES
from invad.datasets.mvtec import build_mvtec
from invad.datasets.own.table import build_table
from invad.datasets.split_table import FILE_NAME, SplitRow, read_split_table
from invad.datasets.visa import build_visa
from invad.errors import InputError
from invad.planning import embedded
from invad.workspace import Workspace

Basis = Literal["split table", "data", "published", "estimate", "unknown"]


@dataclass(frozen=True)
class Images:
    """The images of a benchmark.

    classes: counts of each class; empty where unknown. basis: where they come from. calibration: images that are held out of those to
    train on. rows: the split table's, where they are known. reason: why they are unknown, one line.
    """

    basis: Basis
    classes: Mapping[str, Counts]
    calibration: int = 0
    rows: tuple[SplitRow, ...] = ()
    reason: str = ""

    @property
    def train(self) -> int:
        """Images to train on."""
        return sum(counts.train for counts in self.classes.values()) - self.calibration

    @property
    def test(self) -> int:
        """Images to test on, normal and anomalous."""
        return sum(counts.test_normal + counts.test_anomalous for counts in self.classes.values())

    @property
    def all(self) -> int:
        """Images of all phases."""
        return self.train + self.calibration + self.test

    @property
    def anomalous(self) -> int:
        """Anomalous images among those to test on."""
        return sum(counts.test_anomalous for counts in self.classes.values())

    @property
    def largest_test_class(self) -> int:
        """Images to test on of the class that has most of them."""
        return max((counts.test_normal + counts.test_anomalous for counts in self.classes.values()), default=0)


def benchmark_images(params: Params, workspace: Workspace, there: Collection[str]) -> dict[str, Images]:
    """Return the images of every benchmark; `there` are the labels of the stages whose outputs are there and belong to `params`."""
    annotations: dict[Path, tuple] = {}  # by data set: reading COCO's takes seconds
    found = {
        name: _images(benchmark, params.dataset(benchmark.dataset), workspace, there, annotations)
        for name, benchmark in params.benchmarks.items()
    }
    return {name: _held_out(images, params.benchmark(name).calibration) for name, images in found.items()}


def data_root(dataset: str, config: DownloadConfig, workspace: Workspace, there: Collection[str]) -> Path | None:
    """Return the folder of a data set's files, or None when they are not there (yet)."""
    if config.source == "path":
        root = Path(config.path).expanduser()
        return root if root.is_dir() else None
    if f"download@{dataset}" not in there:
        return None
    return workspace.raw(dataset) if config.source == "embedded" else store_folder(dataset, config, workspace) / "files"


def _images(
    benchmark: BenchmarkConfig,
    config: DownloadConfig,
    workspace: Workspace,
    there: Collection[str],
    annotations: dict[Path, tuple],
) -> Images:
    if f"splits@{benchmark.name}" in there:
        return _of_rows("split table", read_split_table(workspace.split(benchmark.name) / FILE_NAME)[0])
    root = data_root(benchmark.dataset, config, workspace, there)
    try:
        if root is not None:
            return _of_rows("data", _build_rows(benchmark, config, root, workspace, annotations))
    except InputError as error:
        return Images("unknown", {}, reason=str(error))
    if config.source == "official":
        return _published(benchmark, config)
    if config.source == "embedded":
        return Images("estimate", _embedded(benchmark, config))
    return Images("unknown", {}, reason=f"{config.path} is not there")


def _held_out(images: Images, config: CalibrationConfig) -> Images:
    if images.basis == "split table":
        return replace(images, calibration=sum(row.phase == "calibration" for row in images.rows))
    held_out = sum(held_out_images(counts.train, config.share) for counts in images.classes.values())
    return replace(images, calibration=held_out)


def _of_rows(basis: Basis, rows: list[SplitRow]) -> Images:
    return Images(basis, count_images(rows), rows=tuple(rows))


def _build_rows(
    benchmark: BenchmarkConfig,
    config: DownloadConfig,
    root: Path,
    workspace: Workspace,
    annotations: dict[Path, tuple],
) -> list[SplitRow]:
    """Return the rows that the splits stage will write, without drawing a mask or decoding an image."""
    kind = dataset_kind(benchmark.dataset)
    for entry in ROOT_ENTRIES[kind]:
        if not (root / entry).is_file():
            raise InputError(f"{root / entry}: is not there")
    match kind:
        case "coco":
            if root not in annotations:
                annotations[root] = read_both(root)
            return fold_rows(*annotations[root], benchmark.splits)
        case "table":
            return build_table(root, workspace.root / config.table, benchmark.splits, benchmark.dataset)
        case "mvtec":
            return build_mvtec(root, benchmark.splits)
        case "visa":
            return build_visa(root)


def _published(benchmark: BenchmarkConfig, config: DownloadConfig) -> Images:
    split = benchmark.splits
    if not isinstance(split, CocoAdSplitConfig):
        counts = VISA_COUNTS if benchmark.dataset == "visa" else MVTEC_COUNTS
        return Images("published", {name: counts[name] for name in config.classes or counts if name in counts})
    if split.held_out == FULL_HELD_OUT:
        return Images("published", {CLASS_NAME: Counts(*FULL_COUNTS[split.fold])})
    reason = f"counts of folds with {split.held_out} held-out categories are known when COCO's annotations are there"
    return Images("unknown", {}, reason=reason)


def _embedded(benchmark: BenchmarkConfig, config: DownloadConfig) -> Mapping[str, Counts]:
    if not isinstance(benchmark.splits, CocoAdSplitConfig):
        return embedded.class_counts(benchmark.dataset, config)
    held_out = held_out_categories({category["id"]: category["name"] for category in CATEGORIES}, benchmark.splits)
    return {CLASS_NAME: embedded.fold_counts(held_out, config)}
