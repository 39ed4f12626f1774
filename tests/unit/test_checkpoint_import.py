"""An authors' checkpoint becomes a model folder of the same digits, or one line that says why not."""

import sys
import zipfile

import pytest
import timm
import torch
import yaml
from networks import authors_state

from invad import cli
from invad.config import InvADConfig, MVADConfig
from invad.config.profiles import profile_text
from invad.errors import InputError
from invad.features.encoder import Encoder, build_encoder
from invad.methods import EncoderOutput, build_method
from invad.methods.invad.network import FeatureInversion
from invad.methods.mvad import own_name
from invad.methods.uniad import CHECKPOINT_NAMES
from invad.training.authors_checkpoint import VARIANTS, import_checkpoint
from invad.training.model_folder import load_encoder, load_model

CONSTANT = "net_decoder.input.input"


@pytest.fixture(scope="module")
def source():
    """An InvAD-lite for images of 64 pixels with moved statistics, and its encoder, which is not that of the weights `none`."""
    encoder_network = build_encoder("resnet34", "none").network
    for tensor in encoder_network.state_dict().values():
        tensor.add_(1 if tensor.dtype == torch.int64 else 0.01)
    encoder = Encoder("resnet34", encoder_network)
    network = FeatureInversion(encoder.channels, (16, 8, 4), InvADConfig(blocks=4))
    network(encoder(torch.randn(4, 3, 64, 64)))  # moves the running statistics away from where they start
    return network.eval(), encoder


@pytest.fixture(scope="module")
def checkpoint(source):
    """The state dict, in which the authors keep the whole encoder: with layers that are not needed here."""
    network, encoder = source
    own = {f"net_encoder.{name}": tensor for name, tensor in encoder.network.state_dict().items()}
    return {**own, "net_encoder.fc.weight": torch.zeros(2), **authors_state(network)}


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Write a checkpoint into an empty folder, which becomes the current one."""
    monkeypatch.chdir(tmp_path)

    def write(value):
        torch.save(value, "net.pth")
        return tmp_path / "net.pth"

    return write


def import_lite(path, *arguments, **switches):
    """The new model folder."""
    folder = path.parent / "models/lite"
    import_checkpoint(path, "invad-lite", folder, *arguments, **switches)
    return folder


def without(state, prefix):
    return {name: tensor for name, tensor in state.items() if not name.startswith(prefix)}


def refused(message, path, **arguments):
    """Nothing is written, and the one line begins with what is wrong."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(InputError, match=message) as error:
        import_checkpoint(path, **({"variant": "invad-lite", "folder": path.parent / "models/lite"} | arguments))
    assert "\n" not in str(error.value)
    assert sorted(path.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "profile", "encoder_parameters", "trainable"),
    [("invad", "paper", 95_631_088 - 70_768_560, 70_768_560), ("invad-lite", "paper-lite", 8_170_304, 8_976_240)],
)
def test_the_variants_are_the_published_networks(name, profile, encoder_parameters, trainable):
    settings, variant = yaml.safe_load(profile_text(profile)), VARIANTS[name]
    features, train = settings["features"]["mvtec"], settings["train"]["mvtec"]
    assert (variant.encoder, variant.tag) == (features["encoder"], features["weights"])
    assert all(getattr(variant.train, key) == train[key] for key in train if key != "epochs")
    with torch.device("meta"):  # shapes only
        encoder = timm.create_model(variant.encoder, features_only=True, out_indices=(1, 2, 3))
        method = build_method(EncoderOutput(variant.encoder, variant.channels, 256), variant.train)
    assert variant.channels == tuple(encoder.feature_info.channels())
    assert sum(parameter.numel() for parameter in encoder.parameters()) == encoder_parameters
    assert sum(parameter.numel() for parameter in method.parameters()) == trainable


@pytest.mark.slow
def test_the_imported_model_gives_the_digits_of_the_checkpoint(source, checkpoint, save):
    network, encoder = source
    folder = import_lite(save(checkpoint))
    method, config = load_model(folder)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = encoder(images)
        for output, expected in zip(method.network(features), network(features), strict=True):
            assert torch.equal(output, expected)
    assert (config.benchmark, config.classes, config.channels) == ("lite", (), (64, 128, 256))
    assert (config.features.encoder, config.features.image_size) == ("resnet34", 64)
    assert (config.train.model, config.train.blocks, config.train.loss_weight) == ("invad", 4, 5.0)

    rebuilt = load_encoder(folder, config)
    assert rebuilt.weights_sha256 == config.encoder_sha256 == encoder.weights_sha256
    assert all(torch.equal(*pair) for pair in zip(rebuilt(images), features, strict=True))
    files = ["config.json", "encoder.safetensors", "model.safetensors"]
    assert sorted(file.name for file in folder.iterdir()) == files


