"""What the page shows of a report's results: from tables, figures and settings to a `PageContext`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from invad.report.grouping import by_benchmark
from invad.report.page.gallery import build_gallery
from invad.report.page.page import Captioned, PageContext, Section, plot_picture, webp_picture
from invad.report.results import Result
from invad.report.tables.files import Tables
from invad.report.tables.notes import merged_notes, unexplained_values
from invad.report.tables.table import Table

# File name's beginning -> what the figure shows, in words for who cannot see it, and its caption.
_PLOTS = {
    "loss": (
        "Line plot of the training loss over optimiser steps",
        "Training loss over optimiser steps. Losses of different benchmarks are not comparable with each other; the shape of a curve tells "
        "whether training has settled.",
    ),
    "comparison": (
        "Dot plot of methods by their metrics",
        "Methods by the averages of their metrics and by AU-PRO, in percent. Numbers of the paper and of the authors' re-run are "
        "published ones, not measured here.",
    ),
    "measured": (
        "Dot plot of the measured results by their metrics",
        "Results by the averages of their metrics and by AU-PRO, in percent; lines are standard deviations over seeds.",
    ),
    "threshold_comparison": (
        "Line plot of IoU over the threshold for several methods",
        "IoU over the threshold on maps scaled to 0..1, mean over classes: the wider a plateau, the less depends on the threshold.",
    ),
    "scores": (
        "Histograms of the image scores of normal and anomalous test images, by class",
        "Distribution of image scores, as a share of the normal and of the anomalous test images of a class. Overlap is what the two "
        "histograms share: 0 % separates them fully, 100 % not at all. The dashed line is the calibrated threshold, where there is one: "
        "images above it are called anomalous.",
    ),
    "curves": (
        "ROC, precision-recall and PRO curves of images and pixels",
        "ROC, precision-recall and PRO curves: thick the mean over the classes, thin the classes. The area is that of the protocol exact.",
    ),
    "thresholds": (
        "Line plot of precision, recall, F1 and IoU over the threshold",
        "What a threshold on maps scaled to 0..1 gives, pixel by pixel, mean over classes. The paper's threshold metrics are the means "
        "over the shaded range .2 to .8. AU-ROC, the dashed line, is close to its end while IoU says how much of a region is really found.",
    ),
}  # fmt: skip
_PUBLISHED, _COMPARISONS = ("comparison",), ("measured", "threshold_comparison")
_OF_RESULT = ("scores", "thresholds", "curves")
_DATASET = (
    "Normal images of the training phase, and normal and anomalous test images with the outline of the ground truth."
)


def page_context(
    results: Sequence[Result],
    tables: Tables,
    ablations: Mapping[str, Table],
    figures: Path,
    run_info: Mapping[str, Any],
    left_out: Sequence[str],
) -> PageContext:
    """What the page shows of these results, in their order. figures: the folder of the figures that are written already."""
    titles = ", ".join(dict.fromkeys(result.title for result in results))
    return PageContext(
        sections=tuple(_section(result, figures) for result in results),
        tables=tuple(tables.measured),
        published=tuple(tables.published),
        published_figures=_figures(figures, _PUBLISHED, titles),
        comparisons=_figures(figures, _COMPARISONS, titles),
        per_class=tuple(
            (members[0].title, tuple(tables.per_class[name]))
            for name, members in by_benchmark(results).items()
            if name in tables.per_class
        ),
        operating=tables.operating_point,
        efficiency=tables.efficiency,
        datasets=tables.datasets,
        ablations=tuple(ablations.items()),
        loss=_captioned(figures / "loss.svg", titles) if (figures / "loss.svg").exists() else None,
        run_info=run_info,
        left_out=tuple(left_out),
    )


def settings_text(result: Result) -> dict[str, str]:
    """The settings of a result in words, name -> text."""
    features, train, counts = result.config.features, result.config.train, result.counts
    settings = {
        "Encoder": f"{features.encoder}, {features.weights} weights",
        "Input size": f"{features.image_size} x {features.image_size} pixels",
        "Training": f"{train.epochs} epochs, batch {train.batch_size}, learning rate {train.learning_rate:g}",
        "Seeds" if len(result.seeds) > 1 else "Seed": ", ".join(map(str, result.seeds)),
    }
    if counts is None:
        return settings
    held_out = f", and {counts.held_out:,} held out for thresholds" if counts.held_out else ""
    masks = f" ({counts.test_anomalous - counts.without_mask:,} with a mask)" if counts.without_mask else ""
    return settings | {
        "Classes": str(counts.classes),
        "Training images": f"{counts.train:,} normal{held_out}",
        "Test images": f"{counts.test_normal:,} normal, {counts.test_anomalous:,} anomalous{masks}",
    }


def _section(result: Result, folder: Path) -> Section:
    paths = [folder / f"{kind}_{result.key}.svg" for kind in _OF_RESULT]
    figures = [_captioned(path, _subject(result)) for path in paths if path.exists()]
    sheet = folder / f"dataset_{result.key}.png"
    if sheet.exists():
        with Image.open(sheet) as image:
            figures.append((webp_picture(image.convert("RGB"), f"Pictures of the data set {result.title}"), _DATASET))
    notes = [note for seed in result.seeds for note in merged_notes(result.metrics_by_seed[seed]["notes"])]
    missing = [text for seed in result.seeds for text in unexplained_values(result.metrics_by_seed[seed])]
    return Section(
        key=result.key,
        title=result.title,
        label=result.label,
        source=result.source,
        settings=settings_text(result),
        figures=tuple(figures),
        gallery=build_gallery(result),
        notes=tuple(dict.fromkeys(notes)),
        missing=tuple(dict.fromkeys(missing)),
    )


def _subject(result: Result) -> str:
    classes = ", ".join(sorted(result.metrics["per_class"]))
    return f"{result.title}, {result.label}" + (f", classes {classes}" if classes else "")


def _figures(folder: Path, kinds: Sequence[str], subject: str) -> tuple[Captioned, ...]:
    return tuple(_captioned(path, subject) for kind in kinds for path in sorted(folder.glob(f"{kind}_*.svg")))


def _captioned(path: Path, subject: str) -> Captioned:
    """A plot with its caption; the file's name begins with a key of `_PLOTS`, the longest one counts."""
    kind = max((key for key in _PLOTS if path.name.startswith(key)), key=len)
    alt, caption = _PLOTS[kind]
    return plot_picture(path.read_bytes(), f"{alt}: {subject}."), caption
