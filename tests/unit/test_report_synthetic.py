"""The sheet of synthetic anomalies shows what a training sees."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from reporting_toys import toy_result
from toys import CPU, image_split

from invad.config import FeaturesConfig
from invad.features.batches import Needs, batch_source
from invad.features.source import LiveFeatures
from invad.features.synthesis import Corruption
from invad.report.pictures import PANEL, synthetic_sheet
from invad.report.synthetic import synthetic_anomalies

RECIPE, SIZE, SEED = Corruption(), 64, 3
CONFIG = FeaturesConfig("none", "none", SIZE, mode="live")


@pytest.fixture
def split(tmp_path):
    split = image_split(tmp_path, train=16, test=1, size=80)
    rows = tuple(replace(row, class_name="ab"[number % 2]) for number, row in enumerate(split.rows))
    return replace(split, rows=rows)


def test_the_anomalies_are_those_of_the_first_epoch(split):
    shown = synthetic_anomalies(split, RECIPE, SIZE, SEED)
    assert [each.class_name for each in shown] == ["a", "a", "b", "b"]
    source = batch_source(
        LiveFeatures(split, "train", CONFIG), Needs(images=True, corruption=RECIPE), split, "train", CONFIG
    )
    names = [row.image for row in split.phase("train")]
    (batch,) = source.batches([[names.index(each.name) for each in shown]], CPU, seed=(SEED, 0))
    for number, each in enumerate(shown):
        assert each.mask.any()
        assert np.array_equal(batch.masks[number, 0].numpy(), each.mask)
        for pixels, tensor in ((each.clean, batch.images), (each.corrupted, batch.corrupted)):
            torch.testing.assert_close(
                torch.from_numpy(pixels).permute(2, 0, 1) / 255, tensor[number], atol=0.6 / 255, rtol=0
            )


def test_the_sheet_has_a_row_of_each_and_the_same_bytes_again(split, tmp_path):
    result = replace(toy_result("mvtec"), synthetic=synthetic_anomalies(split, RECIPE, SIZE, SEED))
    for name in ("one.png", "two.png"):
        synthetic_sheet(result, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as sheet:
        assert sheet.height > 4 * PANEL
        assert len(sheet.getcolors(1 << 24)) > 100
