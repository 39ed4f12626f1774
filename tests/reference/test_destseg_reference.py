"""DeSTSeg against values made with its authors' code: maps, losses and gradients of both phases; and the published counts."""

from types import SimpleNamespace

import pytest
import torch
from reference_files import reference_arrays, rounding
from torch import Tensor, nn

from invad.config import (
    BenchmarkConfig,
    CalibrationConfig,
    DeSTSegConfig,
    FeaturesConfig,
    FolderSplitConfig,
    ScoreConfig,
)
from invad.features.batches import Batch
from invad.features.encoder import EncoderOutput, hollow_encoder
from invad.methods import destseg
from invad.methods.base import Position
from invad.methods.destseg import DeSTSeg
from invad.scoring.score import finished
from invad.training.cost import model_cost

SIZE = 64
PHASES = [Position(phase, 0, 1, 0, 1) for phase in (0, 1)]


class Given(nn.Module):
    """An encoder whose features are given: those of clean images, which are black here, and of corrupted ones, which are white."""

    def __init__(self, clean: list[Tensor], corrupted: list[Tensor]) -> None:
        super().__init__()
        self.clean, self.corrupted = clean, corrupted
        self.feature_info = SimpleNamespace(channels=lambda: [level.shape[1] for level in corrupted])

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.corrupted if images.mean() > 0 else self.clean


@pytest.fixture
def known() -> dict[str, Tensor]:
    return {name: torch.as_tensor(value) for name, value in reference_arrays("destseg_a").items()}


@pytest.fixture
def method(known, monkeypatch) -> DeSTSeg:
    clean, dirty = ([known[f"input/teacher_{kind}/{level}"] for level in range(3)] for kind in ("clean", "corrupted"))
    monkeypatch.setattr(destseg, "like", lambda output: Given(clean, dirty))
    deepest = Given([], [known["input/student_encoder_level4"]])
    monkeypatch.setattr(destseg, "untrained_network", lambda name, strides: deepest)
    method = DeSTSeg(EncoderOutput("resnet18", (4, 8, 16), SIZE), DeSTSegConfig(batch_size=2, width=16))
    theirs = [value for name, value in known.items() if name.startswith("state/")]
    method.load_state_dict(dict(zip(method.state_dict(), theirs, strict=True)))  # in the same order
    return method.eval()


@pytest.fixture
def batch(known) -> Batch:
    black = torch.zeros(2, 3, SIZE, SIZE)
    return Batch(images=black, corrupted=black + 1, masks=known["input/mask"])


def close(one: Tensor, two: Tensor) -> None:
    assert one.shape == two.shape
    torch.testing.assert_close(one, two, rtol=0, atol=rounding(2e-6, 1e-5) * max(1.0, float(two.abs().max())))


def test_maps_and_scores_are_the_authors(method, known, batch):
    white = Batch(images=batch.corrupted)
    with torch.no_grad():
        for level, student in enumerate(method.student(batch.corrupted)):
            close(student, known[f"eval/student/{level}"])
        close(
            method.segmentation(method.teacher(batch.corrupted), method.student(batch.corrupted)),
            known["eval/segmentation"],
        )
        maps, scores = finished(method, method.predict, white, ScoreConfig(channels_last=False))
    close(maps, known["eval/anomaly_map"])  # no blur
    close(scores, known["eval/image_score_top100"])
    _, maxima = finished(method, method.predict, white, ScoreConfig(channels_last=False, image_score="maximum"))
    assert torch.equal(maxima, maps.amax((1, 2)))


@pytest.mark.parametrize("phase", [0, 1])
def test_losses_and_gradients_are_the_authors(method, known, batch, phase):
    values = {0: ["phase1/cosine_loss"], 1: ["phase2/focal_loss", "phase2/l1_loss"]}[phase]
    trained, still = [method.student, method.segmentation][:: 1 - 2 * phase]
    trained.train()
    still.requires_grad_(False)
    loss = method(batch, PHASES[phase])
    assert loss.item() == pytest.approx(sum(known[f"train/{value}"].item() for value in values), rel=2e-6)
    loss.backward()
    theirs = [name.removeprefix("state/") for name in known if name.startswith("state/")]
    names = dict(zip(method.state_dict(), theirs, strict=True))
    gradients = {name: each.grad for name, each in method.named_parameters() if each.grad is not None}
    assert gradients.keys() == {name for name, each in method.named_parameters() if each.requires_grad}
    for name, gradient in gradients.items():
        expected = known[f"gradnorm/phase{phase + 1}/{names[name]}"].item()
        assert gradient.norm().item() == pytest.approx(expected, rel=1e-3, abs=1e-6), name
    total = torch.stack([gradient.norm() for gradient in gradients.values()]).norm().item()
    assert total == pytest.approx(known[f"gradnorm/phase{phase + 1}/total"].item(), rel=1e-4)


def test_parameters_and_multiply_adds_are_the_published_ones():
    features = FeaturesConfig("resnet18", "resnet18.tv_in1k", mode="live")
    calibration = CalibrationConfig(0.0, 0.01, 0)
    cost = model_cost(
        BenchmarkConfig("toys", "mvtec", FolderSplitConfig(), features, DeSTSegConfig(), ScoreConfig(), calibration)
    )
    assert (cost.parameters, cost.trainable) == (35_154_177, 32_371_393)
    assert round(cost.multiply_adds / 1e9, 2) == 38.44
    with torch.device("meta"):
        method = DeSTSeg(hollow_encoder(features).output(256), DeSTSegConfig())
    parts = (method.teacher, method.student.encoder, *method.student.decoder, method.segmentation)
    assert [sum(p.numel() for p in part.parameters()) for part in parts] == [
        *(2_782_784, 11_176_512),
        *(9_441_280, 3_082_752, 771_328, 193_152),
        7_706_369,
    ]
    inside = (method.segmentation.stage, method.segmentation.pyramid)
    assert [sum(p.numel() for p in part.parameters()) for part in inside] == [2_918_912, 4_196_864]
