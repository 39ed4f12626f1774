"""The report: tables by hand-made numbers, the selection rule, byte-identical figures and a page that stands alone."""

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest
from conftest import save_image, save_mask

from invad.config import BenchmarkConfig, FeaturesConfig, FolderSplitConfig, InvADConfig, ScoreConfig
from invad.datasets.source import Source, write_source
from invad.datasets.split_table import FILE_NAME, SplitRow, write_split_table
from invad.errors import InputError
from invad.files import write_json, write_text
from invad.metrics import evaluate
from invad.metrics.calibration import MEAN_KEYS, OPERATING_KEYS
from invad.reporting.collect import collect_result
from invad.reporting.figures import histogram_overlap, loss_curves, score_figure, score_histogram
from invad.reporting.heatmaps import Sample, heatmap_sheet, panels, sample_kind, scale_map
from invad.reporting.labels import FOLDS, METRICS, OWN
from invad.reporting.operating_point import (
    COLUMNS,
    image_thresholds,
    operating_csv,
    operating_latex,
    operating_markdown,
    operating_table,
)
from invad.reporting.report import BenchmarkResult, merged_notes, write_report
from invad.reporting.selection import SELECTION_RULE, select_samples
from invad.reporting.tables import (
    NO_REASON,
    csv_text,
    latex,
    latex_escape,
    main_rows,
    main_tables,
    markdown,
    per_class_tables,
)
from invad.score_store import write_scores
from invad.workspace import Workspace

KEYS = [metric.key for metric in METRICS]


def metrics_of(name, classes, notes=()):
    """A metrics file; classes: class -> one value for every key, under both protocols."""
    per_class = {c: {p: dict.fromkeys(KEYS, value) for p in ("paper", "exact")} for c, value in classes.items()}
    present = [value for value in classes.values() if value is not None]
    mean = sum(present) / len(present) if present else None
    means = {p: dict.fromkeys(KEYS, mean) for p in ("paper", "exact")}
    return {"benchmark": name, "protocol_version": "1", "per_class": per_class, "mean": means, "notes": list(notes)}


def sample_of(class_name="metal_nut", label=1, score=1.5):
    rng = np.random.default_rng(3)
    mask = np.zeros((32, 32), dtype=bool)
    mask[8:16, 8:16] = bool(label)
    image = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
    name = f"{class_name}/test/000.png"
    return Sample(image, mask, mask.astype(np.float32), score, label, class_name, "scratch" if label else "good", name)


def result_of(name="mvtec", source="embedded", notes=()):
    samples = [sample_of(), sample_of(label=0, score=0.25)]
    scores, labels = np.array([1.5, 0.25, 2.0, 0.5]), np.array([1, 0, 1, 0])
    metrics = metrics_of(name, {"metal_nut": 0.5, "wood": None}, notes)
    settings = {"Encoder": "mobilenetv2_100", "Image size": "256 x 256"}
    loss = [(0, 2.0), (1, 1.0), (2, 0.5)]
    return BenchmarkResult(
        name, source, metrics, settings, scores, labels, ["metal_nut"] * 4, samples, {"metal_nut": (0.0, 1.0)}, loss
    )


def test_markdown_prints_percent_with_one_decimal():
    text = markdown(main_tables({"visa": metrics_of("visa", {"candle": 0.98765})}, {"visa": "official"}))
    row = next(line for line in text.splitlines() if line.startswith("| VisA"))
    assert row.count(" 98.8 ") == len(KEYS)


def test_both_protocols_are_named_with_their_version():
    text = markdown(main_tables({"visa": metrics_of("visa", {"candle": 0.5})}, {"visa": "official"}))
    assert "Protocol: paper, version 1" in text
    assert "Protocol: exact, version 1" in text


