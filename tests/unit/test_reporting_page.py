"""The page: what it says, that it stands alone, and how it behaves in a real browser."""

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from devtools import browser
from matplotlib.figure import Figure
from PIL import Image
from reporting_toys import IMAGES, toy_result
from reporting_toys import SIDE as TOY_SIDE

from invad.config import PatchCoreConfig
from invad.report.labels import METRICS, Metric
from invad.report.page.gallery import OUTCOMES, build_gallery
from invad.report.page.page import (
    NO_CURVES,
    NO_EVIDENCE,
    NO_LOSS,
    PLOTS,
    RUN_LABELS,
    PageContext,
    Section,
    missing_parts,
    plot_of,
    render_page,
    settings_text,
    two_themes,
)
from invad.report.selection import GALLERY_RULE
from invad.report.style import DARK, LIGHT, svg_text
from invad.report.tables import Cell, Row, Table

COLUMNS = (
    Metric("high", "Image", "High", "More is better."),
    Metric("low", "Cost", "Low", "Less is better.", form="count", best="lowest"),
    Metric("odd", "Cost", "Words", "Anything.", form="text", best=None),
)


def row(name, high, low=1.0, kind="plain", block="", notes=(), rank=0, std=None, text="x"):
    cells = {"high": Cell(high, notes, std, rank), "low": Cell(low), "odd": Cell(text=text)}
    return Row((name, f"data {name}"), cells, kind=kind, block=block)


BLOCKS = Table(
    "Blocks <1>",
    "A caption & more.",
    ("Name", "Data"),
    COLUMNS,
    (
        row("b", 0.51, 30, block="one", rank=2, std=0.003),
        row("b - paper", -0.9, None, "difference", "one"),
        row("a", 0.92, 4, block="one", rank=1),
        row("a - paper", 0.01, None, "difference", "one"),
        row("c", None, 200, block="one", notes=("There is <no> value.",)),
        row("mean", 0.7, 5, "summary", "one"),
        row("p10", 0.1, 7, "published", "two"),
        row("p9", 0.30004, 7, "published", "two"),
        row("p8", 0.30001, 7, "published", "two"),
    ),
    protocol="paper",
    remarks=("What the <evaluation> said.",),
)
SINGLES = Table(
    "Singles",
    "Every block is one row.",
    ("Name", "Data"),
    COLUMNS,
    (
        row("x", 0.2, block="x"),
        row("y", 0.9, block="y"),
        row("folds", 0.5, kind="summary", block="z"),
        row("z", 0.4, block="q"),
    ),
)
WIDE = Table("Wide", "All metrics.", ("Class",), METRICS, (Row(("wood",), {m.key: Cell(0.5) for m in METRICS}),))
RUN = {
    "commit": "0123abc",
    "python_version": "3.12",
    "clean": True,
    "gpu": None,
    "hardware": {"cores": 2, "names": ["one <cpu>", "another"]},
    "stages": [{"stage": "train", "seconds": 1.5}, {"stage": "evaluate", "device": "cpu"}],
}


def plot(colour=LIGHT.normal):
    figure = Figure(figsize=(6, 2), facecolor=LIGHT.background)
    figure.subplots().plot([0, 1], [0, 1], color=colour)
    return plot_of(svg_text(figure), "A line that rises from left to right.", "A plot.")


def section_of(result, **other):
    return Section(
        key=result.key,
        title=result.title,
        label=result.label,
        source=result.source,
        settings={"Encoder": "mobilenetv2_100"},
        gallery=build_gallery(result),
        **other,
    )


def rich_context(result=None):
    result = result or toy_result()
    return PageContext(
        sections=(
            section_of(result, plots=(plot(),), missing=("one <odd> thing",)),
            replace(section_of(result), key="second key", source="path", gallery=None),
        ),
        tables=(BLOCKS, SINGLES),
        published=(WIDE,),
        per_class=(("MVTec AD", (WIDE,)),),
        operating=replace(SINGLES, title="Operating"),
        efficiency=replace(SINGLES, title="Efficiency"),
        datasets=replace(SINGLES, title="Data"),
        ablations=(("style", replace(WIDE, title="Ablation")),),
        loss=plot(LIGHT.anomalous),
        run_info=RUN,
        left_out=("visa: metrics/visa.json: no such file",),
    )


