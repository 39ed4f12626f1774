"""Small networks of InvAD, features for them, and their weights in the form of the authors' checkpoints."""

import re

import torch

from invad.config import InvADConfig
from invad.methods.invad.network import FeatureInversion, reference_tensors

TINY = {"channels": (16, 24, 32), "style_channels": 16, "latent_channels": 8, "blocks": 2, "constant_size": 4}
SSM_WEIGHT = re.compile(r"net_decoder\.convs\.\d\.\d\.conv[12]\.conv\.weight")


def network(channels, constant_size, **settings):
    grids = [constant_size * 2**level for level in reversed(range(len(channels)))]
    return FeatureInversion(channels, grids, InvADConfig(**settings))


def seeded(seed=0, **settings):
    torch.manual_seed(seed)
    return network(**settings)


def random_features(model, batch=2, seed=0, device="cpu"):
    generator = None if device == "meta" else torch.Generator().manual_seed(seed)
    shapes = zip(model.channels, model.sizes, strict=True)
    return [torch.randn(batch, c, n, n, generator=generator, device=device) for c, n in shapes]


def authors_state(model):
    """The weights of a network in the form of an authors' checkpoint."""
    state = {name: tensor.detach().clone() for name, tensor in reference_tensors(model).items()}
    return {name: tensor.unsqueeze(0) if SSM_WEIGHT.fullmatch(name) else tensor for name, tensor in state.items()}
