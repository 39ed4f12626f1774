"""The report's tables by hand-made numbers: rows, footnotes, seeds, ranks, and what Markdown, CSV and LaTeX make of them."""

import csv
import io
import re
import shutil
import statistics
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from reporting_toys import toy_config, toy_result

from invad.config import BenchmarkConfig, FeaturesConfig, InvADConfig, PatchCoreConfig, ScoreConfig, TableSplitConfig
from invad.errors import InputError
from invad.metrics import evaluate
from invad.metrics.calibration import MEAN_KEYS, OPERATING_KEYS
from invad.report.benchmarks import OPERATING_COLUMNS as COLUMNS
from invad.report.benchmarks import (
    OWN_THRESHOLDS,
    datasets_table,
    efficiency_table,
    measured_tables,
    operating_table,
    per_class_tables,
)
from invad.report.labels import FOLDS, METRICS, OWN, Metric
from invad.report.published import published_counts
from invad.report.report import make_tables
from invad.report.results import Counts, Result, grouped
from invad.report.tables import (
    CLOSE_RULE,
    DASH,
    MISSING,
    Cell,
    Row,
    Table,
    are_close,
    blocks,
    cell_text,
    difference,
    flat_heading,
    number_text,
    ranked,
)
from invad.report.writers import csv_text, latex, latex_escape, markdown, read_table, table_json

KEYS = [metric.key for metric in METRICS]


def metrics_of(name, classes, notes=()):
    """A metrics file; classes: class -> one value for every key, under both protocols."""
    per_class = {c: {p: dict.fromkeys(KEYS, value) for p in ("paper", "exact")} for c, value in classes.items()}
    present = [value for value in classes.values() if value is not None]
    mean = sum(present) / len(present) if present else None
    means = {p: dict.fromkeys(KEYS, mean) for p in ("paper", "exact")}
    return {"benchmark": name, "protocol_version": "1", "per_class": per_class, "mean": means, "notes": list(notes)}


def own_config(name):
    features = FeaturesConfig("mobilenetv2_100", image_size=32)
    return BenchmarkConfig(name, "mine", TableSplitConfig(), features, InvADConfig(), ScoreConfig())


def result_of(name="mvtec", source="path", metrics=None, label="", profile="quick", **seeds):
    """A result by numbers alone. metrics: a whole file or classes with their value; seeds: `s1={...}` instead of it."""
    given = {int(key[1:]): value for key, value in seeds.items()} or {42: metrics or {"wood": 0.5}}
    files = {seed: value if "per_class" in value else metrics_of(name, value) for seed, value in given.items()}
    config = own_config(name) if source == OWN else toy_config(name, profile)
    config = replace(config, train=replace(config.train, seed=min(files)))
    return Result(config, source, files, label=label, key=f"{name}_{label}")


def texts(item):
    """The notes of a cell or a row."""
    return list(item.notes)


def rows_of(text):
    """The rows of a Markdown text as lists of cells, by their first word."""
    lines = [line.strip("|\n").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines]


def test_markdown_prints_percent_with_one_decimal():
    text = markdown(measured_tables([result_of("visa", metrics={"candle": 0.98765})]))
    row = next(line for line in text.splitlines() if line.startswith("| VisA"))
    assert row.count(" 98.8 ") == len(KEYS)


def test_a_method_without_gradients_has_no_epochs():
    ours = result_of(metrics={"wood": 0.5})
    patchcore = replace(ours, config=replace(ours.config, train=PatchCoreConfig()), label="PatchCore", key="p")
    table = measured_tables([ours, patchcore])[0]
    assert [table.words(row)[1:] for row in table.rows] == [
        ["InvAD (mobilenetv2_100)", "own copy", "15"], ["PatchCore", "own copy", DASH],
    ]  # fmt: skip
    assert [row["epochs"] for row in csv.DictReader(io.StringIO(csv_text([table])))] == ["15", ""]
    folds = [result_of(name) for name in FOLDS]
    lazy = [replace(fold, config=replace(fold.config, train=PatchCoreConfig()), label="A") for fold in folds]
    assert [row.words["Epochs"] for row in measured_tables(lazy)[0].rows] == [DASH] * 5


def test_both_protocols_are_named_with_their_version():
    paper, exact = measured_tables([result_of()])
    assert "Protocol: paper, version 1 (the procedure of the published numbers" in paper.caption
    assert "Protocol: exact, version 1" in exact.caption
    assert (paper.protocol, exact.protocol) == ("paper", "exact")