@pytest.mark.parametrize("missing_fold", [None, 2])
def test_mean_of_folds_only_when_all_four_are_there(missing_fold):
    folds = [name for index, name in enumerate(FOLDS) if index != missing_fold]
    values = dict(zip(FOLDS, (0.1, 0.2, 0.3, 0.8), strict=True))
    rows = main_rows(
        {name: metrics_of(name, {"coco": values[name]}) for name in folds}, dict.fromkeys(folds, "path"), "paper"
    )
    means = [row for row in rows if row.label == "COCO-AD (mean of 4 folds)"]
    assert len(rows) == (5 if missing_fold is None else 3)
    assert [row.cells["mad"].value for row in means] == ([pytest.approx(0.35)] if missing_fold is None else [])


def test_mean_of_folds_is_a_dash_when_one_fold_lacks_the_value():
    metrics = {name: metrics_of(name, {"coco": 0.5}) for name in FOLDS}
    metrics["coco_ad_1"] = metrics_of("coco_ad_1", {"coco": None})
    mean = main_rows(metrics, dict.fromkeys(FOLDS, "path"), "exact")[-1]
    assert mean.cells["mad"].value is None
    assert mean.cells["mad"].notes == ("The mean needs all four folds; not available: COCO-AD fold 1.",)


def test_mean_of_mixed_sources_marks_each():
    metrics = {name: metrics_of(name, {"coco": 0.5}) for name in FOLDS}
    table = main_tables(metrics, {**dict.fromkeys(FOLDS, "embedded"), "coco_ad_0": "path"})[0]
    assert table.rows[-1].source == "embedded+path"
    assert "| generated + own copy |" in markdown([table])


def test_rows_keep_the_order_of_the_report_whatever_the_input_order():
    metrics = {name: metrics_of(name, {"a": 0.5}) for name in ("visa", "mine", "mvtec", "coco_ad_0")}
    rows = main_rows(metrics, dict.fromkeys(metrics, "path"), "paper")
    assert [row.benchmark for row in rows] == ["coco_ad_0", "mvtec", "visa", "mine"]


def test_missing_value_is_a_dash_with_the_note_that_names_it():
    note = "class 'wood', protocol paper: image_auroc, mad: not available: no normal images"
    other = "class 'wood', protocol exact: image_auroc: not available: another reason"
    metrics = metrics_of("mvtec", {"metal_nut": 0.5, "wood": 0.5}, [other, note])
    metrics["per_class"]["wood"]["paper"]["image_auroc"] = None
    table = per_class_tables(metrics, "path")[0]
    assert table.rows[1].cells["image_auroc"].notes == ("not available: no normal images.",)
    assert re.search(r"\| wood +\| own copy \| +–<sup>1</sup> \|", markdown([table]))  # noqa: RUF001
    assert "1. not available: no normal images.\n" in markdown([table])


def test_a_reason_that_names_another_value_does_not_explain_that_one():
    notes = [
        "class 'wood', protocol paper: pixel_auroc: not available: no normal pixel",
        "class 'wood', protocol paper: mad_pixel: not available: needs pixel_auroc",
    ]
    metrics = metrics_of("mvtec", {"metal_nut": 0.5, "wood": 0.5}, notes)
    for key in ("pixel_auroc", "mad_pixel"):
        metrics["per_class"]["wood"]["paper"][key] = None
    cells = per_class_tables(metrics, "path")[0].rows[1].cells
    assert cells["pixel_auroc"].notes == ("not available: no normal pixel.",)
    assert cells["mad_pixel"].notes == ("not available: needs pixel_auroc.",)


def metrics_without_masks(name):
    """Evaluated: class "bare" has no masks, "part" one of two, "whole" all; 4 images each, two of them normal."""
    masks = np.zeros((12, 8, 8), dtype=bool)
    masks[[4, 8, 9], 2:4, 2:4] = True
    maps = np.random.default_rng(0).random((12, 8, 8)) + masks
    classes, has_mask = np.repeat(["bare", "part", "whole"], 4), np.ones(12, dtype=bool)
    has_mask[[0, 1, 5]] = False
    return {"benchmark": name, **evaluate(maps, masks, classes, [1, 1, 0, 0] * 3, has_mask=has_mask)}


