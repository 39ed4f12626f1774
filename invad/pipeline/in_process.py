"""Training from Python: what the stages from `features` to `evaluate` do, in this process and a temporary folder."""

import os
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tqdm import tqdm

from invad.config import (
    AS_STORED,
    BenchmarkConfig,
    CalibrationConfig,
    FeaturesConfig,
    ReadingConfig,
    ScoreConfig,
    TrainConfig,
    TrainingsConfig,
    reading_of,
)
from invad.config.loading import parse_benchmark
from invad.data.images import IMAGE_SUFFIXES, image_size
from invad.data.listing import image_files
from invad.data.split_table import NORMAL, Split, SplitRow, hold_out
from invad.devices import named_device, place
from invad.errors import InputError
from invad.features import extract_features, open_features
from invad.features.batches import batch_source
from invad.features.encoder import configured_encoder
from invad.features.extract import ShardWriter, image_bar
from invad.predict.detector import Detector
from invad.predict.inputs import ImageInput, rgb_image, single_images
from invad.predict.predictor import Predictor
from invad.scoring.score import predictions
from invad.scoring.thresholds import calibrate
from invad.training.curve import Step
from invad.training.job import TrainJob, run_job
from invad.training.loop import training_steps, views_of
from invad.training.model_folder import ModelConfig

Images = str | Path | Iterable[ImageInput]
FEATURES = FeaturesConfig("mobilenetv2_100")
CALIBRATION = CalibrationConfig(share=0.1, false_positive_rate=0.01, seed=0)  # as in params.yaml


def train(
    images: Images | Mapping[str, Images] | Split,
    *,
    method: str | TrainConfig = "invad",
    features: FeaturesConfig | None = None,
    score: ScoreConfig | None = None,
    calibration: CalibrationConfig | None = None,
    reading: ReadingConfig | None = None,
    name: str = "model",
    device: str | None = None,
    threads: int | None = None,
    progress: bool = True,
    **settings: Any,  # noqa: ANN401
) -> Predictor:
    """Train on normal images, set thresholds from some of them that are held out, and return the model, ready for images.

    It is what the stages `features`, `train`, `score` and `evaluate` do, in this process, without DVC, Ray and MLflow: the same split,
    settings and number of threads give the same bits. Nothing is kept on the disk; `Predictor.save` writes the model folder.

    `images`: normal ones: a folder, or paths, PIL images, arrays or tensors (of one class, called `name`); a dict of class -> those; or a
    `Split`, whose phases `train` and `calibration` are used, and whose reading counts. `method`: of `invad.methods.METHODS`, settings as
    keyword arguments (`epochs=20`), or its settings as a whole. `calibration`: by default a tenth of each class is held out, and 1 % of it
    may lie above the thresholds. `reading`: whether EXIF turns images, and 16-bit grey is scaled. `device`: `cpu`, `cuda`, `cuda:1`; by
    default a GPU where there is one. `threads`: of torch while it trains. `progress`: whether bars are shown. `InputError`: an image cannot
    be read, there are too few, a setting is unknown or wrong, or the loss is not finite.
    """
    recipe = asdict(method) if isinstance(method, TrainConfig) else {"model": method}
    sections = {
        "splits": asdict(reading or AS_STORED),
        "train": recipe | settings,
        "features": asdict(features or FEATURES),
        "score": asdict(score or ScoreConfig()),
        "calibration": asdict(calibration or CALIBRATION),
    }
    config = parse_benchmark(name, "images", sections, "invad.train: ")
    if config.trainings != TrainingsConfig():
        raise InputError(
            "invad.train: trains one model; call it once for each seed, and `seeds` and `evaluate_at` are for params.yaml"
        )
    on = named_device(device)
    with TemporaryDirectory(prefix="invad-") as folder, _undisturbed(on):
        root = Path(folder)
        split = images if isinstance(images, Split) else _split(images, config, root / "images")
        return _train(config, split, root, on, threads or torch.get_num_threads(), progress)


