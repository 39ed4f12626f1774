"""Model and features -> anomaly maps and scores of test and held-out images."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from tqdm import tqdm

from invad.config import BenchmarkConfig, ScoreConfig
from invad.config.constants import EMPTY_MASK_UNKNOWN
from invad.data.images import read_mask
from invad.data.split_table import NORMAL, Phase, Split, SplitRow
from invad.devices import autocast, best_device, compiled, place
from invad.errors import InputError
from invad.features import open_features
from invad.features.ahead import computed_ahead, cores, landed
from invad.features.batches import Batch, BatchSource, batch_source
from invad.files import atomic_path
from invad.methods import Method
from invad.methods.base import Prediction
from invad.methods.maps import gaussian_blur, resized
from invad.scoring.store import GROUP, PHASE_FOLDERS, MapBatch, write_scores
from invad.training.model_folder import check_features, load_model

SIGMA_SIZE = 256  # the side of the images that `Method.sigma` is for


class Predictions(NamedTuple):
    """What a method says of a batch of images: raw maps, float32 (n, H, W), and scores, float32 (n,)."""

    maps: np.ndarray
    scores: np.ndarray


def score_images(benchmark: BenchmarkConfig, split: Split, features: Path, model: Path, out: Path) -> None:
    """Write maps, masks and scores of test images to `out`, of held-out ones to folders in it; `InputError`: inputs do not fit."""
    with atomic_path(out) as temporary:
        for phase, folder in PHASE_FOLDERS.items():
            if phase == "test" or split.phase(phase):
                label = f"score@{benchmark.name}, {phase}"
                scored = phase_predictions(benchmark, split, phase, features, model, label=label)
                write_phase(scored, split, phase, benchmark.features.image_size, temporary / folder)


def write_phase(scored: Iterable[Predictions], split: Split, phase: Phase, size: int, out: Path) -> None:
    """Write what a method says of the images of a phase, with their masks at the side `size`, as `invad.scoring.store` has them."""
    with closing(with_masks(scored, split, split.phase(phase), size)) as batches:
        write_scores(score_table(split, phase), batches, out)


def score_table(split: Split, phase: Phase) -> pa.Table:
    """Return what is known of the images of a phase: a row for each, in their order."""
    rows = split.phase(phase)
    table = pa.table(
        {
            "image": [row.image for row in rows],
            "class": [row.class_name for row in rows],
            "label": pa.array([row.label for row in rows], pa.int8()),
            "defect_type": [row.defect_type for row in rows],
            "has_mask": [_has_mask(split, row) for row in rows],
        }
    )
    if any(row.group for row in rows):
        table = table.append_column(GROUP, pa.array([row.group for row in rows]))
    return table


def with_masks(scored: Iterable[Predictions], split: Split, rows: Sequence[SplitRow], size: int) -> Generator[MapBatch]:
    """Yield (maps, masks, scores) of the images of `rows`, of which `scored` has the maps and scores in their order.

    A thread may compute ahead; closing the generator ends it.
    """
    left = iter(rows)
    with computed_ahead(scored, best_device()) as computed:
        for maps, scores in computed:
            yield maps, resized_masks(split, list(islice(left, len(maps))), size), scores


def _has_mask(split: Split, row: SplitRow) -> bool:
    """Return whether it is known which pixels of an image are anomalous."""
    path = split.mask_path(row)
    if row.label == NORMAL or path is None:
        return row.label == NORMAL
    return row.dataset not in EMPTY_MASK_UNKNOWN or bool(read_mask(path).any())


def phase_predictions(
    benchmark: BenchmarkConfig, split: Split, phase: Phase, features: Path, model: Path, *, label: str
) -> Iterator[Predictions]:
    """Return what a model says of a phase's images, batch by batch; `InputError`, at once: model and features do not fit."""
    method, config = load_model(model)
    source = open_features(features, phase, split, benchmark.features)
    check_features(config, source.key, model)
    method = place(method, best_device(), benchmark.score)
    batches = batch_source(source, method.needs, split, phase, benchmark.features)
    return predictions(method, batches, benchmark.score, label=label)


@torch.no_grad()
def predictions(method: Method, source: BatchSource, config: ScoreConfig, *, label: str = "") -> Iterator[Predictions]:
    """Yield what a method, in eval mode, says of all images of a source, in order; `InputError`: a map is NaN or infinite."""
    predict = compiled(method.predict, config)
    with tqdm(total=len(source), desc=label, unit="image", mininterval=1, disable=not label) as progress:
        batches = source.in_order(config.batch_size, method.device)
        for finished_batch in landed((finished(method, predict, batch, config) for batch in batches), method.device):
            maps, scores = (part.numpy() for part in finished_batch)
            if not (np.isfinite(maps).all() and np.isfinite(scores).all()):
                raise InputError(
                    f"{label or 'anomaly maps'}: NaN or infinite; `precision: float32` helps where a lower one overflows"
                )
            yield Predictions(maps, scores)
            progress.update(len(maps))


def finished(
    method: Method, predict: Callable[[Batch, ScoreConfig], Prediction], batch: Batch, config: ScoreConfig
) -> tuple[Tensor, Tensor]:
    """Return raw maps, float32 (B, H, W) of the image's size, blurred, and the scores of images, float32 (B,): here alone they are made."""
    maps, scores = sharp(method, predict, batch, config)
    maps = gaussian_blur(maps, blur_sigma(method, config))
    return maps, image_scores(maps, scores, config)


def sharp(
    method: Method, predict: Callable[[Batch, ScoreConfig], Prediction], batch: Batch, config: ScoreConfig
) -> Prediction:
    """Return maps of the image's size before the blur, float32 (B, H, W), and the method's own scores of the images, if it has any."""
    batch = batch.formatted(config)
    with autocast(method.device, config.precision):
        maps, scores = predict(batch, config)
    size = method.output.image_size
    return Prediction(resized(maps.float(), size, align_corners=method.align_corners), scores)


def image_scores(maps: Tensor, own: Tensor | None, config: ScoreConfig) -> Tensor:
    """Return the scores of images, float32 (B,): the method's `own`, or the maxima of its finished maps (B, H, W)."""
    return maps.amax(dim=(1, 2)) if own is None or config.image_score == "maximum" else own.float()


def blur_sigma(method: Method, config: ScoreConfig) -> float:
    """Return the sigma of the blur in pixels of the image, 0 for none."""
    if config.sigma != "method":
        return config.sigma
    return method.sigma * method.output.image_size / SIGMA_SIZE


def resized_masks(split: Split, rows: Sequence[SplitRow], size: int) -> np.ndarray:
    """Return the masks of rows, bool (n, size, size); an empty one where there is none; `InputError` where a file is damaged."""

    def read(row: SplitRow) -> np.ndarray:
        path = split.mask_path(row)
        return np.zeros((size, size), dtype=bool) if path is None else read_mask(path, size)

    with ThreadPoolExecutor(cores()) as pool:
        return np.stack(list(pool.map(read, rows)))
