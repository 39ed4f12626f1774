"""UniAD against values made with the network of the published comparison, and its published sizes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from reference_files import reference_arrays

from invad.config import ScoreConfig, UniADConfig
from invad.errors import InputError
from invad.features.batches import Batch
from invad.features.encoder import EncoderOutput
from invad.methods.base import Position
from invad.methods.uniad import DECAY, UniAD, imported_state, neighbours
from invad.scoring.score import finished
from invad.training.cost import count_multiply_adds

START = Position(0, 0, 1, 0, 1)
TINY = UniADConfig(layers=2, width=32, heads=4, feed_forward=64, mask=4)


STRIDES = (2, 4, 8, 16)
TOY = EncoderOutput("toy", (4, 6, 8, 12), 128, STRIDES)
B4 = EncoderOutput("tf_efficientnet_b4", (24, 32, 56, 160), 256, STRIDES)


def close(one: torch.Tensor, two: torch.Tensor) -> None:
    assert one.shape == two.shape
    torch.testing.assert_close(one, two, rtol=0, atol=1e-5 * max(1.0, float(two.abs().max())))


Known = dict[str, torch.Tensor]


def under(known: Known, prefix: str) -> Known:
    """What stands under a prefix, with our names."""
    return imported_state({name.removeprefix(prefix): each for name, each in known.items() if name.startswith(prefix)})


def tiny(**settings: float) -> tuple[UniAD, Known, Batch]:
    """The network of the reference values, these, and its input."""
    known = {key: torch.from_numpy(np.asarray(value)) for key, value in reference_arrays("uniad_a").items()}
    method = UniAD(TOY, replace(TINY, **settings))
    method.load_state_dict(under(known, "state/"))
    return method, known, Batch(tuple(known[f"input/{level}"] for level in range(4)))


@torch.no_grad()
def test_uniad_reconstructs_and_scores_as_published():
    method, known, batch = tiny()
    tokens = method.eval().tokens(batch)
    close(tokens.transpose(1, 2).unflatten(2, (8, 8)), known["aligned"])
    close(method.network.position(), known["position"])
    assert torch.equal(method.network.mask, known["masked"])
    close(method.network.memory(tokens), known["memory"])
    close(method.network(tokens).transpose(1, 2).unflatten(2, (8, 8)), known["reconstruction"])
    maps, scores = finished(method, method.predict, batch, ScoreConfig(channels_last=False))
    close(maps, known["anomaly_map"])
    close(scores, known["image_score"])


@pytest.mark.parametrize(("prefix", "jitter"), [("", 0.0), ("jitter/", 20.0)])
def test_uniads_loss_and_gradients_are_those_published(monkeypatch, prefix, jitter):
    method, known, batch = tiny(jitter=jitter)
    monkeypatch.setattr(Batch, "normal", lambda self, *shape: known["jitter/noise"].transpose(0, 1))
    loss = method.eval()(batch, START)  # the values are without dropout
    assert loss.item() == pytest.approx(known[f"{prefix}train_loss"].item(), rel=1e-5)
    loss.backward()
    expected = under(known, f"{prefix}gradnorm/")
    assert {name: parameter.grad.norm().item() for name, parameter in method.named_parameters()} == {
        name: pytest.approx(value.item(), rel=1e-4) for name, value in expected.items()
    }


def test_uniad_has_the_published_sizes():
    """7,779,344 parameters, and 2.123 G products, of which the publication leaves out q k' and counts norms at 5 a value."""
    with torch.device("meta"):
        method = UniAD(B4, UniADConfig()).eval()
        batch = Batch(tuple(torch.empty(1, *shape) for shape in B4.shapes))
        products = count_multiply_adds(lambda: method.predict(batch, ScoreConfig()))
        small = UniAD(replace(B4, image_size=224), UniADConfig())
    counts = [sum(p.numel() for p in part.parameters()) for part in (method, small, *method.network.encoder[:1])]
    assert counts == [7_779_344, 7_717_392, 789_760]
    assert sum(p.numel() for p in method.network.decoder[0].parameters()) == 1_118_976
    tokens, width = 256, 256
    assert products == 2_317_352_960
    assert products - 12 * tokens**2 * width + 21 * 5 * tokens * width == 2_122_907_648