class PageParser(HTMLParser):
    """Collects the start tags of a page and checks that they are closed in order."""

    VOID = ("meta", "link", "img", "wbr", "br", "input")

    def __init__(self):
        super().__init__()
        self.tags, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parse(page):
    parser = PageParser()
    parser.feed(page)
    assert parser.open == []
    return parser.tags


@pytest.fixture(scope="module")
def result():
    return toy_result()


@pytest.fixture(scope="module")
def page(result):
    return render_page(rich_context(result))


def test_the_page_loads_nothing_from_outside(page):
    tags = parse(page)
    resources = [value for _, attrs in tags for name, value in attrs.items() if name in ("src", "srcset", "href")]
    assert len(resources) > 20
    assert all(value.startswith(("data:", "#")) for value in resources)
    assert "url(" not in page and "@import" not in page and "http:" not in page.replace("http://www.w3.org", "")
    (policy,) = [attrs["content"] for _, attrs in tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'")


def test_the_page_is_the_same_twice(result, page):
    assert render_page(rich_context(result)) == page


def test_ids_are_unique_and_links_lead_somewhere(page):
    tags = parse(page)
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    anchors = {attrs["href"][1:] for tag, attrs in tags if tag == "a"}
    assert {"results", "run", "result-mvtec", "result-second_key", "ablations", "published"} <= anchors <= set(ids)


def test_pictures_have_words_and_headings_their_order(page):
    tags = parse(page)
    layers = ("outline", "map", "picture")  # of the viewer and of cards: what they show is said beside them
    images = [attrs for tag, attrs in tags if tag == "img" and attrs.get("class") not in layers]
    assert len(images) > 10
    assert all(len(attrs["alt"]) > 10 for attrs in images)
    assert all("scope" in attrs for tag, attrs in tags if tag == "th")
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert ("html", {"lang": "en"}) in tags


def test_run_info_stands_in_one_element_alone(result, page):
    (cut,) = re.findall(r'(?s)<aside id="run-info".*?</aside>', page)
    text = " ".join(re.sub(r"<[^>]*>", " ", cut).split())
    assert text == (
        "Commit 0123abc Python version 3.12 Clean yes GPU – Hardware Cores 2 Names one &lt;cpu&gt;, another "  # noqa: RUF001
        "Stages Stage Seconds Device train 1.5 – evaluate – cpu"  # noqa: RUF001
    )
    other = render_page(replace(rich_context(result), run_info={"commit": "ffff"}))
    assert other != page
    assert other.replace(re.search(r'(?s)<aside id="run-info".*?</aside>', other)[0], cut) == page


def test_tables_show_ranks_spread_notes_and_kinds(page):
    table = page.partition("<h3>Blocks &lt;1&gt;, protocol paper</h3>")[2].partition("<h3>")[0]
    assert '<td data-value="0.92" class="start"><b>92.0</b></td>' in table
    assert '<td data-value="0.51" class="start"><u>51.0 ± 0.3</u></td>' in table
    assert '<td data-value="" class="start">–<sup>1</sup></td>' in table  # noqa: RUF001
    assert "<li>There is &lt;no&gt; value.</li>" in table
    assert [table.count(f'<tr class="{kind}"') for kind in ("difference", "summary", "published")] == [2, 1, 3]
    assert table.count("<tbody>") == 2
    assert '<table class="numbers sortable ruled">' in table
    assert '<p class="caption">A caption &amp; more.</p>' in table
    assert "<li>What the &lt;evaluation&gt; said.</li>" in table


def test_a_table_of_quoted_rows_alone_is_folded_and_a_title_names_the_protocol_once():
    quoted = replace(
        BLOCKS, title="Quoted, protocol paper", rows=tuple(r for r in BLOCKS.rows if r.kind == "published")
    )
    page = render_page(PageContext(sections=(), tables=(BLOCKS,), published=(quoted,)))
    assert "<summary>Quoted, protocol paper</summary>" in page
    assert "<h3>Blocks &lt;1&gt;, protocol paper</h3>" in page


def test_what_was_left_out_and_generated_data_stand_above_the_contents(page):
    head = page.partition("<nav")[0]
    assert "visa: metrics/visa.json: no such file" in head
    assert "not comparable with published ones" in head
    plain = render_page(PageContext(sections=(Section("mvtec", "MVTec AD", "RD", "official"),)))
    assert "No figure and no picture is missing" in plain
    assert "Left out" not in plain and 'class="banner"' not in plain


def test_a_page_of_nothing_but_one_section_is_a_page():
    page = render_page(PageContext(sections=(Section("mvtec", "MVTec AD", "RD", "official"),)))
    tags = parse(page)
    assert not [tag for tag, _ in tags if tag in ("img", "dialog")]
    assert "No figures and no pictures; the" in page


def test_words_of_the_user_are_never_markup():
    nasty = '</script><script>alert("1")</script>'
    result = toy_result(classes=(nasty,), label=nasty)
    section = section_of(result, missing=(nasty,))
    page = render_page(PageContext(sections=(section,), run_info={nasty: nasty}, left_out=(nasty,)))
    assert "<script>alert" not in page
    json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])


