"""Dinomaly against values made with its authors' code: tokens, features, map, score, loss, gradients, optimiser, schedule, sizes."""

import pytest
import torch
from reference_files import reference_arrays
from torch import nn

from invad.config import DinomalyConfig, ScoreConfig
from invad.features.batches import Batch
from invad.features.encoder import EncoderOutput, adapted, block_means, build_encoder
from invad.features.weights import load_weights
from invad.methods.base import Position
from invad.methods.dinomaly import CLIP, Dinomaly, StableAdamW
from invad.training.cost import count_multiply_adds

OUTPUT = EncoderOutput("dinov2", (24, 24), 56, (14, 14), 5)
GROUPS = ((1, 2), (3, 4))


@pytest.fixture(scope="module")
def known() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in reference_arrays("dinomaly_a").items()}


def close(one: torch.Tensor, two: torch.Tensor, tolerance: float = 3e-6) -> None:
    assert one.shape == two.shape
    torch.testing.assert_close(one, two, rtol=0, atol=tolerance * float(two.abs().max()))


@pytest.fixture(scope="module")
def encoder(known):
    from timm.models.vision_transformer import VisionTransformer

    network = VisionTransformer(
        56, 14, embed_dim=24, depth=6, num_heads=2, init_values=1.0, reg_tokens=4, no_embed_class=True, num_classes=0
    ).eval()
    network.prune_intermediate_layers([4], prune_norm=True)
    load_weights(network, adapted(part_of(known, "state/encoder."), 4), "dinomaly_a")
    return network


def part_of(known, prefix):
    return {name.removeprefix(prefix): value for name, value in known.items() if name.startswith(prefix)}


@pytest.fixture
def method(known):
    method = Dinomaly(OUTPUT, DinomalyConfig(blocks=4, head_width=12, map_size=32, dropout=0.0))
    state = {name.replace("bottleneck.0.", "bottleneck."): value for name, value in part_of(known, "state/").items()}
    method.load_state_dict({name: value for name, value in state.items() if not name.startswith("encoder.")})
    return method


@pytest.fixture
def batch(known, encoder):
    with torch.no_grad():
        return Batch(tuple(block_means(encoder, known["input/image"], GROUPS)))


def test_the_encoders_tokens_are_the_authors(known, encoder):
    with torch.no_grad():
        close(encoder._pos_embed(encoder.patch_embed(known["input/image"])), known["eval/tokens_before_block_0"])
        grid, prefix = block_means(encoder, known["input/image"], [[1]])
    tokens = torch.cat([prefix.flatten(2), grid.flatten(2)], dim=2).transpose(1, 2)
    close(tokens, known["eval/tokens_after_first_target_block"])


def test_features_map_and_score_are_the_authors(known, method, batch):
    method.eval()
    with torch.no_grad():
        found = method.reconstructions(batch)
        maps, scores = method.predict(batch, ScoreConfig())
    for level in range(2):
        close(batch.features[level], known[f"eval/encoder/{level}"])
        close(found[level], known[f"eval/decoder/{level}"])
    assert known["eval/image_score_pixels"] == int(0.01 * 32**2)
    close(maps, known["eval/anomaly_map"])
    close(scores, known["eval/image_score"])


@pytest.mark.parametrize("discarded", [0.0, 0.5, 0.9])
def test_loss_and_gradients_are_the_authors(known, method, batch, discarded):
    loss = method.train().mined_loss(batch, discarded)
    loss.backward()
    close(loss.detach(), known[f"train/{discarded}/loss"])
    for name, parameter in method.named_parameters():
        theirs = known[f"gradnorm/{discarded}/{name.replace('bottleneck.', 'bottleneck.0.')}"]
        torch.testing.assert_close(parameter.grad.norm(), theirs, rtol=1e-3, atol=1e-7)
    total = torch.stack([parameter.grad.norm() for parameter in method.parameters()]).norm()
    torch.testing.assert_close(total, known[f"gradnorm/{discarded}/total"], rtol=1e-4, atol=0)


def test_the_steps_of_the_optimiser_are_the_authors(known):
    parameters = [nn.Parameter(known[f"optimizer/start/{index}"].clone()) for index in range(2)]
    optimizer = StableAdamW(parameters, lr=0.0)
    for step, rate in enumerate(known["optimizer/learning_rates"].tolist()):
        optimizer.param_groups[0]["lr"] = rate
        for index, parameter in enumerate(parameters):
            parameter.grad = known[f"optimizer/gradients/{index}"][step].clone()
        optimizer.step()
        for index, parameter in enumerate(parameters):
            close(parameter.detach(), known[f"optimizer/after/{index}"][step])


def test_rates_follow_the_published_schedule(known, method):
    ((optimisation,),) = (phase.optimisations() for phase in method.phases())
    assert optimisation.clip == CLIP == 0.1
    found = [optimisation.rate(Position(0, step, 10_000, 0, 1)) for step in known["schedule/iteration"].tolist()]
    assert found == pytest.approx(known["schedule/learning_rate"].tolist(), rel=1e-9)


SIZES = {  # parameters of bottleneck, decoder block, both, and with the whole encoder
    "small": (1_181_568, 1_774_464, 15_377_280, 37_435_392),
    "base": (4_722_432, 7_087_872, 61_425_408, 148_008_960),
    "large": (8_393_728, 12_596_224, 109_163_520, 413_536_256),
}
LARGE = ((4, 6, 8, 10), (12, 14, 16, 18))


@pytest.mark.parametrize(
    ("size", "side", "multiply_adds"),
    [
        ("small", 392, 31.3),
        ("base", 252, 45.5),
        ("base", 280, 56.5),
        ("base", 392, 114.8),
        ("base", 448, 153.5),
        ("large", 392, 300.2),
    ],
)
def test_sizes_and_costs_are_the_published_ones(size, side, multiply_adds):
    """Built without memory or values."""
    import timm

    name = f"vit_{size}_patch14_reg4_dinov2"
    with torch.device("meta"):
        encoder = build_encoder(name, "none", LARGE if size == "large" else ((2, 3, 4, 5), (6, 7, 8, 9)), side)
        method = Dinomaly(encoder.output(side), DinomalyConfig()).eval()
        image = torch.empty(1, 3, side, side)
        features = Batch(tuple(torch.empty(1, *shape) for shape in encoder.output(side).shapes))
        whole = timm.create_model(name, num_classes=0)
    of_encoder = count_multiply_adds(lambda: encoder(image))
    of_method = count_multiply_adds(lambda: method.predict(features, ScoreConfig()))
    assert (of_encoder + of_method) / 1e9 == pytest.approx(multiply_adds, abs=0.05)
    trainable = parameters(method)
    # timm leaves out the class's position and the mask token.
    total = parameters(whole) + 2 * encoder.channels[0] + trainable
    assert (parameters(method.bottleneck), parameters(method.decoder[0]), trainable, total) == SIZES[size]


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
