"""The self-contained HTML page: what it shows (typed) and how it becomes one string without any outside resource."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import groupby
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from invad.report.labels import Metric, source_label
from invad.report.page.gallery import Gallery, data_uri
from invad.report.pictures import COLOUR_RULE, colour_stops
from invad.report.selection import GALLERY_RULE
from invad.report.style import DARK, LIGHT, Theme
from invad.report.tables import Cell, Row, Table, block_starts, cell_text, column_groups

GENERATED = "embedded"  # key of `labels.SOURCES`
MOST_NAMED = 3  # methods in the heading
_SVG_SIZE = re.compile(r'<svg\b[^>]*?\bviewBox="0 0 ([\d.]+) ([\d.]+)"', re.DOTALL)
_POINT = 100 / 72  # pixels of the page for a point of a figure


RUN_LABELS = {
    "all_trained_with": "All trained with",
    "cpu": "CPU",
    "gpu": "GPU",
    "invad": "invad",
    "mlflow_run": "MLflow run",
    "torch": "PyTorch",
    "training_peak_memory_mb": "Peak memory of training (MB)",
    "training_seconds": "Training time (s)",
    "training_steps": "Optimiser steps",
}
"""What the page calls the entries of `run_info` whose keys read badly."""


@dataclass(frozen=True)
class PagePicture:
    """An image inside the page. src: data URI; alt: what it shows, in words; width, height: in pixels of the page."""

    src: str
    alt: str
    width: int
    height: int


Captioned = tuple[PagePicture, str]
"""A picture and its caption."""


@dataclass(frozen=True)
class Section:
    """One result. key: as `Result.key`. label: the method. source: key of `labels.SOURCES`. settings: what was run, name -> text.

    figures: in this order, above the gallery. notes: those of the evaluation; missing: what is not there, a sentence each.
    """

    key: str
    title: str
    label: str
    source: str
    settings: Mapping[str, str] = field(default_factory=dict)
    figures: tuple[Captioned, ...] = ()
    gallery: Gallery | None = None
    notes: tuple[str, ...] = ()
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
        loss: The loss figure with its caption.
        run_info: What is true of this run alone (commit, hardware, times): scalars, or mappings and sequences of them. It stands in the
            one element `<aside id="run-info">`, which holds no other aside: pages of the same results differ nowhere else.
        left_out: Results that are missing or damaged, a sentence each; stands at the top.
    """

    sections: tuple[Section, ...]
    tables: tuple[Table, ...] = ()
    published: tuple[Table, ...] = ()
    per_class: tuple[tuple[str, tuple[Table, ...]], ...] = ()
    operating: Table | None = None
    efficiency: Table | None = None
    datasets: Table | None = None
    ablations: tuple[tuple[str, Table], ...] = ()
    loss: Captioned | None = None
    run_info: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


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
    return environment.get_template("index.html.j2").render(
        page=context,
        methods=_named(list(dict.fromkeys(section.label for section in context.sections))),
        setting_names=list(dict.fromkeys(name for section in context.sections for name in section.settings)),
        generated=any(section.source == GENERATED for section in context.sections),
        colour_stops=", ".join(colour_stops()),
        colour_rule=COLOUR_RULE,
        gallery_rule=GALLERY_RULE,
    )


def plot_picture(svg: bytes, alt: str, light: Theme = LIGHT, dark: Theme = DARK) -> PagePicture:
    """A plot drawn in the `light` theme, as `svg_text` gives it; on dark screens it takes the colours of `dark`."""
    text = svg.decode("utf-8")
    size = _SVG_SIZE.search(text)
    if size is None:
        raise ValueError("an SVG file of matplotlib has a viewBox that begins at 0 0")
    width, height = (round(float(length) * _POINT) for length in size.groups())
    return PagePicture(data_uri(two_themes(text, light, dark).encode(), "image/svg+xml"), alt, width, height)


def two_themes(svg: str, light: Theme, dark: Theme) -> str:
    """The SVG with a style sheet that replaces each colour of `light` by that of `dark` on dark screens: half the size of two files."""
    pairs = dict(zip(map(_hex, _colours(light)), map(_hex, _colours(dark)), strict=False))
    rules = [
        f'[style*="{name}: {old}"]{{{name}:{new}!important}}'
        for old, new in pairs.items()
        for name in ("fill", "stroke")
        if old != new
    ]
    sheet = f"<style>@media (prefers-color-scheme: dark){{{''.join(rules)}}}</style>"
    return re.sub(r"(<svg\b[^>]*>)", lambda match: match[1] + sheet, svg, count=1)


def _named(labels: Sequence[str]) -> str:
    """The methods that the page is of, or how many where a heading has no room for all of them."""
    return ", ".join(labels) if len(labels) <= MOST_NAMED else f"{len(labels)} models"


def _group_starts(columns: Sequence[Metric]) -> set[str]:
    """Keys of the columns that open a group."""
    pairs = zip((None, *columns), columns, strict=False)
    return {column.key for before, column in pairs if before is None or before.group != column.group}


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


def _colours(theme: Theme) -> list[str]:
    values = (getattr(theme, item.name) for item in fields(theme))
    return [colour for value in values for colour in ((value,) if isinstance(value, str) else value)]


def _hex(colour: str) -> str:
    return {"white": "#ffffff", "black": "#000000"}.get(colour, colour)
