"""The self-contained HTML page: what it shows (typed) and how it becomes one string without any outside resource."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from invad.reporting.heatmaps import COLOUR_RULE, PANEL_NAMES, colour_stops
from invad.reporting.labels import METRICS, Metric, source_label
from invad.reporting.operating_point import COLUMNS, OperatingTable, cell_text
from invad.reporting.selection import SELECTION_RULE
from invad.reporting.tables import Table, column_groups, percent

WEBP_QUALITY = 82


@dataclass(frozen=True)
class Picture:
    """An image inside the page. src: data URI; dark: the same for dark backgrounds, where it differs; alt: what it shows, in words."""

    src: str
    alt: str
    width: int
    height: int
    dark: str | None = None


@dataclass(frozen=True)
class SampleCard:
    """One test image: its four panels in the order of `PANEL_NAMES` and the words beside them."""

    kind: str
    score: str
    image_name: str
    panels: tuple[Picture, ...]


@dataclass(frozen=True)
class ClassBlock:
    """The samples of one class; low and high are the map values at the two ends of the colour scale."""

    name: str
    low: str
    high: str
    cards: tuple[SampleCard, ...]


@dataclass(frozen=True)
class BenchmarkSection:
    """Everything about one benchmark. notes: those of the evaluation; missing: values that are not available and that no note explains."""

    name: str
    title: str
    source: str
    settings: Mapping[str, str]
    tables: tuple[Table, ...]
    blocks: tuple[ClassBlock, ...]
    scores: Picture | None
    notes: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class PageContext:
    """All that the page shows, in the order of the page."""

    tables: tuple[Table, ...]
    operating_points: OperatingTable
    sections: tuple[BenchmarkSection, ...]
    loss: Picture | None


def render_page(context: PageContext) -> str:
    """The page as HTML; the same context gives the same text."""
    environment = Environment(
        loader=PackageLoader("invad.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    setting_names = list(dict.fromkeys(name for section in context.sections for name in section.settings))
    return environment.get_template("index.html.j2").render(
        page=context,
        setting_names=setting_names,
        metrics=METRICS,
        operating_columns=COLUMNS,
        column_groups=column_groups,
        group_starts=_group_starts,
        percent_text=lambda _key, value: percent(value),
        operating_text=cell_text,
        source_label=source_label,
        panel_names=PANEL_NAMES,
        colour_stops=", ".join(colour_stops()),
        colour_rule=COLOUR_RULE,
        selection_rule=SELECTION_RULE,
    )


def _group_starts(columns: Sequence[Metric]) -> set[str]:
    """Keys of the columns that open a group."""
    return {
        column.key
        for before, column in zip((None, *columns), columns, strict=False)
        if before is None or before.group != column.group
    }


def webp_picture(image: Image.Image, alt: str) -> Picture:
    """An image panel as WebP, about a tenth of its size as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=WEBP_QUALITY, method=4)
    return Picture(data_uri(buffer.getvalue(), "image/webp"), alt, image.width, image.height)


def data_uri(content: bytes, media_type: str) -> str:
    """Content as a URI that a page can carry inside itself."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
