"""What the page shows of a report's results: from tables, figures and settings to a `PageContext`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from invad.config import GradientConfig
from invad.report.grouping import by_benchmark
from invad.report.page.gallery import build_gallery
from invad.report.page.page import Captioned, PageContext, Section, plot_picture
from invad.report.results import Result
from invad.report.table_set import TableSet
from invad.report.tables import Table

# File name's beginning -> what the figure shows, in words for who cannot see it, and its caption.
PLOTS = {
    "loss": (
        "Line plot of the training loss over optimiser steps",
        "Training loss over optimiser steps. Losses of different benchmarks are not comparable with each other; the shape of a curve tells "
        "whether training has settled.",
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
        "over the shaded range .2 to .8. AU-ROC, the dashed line, takes no threshold and may be high where no threshold finds the regions; "
        "IoU says how much of them is found.",
    ),
}  # fmt: skip
_OF_RESULT = ("scores", "thresholds", "curves")
NO_EVIDENCE = (
    "No scores, maps and pictures of the test images are at hand, so there are no score distributions, no heat maps and no gallery. "
    "The run of a benchmark has them as its artifact `evidence`; the trials of a study keep none."
)
NO_CURVES = "No curves are at hand, so there are no figures of them."
NO_LOSS = "No losses of the training are at hand."


def page_context(
    results: Sequence[Result],
    tables: TableSet,
    ablations: Mapping[str, Table],
    figures: Path,
    run_info: Mapping[str, Any],
    left_out: Sequence[str],
) -> PageContext:
    """What the page shows of these results, in their order. figures: the folder of the figures that are written already."""
    titles = ", ".join(dict.fromkeys(result.title for result in results))
    loss = figures / "loss.svg"
    return PageContext(
        sections=tuple(_section(result, figures) for result in results),
        tables=tuple(tables.measured),
        published=tuple(tables.published),
        per_class=tuple(
            (members[0].title, tuple(tables.per_class[name]))
            for name, members in by_benchmark(results).items()
            if name in tables.per_class
        ),
        operating=tables.operating_point,
        efficiency=tables.efficiency,
        datasets=tables.datasets,
        ablations=tuple(ablations.items()),
        loss=_captioned(loss, titles) if loss.exists() else None,
        run_info=run_info,
        left_out=tuple(left_out),
    )


def missing_parts(result: Result) -> list[str]:
    """What the page does not have of a result, a sentence each: pictures, curves, losses, values."""
    absent = (
        (result.tests is None or not result.tests.pictures, NO_EVIDENCE),
        (not any(result.curves.values()), NO_CURVES),
        (not result.loss and isinstance(result.config.train, GradientConfig), NO_LOSS),
    )
    sentences = [sentence for is_absent, sentence in absent if is_absent]
    for protocol in ("paper", "exact"):
        values = [
            value
            for metrics in result.metrics_by_seed.values()
            for of_protocols in (*metrics["per_class"].values(), metrics["mean"])
            for value in of_protocols[protocol].values()
        ]
        if count := values.count(None):
            sentences.append(f"Protocol {protocol}: {count} of {len(values)} values are not available.")
    return sentences


def settings_text(result: Result) -> dict[str, str]:
    """The settings of a result in words, name -> text; numbers of images stand in the table of the data sets."""
    features, train = result.config.features, result.config.train
    length, rate = f"batch {train.batch_size}", ""
    if isinstance(train, GradientConfig):
        length, rate = f"{train.epochs} epochs, {length}", f", learning rate {train.learning_rate:g}"
    return {
        "Encoder": f"{features.encoder}, {features.weights} weights",
        "Input size": f"{features.image_size} x {features.image_size} pixels",
        "Training": length + rate,
        "Seeds" if len(result.seeds) > 1 else "Seed": ", ".join(map(str, result.seeds)),
    }


def _section(result: Result, folder: Path) -> Section:
    classes = ", ".join(sorted(result.metrics["per_class"]))
    subject = f"{result.title}, {result.label}" + (f", classes {classes}" if classes else "")
    paths = [folder / f"{kind}_{result.key}.svg" for kind in _OF_RESULT]
    return Section(
        key=result.key,
        title=result.title,
        label=result.label,
        source=result.source,
        settings=settings_text(result),
        figures=tuple(_captioned(path, subject) for path in paths if path.exists()),
        gallery=build_gallery(result),
        notes=tuple(dict.fromkeys(note for seed in result.seeds for note in result.metrics_by_seed[seed]["notes"])),
        missing=tuple(missing_parts(result)),
    )


def _captioned(path: Path, subject: str) -> Captioned:
    """A plot with its caption; the file's name begins with a key of `PLOTS`."""
    kind = next(key for key in PLOTS if path.name.startswith(key))
    alt, caption = PLOTS[kind]
    return plot_picture(path.read_bytes(), f"{alt}: {subject}."), caption