def test_one_svg_has_both_themes():
    svg = svg_text(Figure(figsize=(6, 2), facecolor=LIGHT.background)).decode()
    text = two_themes(svg)
    assert text.count("<style>@media (prefers-color-scheme: dark){") == 1
    assert f'[style*="stroke: {LIGHT.normal}"]{{stroke:{DARK.normal}!important}}' in text
    assert '[style*="fill: #ffffff"]{fill:none!important}' in text
    picture = plot_of(svg.encode(), "alt", "caption")
    assert (picture.width, picture.height) == (600, 200)
    with pytest.raises(ValueError, match="viewBox"):
        plot_of(b"<svg>", "alt", "caption")


# ---- gallery


def test_outcomes_agree_with_the_operating_point(result):
    gallery = build_gallery(result)
    assert gallery.classes == ("metal_nut", "wood")
    assert gallery.total == len(result.tests) == 2 * IMAGES
    for name in gallery.classes:
        values = result.metrics["operating_point"]["per_class"][name]
        counts = {kind: gallery.totals[name].get(kind, 0) for kind in OUTCOMES}
        positives = counts["true positive"] + counts["false negative"]
        negatives = counts["false positive"] + counts["true negative"]
        assert (positives, negatives, counts["undecided"]) == (IMAGES / 2, IMAGES / 2, 0)
        assert values["calibrated_image_recall"] == counts["true positive"] / positives
        assert values["calibrated_image_fpr"] == counts["false positive"] / negatives
    assert {image.outcome for image in gallery.images} == set(gallery.outcomes)


def test_without_a_threshold_all_is_undecided(result):
    metrics = {**result.metrics, "operating_point": {"per_class": {}}}
    gallery = build_gallery(replace(result, metrics_by_seed={42: metrics}))
    assert gallery.outcomes == ("undecided",)
    assert gallery.thresholds == {}
    page = render_page(PageContext(sections=(replace(section_of(result), gallery=gallery),)))
    assert "no calibrated threshold" in page and "nearest to the threshold" not in page


def test_there_is_no_gallery_without_pictures(result):
    assert build_gallery(replace(result, tests=None)) is None
    assert build_gallery(replace(result, tests=replace(result.tests, pictures={}))) is None


def test_some_images_of_many(result):
    pictures = {index: result.tests.pictures[index] for index in (0, 5, 6, 7, 2)}
    gallery = build_gallery(replace(result, tests=replace(result.tests, pictures=pictures)))
    assert [image.name for image in gallery.images] == [result.tests.names[index] for index in (0, 2, 5, 6, 7)]
    assert (gallery.total, gallery.shown("metal_nut"), gallery.shown("wood")) == (16, 5, 0)
    scores = result.tests.image_scores
    anomalous, normal = sorted((5, 6, 7), key=lambda i: -scores[i]), max((0, 2), key=lambda i: scores[i])
    assert [(0, 2, 5, 6, 7)[index] for index in gallery.listed] == [anomalous[0], anomalous[-1], normal]
    page = render_page(PageContext(sections=(replace(section_of(result), gallery=gallery),)))
    assert f"5 of 16 test images can be looked at here, chosen by rule: {GALLERY_RULE}" in page


