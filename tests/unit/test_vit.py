"""Encoders whose levels are means over a ViT's blocks: tokens, groups, weights, position embedding by hand, and what is refused."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from invad.config import FeaturesConfig, InvADConfig, PatchCoreConfig, RDConfig, ScoreConfig
from invad.errors import InputError
from invad.features.batches import Batch
from invad.features.encoder import EncoderOutput, build_encoder, configured_encoder, position_embedding
from invad.methods import build_method
from invad.methods.invad.layers import UpsamplingConv2d

TINY = "test_vit3"  # timm's smallest: width 96, patches of 16, class token, 9 blocks
GROUPS = ((0, 1), (2, 4))


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(TINY, "none", GROUPS, 64)


def test_levels_are_the_means_of_the_blocks_outputs_before_the_norm(encoder):
    seen = []
    for block in encoder.network.blocks:
        block.register_forward_hook(lambda block, inputs, output: seen.append(output))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    features = encoder(images)
    assert len(seen) == 5  # no block behind the last one that is needed is run, or kept
    assert encoder.output(64) == EncoderOutput(TINY, (96, 96), 64, (16, 16), 1)
    assert [tuple(x.shape[1:]) for x in features] == list(encoder.output(64).shapes)
    for (one, two), grid, prefix in zip(GROUPS, features[:2], features[2:], strict=True):
        tokens = (seen[one] + seen[two]) / 2
        torch.testing.assert_close(prefix.squeeze(3), tokens[:, :1].transpose(1, 2))
        torch.testing.assert_close(grid[1, :, 2, 3], tokens[1, 1 + 2 * 4 + 3])


def test_weights_of_another_size_and_of_the_own_size_are_loaded(encoder, tmp_path):
    from safetensors.torch import save_file

    save_file(build_encoder(TINY, "none", GROUPS, 160).network.state_dict(), tmp_path / "large.safetensors")
    small = configured_encoder(FeaturesConfig(TINY, str(tmp_path / "large.safetensors"), 64, levels=GROUPS))
    large = build_encoder(TINY, str(tmp_path / "large.safetensors"), GROUPS, 160)
    names = [name for name, tensor in small.network.state_dict().items() if name != "pos_embed"]
    assert all(torch.equal(small.network.state_dict()[name], large.network.state_dict()[name]) for name in names)
    expected = position_embedding(large.network.pos_embed, 4)
    assert torch.equal(small.network.pos_embed, expected)
    save_file(small.network.state_dict(), tmp_path / "small.safetensors")
    again = build_encoder(TINY, str(tmp_path / "small.safetensors"), GROUPS, 64)
    assert again.weights_sha256 == small.weights_sha256 != encoder.weights_sha256


def test_the_position_embedding_is_resized_by_the_scale_that_dinov2_takes():
    stored = torch.randn(1, 1 + 37**2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = position_embedding(stored, 28)
    assert torch.equal(found[:, 0], stored[:, 0])
    assert torch.equal(position_embedding(stored, 37), stored)
    planes = stored[:, 1:].transpose(1, 2).unflatten(2, (37, 37))
    # Keys' cubic (a = -0.75) at the place that belongs to row 10, column 20.
    value = torch.zeros(3, dtype=torch.float64)
    places = [(index + 0.5) * 37 / 28.1 - 0.5 for index in (10, 20)]
    for row in range(math.floor(places[0]) - 1, math.floor(places[0]) + 3):
        for column in range(math.floor(places[1]) - 1, math.floor(places[1]) + 3):
            value += cubic(places[0] - row) * cubic(places[1] - column) * planes[0, :, row, column]
    torch.testing.assert_close(found[0, 1 + 10 * 28 + 20], value, rtol=1e-9, atol=1e-9)
    to_size = functional.interpolate(planes, (28, 28), mode="bicubic").flatten(2).transpose(1, 2)
    assert (found[:, 1:] - to_size).abs().max() > 0.01


def cubic(x: float, a: float = -0.75) -> float:
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


@pytest.mark.parametrize(
    ("name", "levels", "size", "message"),
    [
        (
            "resnet18",
            GROUPS,
            64,
            "levels: groups of blocks are for ViTs of timm, which resnet18 is not; it takes strides",
        ),
        (TINY, ((0,), (30,)), 64, f"levels: {TINY} has no block 30; its last one is 8"),
        (TINY, GROUPS, 72, "image_size: must be a multiple of 16, such as 64 or 80"),
        (TINY, (4, 8, 16), 64, r"no features at stride 4, only at \[16\]; levels of a ViT are groups of its blocks"),
    ],
)
def test_what_is_no_level_of_a_vit_is_named(name, levels, size, message):
    with pytest.raises(InputError, match=message):
        build_encoder(name, "none", levels, size)


def test_without_a_network_the_file_and_its_place_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    tag = "vit_small_patch14_reg4_dinov2.lvd142m"
    with pytest.raises(InputError, match=rf"model\.safetensors of https://huggingface\.co/timm/{tag} where you like"):
        build_encoder(tag.split(".")[0], tag, GROUPS, 56)


@pytest.mark.parametrize(
    "config", [InvADConfig(style_channels=8, latent_channels=4, blocks=1), RDConfig(), PatchCoreConfig(dimensions=16)]
)
def test_methods_take_levels_that_share_a_grid_and_leave_their_prefix_tokens(config, encoder):
    output = encoder.output(64)
    method = build_method(output, config).eval()
    assert method.needs.tensors(output) == (0, 1)
    features = encoder(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert method.predict(Batch(tuple(features[:2])), ScoreConfig()).maps.shape[0] == 2
    doubling = [module for module in method.modules() if isinstance(module, UpsamplingConv2d | nn.ConvTranspose2d)]
    assert len(doubling) == (2 if config.model == "rd" else 0)  # RD's embedding is on half of the coarsest grid
    if config.model != "patchcore":
        assert [x.shape for x in method.network(features[:2])] == [x.shape for x in features[:2]]


@pytest.mark.parametrize("config", [InvADConfig(), RDConfig()])
def test_levels_whose_grids_neither_agree_nor_double_are_refused(config):
    with torch.device("meta"), pytest.raises(InputError, match="levels: each"):
        build_method(EncoderOutput("resnet18", (64, 256), 64, (4, 16)), config)
