"""The report: all tables, all figures and the page, written from results in memory. It reads no files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from invad.errors import InputError
from invad.files import write_text
from invad.reporting.figures import (
    DARK,
    LIGHT,
    heatmap_sheet,
    loss_curves,
    loss_figure,
    score_figure,
    score_histogram,
    svg_text,
)
from invad.reporting.heatmaps import PANEL_NAMES, Sample, panels, sample_kind
from invad.reporting.labels import METRICS, PROTOCOLS, benchmark_order, benchmark_title, source_label
from invad.reporting.operating_point import (
    image_thresholds,
    operating_csv,
    operating_latex,
    operating_markdown,
    operating_table,
)
from invad.reporting.page import (
    BenchmarkSection,
    ClassBlock,
    PageContext,
    Picture,
    SampleCard,
    data_uri,
    render_page,
    webp_picture,
)
from invad.reporting.tables import NO_REASON, csv_text, latex, main_tables, markdown, per_class_rows, per_class_tables

PAGE_PANEL = 224  # pixels: a quarter of the page's width on a desktop screen, half of it on a phone


@dataclass(frozen=True)
class BenchmarkResult:
    """What one benchmark brings to the report.

    source: key of `SOURCES`. metrics: content of `reports/metrics/<benchmark>.json`. settings: what was run, name -> text.
    image_scores: float (N,), labels: (N,) with 0 normal and 1 anomalous, classes: N names; one entry per test image.
    samples: the images to show, chosen by `select_samples`. value_ranges: class -> (minimum, maximum) over all its test maps.
    loss: (step, loss) pairs.
    """

    name: str
    source: str
    metrics: Mapping[str, Any]
    settings: Mapping[str, str]
    image_scores: NDArray[np.floating]
    labels: NDArray[np.integer]
    classes: Sequence[str]
    samples: Sequence[Sample] = ()
    value_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    loss: Sequence[tuple[int, float]] = ()

    @property
    def title(self) -> str:
        """The benchmark's name as people write it."""
        return benchmark_title(self.name, self.source)

    @property
    def marked_title(self) -> str:
        """The title with the mark of its data, for figures that travel alone."""
        return f"{self.title} ({source_label(self.source)} data)"

    @property
    def thresholds(self) -> dict[str, float]:
        """The calibrated threshold on the image score of each class that has one."""
        return image_thresholds(self.metrics)

    @property
    def scores_title(self) -> str:
        """The heading of the score histogram."""
        return f"Image scores, {self.marked_title}"


def write_report(results: Sequence[BenchmarkResult], reports: Path) -> None:
    """Write `tables/`, `figures/` and `index.html` below `reports`; other files there stay as they are.

    Raises `InputError` when there are no results or one benchmark is there twice.
    """
    if not results:
        raise InputError(f"{reports}: no benchmark has results to report; run `dvc repro` first")
    by_name = {result.name: result for result in results}
    if len(by_name) < len(results):
        raise InputError(f"{reports}: a benchmark is given twice among {', '.join(result.name for result in results)}")
    ordered = [by_name[name] for name in benchmark_order(by_name)]
    _write_tables(ordered, reports / "tables")
    _write_figures(ordered, reports / "figures")
    write_text(reports / "index.html", render_page(page_context(ordered)))


def _write_tables(results: Sequence[BenchmarkResult], folder: Path) -> None:
    metrics = {result.name: result.metrics for result in results}
    sources = {result.name: result.source for result in results}
    main, points = main_tables(metrics, sources), operating_table(metrics, sources)
    for suffix, text in (("md", markdown(main)), ("csv", csv_text(main)), ("tex", latex(main))):
        write_text(folder / f"main.{suffix}", text)
    for suffix, write in (("md", operating_markdown), ("csv", operating_csv), ("tex", operating_latex)):
        write_text(folder / f"operating_point.{suffix}", write(points))
    for result in results:
        per_class = per_class_tables(result.metrics, result.source)
        write_text(folder / f"per_class_{result.name}.md", markdown(per_class))
        write_text(folder / f"per_class_{result.name}.csv", csv_text(per_class))


