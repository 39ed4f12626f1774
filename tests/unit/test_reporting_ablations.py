"""The report of an ablation study: numbers by hand, marks, footnotes, four files or none, and the same bytes again."""

import csv
import io
import re
import statistics
from dataclasses import dataclass, field, replace

import pytest

from invad.report.ablations import (
    COST,
    NO_PAPER,
    AblationReport,
    VariantRow,
    ablation_table,
    summary_text,
    write_ablation,
)
from invad.report.labels import METRICS
from invad.report.tables import DASH
from invad.report.writers import csv_text, latex, markdown, read_table

KEYS = [metric.key for metric in METRICS]
PAPER = VariantRow("full", "everything", True, {})
BARE = VariantRow("no_style", "without a & b", False, {"model.style": "none"})
WIDE = VariantRow("wide", "", False, {})


@dataclass(frozen=True)
class Run:
    variant: str
    seed: int
    status: str = "finished"
    error: str = ""
    parameters: int | None = 12_345_678
    multiply_adds: int | None = 3_456_789_000
    seconds: float | None = 1500.0
    images_per_second: float | None = 20.0
    memory: int | None = 1_500_000_000
    epochs: int | None = 30
    device: str = "cpu"
    metrics: dict = field(default_factory=dict)


def run(variant, seed, value, **other):
    return Run(variant, seed, metrics={**dict.fromkeys(KEYS, value), **other})


def report_of(*results, variants=(PAPER, BARE, WIDE), data="embedded", notes=()):
    return AblationReport("style", "What the style brings", "mvtec", data, variants, results, notes)


def three_by_three():
    """The paper's setting in 0.900, 0.910, 0.920; one variant that failed and one that was not run."""
    return report_of(
        *(run("full", seed, 0.9 + seed / 100) for seed in (2, 0, 1)),
        *(Run("no_style", seed, "failed", "ValueError: <bad>\n  input|here") for seed in range(3)),
    )


def markdown_of(report):
    return markdown([ablation_table(report)])


def latex_of(report):
    return latex([ablation_table(report)])


def csv_of(report, kind="plain"):
    rows = csv.DictReader(io.StringIO(csv_text([ablation_table(report)])))
    return [row for row in rows if row["kind"] == kind]


def cells_of(text, name):
    """Cells of the row of a variant, or of its differences."""
    (line,) = [line for line in text.splitlines() if re.match(rf"\| \*?{re.escape(name)}\*? +\|", line)]
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_several_seeds_are_mean_and_sample_standard_deviation():
    text = markdown_of(three_by_three())
    _, *cells = cells_of(text, "full (paper)<sup>1</sup>")
    assert cells == ["3", "12.35", "3.46", "1,500", "20", "1.50", *["91.0 ± 1.0"] * len(KEYS)]
    assert cells_of(text, "full (paper) - paper")[7:] == ["0.0"] * len(KEYS)
    assert "sample standard deviation over seeds 0, 1, 2" in text
    assert float(csv_of(three_by_three())[0]["mad_std"]) == statistics.stdev([0.9, 0.91, 0.92])


def test_variants_that_the_seeds_do_not_tell_apart_are_all_best_and_their_differences_are_marked():
    near = [run("no_style", seed, 0.899 + seed / 100) for seed in range(3)]
    far = [run("wide", seed, 0.5 + seed / 100) for seed in range(3)]
    report = report_of(*three_by_three().runs(PAPER), *near, *far)
    text = markdown_of(report)
    names = ("full (paper)<sup>1</sup>", "no_style<sup>2</sup>", "wide")
    assert [cells_of(text, name)[-1] for name in names] == ["**≈ 91.0 ± 1.0**", "**≈ 90.9 ± 1.0**", "<u>51.0 ± 1.0</u>"]
    assert [cells_of(text, f"{name} - paper")[-1] for name in ("full (paper)", "no_style", "wide")] == [
        "0.0",
        "≈ -0.1",
        "-40.0",
    ]
    assert "≈: the seeds do not tell it apart from the best of its column" in text
    alone = report_of(*three_by_three().runs(PAPER), run("no_style", 0, 0.909), variants=(PAPER, BARE))
    assert "≈" not in markdown_of(alone)  # one seed


def test_one_seed_has_no_standard_deviation():
    report = report_of(run("full", 0, 0.5), run("no_style", 0, 0.25), variants=(PAPER, BARE))
    text = markdown_of(report)
    assert "±" not in text
    assert "one run per variant (seed 0)" in text
    assert cells_of(text, "no_style - paper")[7:] == ["-25.0"] * len(KEYS)
    assert "mad_std" not in csv_of(report)[0]
    assert [row["mad"] for row in csv_of(report, "difference")] == ["0.0", "-0.25"]


