"""Vision transformers of timm as encoders: a level is the mean of the outputs of a group of blocks, without the final norm.

Tokens are as in the authors' code of Dinomaly (CVPR 2025), which resizes the position embedding otherwise than timm does.
"""

from collections.abc import Mapping, Sequence
from math import isqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from invad.errors import InputError

Groups = Sequence[Sequence[int]]
POSITION_OFFSET = 0.1  # patches that DINOv2 adds to the wanted grid, against rounding, before it takes the scale


def vision_transformer(name: str, groups: Groups, image_size: int) -> Any:  # noqa: ANN401  (what timm builds)
    """Build one of timm for square images, with the blocks that the groups need.

    `InputError`: the architecture is no ViT, has too few blocks, or patches that do not divide the image.
    """
    import timm
    from timm.models import FeatureInfo
    from timm.models.vision_transformer import VisionTransformer

    with torch.device("meta"):
        shapes = timm.create_model(name)
    if not isinstance(shapes, VisionTransformer):
        raise InputError(f"levels: groups of blocks are for ViTs of timm, which {name} is not; it takes strides")
    last = max(block for group in groups for block in group)
    if last >= len(shapes.blocks):
        raise InputError(f"levels: {name} has no block {last}; its last one is {len(shapes.blocks) - 1}")
    patch = shapes.patch_embed.patch_size[0]
    if image_size % patch:
        below = image_size // patch * patch
        raise InputError(f"image_size: must be a multiple of {patch}, such as {below} or {below + patch}, for {name}")
    network: Any = timm.create_model(name, img_size=image_size)
    network.feature_info = FeatureInfo(network.feature_info, tuple(group[-1] for group in groups))
    network.prune_intermediate_layers([last], prune_norm=True)
    return network


def adapted(state: Mapping[str, Tensor], grid: int) -> dict[str, Tensor]:
    """Return weights of a ViT, under timm's names or DINOv2's, under timm's and for `grid` x `grid` patches."""
    state = dict(state)
    if "register_tokens" in state:  # beside registers timm keeps the class's position inside its token
        state["reg_token"] = state.pop("register_tokens")
        state["cls_token"] = state["cls_token"] + state["pos_embed"][:, :1]
        state["pos_embed"] = state["pos_embed"][:, 1:]
    if "pos_embed" in state:
        state["pos_embed"] = position_embedding(state["pos_embed"], grid)
    return state


def position_embedding(stored: Tensor, grid: int) -> Tensor:
    """Return a position embedding (1, P + M^2, D), row by row behind the P first tokens, for another grid: (1, P + grid^2, D).

    Bicubic without antialiasing, at places that follow from the scale (grid + 0.1) / M.
    """
    side = isqrt(stored.shape[1])
    if side == grid:
        return stored
    first, patches = stored[:, : stored.shape[1] - side**2], stored[:, stored.shape[1] - side**2 :]
    planes = patches.transpose(1, 2).unflatten(2, (side, side)).double()  # so that all machines round alike
    scale = (grid + POSITION_OFFSET) / side
    planes = functional.interpolate(planes, scale_factor=(scale, scale), mode="bicubic")[..., :grid, :grid]
    return torch.cat([first, planes.flatten(2).transpose(1, 2).to(stored)], dim=1)


def block_means(network: Any, images_bchw: Tensor, groups: Groups) -> list[Tensor]:  # noqa: ANN401  (as above)
    """Return the mean output of each group of blocks, (B, C, grid, grid), and then of its P prefix tokens, if any, (B, C, P, 1)."""
    blocks = sorted({block for group in groups for block in group})
    outputs = network.forward_intermediates(
        images_bchw, blocks, return_prefix_tokens=True, intermediates_only=True, output_dict=True
    )
    prefix = [tokens.transpose(1, 2).unsqueeze(3) for tokens in outputs.get("image_intermediates_prefix", ())]
    return [
        torch.stack([states[blocks.index(block)] for block in group]).mean(dim=0)
        for states in (outputs["image_intermediates"], prefix)
        for group in groups
        if states
    ]
