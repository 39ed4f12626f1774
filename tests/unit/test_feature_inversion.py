"""The network of InvAD: sizes, initial values, modulation, ablation switches, a golden loss curve."""

import math

import numpy as np
import pytest
import torch
from golden_curve import GOLDEN, loss_curve
from networks import TINY, network, random_features, seeded
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from invad.config import InvADConfig, ScoreConfig
from invad.errors import InputError
from invad.features.batches import Batch
from invad.features.encoder import EncoderOutput
from invad.methods.base import Position
from invad.methods.invad.layers import (
    ActivatedSum,
    FirBlur,
    LayerNormModulation,
    ResidualBlock,
    SpaceAwareConv2d,
    StyleModulation,
    UpsamplingConv2d,
)
from invad.methods.invad.network import FeatureInversion, InvAD
from invad.methods.maps import reconstruction_loss

INVAD = {"channels": (256, 512, 1024), "style_channels": 64, "latent_channels": 16, "blocks": 2, "constant_size": 16}
INVAD_LITE = {**INVAD, "channels": (64, 128, 256), "blocks": 4}

ABLATIONS = [
    {"modulation": "global"},
    {"modulation": "none"},
    {"modulation_terms": "gamma"},
    {"modulation_terms": "beta"},
    {"normalisation": "instance"},
    {"normalisation": "batch"},
    {"normalisation": "group"},
    {"normalisation": "none"},
    {"upsampler": "resize"},
    {"style_translator": False},
    {"aggregation": "average"},
    {"aggregation": "per-level"},
    {"aggregation": "per-level", "upsampler": "resize"},
    {"upsampler": "resize", "style_translator": False, "modulation": "global"},
]


def on_meta(**settings):
    with torch.device("meta"):
        return network(**settings)


def parameter_count(*modules):
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def style_settings(channels=5, modulation="space-aware", terms="both", normalisation="layer"):
    return channels, InvADConfig(modulation=modulation, modulation_terms=terms, normalisation=normalisation)


@pytest.mark.parametrize(
    ("settings", "before_style", "from_style"),
    [(INVAD, 3_492_032, 67_276_528), (INVAD_LITE, 452_864, 8_523_376)],
    ids=["invad", "invad-lite"],
)
def test_parameter_counts_are_the_papers(settings, before_style, from_style):
    model = on_meta(**settings)
    assert parameter_count(model.aggregation, model.upsampler) == before_style
    assert parameter_count(model.style_translator, model.decoder) == from_style
    assert parameter_count(model) == before_style + from_style


@pytest.mark.parametrize(
    ("settings", "before_style", "from_style"),
    [(INVAD, 1.092e9, 32.268e9), (INVAD_LITE, 0.314e9, 5.014e9)],
    ids=["invad", "invad-lite"],
)
def test_multiply_adds_are_the_papers(settings, before_style, from_style):
    model = on_meta(**settings)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(random_features(model, batch=1, device="meta"))
    totals = {name: sum(flops.values()) / 2 for name, flops in counter.get_flop_counts().items()}
    blurs = {name for name, module in model.named_modules() if isinstance(module, FirBlur)}

    def multiply_adds(part):
        blurring = sum(totals[f"FeatureInversion.{name}"] for name in blurs if name.startswith(part))
        return totals[f"FeatureInversion.{part}"] - blurring  # the published numbers leave the blur out

    assert multiply_adds("aggregation") + multiply_adds("upsampler") == pytest.approx(before_style, rel=0.005)
    assert multiply_adds("style_translator") + multiply_adds("decoder") == pytest.approx(from_style, rel=0.005)


def test_biases_start_where_the_paper_starts_them():
    model = seeded(**TINY)
    for name, parameter in model.named_parameters():
        if name.endswith("gamma.bias"):
            assert (parameter == 1).all(), name
        elif name.endswith(("beta.bias", "activation.bias")):
            assert (parameter == 0).all(), name
    modulated = [name for name, _ in model.named_parameters() if name.endswith("gamma.bias")]
    assert len(modulated) == 3 * 2 * 2 - 2  # two per block, but not in the two convolutions that upsample


