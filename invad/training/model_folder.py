"""A trained model as a folder: `model.safetensors`, `encoder.safetensors` and `config.json`; no pickle.

`calibration.json` joins them later.
"""

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialized
from torch import nn

from invad import __version__
from invad.config import (
    AS_STORED,
    STRICT,
    TRAIN_CONFIGS,
    BenchmarkConfig,
    FeaturesConfig,
    ReadingConfig,
    TrainConfig,
    check_image_size,
    parse,
)
from invad.config.constants import NO_ENCODER, STRIDES
from invad.config.types import Channels
from invad.data.split_table import Split
from invad.errors import InputError
from invad.features import FeatureKey
from invad.features.encoder import Encoder, build_encoder, configured_encoder
from invad.features.weights import check_finite
from invad.files import atomic_path, read_json, write_json
from invad.methods import EncoderOutput, Method, build_method
from invad.methods.base import load_fitted
from invad.workspace import CONFIG_FILE, ENCODER_FILE, SEGAD_FILE, WEIGHTS_FILE

FORMAT = 1
MOST_BYTES = 10_000_000  # of config.json
MOST_LEVELS = 64


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """Everything that is needed to build the model again and to feed it.

    `channels`, `strides`, `prefix_tokens`: of the encoder's levels, fine to coarse. `features`, `train`: the sections it was trained
    with. `reading`: how its images were read, and those to predict are.
    """

    benchmark: Annotated[str, Field(max_length=255)]
    classes: tuple[str, ...]
    channels: Annotated[tuple[Channels, ...], Field(max_length=MOST_LEVELS)]
    encoder_sha256: str
    features: FeaturesConfig
    train: TrainConfig
    reading: ReadingConfig = AS_STORED
    strides: Annotated[tuple[Channels, ...], Field(max_length=MOST_LEVELS)] = STRIDES
    prefix_tokens: Annotated[int, Field(ge=0, le=MOST_LEVELS)] = 0

    @classmethod
    def of(cls, benchmark: BenchmarkConfig, split: Split, key: FeatureKey) -> "ModelConfig":
        """Return that of a model trained on the images of `split`, whose features `key` describes."""
        return cls(
            benchmark=benchmark.name,
            classes=tuple(sorted({row.class_name for row in split.rows})),
            channels=key.channels,
            encoder_sha256=key.weights_sha256,
            features=benchmark.features,
            train=benchmark.train,
            reading=split.reading,
            strides=key.strides,
            prefix_tokens=key.prefix_tokens,
        )

    @property
    def encoder_output(self) -> EncoderOutput:
        """What the method is built for."""
        size = self.features.image_size
        return EncoderOutput(self.features.encoder, self.channels, size, self.strides, self.prefix_tokens)


def save_model(model: Method, config: ModelConfig, folder: Path, encoder: Encoder | None = None) -> None:
    """Write the model folder, whole or not at all; what belonged to an older model in it goes. The same weights give the same bytes.

    With its `encoder` the folder is all that a prediction needs; without, the encoder's weights have to be where `config` says. A method
    that owns its encoder has it in its own weights.
    `InputError` for weights that are NaN or infinite.
    """
    networks: dict[str, nn.Module] = {WEIGHTS_FILE: model}
    if encoder is not None:
        networks[ENCODER_FILE] = nn.Identity() if config.train.ENCODER == "own" else encoder.network
    for name, network in networks.items():
        check_finite(network.state_dict(), str(folder / name))
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        for name, network in networks.items():
            write_weights(network, temporary / name)
        value = asdict(config)
        for each in fields(config):
            if getattr(config, each.name) == each.default:
                del value[each.name]
        if config.features.levels == STRIDES:
            del value["features"]["levels"]
        head = {"format": FORMAT, "version": __version__, "model_sha256": _sha256(temporary / WEIGHTS_FILE)}
        write_json(temporary / CONFIG_FILE, head | value)


