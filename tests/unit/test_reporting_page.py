"""The page: what it says, that it stands alone, and how it behaves in a real browser."""

import base64
import io
import re
from collections import Counter
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from devtools import browser
from PIL import Image
from reporting_toys import IMAGES, toy_intervals, toy_learning, toy_result
from reporting_toys import SIDE as TOY_SIDE

from invad.config import PatchCoreConfig
from invad.report.labels import METRICS, Metric
from invad.report.learning import RULE, authors_words, learning_tables
from invad.report.page import (
    DECISIONS,
    LEARNING_ALT,
    NO_EVIDENCE,
    OPEN_SAMPLES,
    PLOTS,
    build_gallery,
    render_page,
    runs_table,
)
from invad.report.plots import learning_figure, save_plot, score_figure
from invad.report.results import GALLERY_RULE, outcomes
from invad.report.spread import spread_tables
from invad.report.tables import Cell, Row, Table

COLUMNS = (
    Metric("high", "Image", "High", "More is better."),
    Metric("low", "Cost", "Low", "Less is better.", form="count", best="lowest"),
    Metric("odd", "Cost", "Odd", "Anything.", best=None),
)


def row(name, high, low=1.0, kind="plain", block="", notes=(), rank=0, std=None):
    cells = {"high": Cell(high, notes, std, rank), "low": Cell(low)}
    return Row({"Name": name, "Data": f"data {name}"}, cells, kind=kind, block=block)


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
WIDE = Table(
    "Wide", "All metrics.", ("Class",), METRICS, (Row({"Class": "wood"}, {m.key: Cell(0.5) for m in METRICS}),)
)
RUN = {
    "commit": "0123abc",
    "python_version": "3.12",
    "clean": True,
    "gpu": None,
    "hardware": {"cores": 2, "names": ["one <cpu>", "another"]},
    "stages": [{"stage": "train", "seconds": 1.5}, {"stage": "evaluate", "device": "cpu"}],
}


TABLES = {
    "main": [BLOCKS, SINGLES],
    "spread": spread_tables([toy_intervals(toy_result(seeds=(42, 43)))]),
    "published": [WIDE],
    "per_class_mvtec": [WIDE],
    "operating_point": [replace(SINGLES, title="Operating")],
    "ablation_style": [replace(SINGLES, title="Ablation")],
}
NOWHERE = Path("nowhere")  # a folder without figures


def rendered(*results, tables=None, figures=NOWHERE, run_info=None, left_out=()):
    return render_page(results, tables or {}, figures, run_info or {}, left_out)


