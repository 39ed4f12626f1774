"""The report of an ablation study: numbers by hand, marks, footnotes, four files or none, and the same bytes again."""

import csv
import io
import re
import statistics
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from invad.errors import InputError
from invad.report.ablation import files as ablations
from invad.report.ablation.figure import HEADLINE, ablation_figure
from invad.report.ablation.files import AblationReport, VariantRow, summary_text, write_ablation
from invad.report.ablation.latex import ablation_latex
from invad.report.ablation.summary import NO_PAPER, summarise
from invad.report.ablation.tables import ablation_csv, ablation_markdown, signed
from invad.report.labels import METRICS
from invad.report.tables.writing import DASH

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
    epochs: int | None = 30
    device: str = "cpu"
    metrics: dict = field(default_factory=dict)


def run(variant, seed, value, **other):
    return Run(variant, seed, metrics={**dict.fromkeys(KEYS, value), **other})


def report_of(*results, variants=(PAPER, BARE, WIDE), data="embedded", notes=()):
    return AblationReport("style", "What the style brings", "mvtec", data, variants, results, notes)


def three_by_three():
    """The paper's setting in 0.900, 0.910, 0.920; one variant that failed and one that was stopped."""
    return report_of(
        *(run("full", seed, 0.9 + seed / 100) for seed in (2, 0, 1)),
        *(Run("no_style", seed, "failed", "ValueError: <bad>\n  input|here") for seed in range(3)),
        *(Run("wide", seed, "stopped", epochs=4) for seed in range(3)),
    )


def markdown_of(report):
    return ablation_markdown(report, summarise(report))


def latex_of(report):
    return ablation_latex(report, summarise(report))


def csv_of(report):
    return list(csv.DictReader(io.StringIO(ablation_csv(summarise(report)))))


def rows_of(text, name):
    """Cells of every row of a variant: one row per part."""
    lines = [line for line in text.splitlines() if re.match(rf"\| {re.escape(name)}[ <]", line)]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_several_seeds_are_mean_and_sample_standard_deviation():
    text = markdown_of(three_by_three())
    main, other, difference = rows_of(text, "full (paper)")
    assert main == ["full (paper)", "3", "12.35", "3.46", "1,500", *["91.0 ± 1.0"] * 8]
    assert other[2:] == ["91.0 ± 1.0"] * 7
    assert difference[2:] == ["0.0"] * len(KEYS)
    assert "sample standard deviation over seeds 0, 1, 2" in text
    paper = csv_of(three_by_three())[0]
    assert float(paper["mad_std"]) == statistics.stdev([0.9, 0.91, 0.92])


def test_one_seed_has_no_standard_deviation():
    report = report_of(run("full", 0, 0.5), run("no_style", 0, 0.25), variants=(PAPER, BARE))
    text = markdown_of(report)
    assert "±" not in text
    assert "one run per variant (seed 0)" in text
    assert rows_of(text, "no_style")[2][2:] == ["-25.0"] * len(KEYS)
    assert [row["mad_std"] for row in csv_of(report)] == ["", ""]
    assert [row["mad_difference"] for row in csv_of(report)] == ["0.0", "-0.25"]


def test_best_and_second_are_marked_as_printed_with_ties():
    fourth = VariantRow("last", "", False, {})
    values = {"full": 0.90001, "no_style": 0.90002, "wide": 0.8, "last": 0.7}
    report = report_of(*(run(name, 0, value) for name, value in values.items()), variants=(PAPER, BARE, WIDE, fourth))
    text, tex = markdown_of(report), latex_of(report)
    marked = {name: rows_of(text, name)[0][5] for name in ("full (paper)", "no_style", "wide", "last")}
    assert list(marked.values()) == ["**90.0**", "**90.0**", "<u>80.0</u>", "70.0"]
    assert tex.count(r"\textbf{90.0}") == 2 * len(KEYS)
    assert tex.count(r"\underline{80.0}") == len(KEYS)
    assert r"\underline{70" not in tex and r"\textbf{70" not in tex


def test_a_single_finished_variant_is_neither_best_nor_second():
    text = markdown_of(three_by_three())
    assert "<u>" not in text and "**91" not in text