@pytest.mark.parametrize("protocol", [0, 1])
def test_cells_without_masks_are_dashes_with_the_reason_and_parts_say_so(protocol):
    metrics = metrics_without_masks("shop")
    bare, part, whole, mean = per_class_tables(metrics, OWN)[protocol].rows
    main = main_tables({"shop": metrics}, {"shop": OWN})[protocol].rows[0]
    for key in KEYS:
        if key.startswith("image_") or key == "mad_image":
            assert all(row.cells[key].value is not None for row in (bare, part, whole, mean, main))
            assert all(row.cells[key].notes == () for row in (bare, part, whole, mean, main))
            continue
        assert (bare.cells[key].value, bare.cells[key].notes) == (
            None,
            ("not available: no anomalous image has a mask.",),
        )
        assert part.cells[key].notes == (
            "class 'part': 1 of 2 anomalous images have no mask and are left out of the pixel and region metrics",
        )
        assert whole.cells[key].notes == ()
        assert mean.cells[key].value == (part.cells[key].value + whole.cells[key].value) / 2
        assert mean.cells[key].notes == ("mean of 2 of 3 classes, without bare.",)
        assert main.cells[key].notes == ("shop: mean of 2 of 3 classes, without bare.",)


def test_a_benchmark_without_masks_has_one_footnote():
    maps = np.random.default_rng(0).random((8, 4, 4))
    metrics = {"benchmark": "shop", **evaluate(maps, None, ["a", "b"] * 4, [0, 0, 1, 1] * 2)}
    assert main_tables({"shop": metrics}, {"shop": OWN})[0].footnotes == (
        "shop: not available: no anomalous image has a mask.",
    )
    assert per_class_tables(metrics, OWN)[0].footnotes == ("not available: no anomalous image has a mask.",)


def test_own_data_never_take_the_name_of_a_published_benchmark():
    names = [*FOLDS, "mvtec", "shop"]
    tables = main_tables({name: metrics_of(name, {"a": 0.5}) for name in names}, dict.fromkeys(names, OWN))
    assert [row.label for row in tables[0].rows] == names
    text = markdown(tables) + markdown(per_class_tables(metrics_of("mvtec", {"a": 0.5}), OWN))
    assert not re.search("MVTec AD|COCO-AD|VisA|own copy", text)
    assert 'Rows marked "own" come from the user\'s own data' in text


def test_notes_of_both_protocols_in_the_same_words_are_said_once():
    notes = [
        "class 'a': x",
        "class 'a', protocol paper: b: y",
        "class 'a', protocol exact: b: y",
        "mean, protocol exact: z",
    ]
    assert merged_notes(notes) == ["class 'a': x", "class 'a', both protocols: b: y", "mean, protocol exact: z"]


def test_missing_value_without_a_note_says_so():
    notes = ["class 'wood', protocol paper: mad: not available: a reason of something else"]
    table = per_class_tables(metrics_of("mvtec", {"metal_nut": None}, notes), "path")[0]
    assert table.rows[0].cells["mad"].notes == (NO_REASON,)


def test_mean_over_fewer_classes_has_a_footnote():
    rows = main_rows({"mvtec": metrics_of("mvtec", {"metal_nut": 0.5, "wood": None})}, {"mvtec": "path"}, "paper")
    assert rows[0].cells["mad"].value == 0.5
    assert rows[0].cells["mad"].notes == ("MVTec AD: mean of 1 of 2 classes, without wood.",)