@pytest.mark.parametrize("missing_fold", [None, 2])
def test_mean_of_folds_only_when_all_four_are_there(missing_fold):
    values = dict(zip(FOLDS, (0.1, 0.2, 0.3, 0.8), strict=True))
    results = [result_of(name, metrics={"coco": values[name]}) for i, name in enumerate(FOLDS) if i != missing_fold]
    rows = measured_tables([*results, result_of("mvtec")])[0].rows
    assert rows[-1].words["Benchmark"] == "MVTec AD"
    means = [row for row in rows if row.words["Benchmark"] == "COCO-AD (mean of 4 folds)"]
    assert [row.kind for row in means] == (["summary"] if missing_fold is None else [])
    assert [row.cells["mad"].value for row in means] == ([pytest.approx(0.35)] if missing_fold is None else [])


def test_each_method_has_its_mean_of_folds():
    results = [
        result_of(name, metrics={"coco": value}, label=label)
        for name in FOLDS
        for label, value in (("one", 0.1), ("two", 0.2))
    ]
    means = [row for row in measured_tables(results)[1].rows if row.kind == "summary"]
    assert [(row.words["Method"], row.cells["mad"].value, row.cells["mad"].rank) for row in means] == [
        ("one", pytest.approx(0.1), 2),
        ("two", pytest.approx(0.2), 1),
    ]


def test_mean_of_folds_is_a_dash_when_one_fold_lacks_the_value():
    results = [result_of(name, metrics={"coco": None if name == "coco_ad_1" else 0.5}) for name in FOLDS]
    mean = measured_tables(results)[1].rows[-1]
    assert mean.cells["mad"].value is None
    assert texts(mean.cells["mad"]) == [MISSING]


def test_mean_of_folds_with_seeds_is_over_the_means_of_each_seed():
    seeds = {name: {"s1": {"coco": 0.1 * n}, "s2": {"coco": 0.2 * n}} for n, name in enumerate(FOLDS, 1)}
    mean = measured_tables([result_of(name, **values) for name, values in seeds.items()])[0].rows[-1]
    assert mean.cells["mad"].value == pytest.approx(0.375)
    assert mean.cells["mad"].std == pytest.approx(statistics.stdev([0.25, 0.5]))
    assert mean.words["Seeds"] == "1, 2"
    other = [
        result_of(name, **({**values, "s3": {"coco": 0.3}} if name == FOLDS[2] else values))
        for name, values in seeds.items()
    ]
    assert [row.kind for row in measured_tables(other)[0].rows] == ["plain"] * 4


@pytest.mark.parametrize("other", [{"source": "embedded"}, {"profile": "paper"}])
def test_folds_of_other_data_or_settings_have_no_mean(other):
    results = [result_of(name, label="A", **(other if name == "coco_ad_0" else {})) for name in FOLDS]
    assert [row.kind for row in measured_tables(results)[0].rows] == ["plain"] * 4


def test_rows_do_not_depend_on_the_order_of_results():
    results = [result_of(name) for name in ("visa", "mvtec", "coco_ad_0")]
    results += [result_of("mine", OWN), result_of("mvtec", label="A"), result_of("mvtec", profile="paper")]
    tables = make_tables(grouped(results))
    assert [tables["main"][0].words(row)[:2] for row in tables["main"][0].rows] == [
        ["COCO-AD fold 0", "InvAD (mobilenetv2_100)"],
        ["MVTec AD", "InvAD"],
        ["MVTec AD", "A"],
        ["MVTec AD", "InvAD (mobilenetv2_100)"],
        ["VisA", "InvAD (mobilenetv2_100)"],
        ["mine", "InvAD (mobilenetv2_100)"],
    ]
    assert make_tables(grouped(results[::-1]))["main"] == tables["main"]


def test_a_missing_value_is_a_dash_and_the_evaluation_says_why_word_for_word():
    notes = ["class 'wood', protocol paper: image_auroc, mad: not available: no normal images", "another | note"]
    metrics = metrics_of("mvtec", {"metal_nut": 0.5, "wood": 0.5}, notes)
    metrics["per_class"]["wood"]["paper"]["image_auroc"] = None
    paper, exact = per_class_tables([result_of(metrics=metrics)])
    assert paper.rows[1].cells["image_auroc"] == Cell(None, (MISSING,))
    assert [row[3] for row in rows_of(markdown([paper])) if row[0] == "wood"] == [f"{DASH}<sup>1</sup>"]
    assert f"1. {MISSING}\n" in markdown([paper])
    assert exact.remarks == tuple(notes)
    assert markdown([exact]).endswith(f"\n- {notes[0]}\n- another \\| note\n")
    assert r"another \textbar{} note\par" in latex([exact])