def test_equalised_weights_start_standard_normal_and_the_upsamplers_a_hundred_times_as_wide():
    model = seeded(**INVAD_LITE)
    decoder_weight = model.decoder.levels[0][0].ssm1.convolution.weight
    upsampling = [stage[0].convolution for stage in model.upsampler.stages[1:]]
    assert decoder_weight.std().item() == pytest.approx(1, rel=0.02)
    assert model.decoder.constant.std().item() == pytest.approx(1, rel=0.02)
    for convolution in upsampling:
        assert isinstance(convolution, UpsamplingConv2d)
        assert convolution.weight.std().item() == pytest.approx(100, rel=0.02)
        assert convolution.scale == pytest.approx(0.01 / math.sqrt(64 * 9))


def test_equal_seeds_give_equal_networks():
    first, second, third = seeded(1, **TINY), seeded(1, **TINY), seeded(2, **TINY)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.decoder.constant, third.decoder.constant)


def test_outputs_have_the_shapes_of_the_features_for_any_number_of_levels():
    for channels in [(8, 16), (8, 12, 16, 20)]:
        model = seeded(channels=channels, style_channels=8, latent_channels=4, blocks=1, constant_size=2)
        features = random_features(model)
        assert [y.shape for y in model(features)] == [x.shape for x in features]


def test_upsampling_doubles_the_grid_and_keeps_a_constant_away_from_the_border():
    # A 1x1 kernel of 1/scale passes a constant on; each output takes 4 of the 16 taps, which sum to 1.
    convolution = UpsamplingConv2d(1, 1, 1)
    with torch.no_grad():
        convolution.weight.fill_(1 / convolution.scale)
        y = convolution(torch.ones(1, 1, 6, 6))
    assert y.shape == (1, 1, 12, 12)
    torch.testing.assert_close(y[..., 1:-1, 1:-1], torch.ones(1, 1, 10, 10))


@pytest.mark.parametrize(
    ("modulation", "changed"), [("space-aware", [(r, c) for r in (3, 4, 5) for c in (6, 7, 8)]), ("global", "all")]
)
def test_a_local_style_change_acts_locally_with_space_aware_modulation_only(modulation, changed):
    torch.manual_seed(0)
    layer = StyleModulation(4, *style_settings(modulation=modulation))
    x, style = torch.randn(1, 4, 10, 10), torch.randn(1, 5, 10, 10)
    other = style.clone()
    other[:, :, 4, 7] += 1
    with torch.no_grad():
        (gamma, beta), (other_gamma, other_beta) = layer(style), layer(other)
        difference = (x * gamma + beta - (x * other_gamma + other_beta)).abs().amax(dim=(0, 1))
    everywhere = [(r, c) for r in range(10) for c in range(10)]
    assert [tuple(place) for place in difference.nonzero().tolist()] == (everywhere if changed == "all" else changed)


@pytest.mark.parametrize("upsample", [False, True])
def test_ssm_equals_one_weight_per_sample_in_a_grouped_convolution(upsample):
    torch.manual_seed(0)
    layer = SpaceAwareConv2d(6, 8, *style_settings(), upsample=upsample).double()
    x, style = torch.randn(3, 6, 8, 8).double(), torch.randn(3, 5, 8, 8).double()
    with torch.no_grad():
        expected = naive_ssm(layer, x, style, upsample)
        torch.testing.assert_close(layer(x, style), expected, rtol=0, atol=1e-12)


def test_layer_norm_modulation_has_the_gradients_of_its_parts():
    torch.manual_seed(0)
    x, gamma, beta = (torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True) for _ in range(3))
    torch.autograd.gradcheck(LayerNormModulation.apply, (x, gamma, beta))
    expected = functional.layer_norm(x, x.shape[1:]) * gamma + beta
    torch.testing.assert_close(LayerNormModulation.apply(x, gamma, beta), expected)


