"""Import of weights that are named as in the authors' checkpoints."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from invad.errors import InputError
from invad.methods.invad.network import FeatureInversion

ENCODER_PREFIX = "net_encoder."
EXAMPLES = 4  # names listed in an error before "and N more"
# What becomes of a name here, one after the other; digits of the authors count the layers of a block.
RENAMED = {
    r"^aggregation\.downsamplers\.": "net_fuser.downsamples.",
    r"^aggregation\.squeeze\.projection\.": "net_fuser.conv_cat.",
    r"^aggregation\.squeeze\.bottleneck\.": "net_fuser.conv_bottle.0.",
    r"^upsampler\.stages\.": "net_fuser.convs.",
    r"^style_translator\.levels\.": "net_decoder.convs_latent.",
    r"^decoder\.constant$": "net_decoder.input.input",
    r"^decoder\.stem\.": "net_decoder.conv1.0.",
    r"^decoder\.levels\.": "net_decoder.convs.",
    r"\.ssm(\d)\.(convolution|modulation)\.": r".conv\1.conv.",
    r"\.ssm(\d)\.activation\.": r".conv\1.activate.",
    r"\.skip\.weight$": ".skip.0.weight",
    r"\.skip\.blur\.": ".skip.1.",
    r"^(net_fuser\.convs\.[1-9]\d*\.0)\.activation\.": r"\1.2.",  # behind the blur of what upsamples
    r"\.(convolution\.blur|activation)\.": ".1.",
    r"\.convolution\.": ".0.",
}


def load_reference_state(model: FeatureInversion, state: Mapping[str, Tensor]) -> None:
    """Load weights under the authors' names into `model`, the paper's network, whole or not at all.

    `net_encoder.*` is ignored; the `kernel` buffers of the fixed blur are compared, not loaded; a BatchNorm's
    `num_batches_tracked` may be absent, and a weight may have a leading 1 for the sample, as those of SSM convolutions have. Raises
    `InputError` that names the tensors which are missing, unexpected or of another shape.
    """
    targets = reference_tensors(model)
    sources = {name: tensor for name, tensor in state.items() if not name.startswith(ENCODER_PREFIX)}
    shared = {name: (tensor, targets[name]) for name, tensor in sources.items() if name in targets}
    fitting = {name for name, (source, target) in shared.items() if source.squeeze(0).shape == target.squeeze(0).shape}
    blurs = [name for name in shared if name.endswith(".kernel") and name in fitting]
    found = {
        "missing": [name for name in targets if name not in sources and not name.endswith(".num_batches_tracked")],
        "unexpected": [name for name in sources if name not in targets],
        "wrong shape": [
            f"{name} {tuple(source.shape)} instead of {tuple(target.shape)}"
            for name, (source, target) in shared.items()
            if name not in fitting
        ],
        "not the blur [1, 3, 3, 1]": [name for name in blurs if not torch.allclose(sources[name], targets[name])],
    }
    problems = [f"{kind}: {_listed(names)}" for kind, names in found.items() if names]
    if problems:
        raise InputError(f"weights under the authors' names do not fit the model: {'; '.join(problems)}")
    with torch.no_grad():
        for name in fitting - set(blurs):
            targets[name].copy_(sources[name].reshape(targets[name].shape))


def reference_tensors(model: FeatureInversion) -> dict[str, Tensor]:
    """Every parameter and buffer of the paper's network `model` under its name in the authors' checkpoints."""
    return {_renamed(name): tensor for name, tensor in (*model.named_parameters(), *model.named_buffers())}


def _renamed(name: str) -> str:
    for pattern, replacement in RENAMED.items():
        name = re.sub(pattern, replacement, name)
    return name


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else ""
    return f"{', '.join(names[:EXAMPLES])}{more}"
