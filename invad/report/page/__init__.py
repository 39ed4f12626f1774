"""The self-contained HTML page: what it shows of a report's results, as one string without any outside resource."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from invad.report.labels import source_label
from invad.report.learning import PROTOCOL, RULE, authors_words, learning_results
from invad.report.learning import TITLE as LEARNING
from invad.report.overview import SAMPLE_RULE, overview_results, overview_samples
from invad.report.pictures import (
    COLOUR_RULE,
    colour_stops,
    heat_layer,
    image_kind,
    image_panel,
    map_scale,
    outline_layer,
    overlay_panel,
    truth_panel,
    truth_words,
)
from invad.report.results import GALLERY_RULE, GALLERY_SIDE, OUTCOMES, Result, TestImages, outcomes
from invad.report.tables import Row, Table, blocks, column_groups

GENERATED = "embedded"  # key of `labels.SOURCES`
MOST_NAMED = 3  # methods in the heading
MAP_QUALITY, PICTURE_QUALITY = 85, 82
OUTLINE_COLOURS = 8  # line, rim and their soft edges
# Beginning of a figure's file name -> what it shows, in words for those who cannot see it, and its caption; in the order of the page.
PLOTS = {
    "scores": (
        "Histograms of the image scores of normal and anomalous test images, by class",
        "Distribution of image scores, as a share of the normal and of the anomalous test images of a class. Overlap is what the two "
        "histograms share: 0 % separates them fully, 100 % not at all. The dashed line is the calibrated threshold, where there is one: "
        "images above it are called anomalous.",
    ),
    "curves": (
        "ROC, precision-recall and PRO curves of images and pixels",
        "Thick the mean over the classes, thin the classes; the area is that of the protocol exact. AU-ROC takes no threshold and may be "
        "high where no threshold finds the regions; the IoU of the tables says how much of them is found.",
    ),
}  # fmt: skip
LEARNING_ALT = "Lines of five test metrics over the epochs of the training; the table below has the numbers"
LEARNING_CAPTION = (
    "Test metrics over the epochs, protocol paper, in percent: thick the mean of the seeds, thin each of them. The axis of the epochs is "
    "logarithmic where they span more than a factor of ten."
)


@dataclass(frozen=True)
class Group:
    """A section of tables. begin: of the names of its tables' files. intro: what stands above them; "" for nothing. folded: always."""

    anchor: str
    heading: str
    begin: str
    intro: str = ""
    folded: bool = False


# The sections of tables in the order of the page: those before curves and gallery, and those that close it.
FINDINGS = (
    Group(
        "comparison",
        "Comparison of methods",
        "main",
        "A click on a heading sorts a table by that column, a second one the other way; a third restores the order. Bold is the best of a "
        "group of rows, underlined the second best, and ≈ marks what the seeds do not tell apart. Where a table is wider than the "
        "screen it scrolls, and its edge says so.",
    ),
    Group(
        "spread",
        "Spread",
        "spread",
        "How far a number would move with other test images, and how far with another seed of the training.",
        folded=True,
    ),
    Group("ablations", "Ablations", "ablation_"),
    Group("published", "Published numbers", "published"),
    Group("classes", "Results per class", "per_class_"),
    Group(
        "operating-point",
        "Operating point",
        "operating_point",
        "The best-possible numbers above need the labels of the test images to find their threshold. Here the thresholds are what a user "
        "can have: they come from normal training images that training did not see, so that at most the share asked for lies above.",
    ),
    Group("supervised", "A few labels", "supervised"),
)
FACTS = (Group("efficiency", "Cost", "efficiency"), Group("datasets", "Data sets", "datasets"))
OPEN_ROWS = 20  # a longer table is folded
OPEN_SAMPLES = 9  # so many images stand unfolded on the first screen
SAMPLE_SIDE = 144  # pixels of each of the two halves
DECISIONS = {
    "true positive": "✓ called anomalous", "false positive": "✗ called anomalous", "false negative": "✗ called normal",
    "true negative": "✓ called normal", "undecided": "no threshold",
}  # fmt: skip
NO_EVIDENCE = (
    "No scores, maps and pictures of the test images are at hand, so there are no score distributions, no heat maps and no gallery. "
    "The run of a benchmark has them as its artifact `evidence`; the trials of a study keep none."
)