def test_best_and_second_are_marked_as_printed_with_ties():
    fourth = VariantRow("last", "", False, {})
    values = {"full": 0.90001, "no_style": 0.90002, "wide": 0.8, "last": 0.7}
    report = report_of(*(run(name, 0, value) for name, value in values.items()), variants=(PAPER, BARE, WIDE, fourth))
    text, tex = markdown_of(report), latex_of(report)
    names = ("full (paper)<sup>1</sup>", "no_style<sup>2</sup>", "wide", "last")
    assert [cells_of(text, name)[-1] for name in names] == ["**90.0**", "**90.0**", "<u>80.0</u>", "70.0"]
    assert tex.count(r"\textbf{90.0}") == 2 * len(KEYS)
    assert tex.count(r"\underline{80.0}") == len(KEYS)


def test_a_single_finished_variant_is_neither_best_nor_second():
    text = markdown_of(three_by_three())
    assert "<u>" not in text and "**91" not in text and "Bold" not in text


def test_unfinished_variants_are_dashes_with_the_reason():
    text = markdown_of(three_by_three())
    for name in ("no_style<sup>2,3</sup>", "wide<sup>4</sup>"):
        cells = cells_of(text, name)
        assert cells[1] in ("0 of 3", "0")
        assert set(cells[2:]) == {DASH}
    assert "\n3. Seeds 0, 1, 2 failed: ValueError: &lt;bad> input\\|here.\n" in text
    assert "\n4. Not run.\n" in text
    assert [row["status"] for row in csv_of(three_by_three())] == ["finished", "failed", "not run"]
    failed = csv_of(three_by_three())[1]
    assert failed["seeds"] == "0 of 3"
    assert {failed[key] for key in failed if key not in ("variant", "status", "seeds", "protocol", "kind")} == {""}
    assert len(csv_of(three_by_three(), "difference")) == 1


def test_a_variant_with_some_finished_runs_counts_them_and_says_why_not_all():
    report = report_of(
        run("full", 0, 0.5), run("full", 1, 0.7), Run("full", 2, "failed", "no memory."), variants=(PAPER,)
    )
    text = markdown_of(report)
    assert cells_of(text, "full (paper)<sup>1,2</sup>")[1] == "2 of 3"
    assert "2. Seed 2 failed: no memory.\n" in text
    assert (csv_of(report)[0]["status"], csv_of(report)[0]["seeds"]) == ("partial", "2 of 3")


def test_a_variant_without_runs_says_so():
    report = report_of(run("full", 0, 0.5), variants=(PAPER, WIDE))
    assert "2. Not run.\n" in markdown_of(report)
    assert csv_of(report)[1]["status"] == "not run"


def test_a_metric_without_value_is_a_dash_with_a_footnote():
    nothing = None
    results = [run("full", 0, 0.5), run("full", 1, 0.7), run("no_style", 0, 0.6, mad=nothing)]
    results += [run("no_style", 1, 0.6, mad=nothing), run("wide", 0, 0.5, pixel_ap=nothing), run("wide", 1, 0.7)]
    report = report_of(*results)
    text = markdown_of(report)
    for name in ("no_style<sup>2</sup>", "no_style - paper"):
        assert cells_of(text, name)[-1] == f"{DASH}<sup>3</sup>"
    assert "3. Not available; the notes of the evaluation say why.\n" in text
    assert any(cell.startswith("**70.0**<sup>") for cell in cells_of(text, "wide"))
    assert "Mean of 1 of 2 seeds; the others have no value.\n" in text
    assert (csv_of(report)[1]["mad"], csv_of(report, "difference")[1]["mad"]) == ("", "")
    assert "nan" not in (text + latex_of(report) + csv_text([ablation_table(report)]) + summary_text(report)).lower()


def test_without_the_papers_setting_there_are_no_differences():
    failed = report_of(Run("full", 0, "failed", "x"), run("no_style", 0, 0.5), variants=(PAPER, BARE))
    absent = report_of(run("no_style", 0, 0.5), variants=(BARE,))
    for report in (failed, absent):
        assert NO_PAPER in markdown_of(report)
        assert csv_of(report, "difference") == []
    lacking = report_of(run("full", 0, 0.5, mad=None), run("no_style", 0, 0.5), variants=(PAPER, BARE))
    assert cells_of(markdown_of(lacking), "no_style - paper")[-1] == f"{DASH}<sup>2</sup>"


def test_differences_are_signed_and_never_minus_zero():
    report = report_of(run("full", 0, 0.5), run("no_style", 0, 0.49999), run("wide", 0, 0.4))
    assert "-0.0" not in markdown_of(report) + latex_of(report)
    assert latex_of(report).count("$-$10.0") == len(KEYS)