def test_a_missing_mean_brings_the_notes_of_its_result_alone_to_the_main_table():
    lacking = result_of("visa", metrics=metrics_of("visa", {"candle": None}, ["the reason"]))
    whole = result_of(metrics=metrics_of("mvtec", {"wood": 0.5}, ["of no interest"]))
    table = measured_tables([whole, lacking])[0]
    assert texts(table.rows[1].cells["mad"]) == [MISSING]
    assert table.remarks == ("the reason",)
    assert measured_tables([whole])[0].remarks == ()


def metrics_without_masks(name):
    """Evaluated: class "bare" has no masks, "part" one of two, "whole" all; 4 images each, two of them normal."""
    masks = np.zeros((12, 8, 8), dtype=bool)
    masks[[4, 8, 9], 2:4, 2:4] = True
    maps = np.random.default_rng(0).random((12, 8, 8)) + masks
    classes, has_mask = np.repeat(["bare", "part", "whole"], 4), np.ones(12, dtype=bool)
    has_mask[[0, 1, 5]] = False
    return {"benchmark": name, **evaluate(maps, masks, classes, [1, 1, 0, 0] * 3, has_mask=has_mask)}


@pytest.mark.parametrize("protocol", [0, 1])
def test_cells_without_masks_are_dashes_and_the_remarks_say_why(protocol):
    result = result_of("shop", OWN, metrics_without_masks("shop"))
    tables = per_class_tables([result])
    bare, part, whole, mean = tables[protocol].rows
    main = measured_tables([result])[protocol].rows[0]
    left_out = "class 'part': 1 of 2 anomalous images have no mask and are left out of the pixel and region metrics"
    for key in KEYS:
        if key.startswith("image_") or key == "mad_image":
            assert all(row.cells[key].value is not None for row in (bare, part, whole, mean, main))
            assert all(row.cells[key].notes == () for row in (bare, part, whole, mean, main))
            continue
        assert bare.cells[key] == Cell(None, (MISSING,))
        assert part.cells[key].notes == whole.cells[key].notes == ()
        assert mean.cells[key].value == (part.cells[key].value + whole.cells[key].value) / 2
        assert texts(mean.cells[key]) == ["Mean of 2 of 3 classes, without bare."]
        assert texts(main.cells[key]) == ["Mean of 2 of 3 classes, without bare."]
    assert left_out in tables[1].remarks


def test_a_benchmark_without_masks_has_one_footnote():
    maps = np.random.default_rng(0).random((8, 4, 4))
    result = result_of("shop", OWN, {"benchmark": "shop", **evaluate(maps, None, ["a", "b"] * 4, [0, 0, 1, 1] * 2)})
    assert measured_tables([result])[0].footnotes == (MISSING,)
    assert per_class_tables([result])[0].footnotes == (MISSING,)
    assert any("no anomalous image has a mask" in remark for remark in measured_tables([result])[0].remarks)


def test_own_data_never_take_the_name_of_a_published_benchmark():
    results = [result_of(name, OWN, {"a": 0.5}) for name in (*FOLDS, "mvtec", "shop")]
    tables = make_tables(results)["main"]
    assert "published" not in make_tables(results)
    assert [row.words["Benchmark"] for row in tables[0].rows] == [*FOLDS, "mvtec", "shop"]
    text = markdown([*tables, *per_class_tables(results[4:5]), datasets_table(results), operating_table(results)])
    assert not re.search("MVTec AD|COCO-AD|VisA|own copy", text)
    assert 'Data "own": the user\'s own data' in text


def test_mean_over_fewer_classes_has_a_footnote():
    cell = measured_tables([result_of(metrics={"metal_nut": 0.5, "wood": None})])[0].rows[0].cells["mad"]
    assert (cell.value, texts(cell)) == (0.5, ["Mean of 1 of 2 classes, without wood."])


def test_seeds_are_mean_and_sample_standard_deviation():
    result = result_of(s1={"wood": 0.90}, s2={"wood": 0.91}, s3={"wood": 0.92})
    table = measured_tables([result])[0]
    assert "Mean ± sample standard deviation over the seeds." in table.caption
    assert table.heads[-1] == "Seeds" and table.rows[0].words["Seeds"] == "1, 2, 3"
    assert markdown([table]).count("91.0 ± 1.0") == len(KEYS)
    assert latex([table]).count(r"91.0 $\pm$ 1.0") == len(KEYS)
    row = next(csv.DictReader(io.StringIO(csv_text([table]))))
    assert float(row["mad_std"]) == statistics.stdev([0.90, 0.91, 0.92])
    assert "mad_std" not in csv_text(measured_tables([result_of()]))


