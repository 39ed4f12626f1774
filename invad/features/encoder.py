"""The frozen pretrained encoder: images in, feature maps at several levels out (paper: phi^I).

Channels and strides are read off timm's `feature_info`, so any of its networks fits that has features at the strides that are asked for;
`invad.features.vit` has those whose levels are means over blocks.
"""

import functools
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from invad.config import FeaturesConfig
from invad.config.constants import NO_ENCODER, PACKAGED_ENCODERS, STRIDES
from invad.config.types import Levels
from invad.errors import InputError
from invad.features.packaged import packaged_weights
from invad.features.torch_files import read_tensors
from invad.features.vit import Groups, adapted, block_means, vision_transformer

if TYPE_CHECKING:
    from timm.models import FeatureInfo

ResidualBlock = Literal["basic", "bottleneck", "wide-bottleneck"]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Buffers of networks whose weights were trained with other statistics than these.
INPUT_SCALE, INPUT_SHIFT = "input_scale", "input_shift"
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

    Attributes:
        name: timm's name of the architecture.
        channels: Channels of each level, fine to coarse.
        strides: Strides of each level, fine to coarse.
        prefix_tokens: How many prefix tokens each level has.
    """

    def __init__(self, name: str, network: nn.Module, groups: Groups = ()) -> None:
        """`groups`: of blocks, where the network is a ViT; otherwise it was built with `features_only`."""
        super().__init__()
        self.name, self.groups = name, groups
        self.network = network.eval().requires_grad_(False)
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
        """Map normalised RGB images (B, 3, H, W) to features (B, C_l, H / stride_l, W / stride_l), fine to coarse, and prefix tokens.

        Raises `InputError` when a stride does not divide H or W: rounded grids would not fit each other. A ViT takes the size alone that it
        was built for.
        """
        if hasattr(self.network, INPUT_SCALE):
            scale, shift = self.network.get_buffer(INPUT_SCALE), self.network.get_buffer(INPUT_SHIFT)
            images_bchw = images_bchw * scale[:, None, None] + shift[:, None, None]
        if self.groups:
            return block_means(self.network, images_bchw, self.groups)
        for side in images_bchw.shape[-2:] if self.strides else ():
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
    """Build a frozen encoder.

    Args:
        name: A timm architecture with feature maps at `levels`, e.g. `mobilenetv2_100` or `wide_resnet50_2`.
        weights: `packaged` (of `PACKAGED_ENCODERS`, from installed packages), `none` (random, but always the same), a timm tag
            such as `wide_resnet50_2.racm_in1k` (downloaded by timm), or the path of a `.safetensors` or `.pth` file.
        levels: Strides of the wanted levels, fine to coarse, or groups of a ViT's blocks.
        image_size: That a ViT is built for.

    Raises:
        InputError: Unknown architecture or weights, missing levels, or weights of another network, or NaN or infinite ones.
    """
    import timm  # slow to import, and only needed by who extracts features

    if name == NO_ENCODER:
        return Encoder(name, _NoLevels())
    _check_name(name)
    if groups := [level for level in levels if not isinstance(level, int)]:
        return _block_encoder(name, weights, groups, image_size)
    is_tag = _is_tag(name, weights)
    reductions = _feature_info(timm.create_model(name, features_only=True, pretrained=False)).reduction()
    missing = [stride for stride in levels if stride not in reductions]
    if missing:
        hint = (
            "; levels of a ViT are groups of its blocks, such as [[2, 3], [4, 5]]" if len(set(reductions)) == 1 else ""
        )
        raise InputError(
            f"encoder: {name} has no features at stride {missing[0]}, only at {sorted(set(reductions))}{hint}"
        )
    indices = tuple(reductions.index(stride) for stride in levels)
    if is_tag:
        network = _fetched(weights, features_only=True, out_indices=indices)
    else:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            network = timm.create_model(name, features_only=True, out_indices=indices)
    _drop_unused_blocks(network)
    _load(network, {} if is_tag or weights == "none" else _read_weights(name, weights), name, weights)
    return Encoder(name, network)


def _block_encoder(name: str, weights: str, groups: Groups, image_size: int) -> Encoder:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        network = vision_transformer(name, groups, image_size)
    state = {}
    if weights != "none":
        state = _fetched(weights).state_dict() if _is_tag(name, weights) else _read_weights(name, weights)
        state = adapted(state, network.patch_embed.grid_size[0])
    _load(network, state, name, weights)
    return Encoder(name, network, groups)


def _load(network: nn.Module, state: Mapping[str, Tensor], name: str, weights: str) -> None:
    """Load a state, unless it is empty, into a network, which takes images normalised with ImageNet's statistics from now on.

    Where timm says that the weights were trained with others, the network gets buffers for that; a model folder's file has them already.
    """
    import timm

    known = timm.get_pretrained_cfg(weights if _is_tag(name, weights) else name, allow_unregistered=True)
    trained = (IMAGENET_MEAN, IMAGENET_STD) if known is None else (known.mean, known.std)
    if INPUT_SCALE in state or trained != (IMAGENET_MEAN, IMAGENET_STD):
        (mean, std), (own_mean, own_std) = torch.tensor((IMAGENET_MEAN, IMAGENET_STD)), torch.tensor(trained)
        buffers = {INPUT_SCALE: std / own_std, INPUT_SHIFT: (mean - own_mean) / own_std}
        for key, value in buffers.items():
            network.register_buffer(key, value)
        state = {**buffers, **state} if state else state
    if state:
        load_weights(network, state, f"{weights} weights of {name}")


def _is_tag(name: str, weights: str) -> bool:
    return weights.split(".")[0] == name and not Path(weights).exists()


def normalize(images_bhwc: Tensor) -> Tensor:
    """Turn uint8 RGB images (B, H, W, 3) into normalised float32 (B, 3, H, W) with ImageNet's mean and standard deviation."""
    mean, std = (torch.tensor(values, device=images_bhwc.device) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return images_bhwc.float().div_(255).sub_(mean).div_(std).permute(0, 3, 1, 2)


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, shapes and bytes of all tensors, in their order."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_finite(state: Mapping[str, Tensor], where: str) -> None:
    """Raise `InputError` that begins with `where` and names the first tensor with a value that is NaN or infinite."""
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{where}: the weights {name} are NaN or infinite; use another file, or train again")


def _fetched(tag: str, **options: Any) -> nn.Module:  # noqa: ANN401  (whatever timm takes)
    """Return the network of a timm tag with its weights, which timm downloads unless it has done so before."""
    import timm

    logging.disable(logging.WARNING)  # a download that fails warns a dozen times, but the error says it all
    try:
        return timm.create_model(tag, pretrained=True, **options)
    except Exception as error:  # whatever timm and its download raise
        page = getattr(timm.get_pretrained_cfg(tag, allow_unregistered=True), "hf_hub_id", None) or f"timm/{tag}"
        raise InputError(
            f"weights: {tag} cannot be fetched ({type(error).__name__}); put the file model.safetensors of "
            f"https://huggingface.co/{page} where you like, and give the path of it instead"
        ) from None
    finally:
        logging.disable(logging.NOTSET)


def _read_weights(name: str, weights: str) -> dict[str, Tensor]:
    if weights == "packaged":
        return packaged_weights(name)
    path = Path(weights)
    if not path.is_file():
        raise InputError(f"weights: {weights!r} is no file, no timm tag ({name}.<tag>), and neither packaged nor none")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: damaged weights ({error})") from None
    return _torch_load(path)


def _torch_load(path: Path) -> dict[str, Tensor]:
    try:
        state = read_tensors(path)
    except Exception as error:  # whatever torch and zipfile raise
        raise InputError(f"{path}: not a file of plain weights ({' '.join(str(error).split())[:120]})") from None
    if not (isinstance(state, dict) and all(isinstance(tensor, Tensor) for tensor in state.values())):
        raise InputError(f"{path}: not a state dict, a mapping of names to tensors")
    return state


def load_weights(network: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load the tensors that `network` has; a full checkpoint has more (classifier, later stages).

    Raises:
        InputError: One is missing, of another shape, or NaN or infinite; the message begins with `what`.
    """
    own = network.state_dict()
    missing = [key for key in own if key not in state]
    if missing:
        raise InputError(f"{what}: {len(missing)} tensors are missing, the first is {missing[0]}")
    for key, tensor in own.items():
        if state[key].shape != tensor.shape:
            raise InputError(f"{what}: {key} has the shape {tuple(state[key].shape)}, expected {tuple(tensor.shape)}")
    needed = {key: state[key] for key in own}
    check_finite(needed, what)
    network.load_state_dict(needed)


class _NoLevels(nn.Module):
    """The network of the encoder `none`: images -> no features."""

    def __init__(self) -> None:
        super().__init__()
        vars(self)["feature_info"] = self

    def channels(self) -> list[int]:
        return []

    def reduction(self) -> list[int]:
        return []

    def forward(self, images: Tensor) -> list[Tensor]:
        return []


def _check_name(name: str) -> None:
    if name not in (NO_ENCODER, *PACKAGED_ENCODERS):
        import timm

        if name not in timm.list_models():
            near = get_close_matches(name, timm.list_models(), 3)
            such = f", such as {', '.join(near)}" if near else ""
            raise InputError(f"encoder: unknown architecture {name!r}; it is one of timm.list_models(){such}")


def _drop_unused_blocks(network: nn.Module) -> None:
    """timm's EfficientNet family keeps the blocks behind the last wanted level; they would only cost time."""
    last = _feature_info(network).module_name()[-1]
    blocks = getattr(network, "blocks", None)
    if last.startswith("blocks.") and isinstance(blocks, nn.Sequential):
        network.blocks = blocks[: int(last.split(".")[1]) + 1]


def _feature_info(network: nn.Module) -> "FeatureInfo":
    """Return what timm knows of the levels of a network that it built with `features_only`; torch would type it as a module."""
    return vars(network)["feature_info"]


@functools.cache
def residual_blocks(name: str) -> ResidualBlock | None:
    """Return of which blocks a ResNet of timm consists; None for any other architecture, and for a name that timm does not know."""
    import timm
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet

    if name not in timm.list_models():
        return None
    with torch.device("meta"):
        network = timm.create_model(name)
    if not isinstance(network, ResNet):
        return None
    block = next(module for module in network.modules() if isinstance(module, BasicBlock | Bottleneck))
    if isinstance(block, BasicBlock):
        return "basic"
    if block.conv2.groups > 1:  # a ResNeXt
        return None
    return "bottleneck" if 4 * block.conv2.out_channels == block.conv3.out_channels else "wide-bottleneck"