def write_weights(network: nn.Module, path: Path) -> None:
    """Write the tensors of a network as safetensors, whole or not at all."""
    tensors = {key: tensor.contiguous().cpu() for key, tensor in network.state_dict().items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(serialized(tensors))  # save_file would let nobody else read it


def load_model(folder: Path) -> tuple[Method, ModelConfig]:
    """Load a model in eval mode, on the CPU.

    `InputError` for a folder that is missing, damaged, or of another format, and for weights that are NaN or infinite.
    """
    weights = folder / WEIGHTS_FILE
    with _described(folder) as value:
        config, digest = _parsed(value)
        if not weights.is_file():  # to open a pipe would wait forever
            raise ValueError(f"{WEIGHTS_FILE} is missing, or no file")
        if _sha256(weights) != digest:
            raise ValueError(f"{WEIGHTS_FILE} is not the file that was written: the SHA-256 differs")
        _check_shapes(weights, config)
        model = build_method(config.encoder_output, config.train)
        load_fitted(model, load_file(weights))
    check_finite(model.state_dict(), str(weights))
    return model.eval(), config


def read_config(folder: Path) -> ModelConfig:
    """Read the settings of a model; `InputError` as for `load_model`."""
    with _described(folder) as value:
        return _parsed(value)[0]


def load_encoder(folder: Path, config: ModelConfig) -> Encoder:
    """Build the encoder that the model in `folder` was trained with: from the folder, or where `config` names its weights.

    There is none for a method that owns its encoder. `InputError` where it cannot be had, or its weights are others.
    """
    if config.train.ENCODER == "own":
        return build_encoder(NO_ENCODER)
    own = folder / ENCODER_FILE
    encoder = configured_encoder(replace(config.features, weights=str(own)) if own.is_file() else config.features)
    if encoder.weights_sha256 != config.encoder_sha256:
        weights = own if own.is_file() else f"{config.features.weights} weights of {encoder.name}"
        raise InputError(f"{folder}: trained with another encoder than the {weights}: the SHA-256 differs")
    return encoder


def _check_shapes(weights: Path, config: ModelConfig) -> None:
    """Raise `ValueError` unless the file holds the tensors that the settings ask for, before memory is taken for them."""
    with torch.device("meta"):
        method = build_method(config.encoder_output, config.train)
    expected = {name: tuple(tensor.shape) for name, tensor in method.state_dict().items()}
    with safe_open(weights, "pt") as file:
        stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
    for name in sorted(stored.keys() ^ expected.keys()):
        raise ValueError(f"{WEIGHTS_FILE}: {'missing' if name in expected else 'unexpected'}: {name}")
    for name, shape in expected.items():
        if name in method.fitted:  # its length is known to nobody but the file
            shape = (*stored[name][:1], *shape[1:])
        if stored[name] != shape:
            raise ValueError(f"{WEIGHTS_FILE}: {name} has the shape {stored[name]}, expected {shape}")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _described(folder: Path) -> Generator[dict[str, Any]]:
    """Give what `config.json` says, and name folder and versions in whatever is found wrong with them."""
    path = folder / CONFIG_FILE
    if not folder.is_dir():
        raise InputError(f"{folder}: no model folder; `dvc repro train` writes models/<benchmark>")
    if not path.exists() and (folder / SEGAD_FILE).is_file():
        raise InputError(
            f"{folder}: a SegAD, which has no maps and scores images of a known class; `invad.predict.supervised` loads it"
        )
    value = read_json(path, MOST_BYTES)
    if not isinstance(value, dict):
        raise InputError(f"{path}: not the settings of a model")
    found, version = str(value.pop("format", None))[:40], str(value.pop("version", None))[:40]
    this = f"made by invad {version}; this is invad {__version__}"
    if found != str(FORMAT):
        remedy = "train it again, or install a version that reads it"
        raise InputError(f"{path}: a model of format {found}, {this}, which reads format {FORMAT}: {remedy}")
    try:
        yield value
    except (OSError, SafetensorError, RuntimeError, ValueError, InputError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}: damaged model ({reason}), {this}") from None


def _parsed(value: dict[str, Any]) -> tuple[ModelConfig, str]:
    """Return the settings of a model and the digest of its weights file, checked as `params.yaml` is; `InputError` names the key."""
    where = f"{CONFIG_FILE}: "
    digest, train = value.pop("model_sha256", None), value.pop("train", None)
    if not isinstance(digest, str):
        raise InputError(f"{where}model_sha256: is missing, or no text")
    model = train.get("model") if isinstance(train, dict) else None
    if not (isinstance(model, str) and model in TRAIN_CONFIGS):
        raise InputError(f"{where}train.model: must be one of {', '.join(TRAIN_CONFIGS)}")
    config = parse(ModelConfig, {**value, "train": {}}, where)
    config = replace(config, train=parse(TRAIN_CONFIGS[model], train, f"{where}train"))
    check_image_size(config.features.image_size, config.train.GRID_MULTIPLE * config.features.stride)
    levels = 0 if config.features.encoder == NO_ENCODER else len(config.features.levels)
    if len(config.channels) != levels or len(config.strides) < levels:
        raise InputError(f"{where}channels: must be {levels}, not {len(config.channels)}, and strides as many")
    return config, digest


def check_features(config: ModelConfig, key: FeatureKey, folder: Path) -> None:
    """Raise `InputError` unless features of `key` are what the model in `folder` was trained on."""
    expected = (config.encoder_sha256, config.features.image_size, config.features.levels)
    if (key.weights_sha256, key.image_size, key.levels) != expected:
        raise InputError(
            f"{folder}: trained on features of encoder {config.encoder_sha256[:12]} at {config.features.image_size} pixels, "
            f"levels {list(config.features.levels)}, but these are of {key.weights_sha256[:12]} at {key.image_size}, "
            f"{list(key.levels)}; run `dvc repro train`"
        )