def test_a_seed_without_the_value_is_left_out_and_said_so():
    result = result_of(s1={"wood": 0.4}, s2={"wood": 0.6}, s3={"wood": None})
    cell = per_class_tables([result])[0].rows[0].cells["mad"]
    assert (cell.value, cell.std) == (pytest.approx(0.5), pytest.approx(statistics.stdev([0.4, 0.6])))
    assert cell.notes == ("Mean of 2 of 3 seeds; the others have no value.", MISSING)


BEST, LEAST, NEITHER = (
    Metric("a", "", "A", ""),
    Metric("b", "", "B", "", best="lowest"),
    Metric("c", "", "C", "", best=None),
)


def ranks_of(*values, kinds=None, blocks=None, column=BEST):
    rows = [
        Row({"Name": "x"}, {column.key: Cell(value)}, kind=kind, block=block)
        for value, kind, block in zip(values, kinds or ["plain"] * 9, blocks or [""] * 9, strict=False)
    ]
    return [row.cells[column.key].rank for row in ranked(rows, [column])]


def test_best_and_second_are_by_printed_precision_with_ties():
    assert ranks_of(0.90001, 0.90002, 0.8, 0.7) == [1, 1, 2, 0]
    assert ranks_of(0.9, 0.8, 0.8, None) == [1, 2, 2, 0]
    assert ranks_of(0.9, 0.8, 0.7, column=LEAST) == [0, 2, 1]
    assert ranks_of(0.9, 0.8, column=NEITHER) == [0, 0]


def test_ranks_are_within_blocks_of_several_rows():
    assert ranks_of(0.1, 0.2, 0.3, 0.4, 0.5, blocks=["x", "x", "y", "z", "z"]) == [2, 1, 0, 2, 1]
    assert ranks_of(0.5, None) == [0, 0]


def test_summaries_compete_with_each_other_only_and_differences_never():
    kinds = ["plain", "plain", "summary", "difference"]
    assert ranks_of(0.1, 0.2, 0.9, 0.95, kinds=kinds) == [2, 1, 0, 0]
    assert ranks_of(0.1, 0.2, kinds=["summary", "summary"]) == [2, 1]


def ranked_cells(*cells, column=BEST):
    """Rank and mark of cells of one column and block."""
    rows = ranked([Row({}, {column.key: cell}) for cell in cells], [column])
    return [(row.cells[column.key].rank, row.cells[column.key].is_close) for row in rows]


def test_what_the_seeds_do_not_tell_from_the_best_is_best_too():
    # sqrt(3^2 + 4^2) = 5: at the limit, and a thousandth beyond it
    best, close, apart = Cell(60 / 64, std=3 / 64), Cell(55 / 64, std=4 / 64), Cell(55 / 64 - 0.001, std=4 / 64)
    assert are_close(best, close) and not are_close(best, apart)
    assert ranked_cells(close, best, apart) == [(1, True), (1, True), (2, False)]
    lowest = ranked_cells(Cell(0.93, std=0.03), Cell(0.97, std=0.04), Cell(0.99, std=0.03), column=LEAST)
    assert lowest == [(1, True), (1, True), (2, False)]
    counts = Metric("n", "", "N", "", "count")
    assert ranked_cells(Cell(1500, std=30.0), Cell(1450, std=40.0), Cell(1000), column=counts) == [
        (1, True), (1, True), (2, False),
    ]  # fmt: skip


def test_a_number_of_one_seed_is_never_called_close():
    assert ranked_cells(Cell(0.9, std=0.1), Cell(0.89), Cell(0.8, std=0.1)) == [(1, True), (2, False), (1, True)]
    assert ranked_cells(Cell(0.9), Cell(0.89, std=0.1)) == [(1, False), (2, False)]
    assert ranked_cells(Cell(0.9, std=0.0), Cell(0.9, std=0.0)) == [(1, True), (1, True)]
    assert ranked_cells(Cell(0.9, std=0.1), Cell(None)) == [(0, False), (0, False)]


def test_a_difference_within_the_deviations_is_close_and_none_to_itself():
    row = Row({}, {"a": Cell(0.5, std=0.03125), "b": Cell(0.5, std=0.03), "c": Cell(0.5), "d": Cell(0.5, std=0.03)})
    quoted = {
        "a": Cell(0.53125, std=0.0),
        "b": Cell(0.5301, std=0.0),
        "c": Cell(0.5001, std=0.0),
        "d": Cell(0.5, std=0.03),
    }
    assert {key: cell.is_close for key, cell in difference(row, quoted, {}).cells.items()} == {
        "a": True, "b": False, "c": False, "d": False,
    }  # fmt: skip
    assert difference(row, {"a": Cell(0.55, std=0.04)}, {}).cells["a"].is_close
    assert not difference(row, {"a": Cell(0.55)}, {}).cells["a"].is_close  # of one seed