def test_unfinished_variants_are_dashes_with_the_reason():
    text = markdown_of(three_by_three())
    for name, number in (("no_style", 1), ("wide", 2)):
        for cells in rows_of(text, name):
            assert cells[:2] == [f"{name}<sup>{number}</sup>", "0 of 3"]
            assert set(cells[2:]) == {DASH}
    assert "\n1. Seeds 0, 1, 2 failed: ValueError: &lt;bad> input\\|here.\n" in text
    assert "\n2. Seeds 0, 1, 2 stopped early after 4 epochs.\n" in text
    assert [row["status"] for row in csv_of(three_by_three())] == ["finished", "failed", "stopped"]
    failed = csv_of(three_by_three())[1]
    assert failed["seeds"] == "0"
    assert {failed[key] for key in failed if key not in ("variant", "is_paper", "status", "seeds")} == {""}


def test_a_variant_with_some_finished_runs_counts_them_and_says_why_not_all():
    report = report_of(run("full", 0, 0.5), run("full", 1, 0.7), Run("full", 2, "stopped", epochs=1), variants=(PAPER,))
    text = markdown_of(report)
    assert rows_of(text, "full (paper)")[0][1] == "2 of 3"
    assert "1. Seed 2 stopped early after 1 epoch.\n" in text
    assert (csv_of(report)[0]["status"], csv_of(report)[0]["seeds"]) == ("partial", "2")


def test_a_variant_without_runs_says_so():
    report = report_of(run("full", 0, 0.5), variants=(PAPER, WIDE))
    assert "1. Not run.\n" in markdown_of(report)
    assert csv_of(report)[1]["status"] == "missing"


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_a_metric_without_value_is_a_dash_with_a_footnote(nothing):
    results = [run("full", 0, 0.5), run("full", 1, 0.7), run("no_style", 0, 0.6, mad=nothing)]
    results += [run("no_style", 1, 0.6, mad=nothing), run("wide", 0, 0.5, pixel_ap=nothing), run("wide", 1, 0.7)]
    report = report_of(*results)
    text = markdown_of(report)
    main, _, difference = rows_of(text, "no_style")
    assert main[-1] == difference[-1] == f"{DASH}<sup>1</sup>"
    assert "1. mAD is not available: the evaluation gave no value.\n" in text
    assert rows_of(text, "wide")[0][10] == "**70.0**<sup>2</sup>"
    assert "2. Mean of 1 of 2 seeds; the evaluation gave no value for the others.\n" in text
    assert (csv_of(report)[1]["mad"], csv_of(report)[1]["mad_difference"]) == ("", "")
    assert "nan" not in (text + latex_of(report) + ablation_csv(summarise(report)) + summary_text(report)).lower()


def test_without_the_papers_setting_differences_are_dashes():
    failed = report_of(Run("full", 0, "failed", "x"), run("no_style", 0, 0.5), variants=(PAPER, BARE))
    absent = report_of(run("no_style", 0, 0.5), variants=(BARE,))
    for report, number in ((failed, 2), (absent, 1)):
        text = markdown_of(report)
        assert rows_of(text, "no_style")[2][2:] == [f"{DASH}<sup>{number}</sup>"] * len(KEYS)
        assert f"{number}. {NO_PAPER}\n" in text
        assert csv_of(report)[-1]["mad_difference"] == ""
    lacking = report_of(run("full", 0, 0.5, mad=None), run("no_style", 0, 0.5), variants=(PAPER, BARE))
    assert "No difference: the paper's setting has no value of mAD.\n" in markdown_of(lacking)


def test_differences_are_signed_and_never_minus_zero():
    assert [signed(value) for value in (0.0123, -0.0123, -0.0004, 0.0004, 0.0, None)] == [
        "+1.2", "-1.2", "0.0", "0.0", "0.0", DASH,
    ]  # fmt: skip
    report = report_of(run("full", 0, 0.5), run("no_style", 0, 0.49999), run("wide", 0, 0.4))
    assert "-0.0" not in markdown_of(report) + latex_of(report)
    assert latex_of(report).count("$-$10.0") == len(KEYS)


