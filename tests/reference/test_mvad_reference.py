"""MVAD against values made with its authors' network, and its published sizes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from reference_files import reference_arrays
from torch import nn

from invad.config import MVADConfig, ScoreConfig
from invad.features.batches import Batch
from invad.features.encoder import EncoderOutput
from invad.methods import mvad
from invad.methods.base import Position
from invad.methods.mvad import MVAD, MultiViewNetwork, imported_state
from invad.methods.mvas import Dropped, adaptive_selection, cut, windows_a_side
from invad.scoring.score import finished
from invad.training.cost import count_multiply_adds

START = Position(0, 0, 1, 0, 1)
TOY = EncoderOutput("toy", (8, 16, 32), 64)
RESNET34 = EncoderOutput("resnet34", (64, 128, 256), 256)
TINY = MVADConfig(windows=(5, 3, 3), chosen=(3, 2, 18))
BEFORE_A_NORM = {  # whose gradient is rounding
    "network.fusion.lateral.0.0.bias",
    "network.fusion.lateral.1.0.bias",
    "network.fusion.last.0.bias",
    "network.levels.1.blocks.1.norm2.bias",
    "network.levels.2.blocks.3.norm2.bias",
}
Known = dict[str, torch.Tensor]


def close(one: torch.Tensor, two: torch.Tensor, atol: float) -> None:
    assert one.shape == two.shape
    torch.testing.assert_close(one, two, rtol=0, atol=atol)


def under(known: Known, prefix: str) -> Known:
    """What stands under a prefix, with our names."""
    return imported_state({name.removeprefix(prefix): each for name, each in known.items() if name.startswith(prefix)})


@pytest.fixture
def tiny() -> tuple[MVAD, Known, Batch]:
    """The network of the reference values, these, and its input."""
    known = {key: torch.from_numpy(np.asarray(value)) for key, value in reference_arrays("mvad_a").items()}
    method = MVAD(TOY, TINY)
    method.network = MultiViewNetwork(TOY, TINY, decoder_blocks=(2, 2, 2))
    method.load_state_dict(under(known, "state/"))
    return method, known, Batch(tuple(known[f"input/{level}"] for level in range(3)), views=5)


@torch.no_grad()
def test_mvad_reconstructs_and_scores_as_published(tiny):
    method, known, batch = tiny
    method.eval()
    assert sum(parameter.numel() for parameter in method.parameters()) == 120_936
    close(method.network.embedded(batch.features, 5, Dropped()), known["embedding"], 5e-5)
    for level, output in enumerate(method.network(batch.features, 5, Dropped())):
        close(output, known[f"output/{level}"], 5e-5)
    maps, scores = finished(method, method.predict, batch, ScoreConfig(sigma=4.0))
    close(maps, known["anomaly_map"], 1e-6)
    close(scores, known["image_score"].float(), 1e-6)
    close(scores.unflatten(0, (2, 5)).amax(1), known["sample_score"].float(), 1e-6)


def test_mvads_loss_gradients_and_statistics_are_those_published(tiny, monkeypatch):
    method, known, batch = tiny
    monkeypatch.setattr(mvad, "DROPOUT", 0.0)
    loss = method.train()(batch, START)
    assert loss.item() == pytest.approx(known["train_loss"].item(), rel=1e-5)
    loss.backward()
    expected = under(known, "gradnorm/")
    found = {name: parameter.grad.norm().item() for name, parameter in method.named_parameters()}
    assert found.keys() == expected.keys()
    for name, value in found.items():
        if name in BEFORE_A_NORM:
            assert value < 1e-5 * max(found.values())
        else:
            assert value == pytest.approx(expected[name].item(), rel=1e-4), name
    state = method.state_dict()
    for name, value in under(known, "after/").items():
        close(state[name], value, 1e-5)


def test_windows_are_selected_as_published():
    known = {key: torch.from_numpy(value) for key, value in reference_arrays("mvad_a").items() if "mvas" in key}
    query, views = known["mvas/query"], known["mvas/views"]
    mixed = adaptive_selection(query, cut(views, 4), 4, 3, 8)
    close(mixed, known["mvas/output"], 5e-5)
    assert [windows_a_side(grid, 4) for grid in (64, 32, 16)] == [14, 9, 6]


def test_mvad_has_the_published_sizes():
    """17,803,392 parameters with the encoder, and the products of the seven blocks, of fusion and bottleneck and of the decoder."""
    with torch.device("meta"):
        method = MVAD(RESNET34, MVADConfig()).eval()
        features = [torch.empty(5, *shape) for shape in RESNET34.shapes]
        network = method.network
        sizes = [sum(p.numel() for p in part.parameters()) for part in (*network.levels, network.embedding, network)]
        one = torch.empty(5, 512, 8, 8)
        decoded = count_multiply_adds(lambda: network.decoder(one))
        levels = [
            count_multiply_adds(lambda level=level, x=x: level(x, 5, Dropped()))
            for level, x in zip(network.levels, features, strict=True)
        ]
        products = count_multiply_adds(lambda: method.predict(Batch(tuple(features), views=5), ScoreConfig()))
    assert sizes == [33_088 + 256, 2 * 131_712 + 1_024, 4 * 525_568 + 4_096, 939_520, 9_633_088]
    assert [sum(p.numel() for p in stage.parameters()) for stage in network.decoder] == [4_001_280, 1_296_640, 472_704]
    assert sizes[-1] + 8_170_304 == 17_803_392
    # Selection, attention, MLP of an image and block, as the published counts have them.
    side, grid, width = np.array([14, 9, 6]), np.array([64, 32, 16]), np.array([64, 128, 256])
    padded = np.array([70, 36, 18])
    selection, attention = 4 * side**4 * width, 2 * padded**2 * 4 * (padded // side) ** 2 * width
    assert [round(each / 1e6, 3) for each in selection] == [9.834, 3.359, 1.327]
    assert [round(each / 1e6, 2) for each in attention] == [62.72, 21.23, 5.97]
    of_block = selection + attention + 8 * grid**2 * width**2
    assert levels == (5 * np.array([1, 2, 4]) * of_block).tolist()
    published = {"to the bottleneck": 1.367e9, "decoder": 3.684e9}
    # Which counts 2 for each value of a batch norm and 5 of a layer norm as well, and 4 for each resized one.
    norms = _normalised(network, features)
    to_bottleneck = (products - decoded) / 5
    assert to_bottleneck + norms["before"] == pytest.approx(published["to the bottleneck"], rel=5e-4)
    assert decoded / 5 + norms["decoder"] == pytest.approx(published["decoder"], rel=5e-4)


def _normalised(network: MultiViewNetwork, features: list[torch.Tensor]) -> dict[str, float]:
    """What the published counts have for the norms, of an image."""
    counts = dict.fromkeys(("before", "decoder"), 0.0)

    def hook(kind: str, factor: int):
        def count(module, inputs, output):
            counts[kind] += factor * output.numel() / 5

        return count

    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            kind = "decoder" if name.startswith("decoder") else "before"
            module.register_forward_hook(hook(kind, 2 if isinstance(module, nn.BatchNorm2d) else 5))
    network(features, 5, Dropped())
    return counts


def test_the_recipe_of_mvad():
    (phase,) = MVAD(TOY, TINY).phases()
    (optimisation,) = phase.optimisations()
    assert (phase.epochs, optimisation.clip) == (100, 5.0)
    rates = [optimisation.rate(Position(0, 0, 1, epoch, 100)) for epoch in range(100)]
    assert rates == [pytest.approx(0.0125 if epoch < 80 else 0.00125) for epoch in range(100)]
    defaults = optimisation.optimizer.defaults
    assert (type(optimisation.optimizer).__name__, defaults["betas"], defaults["eps"]) == ("AdamW", (0.9, 0.999), 1e-8)
    for group in optimisation.optimizer.param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] == 1e-4}


@torch.no_grad()
@pytest.mark.parametrize("views", [2, 3, 5])
def test_the_order_of_views_changes_nothing_but_rounding(views):
    torch.manual_seed(0)
    method = MVAD(TOY, replace(TINY, chosen=(3, 2, 4))).eval()
    features = [torch.randn(2 * views, *shape).relu() for shape in TOY.shapes]
    order = torch.arange(2 * views).unflatten(0, (2, views)).flip(1).flatten()
    turned = method.network([level[order] for level in features], views, Dropped())
    for one, two in zip(method.network(features, views, Dropped()), turned, strict=True):
        close(one[order], two, 1e-5)
