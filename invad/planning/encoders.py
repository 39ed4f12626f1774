"""What is known of the encoders without building one; a test compares it with those that timm builds."""

from dataclasses import dataclass
from pathlib import Path

from invad.config import STRIDES, EncoderName, FeaturesConfig


@dataclass(frozen=True)
class EncoderFacts:
    """Of one architecture.

    channels: of its levels at `STRIDES`, fine to coarse. weight_bytes: float32, of the part that is used. file_bytes: float32, of the
    whole network with its classifier, which is what a model hub sends. pixel_bytes: main memory for each pixel of a batch while it
    runs, measured on a CPU at 96 to 512 pixels.
    """

    channels: tuple[int, ...]
    weight_bytes: int
    file_bytes: int
    pixel_bytes: int


ENCODERS: dict[EncoderName, EncoderFacts] = {
    "mobilenetv2_100": EncoderFacts((24, 32, 96), 2_234_936, 14_156_352, 280),
    "resnet18": EncoderFacts((64, 128, 256), 11_149_176, 46_796_608, 300),
    "resnet34": EncoderFacts((64, 128, 256), 32_720_872, 87_259_072, 300),
    "resnet50": EncoderFacts((256, 512, 1024), 34_295_896, 102_441_032, 500),
    "wide_resnet50_2": EncoderFacts((256, 512, 1024), 99_608_664, 275_806_280, 500),
}


def feature_values(config: FeaturesConfig) -> int:
    """Return how many numbers the features of one image are."""
    channels = ENCODERS[config.encoder].channels
    return sum(width * (config.image_size // stride) ** 2 for width, stride in zip(channels, STRIDES, strict=True))


def feature_bytes(config: FeaturesConfig) -> int:
    """Return the bytes that the stored features of one image take."""
    return feature_values(config) * (2 if config.dtype == "float16" else 4)


def hub_tag(config: FeaturesConfig) -> str | None:
    """Return the timm tag whose weights come from a model hub, or None."""
    is_tag = config.weights.split(".")[0] == config.encoder and not Path(config.weights).exists()
    return config.weights if is_tag else None


def is_in_hub_cache(tag: str) -> bool:
    """Return whether the weights of a timm tag have been fetched before."""
    from huggingface_hub import try_to_load_from_cache

    try:
        return isinstance(try_to_load_from_cache(f"timm/{tag}", "model.safetensors"), str)
    except ValueError:  # no name that a hub would know
        return False