def test_csv_reads_back_as_the_same_floats():
    values = {"a": 1 / 3, "b": 0.1 + 0.2, "c": None}
    tables = per_class_tables(metrics_of("mvtec", values), "embedded")
    rows = list(csv.DictReader(io.StringIO(csv_text(tables))))
    assert [row["protocol"] for row in rows] == ["paper"] * 4 + ["exact"] * 4
    assert [row["mad"] for row in rows if row["class"] == "c"] == ["", ""]
    for name in ("a", "b"):
        assert {float(row[key]) for row in rows if row["class"] == name for key in KEYS} == {values[name]}


def test_main_csv_has_one_row_per_benchmark_and_protocol():
    rows = list(
        csv.DictReader(io.StringIO(csv_text(main_tables({"visa": metrics_of("visa", {"a": 0.25})}, {"visa": "path"}))))
    )
    assert [(row["benchmark"], row["data"], row["protocol"], row["pixel_mf1"]) for row in rows] == [
        ("visa", "path", "paper", "0.25"),
        ("visa", "path", "exact", "0.25"),
    ]


@pytest.mark.parametrize("source", ["embedded", "path", "official"])
def test_only_embedded_data_is_marked_as_not_comparable(source):
    text = markdown(main_tables({"visa": metrics_of("visa", {"a": 0.5})}, {"visa": source}))
    assert ("generated data" in text and "not comparable with published numbers" in text) == (source == "embedded")


def test_latex_uses_booktabs_and_escapes():
    metrics = metrics_of("mvtec", {"metal_nut": 0.5, "wood": None}, ["class 'wood': mad: 100% of metal_nut & co"])
    text = latex(per_class_tables(metrics, "embedded"))
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 2
    assert r"metal\_nut & generated & 50.0 &" in text
    assert r"100\% of metal\_nut \& co" in text
    assert text.isascii()
    assert latex_escape('a "b" {c}~') == r"a ``b'' \{c\}\textasciitilde{}"
    body = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in body} == {len(KEYS) + 1}


def point_of(classes, images=4, notes=()):
    """An operating point; classes: class -> one value for every key, None where there is none."""
    per_class = {name: dict.fromkeys(OPERATING_KEYS, value) for name, value in classes.items()}
    present = [value for value in classes.values() if value is not None]
    mean = dict.fromkeys(MEAN_KEYS, sum(present) / len(present) if present else None)
    held_out = dict.fromkeys(classes, images)
    rest = {"per_class": per_class, "mean": mean, "notes": list(notes)}
    return {"false_positive_rate": 0.01, "held_out_images": held_out, **rest}


def calibrated(name, classes, **point):
    return {**metrics_of(name, classes), "operating_point": point_of(classes, **point)}


def test_operating_points_have_a_row_of_each_mean_and_class_and_own_names():
    metrics = {"visa": calibrated("visa", {"candle": 0.25}), "mvtec": calibrated("mvtec", {"wood": 0.5, "tile": 0.75})}
    table = operating_table(metrics, dict.fromkeys(metrics, "path"))
    assert [row.label for row in table.rows] == ["MVTec AD", "wood", "tile", "VisA", "candle"]
    mean, wood, *_ = table.rows
    assert (mean.cells["calibrated_pixel_iou"].value, mean.cells["held_out_images"].value) == (0.625, 8)
    assert mean.cells["calibrated_image_threshold"].value is None
    assert wood.cells["calibrated_image_threshold"].value == 0.5
    columns = {column.key for column in COLUMNS}
    assert columns == {"false_positive_rate", "held_out_images", *OPERATING_KEYS}
    assert not columns & set(KEYS)
    assert "held out, at the false-positive rate asked for; positive is strictly above it" in table.caption
    assert "not the best-possible F1max and IoUmax" in table.caption