def _write_figures(results: Sequence[BenchmarkResult], folder: Path) -> None:
    curves = loss_of(results)
    for suffix in ("png", "svg"):
        if curves:
            loss_curves(curves, folder / f"loss.{suffix}")
        for result in results:
            if len(result.image_scores):
                path = folder / f"scores_{result.name}.{suffix}"
                score_histogram(
                    result.image_scores, result.labels, path, result.scores_title, result.classes, result.thresholds
                )
    for result in results:
        if result.samples:
            heatmap_sheet(
                result.samples, folder / f"heatmaps_{result.name}.png", result.value_ranges, result.marked_title
            )


def loss_of(results: Sequence[BenchmarkResult]) -> dict[str, Sequence[tuple[int, float]]]:
    """Loss curves of the benchmarks that have one, by title."""
    return {result.title: result.loss for result in results if result.loss}


def page_context(results: Sequence[BenchmarkResult]) -> PageContext:
    """What the page shows of these results, in their order."""
    metrics = {result.name: result.metrics for result in results}
    sources = {result.name: result.source for result in results}
    curves = loss_of(results)
    loss = None
    if curves:
        alt = f"Line plot of the training loss over optimiser steps: {', '.join(curves)}."
        loss = _two_themes(loss_figure(curves), loss_figure(curves, DARK), alt)
    return PageContext(
        tables=tuple(main_tables(metrics, sources)),
        operating_points=operating_table(metrics, sources),
        sections=tuple(_section(result) for result in results),
        loss=loss,
    )


def _section(result: BenchmarkResult) -> BenchmarkSection:
    blocks = [
        _class_block(name, list(members), result)
        for name, members in groupby(result.samples, key=lambda sample: sample.class_name)
    ]
    scores = None
    if len(result.image_scores):
        arguments = (result.image_scores, result.labels, result.scores_title, result.classes)
        names = ", ".join(sorted(set(result.classes)))
        alt = (
            f"Histograms of the image scores of normal and anomalous test images of {result.title}, by class: {names}."
        )
        light, dark = (score_figure(*arguments, theme, result.thresholds) for theme in (LIGHT, DARK))
        scores = _two_themes(light, dark, alt)
    return BenchmarkSection(
        name=result.name,
        title=result.title,
        source=result.source,
        settings=result.settings,
        tables=tuple(per_class_tables(result.metrics, result.source)),
        blocks=tuple(blocks),
        scores=scores,
        notes=tuple(merged_notes(result.metrics["notes"])),
        missing=tuple(unexplained_values(result.metrics, result.source)),
    )


def _class_block(name: str, samples: Sequence[Sample], result: BenchmarkResult) -> ClassBlock:
    low, high = result.value_ranges[name]
    return ClassBlock(name, f"{low:.4g}", f"{high:.4g}", tuple(_card(sample, (low, high)) for sample in samples))


def _card(sample: Sample, value_range: tuple[float, float]) -> SampleCard:
    subject = f"{sample.class_name}, {sample_kind(sample)}{'' if sample.has_mask else ', no mask'}, {sample.image_name}"
    pictures = [
        webp_picture(panel, f"{name}: {subject}")
        for name, panel in zip(PANEL_NAMES, panels(sample, value_range, PAGE_PANEL), strict=True)
    ]
    return SampleCard(sample_kind(sample), f"{sample.score:.4g}", sample.image_name, tuple(pictures))


def _two_themes(light: Figure, dark: Figure, alt: str) -> Picture:
    width, height = (round(inches * 100) for inches in light.get_size_inches())
    sources = [data_uri(svg_text(figure), "image/svg+xml") for figure in (light, dark)]
    return Picture(sources[0], alt, width, height, dark=sources[1])


def merged_notes(notes: Sequence[str]) -> list[str]:
    """The notes of the evaluation; what it says of both protocols in the same words is said once."""
    paper, exact = (f", protocol {protocol}: " for protocol in PROTOCOLS)
    merged = []
    for note in notes:
        if paper in note and note.replace(paper, exact) in notes:
            merged.append(note.replace(paper, ", both protocols: "))
        elif exact not in note or note.replace(exact, paper) not in notes:
            merged.append(note)
    return merged


def unexplained_values(metrics: Mapping[str, Any], source: str) -> list[str]:
    """One sentence per class and protocol for the values that are not available without a note that says so."""
    sentences = []
    for protocol in PROTOCOLS:
        for row in per_class_rows(metrics, source, protocol):
            keys = [metric.key for metric in METRICS if NO_REASON in row.cells[metric.key].notes]
            if keys:
                sentences.append(f"{row.label}, protocol {protocol}: {', '.join(keys)}: {NO_REASON}")
    return sentences
