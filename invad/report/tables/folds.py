"""The mean of the four folds of COCO-AD, one for each method."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from invad.report.labels import FOLD_MEAN, FOLDS, METRICS, benchmark_title
from invad.report.results import Result
from invad.report.tables.cells import fold_seeds, mean_cells, mean_cells_by_seed
from invad.report.tables.table import Cell

OTHER_SEEDS = "No standard deviation: the folds have different seeds."


@dataclass(frozen=True)
class FoldMean:
    """The mean over all four folds of one method. folds: their results, in order; cells: by metric."""

    folds: tuple[Result, ...]
    cells: Mapping[str, Cell]

    @property
    def label(self) -> str:
        """The method as tables name it."""
        return self.folds[0].label

    @property
    def method(self) -> str | None:
        """The method's key in the published tables, or None."""
        return self.folds[0].method

    @property
    def source(self) -> str:
        """The sources of the folds, joined by `+` where they differ."""
        return "+".join(sorted({fold.source for fold in self.folds}))

    @property
    def title(self) -> str:
        """What the mean is called in tables."""
        return benchmark_title(FOLD_MEAN, self.source)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that all folds have; none where they differ."""
        return self.folds[0].seeds if len({fold.seeds for fold in self.folds}) == 1 else ()

    @property
    def epochs(self) -> str:
        """Of the folds, such as `100`, or `50 to 100` where they differ."""
        found = sorted({fold.config.train.epochs for fold in self.folds})
        return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def fold_means(results: Sequence[Result], protocol: str) -> list[FoldMean]:
    """One mean for each label that has exactly one result of each fold, in the order of the labels."""
    by_label: dict[str, list[Result]] = {}
    for result in results:
        if result.published_name in FOLDS:
            by_label.setdefault(result.label, []).append(result)
    groups = [sorted(group, key=lambda result: result.published_name or "") for group in by_label.values()]
    complete = [group for group in groups if tuple(result.published_name for result in group) == FOLDS]
    return [FoldMean(tuple(group), _mean_cells(group, protocol)) for group in complete]


def _mean_cells(folds: Sequence[Result], protocol: str) -> dict[str, Cell]:
    if len({fold.seeds for fold in folds}) > 1:
        of_folds = [mean_cells(fold, protocol) for fold in folds]
        means = {metric.key: _mean([cells[metric.key] for cells in of_folds], folds) for metric in METRICS}
        return {key: Cell(mean.value, (OTHER_SEEDS, *mean.notes)) for key, mean in means.items()}
    by_seed = [mean_cells_by_seed(fold, protocol) for fold in folds]
    return {
        metric.key: fold_seeds(
            [_mean(cells, folds) for cells in zip(*(fold[metric.key] for fold in by_seed), strict=True)]
        )
        for metric in METRICS
    }


def _mean(cells: Sequence[Cell], folds: Sequence[Result]) -> Cell:
    """The mean of one value, which every fold has to have."""
    missing = [fold.title for cell, fold in zip(cells, folds, strict=True) if cell.value is None]
    if missing:
        return Cell(None, (f"The mean needs all four folds; not available: {', '.join(missing)}.",))
    return Cell(math.fsum(cell.value for cell in cells if cell.value is not None) / len(cells))