def test_operating_points_as_markdown_csv_and_latex():
    table = operating_table({"mvtec": calibrated("mvtec", {"metal_nut": 1 / 3})}, {"mvtec": "embedded"})
    text = operating_markdown(table)
    assert re.search(r"\| metal_nut +\| generated \| +1 \| +4 \| +0\.3333 \| +33\.3 \|", text)
    assert "Calibrated image threshold | Calibrated image FPR |" in text
    rows = list(csv.DictReader(io.StringIO(operating_csv(table))))
    assert [(row["class"], row["calibrated_image_threshold"]) for row in rows] == [
        ("mean", ""),
        ("metal_nut", repr(1 / 3)),
    ]
    assert {float(row["calibrated_pixel_f1"]) for row in rows} == {1 / 3}
    latex_source = operating_latex(table)
    assert latex_source.isascii()
    body = [line for line in latex_source.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in body} == {len(COLUMNS) + 1}


def test_what_an_operating_point_lacks_is_a_dash_with_the_reason():
    notes = [
        "class 'wood': too few held-out normal images (4) to resolve",
        "class 'tile', class 'zip': calibrated_image_precision: not available: no image is above the threshold",
    ]
    metrics = calibrated("mvtec", {"wood": 0.5, "tile": 0.5, "zip": 0.5}, notes=notes)
    for name in ("tile", "zip"):
        metrics["operating_point"]["per_class"][name]["calibrated_image_precision"] = None
    mean, wood, tile, _ = operating_table({"mvtec": metrics}, {"mvtec": "path"}).rows
    assert wood.cells["calibrated_image_threshold"].notes == (f"MVTec AD: {notes[0]}.",)
    assert wood.cells["calibrated_image_fpr"].notes == tile.cells["calibrated_image_threshold"].notes == ()
    reason = ("MVTec AD: not available: no image is above the threshold.",)
    assert tile.cells["calibrated_image_precision"].notes == reason
    assert mean.cells["calibrated_image_precision"].notes == ("MVTec AD: mean of 1 of 3 classes, without tile, zip.",)


def test_a_benchmark_without_an_operating_point_is_one_row_of_dashes_with_the_reason():
    note = "splits: no normal image is held out; set calibration.mvtec.share above 0"
    for metrics, reason in (
        (calibrated("mvtec", {"wood": None}, images=0, notes=[note, "other"]), note),
        (metrics_of("mvtec", {"wood": 0.5}), "not evaluated; run `dvc repro evaluate`"),
    ):
        table = operating_table({"mvtec": metrics}, {"mvtec": "path"})
        assert {cell.value for row in table.rows for cell in row.cells.values()} == {None}
        assert table.footnotes == (f"MVTec AD: {reason}.",)
        assert len(table.rows) == 1
        assert operating_markdown(table).count("–<sup>1</sup>") == len(COLUMNS)  # noqa: RUF001


def test_the_calibrated_threshold_is_drawn_where_there_is_one():
    figures = [
        score_figure([0.1, 0.9] * 2, [0, 1] * 2, "title", ["a", "a", "b", "b"], thresholds=thresholds)
        for thresholds in (None, {"b": 0.5})
    ]
    dashed = [[line.get_xdata()[0] for axis in figure.axes for line in axis.get_lines()] for figure in figures]
    assert dashed == [[], [0.5]]
    words = [[text.get_text() for text in figure.legends[0].get_texts()] for figure in figures]
    assert words == [["normal", "anomalous"], ["normal", "anomalous", "calibrated threshold"]]
    assert image_thresholds(calibrated("mvtec", {"a": 0.25, "b": None})) == {"a": 0.25}


def test_the_page_shows_operating_points_in_a_section_of_their_own(tmp_path):
    result = replace(result_of(), metrics=calibrated("mvtec", {"metal_nut": 0.375}))
    write_report([result], tmp_path)
    page = (tmp_path / "index.html").read_text()
    section = page.partition('<h2 id="operating-point">')[2].partition("<h2")[0]
    assert section.count(">37.5<") == 2 * len(MEAN_KEYS)
    assert ">0.375<" in section
    assert "calibrated_pixel_iou" not in page.partition('<h2 id="operating-point">')[0]