def rich_page(result, figures, run_info=RUN):
    result = toy_learning(result)
    tables = TABLES | {"learning": learning_tables([result])}
    bare = replace(result, learning=(), key="second key", source="path", tests=None, label="RD")
    left_out = ("visa: metrics/visa.json: no such file",)
    return rendered(result, bare, tables=tables, figures=figures, run_info=run_info, left_out=left_out)


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
def figures(result, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    save_plot(score_figure(result), folder, f"scores_{result.key}")
    save_plot(learning_figure(toy_learning(result)), folder, f"learning_{result.key}")
    return folder


@pytest.fixture(scope="module")
def page(result, figures):
    return rich_page(result, figures)


def test_the_page_loads_nothing_from_outside(page):
    tags = parse(page)
    resources = [value for _, attrs in tags for name, value in attrs.items() if name in ("src", "srcset", "href")]
    assert len(resources) > 20
    assert all(value.startswith(("data:", "#")) for value in resources)
    assert "url(" not in page and "@import" not in page and "http:" not in page.replace("http://www.w3.org", "")
    (policy,) = [attrs["content"] for _, attrs in tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'")


def test_the_page_is_the_same_twice(result, figures, page):
    assert rich_page(result, figures) == page


def test_ids_are_unique_and_links_lead_somewhere(page):
    tags = parse(page)
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    anchors = {attrs["href"][1:] for tag, attrs in tags if tag == "a"}
    sections = [
        "comparison",
        "spread",
        "ablations",
        "published",
        "classes",
        "operating-point",
        "learning",
        "curves",
        "gallery",
        "run",
        "notes",
    ]
    assert {*sections, "results", "result-mvtec"} <= anchors <= set(ids)
    assert "result-second_key" in ids
    assert [value for value in ids if value in sections] == sections


def test_pictures_have_words_and_headings_their_order(page):
    tags = parse(page)
    layers = ("outline", "map")  # what they show is said beside them
    images = [attrs for tag, attrs in tags if tag == "img" and attrs.get("class") not in layers]
    assert len(images) > 10
    assert all(len(attrs["alt"]) > 10 for attrs in images)
    assert all("scope" in attrs for tag, attrs in tags if tag == "th")
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert ("html", {"lang": "en"}) in tags


def test_run_info_stands_in_one_element_alone(result, figures, page):
    (cut,) = re.findall(r'(?s)<aside id="run-info".*?</aside>', page)
    text = " ".join(re.sub(r"<[^>]*>", " ", cut).split())
    assert text == (
        "commit 0123abc python version 3.12 clean yes gpu – hardware cores 2 names one &lt;cpu&gt;, another "  # noqa: RUF001
        "stages stage train seconds 1.5 stage evaluate device cpu"
    )
    other = rich_page(result, figures, {"commit": "ffff"})
    assert other != page
    assert other.replace(re.search(r'(?s)<aside id="run-info".*?</aside>', other)[0], cut) == page


def test_tables_show_ranks_spread_notes_and_kinds(page):
    table = page.partition("<h3>Blocks &lt;1&gt;</h3>")[2].partition("<details>")[0]
    assert '<td data-value="0.92" class="start"><b>92.0</b></td>' in table
    assert '<td data-value="0.51" class="start"><u>51.0 ±\xa00.3</u></td>' in table
    assert '<td data-value="" class="start">–<sup>1</sup></td>' in table  # noqa: RUF001
    assert "<li>There is &lt;no&gt; value.</li>" in table
    assert [table.count(f'<tr class="{kind}"') for kind in ("difference", "summary", "published")] == [2, 1, 3]
    assert table.count("<tbody>") == 2
    assert '<table class="numbers sortable ruled">' in table
    assert '<p class="caption">A caption &amp; more.</p>' in table
    assert "<li>What the &lt;evaluation&gt; said.</li>" in table


def test_learning_curves_have_their_figure_one_table_and_the_sentence_that_nothing_was_chosen(result, page):
    section = page.partition('<h2 id="learning">Learning curves</h2>')[2].partition("<h2")[0]
    assert RULE in section and authors_words(result) in unescape(section) and "generated data" in authors_words(result)
    images = [attrs for tag, attrs in parse(section) if tag == "img"]
    assert [attrs["alt"] for attrs in images] == [f"{LEARNING_ALT}: MVTec AD, InvAD (mobilenetv2_100)."]
    assert images[0]["src"].startswith("data:image/svg+xml;base64,")
    assert (
        section.count("<table") == 1 and section.count('<th scope="row">') == 3
    )  # of the protocol that the figure has
    assert "Learning curves" not in rendered(result)


def test_the_spread_is_folded_and_its_numbers_do_not_break(page):
    section = page.partition('<h2 id="spread">')[2].partition("<h2")[0]
    assert re.search(r"<details>\s*<summary>Spread over test images and seeds</summary>", section)
    assert re.search(r"\d \[\d+\.\d, \d+\.\d\] ±\xa0\d", section)


def test_long_tables_are_folded_and_do_not_repeat_the_heading_above_them(result):
    quoted = replace(BLOCKS, title="Published numbers, X", rows=tuple(r for r in BLOCKS.rows if r.kind == "published"))
    classes = [replace(WIDE, title=f"Results per class, Y, protocol {name}") for name in ("one", "two")]
    long = replace(SINGLES, title="Long", rows=SINGLES.rows * 6)
    tables = {
        "main": [BLOCKS, SINGLES],
        "published": [quoted, SINGLES],
        "per_class_y": classes,
        "ablation_a": [SINGLES, long],
    }
    page = rendered(result, tables=tables)
    gallery = f"{result.title}, {result.label}"
    folded = ["Singles", "Long", "X", "Y", gallery, "What the columns mean"]
    assert [name.partition("<")[0] for name in re.findall("<summary>(.*?)</summary>", page)] == folded
    assert re.findall("<h3>(.*?)</h3>", page) == ["Blocks &lt;1&gt;", "Singles", "Singles"]


def test_what_was_left_out_and_generated_data_stand_above_the_contents(result, page):
    head = page.partition("<nav")[0]
    assert "visa: metrics/visa.json: no such file" in head
    assert "not comparable with published ones" in head
    plain = rendered(replace(result, source="official"))
    assert "Left out" not in plain and 'class="banner"' not in plain


def test_a_page_of_one_bare_result_is_a_page_that_says_what_is_missing(result):
    page = rendered(replace(result, tests=None))
    assert not [tag for tag, _ in parse(page) if tag in ("img", "dialog")]
    assert NO_EVIDENCE in page and NO_EVIDENCE not in rendered(result)


def test_words_of_the_user_are_never_markup():
    nasty = '</script><script>alert("1")</script>'
    result = toy_result(classes=(nasty,), label=nasty)
    page = rendered(result, run_info={nasty: nasty}, left_out=(nasty,))
    parse(page)
    assert "<script>alert" not in page


# ---- gallery


def test_outcomes_agree_with_the_operating_point(result):
    gallery, tests = build_gallery(result), result.tests
    decided = outcomes(tests, result.thresholds())
    assert gallery["total"] == len(tests) == len(decided) == 2 * IMAGES
    assert gallery["classes"] == ["metal_nut", "wood"]
    for name in gallery["classes"]:
        values = result.metrics["operating_point"]["per_class"][name]
        counts = Counter(kind for kind, of in zip(decided, tests.classes, strict=True) if of == name)
        positives = counts["true positive"] + counts["false negative"]
        negatives = counts["false positive"] + counts["true negative"]
        assert (positives, negatives, counts["undecided"]) == (IMAGES / 2, IMAGES / 2, 0)
        assert values["calibrated_image_recall"] == counts["true positive"] / positives
        assert values["calibrated_image_fpr"] == counts["false positive"] / negatives
    assert {card["outcome"] for card in gallery["cards"]} == set(gallery["outcomes"]) == set(decided)


def test_without_a_threshold_all_is_undecided(result):
    metrics = {**result.metrics, "operating_point": {"per_class": {}}}
    gallery = build_gallery(replace(result, metrics_by_seed={42: metrics}))
    assert {(card["outcome"], card["threshold"]) for card in gallery["cards"]} == {("undecided", None)}


def test_there_is_no_gallery_without_pictures(result):
    assert build_gallery(replace(result, tests=None)) is None
    assert build_gallery(replace(result, tests=replace(result.tests, pictures={}))) is None


def test_some_images_of_many_highest_score_first(result):
    pictures = {index: result.tests.pictures[index] for index in (0, 5, 6, 7, 2)}
    some = replace(result, tests=replace(result.tests, pictures=pictures))
    gallery, scores = build_gallery(some), result.tests.image_scores
    ranked = sorted(pictures, key=lambda index: -scores[index])
    assert [card["name"] for card in gallery["cards"]] == [result.tests.names[index] for index in ranked]
    page = rendered(some)
    assert "5 of 16 test images can be looked at here, chosen by rule." in page and GALLERY_RULE in page


def test_pictures_of_the_gallery_are_what_they_say(result):
    cards = {card["name"]: card for card in build_gallery(result)["cards"]}
    anomalous, normal = cards[result.tests.names[IMAGES - 1]], cards[result.tests.names[0]]
    contents = [base64.b64decode(anomalous[key].partition(",")[2]) for key in ("picture", "heat", "outline")]
    picture, heat, outline = (Image.open(io.BytesIO(content)) for content in contents)
    assert (picture.format, picture.size, heat.size) == ("WEBP", (TOY_SIDE, TOY_SIDE), (16, 16))
    assert (normal["outline"], normal["truth"], normal["kind"]) == ("", "no anomaly", "normal")
    assert (anomalous["truth"], anomalous["kind"]) == ("anomalous region outlined", "anomalous: scratch")
    opacity = np.asarray(outline.convert("RGBA"))[..., 3]
    mask = np.asarray(Image.fromarray(result.tests.pictures[IMAGES - 1].mask).resize(outline.size))
    assert opacity.shape == mask.shape == (2 * TOY_SIDE, 2 * TOY_SIDE)
    assert opacity[mask].mean() < 20 and (opacity > 200).any()
    assert len(contents[-1]) < 2000


def test_every_picture_stands_in_the_page_once(result):
    page = rendered(result)
    assert all(page.count(card["picture"]) == 1 for card in build_gallery(result)["cards"])


# ---- the first screen


def test_the_first_screen_has_one_image_of_each_class_with_its_decision(result, page):
    first = page.partition('<section class="overview"')[2].partition("</section>")[0]
    decided, tests = outcomes(result.tests, result.thresholds()), result.tests
    names = re.findall('data-name="(.*?)"', first)
    assert [name.partition("/")[0] for name in names] == ["metal_nut", "wood"]
    for name, words in zip(names, re.findall(r"<span.*?>(.*?)</span>", first), strict=True):
        index = tests.names.index(name)
        assert tests.labels[index] and words == DECISIONS[decided[index]]
        ranks = sorted(
            tests.image_scores[i]
            for i in range(len(tests))
            if tests.classes[i] == tests.classes[index] and tests.labels[i]
        )
        assert tests.image_scores[index] in ranks[1:3]  # of four, one of the middle ones
    assert page.index("samples") < page.index("<table")


def test_images_beyond_the_first_ones_are_folded_and_benchmarks_take_turns():
    many = toy_result("visa", classes=tuple("abcdefghijkl"))
    few = toy_result("mvtec", classes=("x", "y"))
    first, _, rest = rendered(few, many).partition('<section class="overview"')[2].partition("<details>")
    shown = re.findall(r"<b>(\w+)</b>", first)
    assert shown == ["x", "a", "y", "b", "c", "d", "e", "f", "g"] and len(shown) == OPEN_SAMPLES
    assert re.findall(r"<b>(\w+)</b>", rest.partition("</section>")[0]) == ["h", "i", "j", "k", "l"]


# ---- what it says is true


def test_a_method_without_gradients_has_no_epochs(result):
    patchcore = replace(result, config=replace(result.config, train=PatchCoreConfig()))
    words = [row.words["Training"] for row in runs_table([result, patchcore]).rows]
    assert words == ["15 epochs, batch 8, learning rate 0.016", "batch 16"]


def test_the_page_claims_no_more_than_is_true(page):
    """run_info.json and "What was run" differ from run to run, and AU-ROC may be anything."""
    words = " ".join(page.split())
    assert 'and this page but for "What was run": commit, times and machine stand there' in words
    assert "may be high" in PLOTS["curves"][1]


def test_the_page_is_headed_by_the_methods_that_were_run(result):
    rd = replace(result, key="rd", label="RD")
    assert f"<h1>Anomaly detection: results of {result.label}, RD</h1>" in rendered(result, rd)
    many = [replace(rd, key=name, label=name) for name in "abcd"]
    assert "results of 4 models</h1>" in rendered(*many)
    page = rendered(rd)
    assert "<title>Anomaly detection: results of RD</title>" in page and "InvAD" not in page.partition("<nav")[0]


def test_facts_of_a_run_without_content_are_left_out(result):
    page = rendered(result, run_info={"cpu": "x", "some_key": 1, "all_trained_with": {}})
    assert re.findall("<dt>(.*?)</dt>", page) == ["cpu", "some key"]


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
    "const table = document.querySelector('{}');"
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
        orders.append(opened.run(NAMES.format("table.ruled")))
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
    assert opened.run(NAMES.format("table.ruled"))[:5] == ["a", "a - paper", "b", "b - paper", "c"]
    opened.click(heading("table.ruled", 1))
    assert opened.run(NAMES.format('table.ruled')) == [
        "a", "a - paper", "b", "b - paper", "c", "mean", "p8", "p9", "p10"
    ]  # fmt: skip
    assert opened.run("return document.querySelectorAll('table.ruled [aria-sort]').length") == 1


def test_blocks_of_single_rows_are_sorted_themselves(opened):
    opened.click("#comparison ~ details summary")
    button = heading("table.numbers:not(.ruled)", 3)
    opened.click(button)
    assert opened.run(NAMES.format("table.numbers:not(.ruled)")) == ["y", "z", "x", "folds"]
    opened.click(button)
    assert opened.run(NAMES.format("table.numbers:not(.ruled)")) == ["x", "z", "y", "folds"]
    opened.click(button)
    assert opened.run(NAMES.format("table.numbers:not(.ruled)")) == ["x", "y", "folds", "z"]


@pytest.mark.parametrize("key", ["Enter", " "])
def test_a_table_sorts_by_keys(opened, key):
    opened.run(f"document.querySelector({heading('table.ruled', 3)!r}).focus()")
    opened.press(key)
    assert opened.run(NAMES.format("table.ruled"))[0] == "a"
    assert opened.run("return document.activeElement.textContent") == "High"


CARDS = """
return [...document.querySelectorAll('li:not([hidden]) .card')].map((card) => card.innerText.split('\\n').map((line) => line.trim()));
"""


def choose(tab, control, value):
    """Choose an option of a list by the keyboard: `value` is how many options down."""
    tab.run(f"document.querySelector('[data-control={control}]').focus()")
    tab.press("ArrowDown", value)


def test_the_gallery_filters_and_sorts(opened, result):
    scores = [f"score {score:.4g}" for score in sorted(result.tests.image_scores.tolist(), reverse=True)]
    status = "return document.querySelector('.status').textContent"
    assert [card[0] for card in opened.run(CARDS)] == scores
    assert opened.run(status) == "16 of 16 images"
    choose(opened, "order", 1)
    assert [card[0] for card in opened.run(CARDS)] == scores[::-1]
    choose(opened, "class", 2)
    cards = opened.run(CARDS)
    assert len(cards) == IMAGES and all(card[2].startswith("wood, ") for card in cards)
    choose(opened, "outcome", 1)
    cards = opened.run(CARDS)
    decided = outcomes(result.tests, result.thresholds())
    found = sum(pair == ("true positive", "wood") for pair in zip(decided, result.tests.classes, strict=True))
    assert len(cards) == found and all(card[1] == "✓ true positive" for card in cards)
    assert opened.run(status) == f"{len(cards)} of 16 images"


def test_the_gallery_sorts_by_distance_to_the_threshold(opened, result):
    choose(opened, "order", 2)
    shown = [float(card[0].removeprefix("score ")) for card in opened.run(CARDS)]
    limits = [result.thresholds()[name] for name in result.tests.classes]
    distances = sorted((abs(s - limit), s) for s, limit in zip(result.tests.image_scores.tolist(), limits, strict=True))
    assert shown == pytest.approx([score for _, score in distances], rel=1e-3)


def test_an_image_of_the_first_screen_opens_in_the_viewer(opened):
    name = opened.run("return document.querySelector('.samples a').dataset.name")
    choose(opened, "class", 2)  # in the gallery it is filtered out
    opened.run("document.querySelector('.samples a').focus()")
    opened.press("Enter")
    assert opened.run(
        "return [document.querySelector('#viewer').open, document.querySelector('#viewer h2').textContent]"
    ) == [True, name]
    opened.press("Escape")
    assert opened.run("return document.activeElement === document.querySelector('.samples a')")


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_a_picture_and_a_decision_are_seen_without_scrolling(opened, width, height):
    opened.look(width, height)
    inside = "(item) => item.getBoundingClientRect().bottom <= innerHeight"
    seen = f"return [...document.querySelectorAll('.samples li')].filter({inside}).length"
    assert opened.run(seen) >= 1


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

    opened.click("#viewer [data-action=next]")  # the first one, which has an outline
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
    (tmp_path / "many.html").write_text(rendered(many))
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


def test_all_columns_of_the_results_fit_on_a_desktop(tab, result, tmp_path):
    heads = ("Benchmark", "Method", "Data", "Epochs")
    words = ("COCO-AD (mean of 4 folds)", "InvAD (mobilenetv2_100)", "generated", "100")
    cells = {metric.key: Cell(0.999) for metric in METRICS}
    row = Row(dict(zip(heads, words, strict=True)), cells, kind="summary")
    table = Table("T", "C.", heads, METRICS, (row,))
    (tmp_path / "wide.html").write_text(rendered(result, tables={"main": [table]}))
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


def test_a_plot_has_a_white_ground_on_a_dark_screen(opened):
    opened.look(1280, scheme="dark")
    ground = "return getComputedStyle(document.querySelector('img.plot')).backgroundColor"
    assert opened.run(ground) == "rgb(255, 255, 255)"


def test_without_scripts_and_in_print_there_are_pictures_and_no_controls(opened):
    names = "['.cards', '.controls', '.more', '.status']"
    visible = f"return {names}.map((name) => document.querySelector(name).checkVisibility())"
    assert opened.run(visible) == [True, True, False, True]
    opened.call("Emulation.setEmulatedMedia", media="print")
    assert opened.run(visible) == [True, False, False, False]
    opened.call("Emulation.setEmulatedMedia", media="")
    opened.look(1280, scripts=False)
    opened.open(opened.address)
    opened.look(1280)  # only from here on do the test's own scripts run
    assert opened.run(visible) == [True, False, False, False]
    assert len(opened.run(CARDS)) == 2 * IMAGES
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