def test_the_layers_of_uniad_begin_as_copies_but_for_their_linear_maps():
    torch.manual_seed(0)
    network = UniAD(TOY, TINY).network
    for one, two in (network.encoder, network.decoder):
        drawn = {name for name, each in two.named_parameters() if not torch.equal(each, one.get_parameter(name))}
        linear = {name for name, module in two.named_modules() if isinstance(module, torch.nn.Linear)}
        assert drawn == {f"{name}.weight" for name in linear}
        for name in linear:
            weight = two.get_submodule(name).weight
            assert weight.abs().max() <= (6 / sum(weight.shape)) ** 0.5
            assert two.get_submodule(name).bias.abs().max() == 0
    first, second = (getattr(network.decoder[0], name).in_proj_weight for name in ("self_attn", "multihead_attn"))
    assert not torch.equal(first, second)
    assert 0.9 < network.decoder[0].query.std() < 1.1
    assert 0 <= network.rows.min() < network.rows.max() <= 1


@pytest.mark.parametrize(("recipe", "clip", "late"), [("re-run", 5.0, 800), ("paper", 0.1, 801)])
def test_the_recipes_of_uniad(recipe, clip, late):
    (phase,) = UniAD(TOY, replace(TINY, recipe=recipe, epochs=1000)).phases()
    (optimisation,) = phase.optimisations()
    assert (phase.epochs, optimisation.clip) == (1000, clip)
    rates = [optimisation.rate(Position(0, 0, 1, epoch, 1000)) for epoch in range(1000)]
    assert rates == [pytest.approx(1e-4 if epoch < late else 1e-5) for epoch in range(1000)]
    decay = {p.ndim: group["weight_decay"] for group in optimisation.optimizer.param_groups for p in group["params"]}
    assert decay == {2: DECAY, 1: DECAY if recipe == "paper" else 0.0}


def test_what_a_token_does_not_see():
    middle = neighbours(16, 8).reshape(16, 16, 16, 16)
    assert [int(middle[r, c].sum()) for r, c in ((8, 8), (0, 8), (0, 0))] == [81, 45, 25]  # 9x9, not 8x8
    assert torch.equal(neighbours(14, 7), neighbours(14, 6))  # both 7x7
    assert not neighbours(4, 0).any()
    assert torch.equal(UniAD(B4, UniADConfig(layers=1)).network.mask, neighbours(16, 8))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"mask": 16}, r"^mask: 16 hides all of a grid of 16x16"), ({"width": 30, "heads": 4}, r"^width: 30 is no even")],
)
def test_sizes_of_uniad_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        UniAD(B4, UniADConfig(**settings))


def test_the_noise_is_of_seed_epoch_and_image_and_in_training_alone():
    method, _, batch = tiny()
    seeded = [replace(batch, seeds=((42, epoch, 0), (42, epoch, 1))) for epoch in (0, 0, 1)]
    one, again, other = (method.eval()(each, START).item() for each in seeded)
    assert one == again != other
    assert torch.equal(method.predict(seeded[0], ScoreConfig()).maps, method.predict(batch, ScoreConfig()).maps)


@pytest.mark.parametrize(
    ("strides", "size", "side", "hidden"),
    [((4, 8, 16), 128, 8, 4), ((14, 14, 14), 224, 16, 8), ((32,), 256, 8, 4), ((16, 32), 64, 2, 1)],
)
def test_uniad_takes_any_levels_onto_the_coarsest_grid(strides, size, side, hidden):
    torch.manual_seed(0)
    output = EncoderOutput("toy", tuple(range(3, 3 + len(strides))), size, strides)
    method = UniAD(output, replace(TINY, mask=None)).eval()
    batch = Batch(tuple(torch.randn(2, *shape) for shape in output.shapes), seeds=((1,), (2,)))
    tokens = method.tokens(batch)
    assert tokens.shape == (2, side**2, sum(output.channels))
    assert torch.equal(method.network.mask, neighbours(side, hidden))
    coarsest = batch.features[-1].flatten(2).transpose(1, 2)
    assert torch.equal(tokens[:, :, -output.channels[-1] :], coarsest)
    for level, corner in zip(batch.features, tokens[:, -1].split(output.channels, dim=1), strict=True):
        torch.testing.assert_close(corner, level[:, :, -1, -1])  # corners lie on corners
    method(batch, START).backward()
    maps, scores = method.predict(batch, ScoreConfig())
    assert maps.shape == (2, size, size)
    assert torch.isfinite(scores).all()