def test_selection_takes_highest_median_lowest_and_the_likely_false_alarm():
    classes = ["b"] * 7 + ["a"] * 2
    labels = [1, 1, 1, 1, 1, 0, 0, 1, 0]
    scores = [0.1, 0.9, 0.5, 0.3, 0.7, 0.2, 0.4, 0.6, 0.8]
    chosen = select_samples(classes, labels, scores, [""] * 9)
    assert chosen == [7, 8, 1, 2, 0, 6]


def test_selection_breaks_ties_by_defect_type_then_position():
    assert select_samples(["a"] * 4, [1] * 4, [1.0] * 4, ["scratch", "crack", "scratch", "crack"], per_class=2) == [
        1,
        2,
    ]


def test_selection_copes_with_few_images():
    assert select_samples(["a", "a", "b"], [1, 1, 0], [0.2, 0.4, 0.9], ["x", "x", "good"]) == [1, 0, 2]
    assert select_samples(["a"] * 3, [1] * 3, [0.2, 0.4, 0.3], ["x"] * 3, per_class=1) == [1]
    with pytest.raises(ValueError, match="at least 1"):
        select_samples([], [], [], [], per_class=0)


def test_maps_are_scaled_by_the_class_range_and_clipped():
    maps = np.array([[0.0, 1.0], [2.0, 4.0]], dtype=np.float32)
    assert scale_map(maps, (1.0, 3.0)).tolist() == [[0.0, 0.0], [0.5, 1.0]]
    assert scale_map(maps, (1.0, 1.0)).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_panels_show_the_outline_only_where_there_is_a_mask():
    yellow = [
        np.any(np.all(np.asarray(panels(sample_of(label=label), (0, 1), 64)[1]) == (255, 214, 10), axis=2))
        for label in (0, 1)
    ]
    assert yellow == [False, True]