def _split(images: Images | Mapping[str, Images], config: BenchmarkConfig, folder: Path) -> Split:
    """Return a split of normal images, some of each class held out; those that are no files become some in `folder`."""
    rows, paths, reading = [], {}, reading_of(config.splits)
    of_classes: Mapping[Any, Any] = images if isinstance(images, Mapping) else {config.name: images}
    for index, (class_name, of_class) in enumerate(of_classes.items()):
        files = _files(of_class, folder / str(index), reading)
        common = os.path.commonpath([path.parent for path in files]) if files else ""
        for path in files:
            # Which images are held out depends on names, and so neither on the folder nor on its place.
            row_name = f"{class_name}/{path.relative_to(common).as_posix()}"
            paths[row_name] = str(path)
            size = image_size(path, reading)
            rows.append(SplitRow(row_name, str(class_name), "train", NORMAL, "good", None, *size, config.dataset))
    held_out = hold_out(rows, config.calibration)
    return Split(tuple(replace(row, image=paths[row.image]) for row in held_out), folder, folder, reading)


def _files(images: Images, folder: Path, reading: ReadingConfig) -> list[Path]:
    if isinstance(images, str | Path) and Path(images).is_dir():
        if files := image_files(Path(images).absolute()):
            return files
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(
            f"{images}: has no images ({suffixes}); folders of several classes are a dict of name -> folder"
        )
    files = []
    for index, image in enumerate(single_images(images)):
        if isinstance(image, str | Path):
            files.append(Path(image).absolute())
            continue
        folder.mkdir(parents=True, exist_ok=True)
        files.append(folder / f"{index:06d}.png")
        rgb_image(image, reading).save(files[-1], compress_level=1)  # without EXIF: to be read as it is
    return files


def _train(
    config: BenchmarkConfig, split: Split, root: Path, device: torch.device, threads: int, progress: bool
) -> Predictor:
    used = replace(split, rows=tuple(row for row in split.rows if row.phase in ("train", "calibration")))
    encoder = configured_encoder(config.features)
    features, storage = root / "features", str(root / "storage")
    with image_bar("features", shown=progress) as show:
        key = extract_features(
            used, config.features, features, lambda e, shards: ShardWriter(e, device).write_all(shards), show
        )
    images = used.phase("train")
    steps = training_steps(len(images), key.output, config.train, views_of(images, config.train))
    job = TrainJob(str(features), used, config.features, storage, config.train, max(1, steps), threads)
    with tqdm(desc="train", unit="step", total=steps, disable=not progress) as bar:

        def after_step(step: Step) -> None:
            bar.set_postfix_str(f"loss={step.loss:.4g}, epoch={step.epoch + 1}", refresh=False)
            bar.update()

        others = torch.get_num_threads()
        method, _ = run_job(job, device, after_step=after_step)
        torch.set_num_threads(others)  # features and maps are made with all, as in the stages
    method = place(method.eval(), device, config.score)
    held_out, scored = used.phase("calibration"), iter(())
    if held_out:
        source = open_features(features, "calibration", used, config.features)
        batches = batch_source(source, method.needs, used, "calibration", config.features)
        scored = predictions(method, batches, config.score, label="thresholds" if progress else "")
    names = {row.class_name for row in split.rows}
    calibrated = calibrate(scored, [row.class_name for row in held_out], names, config)
    detector = Detector(place(encoder, device, config.features), method, config.features, config.score)
    return Predictor(detector.eval(), ModelConfig.of(config, split, key), calibrated)


@contextmanager
def _undisturbed(device: torch.device) -> Generator[None]:
    """Leave threads, random numbers and determinism of torch in the end as they were; they are the caller's."""
    before, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            torch.set_num_threads(before)
            torch.use_deterministic_algorithms(deterministic, warn_only=warns)