@pytest.mark.slow
def test_a_nested_state_dict_is_the_same_model_byte_for_byte(checkpoint, save):
    flat, nested = {}, {}
    for files, value in ((flat, checkpoint), (nested, {"net": checkpoint, "epoch": 3, "optimizer": {"lr": 0.1}})):
        folder = import_lite(save(value), force=True)
        files.update({file.name: file.read_bytes() for file in folder.iterdir()})
    assert flat == nested


@pytest.mark.slow
def test_a_checkpoint_without_an_encoder_takes_that_of_a_file(source, checkpoint, save):
    path = save(without(checkpoint, "net_encoder."))
    torch.save(source[1].network.state_dict(), "encoder.pth")
    assert load_model(import_lite(path, "encoder.pth"))[1].encoder_sha256 == source[1].weights_sha256
    other = path.parent / "models/other"
    refused("--encoder-weights: .*'no.pth' is no file", path, folder=other, encoder_weights="no.pth")
    refused("--encoder-weights: must be the weights that", path, folder=other, encoder_weights="none")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net_decoder.conv1.0.1.bias": None}, r"missing: net_decoder\.conv1\.0\.1\.bias"),
        ({"net_decoder.extra": torch.zeros(1)}, r"unexpected: net_decoder\.extra"),
        ({"net_decoder.conv1.0.1.bias": torch.zeros(3)}, r"conv1\.0\.1\.bias \(3,\) instead of \(256,\)"),
        (
            {"net_encoder.layer1.0.bn1.bias": None},
            r"net_encoder\.\*: 1 tensors are missing, the first is layer1\.0\.bn1\.bias",
        ),
        (
            {"net_encoder.bn1.bias": torch.zeros(3)},
            r"net_encoder\.\*: bn1\.bias has the shape \(3,\), expected \(64,\)",
        ),
        ({"net_fuser.epoch": 3}, r"net_fuser\.epoch is not a tensor"),
    ],
)
@pytest.mark.slow
def test_a_state_that_does_not_fit_is_named(checkpoint, save, change, message):
    state = {name: value for name, value in (checkpoint | change).items() if value is not None}
    refused(rf"net\.pth: .*{message}", save(state))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"net_fuser.weight": torch.zeros(1)}, rf"{CONSTANT} is missing"),
        (
            {CONSTANT: torch.zeros(1, 7, 4, 4)},
            r"\(1, 7, 4, 4\), expected \(1, 256, n, n\), as invad-lite has; try another --variant",
        ),
        ({CONSTANT: torch.zeros(1, 256, 1, 1)}, "is for images of 16 pixels, which is out of range"),
        ({CONSTANT: torch.zeros(1, 1024, 4, 4)}, r"\(1, 1024, 4, 4\), expected \(1, 256, n, n\)"),
    ],
)
def test_the_constant_tells_variant_and_image_size(save, state, message):
    refused(rf"net\.pth: .*{message}", save(state))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(3), "found 0"),
        ({"conv1.weight": torch.zeros(3)}, "found 0"),
        ({"net": {CONSTANT: torch.zeros(1)}, "ema": {CONSTANT: torch.zeros(1)}}, "found 2"),
    ],
)
def test_a_file_without_the_one_state_dict_is_refused(save, value, message):
    refused(rf"net\.pth: expected one state dict with names net_encoder\.\*, .*, {message}", save(value))


class Evil:
    def __reduce__(self):
        return print, ("ran code",)


def test_code_in_a_pickle_is_not_run(save, capsys):
    refused(
        r"net\.pth: damaged, or not a file of tensors only",
        save({CONSTANT: torch.zeros(1, 256, 4, 4), "net_decoder.evil": Evil()}),
    )
    assert "ran code" not in capsys.readouterr().out


def test_a_damaged_or_missing_file_is_refused(save):
    path = save({CONSTANT: torch.zeros(9)})
    content = path.read_bytes()
    for damaged in (content[:-100], content[:20], b"", b"no checkpoint"):
        path.write_bytes(damaged)
        refused(r"net\.pth: damaged", path)
    path.unlink()
    refused(r"net\.pth: no such file", path)