def test_an_empty_ground_truth_panel_says_why():
    empty = sample_of(label=0)
    lost, unknown = replace(empty, label=1), replace(empty, label=1, has_mask=False)
    texts = [np.asarray(panels(sample, (0, 1), 160)[1]) for sample in (empty, lost, unknown)]
    assert all(np.any(np.all(text == 255, axis=2)) for text in texts)  # white letters on the darkened image
    assert not any(np.array_equal(texts[i], texts[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_a_defect_type_that_says_nothing_is_not_printed():
    kinds = [sample_kind(replace(sample_of(), defect_type=name)) for name in ("", "anomaly", "scratch")]
    assert kinds == ["anomalous", "anomalous", "anomalous: scratch"]
    assert sample_kind(sample_of(label=0)) == "normal"


def test_class_names_are_not_read_as_formulas(tmp_path):
    score_histogram([0.1, 0.9], [0, 1], tmp_path / "scores.svg", "title", ["a$\\frac$"] * 2)
    assert (tmp_path / "scores.svg").stat().st_size > 1000


def test_overlap_by_hand():
    edges = [0, 1, 2, 3]
    assert histogram_overlap([0.5, 0.5, 1.5, 1.5], [1.5, 2.5, 2.5, 2.5], edges) == pytest.approx(0.25)
    assert histogram_overlap([0.5], [2.5], edges) == 0
    assert histogram_overlap([], [2.5], edges) is None


@pytest.mark.parametrize("labels", [[0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
def test_score_histogram_copes_with_equal_scores_and_one_kind(tmp_path, labels):
    score_histogram([1.0] * 4, labels, tmp_path / "scores.svg", "title")
    assert (tmp_path / "scores.svg").stat().st_size > 1000


def test_all_panels_of_a_score_figure_fit_their_bars():
    figure = score_figure([0.1, 0.2, 0.9, 0.1, 0.9], [0, 0, 1, 0, 1], "title", ["a", "a", "a", "b", "b"])
    assert [axis.get_ylim()[0] for axis in figure.axes[:2]] == [0, 0]
    assert all(axis.get_ylim()[1] >= 100 for axis in figure.axes[:2])


def test_figures_are_the_same_bytes_twice_and_carry_no_date(tmp_path):
    for turn in ("one", "two"):
        folder = tmp_path / turn
        heatmap_sheet([sample_of()], folder / "sheet.png", {"metal_nut": (0.0, 1.0)}, "title")
        for suffix in ("png", "svg"):
            score_histogram([0.1, 0.9, 0.4], [0, 1, 1], folder / f"scores.{suffix}", "title", ["a", "b", "b"])
            loss_curves({"MVTec AD": [(0, 2.0), (1, 1.0)], "empty": []}, folder / f"loss.{suffix}")
    files = sorted((tmp_path / "one").iterdir())
    assert [file.name for file in files] == ["loss.png", "loss.svg", "scores.png", "scores.svg", "sheet.png"]
    for file in files:
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
        assert b"dc:date" not in file.read_bytes()
        assert b"Matplotlib v" not in file.read_bytes()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    write_report([result_of(notes=["one <odd> note"])], folder)
    return folder


class PageParser(HTMLParser):
    """Collects the start tags of a page and checks that they are closed in order."""

    VOID = ("meta", "link", "img", "source", "br", "wbr")

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


def test_report_writes_every_file(report):
    names = sorted(str(path.relative_to(report)) for path in report.rglob("*") if path.is_file())
    assert names == [
        "figures/heatmaps_mvtec.png",
        "figures/loss.png",
        "figures/loss.svg",
        "figures/scores_mvtec.png",
        "figures/scores_mvtec.svg",
        "index.html",
        "tables/main.csv",
        "tables/main.md",
        "tables/main.tex",
        "tables/operating_point.csv",
        "tables/operating_point.md",
        "tables/operating_point.tex",
        "tables/per_class_mvtec.csv",
        "tables/per_class_mvtec.md",
    ]


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_report_is_the_same_bytes_twice(report, tmp_path):
    write_report([result_of(notes=["one <odd> note"])], tmp_path)
    assert files_of(tmp_path) == files_of(report)


def test_report_does_not_depend_on_the_order_of_results(tmp_path):
    empty = np.array([])
    results = [
        BenchmarkResult(name, "path", metrics_of(name, {"a": 0.5}), {}, empty, empty, []) for name in ("visa", "mvtec")
    ]
    write_report(results, tmp_path / "one")
    write_report(results[::-1], tmp_path / "two")
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_page_loads_nothing_from_outside(report):
    page = (report / "index.html").read_text()
    resources = [
        value for _, attrs in parse(page) for name, value in attrs.items() if name in ("src", "srcset", "href")
    ]
    assert resources
    assert all(value.startswith(("data:", "#")) for value in resources)
    assert "url(" not in page
    assert "@import" not in page
    assert "<script" not in page


def test_page_is_accessible(report):
    tags = parse((report / "index.html").read_text())
    images = [attrs for tag, attrs in tags if tag == "img"]
    assert len(images) == 2 * 4 + 2  # two samples of four panels, one histogram, one loss plot
    assert all(len(attrs["alt"]) > 10 for attrs in images)
    assert all("scope" in attrs for tag, attrs in tags if tag == "th")
    anchors = {attrs["href"][1:] for tag, attrs in tags if tag == "a"}
    assert anchors <= {attrs["id"] for _, attrs in tags if "id" in attrs}


def test_page_shows_settings_rule_notes_and_missing_values(report):
    page = (report / "index.html").read_text()
    for text in (
        SELECTION_RULE,
        "mobilenetv2_100",
        "Metrics protocol version: 1.",
        "one &lt;odd&gt; note",
        "wood, protocol paper: image_auroc",
        NO_REASON,
        "mean of 1 of 2 classes, without wood",
        "dvc repro",
        "not comparable with published",
    ):
        assert text in page
    assert '<td class="start">–<sup>' in page  # noqa: RUF001


def test_report_without_samples_or_loss_is_still_a_report(tmp_path):
    empty = np.array([])
    write_report([BenchmarkResult("visa", "path", metrics_of("visa", {"a": 0.5}), {}, empty, empty, [])], tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert not [tag for tag, _ in parse(page) if tag == "img"]
    assert "No value is missing" in page


def test_page_of_any_benchmark_name_without_masks_and_of_normal_images_only(tmp_path):
    bare = replace(sample_of("bare", score=0.5), mask=np.zeros((32, 32), dtype=bool), has_mask=False)
    normal = np.random.default_rng(0).random((2, 4, 4))
    results = [
        BenchmarkResult(
            "results", OWN, metrics_without_masks("results"), {}, np.array([0.5]), np.array([1]), ["bare"], [bare],
            {"bare": (0.0, 1.0)},
        ),
        BenchmarkResult(
            "notes", OWN, {"benchmark": "notes", **evaluate(normal, None, labels=[0, 0])}, {}, np.array([0.2, 0.5]),
            np.array([0, 0]), ["all"] * 2, [sample_of("all", label=0)], {"all": (0.0, 1.0)},
        ),
    ]  # fmt: skip
    write_report(results, tmp_path)
    page = (tmp_path / "index.html").read_text()
    ids = [attrs["id"] for _, attrs in parse(page) if "id" in attrs]
    assert len(set(ids)) == len(ids)
    assert "Ground truth: bare, anomalous: scratch, no mask, bare/test/000.png" in page
    assert "own data" in page
    assert not re.search("MVTec AD|VisA|own copy|published numbers only", page)
    assert "not available: no anomalous image." in page


def test_own_data_are_collected_with_what_is_known_of_their_masks(tmp_path):
    workspace = Workspace(tmp_path)
    images = tmp_path / "photos"
    rows = []
    for n, (phase, label, mask) in enumerate(
        [("train", 0, None), ("test", 0, None), ("test", 1, "mask.png"), ("test", 1, None)]
    ):
        save_image(images / f"{n}.png")
        rows.append(SplitRow(f"{n}.png", "bolt", phase, label, "", mask, 8, 8, "mine"))
    save_mask(images / "mask.png")
    write_source(workspace.raw("mine"), Source("mine", "path", images, "0" * 64))
    write_split_table(rows, workspace.split("mvtec") / FILE_NAME, {})
    test = rows[1:]
    table = pa.table(
        {
            "image": [row.image for row in test],
            "class": ["bolt"] * 3,
            "label": pa.array([row.label for row in test], pa.int8()),
            "defect_type": [""] * 3,
            "has_mask": [True, True, False],
        }
    )
    maps = np.arange(3 * 32 * 32, dtype=np.float32).reshape(3, 32, 32)
    write_scores(table, [(maps, np.zeros(maps.shape, dtype=bool))], workspace.scores("mvtec"))
    write_json(workspace.metrics("mvtec"), metrics_of("mvtec", {"bolt": 0.5}))
    write_text(workspace.loss("mvtec"), "step,epoch,loss,learning_rate\n1,1,2.0,0.004\n")
    features = FeaturesConfig("mobilenetv2_100", image_size=32)
    benchmark = BenchmarkConfig("mvtec", "mine", FolderSplitConfig(), features, InvADConfig(), ScoreConfig())
    result = collect_result(benchmark, workspace)
    assert (result.source, result.title, result.marked_title) == (OWN, "mvtec", "mvtec (own data)")
    assert [(sample.image_name, sample.has_mask) for sample in result.samples] == [
        ("3.png", False),
        ("2.png", True),
        ("1.png", True),
    ]
    assert result.settings["Test images"] == "1 normal, 2 anomalous (1 with a mask)"


@pytest.mark.parametrize(("results", "message"), [([], "no benchmark"), ([result_of(), result_of()], "twice")])
def test_wrong_results_are_named(tmp_path, results, message):
    with pytest.raises(InputError, match=message):
        write_report(results, tmp_path)
