"""Figures: what is drawn is what was measured, and the same results give the same bytes."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from reporting_toys import toy_learning, toy_result

from invad.predict import predictions
from invad.report import pictures
from invad.report.pictures import (
    COLOUR_RULE,
    OUTLINE,
    PANEL,
    colour_stops,
    heat_layer,
    heatmap_sheet,
    image_kind,
    map_panel,
    outline_layer,
    overlay_panel,
    truth_panel,
    truth_words,
)
from invad.report.plots import curves_figure, learning_figure, save_plot, score_figure
from invad.scoring.overlay import coloured


@pytest.fixture(scope="module")
def result():
    return toy_result()


def titles(figure):
    return [axis.get_title(loc="left") for axis in figure.axes]


def legend(figure):
    return [text.get_text() for holder in (figure, *figure.axes) for text in _legend_texts(holder)]


def _legend_texts(holder):
    legends = holder.legends if hasattr(holder, "legends") else [holder.get_legend()]
    return [text for each in legends if each is not None for text in each.get_texts()]


@pytest.mark.slow
def test_figures_are_the_same_bytes_twice_without_date_and_fonts(result, tmp_path):
    learned = toy_learning(result)
    for make in (score_figure, curves_figure, learning_figure):
        for name in ("one", "two"):
            save_plot(make(learned), tmp_path, name)
        for suffix in ("svg", "png"):
            content = (tmp_path / f"one.{suffix}").read_bytes()
            assert content == (tmp_path / f"two.{suffix}").read_bytes()
            assert not re.search(b"dc:date|atplotlib v|<text|font-family|tIME", content)


def test_what_a_result_lacks_has_no_figure(result):
    bare = replace(result, tests=None, curves={})
    assert score_figure(bare) is curves_figure(bare) is None


def with_scores(result, scores, labels, classes):
    arrays = {"image_scores": np.array(scores, np.float32), "labels": np.array(labels, np.int8)}
    return replace(result, tests=replace(result.tests, classes=classes, names=classes, **arrays))


def test_score_panels_give_overlap_and_calibrated_threshold_of_their_class(result):
    scored = with_scores(result, [0.1, 0.9, 0.1, 0.9, 0.1], [0, 1, 1, 0, 0], ["metal_nut"] * 2 + ["wood"] * 2 + ["$a^"])
    figure = score_figure(scored)
    assert titles(figure) == ["$a^: overlap not available", "metal_nut: overlap 0 %", "wood: overlap 0 %"]
    dashed = [[line.get_xdata()[0] for line in axis.get_lines()] for axis in figure.axes]
    assert dashed == [[], [result.thresholds()["metal_nut"]], [result.thresholds()["wood"]]]
    assert legend(figure) == ["normal", "anomalous", "calibrated threshold"]
    assert all(axis.get_ylim()[0] == 0 and axis.get_ylim()[1] >= 100 for axis in figure.axes)
    figure.draw_without_rendering()  # would fail if a name were read as a formula


def test_overlap_by_hand(result):
    scored = with_scores(result, [0, 0, 1, 1, 1, 2, 2, 2], [0] * 4 + [1] * 4, ["a"] * 8)
    assert titles(score_figure(scored)) == ["a: overlap 25 %"]


@pytest.mark.parametrize("labels", [[0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
def test_score_figure_copes_with_equal_scores_and_one_kind(result, labels):
    figure = score_figure(with_scores(result, [1.0] * 4, labels, ["a"] * 4))
    assert titles(figure) == ["a: overlap 100 %" if len(set(labels)) == 2 else "a: overlap not available"]
    assert legend(figure) == ["normal", "anomalous"]
    figure.draw_without_rendering()


@pytest.mark.slow
def test_many_classes_have_panels_of_a_readable_size(result):
    names = [f"class_{number:02d} with a name that is too long for a panel" for number in range(16)]
    figure = score_figure(with_scores(result, np.arange(32) % 7, np.arange(32) % 2, sorted(names * 2)))
    figure.draw_without_rendering()
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert len(shown) == 16
    inches = [axis.get_window_extent().transformed(figure.dpi_scale_trans.inverted()) for axis in shown]
    assert min(box.width for box in inches) > 1.8
    assert min(box.height for box in inches) > 0.9
    titles_drawn = [
        next(t for t in axis.get_children() if getattr(t, "get_text", str)() == axis.get_title(loc="left"))
        for axis in shown
    ]
    ends = [title.get_window_extent().x1 for title in titles_drawn]
    assert ends[0] < shown[1].get_window_extent().x0
    assert ends[1] < shown[2].get_window_extent().x0


def test_areas_in_the_titles_of_curves_are_the_exact_means(result):
    mean = result.metrics["mean"]["exact"]
    assert titles(curves_figure(result))[:5] == [
        f"Image ROC: AU-ROC {100 * mean['image_auroc']:.1f}",
        f"Pixel ROC: AU-ROC {100 * mean['pixel_auroc']:.1f}",
        f"Region PRO: AU-PRO {100 * mean['region_aupro']:.1f}",
        f"Image precision-recall: AP {100 * mean['image_ap']:.1f}",
        f"Pixel precision-recall: AP {100 * mean['pixel_ap']:.1f}",
    ]


def test_the_mean_over_classes_is_thick_and_classes_are_thin(result):
    lines = curves_figure(result).axes[3].get_lines()
    assert [line.get_linewidth() for line in lines] == [0.8, 0.8, 2.4]
    alone = curves_figure(replace(result, curves={"wood": result.curves["wood"]}))
    assert len(alone.axes[3].get_lines()) == 1
    assert legend(alone)[0] == "wood" and "each class" not in legend(alone)


def test_curves_without_masks_say_what_is_not_there(result):
    curves = {name: {"image_roc": of_class["image_roc"]} for name, of_class in result.curves.items()}
    means = {name: dict.fromkeys(result.metrics["mean"]["exact"]) for name in ("paper", "exact")}
    means["exact"]["image_auroc"] = 0.5
    figure = curves_figure(replace(result, curves=curves, metrics_by_seed={42: {"mean": means}}))
    assert titles(figure)[:2] == ["Image ROC: AU-ROC 50.0", "Pixel ROC: AU-ROC not available"]
    assert [[text.get_text() for text in axis.texts] for axis in figure.axes] == [[], *[["no curve"]] * 4, []]


def test_a_map_has_the_colours_between_the_ends_of_its_class(result):
    ramp = np.linspace(0, 4, 16, dtype=np.float16).reshape(1, 4, 4)
    tests = replace(result.tests, maps=ramp, value_ranges={"metal_nut": (1.0, 3.0)})
    pixels = np.asarray(map_panel(tests, 0, 4))
    ends = np.asarray(coloured(np.array([[0, 255]], np.uint8), begin=0))[0]
    assert (pixels[0, 0] == ends[0]).all() and (pixels[0, 3] == ends[0]).all()  # 0 and 0.8: clipped
    assert (pixels[-1, -1] == ends[1]).all() and (pixels[3, 0] == ends[1]).all()
    flat = replace(tests, value_ranges={"metal_nut": (1.0, 1.0)})
    assert (np.asarray(map_panel(flat, 0, 4)) == ends[0]).all()


def with_map(result, value, score, image_threshold=0.5, pixel_threshold=0.4):
    """The result with a map of image 0 that is 0 but for `value` in its middle, and with these thresholds."""
    maps, scores = result.tests.maps.copy(), result.tests.image_scores.copy()
    maps[0], scores[0] = 0, score
    maps[0, 4:12, 4:12] = value
    names = {"calibrated_image_threshold": image_threshold, "calibrated_pixel_threshold": pixel_threshold}
    point = {"per_class": {"metal_nut": names}}
    metrics = {**result.metrics, "operating_point": point}
    return replace(result, tests=replace(result.tests, maps=maps, image_scores=scores), metrics_by_seed={42: metrics})


def overlaid(result):
    picture = result.tests.pictures[0]
    grey = np.asarray(Image.fromarray(picture.image).resize((96, 96), Image.Resampling.LANCZOS).convert("L"))
    drawn = np.asarray(overlay_panel(result, result.tests, 0, 96))
    return drawn, (drawn != grey[..., None]).any(axis=2)


def test_an_overlay_below_the_threshold_is_the_picture_itself(result):
    _, changed = overlaid(with_map(result, value=0.39, score=0.39))
    assert not changed.any()
    layer = np.asarray(heat_layer(with_map(result, 0.39, 0.39), with_map(result, 0.39, 0.39).tests, 0))
    assert layer.shape == (16, 16, 4) and layer[..., 3].max() == 0


def test_an_overlay_is_coloured_above_the_threshold_and_outlined_where_the_image_is_anomalous(result):
    normal, changed = overlaid(with_map(result, value=0.6, score=0.45))
    assert changed[40:56, 40:56].all() and not changed[:16].any() and not changed[:, 80:].any()
    anomalous, _ = overlaid(with_map(result, value=0.6, score=0.6))
    white, other = ((pixels == 255).all(axis=2).sum() for pixels in (anomalous, normal))
    assert white > 50 and other == 0
    layer = np.asarray(heat_layer(with_map(result, 0.6, 0.6), with_map(result, 0.6, 0.6).tests, 0))
    assert set(np.unique(layer[..., 3])) == {0, 255} and (layer[..., 3] > 0).sum() == 64


def test_predict_and_report_draw_the_same_overlay():
    assert predictions.overlay is pictures.overlay
    assert predictions.Scale is pictures.Scale


def test_without_a_threshold_an_overlay_runs_between_the_ends_of_the_class(result):
    low, high = result.tests.value_ranges["metal_nut"]
    mid = with_map(result, (low + high) / 2, 1.0, image_threshold=None, pixel_threshold=None)
    pixels, changed = overlaid(mid)
    assert changed[40:56, 40:56].all() and not (pixels == 255).all(axis=2).any()


def test_the_ground_truth_panel_outlines_the_region_or_is_dark(result):
    picture = result.tests.pictures[5]
    yellow = np.all(np.abs(np.asarray(truth_panel(picture, 96), dtype=int) - OUTLINE) < 60, axis=2)
    inside = np.asarray(Image.fromarray(picture.mask).resize((96, 96)))
    assert yellow.sum() > 40 and yellow[inside].sum() < 0.1 * yellow.sum()
    dark = np.asarray(truth_panel(replace(picture, mask=np.zeros_like(picture.mask)), 96))
    assert dark.max() < 128 and (dark[..., 0] == dark[..., 2]).all()


def test_the_words_say_why_a_ground_truth_shows_nothing(result):
    assert [truth_words(result.tests, index) for index in (0, 5)] == ["no anomaly", "anomalous region outlined"]
    empty = replace(result.tests.pictures[5], mask=np.zeros((64, 64), bool))
    tests = replace(result.tests, pictures={5: empty})
    assert truth_words(tests, 5) == "no anomalous pixel"
    assert truth_words(replace(tests, has_mask=np.zeros(16, bool)), 5) == "no mask"


def test_an_outline_lies_around_the_region_and_is_transparent_elsewhere():
    mask = np.zeros((64, 64), dtype=bool)
    mask[20:40, 20:40] = True
    pixels = np.asarray(outline_layer(mask, 128))
    opacity = pixels[..., 3]
    assert pixels.shape == (128, 128, 4)
    assert opacity[46:74, 46:74].max() == 0  # inside
    assert opacity[:30].max() == 0
    line = pixels[60, 30:46]
    assert line[:, 3].max() == 255
    assert (np.abs(line[:, :3].astype(int) - OUTLINE) < 100).all(axis=1).any()


def test_a_thin_scratch_keeps_its_outline():
    mask = np.zeros((256, 256), dtype=bool)
    mask[100, 60:200] = True
    assert (np.asarray(outline_layer(mask, 160))[..., 3] > 200).sum() > 100


def test_a_defect_type_that_says_nothing_is_not_printed(result):
    def kind(defect):
        return image_kind(replace(result.tests, defect_types=[defect] * len(result.tests)), 5)

    assert [kind(name) for name in ("", "anomaly", "Anomaly", "scratch")] == ["anomalous"] * 3 + ["anomalous: scratch"]
    assert image_kind(result.tests, 0) == "normal"


def sheet(result, positions, folder):
    heatmap_sheet(result, result.tests, positions, folder / "sheet.png")
    return (folder / "sheet.png").read_bytes()


def test_a_sheet_is_the_same_bytes_twice_and_carries_no_date(result, tmp_path):
    one, two = (sheet(result, [5, 0, 13], tmp_path) for _ in range(2))
    assert one == two
    assert b"tIME" not in one


def test_a_sheet_grows_by_a_row_per_image_and_by_a_line_per_class(result, tmp_path):
    contents = [sheet(result, positions, tmp_path) for positions in ([5], [5, 0], [5, 0, 13])]
    one, two, both = (Image.open(io.BytesIO(content)).size for content in contents)
    assert one[0] == two[0] == both[0]
    assert two[1] - one[1] == 168
    assert both[1] - two[1] == 168 + 50


def test_a_sheet_has_the_panels_of_its_images(result, tmp_path):
    pixels = np.asarray(Image.open(io.BytesIO(sheet(result, [5], tmp_path))).convert("RGB"), dtype=int)
    panel = np.asarray(map_panel(result.tests, 5, PANEL), dtype=int)
    top, left = pixels.shape[0] - PANEL - 28, 20 + 210 + 2 * 168
    assert np.abs(pixels[top : top + PANEL, left : left + PANEL] - panel).max() <= 2  # 64 levels


def test_colours_of_the_page_are_those_of_the_overlays():
    assert len(colour_stops(9)) == 9
    assert "nothing below the calibrated pixel threshold" in COLOUR_RULE
