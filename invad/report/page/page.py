"""The self-contained HTML page: what it shows of a report's results, and how that becomes one string without any outside resource."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from invad.report.grouping import by_benchmark
from invad.report.labels import PROTOCOLS, Metric, source_label
from invad.report.page.gallery import Gallery, build_gallery, data_uri
from invad.report.pictures import COLOUR_RULE, colour_stops
from invad.report.results import Result
from invad.report.selection import GALLERY_RULE
from invad.report.style import DARK, LIGHT, Theme
from invad.report.tables import Cell, Row, Table, block_starts, cell_text, column_groups

GENERATED = "embedded"  # key of `labels.SOURCES`
MOST_NAMED = 3  # methods in the heading
_SVG_SIZE = re.compile(r'<svg\b[^>]*?\bviewBox="0 0 ([\d.]+) ([\d.]+)"', re.DOTALL)
_POINT = 100 / 72  # pixels of the page for a point of a figure
# Beginning of a figure's file name -> what it shows, in words for who cannot see it, and its caption. Sections have them in this order.
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
    "thresholds": (
        "Line plot of precision, recall, F1 and IoU over the threshold",
        "What a threshold on maps scaled to 0..1 gives, pixel by pixel, mean over classes. The paper's threshold metrics are the means "
        "over the shaded range .2 to .8. AU-ROC, the dashed line, takes no threshold and may be high where no threshold finds the regions; "
        "IoU says how much of them is found.",
    ),
    "curves": (
        "ROC, precision-recall and PRO curves of images and pixels",
        "ROC, precision-recall and PRO curves: thick the mean over the classes, thin the classes. The area is that of the protocol exact.",
    ),
}  # fmt: skip
NO_EVIDENCE = (
    "No scores, maps and pictures of the test images are at hand, so there are no score distributions, no heat maps and no gallery. "
    "The run of a benchmark has them as its artifact `evidence`; the trials of a study keep none."
)
NO_CURVES = "No curves are at hand, so there are no figures of them."
NO_LOSS = "No losses of the training are at hand."
# What the page calls the entries of `run_info` whose keys read badly.
RUN_LABELS = {
    "all_trained_with": "All trained with", "cpu": "CPU", "gpu": "GPU", "invad": "invad", "mlflow_run": "MLflow run", "torch": "PyTorch",
    "training_peak_memory_mb": "Peak memory of training (MB)", "training_seconds": "Training time (s)", "training_steps": "Optimiser steps",
}  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """A plot inside the page. src: data URI; alt: what it shows, in words; width, height: in pixels of the page."""

    src: str
    alt: str
    caption: str
    width: int
    height: int


@dataclass(frozen=True)
class Section:
    """One result. key, title, label, source: as in `Result`. settings: what was run, name -> text.

    plots: in this order, above the gallery. missing: what is not there, a sentence each.
    """

    key: str
    title: str
    label: str
    source: str
    settings: Mapping[str, str] = field(default_factory=dict)
    plots: tuple[Plot, ...] = ()
    gallery: Gallery | None = None
    missing: tuple[str, ...] = ()

    @property
    def anchor(self) -> str:
        """The id of the section in the page."""
        return "result-" + re.sub(r"\s", "_", self.key)


@dataclass(frozen=True)
class PageContext:
    """All that the page shows; what is empty is left out.

    Attributes:
        sections: One per result, in the order of the page.
        tables: The main results, protocol `paper` first.
        published: Tables beside published numbers.
        per_class: Benchmark title -> its tables.
        ablations: (module, table) pairs.
        loss: Losses of all results.
        run_info: What is true of this run alone (commit, hardware, times): scalars, or mappings and sequences of them. It stands in the
            one element `<aside id="run-info">`, which holds no other aside: pages of the same results differ nowhere else.
        left_out: Results that are missing or damaged, a sentence each; stands at the top.
    """

    sections: tuple[Section, ...]
    tables: Sequence[Table] = ()
    published: Sequence[Table] = ()
    per_class: Sequence[tuple[str, Sequence[Table]]] = ()
    operating: Table | None = None
    efficiency: Table | None = None
    datasets: Table | None = None
    ablations: Sequence[tuple[str, Table]] = ()
    loss: Plot | None = None
    run_info: Mapping[str, Any] = field(default_factory=dict)
    left_out: Sequence[str] = ()


def page_context(
    results: Sequence[Result],
    tables: Mapping[str, Sequence[Table]],
    ablations: Mapping[str, Table],
    figures: Path,
    run_info: Mapping[str, Any],
    left_out: Sequence[str],
) -> PageContext:
    """What the page shows of these results, in their order.

    tables: by the name of their files. ablations: by module. figures: the folder of the figures that are written already.
    """
    titles = {name: members[0].title for name, members in by_benchmark(results).items()}
    (operating,), (efficiency,), (datasets,) = (tables[name] for name in ("operating_point", "efficiency", "datasets"))
    per_class = [(title, tables.get(f"per_class_{name}", ())) for name, title in titles.items()]
    return PageContext(
        sections=tuple(_section(result, figures) for result in results),
        tables=tables["main"][: len(PROTOCOLS)],
        published=tables["main"][len(PROTOCOLS) :],
        per_class=[(title, members) for title, members in per_class if members],
        operating=operating,
        efficiency=efficiency,
        datasets=datasets,
        ablations=list(ablations.items()),
        loss=next(iter(_plots(figures, ["loss"], ", ".join(dict.fromkeys(titles.values())))), None),
        run_info=run_info,
        left_out=left_out,
    )


def _section(result: Result, figures: Path) -> Section:
    classes = ", ".join(sorted(result.metrics["per_class"]))
    subject = f"{result.title}, {result.label}" + (f", classes {classes}" if classes else "")
    return Section(
        key=result.key,
        title=result.title,
        label=result.label,
        source=result.source,
        settings=settings_text(result),
        plots=_plots(figures, [f"{kind}_{result.key}" for kind in PLOTS], subject),
        gallery=build_gallery(result),
        missing=missing_parts(result),
    )


def _plots(figures: Path, names: Sequence[str], subject: str) -> tuple[Plot, ...]:
    """The plots of these names that are there; a name begins with a key of `PLOTS`."""
    paths = [path for name in names if (path := figures / f"{name}.svg").exists()]
    words = [PLOTS[path.stem.partition("_")[0]] for path in paths]
    pairs = zip(paths, words, strict=True)
    return tuple(plot_of(path.read_bytes(), f"{alt}: {subject}.", caption) for path, (alt, caption) in pairs)


def missing_parts(result: Result) -> tuple[str, ...]:
    """What the page does not have of a result, a sentence each: pictures, curves, losses."""
    absent = {
        NO_EVIDENCE: result.tests is None or not result.tests.pictures,
        NO_CURVES: not any(result.curves.values()),
        NO_LOSS: not result.loss and bool(result.config.train.length),
    }
    return tuple(sentence for sentence, is_absent in absent.items() if is_absent)


def settings_text(result: Result) -> dict[str, str]:
    """The settings of a result in words, name -> text; numbers of images stand in the table of the data sets."""
    features, train = result.config.features, result.config.train
    length = f"batch {train.batch_size}"
    if train.length:
        length = f"{train.length}, {length}, learning rate {train.learning_rate:g}"
    return {
        "Encoder": f"{features.encoder}, {features.weights} weights",
        "Input size": f"{features.image_size} x {features.image_size} pixels",
        "Training": length,
        "Seeds" if len(result.seeds) > 1 else "Seed": ", ".join(map(str, result.seeds)),
    }


def render_page(context: PageContext) -> str:
    """The page as HTML; the same context gives the same text."""
    loader = PackageLoader("invad.report.page", "templates")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["words"] = _words
    names: dict[str, Any] = {
        "column_groups": column_groups,
        "group_starts": _group_starts,
        "block_starts": block_starts,
        "blocks": _blocks,
        "cell_text": cell_text,
        "data_value": _data_value,
        "uri": data_uri,
        "source_label": source_label,
        "raw": lambda name: Markup(loader.get_source(environment, name)[0]),  # a file of the templates as it is
    }
    environment.globals.update(names)
    labels = list(dict.fromkeys(section.label for section in context.sections))
    return environment.get_template("index.html.j2").render(
        page=context,
        methods=", ".join(labels) if len(labels) <= MOST_NAMED else f"{len(labels)} models",
        setting_names=list(dict.fromkeys(name for section in context.sections for name in section.settings)),
        generated=any(section.source == GENERATED for section in context.sections),
        colour_stops=", ".join(colour_stops()),
        colour_rule=COLOUR_RULE,
        gallery_rule=GALLERY_RULE,
    )


def plot_of(svg: bytes, alt: str, caption: str) -> Plot:
    """A plot drawn in the theme `LIGHT`, as `svg_text` gives it; on dark screens it takes the colours of `DARK`."""
    text = svg.decode("utf-8")
    size = _SVG_SIZE.search(text)
    if size is None:
        raise ValueError("an SVG file of matplotlib has a viewBox that begins at 0 0")
    width, height = (round(float(length) * _POINT) for length in size.groups())
    return Plot(data_uri(two_themes(text).encode(), "image/svg+xml"), alt, caption, width, height)


def two_themes(svg: str) -> str:
    """The SVG with a style sheet that replaces each colour of `LIGHT` by that of `DARK` on dark screens: half the size of two files."""
    pairs = dict(zip(_colours(LIGHT), _colours(DARK), strict=True))
    rules = [
        f'[style*="{name}: {old}"]{{{name}:{new}!important}}'
        for old, new in pairs.items()
        for name in ("fill", "stroke")
        if old != new
    ]
    sheet = f"<style>@media (prefers-color-scheme: dark){{{''.join(rules)}}}</style>"
    return re.sub(r"(<svg\b[^>]*>)", lambda match: match[1] + sheet, svg, count=1)


def _colours(theme: Theme) -> list[str]:
    values = (getattr(theme, item.name) for item in fields(theme))
    colours = [colour for value in values for colour in ((value,) if isinstance(value, str) else value)]
    return [{"white": "#ffffff"}.get(colour, colour) for colour in colours]


def _group_starts(columns: Sequence[Metric]) -> set[str]:
    """Keys of the columns that open a group."""
    return {next(members).key for _, members in groupby(columns, key=lambda column: column.group)}


def _blocks(table: Table) -> list[list[Row]]:
    """The rows of a table, parted where the block changes."""
    return [list(rows) for _, rows in groupby(table.rows, key=lambda row: row.block)]


def _data_value(cell: Cell) -> str:
    """What a cell is sorted by: the number in full precision, or nothing."""
    return "" if cell.value is None else repr(float(cell.value))


def _words(key: str) -> str:
    """What a key of `run_info` is called; one that is not in `RUN_LABELS` as words: `python_version` is `Python version`."""
    text = key.replace("_", " ")
    return RUN_LABELS.get(key, text[:1].upper() + text[1:])