def test_the_activated_sum_and_the_blur_have_the_gradients_of_their_parts():
    torch.manual_seed(0)
    x, y = (torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    torch.autograd.gradcheck(ActivatedSum.apply, (x, y))
    expected = (functional.leaky_relu(x, 0.2) + y) / math.sqrt(2)
    torch.testing.assert_close(ActivatedSum.apply(x, y), expected)
    for padding in (1, 2):
        torch.autograd.gradcheck(FirBlur(padding).double(), x)


def test_a_block_keeps_little_for_the_backward_pass():
    """Per SSM convolution its input, gamma and the modulated input, and the signs of the block's result."""
    block = ResidualBlock(8, 8, *style_settings())
    x, style = torch.randn(4, 8, 16, 16, requires_grad=True), torch.randn(4, 5, 16, 16)
    kept: dict[int, int] = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        block(x, style)
    large = [size for size in kept.values() if size == x.numel() * 4]
    assert len(large) == 6
    assert x.numel() in kept.values()  # a byte each


def naive_ssm(layer, x, style, upsample):
    """The convolution as StyleGAN2 writes it: weights repeated per sample, samples folded into groups."""
    batch, channels, height, width = x.shape
    x = functional.layer_norm(x, x.shape[1:])
    if not upsample:
        x = x * layer.modulation.gamma(style) + layer.modulation.beta(style)
    weight = (layer.convolution.weight / math.sqrt(channels * 9)).repeat(batch, 1, 1, 1)
    x = x.reshape(1, batch * channels, height, width)
    if upsample:
        weight = weight.reshape(batch, -1, channels, 3, 3).transpose(1, 2).reshape(batch * channels, -1, 3, 3)
        y = functional.conv_transpose2d(x, weight, stride=2, groups=batch)
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype) / 4
        kernel = (taps[:, None] * taps).expand(y.shape[1], 1, 4, 4)
        y = functional.conv2d(y, kernel, padding=1, groups=y.shape[1])
    else:
        y = functional.conv2d(x, weight, padding=1, groups=batch)
    y = y.reshape(batch, -1, *y.shape[2:]) + layer.activation.bias[:, None, None]
    return torch.where(y > 0, y, 0.2 * y) * math.sqrt(2)


@pytest.mark.parametrize("ablation", ABLATIONS, ids=str)
def test_every_ablation_trains_all_its_parameters_and_is_not_the_default(ablation):
    default, model = seeded(**TINY), seeded(**TINY, **ablation)
    with torch.no_grad():  # give both the weights they share, so that a difference comes from the switch
        own = model.state_dict()
        for name, value in default.state_dict().items():
            if name in own and own[name].shape == value.shape:
                own[name].copy_(value)
    features = random_features(default)
    outputs = model(features)
    reconstruction_loss(features, outputs).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    with torch.no_grad():
        for output, expected in zip(outputs, default(features), strict=True):
            assert output.shape == expected.shape
            assert (output - expected).abs().max() > 1e-2


def test_every_parameter_of_the_default_gets_a_gradient():
    model = seeded(**TINY)
    features = random_features(model)
    reconstruction_loss(features, model(features)).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_without_modulation_the_output_ignores_the_input():
    model = seeded(**TINY, modulation="none").eval()
    with torch.no_grad():
        first, second = model(random_features(model, seed=0)), model(random_features(model, seed=1))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_group_normalisation_is_neither_layer_nor_instance_normalisation():
    for channels, groups in [(4, 2), (24, 12), (64, 32), (96, 32), (7 * 5, 7)]:
        layer = SpaceAwareConv2d(channels, 4, *style_settings(normalisation="group"))
        assert layer.normalisation.num_groups == groups
    with pytest.raises(InputError, match="13 channels"):
        SpaceAwareConv2d(13, 4, *style_settings(normalisation="group"))


def test_loss_is_the_weighted_sum_of_the_levels_mean_squares():
    features = [torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 2, 2)]
    reconstructions = [torch.full((2, 3, 4, 4), 2.0), torch.full((2, 5, 2, 2), 3.0)]
    assert reconstruction_loss(features, reconstructions).item() == 4 + 9
    assert reconstruction_loss(features, reconstructions, weight=5).item() == 5 * (4 + 9)
    halves = [x.half() for x in features], [y.half() for y in reconstructions]
    assert reconstruction_loss(*halves).dtype == torch.float32