def test_pictures_of_the_gallery_are_what_they_say(result):
    gallery = build_gallery(result)
    anomalous, normal = gallery.images[IMAGES - 1], gallery.images[0]
    picture, heat, outline = (
        Image.open(io.BytesIO(item)) for item in (anomalous.picture, anomalous.heat, anomalous.outline)
    )
    assert (picture.format, picture.size, heat.size) == ("WEBP", (TOY_SIDE, TOY_SIDE), (16, 16))
    assert (normal.outline, normal.truth, normal.kind) == (None, "no anomaly", "normal")
    assert (anomalous.truth, anomalous.kind) == ("anomalous region outlined", "anomalous: scratch")
    opacity = np.asarray(outline.convert("RGBA"))[..., 3]
    mask = np.asarray(Image.fromarray(result.tests.pictures[IMAGES - 1].mask).resize(outline.size))
    assert opacity.shape == mask.shape == (2 * TOY_SIDE, 2 * TOY_SIDE)
    assert opacity[mask].mean() < 20 and (opacity > 200).any()
    assert len(anomalous.outline) < 2000


def test_the_json_of_the_gallery_repeats_no_picture_of_the_page(result):
    gallery = build_gallery(result)
    content = json.loads(gallery.json())
    bare = [index for index, image in enumerate(content["images"]) if "picture" not in image]
    assert sorted(gallery.listed) == bare
    assert base64.b64decode(content["images"][1]["picture"]) == gallery.images[1].picture
    assert [image["score"] for image in content["images"]] == [float(value) for value in result.tests.image_scores]
    page = render_page(PageContext(sections=(section_of(result),)))
    for image in gallery.images:
        assert page.count(base64.b64encode(image.picture).decode()) == 1


# ---- what it says is true


def test_the_page_says_what_is_missing_and_no_more_than_that(result):
    assert missing_parts(result) == ()
    assert missing_parts(replace(result, tests=None, curves={}, loss=())) == (NO_EVIDENCE, NO_CURVES, NO_LOSS)
    bare = replace(section_of(result), gallery=None, missing=(NO_EVIDENCE,))
    page = render_page(PageContext(sections=(bare,)))
    assert "No figure and no picture is missing" not in page and NO_EVIDENCE.replace("`", "`") in page


def test_a_method_without_gradients_has_neither_epochs_nor_losses(result):
    patchcore = replace(result, config=replace(result.config, train=PatchCoreConfig()), loss=())
    assert settings_text(patchcore)["Training"] == "batch 16"
    assert settings_text(result)["Training"] == "20 epochs, batch 8, learning rate 0.004"
    assert missing_parts(patchcore) == ()


def test_the_page_claims_no_more_than_is_true(page):
    """run_info.json and "What was run" differ from run to run, and AU-ROC may be anything."""
    words = " ".join(page.split())
    assert "The same inputs give the same files" not in words
    assert 'and this page but for "What was run": commit, times and machine stand there' in words
    _, caption = PLOTS["thresholds"]
    assert "close to its end" not in caption and "may be high" in caption


def test_the_page_is_headed_by_the_methods_that_were_run(result):
    sections = (section_of(result), replace(section_of(result), key="rd", label="RD"))
    page = render_page(PageContext(sections=sections))
    assert f"<h1>Anomaly detection: results of {result.label}, RD</h1>" in page
    rd = render_page(PageContext(sections=sections[1:]))
    many = [replace(sections[1], key=name, label=name) for name in "abcd"]
    assert "results of 4 models</h1>" in render_page(PageContext(sections=tuple(many)))
    assert "<title>Anomaly detection: results of RD</title>" in rd and "InvAD" not in rd.partition("<nav")[0]