def test_times_of_short_runs_have_a_decimal():
    results = [replace(run("full", seed, 0.5), seconds=seconds) for seed, seconds in enumerate((1.25, 2.0))]
    name = "full (paper)<sup>1</sup>"
    assert cells_of(markdown_of(report_of(*results, variants=(PAPER,))), name)[4] == "1.6"
    unknown = replace(results[0], seconds=None, parameters=None, multiply_adds=None)
    assert cells_of(markdown_of(report_of(unknown, variants=(PAPER,))), name)[2:5] == [DASH] * 3


@pytest.mark.parametrize("data", ["embedded", "path", "official", "own"])
def test_the_caption_says_what_the_data_are(data):
    report = replace(three_by_three(), data=data)
    for text in (markdown_of(report), latex_of(report)):
        assert ("not comparable with published numbers" in text) == (data == "embedded")
        assert "What the style brings. Benchmark: " + ("mvtec," if data == "own" else "MVTec AD,") in text
        assert "Protocol: paper (the procedure of the published numbers" in text
        assert "mean time of a run on cpu." in text


def test_notes_of_the_study_stand_below_the_table():
    report = replace(three_by_three(), notes=["Random encoder.", "Small images."])
    assert markdown_of(report).endswith("\n- Random encoder.\n- Small images.\n")
    assert r"Random encoder.\par" in latex_of(report)
    assert "Random encoder." in summary_text(report)


def test_variants_keep_their_order_and_are_explained():
    report = report_of(*(run(name, 0, 0.5) for name in ("wide", "no_style", "full")), variants=(BARE, PAPER, WIDE))
    assert [row["variant"] for row in csv_of(report)] == ["no_style", "full (paper)", "wide"]
    notes = "1. no_style: without a &amp; b; model.style = none.\n2. full: everything.\n"
    assert notes.replace(".\n", "\n") in markdown_of(report)
    assert r"no\_style: without a \& b; model.style = none\par" in latex_of(report)


def test_csv_reads_back_as_the_same_numbers():
    report = report_of(run("full", 0, 1 / 3), run("no_style", 0, 0.1 + 0.2), variants=(PAPER, BARE))
    rows = csv_of(report)
    assert [float(row["pixel_miou"]) for row in rows] == [1 / 3, 0.1 + 0.2]
    assert float(csv_of(report, "difference")[1]["pixel_miou"]) == 0.1 + 0.2 - 1 / 3
    assert (rows[0]["parameters"], rows[0]["multiply_adds"], rows[0]["seconds"]) == (
        "12345678", "3456789000", "1500.0",
    )  # fmt: skip


def test_latex_is_built_like_the_other_tables():
    tex = latex_of(replace(three_by_three(), notes=["50% of {x}_y|z"]))
    assert tex.isascii()
    assert tex.count(r"\toprule") == tex.count(r"\bottomrule") == tex.count(r"\resizebox") == 1
    plain = re.sub(r"\\[{}]", "", tex)
    depth = [plain[:index].count("{") - plain[:index].count("}") for index in range(len(plain) + 1)]
    assert min(depth) == 0 and depth[-1] == 0
    body = [line for line in tex.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in body} == {1 + len(COST) + len(KEYS)}
    assert r"full (paper)\textsuperscript{1} & 3 & 12.35 & 3.46 & 1,500 & " in tex
    assert r"50\% of \{x\}\_y\textbar{}z" in tex
    assert r"ValueError: \textless{}bad\textgreater{} input\textbar{}here" in tex


def test_the_summary_has_the_main_numbers_of_each_variant():
    text = summary_text(
        report_of(*(run("full", seed, 0.9) for seed in range(3)), Run("wide", 0, "failed", "word " * 100))
    )
    assert cells_of(text, "Variant") == [
        "Variant", "Seeds", "Param. (M)", "M-adds (G)", "Training (s)",
        "Image AU-ROC", "Region AU-PRO", "Pixel AU-ROC", "Pixel AP", "mAD",
    ]  # fmt: skip
    assert cells_of(text, "full (paper)<sup>1</sup>")[1:5] == ["3", "12.35", "3.46", "1,500"]
    assert cells_of(text, "wide<sup>4</sup>")[1:] == ["0 of 1", *[DASH] * 8]
    assert "4. Seed 0 failed: word word" in text and "- paper*" not in text


def test_the_same_report_gives_the_same_bytes(tmp_path):
    report = three_by_three()
    paths = write_ablation(report, tmp_path / "a")
    again = write_ablation(replace(report, results=report.results[::-1]), tmp_path / "b")
    assert [path.name for path in paths] == ["style.json", "style.csv", "style.md", "style.tex"]
    assert sorted((tmp_path / "a").iterdir()) == sorted(paths)
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]
    assert read_table(paths[0]) == ablation_table(report)


def test_a_study_in_which_nothing_finished_is_still_reported(tmp_path):
    report = report_of(Run("full", 0, "failed", "x"), variants=(PAPER, WIDE))
    assert len(write_ablation(report, tmp_path)) == 4
    assert "no run finished" in (tmp_path / "style.md").read_text(encoding="utf-8")
