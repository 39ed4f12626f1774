"""An authors' checkpoint (`net.pth`) as a model folder that holds its own encoder, so that nothing is downloaded later."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from invad.config import FeaturesConfig, InvADConfig, MVADConfig, TrainConfig, UniADConfig
from invad.config.constants import STRIDES
from invad.config.methods import INVAD_LITE
from invad.config.types import EncoderName
from invad.errors import InputError
from invad.features.encoder import Encoder, build_encoder
from invad.features.weights import load_weights, read_tensors
from invad.methods import EncoderOutput, Method, build_method, mvad, uniad
from invad.methods.invad.network import ENCODER_PREFIX, InvAD, load_reference_state
from invad.training.model_folder import ModelConfig, save_model
from invad.workspace import CALIBRATION_FILE, CONFIG_FILE, ENCODER_FILE, WEIGHTS_FILE

_FILES = (WEIGHTS_FILE, CONFIG_FILE, CALIBRATION_FILE, ENCODER_FILE)
Shape = tuple[int | Literal["n"], ...]
PUBLISHED_SIZE = 256  # pixels; of a network that fits any


@dataclass(frozen=True)
class Variant:
    """A published network. `channels`, `strides`: of the encoder's levels, fine to coarse; `tag`: timm's name of the encoder's weights.

    `names`: prefixes of the tensors in a checkpoint, that of the encoder first. `sized`: the tensor that tells the variant and, where its
    shape has an `n` for the side of the coarsest grid, the image size. `imported`: a checkpoint's tensors but for the encoder's, with our
    names; None for InvAD, which has both.
    """

    encoder: EncoderName
    tag: str
    channels: tuple[int, ...]
    train: TrainConfig
    sized: tuple[str, Shape]
    strides: tuple[int, ...] = STRIDES
    names: tuple[str, ...] = (ENCODER_PREFIX, "net_fuser.", "net_decoder.")
    imported: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = None


VARIANTS = {
    "invad": Variant(
        "wide_resnet50_2",
        "wide_resnet50_2.racm_in1k",
        (256, 512, 1024),
        InvADConfig(),
        ("net_decoder.input.input", (1, 1024, "n", "n")),
    ),
    "invad-lite": Variant(
        "resnet34",
        "resnet34.bt_in1k",
        (64, 128, 256),
        InvADConfig(**INVAD_LITE),
        ("net_decoder.input.input", (1, 256, "n", "n")),
    ),
    "uniad": Variant(
        "tf_efficientnet_b4",
        "tf_efficientnet_b4.aa_in1k",
        (24, 32, 56, 160),
        UniADConfig(),
        (uniad.SIZED, ("n", UniADConfig().width // 2)),
        (2, 4, 8, 16),
        uniad.PREFIXES,
        uniad.imported_state,
    ),
    "mvad": Variant(
        "resnet34",
        "resnet34.bt_in1k",
        (64, 128, 256),
        MVADConfig(),
        (mvad.SIZED, (256, 256, 1, 1)),
        names=mvad.PREFIXES,
        imported=mvad.imported_state,
    ),
}


@dataclass(frozen=True)
class Imported:
    """What was imported. `parameters`: of encoder and network together; `trainable`: of the network alone."""

    config: ModelConfig
    parameters: int
    trainable: int


def import_checkpoint(
    path: Path, variant: str, folder: Path, encoder_weights: str | None = None, *, force: bool = False
) -> Imported:
    """Write the model folder of an authors' checkpoint, whole or not at all; its name becomes that of the benchmark.

    The checkpoint, a state dict or a mapping that holds one, does not know its classes and recipe: the folder has no classes, and the
    published recipe. `encoder_weights`: for a checkpoint without an encoder, a timm tag or a file; by default the variant's tag.
    `InputError`: it is damaged, holds more than tensors or is not of this variant, its encoder is missing, or `folder` is there already
    and not to be replaced by `force`.
    """
    if variant not in VARIANTS:
        raise InputError(f"--variant: unknown variant {variant!r}; known are {', '.join(VARIANTS)}")
    _check_folder(folder, force)
    published = VARIANTS[variant]
    state = _read_state(path, published.names)
    image_size = _image_size(state, variant, path)
    try:
        features = FeaturesConfig(published.encoder, published.tag, image_size=image_size, levels=published.strides)
    except ValueError:
        raise InputError(f"{path}: is for images of {image_size} pixels, which is out of range") from None
    method = build_method(
        EncoderOutput(published.encoder, published.channels, image_size, published.strides), published.train
    )
    try:
        _load(method, state, published)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    encoder = _encoder(state, published, encoder_weights, path)
    config = ModelConfig(
        folder.name,
        (),
        published.channels,
        encoder.weights_sha256,
        features,
        published.train,
        strides=published.strides,
    )
    save_model(method, config, folder, encoder)
    trainable = _parameters(method)
    return Imported(config, _parameters(encoder) + trainable, trainable)


def _load(method: Method, state: Mapping[str, Tensor], published: Variant) -> None:
    if isinstance(method, InvAD):
        load_reference_state(method.network, state)
    elif published.imported is not None:
        load_weights(method, published.imported(state), f"{', '.join(published.names[1:])}*")


def _check_folder(folder: Path, force: bool) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", folder.name):
        raise InputError(f"--out: {str(folder)!r} names no model; its last part may have letters, digits, _ and -")
    if not folder.exists():
        return
    if not force:
        raise InputError(f"{folder}: is there already; --force replaces it")
    others = {file.name for file in folder.iterdir()} - set(_FILES) if folder.is_dir() else {folder.name}
    if others:
        raise InputError(
            f"{folder}: --force replaces model folders only, but here is {min(others)}; choose another --out"
        )


def _read_state(path: Path, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the only state dict with the authors' names in the file, which may be nested in one mapping."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        value = read_tensors(path)
    except Exception:  # whatever torch and zipfile raise, most of it of many lines
        raise InputError(
            f"{path}: damaged, or not a file of tensors only (it could run code, so it is not read); "
            "save the state dict alone with torch.save"
        ) from None
    values = value.values() if isinstance(value, Mapping) else ()
    mappings = [each for each in (value, *values) if isinstance(each, Mapping)]
    found = [each for each in mappings if any(str(name).startswith(prefixes) for name in each)]
    if len(found) != 1:
        raise InputError(f"{path}: expected one state dict with names {'*, '.join(prefixes)}*, found {len(found)}")
    for name, tensor in found[0].items():
        if not (isinstance(name, str) and isinstance(tensor, Tensor)):
            raise InputError(f"{path}: {name} is not a tensor; a state dict holds nothing else")
    return dict(found[0])


def _image_size(state: Mapping[str, Tensor], variant: str, path: Path) -> int:
    """Return the side of the square input in pixels, after a check that the checkpoint is of this variant."""
    key, template = VARIANTS[variant].sized
    if key not in state:
        raise InputError(f"{path}: {key} is missing; this is no whole checkpoint of {variant}")
    shape = tuple(state[key].shape)
    side = next((size for size, expected in zip(shape, template, strict=False) if expected == "n"), 0)
    if shape != tuple(side if each == "n" else each for each in template):
        expected = f"({', '.join(map(str, template))}), as {variant} has"
        raise InputError(f"{path}: {key} has the shape {shape}, expected {expected}; try another --variant")
    return side * VARIANTS[variant].strides[-1] or PUBLISHED_SIZE


def _encoder(state: Mapping[str, Tensor], published: Variant, weights: str | None, path: Path) -> Encoder:
    """Return the encoder of the checkpoint, or that of `weights` when it has none."""
    prefix = published.names[0]
    own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    if own and weights is not None:
        raise InputError(f"{path}: holds the encoder that it was trained with; leave out --encoder-weights")
    if own:
        network = build_encoder(published.encoder, "none", published.strides).network
        load_weights(network, own, f"{path}: {prefix}*")
        return Encoder(published.encoder, network)
    if weights == "none":
        raise InputError(f"--encoder-weights: must be the weights that {path} was trained on, not none")
    try:
        return build_encoder(published.encoder, weights or published.tag, published.strides)
    except InputError as error:
        raise InputError(f"{path}: has no encoder; --encoder-weights: {error}") from None


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
