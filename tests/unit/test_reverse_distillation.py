"""Reverse Distillation: the network's published size, its shapes and gradients, loss and map by hand, the recipe."""

import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from invad.config import RDConfig
from invad.errors import InputError
from invad.features.batches import Batch
from invad.methods import EncoderOutput
from invad.methods.base import Position
from invad.methods.maps import gaussian_blur, reconstruction_loss
from invad.methods.rd import RD, ReverseDistillation
from invad.methods.residual import summed_distances

TINY = (8, 12, 16)
WIDE_RESNET50_2 = (256, 512, 1024)


def random_features(channels, coarsest=4, batch=2, seed=0, device="cpu"):
    """Non-negative, as a ResNet's are."""
    generator = None if device == "meta" else torch.Generator().manual_seed(seed)
    sizes = [coarsest * 2**level for level in reversed(range(len(channels)))]
    return [
        torch.randn(batch, c, n, n, generator=generator, device=device).relu()
        for c, n in zip(channels, sizes, strict=True)
    ]


def seeded(channels=TINY, block="basic", **settings):
    torch.manual_seed(0)
    return ReverseDistillation(channels, block, **settings)


def on_meta(channels, block):
    with torch.device("meta"):
        return ReverseDistillation(channels, block)


def tiny_rd(encoder="resnet18", channels=TINY, image_size=64, **settings):
    torch.manual_seed(0)
    return RD(EncoderOutput(encoder, channels, image_size), RDConfig(**settings))


def cosine_loss(features, reconstructions):
    return reconstruction_loss(features, reconstructions, kind="cosine")


def anomaly_map(features, reconstructions, size, sigma):
    return gaussian_blur(summed_distances(features, reconstructions, size), sigma)


def optimisation_of(method):
    ((optimisation,),) = (phase.optimisations() for phase in method.phases())
    return optimisation


def position(epoch, epochs=100):
    return Position(0, epoch, epochs, epoch, epochs)


def column(*values):
    """One sample with the vector `values` at its one position."""
    return torch.tensor(values).reshape(1, -1, 1, 1)


def test_parameter_count_is_the_published_one():
    model = on_meta(WIDE_RESNET50_2, "wide-bottleneck")
    assert sum(parameter.numel() for parameter in model.parameters()) == 80_609_600 - 24_862_528  # without the encoder


def test_multiply_adds_are_the_published_ones():
    model = on_meta(WIDE_RESNET50_2, "wide-bottleneck").eval()
    normalised = []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda module, inputs, output: normalised.append(output.numel()))
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(random_features(WIDE_RESNET50_2, coarsest=16, batch=1, device="meta"))
    # The published number counts BatchNorm, two a value. Both it and the encoder's part are rounded to 0.001 G.
    assert counter.get_total_flops() / 2 + 2 * sum(normalised) == pytest.approx(28.435e9 - 12.034e9, abs=1e6)


@pytest.mark.parametrize(
    ("channels", "block"),
    [
        ((24, 32, 96), "basic"),  # mobilenetv2_100
        ((64, 128, 256), "basic"),  # resnet18, resnet34
        ((256, 512, 1024), "bottleneck"),  # resnet50
        ((256, 512, 1024), "wide-bottleneck"),  # wide_resnet50_2
        ((16, 8), "basic"),
        ((1, 2, 3, 4), "bottleneck"),
    ],
)
def test_reconstructions_have_the_shapes_of_the_features(channels, block):
    features = random_features(channels, device="meta")
    reconstructions = on_meta(channels, block)(features)
    assert [y.shape for y in reconstructions] == [x.shape for x in features]


def test_grids_need_not_be_square():
    features = [torch.ones(2, c, 8 * n, 24 * n) for c, n in zip(TINY, (4, 2, 1), strict=True)]
    assert [y.shape for y in seeded()(features)] == [x.shape for x in features]


@pytest.mark.parametrize(
    ("block", "convolutions", "embedding_width", "decoder_width"),
    [("basic", 2, 1024, 512), ("bottleneck", 3, 256, 128), ("wide-bottleneck", 3, 256, 256)],
)
def test_blocks_mirror_the_encoders(block, convolutions, embedding_width, decoder_width):
    model = on_meta((256, 512), block)
    for resnet_block, width in ((model.embedding[0], embedding_width), (model.decoder[0][0], decoder_width)):
        layers = [m for m in resnet_block.body if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
        assert (len(layers), layers[0].out_channels) == (convolutions, width)


def test_the_decoder_has_3_4_and_6_blocks_from_coarse_to_fine():
    assert [len(stage) for stage in on_meta(TINY, "basic").decoder] == [3, 4, 6]


def test_convolutions_start_kaiming_normal_and_batch_norms_as_the_identity():
    model = seeded((64, 128), "basic")
    assert model.fusion[0][0].weight.std().item() == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.02)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms)


