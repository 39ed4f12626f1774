"""The frozen pretrained encoder: images in, feature maps at several levels out (paper: phi^I).

Channels and strides are read off timm's `feature_info`, so any of its networks fits that has features at the strides that are asked for.
A level of a vision transformer is the mean of the outputs of a group of blocks, without the final norm. Its tokens are as in the authors'
code of Dinomaly (CVPR 2025), which resizes the position embedding otherwise than timm does.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from invad.config import FeaturesConfig
from invad.config.constants import NO_ENCODER, STRIDES
from invad.config.types import Levels
from invad.errors import InputError
from invad.features.weights import load_weights, read_weights, state_sha256

if TYPE_CHECKING:
    from timm.models import FeatureInfo

Groups = Sequence[Sequence[int]]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Buffers of networks whose weights were trained with other statistics than these.
INPUT_SCALE, INPUT_SHIFT = "input_scale", "input_shift"
POSITION_OFFSET = 0.1  # patches that DINOv2 adds to the wanted grid, against rounding, before it takes the scale
IMAGE_SIZE = 256  # that a ViT is built for by default; other networks take any


@dataclass(frozen=True)
class EncoderOutput:
    """What an encoder gives.

    `encoder`: its timm name. `channels`, `strides`: of each level, fine to coarse. `image_size`: the side of the square images in pixels.
    `prefix_tokens`: of each level of a ViT (class, registers), which lie on no grid.
    """

    encoder: str
    channels: tuple[int, ...]
    image_size: int
    strides: tuple[int, ...] = STRIDES
    prefix_tokens: int = 0

    @property
    def levels(self) -> tuple[int, ...]:
        """The index of each level, fine to coarse; none where there is no encoder."""
        return tuple(range(len(self.channels)))

    @property
    def grids(self) -> tuple[int, ...]:
        """Height and width of each level's features, fine to coarse."""
        return tuple(self.image_size // self.strides[level] for level in self.levels)

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(C_l, H_l, W_l) of each level's features, fine to coarse, and then (C_l, P, 1) of its prefix tokens, if it has any."""
        maps = tuple((width, grid, grid) for width, grid in zip(self.channels, self.grids, strict=True))
        return maps + tuple((width, self.prefix_tokens, 1) for width in self.channels if self.prefix_tokens)


class Encoder(nn.Module):
    """A frozen encoder, always in eval mode.

    `name`: timm's name of the architecture. `channels`, `strides`: of each level, fine to coarse. `prefix_tokens`: how many each level has.
    """

    def __init__(self, name: str, network: nn.Module, groups: Groups = ()) -> None:
        """`groups`: of blocks, where the network is a ViT; otherwise it was built with `features_only`."""
        super().__init__()
        self.name, self.groups = name, groups
        self.network = network.eval().requires_grad_(False)
        self.channels: tuple[int, ...] = ()
        self.strides: tuple[int, ...] = ()
        if name != NO_ENCODER:
            levels = _feature_info(network)
            self.channels, self.strides = tuple(levels.channels()), tuple(levels.reduction())
        self.prefix_tokens: int = vars(network)["num_prefix_tokens"] if groups else 0

    @cached_property
    def weights_sha256(self) -> str:
        """Digest of all its tensors: features of encoders with the same digest and levels are interchangeable."""
        return state_sha256(self.network.state_dict())

    def output(self, image_size: int) -> EncoderOutput:
        """Return what it gives for images of a size."""
        return EncoderOutput(self.name, self.channels, image_size, self.strides, self.prefix_tokens)

    def train(self, mode: bool = True) -> "Encoder":
        """Stay in eval mode: its BatchNorm statistics are part of the pretrained weights."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images_bchw: Tensor) -> list[Tensor]:
        """Return `levels(images_bchw)` without gradients."""
        return self.levels(images_bchw)

    def levels(self, images_bchw: Tensor) -> list[Tensor]:
        """Map normalised RGB images (B, 3, H, W) to features (B, C_l, H / stride_l, W / stride_l), fine to coarse, and prefix tokens.

        Raises `InputError` when a stride does not divide H or W: rounded grids would not fit each other. A ViT takes the size alone that it
        was built for.
        """
        if hasattr(self.network, INPUT_SCALE):
            scale, shift = self.network.get_buffer(INPUT_SCALE), self.network.get_buffer(INPUT_SHIFT)
            images_bchw = images_bchw * scale[:, None, None] + shift[:, None, None]
        if self.groups:
            return block_means(self.network, images_bchw, self.groups)
        if not self.strides:
            return []
        for side in images_bchw.shape[-2:]:
            if side % self.strides[-1]:
                below = side // self.strides[-1] * self.strides[-1]
                raise InputError(
                    f"images: {self.name} takes sides that are multiples of {self.strides[-1]}, such as {below} or "
                    f"{below + self.strides[-1]}, not {side} pixels"
                )
        return self.network(images_bchw)


def configured_encoder(config: FeaturesConfig) -> Encoder:
    """Build the encoder of these settings; `InputError` as for `build_encoder`."""
    return build_encoder(config.encoder, config.weights, config.levels, config.image_size)


def hollow_encoder(config: FeaturesConfig) -> Encoder:
    """Build the same without weights, shapes alone; `InputError` where there is no such architecture, or it has no such levels."""
    with torch.device("meta"):
        return build_encoder(config.encoder, "none", config.levels, config.image_size)


def build_encoder(
    name: str, weights: str = "packaged", levels: Levels = STRIDES, image_size: int = IMAGE_SIZE
) -> Encoder:
    """Build a frozen encoder; `image_size` is that which a ViT is built for.

    name: a timm architecture with feature maps at `levels`, e.g. `mobilenetv2_100` or `wide_resnet50_2`.
    weights: `packaged` (of `PACKAGED_ENCODERS`, from installed packages), `none` (random, but always the same), a timm tag such as
    `wide_resnet50_2.racm_in1k` (downloaded by timm), or the path of a `.safetensors` or `.pth` file.
    levels: strides of the wanted levels, fine to coarse, or groups of a ViT's blocks.
    `InputError`: unknown architecture or weights, missing levels, or weights of another network, or NaN or infinite ones.
    """
    import timm  # slow to import, and only needed by who extracts features

    if name == NO_ENCODER:
        return Encoder(name, nn.Identity())
    if not timm.is_model(name):
        raise InputError(f"encoder: unknown architecture {name!r}; it is one of timm.list_models()")
    groups = [level for level in levels if not isinstance(level, int)]
    options: dict[str, Any] = {} if groups else {"features_only": True, "out_indices": _level_indices(name, levels)}
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        network: Any = vision_transformer(name, groups, image_size) if groups else timm.create_model(name, **options)
    is_tag = weights.split(".")[0] == name and not Path(weights).exists()
    state = {}
    if weights != "none":
        state = _fetched(weights, options) if is_tag else read_weights(name, weights)
    if not groups:
        _drop_unused_blocks(network)
    elif state:
        state = adapted(state, network.patch_embed.grid_size[0])
    known = timm.get_pretrained_cfg(weights if is_tag else name, allow_unregistered=True)
    trained = (IMAGENET_MEAN, IMAGENET_STD) if known is None else (known.mean, known.std)
    # A model folder's file has the buffers already.
    if INPUT_SCALE in state or trained != (IMAGENET_MEAN, IMAGENET_STD):
        (mean, std), (own_mean, own_std) = torch.tensor((IMAGENET_MEAN, IMAGENET_STD)), torch.tensor(trained)
        buffers = {INPUT_SCALE: std / own_std, INPUT_SHIFT: (mean - own_mean) / own_std}
        for key, value in buffers.items():
            network.register_buffer(key, value)
        state = {**buffers, **state} if state else state
    if state:
        load_weights(network, state, f"{weights} weights of {name}")
    return Encoder(name, network, groups)


def like(output: EncoderOutput) -> Encoder:
    """Build the encoder that gives such an output, of strides and without a ViT's groups, with random weights.

    Other weights of the architecture, whatever statistics their input has, fit it: see `take_over`.
    """
    encoder = build_encoder(output.encoder, "none", output.strides, output.image_size)
    if not hasattr(encoder.network, INPUT_SCALE):
        for key, value in _unscaled().items():
            encoder.network.register_buffer(key, value)
    return encoder


def take_over(encoder: Encoder, pretrained: Encoder) -> None:
    """Load the weights of an encoder into one that is `like` it."""
    load_weights(encoder.network, _unscaled() | pretrained.network.state_dict(), f"weights of {pretrained.name}")


def _unscaled() -> dict[str, Tensor]:
    return {INPUT_SCALE: torch.ones(3), INPUT_SHIFT: torch.zeros(3)}


def untrained_network(name: str, strides: Levels) -> nn.Module:
    """Build a network that gives features at some strides and can be trained, initialised from torch's seed; `InputError`: it lacks one."""
    import timm

    network = timm.create_model(name, features_only=True, out_indices=_level_indices(name, strides))
    _drop_unused_blocks(network)
    return network


def _level_indices(name: str, strides: Levels) -> tuple[int, ...]:
    """Return timm's indices of the levels of some strides; `InputError` names one that the architecture lacks."""
    import timm

    reductions = _feature_info(timm.create_model(name, features_only=True, pretrained=False)).reduction()
    missing = [stride for stride in strides if stride not in reductions]
    if missing:
        is_flat = len(set(reductions)) == 1
        hint = "; levels of a ViT are groups of its blocks, such as [[2, 3], [4, 5]]" if is_flat else ""
        raise InputError(
            f"encoder: {name} has no features at stride {missing[0]}, only at {sorted(set(reductions))}{hint}"
        )
    return tuple(reductions.index(stride) for stride in strides)


def _fetched(tag: str, options: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights of a timm tag, which timm downloads unless it has done so before; `options`: of the network that has them."""
    import timm

    logging.disable(logging.WARNING)  # a download that fails warns a dozen times, but the error says it all
    try:
        return timm.create_model(tag, pretrained=True, **options).state_dict()
    except Exception as error:  # whatever timm and its download raise
        page = getattr(timm.get_pretrained_cfg(tag, allow_unregistered=True), "hf_hub_id", None) or f"timm/{tag}"
        raise InputError(
            f"weights: {tag} cannot be fetched ({type(error).__name__}); put the file model.safetensors of "
            f"https://huggingface.co/{page} where you like, and give the path of it instead"
        ) from None
    finally:
        logging.disable(logging.NOTSET)


def normalize(images_bhwc: Tensor) -> Tensor:
    """Turn uint8 RGB images (B, H, W, 3) into normalised float32 (B, 3, H, W) with ImageNet's mean and standard deviation."""
    return normalized(images_bhwc.permute(0, 3, 1, 2).float().div_(255))


def normalized(images_bchw: Tensor) -> Tensor:
    """Return RGB images, float32 (B, 3, H, W) in [0, 1], with ImageNet's mean and standard deviation."""
    mean, std = (torch.tensor(values, device=images_bchw.device) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images_bchw - mean[:, None, None]) / std[:, None, None]


def _drop_unused_blocks(network: nn.Module) -> None:
    """timm's EfficientNet family keeps the blocks behind the last wanted level; they would only cost time."""
    last = _feature_info(network).module_name()[-1]
    blocks = getattr(network, "blocks", None)
    if last.startswith("blocks.") and isinstance(blocks, nn.Sequential):
        network.blocks = blocks[: int(last.split(".")[1]) + 1]


def _feature_info(network: nn.Module) -> "FeatureInfo":
    """Return what timm knows of the levels of a network that it built with `features_only`; torch would type it as a module."""
    return vars(network)["feature_info"]


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