def test_a_changed_bit_in_any_member_is_refused(save):
    path = save({CONSTANT: torch.zeros(1, 256, 4, 4), "net_decoder.bias": torch.arange(9.0)})
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.file_size]
    assert len(members) >= 4
    for info in members:
        name, extra = (int.from_bytes(content[info.header_offset + at :][:2], "little") for at in (26, 28))
        damaged = bytearray(content)
        damaged[info.header_offset + 30 + name + extra + info.file_size // 2] ^= 1
        path.write_bytes(damaged)
        refused(r"net\.pth: damaged", path)
    with pytest.raises(InputError, match="another checksum"):
        build_encoder("resnet18", str(path))


@pytest.mark.slow
def test_only_a_model_folder_is_replaced_and_only_by_force(checkpoint, save):
    path = save(checkpoint)
    folder = import_lite(path)
    refused("lite: is there already; --force replaces it", path)
    before = (folder / "config.json").stat().st_mtime_ns
    (folder / "calibration.json").write_text("{}")  # of the model that goes
    import_lite(path, force=True)
    assert not (folder / "calibration.json").exists()
    assert (folder / "config.json").stat().st_mtime_ns > before
    (folder / "notes.txt").write_text("mine")
    refused(r"--force replaces model folders only, but here is notes\.txt", path, force=True)
    refused(r"--out: '.*/my model' names no model", path, folder=path.parent / "my model")


def test_an_encoder_of_its_own_and_another_one_are_one_too_many(checkpoint, save):
    refused("leave out --encoder-weights", save(checkpoint), encoder_weights="resnet34.bt_in1k")


def pipe(monkeypatch, *arguments):
    """The exit code of the command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["invad-pipe", *arguments])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return exit_.value.code


@pytest.mark.slow
def test_the_command_says_what_was_imported(source, checkpoint, save, monkeypatch, capsys):
    save(checkpoint)
    assert pipe(monkeypatch, "import-checkpoint", "net.pth", "--variant", "invad", "--out", "models/a") == 2
    expected = "expected (1, 1024, n, n), as invad has; try another --variant\n"
    message = f"invad-pipe: error: net.pth: {CONSTANT} has the shape (1, 256, 4, 4), {expected}"
    assert capsys.readouterr() == ("", message)
    assert pipe(monkeypatch, "import-checkpoint", "net.pth", "--variant", "lite", "--out", "models/a") == 2
    assert "--variant: unknown variant 'lite'; known are invad, invad-lite, uniad, mvad" in capsys.readouterr().err
    assert pipe(monkeypatch, "import-checkpoint", "net.pth", "--variant", "invad-lite", "--out", "models/a") == 0
    # The paper's 17,146,544 and 8,976,240 are with a constant of 16x16; here it is one of 4x4.
    assert capsys.readouterr().out.splitlines() == [
        "model       models/a, invad-lite of net.pth, 64 px",
        f"parameters  {17_146_544 - 240 * 256:,}, of these trainable {8_976_240 - 240 * 256:,}",
        f"encoder     resnet34, SHA-256 {source[1].weights_sha256}",
    ]
    assert load_model(save(0).parent / "models/a")[1].features.weights == "resnet34.bt_in1k"


@pytest.mark.slow
def test_weights_that_cannot_be_fetched_are_asked_for(checkpoint, save, monkeypatch, capsys):
    path = save(without(checkpoint, "net_encoder."))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(path.parent / "cache"))
    assert pipe(monkeypatch, "import-checkpoint", "net.pth", "--variant", "invad-lite", "--out", "models/a") == 2
    output = capsys.readouterr()
    assert "net.pth: has no encoder; --encoder-weights: weights: resnet34.bt_in1k cannot be fetched" in output.err
    assert output.err.endswith("where you like, and give the path of it instead\n")
    assert (output.out, len(output.err.splitlines())) == ("", 1)
    assert not (path.parent / "models").exists()


@pytest.mark.slow
def test_a_checkpoint_of_uniad_is_the_same_network(save):
    """No checkpoint of the published comparison is at hand: this one has its names, and the encoder with layers that are not needed."""
    torch.manual_seed(0)
    published = VARIANTS["uniad"]
    encoder = timm.create_model(published.encoder)
    expected = build_method(
        EncoderOutput(published.encoder, published.channels, 64, published.strides), published.train
    )
    names = {own: theirs for theirs, own in CHECKPOINT_NAMES}
    state = {}
    for name, tensor in expected.state_dict().items():
        for stack in ("encoder.", "decoder."):
            name = name.replace(f"network.{stack}", f"net_ad.transformer.{stack}layers.")
        name = name.replace("network.norm.", "net_ad.transformer.decoder.norm.").replace("network.", "net_ad.")
        for own in ("rows", "columns", "query"):
            name = name.replace(own, names[own])
        state[name] = tensor
    state |= {f"net_backbone.{name}": tensor for name, tensor in encoder.state_dict().items()}
    path = save({"net": state})
    imported = import_checkpoint(path, "uniad", path.parent / "models/uniad")
    method, config = load_model(path.parent / "models/uniad")
    for name, tensor in expected.state_dict().items():
        assert torch.equal(method.get_parameter(name), tensor)
    assert (config.features.image_size, config.features.levels, config.train) == (64, (2, 4, 8, 16), published.train)
    rebuilt = load_encoder(path.parent / "models/uniad", config)
    images = torch.randn(1, 3, 64, 64)
    features = timm.create_model(published.encoder, features_only=True).eval()
    features.load_state_dict(encoder.state_dict(), strict=False)
    for mine, theirs in zip(rebuilt(images), features(images), strict=False):
        assert torch.equal(mine, theirs)
    # With 16x16 tokens it has 7,779,344; of the encoder's 16,742,216 those behind stride 16 are left out.
    assert (imported.trainable, imported.parameters - imported.trainable) == (
        7_779_344 - 4 * 240 * 256 - 24 * 128,
        3_635_984,
    )
    del state["net_ad.input_proj.bias"]
    refused("net_ad.*1 tensors are missing", save(state), variant="uniad", folder=path.parent / "models/other")


def authors_names_of_mvad() -> list[str]:
    """The modules of MVAD's authors that are trained, and two of the fourteen that no forward pass calls."""
    fusion = [f"mff_oce.{kind}{of}" for kind in ("conv", "bn") for of in ("1", "2", "21", "31", "f")]
    norms = [f"mff_oce.norm{name}" for name in ("01", "02", "11", "12", "111", "121", "21", "22")]
    norms += [f"mff_oce.norm2{norm}{block}" for norm in (1, 2) for block in (1, 2, 3)]
    layers = [f"mff_oce.mlp{name}.{layer}" for name in ("0", "1", "11", "2", "21", "22", "23") for layer in (0, 3)]
    kinds = ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3")
    bottleneck = [f"mff_oce.bn_layer.{block}.{kind}" for block in range(3) for kind in kinds]
    bottleneck += [f"mff_oce.bn_layer.0.downsample.{layer}" for layer in (0, 1)]
    stages = [(stage, block) for stage, blocks in ((1, 3), (2, 4), (3, 6)) for block in range(blocks)]
    decoder = [f"net_s.layer{stage}.{block}.{kind}" for stage, block in stages for kind in kinds[:4]]
    decoder += [f"net_s.layer{stage}.0.upsample.{layer}" for stage in (1, 2, 3) for layer in (0, 1)]
    unused = ["mff_oce.mvas0.cv_linear", "mff_oce.mvas11.mv_linear"]
    return [*fusion, *norms, *layers, *bottleneck, *decoder, *unused]


@pytest.mark.slow
def test_a_checkpoint_of_mvad_is_the_same_network_without_the_layers_that_nothing_uses(save):
    torch.manual_seed(0)
    published = VARIANTS["mvad"]
    encoder = timm.create_model(published.encoder)
    expected = build_method(EncoderOutput(published.encoder, published.channels, 256), published.train)
    own, tensors, state = expected.state_dict(), ("weight", "bias", "running_mean", "running_var"), {}
    for module in authors_names_of_mvad():
        for name in (f"{module}.{tensor}" for tensor in (*tensors, "num_batches_tracked")):
            unused = "_linear." in name and name.endswith(("weight", "bias"))
            if unused or own_name(name) in own:
                state[name] = torch.ones(3) if unused else own[own_name(name)]
    assert len(state) == len(own) + 4
    state |= {f"net_t.{name}": tensor for name, tensor in encoder.state_dict().items()}
    path = save({"net": state})
    imported = import_checkpoint(path, "mvad", path.parent / "models/mvad")
    method, config = load_model(path.parent / "models/mvad")
    assert all(torch.equal(tensor, method.state_dict()[name]) for name, tensor in own.items())
    assert (config.features.image_size, config.train) == (256, MVADConfig())
    assert (imported.parameters, imported.trainable) == (17_803_392, 9_633_088)
    del state["mff_oce.mlp23.3.bias"]
    refused("1 tensors are missing", save(state), variant="mvad", folder=path.parent / "models/other")