@pytest.mark.parametrize("block", ["basic", "bottleneck", "wide-bottleneck"])
@pytest.mark.parametrize("signed", [False, True])
def test_every_parameter_gets_a_finite_gradient(block, signed):
    model = seeded((8, 16, 16), block, signed=signed)
    features = random_features(model.channels)
    cosine_loss(features, model(features)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_reconstructions_are_negative_only_where_features_can_be():
    features = random_features(TINY)
    assert all((y >= 0).all() for y in tiny_rd("resnet18").network(features))
    assert all((y < 0).any() for y in tiny_rd("mobilenetv2_100").network(features))  # its blocks end without activation


def test_loss_is_the_sum_over_levels_of_the_batch_mean_of_one_minus_cosine():
    features = [torch.cat([column(1.0, 0.0), column(1.0, 0.0)]), torch.cat([column(2.0), column(5.0)])]
    reconstructions = [torch.cat([column(0.0, 7.0), column(3.0, 3.0)]), torch.cat([column(-1.0), column(5.0)])]
    expected = (1 + (1 - math.sqrt(0.5))) / 2 + (2 + 0) / 2
    assert cosine_loss(features, reconstructions).item() == pytest.approx(expected)


def test_loss_takes_a_level_as_one_vector():
    # Each position alone has cosine 1; (3, 4) and (4, 3) have 24/25.
    feature, reconstruction = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[4.0, 3.0]]]])
    assert cosine_loss([feature], [reconstruction]).item() == pytest.approx(1 - 24 / 25)


def test_map_is_the_sum_of_the_levels_distances():
    # Orthogonal on the fine level (distance 1), opposite on the coarse one (distance 2).
    features = [column(2.0, 0.0).expand(2, 2, 4, 4), column(1.0, 1.0, 1.0).expand(2, 3, 2, 2)]
    reconstructions = [column(0.0, 5.0).expand(2, 2, 4, 4), -3 * features[1]]
    for sigma in (0, 4):
        maps = anomaly_map(features, reconstructions, size=16, sigma=sigma)
        torch.testing.assert_close(maps, torch.full((2, 16, 16), 3.0))


def test_map_aligns_the_corners():
    # Distances 0 and 1 from left to right on a 2-pixel grid are 0, 1/4, 1/2, 3/4, 1 at 5 pixels.
    features = column(1.0, 0.0).expand(1, 2, 2, 2)
    reconstruction = torch.cat([column(1.0, 0.0), column(0.0, 1.0)], dim=3).expand(1, 2, 2, 2)
    maps = anomaly_map([features], [reconstruction], size=5, sigma=0)
    torch.testing.assert_close(maps, torch.linspace(0, 1, 5).expand(1, 5, 5))


def test_zero_features_are_no_division_by_zero():
    zeros = [torch.zeros(1, 4, 2, 2)]
    assert cosine_loss(zeros, zeros).item() == 1
    torch.testing.assert_close(anomaly_map(zeros, zeros, size=4, sigma=0), torch.ones(1, 4, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_loss_and_map_are_float32_under_half_precision(dtype):
    features, reconstructions = ([x.to(dtype) for x in random_features(TINY, seed=seed)] for seed in (0, 1))
    widened = [x.float() for x in features], [y.float() for y in reconstructions]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = cosine_loss(features, reconstructions)
        maps = anomaly_map(features, reconstructions, size=32, sigma=2)
    assert loss.dtype == maps.dtype == torch.float32
    assert torch.equal(loss, cosine_loss(*widened))
    assert torch.equal(maps, anomaly_map(*widened, size=32, sigma=2))


def test_other_shapes_of_reconstructions_are_refused():
    features = random_features(TINY)
    for reconstructions in (features[:2], [x[:1] for x in features]):
        with pytest.raises(InputError, match=r"^reconstructions: "):
            cosine_loss(features, reconstructions)
        with pytest.raises(InputError, match=r"^reconstructions: "):
            anomaly_map(features, reconstructions, size=16, sigma=0)


def test_the_recipe_is_the_papers():
    method = tiny_rd()
    optimisation = optimisation_of(method)
    (group,) = optimisation.optimizer.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.005, (0.5, 0.999), 0)
    assert {optimisation.rate(position(epoch)) for epoch in range(100)} == {0.005}
    assert optimisation.clip == math.inf


def test_the_recipe_of_the_re_run_clips_and_ends_with_a_tenth_of_the_rate():
    optimisation = optimisation_of(tiny_rd(recipe="re-run"))
    assert [optimisation.rate(position(epoch)) for epoch in (0, 79, 80, 99)] == [0.005, 0.005, 0.0005, 0.0005]
    assert optimisation.clip == 5.0


@pytest.mark.parametrize("encoder", ["mobilenetv2_100", "resnet50", "wide_resnet50_2"])
@pytest.mark.slow
def test_training_lowers_the_loss(encoder):
    method = tiny_rd(encoder).train()
    features = random_features(TINY)
    optimiser = optimisation_of(method).optimizer
    losses = []
    for _ in range(20):
        loss = method(Batch(tuple(features)), position(0))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