def test_close_numbers_are_marked_alike_in_every_format():
    near = [
        result_of(label="A", s1={"wood": 0.50}, s2={"wood": 0.54}),
        result_of(label="B", s1={"wood": 0.51}, s2={"wood": 0.55}),
    ]
    table = measured_tables([*near, result_of(label="C", s1={"wood": 0.20}, s2={"wood": 0.21})])[0]
    assert table.caption.count(CLOSE_RULE) == 1
    assert markdown([table]).count("**≈ 52.0 ± 2.8**") == markdown([table]).count("**≈ 53.0 ± 2.8**") == len(KEYS)
    assert latex([table]).count(r"\textbf{$\approx$ 53.0 $\pm$ 2.8}") == len(KEYS) and latex([table]).isascii()
    rows = list(csv.DictReader(io.StringIO(csv_text([table]))))
    assert [row["close"].split() for row in rows] == [KEYS, KEYS, []]
    clear = measured_tables([near[0], result_of(label="C", s1={"wood": 0.20}, s2={"wood": 0.21})])[0]
    assert "≈" not in markdown([clear]) + clear.caption and "close" not in csv_text([clear])


def test_latex_sets_the_sign_of_a_close_difference_as_a_minus():
    row = Row({"R": "r"}, {"a": Cell(-0.01, is_close=True)}, "difference")
    assert r"& $\approx$ $-$1.0 \\" in latex([Table("T", "C.", ("R",), (BEST,), (row,))])


def test_methods_are_ranked_within_a_benchmark_and_source_only():
    results = [result_of("mvtec", "path", {"wood": 0.5}, "A"), result_of("mvtec", "path", {"wood": 0.6}, "B")]
    results += [result_of("mvtec", "embedded", {"wood": 0.9}, "C"), result_of("visa", "path", {"candle": 0.8})]
    table = measured_tables(results)[0]
    assert [row.cells["mad"].rank for row in table.rows] == [2, 1, 0, 0]  # C, of other data, stands alone
    assert "Bold: best of a column within a benchmark; underlined: second best." in table.caption
    assert " **60.0** |" in markdown([table]) and "<u>50.0</u>" in markdown([table])
    assert r"\textbf{60.0}" in latex([table]) and r"\underline{50.0}" in latex([table])
    alone = measured_tables(results[3:])[0]
    assert "Bold" not in alone.caption and "**8" not in markdown([alone])


def test_methods_are_ranked_within_a_class_and_classes_are_not():
    values = ({"wood": 0.5, "tile": 0.9}, {"wood": 0.6, "tile": 0.8})
    results = [result_of("mvtec", "path", value, label) for value, label in zip(values, "AB", strict=True)]
    rows = per_class_tables(results)[0].rows
    assert [(row.words["Class"], row.words["Method"]) for row in rows] == [
        (name, method) for name in ("wood", "tile", "mean") for method in "AB"
    ]
    assert [row.cells["mad"].rank for row in rows] == [2, 1, 1, 2, 1, 1]
    assert {cell.rank for row in per_class_tables(results[:1])[0].rows for cell in row.cells.values()} == {0}


def test_csv_reads_back_as_the_same_floats():
    values = {"a": 1 / 3, "b": 0.1 + 0.2, "c": None}
    rows = list(csv.DictReader(io.StringIO(csv_text(per_class_tables([result_of(metrics=values)])))))
    assert [row["protocol"] for row in rows] == ["paper"] * 4 + ["exact"] * 4
    assert [row["mad"] for row in rows if row["class"] == "c"] == ["", ""]
    assert [row["kind"] for row in rows[:4]] == ["plain", "plain", "plain", "summary"]
    for name in ("a", "b"):
        assert {float(row[key]) for row in rows if row["class"] == name for key in KEYS} == {values[name]}


def test_main_csv_has_one_row_per_benchmark_and_protocol():
    rows = list(csv.DictReader(io.StringIO(csv_text(measured_tables([result_of("visa", metrics={"a": 0.25})])))))
    keys = ("benchmark", "method", "data", "epochs", "seeds", "protocol", "kind", "pixel_mf1")
    assert [tuple(row[key] for key in keys) for row in rows] == [
        ("VisA", "InvAD (mobilenetv2_100)", "own copy", "15", "42", protocol, "plain", "0.25")
        for protocol in ("paper", "exact")
    ]


def test_a_csv_of_tables_with_other_columns_keeps_them_all():
    one = Table("", "", (), (BEST,), (Row({"One k": "1"}, {"a": Cell(0.5), "b": Cell(9.0)}),))
    two = Table("", "", (), (BEST, NEITHER), (Row({"L": DASH}, {"a": Cell(3), "c": Cell()}, "published"),), "paper")
    assert csv_text([one, two]) == "one_k,l,protocol,kind,a,c\n1,,,plain,0.5,\n,,paper,published,3,\n"