def test_facts_of_a_run_have_proper_names_and_none_is_empty():
    facts = {
        "cpu": "x",
        "training_peak_memory_mb": 5,
        "mlflow_run": "abc",
        "torch": "2",
        "some_key": 1,
        "all_trained_with": {},
    }
    page = render_page(PageContext(sections=(), run_info=facts))
    names = re.findall("<dt>(.*?)</dt>", page)
    assert names == ["CPU", "Peak memory of training (MB)", "MLflow run", "PyTorch", "Some key"]
    assert set(names[:4]) <= set(RUN_LABELS.values())


# ---- in a real browser


@pytest.fixture(scope="module")
def tab(page, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    (folder / "page.html").write_text(page)
    with browser(folder) as tab:
        tab.address = (folder / "page.html").as_uri()
        yield tab


@pytest.fixture
def opened(tab):
    """The page freshly loaded on a desktop screen; checks afterwards that it was quiet and asked for nothing."""
    tab.look(1280)
    tab.open(tab.address)
    yield tab
    assert tab.messages == []
    assert [address for address in tab.requests if not address.startswith("data:")] == [tab.address]


NAMES = (
    "const table = document.querySelectorAll('table.sortable')[{}];"
    "return [...table.querySelectorAll('tbody tr')].map((row) => row.cells[0].firstChild.textContent);"
)
BLOCK_NAMES = ["b", "b - paper", "a", "a - paper", "c", "mean", "p10", "p9", "p8"]


def heading(table, column):
    """The button in the heading of a column of the table under a section's heading."""
    return f"{table} thead tr:last-child th:nth-child({column}) button"


def test_a_table_sorts_by_clicks_and_a_third_one_restores_it(opened):
    orders = []
    button = heading("table.ruled", 3)
    sorts = []
    for _ in range(3):
        opened.click(button)
        orders.append(opened.run(NAMES.format(0)))
        sorts.append(
            opened.run("return document.querySelector('table.ruled [aria-sort]')?.getAttribute('aria-sort') ?? ''")
        )
    assert orders == [
        ["a", "a - paper", "b", "b - paper", "c", "mean", "p9", "p8", "p10"],
        ["b", "b - paper", "a", "a - paper", "c", "mean", "p10", "p8", "p9"],
        BLOCK_NAMES,
    ]
    assert sorts == ["descending", "ascending", ""]


def test_a_column_where_less_is_better_begins_with_the_lowest_and_words_with_a(opened):
    opened.click(heading("table.ruled", 4))
    assert opened.run(NAMES.format(0))[:5] == ["a", "a - paper", "b", "b - paper", "c"]
    opened.click(heading("table.ruled", 1))
    assert opened.run(NAMES.format(0)) == [
        "a", "a - paper", "b", "b - paper", "c", "mean", "p8", "p9", "p10"
    ]  # fmt: skip
    assert opened.run("return document.querySelectorAll('table.ruled [aria-sort]').length") == 1


def test_blocks_of_single_rows_are_sorted_themselves(opened):
    button = heading("table.sortable:not(.ruled)", 3)
    opened.click(button)
    assert opened.run(NAMES.format(1)) == ["y", "z", "x", "folds"]
    opened.click(button)
    assert opened.run(NAMES.format(1)) == ["x", "z", "y", "folds"]
    opened.click(button)
    assert opened.run(NAMES.format(1)) == ["x", "y", "folds", "z"]


@pytest.mark.parametrize("key", ["Enter", " "])
def test_a_table_sorts_by_keys(opened, key):
    opened.run(f"document.querySelector({heading('table.ruled', 3)!r}).focus()")
    opened.press(key)
    assert opened.run(NAMES.format(0))[0] == "a"
    assert opened.run("return document.activeElement.textContent") == "High"


CARDS = "return [...document.querySelectorAll('.card')].map((card) => card.innerText.split('\\n').map((line) => line.trim()))"


def choose(tab, control, value):
    """Choose an option of a list by the keyboard: `value` is how many options down."""
    tab.run(f"document.querySelector('[data-control={control}]').focus()")
    tab.press("ArrowDown", value)


def test_the_gallery_filters_and_sorts(opened, result):
    scores = [
        f"score {float(f'{score:.4g}'):.4g}" for score in sorted(result.tests.image_scores.tolist(), reverse=True)
    ]
    assert [card[0] for card in opened.run(CARDS)] == scores
    assert opened.run("return document.querySelector('.status').textContent") == "16 of 16 test images shown"
    choose(opened, "order", 1)
    assert [card[0] for card in opened.run(CARDS)] == scores[::-1]
    choose(opened, "class", 2)
    cards = opened.run(CARDS)
    assert len(cards) == IMAGES and all(card[2].startswith("wood, ") for card in cards)
    counts = build_gallery(result).totals["wood"]
    options = opened.run(
        "return [...document.querySelector('[data-control=outcome]').options].map((item) => item.text)"
    )
    assert options == [
        "all outcomes",
        *(f"{name} ({counts[name]} of {counts[name]} shown)" for name in OUTCOMES if name in counts),
    ]
    choose(opened, "outcome", 1)
    cards = opened.run(CARDS)
    assert len(cards) == counts["true positive"] and all(card[1] == "✓ true positive" for card in cards)
    assert (
        opened.run("return document.querySelector('.status').textContent")
        == f"{len(cards)} of {len(cards)} test images shown"
    )


def test_the_gallery_sorts_by_distance_to_the_threshold(opened, result):
    choose(opened, "order", 2)
    shown = [float(card[0].removeprefix("score ")) for card in opened.run(CARDS)]
    limits = [result.thresholds[name] for name in result.tests.classes]
    distances = sorted((abs(s - limit), s) for s, limit in zip(result.tests.image_scores.tolist(), limits, strict=True))
    assert shown == pytest.approx([score for _, score in distances], rel=1e-3)


def opacity(tab, selector):
    return tab.run(f"return Number(getComputedStyle(document.querySelector({selector!r})).opacity)")


def test_the_viewer_has_a_slider_keys_and_the_outline(opened):
    names = opened.run(
        "return [...document.querySelectorAll('.card')].map((card) => card.querySelector('.picture').src)"
    )
    source = "return document.querySelector('#viewer .picture').src"
    opened.click(".cards li:nth-child(2) .card")
    assert opened.run("return document.querySelector('#viewer').open")
    assert opened.run(source) == names[1]
    opened.press("ArrowRight")
    assert opened.run(source) == names[2]
    assert opened.run("return document.querySelector('#viewer .step span').textContent") == "3 of 16"
    opened.click("#viewer [data-action=previous]")
    opened.press("ArrowLeft", 2)
    assert opened.run(source) == names[-1]

    assert opacity(opened, "#viewer .map") == 0.6
    opened.run("document.querySelector('#viewer [type=range]').focus()")
    opened.press("ArrowRight", 4)
    assert opacity(opened, "#viewer .map") == 0.8
    assert opened.run(source) == names[-1]  # on the slider the arrows move the slider
    box = opened.run(
        "const box = document.querySelector('#viewer [type=range]').getBoundingClientRect(); return [box.x, box.y, box.width, box.height]"
    )
    opened.click_at(box[0] + box[2] - 3, box[1] + box[3] / 2)
    assert opacity(opened, "#viewer .map") == 1
    assert opacity(opened, ".cards .map") == 0.6  # a slider of its own

    visible = "return getComputedStyle(document.querySelector('#viewer .outline')).visibility"
    assert opened.run(visible) == "visible"
    opened.click("#viewer [type=checkbox]")
    assert opened.run(visible) == "hidden"
    opened.press("Escape")
    assert not opened.run("return document.querySelector('#viewer').open")
    assert opened.run("return document.activeElement === document.querySelectorAll('.card')[1]")


def test_the_slider_of_the_cards(opened):
    opened.run("document.querySelector('[data-control=mix]').focus()")
    opened.press("ArrowRight", 2)
    assert opacity(opened, ".cards .map") == 0.7


def test_cards_come_some_at_a_time(tab, result, tmp_path):
    many = toy_result(classes=("a", "b", "c", "d"))
    (tmp_path / "many.html").write_text(render_page(PageContext(sections=(section_of(many),))))
    tab.look(1280)
    tab.open((tmp_path / "many.html").as_uri())
    assert len(tab.run(CARDS)) == 24
    assert tab.run("return document.querySelector('.more').textContent") == "Show more (8 left)"
    tab.click(".more")
    assert len(tab.run(CARDS)) == 32
    assert not tab.run("return document.querySelector('.more').checkVisibility()")
    assert tab.run("return document.activeElement === document.querySelectorAll('.card')[24]")
    assert tab.messages == []


OUTSIDE = """
const width = document.documentElement.clientWidth;
const inBox = (item) => item.parentElement.closest('.scroll, pre') !== null; // which scroll on their own
return [document.documentElement.scrollWidth - width,
  [...document.querySelectorAll('main *, header *')].filter((item) => item.checkVisibility() && !inBox(item)
    && item.getBoundingClientRect().right > width + 1).map((item) => item.outerHTML.slice(0, 80))];
"""


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(opened, width):
    opened.look(width)
    assert opened.run(OUTSIDE) == [0, []]
    opened.click(".card")
    assert opened.run(
        "const box = document.querySelector('#viewer');"
        "return [box.scrollWidth - box.clientWidth, box.getBoundingClientRect().right <= innerWidth];"
    ) == [0, True]


WIDE_BOXES = """
return [...document.querySelectorAll('.scroll')].filter((box) => box.checkVisibility() && box.scrollWidth > box.clientWidth + 1)
  .map((box) => [box.classList.contains('more-right'), getComputedStyle(box, '::after').content]);
"""
METRICS_SEEN = """
const box = document.querySelector('table.ruled').parentElement.getBoundingClientRect();
const cells = [...document.querySelector('table.ruled tbody tr').cells].map((cell) => cell.getBoundingClientRect());
return [cells[0].width / box.width, cells.filter((cell) => cell.width && cell.right <= box.right + 1).length];
"""


def test_a_table_that_is_wider_than_the_screen_says_so(opened):
    opened.look(390)
    wide = opened.run(WIDE_BOXES)
    assert len(wide) >= 1
    assert all(more and "scroll" in words for more, words in wide)
    opened.run("for (const box of document.querySelectorAll('.scroll')) box.scrollLeft = 9999;")
    opened.run("await new Promise((done) => setTimeout(done, 200));")
    assert not any(more for more, _ in opened.run(WIDE_BOXES))


def test_a_phone_shows_numbers_beside_a_narrow_first_column_and_whole_figures(opened):
    opened.look(390)
    share, seen = opened.run(METRICS_SEEN)
    assert share < 0.4 and seen >= 3
    also = "return [...document.querySelectorAll('table.ruled .also')].map((item) => [item.checkVisibility(), item.textContent])[0]"
    assert opened.run(also) == [True, "data b"]
    assert opened.run(
        "return [...document.querySelectorAll('img.plot')].every((item) => item.getBoundingClientRect().right <= innerWidth)"
    )
    opened.look(1280)
    assert opened.run(also) == [False, "data b"]


def test_all_columns_of_the_results_fit_on_a_desktop(tab, tmp_path):
    words = ("COCO-AD (mean of 4 folds)", "InvAD (mobilenetv2_100)", "generated", "100")
    cells = {metric.key: Cell(0.999) for metric in METRICS}
    table = Table("T", "C.", ("Benchmark", "Method", "Data", "Epochs"), METRICS, (Row(words, cells, kind="summary"),))
    (tmp_path / "wide.html").write_text(render_page(PageContext(sections=(), tables=(table,))))
    tab.look(1280)
    tab.open((tmp_path / "wide.html").as_uri())
    assert tab.run(WIDE_BOXES) == []


CONTRAST = """
const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
const rgb = (colour) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return canvas.getImageData(0, 0, 1, 1).data;
};
const light = (colour) => {
  const [r, g, b] = [...rgb(colour)].map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b;
};
const ground = (item) => {
  for (; item; item = item.parentElement) {
    const colour = getComputedStyle(item).backgroundColor;
    if (rgb(colour)[3] === 255) return colour;
  }
  return 'Canvas';
};
const own = (item) => [...item.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
const items = [...document.querySelectorAll('body *')].filter((item) => own(item) && item.checkVisibility());
const found = items.map((item) => {
  const [a, b] = [light(getComputedStyle(item).color), light(ground(item))];
  return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), item.outerHTML.slice(0, 90)];
});
return [found.length, found.filter(([ratio]) => ratio < 4.5)];
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_words_stand_out_from_their_ground(opened, scheme):
    opened.look(1280, scheme=scheme)
    opened.run(
        "document.querySelectorAll('details').forEach((item) => (item.open = true)); document.querySelector('.card').click()"
    )
    count, weak = opened.run(CONTRAST)
    assert count > 200
    assert weak == []


def test_all_is_reached_by_the_keyboard_and_the_focus_is_seen(opened):
    opened.press("Tab")
    assert opened.run("return document.activeElement.className") == "skip"
    opened.press("Enter")
    assert opened.run("return location.hash") == "#results"
    reached = set()
    for _ in range(400):
        opened.press("Tab")
        tag, width = opened.run(
            "const item = document.activeElement; const isSort = item.matches('thead button');"
            "return [isSort ? 'sort' : item.dataset.control ?? item.className, getComputedStyle(item).outlineWidth];"
        )
        if opened.run("return document.activeElement === document.body"):
            break
        assert width == "2px", tag
        reached.add(tag)
    assert {"sort", "card", "class", "outcome", "order", "mix", "outline", "scroll"} <= reached


def test_a_plot_takes_the_colours_of_the_screen(opened, tmp_path):
    seen = []
    for scheme in ("light", "dark"):
        opened.look(1280, scheme=scheme)
        opened.open(opened.address)
        box = opened.run(
            "const plot = document.querySelector('section img.plot'); plot.scrollIntoView();"
            "const box = plot.getBoundingClientRect(); return [box.x, box.y, box.right, box.bottom];"
        )
        opened.screenshot(tmp_path / "page.png")
        with Image.open(tmp_path / "page.png") as picture:
            colours = picture.convert("RGB").crop([round(edge) for edge in box]).getcolors(1 << 20)
        seen.append({"#{:02x}{:02x}{:02x}".format(*colour) for _, colour in colours})
    light, dark = seen
    assert LIGHT.normal in light and DARK.normal not in light and "#ffffff" in light
    assert DARK.normal in dark and LIGHT.normal not in dark and "#ffffff" not in dark


def test_without_scripts_and_in_print_there_is_a_list(opened, result):
    names = "['.listed', '.cards', '.controls', '.more', '.status']"
    visible = f"return {names}.map((name) => document.querySelector(name).checkVisibility())"
    assert opened.run(visible) == [False, True, True, False, True]
    opened.call("Emulation.setEmulatedMedia", media="print")
    assert opened.run(visible) == [True, False, False, False, False]
    opened.call("Emulation.setEmulatedMedia", media="")
    opened.look(1280, scripts=False)
    opened.open(opened.address)
    opened.look(1280)  # only from here on do the test's own scripts run
    assert opened.run(visible) == [True, False, False, False, False]
    assert opened.run("return document.querySelectorAll('.listed figure').length") == 2 * 3
    assert opened.run("return document.querySelectorAll('thead button').length") == 0


OUTSIDE_ADDRESS = "http://127.0.0.1:9/"


def test_the_policy_stops_requests_to_the_outside(opened):
    opened.run(
        f"const image = new Image(); image.src = '{OUTSIDE_ADDRESS}'; document.body.append(image);"
        "await new Promise((done) => (image.onerror = done));"
    )
    assert any("Content Security Policy" in message for message in opened.messages)
    opened.messages.clear()
    opened.requests.remove(OUTSIDE_ADDRESS)  # asked for, and not sent