def test_times_of_short_runs_have_a_decimal():
    results = [replace(run("full", seed, 0.5), seconds=seconds) for seed, seconds in enumerate((1.25, 2.0))]
    assert rows_of(markdown_of(report_of(*results, variants=(PAPER,))), "full (paper)")[0][4] == "1.6"
    unknown = replace(results[0], seconds=None, parameters=None, multiply_adds=None)
    assert rows_of(markdown_of(report_of(unknown, variants=(PAPER,))), "full (paper)")[0][2:5] == [DASH] * 3


@pytest.mark.parametrize("data", ["embedded", "path", "official", "own"])
def test_the_caption_says_what_the_data_are(data):
    report = replace(three_by_three(), data=data)
    for text in (markdown_of(report), latex_of(report)):
        assert ("not comparable with published numbers" in text) == (data == "embedded")
        assert "What the style brings. Benchmark: " + ("mvtec." if data == "own" else "MVTec AD.") in text
        assert "Protocol: paper (the procedure of the published numbers" in text
        assert "mean time of a run of 30 epochs on cpu" in text


def test_notes_of_the_study_are_the_first_footnotes():
    report = replace(three_by_three(), notes=["Random encoder.", "Small images."])
    text = markdown_of(report)
    assert text.count("| Variant<sup>1,2</sup> ") == 3
    assert "\n1. Random encoder.\n2. Small images.\n3. Seeds" in text
    assert r"Variant\textsuperscript{1,2} & Seeds" in latex_of(report)
    assert "Random encoder." in summary_text(report)


def test_variants_keep_their_order_and_are_explained():
    report = report_of(*(run(name, 0, 0.5) for name in ("wide", "no_style", "full")), variants=(BARE, PAPER, WIDE))
    assert [row["variant"] for row in csv_of(report)] == ["no_style", "full", "wide"]
    assert [row["is_paper"] for row in csv_of(report)] == ["false", "true", "false"]
    assert "- no_style: without a &amp; b; model.style = none\n- full (paper): everything\n" in markdown_of(report)
    assert r"\textit{no\_style}: without a \& b; model.style = none\par" in latex_of(report)


def test_csv_reads_back_as_the_same_numbers():
    rows = csv_of(report_of(run("full", 0, 1 / 3), run("no_style", 0, 0.1 + 0.2), variants=(PAPER, BARE)))
    assert [float(row["pixel_miou"]) for row in rows] == [1 / 3, 0.1 + 0.2]
    assert float(rows[1]["pixel_miou_difference"]) == 0.1 + 0.2 - 1 / 3
    assert (rows[0]["parameters"], rows[0]["multiply_adds"], rows[0]["train_seconds_mean"]) == (
        "12345678", "3456789000", "1500.0",
    )  # fmt: skip
    for key in KEYS:
        assert {key, f"{key}_std", f"{key}_difference"} <= set(rows[0])