def test_a_table_reads_back_from_its_json(tmp_path):
    table = measured_tables([result_of(s1={"wood": 1 / 3}, s2={"wood": None})])[0]
    (tmp_path / "one.json").write_text(table_json(table))
    assert read_table(tmp_path / "one.json") == table


@pytest.mark.parametrize(
    ("content", "words"),
    [("", "not a table"), ("{}", "Field required"), ('{"title": 1}', "not a table")],
)
def test_json_that_is_no_table_is_one_line(tmp_path, content, words):
    (tmp_path / "one.json").write_text(content)
    with pytest.raises(InputError, match=f"one.json: .*{words}"):
        read_table(tmp_path / "one.json")


@pytest.mark.parametrize("source", ["embedded", "path", "official"])
def test_only_embedded_data_is_marked_as_not_comparable(source):
    text = markdown(measured_tables([result_of("visa", source)]))
    assert ("generated data" in text and "not comparable with published numbers" in text) == (source == "embedded")


def test_latex_uses_booktabs_and_escapes():
    metrics = metrics_of("mvtec", {"metal_nut": 0.5, "wood": None}, ["class 'wood': mad: 100% of metal_nut & co"])
    text = latex(per_class_tables([result_of(metrics=metrics, source="embedded")]))
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 2
    assert r"metal\_nut & InvAD (mobilenetv2\_100) & generated & 50.0 &" in text
    assert r"100\% of metal\_nut \& co" in text
    assert text.isascii()
    assert latex_escape('a "b" {c}~') == r"a ``b'' \{c\}\textasciitilde{}"
    body = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in body} == {len(KEYS) + 2}


def test_numbers_are_printed_by_the_form_of_their_column():
    values = {
        "percent": (0.98765, "98.8"), "points": (-0.0123, "-1.2"), "rate": (0.005, "0.5"), "score": (0.123456, "0.1235"),
        "count": (30438, "30,438"), "millions": (95_631_088, "95.63"), "giga": (45_394_000_000, "45.39"),
        "seconds": (1.625, "1.6"),
    }  # fmt: skip
    for form, (value, text) in values.items():
        assert cell_text(Metric("a", "", "A", "", form), Cell(value)) == text
    assert cell_text(BEST, Cell(0.962, std=0.003)) == "96.2 ± 0.3"
    assert cell_text(BEST, Cell(0.962, std=0.003, is_close=True, interval=(0.95, 0.97))) == "≈ 96.2 [95.0, 97.0] ± 0.3"
    assert cell_text(BEST, Cell()) == DASH
    assert cell_text(BEST, Cell(0.5), "difference") == "+50.0"
    assert [number_text("points", value) for value in (0.0123, -0.0004)] == ["+1.2", "0.0"]


def test_headings_name_the_group_where_none_stands_above_them():
    names = [
        flat_heading(column) for column in (METRICS[0], METRICS[7], METRICS[-1], COLUMNS[0], COLUMNS[2], COLUMNS[-1])
    ]
    assert names == [
        "Image AU-ROC", "Pixel mF1", "mAD", "FPR asked for", "Calibrated image threshold", "Calibrated pixel IoU",
    ]  # fmt: skip


def test_rules_are_drawn_between_blocks_of_several_rows():
    def sizes(names):
        return [len(rows) for rows in blocks(Table("", "", (), (), tuple(Row({}, {}, block=name) for name in names)))]

    assert (sizes("aabb"), sizes("abb"), sizes("abc"), sizes("")) == ([2, 2], [1, 2], [3], [0])


def test_a_difference_to_nothing_is_a_dash_with_a_note():
    row = Row({}, {"a": Cell(0.5), "b": Cell(0.5), "c": Cell(None, ("why",))})
    cells = difference(row, {"a": Cell(0.25), "b": Cell(), "c": Cell(0.5)}, {}).cells
    assert cells == {"a": Cell(0.25), "b": Cell(None, (MISSING,)), "c": Cell(None, ("why",))}


def test_marks_count_the_notes_of_rows_and_cells_in_reading_order():
    one, two, three = "one", "two", "x|<y"
    first = Row({"R": "r"}, {"a": Cell(0.5, (two,))}, notes=(one,))
    table = Table("T", "C.", ("R",), (BEST,), (first, Row({"R": "s"}, {"a": Cell(0.5, (two, three))})))
    assert table.footnotes == ("one", "two", "x|<y")
    assert rows_of(markdown([table]))[2:] == [["r<sup>1</sup>", "50.0<sup>2</sup>"], ["s", "50.0<sup>2,3</sup>"]]
    assert "\n1. one\n2. two\n3. x\\|&lt;y\n" in markdown([table])
    assert r"r\textsuperscript{1} & 50.0\textsuperscript{2} \\" in latex([table])


