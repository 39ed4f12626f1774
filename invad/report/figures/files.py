"""All figures of a report: which are made of which results, and what their files are called."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from invad.report.figures.comparison import comparison_figures
from invad.report.figures.curves import rates_figure
from invad.report.figures.heatmaps import heatmap_sheet
from invad.report.figures.loss import loss_figure
from invad.report.figures.scores import score_figure
from invad.report.figures.sheets import dataset_sheet
from invad.report.figures.style import save_plot
from invad.report.figures.thresholds import threshold_comparison, threshold_figure
from invad.report.grouping import by_benchmark, companion, published_or_own
from invad.report.results import Result
from invad.report.selection import select_samples
from invad.report.tables.files import Tables


def write_figures(results: Sequence[Result], tables: Tables, folder: Path) -> None:
    """Write every figure that the results and their tables allow into `folder`: plots as PNG and SVG, sheets of pictures as PNG and PDF."""
    plots = report_plots(results, tables)
    for result in results:
        plots |= result_plots(result)
    for name, figure in plots.items():
        save_plot(figure, folder, name)
    for result in results:
        write_sheets(result, results, folder)


def report_plots(results: Sequence[Result], tables: Tables) -> dict[str, Figure]:
    """Return the plots that show several results, by the name of their files."""
    rivals = {
        f"threshold_comparison_{name}": threshold_comparison(members)
        for name, members in by_benchmark(results).items()
        if len(members) > 1
    }
    return _there({"loss": loss_figure(loss_curves(results)), **comparison_figures(results, tables), **rivals})


def result_plots(result: Result) -> dict[str, Figure]:
    """Return the plots of one result by the name of their files; those that its data do not allow are left out."""
    return _there(
        {
            f"scores_{result.key}": score_figure(result),
            f"curves_{result.key}": rates_figure(result),
            f"thresholds_{result.key}": threshold_figure(result),
        }
    )


def write_sheets(result: Result, results: Sequence[Result], folder: Path) -> None:
    """Write the sheets of pictures of one result: anomaly maps, and what its data set looks like."""
    tests = result.tests
    if tests is None or not tests.pictures:
        return
    chosen = select_samples(tests.classes, tests.labels.tolist(), tests.image_scores.tolist(), tests.defect_types)
    sheet = folder / f"heatmaps_{result.key}.png"
    heatmap_sheet(result, chosen, sheet, sheet.with_suffix(".pdf"), companion(result, results))
    sheet = folder / f"dataset_{result.key}.png"
    dataset_sheet(result, sheet, sheet.with_suffix(".pdf"))


def loss_curves(results: Sequence[Result]) -> dict[str, Sequence[tuple[int, float]]]:
    """Return the loss curves by what they are called in a legend; the method is said where a benchmark has several."""
    several = {name for name, members in by_benchmark(results).items() if len(members) > 1}
    return {
        f"{result.title}, {result.label}" if published_or_own(result) in several else result.title: result.loss
        for result in results
    }


def _there(figures: Mapping[str, Figure | None]) -> dict[str, Figure]:
    return {name: figure for name, figure in figures.items() if figure is not None}
