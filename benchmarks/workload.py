"""Something to extract and to score: generated photographs and masks, settings, and a model of random weights; and a watch for it."""

import statistics
import time
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from invad.config import (
    BenchmarkConfig,
    FeaturesConfig,
    FolderSplitConfig,
    InvADConfig,
    Precision,
    RDConfig,
    ResourcesConfig,
    ScoreConfig,
    TrainConfig,
    WorkersConfig,
)
from invad.config.types import EncoderName
from invad.data.split_table import Split, SplitRow
from invad.features import extract_features
from invad.features.encoder import Encoder, build_encoder
from invad.methods import build_method
from invad.training.model_folder import ModelConfig, save_model

SEED = 42
WIDTH, HEIGHT = 640, 480  # of the generated images, as of most of COCO's
# Of the generated images: grid of colours, grey levels, of JPEG; together about as many bytes as COCO's.
COLOURS, NOISE, QUALITY = (12, 16), 10, 90
METHODS: dict[str, TrainConfig] = {
    "invad": InvADConfig(loss_weight=5.0, blocks=4),
    "rd": RDConfig(),
}  # the first one is InvAD-lite


@dataclass(frozen=True)
class Settings:
    """What is measured.

    `images` are scored, `extracted` go through the extraction (the same ones over and over). `image_size`: side of the encoder's input
    in pixels. `threads`: of the CPU, in all; the `workers` of Ray share them.
    """

    images: int
    extracted: int
    image_size: int
    encoder: EncoderName
    model: str
    batch: int
    threads: int
    workers: int
    device: str


class Workload:
    """Images, features and a model in a folder.

    Attributes:
        settings: What it was made for.
        folder: Where all of it lies.
        extracted: A benchmark of training images, to extract features of.
        scored: A benchmark of test images, every other one anomalous and with a mask.
        encoder: With random weights, always the same.
        output: What the encoder gives.
        model: The model folder.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.device = torch.device(settings.device)
        rows = write_images(folder, settings.images)
        repeated = (replace(rows[number % len(rows)], phase="train") for number in range(settings.extracted))
        self.scored = Split(tuple(rows), folder, folder)
        self.extracted = Split(tuple(repeated), folder, folder)
        self.encoder = build_encoder(settings.encoder, "none")
        self.output = self.encoder.output(settings.image_size)
        self.model = folder / "model"
        write_model(self.model, self.encoder, self.features("float32"), METHODS[settings.model])

    def features(self, precision: Precision, live: bool = False) -> FeaturesConfig:
        """Return the settings of the encoder, which runs in `precision`; what is stored is float16 in any case."""
        size, batch = self.settings.image_size, self.settings.batch
        mode = "live" if live else "store"
        return FeaturesConfig(
            self.settings.encoder, "none", image_size=size, batch_size=batch, mode=mode, precision=precision
        )

    def benchmark(self, precision: Precision, live: bool) -> BenchmarkConfig:
        """Return the settings of scoring in `precision`, which is also that of a live encoder; stored features are float32's."""
        features = self.features(precision if live else "float32", live)
        score = ScoreConfig(batch_size=self.settings.batch, precision=precision)
        return BenchmarkConfig(
            "throughput", "generated", FolderSplitConfig(), features, METHODS[self.settings.model], score
        )

    def features_folder(self, config: FeaturesConfig) -> Path:
        """Return what the stage `features` makes of the images that are scored; it is made when first asked for."""
        folder = self.folder / f"{config.mode}_{config.precision}"
        if not folder.exists():
            extract_features(self.scored, config, folder)
        return folder

    def workers(self) -> WorkersConfig:
        """Return workers that share the threads and, where there is one, the GPU."""
        count = self.settings.workers
        gpu = 1 / count if self.device.type == "cuda" else 0.0
        return WorkersConfig(count, ResourcesConfig(cpu=max(1, self.settings.threads // count), gpu=gpu))

    def batches(self, split: Split) -> list[range]:
        """Return the rows of each batch."""
        images, size = len(split.rows), self.settings.batch
        return [range(start, min(start + size, images)) for start in range(0, images, size)]


class Stopwatch:
    """Seconds of the parts of a loop, added up over its batches; on a GPU the end of its work is waited for."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._device = device

    @contextmanager
    def part(self, name: str) -> Generator[None]:
        """Add what the block takes to the part `name`."""
        started = self._now()
        yield
        self.seconds[name] += self._now() - started

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each value over rounds that all have the same ones."""
    return {name: statistics.median(values[name] for values in rounds) for name in rounds[0]}


def write_model(folder: Path, encoder: Encoder, features: FeaturesConfig, train: TrainConfig, vectors: int = 0) -> None:
    """Write a model folder with `encoder` and a method of random weights, always the same; `vectors`: in the memory of one that has it."""
    torch.manual_seed(SEED)
    method = build_method(encoder.output(features.image_size), train)
    for name in method.fitted:
        setattr(method, name, torch.randn(vectors, *getattr(method, name).shape[1:]))
    config = ModelConfig(
        "benchmark", ("generated",), encoder.channels, encoder.weights_sha256, features=features, train=train
    )
    save_model(method, config, folder, encoder)


def write_images(folder: Path, count: int) -> list[SplitRow]:
    """Write JPEGs of smooth random colours and noise, and for every other one an ellipse as its mask; return them as test images."""
    rng = np.random.default_rng(SEED)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    rows = []
    for number in range(count):
        colours = Image.fromarray(rng.integers(0, 256, (*COLOURS, 3), np.uint8))
        smooth = np.asarray(colours.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
        noisy = smooth + rng.normal(0, NOISE, (HEIGHT, WIDTH, 1))
        image, mask, label = f"{number:05d}.jpg", None, number % 2
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / image, quality=QUALITY)
        if label:
            mask = f"{number:05d}.png"
            (top, left), (height, width) = rng.uniform(0, (HEIGHT, WIDTH)), rng.uniform(20, 120, 2)
            ellipse = ((y - top) / height) ** 2 + ((x - left) / width) ** 2 < 1
            Image.fromarray(ellipse.astype(np.uint8) * 255).save(folder / mask)
        defect = "ellipse" if label else "good"
        rows.append(SplitRow(image, "generated", "test", label, defect, mask, WIDTH, HEIGHT, "generated"))
    return rows