def calibrated(name, classes, images=4, notes=()):
    """A metrics file with an operating point; classes: class -> one value for every key, None where there is none."""
    per_class = {key: dict.fromkeys(OPERATING_KEYS, value) for key, value in classes.items()}
    present = [value for value in classes.values() if value is not None]
    mean = dict.fromkeys(MEAN_KEYS, sum(present) / len(present) if present else None)
    held_out = dict.fromkeys(classes, images)
    point = {"false_positive_rate": 0.01, "held_out_images": held_out, "per_class": per_class, "mean": mean}
    return {**metrics_of(name, classes), "operating_point": {**point, "notes": list(notes)}}


def test_operating_points_have_a_row_of_each_mean_and_class_and_own_names():
    visa = result_of("visa", metrics=calibrated("visa", {"candle": 0.25}))
    mvtec = result_of("mvtec", metrics=calibrated("mvtec", {"wood": 0.5, "tile": 0.75}))
    table = operating_table([mvtec, visa])
    assert [table.words(row)[:2] for row in table.rows] == [
        ["MVTec AD", "mean"], ["MVTec AD", "wood"], ["MVTec AD", "tile"], ["VisA", "mean"], ["VisA", "candle"],
    ]  # fmt: skip
    mean, wood, *_ = table.rows
    assert (mean.cells["calibrated_pixel_iou"].value, mean.cells["held_out_images"].value) == (0.625, 8)
    assert mean.cells["calibrated_image_threshold"] == OWN_THRESHOLDS
    assert wood.cells["calibrated_image_threshold"].value == 0.5
    columns = {column.key for column in COLUMNS}
    assert columns == {"false_positive_rate", "held_out_images", *OPERATING_KEYS}
    assert not columns & set(KEYS)
    assert "held out, at the false-positive rate (FPR) asked for; positive is strictly above it" in table.caption
    assert "not the best-possible F1max and IoUmax" in table.caption


def test_operating_points_as_markdown_csv_and_latex():
    table = operating_table([result_of(metrics=calibrated("mvtec", {"metal_nut": 1 / 3}), source="embedded")])
    text = markdown([table])
    assert re.search(r"\| metal_nut \| generated \| +1 \| +4 \| +0\.3333 \| +33\.3 \|", text)
    assert "Calibrated image threshold | Calibrated image FPR |" in text
    rows = list(csv.DictReader(io.StringIO(csv_text([table]))))
    found = [(row["class"], row["held_out_images"], row["calibrated_image_threshold"]) for row in rows]
    assert found == [("mean", "4", ""), ("metal_nut", "4", repr(1 / 3))]
    assert {float(row["calibrated_pixel_f1"]) for row in rows} == {1 / 3}
    source = latex([table])
    assert source.isascii()
    body = [line for line in source.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in body} == {len(COLUMNS) + 2}


def test_what_an_operating_point_lacks_is_a_dash_and_its_notes_stand_below():
    notes = [
        "class 'wood': too few held-out normal images (4) to resolve",
        "class 'tile', class 'zip': calibrated_image_precision: not available: no image is above the threshold",
    ]
    metrics = calibrated("mvtec", {"wood": 0.5, "tile": 0.5, "zip": 0.5}, notes=notes)
    for name in ("tile", "zip"):
        metrics["operating_point"]["per_class"][name]["calibrated_image_precision"] = None
    table = operating_table([result_of(metrics=metrics)])
    mean, wood, tile, _ = table.rows
    assert wood.cells["calibrated_image_threshold"].notes == tile.cells["calibrated_image_threshold"].notes == ()
    assert texts(tile.cells["calibrated_image_precision"]) == [MISSING]
    assert texts(mean.cells["calibrated_image_precision"]) == ["Mean of 1 of 3 classes, without tile, zip."]
    assert table.remarks == tuple(notes)


@pytest.mark.slow
def test_a_benchmark_without_an_operating_point_is_one_row_of_dashes_with_the_reason():
    note = "splits: no normal image is held out; set calibration.mvtec.share above 0"
    for metrics, reason in (
        (calibrated("mvtec", {"wood": None}, images=0, notes=[note, "other"]), note),
        (metrics_of("mvtec", {"wood": 0.5}), "not evaluated; run `dvc repro evaluate`"),
    ):
        table = operating_table([result_of(metrics=metrics)])
        assert {cell.value for row in table.rows for cell in row.cells.values()} == {None}
        assert table.footnotes == (f"No operating point: {reason}.",)
        assert len(table.rows) == 1
        assert markdown([table]).count(f"{DASH}<sup>1</sup>") == len(COLUMNS)


