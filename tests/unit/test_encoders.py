"""The frozen encoder and its packaged weights; no download anywhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from invad.errors import InputError
from invad.features import weights as packages
from invad.features.encoder import build_encoder, normalize
from invad.features.weights import packaged_weights


@pytest.fixture(scope="module")
def packaged():
    return build_encoder("mobilenetv2_100", "packaged")


@pytest.mark.parametrize(
    ("name", "channels"),
    [("mobilenetv2_100", (24, 32, 96)), ("resnet18", (64, 128, 256)), ("resnet34", (64, 128, 256))],
)
@pytest.mark.slow
def test_every_encoder_gives_frozen_features_of_strides_4_8_16(name, channels):
    encoder = build_encoder(name, "none")
    features = encoder(torch.zeros(2, 3, 64, 96))
    assert encoder.channels == channels
    assert [tuple(level.shape) for level in features] == [
        (2, width, 64 // stride, 96 // stride) for width, stride in zip(channels, (4, 8, 16), strict=True)
    ]
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder.train().training  # BatchNorm keeps its statistics, whoever asks


@pytest.mark.slow
def test_nothing_behind_stride_16_is_kept(packaged):
    # method.md: "the encoder stops after stride 16"; of mobilenetv2's seven stages the last two lie behind it.
    assert len(packaged.network.blocks) == 5
    resnet34 = build_encoder("resnet34", "none")
    assert sum(parameter.numel() for parameter in resnet34.parameters()) == 8_170_304  # 8.170 M in the paper's count


def test_packaged_weights_are_imagenets_not_random(packaged):
    random = build_encoder("mobilenetv2_100", "none")
    assert packaged.weights_sha256 != random.weights_sha256
    assert packaged.weights_sha256 == build_encoder("mobilenetv2_100").weights_sha256
    # Trained BatchNorm has seen data: its running variance is not the initial one.
    assert not torch.allclose(packaged.network.bn1.running_var, torch.ones(32))


@pytest.mark.slow
def test_weights_from_a_file_are_the_same_features(packaged, tmp_path):
    state = {name: tensor.contiguous() for name, tensor in packaged.network.state_dict().items()}
    save_file(state, tmp_path / "encoder.safetensors")
    from_file = build_encoder("mobilenetv2_100", str(tmp_path / "encoder.safetensors"))
    assert from_file.weights_sha256 == packaged.weights_sha256
    resnet = build_encoder("resnet18", "none")
    state = resnet.network.state_dict()
    torch.save(state | {"fc.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    assert build_encoder("resnet18", str(tmp_path / "resnet.pth")).weights_sha256 == resnet.weights_sha256
    del state["bn1.bias"]
    torch.save(state, tmp_path / "resnet.pth")
    with pytest.raises(
        InputError, match=r"resnet\.pth weights of resnet18: 1 tensors are missing, the first is bn1\.bias"
    ):
        build_encoder("resnet18", str(tmp_path / "resnet.pth"))
    state |= {"bn1.bias": torch.zeros(64)}
    state["conv1.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "resnet.pth")
    with pytest.raises(InputError, match=r"conv1\.weight has the shape \(1,\), expected \(64, 3, 7, 7\)"):
        build_encoder("resnet18", str(tmp_path / "resnet.pth"))


class Malicious:
    def __reduce__(self):
        return print, ("this pickle ran code",)


def test_a_pickle_with_code_in_it_is_refused(tmp_path, capsys):
    torch.save({"a": Malicious()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match=r"evil\.pth: not a file of plain weights"):
        build_encoder("resnet18", str(tmp_path / "evil.pth"))
    assert "ran code" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("vgg1000", "none", "unknown architecture 'vgg1000'"),
        ("resnet18", "packaged", "packaged exists for mobilenetv2_100, tf_efficientnet_lite0 only, not for resnet18"),
        ("resnet18", "nowhere.pth", "'nowhere.pth' is no file, no timm tag"),
    ],
)
def test_mistakes_are_named(name, weights, message):
    with pytest.raises(InputError, match=message):
        build_encoder(name, weights)


def test_a_changed_weights_file_is_refused(monkeypatch):
    known = packages._PACKAGES["mobilenetv2_100"]
    monkeypatch.setitem(packages._PACKAGES, "mobilenetv2_100", replace(known, sha256="0" * 64))
    with pytest.raises(InputError, match=r"not the known weights file \(SHA-256 differs\)"):
        packaged_weights("mobilenetv2_100")


def test_images_are_normalised_as_the_weights_were_trained(tmp_path):
    """tf_efficientnet_lite0 was trained with 0.5 for each channel; its file in a model folder says so by itself."""
    encoder = build_encoder("tf_efficientnet_lite0", "packaged")
    images = torch.arange(32 * 32 * 3, dtype=torch.uint8).reshape(1, 32, 32, 3)
    own = ((images.float() / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)
    for level, expected in zip(encoder(normalize(images)), encoder.network(own), strict=True):
        torch.testing.assert_close(level, expected, rtol=1e-4, atol=1e-5)
    save_file(encoder.network.state_dict(), tmp_path / "encoder.safetensors")
    again = build_encoder("tf_efficientnet_lite0", str(tmp_path / "encoder.safetensors"))
    assert again.weights_sha256 == encoder.weights_sha256
    assert "input_scale" not in build_encoder("mobilenetv2_100").network.state_dict()


def test_normalisation_by_hand():
    images = np.array([[[[0, 255, 255]]]], np.uint8)
    expected = [(0 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert normalize(torch.from_numpy(images)).flatten().tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_damaged_and_foreign_weights_files_are_one_line(tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(InputError, match=r"cut\.safetensors: not a file of plain weights"):
        build_encoder("resnet18", str(tmp_path / "cut.safetensors"))
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(InputError, match=r"list\.pth: not a state dict"):
        build_encoder("resnet18", str(tmp_path / "list.pth"))


def test_weights_that_timm_cannot_fetch_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"weights: resnet18\.a1_in1k cannot be fetched .*give the path"):
        build_encoder("resnet18", "resnet18.a1_in1k")