def test_latex_is_built_like_the_other_tables():
    tex = latex_of(replace(three_by_three(), notes=["50% of {x}_y|z"]))
    assert tex.isascii()
    assert tex.count(r"\toprule") == tex.count(r"\bottomrule") == tex.count(r"\resizebox") == 3
    plain = re.sub(r"\\[{}]", "", tex)
    depth = [plain[:index].count("{") - plain[:index].count("}") for index in range(len(plain) + 1)]
    assert min(depth) == 0 and depth[-1] == 0
    for part in tex.split(r"\begin{tabular}")[1:]:
        columns = len(re.match(r"\{(l+r+)\}", part)[1])
        body = [line for line in part.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert [line.count(" & ") for line in body] == [columns - 1] * 4
    assert r"full (paper) & 3 & 12.35 & 3.46 & 1,500 & 91.0 $\pm$ 1.0 &" in tex
    assert r"50\% of \{x\}\_y\textbar{}z" in tex
    assert r"ValueError: \textless{}bad\textgreater{} input\textbar{}here" in tex


def test_summary_fits_a_terminal():
    long = VariantRow(
        "a variant with a name that is far too long for any terminal to show in a table of numbers", "", True, {}
    )
    results = [run(long.name, seed, 1.0) for seed in range(3)]
    report = report_of(*results, Run("wide", 0, "failed", "word " * 100), variants=(long, WIDE))
    lines = summary_text(report).splitlines()
    assert max(len(line) for line in lines) <= 100
    assert lines[1].split() == ["variant", "seeds", "M", "G", "s", "I-AUROC", "P-AUROC", "P-AP", "AUPRO", "mAD"]
    assert re.match(r"a variant .*\.\.\. \(paper\) +3 +12\.35 +3\.46 +1,500( +100\.0){5}$", lines[3])
    assert lines[4].split() == ["wide", "0", "of", "1", *["-"] * 8]
    assert lines[5].startswith("wide: Seed 0 failed: word word")
    assert summary_text(report).isascii()


def test_the_figure_shows_each_variant_and_the_papers_value():
    figure = ablation_figure(summarise(three_by_three()), "Ablation $x$ & y")
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        "Image AU-ROC", "Pixel AU-ROC", "Pixel AP", "Region AU-PRO", "mAD",
    ]  # fmt: skip
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == ["full (paper)", "no_style", "wide"]
    for axis in figure.axes:
        assert [text.get_text() for text in axis.texts] == ["failed", "stopped early"]
        dashed = [line.get_xdata()[0] for line in axis.get_lines() if line.get_linestyle() == "--"]
        assert dashed == [pytest.approx(91.0)]
        low, high = sorted(axis.containers[0].lines[2][0].get_segments()[0][:, 0])
        assert (low, high) == (pytest.approx(90.0), pytest.approx(92.0))


def test_the_figure_does_not_blow_up_tiny_differences():
    report = report_of(run("full", 0, 0.5), run("no_style", 0, 0.5001), variants=(PAPER, BARE))
    for axis in ablation_figure(summarise(report), "title").axes:
        low, high = axis.get_xlim()
        assert high - low >= 1
    assert len(HEADLINE) == 5


@pytest.mark.slow
def test_the_same_report_gives_the_same_bytes(tmp_path):
    report = three_by_three()
    paths = write_ablation(report, tmp_path / "a")
    again = write_ablation(replace(report, results=report.results[::-1]), tmp_path / "b")
    assert [path.name for path in paths] == ["style.csv", "style.md", "style.tex", "style.png"]
    assert sorted((tmp_path / "a").iterdir()) == sorted(paths)
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]
    png = paths[3].read_bytes()
    assert png.startswith(b"\x89PNG") and not re.search(rb"tEXt|tIME|matplotlib", png)
    assert "(style.png)" in paths[1].read_text(encoding="utf-8")


def test_a_study_in_which_nothing_finished_is_still_reported(tmp_path):
    report = report_of(Run("full", 0, "failed", "x"), variants=(PAPER, WIDE))
    assert len(write_ablation(report, tmp_path)) == 4
    assert "no run finished" in (tmp_path / "style.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_all_four_files_or_none(tmp_path, monkeypatch):
    kept = [path.read_bytes() for path in write_ablation(three_by_three(), tmp_path)]
    write = Path.write_bytes

    def full_disk(path, content):
        if ".tex." in path.name:
            raise OSError("no space left")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_ablation(report_of(run("full", 0, 0.1), variants=(PAPER,)), tmp_path)
    names = [f"style.{suffix}" for suffix in ("csv", "md", "tex", "png")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert [(tmp_path / name).read_bytes() for name in names] == kept


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"module": "../x"}, "names the files"),
        ({"variants": ()}, "no variants"),
        ({"variants": (PAPER, PAPER)}, "'full' is given twice"),
        ({"variants": (PAPER, replace(WIDE, is_paper=True))}, "at most one"),
        ({"results": (run("other", 0, 0.5),)}, "unknown variant 'other'; known are full, no_style, wide"),
        ({"results": (run("full", 3, 0.5), run("full", 3, 0.6))}, "'full' has two results of seed 3"),
        ({"results": (Run("full", 0, "running"),)}, "'running' must be finished, failed or stopped"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        write_ablation(replace(three_by_three(), **changes), tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_names_a_study_needs_are_offered_in_one_place():
    assert set(ablations.__all__) == {"AblationReport", "TrialResult", "VariantRow", "summary_text", "write_ablation"}