def test_operating_points_of_several_methods_and_seeds():
    seeds = {"s1": calibrated("mvtec", {"wood": 0.4}), "s2": calibrated("mvtec", {"wood": 0.6})}
    table = operating_table([result_of(label="A", **seeds), result_of(label="B", **seeds)])
    assert table.heads == ("Benchmark", "Class", "Method", "Data", "Seeds")
    assert [table.words(row)[1:3] for row in table.rows] == [
        ["mean", "A"], ["wood", "A"], ["mean", "B"], ["wood", "B"],
    ]  # fmt: skip
    cell = table.rows[1].cells["calibrated_image_threshold"]
    assert (cell.value, cell.std) == (pytest.approx(0.5), pytest.approx(statistics.stdev([0.4, 0.6])))
    assert table.rows[0].cells["false_positive_rate"] == Cell(0.01)


def test_data_sets_stand_once():
    counts = Counts(2, 72, 8, 8, 8, 1, 0.025)
    results = [replace(result_of("mvtec", "embedded", label=label), counts=counts) for label in "AB"]
    table = datasets_table([*results, result_of("visa"), result_of("shop", OWN)])
    assert [table.words(row) for row in table.rows] == [
        ["MVTec AD", "generated"], ["VisA", "own copy"], ["shop", "own"],
    ]  # fmt: skip
    assert rows_of(markdown([table]))[2][2:] == ["2", "72", "8", "8", "8", "1", "2.5"]
    assert texts(table.rows[1].cells["train"]) == ["Not known."]


def test_efficiency_has_each_model_once():
    results = [replace(toy_result(label="A"), cost=None), toy_result(), toy_result("visa", classes=("candle",))]
    table = efficiency_table(results)
    rows = list(csv.DictReader(io.StringIO(csv_text([table]))))
    assert [(row["method"], row["parameters"], row["setting"]) for row in rows] == [
        ("A", "", "128 px"), ("InvAD (mobilenetv2_100)", "3000000", "128 px"),
    ]  # fmt: skip
    assert texts(table.rows[0].cells["parameters"]) == ["Not known."]


def all_tables(results):
    return [table for tables in make_tables(grouped(results)).values() for table in tables]


def embedded_results():
    folds = [toy_result(name, classes=("coco",)) for name in FOLDS]
    return [*folds, toy_result("mvtec"), toy_result("visa", classes=("candle",))]


def comparable_results():
    seeds, counts = (1, 2, 3), published_counts()["mvtec"]
    kinds = (("paper", 0.7), ("paper-lite", 0.6))
    return [toy_result("mvtec", "official", seeds, profile=p, counts=counts, offset=o) for p, o in kinds]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("results", [embedded_results, comparable_results])
def test_latex_of_a_whole_report_compiles(tmp_path, results):
    tables = latex(all_tables(results()))
    packages = r"\usepackage[margin=2cm]{geometry}\usepackage{booktabs,graphicx}"
    text = rf"\documentclass[a4paper,twocolumn]{{article}}{packages}\begin{{document}}{tables}\end{{document}}"
    (tmp_path / "report.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=60)
    assert done.returncode == 0, done.stdout[-2000:]
    assert not re.search("Float too large|Overfull|Missing character", done.stdout)


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes():
    one, two = (all_tables(comparable_results()) for _ in range(2))
    for write in (markdown, csv_text, latex):
        assert write(one) == write(two)


def test_objects_have_columns_of_their_own_in_a_table_with_any():
    single, metrics = result_of("mvtec", s1={"wood": 0.5}), metrics_of("visa", {"pcb1": 0.4})
    samples = {"sample_auroc": 0.91, "sample_ap": 0.92, "sample_f1_max": None}
    for values in (*metrics["mean"].values(), *metrics["per_class"]["pcb1"].values()):
        values |= samples
    of_views = result_of("visa", metrics=metrics)
    table, _ = measured_tables([single, of_views])
    assert [column.key for column in table.columns[-3:]] == list(samples)
    assert "Sample AU-ROC | Sample AP | Sample F1max" in " ".join(markdown([table]).split())
    assert "{Sample}" in latex([table])
    first, second = csv.DictReader(io.StringIO(csv_text([table])))
    assert [[row[key] for key in samples] for row in (first, second)] == [["", "", ""], ["0.91", "0.92", ""]]
    assert "sample" not in csv_text(measured_tables([single]))
    assert "sample_auroc" in csv_text(per_class_tables([of_views]))
