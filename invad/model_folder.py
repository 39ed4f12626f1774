"""A trained model as a folder: `model.safetensors` and `config.json`, no pickle. `calibration.json` joins them later."""

from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from invad.config import TRAIN_CONFIGS, BenchmarkConfig, FeaturesConfig, TrainConfig
from invad.datasets.split_table import Split
from invad.errors import InputError
from invad.features import FeatureKey
from invad.files import atomic_path, read_json, write_json
from invad.methods import EncoderOutput, build_method
from invad.workspace import CONFIG_FILE, WEIGHTS_FILE

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


def save_model(model: nn.Module, config: ModelConfig, folder: Path) -> None:
    """Write the model folder, whole or not at all; what belonged to an older model in it goes. The same weights give the same bytes."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        save_file(
            {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}, temporary / WEIGHTS_FILE
        )
        write_json(temporary / CONFIG_FILE, {"format": FORMAT, **asdict(config)})


def load_model(folder: Path) -> tuple[nn.Module, ModelConfig]:
    """Load a model in eval mode, on the CPU.

    Raises:
        InputError: The folder is missing, damaged, or of another format.
    """
    value = read_json(folder / CONFIG_FILE)
    if value.pop("format", None) != FORMAT:
        raise InputError(f"{folder / CONFIG_FILE}: not a model of format {FORMAT}; train it again with this version")
    try:
        # Older folders have a key that is no part of the recipe any more.
        train = {key: item for key, item in value["train"].items() if key != "checkpoint_epochs"}
        config = ModelConfig(
            **{
                **value,
                "classes": tuple(value["classes"]),
                "channels": tuple(value["channels"]),
                "features": FeaturesConfig(**value["features"]),
                "train": TRAIN_CONFIGS[train["model"]](**train),
            }
        )
        model = build_method(config.encoder_output, config.train)
        model.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{folder}: damaged model ({' '.join(str(error).split())[:200]})") from None
    return model.eval(), config


def check_features(config: ModelConfig, key: FeatureKey, folder: Path) -> None:
    """Raise `InputError` unless features of `key` are what the model in `folder` was trained on."""
    expected = (config.encoder_sha256, config.features.image_size)
    if (key.weights_sha256, key.image_size) != expected:
        raise InputError(
            f"{folder}: trained on features of encoder {config.encoder_sha256[:12]} at {config.features.image_size} pixels, "
            f"but these are of {key.weights_sha256[:12]} at {key.image_size}; run `dvc repro train`"
        )
