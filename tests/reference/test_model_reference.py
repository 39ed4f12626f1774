"""The network gives the digits of the authors' implementation, whatever sizes the files of these have."""

import re

import numpy as np
import pytest
import torch
from networks import TINY, authors_state, network
from reference_files import reference_files

from invad.errors import InputError
from invad.methods.invad.network import load_reference_state, reference_tensors
from invad.methods.maps import gaussian_blur, reconstruction_loss, reconstruction_map

# BatchNorm takes the mean out again, so the exact gradient of these is zero and the stored norms are rounding noise
# (about 1e-8).
ZERO_GRADIENT = re.compile(r"net_fuser\.downsamples\.\d\.(conv|norm)\.bias")
SIGMA = 4  # of a map whose file does not say it


@pytest.fixture(scope="module", params=reference_files("reference_invad_*.npz"))
def reference(request):
    with np.load(request.param) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def state_of(reference):
    return section(reference, "state/")


def section(reference, prefix):
    return {name.removeprefix(prefix): value for name, value in reference.items() if name.startswith(prefix)}


def levels_of(reference, name):
    return [level for _, level in sorted(section(reference, f"{name}/").items())]


def tiny_model():
    return network(**TINY)


def model_of(reference):
    """A network of the sizes that the weights and the features of the file have."""
    state = state_of(reference)
    latent_channels, style_channels = state["net_decoder.convs_latent.0.1.0.weight"].shape[:2]
    blocks = {name.split(".")[3] for name in state if name.startswith("net_decoder.convs.0.")}
    return network(
        tuple(level.shape[1] for level in levels_of(reference, "input")),
        state["net_decoder.input.input"].shape[-1],
        style_channels=style_channels,
        latent_channels=latent_channels,
        blocks=len(blocks),
    )


@pytest.fixture
def model(reference):
    model = model_of(reference)
    load_reference_state(model, state_of(reference))
    return model


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_agree_in_eval_mode(model, reference, dtype, memory_format):
    # The stored outputs are float32, which leaves them 5e-6 from the float64 result: half of what the tolerance allows.
    with torch.no_grad():
        model = model.eval().to(dtype).to(memory_format=memory_format)
        outputs = model([x.to(dtype) for x in levels_of(reference, "input")])
    for output, expected in zip(outputs, levels_of(reference, "output"), strict=True):
        torch.testing.assert_close(output, expected.to(dtype), rtol=0, atol=1e-5)


def test_anomaly_map_agrees(reference):
    expected = reference["anomaly_map"]
    sigma = float(reference.get("sigma", SIGMA))
    features, outputs = (levels_of(reference, name) for name in ("input", "output"))
    maps = gaussian_blur(reconstruction_map(features, outputs, expected.shape[-1]), sigma)
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-5)


def test_loss_and_every_gradient_norm_agree_in_train_mode(model, reference):
    features = levels_of(reference, "input")
    loss = reconstruction_loss(features, model.train()(features))
    loss.backward()
    assert loss.item() == pytest.approx(reference["train_loss_l2"].item(), rel=1e-6)

    parameters = {name: tensor for name, tensor in reference_tensors(model).items() if tensor.requires_grad}
    expected = section(reference, "gradnorm/")
    assert parameters.keys() == expected.keys()
    assert len(parameters) == len(list(model.parameters()))
    for name, parameter in parameters.items():
        norm = parameter.grad.norm().item()
        if ZERO_GRADIENT.fullmatch(name):
            assert max(norm, expected[name].item()) < 1e-6, name
        else:
            assert norm == pytest.approx(expected[name].item(), rel=1e-4), name


def test_every_tensor_of_a_checkpoint_has_its_place(reference):
    shapes = {name: tensor.shape for name, tensor in authors_state(model_of(reference)).items()}
    assert shapes == {name: tensor.shape for name, tensor in state_of(reference).items()}


def test_loading_takes_every_weight_and_statistic_and_ignores_the_encoder():
    source, target = tiny_model(), tiny_model()
    source(random_features(source))  # moves the running statistics away from where they start
    load_reference_state(target, authors_state(source) | {"net_encoder.conv1.weight": torch.zeros(3)})
    assert_same_state(source, target)


def test_batch_counters_may_be_absent():
    source, target = tiny_model(), tiny_model()
    state = {name: value for name, value in authors_state(source).items() if not name.endswith("num_batches_tracked")}
    load_reference_state(target, state)
    assert_same_state(source, target)


def assert_same_state(first, second):
    second = second.state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.state_dict().items())


def random_features(model):
    return [torch.randn(2, c, n, n) for c, n in zip(model.channels, model.sizes, strict=True)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net_decoder.conv1.0.1.bias": None}, r"missing: net_decoder\.conv1\.0\.1\.bias"),
        ({"net_decoder.extra": torch.zeros(1)}, r"unexpected: net_decoder\.extra"),
        ({"net_decoder.conv1.0.1.bias": torch.zeros(31)}, r"net_decoder\.conv1\.0\.1\.bias \(31,\) instead of \(32,\)"),
        ({"net_fuser.convs.1.0.1.kernel": torch.ones(4, 4)}, r"not the blur .*: net_fuser\.convs\.1\.0\.1\.kernel"),
    ],
)
def test_a_state_that_does_not_fit_is_named_and_nothing_is_loaded(change, message):
    state = {name: value for name, value in (authors_state(tiny_model()) | change).items() if value is not None}
    model = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError, match=message):
        load_reference_state(model, state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
