"""A trained model as a folder: `model.safetensors`, `encoder.safetensors` and `config.json`; no pickle.

`calibration.json` joins them later.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialized
from torch import nn

from invad import __version__
from invad.config import TRAIN_CONFIGS, BenchmarkConfig, FeaturesConfig, TrainConfig
from invad.datasets.split_table import Split
from invad.encoders import Encoder, build_encoder, check_finite
from invad.errors import InputError
from invad.features import FeatureKey
from invad.files import atomic_path, read_json, write_json
from invad.methods import EncoderOutput, Method, build_method
from invad.workspace import CONFIG_FILE, ENCODER_FILE, WEIGHTS_FILE

FORMAT = 1


@dataclass(frozen=True)
class ModelConfig:
    """Everything that is needed to build the model again and to feed it.

    `channels`: of the encoder's levels, fine to coarse. `features`, `train`: the sections it was trained with.
    """

    benchmark: str
    classes: tuple[str, ...]
    channels: tuple[int, ...]
    encoder_sha256: str
    features: FeaturesConfig
    train: TrainConfig

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
        )

    @property
    def encoder_output(self) -> EncoderOutput:
        """What the method is built for."""
        return EncoderOutput(self.features.encoder, self.channels, self.features.image_size)


def save_model(model: Method, config: ModelConfig, folder: Path, encoder: Encoder | None = None) -> None:
    """Write the model folder, whole or not at all; what belonged to an older model in it goes. The same weights give the same bytes.

    With its `encoder` the folder is all that a prediction needs; without, the encoder's weights have to be where `config` says.

    Raises:
        InputError: Weights are NaN or infinite.
    """
    networks: dict[str, nn.Module] = (
        {WEIGHTS_FILE: model} if encoder is None else {WEIGHTS_FILE: model, ENCODER_FILE: encoder.network}
    )
    for name, network in networks.items():
        check_finite(network.state_dict(), str(folder / name))
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        for name, network in networks.items():
            tensors = {key: tensor.contiguous().cpu() for key, tensor in network.state_dict().items()}
            (temporary / name).write_bytes(serialized(tensors))  # save_file would let nobody else read it
        write_json(temporary / CONFIG_FILE, {"format": FORMAT, "version": __version__, **asdict(config)})


def load_model(folder: Path) -> tuple[Method, ModelConfig]:
    """Load a model in eval mode, on the CPU.

    Raises:
        InputError: The folder is missing, damaged, or of another format, or its weights are NaN or infinite.
    """
    config, made_by = _read_config(folder)
    try:
        model = build_method(config.encoder_output, config.train)
        model.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise _damaged(folder, error, made_by) from None
    check_finite(model.state_dict(), str(folder / WEIGHTS_FILE))
    return model.eval(), config


def read_config(folder: Path) -> ModelConfig:
    """Read the settings of a model; `InputError` as for `load_model`."""
    return _read_config(folder)[0]


def load_encoder(folder: Path, config: ModelConfig) -> Encoder:
    """Build the encoder that the model in `folder` was trained with: from the folder, or where `config` names its weights.

    Raises:
        InputError: It cannot be had, or its weights are others.
    """
    own = folder / ENCODER_FILE
    encoder = build_encoder(config.features.encoder, str(own) if own.is_file() else config.features.weights)
    if encoder.weights_sha256 != config.encoder_sha256:
        weights = own if own.is_file() else f"{config.features.weights} weights of {encoder.name}"
        raise InputError(f"{folder}: trained with another encoder than the {weights}: the SHA-256 differs")
    return encoder


def _read_config(folder: Path) -> tuple[ModelConfig, str]:
    """Return the settings of a model, and by which version of this package it was made, in words."""
    path = folder / CONFIG_FILE
    if not folder.is_dir():
        raise InputError(f"{folder}: no model folder; `dvc repro train` writes models/<benchmark>")
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: not the settings of a model")
    found, version = value.pop("format", None), value.pop("version", None)
    made_by = f", made by invad {version}" if version else ""
    if found != FORMAT:
        newer = made_by and isinstance(found, int) and found > FORMAT
        remedy = "install that version" if newer else "train it again with this one"
        this = f"this is invad {__version__}, which reads format {FORMAT}"
        raise InputError(f"{path}: a model of format {found!r}{made_by}; {this}: {remedy}")
    try:
        # Older folders have a key that is no part of the recipe any more.
        train = {key: item for key, item in value["train"].items() if key != "checkpoint_epochs"}
        parts: dict[str, Any] = {
            **value,
            "classes": tuple(value["classes"]),
            "channels": tuple(value["channels"]),
            "features": FeaturesConfig(**value["features"]),
            "train": TRAIN_CONFIGS[train["model"]](**train),
        }
        config = ModelConfig(**parts)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder, error, made_by) from None
    return config, made_by


def _damaged(folder: Path, error: Exception, made_by: str) -> InputError:
    reason = " ".join(str(error).split())[:200]
    return InputError(f"{folder}: damaged model ({reason}){made_by}; this is invad {__version__}")


def check_features(config: ModelConfig, key: FeatureKey, folder: Path) -> None:
    """Raise `InputError` unless features of `key` are what the model in `folder` was trained on."""
    expected = (config.encoder_sha256, config.features.image_size)
    if (key.weights_sha256, key.image_size) != expected:
        raise InputError(
            f"{folder}: trained on features of encoder {config.encoder_sha256[:12]} at {config.features.image_size} pixels, "
            f"but these are of {key.weights_sha256[:12]} at {key.image_size}; run `dvc repro train`"
        )