def render_page(
    results: Sequence[Result],
    tables: Mapping[str, Sequence[Table]],
    figures: Path,
    run_info: Mapping[str, Any],
    left_out: Sequence[str],
) -> str:
    """The page as HTML; the same content gives the same text.

    tables: by the name of their files. figures: the folder of the plots; those that are not there are left out. run_info: what is true
    of this run alone, in `<aside id="run-info">` and nowhere else. left_out: a sentence on each result that is missing or damaged.
    """
    loader = PackageLoader("invad.report.page", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    names: dict[str, Any] = {"column_groups": column_groups, "blocks": blocks, "source_label": source_label}
    names["raw"] = lambda name: Markup(loader.get_source(environment, name)[0])  # a file of the templates as it is
    environment.globals.update(names)
    explained = [table for name, members in tables.items() if name != "overview" for table in members]
    labels = list(dict.fromkeys(result.label for result in results))
    return environment.get_template("index.html.j2").render(
        methods=", ".join(labels) if len(labels) <= MOST_NAMED else f"{len(labels)} models",
        runs=runs_table(results),
        overview=tables.get("overview", ()),
        samples=_samples(results),
        open_samples=OPEN_SAMPLES,
        sample_rule=SAMPLE_RULE,
        findings=_filled(FINDINGS, tables),
        facts_of=_filled(FACTS, tables),
        columns=list(dict.fromkeys(column for table in explained for column in table.columns)),
        sections=[_section(result, figures) for result in results],
        learning=_learning(results, tables.get("learning", ()), figures),
        learning_rule=RULE,
        run_info=run_info,
        left_out=left_out,
        generated=any(result.source == GENERATED for result in results),
        colour_stops=", ".join(colour_stops()),
        colour_rule=COLOUR_RULE,
        gallery_rule=GALLERY_RULE,
        no_evidence=NO_EVIDENCE,
    )


def _filled(groups: Sequence[Group], tables: Mapping[str, Sequence[Table]]) -> list[tuple[Group, list[dict[str, Any]]]]:
    """The groups that have tables, each with its parts: title, tables, and whether it is folded."""
    filled = []
    for group in groups:
        files = [members for name, members in tables.items() if name.startswith(group.begin)]
        parts = [part for members in files for part in _parts(group, members)]
        if group.begin == "main":  # what is compared is seen, however long it is
            parts = [part | {"folded": index > 0} for index, part in enumerate(parts)]
        parts = [part | {"folded": part["folded"] or group.folded} for part in parts]
        filled += [(group, parts)] if parts else []
    return filled


def _parts(group: Group, members: Sequence[Table]) -> list[dict[str, Any]]:
    """The tables of a file: one part each, or one folded part where they are those of the classes of a benchmark."""
    together = members[0].heads[0] == "Class"
    parts = []
    for tables in [members] if together else [[table] for table in members]:
        title = tables[0].title.removeprefix(f"{group.heading}, ")
        title = title.partition(", protocol ")[0] if together else title
        parts.append({"title": title, "tables": tables, "folded": together or _is_folded(tables[0])})
    return parts


def _is_folded(table: Table) -> bool:
    return len(table.rows) > OPEN_ROWS or all(row.kind == "published" for row in table.rows)


def _samples(results: Sequence[Result]) -> list[dict[str, Any]]:
    """One image of each class of the results of the overview; the benchmarks take turns."""
    queues = [
        [
            _sample(one, one.tests, index)
            for one in result.folds or (result,)
            if one.tests
            for index in overview_samples(one.tests)
        ]
        for result in overview_results(results)
    ]
    return [sample for turn in zip_longest(*queues) for sample in turn if sample]


def _sample(result: Result, tests: TestImages, index: int) -> dict[str, Any]:
    """An image of the first screen: the picture beside its overlay, and what was decided."""
    picture = Image.new("RGB", (2 * SAMPLE_SIDE, SAMPLE_SIDE))
    truth = image_panel(tests.pictures[index], SAMPLE_SIDE)
    if tests.pictures[index].mask.any():
        truth = truth_panel(tests.pictures[index], SAMPLE_SIDE)
    picture.paste(truth, (0, 0))
    picture.paste(overlay_panel(result, tests, index, SAMPLE_SIDE), (SAMPLE_SIDE, 0))
    outcome = outcomes(tests, result.thresholds())[index]
    return {
        "picture": picture_uri(picture, "webp", quality=PICTURE_QUALITY),
        "size": picture.size,
        "title": result.title,
        "class_name": tests.classes[index],
        "kind": image_kind(tests, index),
        "truth": truth_words(tests, index),
        "score": float(tests.image_scores[index]),
        "threshold": result.thresholds().get(tests.classes[index]),
        "decision": DECISIONS[outcome],
        "is_wrong": outcome.startswith("false"),
        "anchor": _anchor(result),
        "name": tests.names[index],
    }


def _anchor(result: Result) -> str:
    return "result-" + re.sub(r"\s", "_", result.key)


def runs_table(results: Sequence[Result]) -> Table:
    """The settings of the results in words; numbers of images stand in the table of the data sets."""
    rows = []
    for result in results:
        features, train = result.config.features, result.config.train
        length = f"batch {train.batch_size}"
        if train.length:
            length = f"{train.length}, {length}, learning rate {train.learning_rate:g}"
        settings = {
            "Encoder": f"{features.encoder}, {features.weights} weights",
            "Input size": f"{features.image_size} x {features.image_size} pixels",
            "Training": length,
        }
        rows.append(Row(result.words | settings, {}))
    heads = ("Benchmark", "Method", "Data", "Encoder", "Input size", "Training", "Seeds")
    return Table("Settings", "", heads, (), tuple(rows))


def _learning(results: Sequence[Result], tables: Sequence[Table], figures: Path) -> list[dict[str, Any]]:
    """The learning curves of each result that has them: a figure, and the table of the same numbers."""
    shown = []
    for result in learning_results(results):
        title = f"{result.title}, {result.label}"
        own = [table for table in tables if table.title == f"{LEARNING}, {title}, protocol {PROTOCOL}"]
        caption = f"{LEARNING_CAPTION} {authors_words(result)}"
        shown.append(
            {"title": title, "plots": _plots(result, figures, {"learning": (LEARNING_ALT, caption)}), "tables": own}
        )
    return shown


def _plots(result: Result, figures: Path, kinds: Mapping[str, tuple[str, str]]) -> list[dict[str, str]]:
    """The plots of a result that are there. kinds: beginning of the file name -> words for those who cannot see it, and caption."""
    plots = []
    for kind, (alt, caption) in kinds.items():
        if (path := figures / f"{kind}_{result.key}.svg").exists():
            alt = f"{alt}: {result.title}, {result.label}."
            plots.append({"src": data_uri(path.read_bytes(), "image/svg+xml"), "alt": alt, "caption": caption})
    return plots


def _section(result: Result, figures: Path) -> dict[str, Any]:
    """What stands in the section of a result."""
    return {
        "anchor": _anchor(result),
        "title": f"{result.title}, {result.label}",
        "source": result.source,
        "plots": _plots(result, figures, PLOTS),
        "gallery": build_gallery(result),
    }


def build_gallery(result: Result) -> dict[str, Any] | None:
    """The images in `result.tests.pictures`, highest score first, and their classes and outcomes; None where there are none."""
    tests = result.tests
    if tests is None or not tests.pictures:
        return None
    decided = outcomes(tests, result.thresholds())
    positions = sorted(tests.pictures, key=lambda index: (-tests.image_scores[index], index))
    cards = [_card(result, tests, index, decided[index]) for index in positions]
    kinds = [kind for kind in OUTCOMES if any(card["outcome"] == kind for card in cards)]
    return {"cards": cards, "classes": sorted(set(tests.classes)), "outcomes": kinds, "total": len(tests)}


def _card(result: Result, tests: TestImages, index: int, decided: str) -> dict[str, Any]:
    """One image. threshold: of its class, None without one. scale: the map values at the two ends of the colours.

    picture, heat, outline: data URIs of the image, of the colours of its map, transparent below the threshold, and of the outline of
    the mask, "" without anomalous pixels.
    """
    shown, name = tests.pictures[index], tests.classes[index]
    side, scale = min(GALLERY_SIDE, len(shown.mask)), map_scale(result, tests, name)
    # Twice as large as the picture, so that it stays sharp in the viewer.
    outline = outline_layer(shown.mask, 2 * side).quantize(OUTLINE_COLOURS, method=Image.Quantize.FASTOCTREE)
    return {
        "name": tests.names[index],
        "class_name": name,
        "kind": image_kind(tests, index),
        "truth": truth_words(tests, index),
        "score": float(tests.image_scores[index]),
        "outcome": decided,
        "threshold": result.thresholds().get(name),
        "scale": (scale.low, scale.high),
        "side": side,
        "picture": picture_uri(image_panel(shown, side), "webp", quality=PICTURE_QUALITY),
        "heat": picture_uri(heat_layer(result, tests, index), "webp", quality=MAP_QUALITY),
        "outline": picture_uri(outline, "png", optimize=True) if shown.mask.any() else "",
    }


def picture_uri(image: Image.Image, kind: str, **options: int) -> str:
    """An image as a URI that a page can carry inside itself."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind.upper(), **options)
    return data_uri(buffer.getvalue(), f"image/{kind}")


def data_uri(content: bytes, media_type: str) -> str:
    """Content as a URI."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