def test_the_other_losses_are_absolute_errors_and_cosines_of_whole_levels():
    features = [torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 2, 2)]
    reconstructions = [torch.full((2, 3, 4, 4), -2.0), torch.full((2, 5, 2, 2), 3.0)]
    assert reconstruction_loss(features, reconstructions, weight=2, kind="l1").item() == 2 * (2 + 3)
    level = torch.ones(2, 3, 4, 4)
    half_turned = torch.cat([level[:, :, :2], -level[:, :, 2:]], dim=2)  # orthogonal as a whole, at no position
    assert reconstruction_loss([level, level], [half_turned, -5 * level], kind="cosine").item() == pytest.approx(1 + 2)


def test_the_local_cosine_is_that_of_every_place():
    level = torch.ones(2, 3, 4, 4)
    half_turned = torch.cat([level[:, :, :2], -level[:, :, 2:]], dim=2)
    losses = reconstruction_loss([level, level], [half_turned, 5 * level], weight=2, kind="local-cosine")
    assert losses.item() == pytest.approx(2 * (1 + 0))


def level_batch(seed, scale=1.0):
    """Features of another size and offset in each channel."""
    generator = torch.Generator().manual_seed(seed)
    levels = [
        torch.randn(4, width, size, size, generator=generator) * torch.arange(1, width + 1)[:, None, None] * scale + 7
        for width, size in zip(TINY["channels"], (16, 8, 4), strict=True)
    ]
    return Batch(tuple(levels))


def test_standardised_levels_are_those_of_the_batch_in_training_and_of_all_batches_afterwards():
    torch.manual_seed(0)
    config = InvADConfig(style_channels=16, latent_channels=8, blocks=1, standardised=True)
    method = InvAD(EncoderOutput("mobilenetv2_100", TINY["channels"], 64), config)
    batches = [level_batch(seed) for seed in range(3)]
    for batch in batches:
        loss = method.loss(batch, Position(0, 0, 1, 0, 1))
        own = [functional.batch_norm(level, None, None, training=True) for level in batch.features]
        expected = reconstruction_loss(own, method.network(own), config.loss_weight, "l2")
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    means = torch.stack([batch.features[0].mean(dim=(0, 2, 3)) for batch in batches]).mean(dim=0)
    torch.testing.assert_close(method.standards[0].running_mean, means)
    # A channel times a factor, in training and prediction, changes nothing.
    scaled = InvAD(EncoderOutput("mobilenetv2_100", TINY["channels"], 64), config)
    scaled.load_state_dict(method.state_dict())
    for standard in scaled.standards:
        standard.running_mean.mul_(100)
        standard.running_var.mul_(100**2)
    ours, theirs = method.eval(), scaled.eval()
    times = Batch(tuple(level * 100 for level in batches[0].features))
    with torch.no_grad():
        maps, same = (one.predict(seen, ScoreConfig()).maps for one, seen in ((ours, batches[0]), (theirs, times)))
    torch.testing.assert_close(maps, same, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("change", [{}, {"loss": "l1"}, {"loss": "cosine"}, *ABLATIONS], ids=str)
def test_the_method_builds_and_trains_what_its_settings_say(change):
    config = InvADConfig(style_channels=16, latent_channels=8, blocks=1, **change)
    torch.manual_seed(0)
    method = InvAD(EncoderOutput("mobilenetv2_100", TINY["channels"], 64), config)
    torch.manual_seed(0)
    network_alone = FeatureInversion(TINY["channels"], (16, 8, 4), config)
    shapes, expected = ({n: t.shape for n, t in each.state_dict().items()} for each in (method.network, network_alone))
    assert shapes == expected
    features = [torch.randn(2, width, size, size) for width, size in zip(TINY["channels"], (16, 8, 4), strict=True)]
    reconstructions = method.network(features)
    expected = reconstruction_loss(features, reconstructions, config.loss_weight, change.get("loss", "l2"))
    loss = method.loss(Batch(tuple(features)), Position(0, 0, 1, 0, 1))
    assert loss.item() == expected.item()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


def test_reconstructions_of_other_shapes_are_refused():
    fine = torch.zeros(2, 3, 4, 4)
    with pytest.raises(InputError, match=r"^reconstructions: "):
        reconstruction_loss([fine], [fine[:1]])


def test_loss_curve_is_the_golden_one():
    np.testing.assert_allclose(loss_curve(), np.loadtxt(GOLDEN), rtol=1e-4)
